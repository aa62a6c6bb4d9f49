//! Everything that is served, in one list: one line for each part.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cache::Routes;
use http::StatusCode;
use proto::{AgentsServer, SERVICE};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::desk::HubOrder;
use crate::hub::Counter;
use crate::listen::below_cache;
use crate::{Shared, api, badges, githost, hooks, observe, web};

/// All routes. Called within the runtime.
pub(crate) fn all(shared: &Arc<Shared>, cache: Routes, orders: UnboundedReceiver<HubOrder>) -> Routes {
    let Routes { http, grpc } = below_cache(cache);
    tokio::spawn(shared.hub.clone().serve(orders));
    tokio::spawn(observe::watch(shared.clone()));
    let http = http
        .merge(health(shared))
        .merge(api::routes(shared.clone()))
        .merge(observe::routes(shared))
        .merge(hooks::routes(shared.clone()))
        .merge(githost::routes(shared.clone()))
        .merge(badges::routes(shared.clone()))
        .merge(web::routes(shared.clone()))
        .layer(map_response_with_state(shared.clone(), count));
    let agents = AgentsServer::new(Arc::new(Counter(shared.hub.clone())));
    Routes { http, grpc: grpc.route_service(&format!("/{SERVICE}/{{*method}}"), agents) }
}

async fn count(State(shared): State<Arc<Shared>>, response: Response) -> Response {
    shared.meters.answered(response.status());
    response
}

/// Whether the process lives, and whether it can do its work.
fn health(shared: &Arc<Shared>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(shared.clone())
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let store = shared.store.clone();
    match tokio::task::spawn_blocking(move || store.last_sequence()).await {
        Ok(Ok(_)) if shared.desk.epoch().is_some() => (StatusCode::OK, "ready: this server leads\n".to_owned()),
        Ok(Ok(_)) => (StatusCode::OK, "ready: another server leads\n".to_owned()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a defect of this server, described in its log\n".to_owned()),
    }
}
