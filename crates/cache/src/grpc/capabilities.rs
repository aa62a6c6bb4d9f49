//! `Capabilities`: what this server can do, told before anything else.

use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::build::bazel::semver::SemVer;
use tonic::{Request, Response, Status};

use crate::Service;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Capabilities {
    pub(crate) service: Arc<Service>,
}

#[tonic::async_trait]
impl api::capabilities_server::Capabilities for Capabilities {
    async fn get_capabilities(
        &self,
        request: Request<api::GetCapabilitiesRequest>,
    ) -> Result<Response<api::ServerCapabilities>, Status> {
        let access = self
            .service
            .admit(request.metadata().as_ref(), &request.get_ref().instance_name)
            .map_err(|denied| Status::permission_denied(denied.to_string()))?;
        let version = |minor| Some(SemVer { major: 2, minor, ..SemVer::default() });
        Ok(Response::new(api::ServerCapabilities {
            cache_capabilities: Some(api::CacheCapabilities {
                digest_functions: vec![api::digest_function::Value::Sha256.into()],
                action_cache_update_capabilities: Some(api::ActionCacheUpdateCapabilities {
                    update_enabled: access.may_write_entries().is_ok(),
                }),
                ..api::CacheCapabilities::default()
            }),
            low_api_version: version(0),
            high_api_version: version(11),
            ..api::ServerCapabilities::default()
        }))
    }
}
