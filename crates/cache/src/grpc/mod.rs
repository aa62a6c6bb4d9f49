//! What is spoken over gRPC: one file per service.

use std::sync::Arc;

use axum::Router;
use tonic::service::Routes;

use crate::Service;

pub(crate) mod actions;
mod asset;
mod bytestream;
mod capabilities;
mod cas;
mod chunks;
mod compressed;
pub(crate) mod digests;
mod execution;
mod health;
mod names;
pub(crate) mod status;
mod tree;
mod uploads;
mod wire;

/// All services.
pub fn routes(service: Arc<Service>) -> Routes {
    // The default has the answer to unknown methods.
    let mut routes = Routes::default();
    let router: &mut Router = routes.axum_router_mut();
    *router = [
        capabilities::routes,
        cas::routes,
        bytestream::routes,
        actions::routes,
        asset::routes,
        health::routes,
        execution::routes,
    ]
    .iter()
    .fold(std::mem::take(router), |router, add| add(router, &service));
    routes
}
