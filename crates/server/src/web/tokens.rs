//! A person's own tokens.

use std::sync::Arc;

use access::Scope;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use model::Timestamp;
use view::page::tokens::{TokenRow, Tokens};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::{Answer, Failed, Posted, Visit, Web};
use crate::problem::Problem;
use crate::verbs::{self, NewToken};

async fn kept(web: &Web, visit: &Visit) -> Result<Tokens, Failed> {
    let found = verbs::tokens(&web.shared, &visit.asker.who, false, "", verbs::PAGE_MAX).await?;
    let row = |token: access::Token| TokenRow {
        scopes: token.scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(", "),
        key: token.id,
        name: token.label,
        made: Timestamp(token.created_us),
        expires: (token.expires_us > 0).then_some(Timestamp(token.expires_us)),
    };
    let rows = found.items.into_iter().map(|kept| row(kept.value)).collect();
    let scopes = Scope::ALL.into_iter().map(|scope| (scope.word().to_owned(), meaning(scope).to_owned())).collect();
    Ok(Tokens { rows, scopes, made: None, trouble: String::new() })
}

fn meaning(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "Sees what you see. Each other scope has it in it.",
        Scope::Run => "Starts, cancels, approves and reruns.",
        Scope::Secrets => "Writes secrets.",
        Scope::Manage => "Settings, deliveries, agents.",
        Scope::Admin => "All that you may.",
    }
}

/// `GET /tokens`
pub(super) async fn page(State(web): State<Arc<Web>>, Extension(visit): Extension<Visit>) -> Answer {
    Ok(html_page(kept(&web, &visit).await?.page(&visit.frame)))
}

/// `POST /tokens`: the answer is a page, because what it shows is shown once.
pub(super) async fn make(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let scopes = fields.with_prefix("scope-").filter_map(|(word, _)| word.parse().ok()).collect();
    let days = fields.text("days").parse();
    let made = match days {
        Ok(days) => {
            let new = NewToken { label: fields.text("name").to_owned(), scopes, projects: Vec::new(), days };
            verbs::mint_token(&web.shared, &visit.asker.who, new).await
        }
        Err(_) => Err(Problem::invalid("the days of a token are a number from 0 on")),
    };
    let mut shown = kept(&web, &visit).await?;
    match made {
        Ok((_, minted)) => {
            shown.made = Some(minted.text);
            Ok(once(html_page(shown.page(&visit.frame))))
        }
        Err(problem) => {
            shown.trouble.clone_from(&problem.detail);
            Ok(page_of_trouble(&problem, shown.page(&visit.frame)))
        }
    }
}

/// A page with something that is shown once stays nowhere.
pub(super) fn once(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `POST /tokens/remove`
pub(super) async fn remove(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    verbs::remove_token(&web.shared, &posted.visit.asker.who, posted.fields.text("key")).await?;
    Ok(on_to("/tokens", "removed"))
}
