//! What the server tells about itself: metrics for Prometheus, one trace per run.

pub mod metrics;
mod process;
pub mod table;
pub mod trace;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};

use crate::Shared;

pub use metrics::Meters;
pub use watch::watch;

/// `/metrics`.
pub fn routes(shared: &Arc<Shared>) -> Router {
    Router::new().route("/metrics", get(text)).with_state(shared.clone())
}

async fn text(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match tokio::task::spawn_blocking(move || metrics::text(&shared)).await {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text),
        Err(_) => {
            let why = "a defect of this server, described in its log\n".to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], why)
        }
    }
}
