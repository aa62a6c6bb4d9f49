//! `Capabilities`: what this server can do, told before anything else.

use std::sync::Arc;

use axum::Router;
use bazel_remote_apis::build::bazel::remote::execution::v2::{self as api, compressor::Value as Compressor};
use bazel_remote_apis::build::bazel::semver::SemVer;
use blobs::Function;
use tonic::{Request, Status};

use super::{cas, digests, execution, status, wire};
use crate::Service;
use crate::access::Access;

/// The oldest clients in use speak 2.0 and stop when it is not in the range.
const OLDEST: i32 = 0;
/// Chunk mappings are of 2.13; what it removed, `SplitBlob` and `SpliceBlob`, is served too.
const NEWEST: i32 = 13;

/// Adds the method.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    router.route("/build.bazel.remote.execution.v2.Capabilities/GetCapabilities", wire::unary(service, capabilities))
}

async fn capabilities(
    service: Arc<Service>,
    request: Request<api::GetCapabilitiesRequest>,
) -> Result<api::ServerCapabilities, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let version = |minor| Some(SemVer { major: 2, minor, ..SemVer::default() });
    Ok(api::ServerCapabilities {
        cache_capabilities: Some(of_cache(&access)),
        execution_capabilities: execution::capabilities(&service, &access),
        low_api_version: version(OLDEST),
        high_api_version: version(NEWEST),
        ..api::ServerCapabilities::default()
    })
}

fn of_cache(access: &Access) -> api::CacheCapabilities {
    api::CacheCapabilities {
        digest_functions: Function::ALL.map(digests::function_value).into(),
        // Also true when writes are dropped in silence: Bazel stops at `false` unless it is told not to upload.
        action_cache_update_capabilities: Some(api::ActionCacheUpdateCapabilities {
            update_enabled: access.may_write_entries().is_ok(),
        }),
        max_batch_total_size_bytes: cas::BATCH_BYTES_MAX as i64,
        symlink_absolute_path_strategy: api::symlink_absolute_path_strategy::Value::Allowed.into(),
        supported_compressors: vec![Compressor::Zstd.into()],
        supported_batch_update_compressors: vec![Compressor::Zstd.into()],
        split_blob_support: true,
        splice_blob_support: true,
        fast_cdc_2020_params: Some(api::FastCdc2020Params {
            avg_chunk_size_bytes: blobs::CHUNK_BYTES_AVERAGE as u64,
            seed: blobs::CHUNK_SEED,
        }),
        ..api::CacheCapabilities::default()
    }
}
