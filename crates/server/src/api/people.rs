//! Who asks, users and tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use cache::Peer;
use http::{HeaderMap, StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller, Input, if_match};
use super::shape::{
    InviteInput, LinkMade, Listed, Me, Part, SignInInput, SignUpInput, TokenInput, TokenMade, TokenShape, UserInput,
    UserShape, versioned,
};
use super::{listed, tagged};
use crate::Shared;
use crate::authentication::{check_password, use_link};
use crate::problem::Problem;
use crate::verbs::{self, NewToken, NewUser, UserChange};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(read_me))
        .routes(routes!(sign_in))
        .routes(routes!(sign_up))
        .routes(routes!(list_tokens, mint_token))
        .routes(routes!(remove_token))
        .routes(routes!(list_users, add_user))
        .routes(routes!(read_user, change_user, remove_user))
        .routes(routes!(password_link))
        .routes(routes!(invite))
}

/// Who asks
#[utoipa::path(get, path = "/me", tag = "people", responses((status = 200, body = Me)))]
async fn read_me(Caller(asker): Caller) -> Json<Me> {
    let (who, csrf) = (asker.who, asker.csrf);
    let admin = who.rules_all();
    Json(Me { name: who.name, user: who.user, display: who.display, admin, teams: who.teams, csrf })
}

/// A token for a name and a password
#[utoipa::path(post, path = "/sign-in", tag = "people", request_body = SignInInput, responses((status = 201, body = TokenMade)))]
async fn sign_in(
    State(shared): State<Arc<Shared>>,
    from: Option<Extension<Peer>>,
    Input(input): Input<SignInInput>,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
    let address = from.map(|Extension(peer)| peer.host().to_owned()).unwrap_or_default();
    let user = check_password(&shared, &input.user, &input.password, &address).await?;
    let who = access::Who::user(&user);
    let (token, minted) = verbs::mint_token(&shared, &who, wanted(input.token)).await?;
    Ok((StatusCode::CREATED, Json(TokenMade { token: minted.text, made: TokenShape::of(token) })))
}

/// Becomes a user, or gets a new password, by a link that works once
#[utoipa::path(post, path = "/sign-up", tag = "people", request_body = SignUpInput, responses((status = 201, body = UserShape)))]
async fn sign_up(
    State(shared): State<Arc<Shared>>,
    Input(input): Input<SignUpInput>,
) -> Result<(StatusCode, Json<UserShape>), Problem> {
    let user = use_link(&shared, &input.link, &input.user, &input.password).await?;
    Ok((StatusCode::CREATED, Json(UserShape::of(user))))
}

/// One's own tokens
#[utoipa::path(get, path = "/tokens", tag = "people", params(Part), responses((status = 200, body = Listed<TokenShape>)))]
async fn list_tokens(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::tokens(&shared, &asker.who, false, &part.after, part.limit).await?;
    Ok(listed(&uri, Listed::of(page, |kept| TokenShape::of(kept.value))))
}

/// Makes a token of oneself
#[utoipa::path(post, path = "/tokens", tag = "people", request_body = TokenInput, responses((status = 201, body = TokenMade)))]
async fn mint_token(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Input(input): Input<TokenInput>,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
    let (token, minted) = verbs::mint_token(&shared, &asker.who, wanted(input)).await?;
    Ok((StatusCode::CREATED, Json(TokenMade { token: minted.text, made: TokenShape::of(token) })))
}

/// Removes a token
#[utoipa::path(delete, path = "/tokens/{id}", tag = "people", responses((status = 204)))]
async fn remove_token(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    verbs::remove_token(&shared, &asker.who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users, by name
#[utoipa::path(get, path = "/users", tag = "people", params(Part), responses((status = 200, body = Listed<UserShape>)))]
async fn list_users(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::users(&shared, &asker.who, &part.after, part.limit).await?;
    Ok(listed(&uri, Listed::of(page, |kept| UserShape::of(kept.value))))
}

/// Makes a user
#[utoipa::path(post, path = "/users", tag = "people", request_body = UserInput, responses((status = 201, body = UserShape)))]
async fn add_user(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Input(input): Input<UserInput>,
) -> Result<Response, Problem> {
    let name = input.name.clone().ok_or_else(|| Problem::invalid("a user needs `name`"))?;
    let new = NewUser { name, password: input.password.clone().unwrap_or_default(), change: change(input) };
    let kept = verbs::add_user(&shared, &asker.who, new).await?;
    Ok(tagged(StatusCode::CREATED, versioned(kept, UserShape::of)))
}

/// A user
#[utoipa::path(get, path = "/users/{name}", tag = "people", responses((status = 200, body = UserShape)))]
async fn read_user(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<Response, Problem> {
    let kept = verbs::user(&shared, &asker.who, &name).await?;
    Ok(tagged(StatusCode::OK, versioned(kept, UserShape::of)))
}

/// Changes a user's rights
#[utoipa::path(patch, path = "/users/{name}", tag = "people", request_body = UserInput, responses((status = 200, body = UserShape)))]
async fn change_user(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
    headers: HeaderMap,
    Input(input): Input<UserInput>,
) -> Result<Response, Problem> {
    if input.password.is_some() || input.name.as_ref().is_some_and(|wanted| *wanted != name) {
        return Err(Problem::invalid(
            "a name never changes, and a password only by its user; make a link for a new one",
        ));
    }
    let kept = verbs::change_user(&shared, &asker.who, &name, change(input), if_match(&headers)?).await?;
    Ok(tagged(StatusCode::OK, versioned(kept, UserShape::of)))
}

/// Removes a user with its tokens
#[utoipa::path(delete, path = "/users/{name}", tag = "people", responses((status = 204)))]
async fn remove_user(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<StatusCode, Problem> {
    verbs::remove_user(&shared, &asker.who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A link by which a user chooses a new password
#[utoipa::path(post, path = "/users/{name}/password-link", tag = "people", responses((status = 201, body = LinkMade)))]
async fn password_link(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<(StatusCode, Json<LinkMade>), Problem> {
    let url = verbs::password_link(&shared, &asker.who, &name).await?;
    Ok((StatusCode::CREATED, Json(LinkMade { url })))
}

/// A link by which somebody becomes a user
#[utoipa::path(post, path = "/invites", tag = "people", request_body = InviteInput, responses((status = 201, body = LinkMade)))]
async fn invite(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Input(input): Input<InviteInput>,
) -> Result<(StatusCode, Json<LinkMade>), Problem> {
    let url = verbs::invite(&shared, &asker.who, input.admin, input.roles).await?;
    Ok((StatusCode::CREATED, Json(LinkMade { url })))
}

fn wanted(input: TokenInput) -> NewToken {
    NewToken { label: input.label, scopes: input.scopes, projects: input.projects, days: input.days }
}

fn change(input: UserInput) -> UserChange {
    UserChange {
        display: input.display,
        email: input.email,
        admin: input.admin,
        disabled: input.disabled,
        grants: input.roles,
        teams: input.teams,
    }
}
