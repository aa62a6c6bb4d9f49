//! Secrets: written and removed, never read back.

use std::sync::Arc;

use access::SecretRecord;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller, Input};
use super::listed;
use super::shape::{Listed, Part, Rekeyed, SecretInput, SecretScope, SecretShape, SecretWritten};
use crate::Shared;
use crate::problem::Problem;
use crate::verbs;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list_secrets)).routes(routes!(put_secret, remove_secret)).routes(routes!(rekey))
}

/// Secrets of a project, without their values
#[utoipa::path(get, path = "/projects/{project}/secrets", tag = "secrets", params(Part), responses((status = 200, body = Listed<SecretShape>)))]
async fn list_secrets(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    At(project): At<String>,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::secrets(&shared, &asker.who, &project, &part.after, part.limit).await?;
    Ok(listed(&uri, Listed::of(page, |kept| SecretShape::of(kept.value))))
}

/// Writes a secret, or a new version of it
#[utoipa::path(put, path = "/projects/{project}/secrets/{name}", tag = "secrets", params(SecretScope), request_body = SecretInput, responses((status = 200, body = SecretWritten)))]
async fn put_secret(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At((project, name)): At<(String, String)>,
    Asked(scope): Asked<SecretScope>,
    Input(input): Input<SecretInput>,
) -> Result<Json<SecretWritten>, Problem> {
    let version = verbs::put_secret(&shared, &asker.who, record(project, name, scope), input.value).await?;
    Ok(Json(SecretWritten { version }))
}

/// Removes a secret
#[utoipa::path(delete, path = "/projects/{project}/secrets/{name}", tag = "secrets", params(SecretScope), responses((status = 204)))]
async fn remove_secret(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At((project, name)): At<(String, String)>,
    Asked(scope): Asked<SecretScope>,
) -> Result<StatusCode, Problem> {
    verbs::remove_secret(&shared, &asker.who, record(project, name, scope)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new master key and wraps everything with it
#[utoipa::path(post, path = "/rekey", tag = "secrets", responses((status = 200, body = Rekeyed)))]
async fn rekey(State(shared): State<Arc<Shared>>, Caller(asker): Caller) -> Result<Json<Rekeyed>, Problem> {
    let records = verbs::rekey(&shared, &asker.who).await?;
    Ok(Json(Rekeyed { records }))
}

fn record(project: String, name: String, scope: SecretScope) -> SecretRecord {
    SecretRecord { project, name, environment: scope.environment, branches: scope.branches, versions: Vec::new() }
}
