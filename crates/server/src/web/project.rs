//! A project: its runs, and what its forge said.

use std::collections::BTreeSet;
use std::sync::Arc;

use access::{Action, On, Who, may};
use axum::Extension;
use axum::extract::{Path, Query, State};
use model::{ProjectId, RunOutcome};
use serde::Deserialize;
use store::RunQuery;
use view::page::admin::{Deliveries, DeliveryLine};
use view::page::project::{Filter, ProjectPage, Rights};

use super::enter::page as html_page;
use super::projects::source;
use super::{Answer, Visit, Web};
use crate::authentication::off;
use crate::records::Project;
use crate::verbs::{self, RunsAsked};

/// Runs on a page.
const RUNS_SHOWN: usize = 50;
/// The newest runs, whose branches and pipelines may be chosen.
const RECENT: usize = 200;
/// Deliveries on a page.
const DELIVERIES_SHOWN: usize = 50;

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Asked {
    branch: String,
    pipeline: String,
    state: String,
    before: String,
}

/// What somebody may do in a project.
pub(super) fn rights(who: &Who, project: &Project) -> Rights {
    let on = On::Project { name: &project.name, public: project.public };
    Rights { run: may(who, Action::Trigger, on).is_ok(), manage: may(who, Action::SeeSettings, on).is_ok() }
}

/// Where the webhooks of a project go.
pub(super) fn hook(web: &Web, project: &str) -> String {
    format!("{}/hooks/{project}", web.shared.config.url)
}

/// `GET /p/PROJECT`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let who = &visit.asker.who;
    let project = verbs::project(&web.shared, who, &name).await?.value;
    let rights = rights(who, &project);
    let later_page = !asked.before.is_empty();
    let query = RunQuery {
        project: Some(project.id()),
        branch: wanted(&asked.branch),
        pipeline: wanted(&asked.pipeline),
        active: asked.state == "active",
        outcome: outcome(&asked.state),
        ..RunQuery::default()
    };
    let runs = verbs::runs(&web.shared, who, RunsAsked { query, after: asked.before, max: RUNS_SHOWN }).await?;
    let (branches, pipelines) = choices(&web, project.id()).await?;
    let shown = ProjectPage {
        repository: source(&web.shared.config.url, &project),
        hook: hook(&web, &name),
        name,
        rights,
        filter: Filter { branch: asked.branch, pipeline: asked.pipeline, state: asked.state },
        branches,
        pipelines,
        runs: runs.items.into_iter().map(|run| run.value).collect(),
        older: runs.next.and_then(|next| next.parse().ok()),
        later_page,
    };
    Ok(html_page(shown.page(&visit.frame)))
}

fn wanted(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn outcome(word: &str) -> Option<RunOutcome> {
    use RunOutcome::*;
    [Succeeded, Failed, Infrastructure, Refused, Cancelled].into_iter().find(|outcome| outcome.word() == word)
}

/// Branches and pipelines of the newest runs.
async fn choices(web: &Web, project: ProjectId) -> Result<(Vec<String>, Vec<String>), super::Failed> {
    let shared = web.shared.clone();
    let recent =
        off(move || Ok(shared.store.runs(&RunQuery { project: Some(project), max: RECENT, ..RunQuery::default() })?))
            .await?;
    let (mut branches, mut pipelines) = (BTreeSet::new(), BTreeSet::new());
    for run in recent {
        branches.extend((!run.value.branch.is_empty()).then_some(run.value.branch));
        pipelines.insert(run.value.pipeline);
    }
    Ok((branches.into_iter().collect(), pipelines.into_iter().collect()))
}

/// `GET /p/PROJECT/-/deliveries`
pub(super) async fn deliveries(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer {
    let who = &visit.asker.who;
    let project = verbs::project(&web.shared, who, &name).await?.value;
    let found = verbs::deliveries(&web.shared, who, &name, &asked.before, DELIVERIES_SHOWN).await?;
    let rows = found.items.into_iter().map(|row| DeliveryLine {
        id: row.value.id,
        at: row.value.at,
        source: row.value.source,
        outcome: row.value.settled.map(|(_, outcome)| outcome),
    });
    let shown = Deliveries {
        rights: rights(who, &project),
        hook: hook(&web, &name),
        project: name,
        rows: rows.collect(),
        older: found.next.and_then(|next| next.parse().ok()),
    };
    Ok(html_page(shown.page(&visit.frame)))
}
