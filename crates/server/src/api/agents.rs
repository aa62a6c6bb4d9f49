//! Agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use model::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use view::json::iso;

use super::extract::{Asked, At, Caller, Input};
use super::listed;
use super::shape::{AgentInput, AgentShape, AgentTokenInput, AgentTokenMade, AgentTokenShape, Listed, Part};
use crate::Shared;
use crate::problem::Problem;
use crate::verbs::{self, Page};

/// Life of a registration token when nobody says.
const MINUTES: u64 = 60;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(change_agent, remove_agent))
        .routes(routes!(list_agent_tokens, mint_agent_token))
        .routes(routes!(remove_agent_token))
}

/// Agents, by name; first those that are connected without being registered
#[utoipa::path(get, path = "/agents", tag = "agents", params(Part), responses((status = 200, body = Listed<AgentShape>)))]
async fn list_agents(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::agents(&shared, &asker.who, &part.after, part.limit).await?;
    let mut lines: BTreeMap<String, _> =
        shared.hub.agents().into_iter().map(|line| (line.agent.to_string(), line)).collect();
    let items: Vec<AgentShape> = page
        .items
        .into_iter()
        .map(|kept| {
            let line = lines.remove(&kept.value.name);
            AgentShape::of(Some(kept.value), line.as_ref())
        })
        .collect();
    Ok(listed(&uri, Listed::of(Page { items, next: page.next }, |agent| agent)))
}

/// Gives an agent no new work, or work again
#[utoipa::path(patch, path = "/agents/{name}", tag = "agents", request_body = AgentInput, responses((status = 200, body = AgentShape)))]
async fn change_agent(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
    Input(input): Input<AgentInput>,
) -> Result<Json<AgentShape>, Problem> {
    let kept = verbs::pause_agent(&shared, &asker.who, &name, input.paused).await?;
    let line = shared.hub.agents().into_iter().find(|line| line.agent.as_str() == name);
    Ok(Json(AgentShape::of(Some(kept.value), line.as_ref())))
}

/// Removes an agent: its credential is worth nothing any more
#[utoipa::path(delete, path = "/agents/{name}", tag = "agents", responses((status = 204)))]
async fn remove_agent(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<StatusCode, Problem> {
    verbs::remove_agent(&shared, &asker.who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Registration tokens that were not used
#[utoipa::path(get, path = "/agent-tokens", tag = "agents", responses((status = 200, body = Vec<AgentTokenShape>)))]
async fn list_agent_tokens(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
) -> Result<Json<Vec<AgentTokenShape>>, Problem> {
    let kept = verbs::registrations(&shared, &asker.who).await?;
    let shape = |token: access::RegistrationToken| AgentTokenShape {
        id: token.id,
        name: token.name,
        labels: token.labels,
        by: token.by,
        expires_at: iso(Timestamp(token.expires_us)),
    };
    Ok(Json(kept.into_iter().map(|kept| shape(kept.value)).collect()))
}

/// Makes a token by which one agent registers
#[utoipa::path(post, path = "/agent-tokens", tag = "agents", request_body = AgentTokenInput, responses((status = 201, body = AgentTokenMade)))]
async fn mint_agent_token(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Input(input): Input<AgentTokenInput>,
) -> Result<(StatusCode, Json<AgentTokenMade>), Problem> {
    let minutes = input.minutes.unwrap_or(MINUTES);
    let (token, minted) = verbs::add_registration(&shared, &asker.who, &input.name, input.labels, minutes).await?;
    let expires_at = iso(Timestamp(token.expires_us));
    Ok((StatusCode::CREATED, Json(AgentTokenMade { id: token.id, token: minted.text, expires_at })))
}

/// Removes a registration token that was not used
#[utoipa::path(delete, path = "/agent-tokens/{id}", tag = "agents", responses((status = 204)))]
async fn remove_agent_token(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    verbs::remove_registration(&shared, &asker.who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
