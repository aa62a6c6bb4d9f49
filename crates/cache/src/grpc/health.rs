//! `grpc.health.v1.Health`: whether this server answers, for whoever balances load or restarts it.

use std::sync::Arc;

use axum::Router;
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Status};

use super::wire;
use crate::Service;

/// `SERVING` and `SERVICE_UNKNOWN` of the protocol.
const SERVING: i32 = 1;
const SERVICE_UNKNOWN: i32 = 3;

/// What can be asked for; the empty name is the server as a whole.
const SERVICES: [&str; 8] = [
    "",
    "grpc.health.v1.Health",
    "google.bytestream.ByteStream",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.asset.v1.Fetch",
    "build.bazel.remote.asset.v1.Push",
];

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Adds the methods. They need no token: they tell nothing but that the server is up.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    router
        .route("/grpc.health.v1.Health/Check", wire::unary(service, check))
        .route("/grpc.health.v1.Health/Watch", wire::answers(service, watch))
}

async fn check(_: Arc<Service>, request: Request<CheckRequest>) -> Result<CheckResponse, Status> {
    let name = &request.get_ref().service;
    match SERVICES.contains(&name.as_str()) {
        true => Ok(CheckResponse { status: SERVING }),
        false => Err(Status::not_found(format!("there is no service `{name}` here"))),
    }
}

/// It changes by ending only, so one answer is all there will be.
async fn watch(
    _: Arc<Service>,
    request: Request<CheckRequest>,
) -> Result<impl Stream<Item = Result<CheckResponse, Status>> + Send + 'static, Status> {
    let known = SERVICES.contains(&request.get_ref().service.as_str());
    let status = if known { SERVING } else { SERVICE_UNKNOWN };
    Ok(stream::iter([Ok(CheckResponse { status })]).chain(stream::pending()))
}
