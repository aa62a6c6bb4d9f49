//! The way in and out of every page: who asks, whether another site sends it, what a browser may do with the answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use view::page::{Frame, Notice, Visitor, failure, path};

use super::Web;
use crate::authentication::{self, Asker};
use crate::clock::now;
use crate::problem::Problem;

/// Nothing from elsewhere, no script and no style but ours, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Somebody looks at a page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Who, and how it is known.
    pub(super) asker: Arc<Asker>,
    /// What stands around the page.
    pub(super) frame: Frame,
}

/// Why there is no page.
#[derive(Clone, Debug)]
pub(super) struct Failed(pub(super) Problem);

impl<T: Into<Problem>> From<T> for Failed {
    fn from(problem: T) -> Failed {
        Failed(problem.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = status(self.0.status).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A page.
pub(super) fn page(html: String) -> Response {
    Html(html).into_response()
}

/// A page with a form that could not be carried out.
pub(super) fn page_of_trouble(problem: &Problem, html: String) -> Response {
    (status(problem.status), Html(html)).into_response()
}

/// On to another page, after something was done; `said` is a word of [`SAYINGS`].
pub(super) fn on_to(place: &str, said: &str) -> Response {
    Redirect::to(&format!("{place}{}", path::query(&[("said", said)]))).into_response()
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// What is said after something was done. An address can name one of these and nothing else, so no link puts words in the
/// server's mouth.
const SAYINGS: [(&str, &str); 14] = [
    ("cancelled", "The run is being stopped."),
    ("released", "The run may start now."),
    ("approved", "You approved it."),
    ("refused", "You refused it."),
    ("saved", "Saved."),
    ("added", "The project is there. Push a commit, or run its pipeline by hand."),
    ("removed", "Removed."),
    ("secret", "The secret is kept."),
    ("role", "The role is given."),
    ("user", "The user is there."),
    ("paused", "The agent gets no new work."),
    ("resumed", "The agent gets work again."),
    ("out", "You are signed out."),
    ("password", "Your new password counts from now on. Sign in with it."),
];

/// Answers a request for a page.
pub(super) async fn enter(State(web): State<Arc<Web>>, mut request: Request, next: Next) -> Response {
    let (asker, unknown) = match authentication::asker(&web.shared, request.headers()).await {
        Ok(asker) => (asker, None),
        Err(problem) => (stranger(), Some(problem)),
    };
    let visit = Visit { frame: frame(&web, &asker, request.uri().query()), asker: Arc::new(asker) };
    let (place, is_read) = (place(&request), matches!(*request.method(), Method::GET | Method::HEAD));
    let mut response = match unknown {
        Some(problem) => Failed(problem).into_response(),
        None if !is_read && !is_same_site(request.headers()) => {
            Failed::from(Problem::new("denied", "another site sent this form; nothing was done")).into_response()
        }
        None => {
            request.extensions_mut().insert(visit.clone());
            next.run(request).await
        }
    };
    if let Some(Failed(problem)) = response.extensions_mut().remove::<Failed>() {
        response = said(&visit, &problem, is_read.then_some(place.as_str()));
    } else if let Some(problem) = refused(&response) {
        response = said(&visit, &problem, None);
    }
    secured(response, &visit)
}

/// What the routes themselves refuse: a number that is none, a method that an address does not take.
fn refused(response: &Response) -> Option<Problem> {
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page || !response.status().is_client_error() {
        return None;
    }
    Some(match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => Problem::new("method-not-allowed", "this address takes nothing like that"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new("too-large", "the form is larger than any of ours"),
        _ => Problem::not_found("there is no page at this address"),
    })
}

fn stranger() -> Asker {
    Asker { who: access::Who::anonymous(), cookie: None, csrf: None, set_cookie: None }
}

fn frame(web: &Web, asker: &Asker, query: Option<&str>) -> Frame {
    let said = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("said="));
    let text = SAYINGS.iter().find(|(word, _)| Some(*word) == said).map(|(_, text)| (*text).to_owned());
    let visitor = Visitor {
        name: asker.who.user.clone().unwrap_or_default(),
        admin: asker.who.rules_all(),
        csrf: asker.csrf.clone().unwrap_or_default(),
    };
    Frame { site: web.site.clone(), visitor, now: now(), notice: text.map(|text| Notice { good: true, text }) }
}

/// Where somebody who signs in first comes back to.
fn place(request: &Request) -> String {
    request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// Browsers say where a form comes from. What says nothing is no browser, and has no cookie that another site could use.
fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => matches!(site, "same-origin" | "none"),
        (None, Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (None, Some(_), None) => false,
        (None, None, _) => true,
    }
}

/// A page that says what went wrong; who is not signed in goes to do that.
fn said(visit: &Visit, problem: &Problem, place: Option<&str>) -> Response {
    if let ("signed-out", Some(place)) = (problem.word(), place) {
        return Redirect::to(&format!("/sign-in{}", path::query(&[("next", place)]))).into_response();
    }
    let html = failure::page(&visit.frame, problem.status, &problem.title, &problem.detail);
    let mut response = page_of_trouble(problem, html);
    if let Some(wait) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}

fn secured(mut response: Response, visit: &Visit) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("cookie"));
    if let Some(cookie) = visit.asker.set_cookie.as_ref().and_then(|cookie| HeaderValue::from_str(cookie).ok())
        && !headers.contains_key(header::SET_COOKIE)
    {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_form_of_another_site_is_told_by_what_browsers_say() {
        assert!(is_same_site(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!is_same_site(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(!is_same_site(&headers(&[("sec-fetch-site", "same-site"), ("origin", "http://a"), ("host", "a")])));
        assert!(is_same_site(&headers(&[("origin", "https://ci.example.com"), ("host", "ci.example.com")])));
        assert!(!is_same_site(&headers(&[("origin", "https://evil.example.com"), ("host", "ci.example.com")])));
        assert!(!is_same_site(&headers(&[("origin", "null"), ("host", "ci.example.com")])));
        assert!(is_same_site(&headers(&[])));
    }
}
