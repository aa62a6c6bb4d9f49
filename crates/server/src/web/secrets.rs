//! Secrets of a project: written and removed, never shown.

use std::sync::Arc;

use access::SecretRecord;
use axum::Extension;
use axum::extract::{Path, State};
use model::{Record, Timestamp};
use view::page::path;
use view::page::secrets::{SecretRow, Secrets};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::project::rights;
use super::{Answer, Failed, Posted, Visit, Web};
use crate::problem::Problem;
use crate::verbs;

async fn kept(web: &Web, visit: &Visit, project: &str) -> Result<Secrets, Failed> {
    let who = &visit.asker.who;
    let rights = rights(who, &verbs::project(&web.shared, who, project).await?.value);
    let found = verbs::secrets(&web.shared, who, project, "", verbs::PAGE_MAX).await?;
    let row = |secret: SecretRecord| {
        let newest = secret.versions.last().cloned().unwrap_or_default();
        SecretRow {
            key: secret.key(),
            name: secret.name,
            branches: secret.branches,
            environment: secret.environment,
            version: newest.number,
            changed: Timestamp(newest.at_us),
            by: newest.by,
        }
    };
    let rows = found.items.into_iter().map(|kept| row(kept.value)).collect();
    Ok(Secrets { project: project.to_owned(), rights, rows, trouble: String::new() })
}

/// `GET /p/PROJECT/-/secrets`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(project): Path<String>,
) -> Answer {
    Ok(html_page(kept(&web, &visit, &project).await?.page(&visit.frame)))
}

/// `POST /p/PROJECT/-/secrets`
pub(super) async fn put(State(web): State<Arc<Web>>, Path(project): Path<String>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let text = |name: &str| fields.text(name).to_owned();
    let secret = SecretRecord {
        project: project.clone(),
        name: text("name"),
        environment: text("environment"),
        branches: text("branch"),
        versions: Vec::new(),
    };
    match verbs::put_secret(&web.shared, &visit.asker.who, secret, fields.exact("value")).await {
        Ok(_) => Ok(on_to(&path::within(&project, "secrets"), "secret")),
        Err(problem) => {
            let mut again = kept(&web, &visit, &project).await?;
            again.trouble.clone_from(&problem.detail);
            Ok(page_of_trouble(&problem, again.page(&visit.frame)))
        }
    }
}

/// `POST /p/PROJECT/-/secrets/remove`
pub(super) async fn remove(State(web): State<Arc<Web>>, Path(project): Path<String>, posted: Posted) -> Answer {
    let who = &posted.visit.asker.who;
    let key = posted.fields.text("key");
    let found = verbs::secrets(&web.shared, who, &project, "", verbs::PAGE_MAX).await?;
    let secret = found.items.into_iter().map(|kept| kept.value).find(|secret| secret.key() == key);
    let secret = secret.ok_or_else(|| Problem::not_found("this secret is gone already"))?;
    verbs::remove_secret(&web.shared, who, secret).await?;
    Ok(on_to(&path::within(&project, "secrets"), "removed"))
}
