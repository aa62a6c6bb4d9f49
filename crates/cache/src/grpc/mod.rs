//! What is spoken over gRPC: one file per service.

use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2::capabilities_server::CapabilitiesServer;
use tonic::service::Routes;

use crate::Service;

mod capabilities;

/// All services.
pub fn routes(service: Arc<Service>) -> Routes {
    Routes::new(CapabilitiesServer::new(capabilities::Capabilities { service }))
}
