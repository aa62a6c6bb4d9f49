//! The interface for programs: `/api/v1`. Routes and their document stand side by side; each handler is: take apart, call a
//! verb, give a shape.

mod agents;
mod artifacts;
mod document;
mod extract;
mod logs;
mod past;
mod people;
mod projects;
mod runs;
mod secrets;
pub mod shape;
mod streams;
mod tar;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use self::shape::Listed;
use crate::Shared;
use crate::problem::Problem;

pub use document::document;

/// Where the interface is.
pub const PREFIX: &str = "/api/v1";

/// The routes of the interface, below [`PREFIX`].
pub fn routes(shared: Arc<Shared>) -> Router {
    let (router, _) = all().split_for_parts();
    let text: Arc<str> = document().into();
    let inner = router
        .route("/openapi.json", get(move || async move { openapi(&text) }))
        .fallback(|| async {
            Problem::not_found("there is nothing at this address; `/api/v1/openapi.json` says what there is")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new("method-not-allowed", "this address knows other methods")
        })
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(Extension(streams::Watchers::default()))
        .layer(from_fn_with_state(shared.clone(), extract::authenticate))
        .with_state(shared);
    Router::new().nest(PREFIX, inner)
}

fn all() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .merge(projects::routes())
        .merge(runs::routes())
        .merge(logs::routes())
        .merge(streams::routes())
        .merge(artifacts::routes())
        .merge(secrets::routes())
        .merge(people::routes())
        .merge(agents::routes())
        .merge(past::routes())
}

fn openapi(text: &str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text.to_owned()).into_response()
}

/// A record with its version as ETag.
fn tagged<T: Serialize>(status: StatusCode, (version, shape): (u64, T)) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    (status, [(header::ETAG, tag)], Json(shape)).into_response()
}

/// Part of a list, with a `Link` to the next part.
fn listed<T: Serialize>(uri: &Uri, list: Listed<T>) -> Response {
    let link = list.next.as_ref().map(|next| {
        let old = uri.query().unwrap_or_default().split('&');
        let mut query: Vec<String> =
            old.filter(|pair| !pair.is_empty() && !pair.starts_with("after=")).map(str::to_owned).collect();
        query.push(format!("after={}", escaped(next)));
        format!("<{PREFIX}{}?{}>; rel=\"next\"", uri.path(), query.join("&"))
    });
    let mut response = Json(list).into_response();
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// A text as part of an address.
pub(crate) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Tells a browser to keep what it gets as a file of this name.
fn attachment(name: &str) -> HeaderValue {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let value = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", escaped(name));
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}
