//! Runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use model::{ProjectId, RunId, RunOutcome, Selection};
use store::RunQuery;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller, Input};
use super::listed;
use super::shape::{
    AgainInput, AnswerInput, CancelInput, Listed, PriorityInput, RunFilter, RunInput, RunLine, RunMade, RunShape,
};
use crate::Shared;
use crate::desk::{Again, Granted};
use crate::problem::Problem;
use crate::verbs::{self, RunsAsked};

/// The header that makes asking again harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list_runs))
        .routes(routes!(trigger_run))
        .routes(routes!(read_run_by_number))
        .routes(routes!(read_run))
        .routes(routes!(cancel_run))
        .routes(routes!(rerun))
        .routes(routes!(answer_approval))
        .routes(routes!(release_run))
        .routes(routes!(prioritise_run))
}

/// Runs, newest first
#[utoipa::path(get, path = "/runs", tag = "runs", params(RunFilter), responses((status = 200, body = Listed<RunLine>)))]
async fn list_runs(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(filter): Asked<RunFilter>,
) -> Result<Response, Problem> {
    let page = verbs::runs(&shared, &asker.who, asked(filter)?).await?;
    Ok(listed(&uri, Listed::of(page, |run| RunLine::of(run.value))))
}

/// Starts a run. With the header `idempotency-key` asking again gives the same run
#[utoipa::path(post, path = "/projects/{project}/runs", tag = "runs", request_body = RunInput,
    params(("idempotency-key" = Option<String>, Header, description = "Asking again with the same key changes nothing")),
    responses((status = 201, body = RunMade)))]
async fn trigger_run(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(project): At<String>,
    headers: HeaderMap,
    Input(input): Input<RunInput>,
) -> Result<(StatusCode, Json<RunMade>), Problem> {
    let key = headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str().map(str::to_owned)).transpose();
    let idempotency_key = key.map_err(|_| Problem::invalid("`idempotency-key` is text"))?.unwrap_or_default();
    let asked = verbs::Asked {
        pipeline: input.pipeline,
        branch: input.branch,
        tag: input.tag,
        commit: input.commit,
        params: input.params.into_iter().collect(),
        selection: Selection { only: input.only, from: input.from, no_cache: input.no_cache, verify: false },
        priority: input.priority,
        idempotency_key,
    };
    let granted = verbs::trigger(&shared, &asker.who, &project, asked).await?;
    Ok((StatusCode::CREATED, Json(made(&shared, granted))))
}

/// A run by its number
#[utoipa::path(get, path = "/projects/{project}/runs/{number}", tag = "runs", responses((status = 200, body = RunShape)))]
async fn read_run_by_number(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At((project, number)): At<(String, u64)>,
) -> Result<Json<RunShape>, Problem> {
    let run = verbs::run_of_number(&shared, &asker.who, &project, number).await?;
    let (run, view) = verbs::view(&shared, &asker.who, &run.run).await?;
    Ok(Json(RunShape::of(run, &view)))
}

/// A run with its steps, and why those wait that do
#[utoipa::path(get, path = "/runs/{run}", tag = "runs", responses((status = 200, body = RunShape)))]
async fn read_run(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
) -> Result<Json<RunShape>, Problem> {
    let (run, view) = verbs::view(&shared, &asker.who, &RunId::new(run)).await?;
    Ok(Json(RunShape::of(run, &view)))
}

/// Stops a run
#[utoipa::path(post, path = "/runs/{run}/cancel", tag = "runs", request_body = CancelInput, responses((status = 202)))]
async fn cancel_run(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
    Input(input): Input<CancelInput>,
) -> Result<StatusCode, Problem> {
    verbs::cancel(&shared, &asker.who, &RunId::new(run), input.force).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Makes a new run of an ended one
#[utoipa::path(post, path = "/runs/{run}/rerun", tag = "runs", request_body = AgainInput, responses((status = 201, body = RunMade)))]
async fn rerun(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
    Input(input): Input<AgainInput>,
) -> Result<(StatusCode, Json<RunMade>), Problem> {
    let which = match input.what.as_str() {
        "all" | "" => Again::All,
        "failed" => Again::Failed,
        "from" if !input.step.is_empty() => Again::From(input.step),
        _ => return Err(Problem::invalid("`what` is `all`, `failed`, or `from` with a `step`")),
    };
    let granted = verbs::again(&shared, &asker.who, &RunId::new(run), which).await?;
    Ok((StatusCode::CREATED, Json(made(&shared, granted))))
}

/// Answers an approval
#[utoipa::path(post, path = "/runs/{run}/answer", tag = "runs", request_body = AnswerInput, responses((status = 204)))]
async fn answer_approval(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
    Input(input): Input<AnswerInput>,
) -> Result<StatusCode, Problem> {
    verbs::answer(&shared, &asker.who, &RunId::new(run), &input.step, input.approved, &input.comment).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a held run go
#[utoipa::path(post, path = "/runs/{run}/release", tag = "runs", responses((status = 204)))]
async fn release_run(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
) -> Result<StatusCode, Problem> {
    verbs::release(&shared, &asker.who, &RunId::new(run)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the place of a run in the queue
#[utoipa::path(put, path = "/runs/{run}/priority", tag = "runs", request_body = PriorityInput, responses((status = 204)))]
async fn prioritise_run(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
    Input(input): Input<PriorityInput>,
) -> Result<StatusCode, Problem> {
    verbs::prioritise(&shared, &asker.who, &RunId::new(run), input.priority).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn made(shared: &Shared, granted: Granted) -> RunMade {
    let url = format!("{}/runs/{}", shared.config.url, granted.run);
    RunMade { id: granted.run.to_string(), number: granted.number.0, url }
}

fn asked(filter: RunFilter) -> Result<RunsAsked, Problem> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let (active, outcome) = match filter.state.as_str() {
        "" => (false, None),
        "active" => (true, None),
        word => (false, Some(outcome(word)?)),
    };
    let query = RunQuery {
        project: given(filter.project).map(ProjectId::new),
        branch: given(filter.branch),
        commit: given(filter.commit),
        pipeline: given(filter.pipeline),
        active,
        outcome,
        ..RunQuery::default()
    };
    Ok(RunsAsked { query, after: filter.after, max: filter.limit })
}

fn outcome(word: &str) -> Result<RunOutcome, Problem> {
    use RunOutcome::{Cancelled, Failed, Infrastructure, Refused, Succeeded};
    let all = [Succeeded, Failed, Infrastructure, Refused, Cancelled];
    all.into_iter().find(|outcome| outcome.word() == word).ok_or_else(|| {
        Problem::invalid("`state` is `active`, `success`, `failure`, `cancelled`, `infrastructure` or `refused`")
    })
}
