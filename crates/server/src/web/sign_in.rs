//! Signing in and out, and links that work once: the first administrator, invitations, new passwords.

use std::net::SocketAddr;
use std::sync::Arc;

use access::{Cookie, Purpose};
use axum::Extension;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use view::page::sign_in::{LinkKind, LinkPage, SignIn};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::{Answer, Posted, Unproven, Visit, Web, elsewhere};
use crate::authentication;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) next: String,
}

/// `GET /sign-in`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Answer {
    let (next, elsewhere) = (own(&asked.next).to_owned(), elsewhere::label(&web.shared));
    Ok(html_page(SignIn { next, elsewhere, ..SignIn::default() }.page(&visit.frame)))
}

/// `POST /sign-in`
pub(super) async fn sign_in(
    State(web): State<Arc<Web>>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    form: Unproven,
) -> Answer {
    let Unproven { visit, fields } = form;
    let (name, next) = (fields.text("name"), own(fields.text("next")));
    let from = from.map_or_else(|| "nowhere".to_owned(), |Extension(ConnectInfo(address))| address.ip().to_string());
    let (password, agent) = (fields.exact("password"), browser(&headers));
    match authentication::sign_in(&web.shared, name, &password, &from, &agent).await {
        Ok(cookie) => Ok(with_cookie(&web, &cookie, next)),
        Err(problem) => {
            let (name, next) = (name.to_owned(), next.to_owned());
            let (trouble, elsewhere) = (problem.detail.clone(), elsewhere::label(&web.shared));
            let again = SignIn { name, next, trouble, elsewhere };
            Ok(page_of_trouble(&problem, again.page(&visit.frame)))
        }
    }
}

/// `POST /sign-out`
pub(super) async fn sign_out(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    authentication::sign_out(&web.shared, &posted.visit.asker).await?;
    let mut response = on_to("/sign-in", "out");
    set_cookie(&mut response, &Cookie::removal());
    Ok(response)
}

/// `GET /setup/LINK`, `/invite/LINK`, `/password/LINK`
pub(super) async fn link_page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(link): Path<String>,
    uri: http::Uri,
) -> Answer {
    let purpose = authentication::link(&web.shared, &link).await?.value.purpose;
    let shown = LinkPage { kind: kind(&purpose), action: uri.path().to_owned(), ..LinkPage::default() };
    Ok(unseen(html_page(shown.page(&visit.frame))))
}

/// `POST /setup/LINK`, `/invite/LINK`, `/password/LINK`
pub(super) async fn use_link(
    State(web): State<Arc<Web>>,
    Path(link): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
    form: Unproven,
) -> Answer {
    let Unproven { visit, fields } = form;
    let purpose = authentication::link(&web.shared, &link).await?.value.purpose;
    let (name, password) = (fields.text("name"), fields.exact("password"));
    match authentication::use_link(&web.shared, &link, name, &password).await {
        Ok(user) => {
            let cookie = authentication::begin_session(&web.shared, &user, &browser(&headers)).await?;
            Ok(with_cookie(&web, &cookie, "/"))
        }
        Err(problem) => {
            let (kind, action) = (kind(&purpose), uri.path().to_owned());
            let again = LinkPage { kind, action, name: name.to_owned(), trouble: problem.detail.clone() };
            Ok(unseen(page_of_trouble(&problem, again.page(&visit.frame))))
        }
    }
}

fn kind(purpose: &Purpose) -> LinkKind {
    match purpose {
        Purpose::Setup => LinkKind::SetUp,
        Purpose::Invite { .. } => LinkKind::Invite,
        Purpose::Password { user } => LinkKind::Password(user.clone()),
    }
}

/// The address of this page is a secret: no other page and no cache hears of it.
fn unseen(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn with_cookie(web: &Web, cookie: &Cookie, next: &str) -> Response {
    let mut response = Redirect::to(next).into_response();
    set_cookie(&mut response, &cookie.header(web.shared.config.url.starts_with("https://")));
    response
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

pub(super) fn browser(headers: &HeaderMap) -> String {
    headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned()
}

/// A path of this server; anything else leads to its first page.
pub(super) fn own(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if is_path && next.is_ascii() { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_never_leads_to_another_site() {
        assert_eq!(own("/p/web?state=active"), "/p/web?state=active");
        for foreign in
            ["", "https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "/a\r\nb", "javascript:x"]
        {
            assert_eq!(own(foreign), "/", "{foreign:?}");
        }
    }
}
