//! All projects, and a new one.

use std::sync::Arc;

use access::{Action, On, may};
use axum::Extension;
use axum::extract::{Query, State};
use serde::Deserialize;
use store::RunQuery;
use view::page::path;
use view::page::projects::{NewProject, ProjectRow, Projects};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::{Answer, Posted, Visit, Web};
use crate::authentication::off;
use crate::records::Project;
use crate::verbs::{self, ProjectSettings, RunsAsked};

/// Projects on the first page.
const PROJECTS_SHOWN: usize = 60;
/// Runs that are shown as going on now.
const ACTIVE_SHOWN: usize = 8;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    after: String,
}

/// `GET /`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Answer {
    let who = &visit.asker.who;
    let found = verbs::projects(&web.shared, who, &asked.after, PROJECTS_SHOWN).await?;
    let active = RunsAsked {
        query: RunQuery { active: true, ..RunQuery::default() },
        max: ACTIVE_SHOWN,
        ..RunsAsked::default()
    };
    let active = verbs::runs(&web.shared, who, active).await?;
    let shared = web.shared.clone();
    let rows = off(move || {
        let row = |kept: store::Kept<Project>| {
            let query = RunQuery { project: Some(kept.value.id()), max: 1, ..RunQuery::default() };
            let last = shared.store.runs(&query)?.into_iter().next().map(|run| run.value);
            Ok(ProjectRow { repository: source(&shared.config.url, &kept.value), name: kept.value.name, last })
        };
        found.items.into_iter().map(row).collect::<Result<Vec<_>, crate::problem::Problem>>()
    })
    .await?;
    let shown = Projects {
        rows,
        next: found.next,
        active: active.items.into_iter().map(|run| run.value).collect(),
        may_create: may(who, Action::AddProject, On::Server).is_ok(),
    };
    Ok(html_page(shown.page(&visit.frame)))
}

/// `GET /new`
pub(super) async fn new(Extension(visit): Extension<Visit>) -> Answer {
    may(&visit.asker.who, Action::AddProject, On::Server)?;
    Ok(html_page(NewProject::default().page(&visit.frame)))
}

/// `POST /new`
pub(super) async fn add(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let name = fields.text("name");
    let given = |name: &str| Some(fields.text(name).to_owned()).filter(|text| !text.is_empty());
    let settings = ProjectSettings {
        repository: given("repository"),
        forge: given("forge"),
        default_branch: given("default_branch"),
        credential: given("credential"),
        webhook_secret: given("webhook_secret"),
        ..ProjectSettings::default()
    };
    match verbs::add_project(&web.shared, &visit.asker.who, name, settings).await {
        Ok(kept) => Ok(on_to(&path::project(&kept.value.name), "added")),
        Err(problem) => {
            let again = NewProject {
                name: name.to_owned(),
                repository: fields.text("repository").to_owned(),
                forge: fields.text("forge").to_owned(),
                default_branch: fields.text("default_branch").to_owned(),
                trouble: problem.detail.clone(),
            };
            Ok(page_of_trouble(&problem, again.page(&visit.frame)))
        }
    }
}

/// Where the commits of a project come from, for people.
pub(super) fn source(url: &str, project: &Project) -> String {
    match project.repository.as_str() {
        "" => format!("{url}/git/{}", project.name),
        repository => bare(repository),
    }
}

/// An address without the name and password that may stand in it.
fn bare(repository: &str) -> String {
    match repository.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
        }
        None => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_shown() {
        assert_eq!(bare("https://anna:s3cret@example.com/web.git"), "https://example.com/web.git");
        assert_eq!(bare("git@example.com:o/r.git"), "git@example.com:o/r.git");
        assert_eq!(bare("https://example.com/a@b"), "https://example.com/a@b");
    }
}
