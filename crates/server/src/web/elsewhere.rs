//! Signing in elsewhere: to the issuer of OpenID Connect, and back from it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use view::page::sign_in::SignIn;

use super::enter::page_of_trouble;
use super::sign_in::{Asked, browser, own, with_cookie};
use super::{Answer, Visit, Web};
use crate::{Shared, authentication, oidc};

/// The cookie of a sign-in that was begun.
const COOKIE: &str = "pace_oidc";
/// As long as a sign-in may take, and only for the pages that need it.
const COOKIE_RULES: &str = "Path=/sign-in/oidc; Max-Age=600; HttpOnly; SameSite=Lax";
const COOKIE_REMOVAL: &str = "pace_oidc=; Path=/sign-in/oidc; Max-Age=0; HttpOnly; SameSite=Lax";

/// An address that is longer does not fit into a cookie, of which browsers take 4 KiB.
const NEXT_BYTES_MAX: usize = 1024;

/// What the issuer's page adds to the address.
#[derive(Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
}

/// The label of the button, if there is an issuer: its host.
pub(super) fn label(shared: &Shared) -> Option<String> {
    let issuer = &shared.config.oidc.as_ref()?.issuer;
    let host = issuer.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(issuer);
    Some(format!("Sign in with {host}"))
}

/// `GET /sign-in/oidc`
pub(super) async fn begin(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Answer {
    let next = if asked.next.len() > NEXT_BYTES_MAX { "/" } else { own(&asked.next) };
    let begun = match oidc::begin(&web.shared, next).await {
        Ok(begun) => begun,
        Err(problem) => {
            let (trouble, elsewhere) = (problem.detail.clone(), label(&web.shared));
            let again = SignIn { next: next.to_owned(), trouble, elsewhere, ..SignIn::default() };
            return Ok(page_of_trouble(&problem, again.page(&visit.frame)));
        }
    };
    let secure = if web.shared.config.url.starts_with("https://") { "; Secure" } else { "" };
    let mut response = Redirect::to(&begun.url).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&format!("{COOKIE}={}; {COOKIE_RULES}{secure}", begun.sealed)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `GET /sign-in/oidc/callback`
pub(super) async fn callback(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(back): Query<Back>,
    headers: HeaderMap,
) -> Answer {
    let code = if back.error.is_empty() { Ok(back.code.as_str()) } else { Err(back.error.as_str()) };
    let mut response = match oidc::finish(&web.shared, sealed(&headers), &back.state, code).await {
        Ok((user, next)) => {
            let cookie = authentication::begin_session(&web.shared, &user, &browser(&headers)).await?;
            with_cookie(&web, &cookie, own(&next))
        }
        Err(problem) => {
            let (trouble, elsewhere) = (problem.detail.clone(), label(&web.shared));
            page_of_trouble(&problem, SignIn { trouble, elsewhere, ..SignIn::default() }.page(&visit.frame))
        }
    };
    response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(COOKIE_REMOVAL));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn sealed(headers: &HeaderMap) -> &str {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value)).unwrap_or_default()
}
