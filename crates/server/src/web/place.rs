//! From `/p/team/web/-/runs/12`, which people read, to `/p/team%2Fweb/runs/12`, which routes match.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::Uri;
use tower::ServiceExt;

use super::enter::{Failed, Visit};
use crate::problem::Problem;

/// Answers what is asked of a project.
pub(super) async fn within(places: Router, mut request: Request) -> Response {
    match matched(request.uri()) {
        Some(uri) => *request.uri_mut() = uri,
        None => return nothing().await.into_response(),
    }
    // What the outer route took from the path is no part of the inner one.
    let visit = request.extensions_mut().remove::<Visit>();
    request.extensions_mut().clear();
    if let Some(visit) = visit {
        request.extensions_mut().insert(visit);
    }
    match places.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// There is nothing at this place.
pub(super) async fn nothing() -> Failed {
    Problem::not_found("there is no page at this address").into()
}

/// The name of a project as one part of the path, without the `-` that ends it.
fn matched(uri: &Uri) -> Option<Uri> {
    let place = uri.path().strip_prefix("/p/")?;
    let (name, rest) = match place.split_once("/-/") {
        Some((name, rest)) => (name, format!("/{rest}")),
        None => (place, String::new()),
    };
    let name = name.trim_end_matches('/').replace('/', "%2F");
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    (!name.is_empty()).then(|| format!("/p/{name}{rest}{query}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uri: &str) -> String {
        matched(&uri.parse().expect("an address")).map(|uri| uri.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_name_with_slashes_is_one_part_of_the_path() {
        assert_eq!(shown("/p/web"), "/p/web");
        assert_eq!(shown("/p/team/web/"), "/p/team%2Fweb");
        assert_eq!(shown("/p/team/web/-/runs/12?steps=all"), "/p/team%2Fweb/runs/12?steps=all");
        assert_eq!(shown("/p/web/-/a/-/b"), "/p/web/a/-/b");
        assert_eq!(shown("/p//"), "");
    }
}
