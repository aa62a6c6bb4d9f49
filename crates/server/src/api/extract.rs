//! What a request brings: who sends it, its path, its query, its body. Whatever is wrong with them is a problem of ours.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::de::DeserializeOwned;

use crate::Shared;
use crate::authentication::{Asker, CSRF_HEADER, asker};
use crate::problem::Problem;

/// Bytes of a body.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// A body comes within this, or not at all.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Finds out who asks, once for each request, and refuses what another site makes a browser send.
pub(super) async fn authenticate(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let asker = match asker(&shared, request.headers()).await {
        Ok(asker) => asker,
        Err(problem) => return problem.into_response(),
    };
    if let Some(problem) = forged(&asker, request.method(), request.headers()) {
        return problem.into_response();
    }
    let set_cookie = asker.set_cookie.clone();
    request.extensions_mut().insert(Caller(asker));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(cookie) = set_cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// Browsers send a session's cookie with whatever any site makes them send.
fn forged(asker: &Asker, method: &Method, headers: &HeaderMap) -> Option<Problem> {
    if asker.cookie.is_none() || method.is_safe() {
        return None;
    }
    let token = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    (!asker.may_change(token)).then(|| {
        let how =
            format!("a session changes nothing without the header `{CSRF_HEADER}` of its pages; programs use a token");
        Problem::new("denied", how)
    })
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub Asker);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Problem::new("defect", "nobody asked who asks"))
    }
}

/// Parts of the path.
pub(super) struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<At<T>, Problem> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        found.map(|Path(found)| At(found)).map_err(|error| Problem::not_found(error.body_text()))
    }
}

/// The query.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        let found = Query::<T>::from_request_parts(parts, state).await;
        found.map(|Query(found)| Asked(found)).map_err(|error| Problem::invalid(error.body_text()))
    }
}

/// A body of JSON. Its depth is bounded by the parser, its length and its time here.
pub(super) struct Input<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Input<T>, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().is_none_or(|kind| kind.trim() != "application/json") {
            return Err(Problem::invalid("the body must be `content-type: application/json`"));
        }
        let read = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await;
        let read =
            read.map_err(|_| Problem::invalid(format!("the body did not come within {} s", BODY_WITHIN.as_secs())))?;
        let bytes = read.map_err(|error| match error.status().as_u16() {
            413 => Problem::new("too-large", format!("a body has at most {BODY_BYTES_MAX} bytes")),
            _ => Problem::invalid(error.body_text()),
        })?;
        // A list would do for a record all of whose fields may be missing.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::invalid("the body must be a JSON object"));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::invalid(format!("the body is not as it should be: {error}")))?;
        Ok(Input(value))
    }
}

/// The version that `If-Match` names; `None` without the header, and for `*`.
///
/// # Errors
/// The header is no ETag of ours.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    version.map(Some).ok_or_else(|| Problem::invalid("`if-match` is an ETag that this server gave, or `*`"))
}
