//! A run, and what is done with it.

use std::sync::Arc;

use access::{Who, may_approve};
use axum::Extension;
use axum::extract::{Path, Query, State};
use model::{Fact, NodeIx, RunEvent, RunSummary};
use serde::Deserialize;
use view::RunView;
use view::page::path;
use view::page::project::Rights;
use view::page::run::{Approval, ArtifactRow, RunPage};

use super::enter::{on_to, page as html_page};
use super::project::rights;
use super::{Answer, Failed, Posted, Visit, Web};
use crate::desk::Again;
use crate::problem::Problem;
use crate::verbs;

/// A run with all that its pages need.
pub(super) struct Known {
    pub(super) summary: RunSummary,
    pub(super) facts: Vec<Fact>,
    pub(super) view: RunView,
    pub(super) rights: Rights,
}

/// What is known of a run, if somebody may see it.
pub(super) async fn known(web: &Web, who: &Who, project: &str, number: u64) -> Result<Known, Failed> {
    let found = verbs::run_of_number(&web.shared, who, project, number).await?;
    let (summary, facts) = verbs::facts(&web.shared, who, &found.run).await?;
    let mut view = RunView::new();
    facts.iter().for_each(|fact| view.fact(fact));
    if summary.outcome.is_none() {
        let reasons = web.shared.desk.waiting(&summary.run).await;
        view.set_reasons(reasons.into_iter().map(|(node, reason)| (node, reason.text)).collect());
    }
    let rights = rights(who, &verbs::project(&web.shared, who, project).await?.value);
    Ok(Known { summary, facts, view, rights })
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    steps: String,
    which: String,
    step: String,
}

/// `GET /p/PROJECT/-/runs/NUMBER`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path((project, number)): Path<(String, u64)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let who = &visit.asker.who;
    let Known { summary, facts, view, rights } = known(&web, who, &project, number).await?;
    let shown = RunPage {
        approvals: approvals(&summary, &facts, &view, who, rights),
        held: summary.held.clone().filter(|_| summary.outcome.is_none()),
        artifacts: artifacts(&summary, &view),
        summary: &summary,
        view: &view,
        rights,
        all: asked.steps == "all",
    };
    Ok(html_page(shown.page(&visit.frame)))
}

fn approvals(summary: &RunSummary, facts: &[Fact], view: &RunView, who: &Who, rights: Rights) -> Vec<Approval> {
    let opened = facts.iter().filter_map(|fact| match &fact.event {
        RunEvent::ApprovalOpened { node, message, by, .. } if summary.asks.contains(node) => Some((node, message, by)),
        _ => None,
    });
    let approval = |(node, message, by): (&NodeIx, &String, &Vec<String>)| Approval {
        node: *node,
        name: view.name(*node).to_string(),
        message: message.clone(),
        by: by.clone(),
        mine: rights.run && may_approve(who, by, summary.project.as_str()),
    };
    opened.map(approval).collect()
}

fn artifacts(summary: &RunSummary, view: &RunView) -> Vec<ArtifactRow> {
    let row = |step: &str, artifact: &model::ArtifactRef| ArtifactRow {
        name: artifact.name.clone(),
        version: artifact.version.clone().unwrap_or_default(),
        files: artifact.files.len(),
        href: format!(
            "/api/v1/runs/{}/artifacts/{}{}",
            path::encoded(summary.run.as_str()),
            path::encoded(&artifact.name).replace('/', "%2F"),
            path::query(&[("step", step)])
        ),
    };
    let results = view.steps().iter().filter_map(|step| Some((&step.name, step.result.as_ref()?)));
    results.flat_map(|(name, result)| result.artifacts.iter().map(move |artifact| row(name, artifact))).collect()
}

/// `POST …/cancel`
pub(super) async fn cancel(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, u64)>,
    posted: Posted,
) -> Answer {
    let who = &posted.visit.asker.who;
    let run = verbs::run_of_number(&web.shared, who, &project, number).await?;
    verbs::cancel(&web.shared, who, &run.run, posted.fields.ticked("force")).await?;
    Ok(on_to(&path::run(&project, run.number), "cancelled"))
}

/// `POST …/again`
pub(super) async fn again(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, u64)>,
    Query(asked): Query<Asked>,
    posted: Posted,
) -> Answer {
    let who = &posted.visit.asker.who;
    let run = verbs::run_of_number(&web.shared, who, &project, number).await?;
    let which = match (asked.which.as_str(), asked.step) {
        ("all", _) => Again::All,
        ("failed", _) => Again::Failed,
        ("from", step) if !step.is_empty() => Again::From(step),
        _ => return Err(Problem::invalid("what is done again is `all`, `failed`, or `from` a step").into()),
    };
    let granted = verbs::again(&web.shared, who, &run.run, which).await?;
    Ok(on_to(&path::run(&project, granted.number), ""))
}

/// `POST …/release`
pub(super) async fn release(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, u64)>,
    posted: Posted,
) -> Answer {
    let who = &posted.visit.asker.who;
    let run = verbs::run_of_number(&web.shared, who, &project, number).await?;
    verbs::release(&web.shared, who, &run.run).await?;
    Ok(on_to(&path::run(&project, run.number), "released"))
}

/// `POST …/steps/NODE/answer`
pub(super) async fn answer(
    State(web): State<Arc<Web>>,
    Path((project, number, node)): Path<(String, u64, u32)>,
    posted: Posted,
) -> Answer {
    let (who, fields) = (&posted.visit.asker.who, &posted.fields);
    let Known { summary, view, .. } = known(&web, who, &project, number).await?;
    let approved = match fields.text("answer") {
        "yes" => true,
        "no" => false,
        _ => return Err(Problem::invalid("an answer is `yes` or `no`").into()),
    };
    let step = view.name(NodeIx(node));
    verbs::answer(&web.shared, who, &summary.run, &step, approved, fields.text("comment")).await?;
    Ok(on_to(&path::run(&project, summary.number), if approved { "approved" } else { "refused" }))
}
