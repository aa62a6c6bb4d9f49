//! What is spoken over plain HTTP: one file per client protocol.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::Service;

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).with_state(service)
}
