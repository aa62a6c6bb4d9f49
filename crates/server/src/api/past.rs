//! What came in, and who did what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller, Input};
use super::listed;
use super::shape::{AuditShape, DeliveryShape, Listed, Part, RedeliverInput};
use crate::Shared;
use crate::problem::Problem;
use crate::verbs;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list_deliveries)).routes(routes!(redeliver)).routes(routes!(list_audit))
}

/// What forges sent for a project, newest first
#[utoipa::path(get, path = "/projects/{project}/deliveries", tag = "deliveries", params(Part), responses((status = 200, body = Listed<DeliveryShape>)))]
async fn list_deliveries(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    At(project): At<String>,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::deliveries(&shared, &asker.who, &project, &part.after, part.limit).await?;
    Ok(listed(&uri, Listed::of(page, DeliveryShape::of)))
}

/// Has a delivery looked at again
#[utoipa::path(post, path = "/projects/{project}/deliveries/again", tag = "deliveries", request_body = RedeliverInput, responses((status = 202, body = RedeliverInput)))]
async fn redeliver(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(project): At<String>,
    Input(input): Input<RedeliverInput>,
) -> Result<(StatusCode, Json<RedeliverInput>), Problem> {
    let id = verbs::redeliver(&shared, &asker.who, &project, &input.id).await?;
    Ok((StatusCode::ACCEPTED, Json(RedeliverInput { id })))
}

/// Who did what, newest first
#[utoipa::path(get, path = "/audit", tag = "audit", params(Part), responses((status = 200, body = Listed<AuditShape>)))]
async fn list_audit(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::audit(&shared, &asker.who, &part.after, part.limit).await?;
    Ok(listed(&uri, Listed::of(page, AuditShape::of)))
}
