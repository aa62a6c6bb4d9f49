//! What happens, as server-sent events. Whoever was cut off goes on with `last-event-id`: nothing is lost, nothing comes twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use access::{Action, On, Who, may};
use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue};
use model::{ProjectId, RunEvent, RunId};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use view::RunView;

use super::extract::{Asked, At, Caller};
use super::shape::{LogEvent, StreamAsked};
use crate::Shared;
use crate::authentication::off;
use crate::problem::Problem;
use crate::records::Project;
use crate::{verbs, watch};

/// Streams at a time: each keeps a place in the memory of what just happened.
const STREAMS_MAX: usize = 2000;
/// A line without meaning comes so often, so that nobody in between takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Projects whose visibility a stream remembers.
const REMEMBERED_MAX: usize = 1000;

/// How many more streams there may be.
#[derive(Clone)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Watchers {
        Watchers(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

impl Watchers {
    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let entered = self.0.clone().try_acquire_owned();
        entered.map_err(|_| {
            Problem::new("unavailable", format!("{STREAMS_MAX} streams are open already; try again later"))
        })
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(all_events))
        .routes(routes!(project_events))
        .routes(routes!(run_events))
        .routes(routes!(log_events))
}

/// Something that happened to a run; the run itself says more.
#[derive(Serialize)]
struct Notice<'a> {
    project: &'a str,
    run: &'a str,
    event: &'static str,
    at: String,
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
}

/// What happens in all projects that one may see, from now on: `text/event-stream`, one event for each fact
#[utoipa::path(get, path = "/events", tag = "events", params(StreamAsked), responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn all_events(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Extension(watchers): Extension<Watchers>,
    headers: HeaderMap,
    Asked(asked): Asked<StreamAsked>,
) -> Result<Response, Problem> {
    notices(shared, asker.who, &watchers, after(&headers, &asked)?, None).await
}

/// What happens in a project, from now on
#[utoipa::path(get, path = "/projects/{project}/events", tag = "events", params(StreamAsked), responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn project_events(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Extension(watchers): Extension<Watchers>,
    headers: HeaderMap,
    At(project): At<String>,
    Asked(asked): Asked<StreamAsked>,
) -> Result<Response, Problem> {
    let project = verbs::project(&shared, &asker.who, &project).await?.value.id();
    notices(shared, asker.who, &watchers, after(&headers, &asked)?, Some(project)).await
}

/// All events of a run from its beginning, as `pace run --output json` prints them; ends with the run
#[utoipa::path(get, path = "/runs/{run}/events", tag = "events", params(StreamAsked), responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn run_events(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Extension(watchers): Extension<Watchers>,
    headers: HeaderMap,
    At(run): At<String>,
    Asked(asked): Asked<StreamAsked>,
) -> Result<Response, Problem> {
    let run = verbs::run(&shared, &asker.who, &RunId::new(run)).await?.run;
    let after = after(&headers, &asked)?.unwrap_or(0);
    let mut view = RunView::new();
    // From the first fact on, because names come from those before.
    let facts = watch::facts_of(shared, run, 0).map(move |read| match read {
        Ok((number, fact)) => {
            view.fact(&fact);
            (number > after).then(|| Event::default().id(number.to_string()).data(view::json::fact(&view, &fact)))
        }
        Err(problem) => Some(told(&problem)),
    });
    stream(&watchers, facts.filter_map(std::future::ready))
}

/// The log of a step as it grows: events `log`, and `end` at its end. Ids are offsets in bytes
#[utoipa::path(get, path = "/runs/{run}/steps/{step}/log/events", tag = "logs", params(StreamAsked), responses((status = 200, content_type = "text/event-stream", body = LogEvent)))]
async fn log_events(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Extension(watchers): Extension<Watchers>,
    headers: HeaderMap,
    At((run, step)): At<(String, String)>,
    Asked(asked): Asked<StreamAsked>,
) -> Result<Response, Problem> {
    let id = verbs::log_id(&shared, &asker.who, &RunId::new(run), &step, asked.attempt).await?;
    let from = after(&headers, &asked)?.unwrap_or(0);
    let pieces = watch::log(shared, id, from).flat_map(|read| {
        let events = match read {
            Ok(piece) => {
                let (next, end) = (piece.next, piece.end);
                let body = LogEvent { offset: piece.offset, next, text: piece.text };
                let log = (!body.text.is_empty())
                    .then(|| Event::default().event("log").id(next.to_string()).data(json(&body)));
                let end = end.then(|| Event::default().event("end").id(next.to_string()).data("{}"));
                [log, end]
            }
            Err(problem) => [Some(told(&problem)), None],
        };
        futures_util::stream::iter(events.into_iter().flatten())
    });
    stream(&watchers, pieces)
}

