//! What the server says of itself: `/`, `/healthz`, `/status`, `/metrics`.

use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::json;

use super::call::Call;
use super::refusal::Refusal;
use crate::service::now;

/// Answers. None of these say what is stored, only how much, so that they need no token.
pub(crate) fn answer(call: &Call, path: &[&str]) -> Result<Response, Refusal> {
    let stats = call.service.blobs.stats();
    match path {
        [] => Ok(welcome(&call.origin()).into_response()),
        ["healthz"] => Ok("ok\n".into_response()),
        // As bazel-remote says it; moon asks for it before anything else.
        ["status"] => Ok(axum::Json(json!({
            "CurrSize": stats.disk_bytes,
            "UncompressedSize": stats.blob_bytes,
            "NumFiles": stats.blobs,
            "NumEntries": stats.entries,
            "ServerTime": now(),
            "Version": env!("CARGO_PKG_VERSION"),
        }))
        .into_response()),
        ["metrics"] => {
            let upstream = call.service.upstream.as_ref().map(|upstream| upstream.stats().text());
            let s3 = call.service.s3.as_ref().map(|below| below.stats().text());
            let text = call.service.http.meters.text(&stats) + &upstream.unwrap_or_default() + &s3.unwrap_or_default();
            Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
        }
        _ => Err(super::nobody()),
    }
}

fn welcome(origin: &str) -> String {
    let host = origin.split_once("//").map_or(origin, |(_, host)| host);
    format!(
        "This is a shared cache of Paceline. How clients find it, with an instance named `main`:

Bazel       --remote_cache=grpc://{host} --remote_instance_name=main    (or --remote_cache={origin}/main)
pace        pace run --cache grpc://{host}
moon        remote: {{ host: 'grpc://{host}', cache: {{ instanceName: 'main' }} }}
ccache      CCACHE_REMOTE_STORAGE='{origin}/main|layout=bazel'
sccache     SCCACHE_WEBDAV_ENDPOINT={origin}/dav/main
Turborepo   TURBO_API={origin}
Nx          NX_SELF_HOSTED_REMOTE_CACHE_SERVER={origin}
GitHub      ACTIONS_CACHE_SERVICE_V2=true ACTIONS_RESULTS_URL={origin}/

/status and /metrics say how it does.
"
    )
}