async fn notices(
    shared: Arc<Shared>,
    who: Who,
    watchers: &Watchers,
    after: Option<u64>,
    only: Option<ProjectId>,
) -> Result<Response, Problem> {
    let at_store = shared.clone();
    let from = match after {
        Some(after) => after,
        None => off(move || Ok(at_store.store.last_sequence()?)).await?,
    };
    let mut seen = Seen { shared: shared.clone(), who, only, known: BTreeMap::new() };
    let facts = watch::facts(shared, from).map(move |read| match read {
        Ok(fact) => {
            let (project, body) = (&fact.value.project, &fact.value.fact);
            seen.sees(project).then(|| {
                let (event, node) = word(&body.event);
                let (project, run) = (project.as_str(), body.run.as_str());
                let notice = Notice { project, run, event, at: view::json::iso(body.at), at_us: body.at.0, node };
                Event::default().id(fact.sequence.to_string()).data(json(&notice))
            })
        }
        Err(problem) => Some(told(&problem)),
    });
    stream(watchers, facts.filter_map(std::future::ready))
}

/// Which projects somebody may see, remembered for a stream.
struct Seen {
    shared: Arc<Shared>,
    who: Who,
    only: Option<ProjectId>,
    known: BTreeMap<ProjectId, bool>,
}

impl Seen {
    fn sees(&mut self, project: &ProjectId) -> bool {
        if let Some(only) = &self.only {
            return only == project;
        }
        if let Some(known) = self.known.get(project) {
            return *known;
        }
        // Once for each project, from the store's own memory: not worth a thread of its own.
        let kept = self.shared.store.record::<Project>(project.as_str()).ok().flatten();
        let on = On::Project { name: project.as_str(), public: kept.is_some_and(|kept| kept.value.public) };
        let sees = may(&self.who, Action::SeeProject, on).is_ok();
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(project.clone(), sees);
        sees
    }
}

fn stream(watchers: &Watchers, events: impl Stream<Item = Event> + Send + 'static) -> Result<Response, Problem> {
    let permit = watchers.enter()?;
    let events = events.map(move |event| {
        let _ = &permit;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // For those in between that would keep it back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where a stream goes on; the header of a browser that was cut off counts more than the address.
fn after(headers: &HeaderMap, asked: &StreamAsked) -> Result<Option<u64>, Problem> {
    match headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default()) {
        None | Some("") => Ok(asked.after),
        Some(text) => {
            text.parse().map(Some).map_err(|_| Problem::invalid("`last-event-id` is a number that a stream gave"))
        }
    }
}

fn told(problem: &Problem) -> Event {
    Event::default().event("problem").data(json(problem))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The word for a fact, as in the events of a run, and the instance it is about.
fn word(event: &RunEvent) -> (&'static str, Option<u32>) {
    match event {
        RunEvent::Requested { .. } => ("run_requested", None),
        RunEvent::Started => ("run_started", None),
        RunEvent::StepReady { node } => ("step_ready", Some(node.0)),
        RunEvent::AttemptLeased { node, .. } => ("attempt_started", Some(node.0)),
        RunEvent::AttemptEnded { node, .. } => ("attempt_ended", Some(node.0)),
        RunEvent::RetryPlanned { node, .. } => ("retry_planned", Some(node.0)),
        RunEvent::Expanded { node, .. } => ("steps_added", Some(node.0)),
        RunEvent::StepEnded { node, .. } => ("step_ended", Some(node.0)),
        RunEvent::StepKept { node, .. } => ("step_kept", Some(node.0)),
        RunEvent::LeaseExtended { node, .. } => ("lease_extended", Some(node.0)),
        RunEvent::ApprovalOpened { node, .. } => ("approval_opened", Some(node.0)),
        RunEvent::ApprovalGiven { node, .. } => ("approval_given", Some(node.0)),
        RunEvent::Released { .. } => ("run_released", None),
        RunEvent::Prioritised { .. } => ("run_prioritised", None),
        RunEvent::SlaMissed { .. } => ("sla_missed", None),
        RunEvent::CancelRequested { .. } => ("cancel_requested", None),
        RunEvent::Ended { .. } => ("run_ended", None),
    }
}
