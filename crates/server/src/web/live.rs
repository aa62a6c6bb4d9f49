//! Streams that say that something changed. What changed is read from the page itself, which says it to those who may know.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use access::Denied;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use model::{ProjectId, RunId};
use store::{ProjectFact, Sequenced};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{sleep, timeout};

use super::{Answer, Visit, Web};
use crate::Shared;
use crate::authentication::off;
use crate::live::Happened;
use crate::verbs;

/// Changes within this time are one.
const TOGETHER: Duration = Duration::from_millis(300);
/// A server that does not lead hears nothing, and looks so often.
const LOOK: Duration = Duration::from_secs(3);
/// Something is said at least so often, so that a connection that is gone is found out.
pub(super) const ALIVE: Duration = Duration::from_secs(15);

/// What somebody watches.
#[derive(Clone, Debug)]
enum Watched {
    All,
    Project(ProjectId),
    Run(RunId),
}

impl Watched {
    fn is_changed_by(&self, happened: &Happened) -> bool {
        let fact: &Sequenced<ProjectFact> = match happened {
            Happened::Fact(fact) => fact,
            Happened::Agents => return matches!(self, Watched::All),
            _ => return false,
        };
        match self {
            Watched::All => true,
            Watched::Project(project) => fact.value.project == *project,
            Watched::Run(run) => fact.value.fact.run == *run,
        }
    }
}

/// `GET /live`
pub(super) async fn all(State(web): State<Arc<Web>>, Extension(visit): Extension<Visit>) -> Answer {
    match visit.asker.who.is_known() {
        true => Ok(stream(&web.shared, Watched::All)),
        false => Err(Denied::Unknown.into()),
    }
}

/// `GET /p/PROJECT/-/live`
pub(super) async fn of_project(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
) -> Answer {
    let project = verbs::project(&web.shared, &visit.asker.who, &name).await?;
    Ok(stream(&web.shared, Watched::Project(project.value.id())))
}

/// `GET /p/PROJECT/-/runs/NUMBER/live`
pub(super) async fn of_run(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path((project, number)): Path<(String, u64)>,
) -> Answer {
    let run = verbs::run_of_number(&web.shared, &visit.asker.who, &project, number).await?;
    Ok(stream(&web.shared, Watched::Run(run.run)))
}

fn stream(shared: &Arc<Shared>, watched: Watched) -> Response {
    let watch = Watch { shared: shared.clone(), events: shared.live.watch(), watched, seen: None };
    sse(unfold(watch, |mut watch| async move {
        watch.changed().await?;
        Some((Ok(Event::default().event("changed").data("1")), watch))
    }))
}

/// A response of events that proxies do not hold back.
pub(super) fn sse(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

struct Watch {
    shared: Arc<Shared>,
    events: Receiver<Happened>,
    watched: Watched,
    /// What a server that does not lead saw last.
    seen: Option<u64>,
}

impl Watch {
    /// Waits for a change. `None`: the server ends.
    async fn changed(&mut self) -> Option<()> {
        loop {
            let heard = match self.shared.desk.epoch() {
                Some(_) => self.events.recv().await,
                None => match timeout(LOOK, self.events.recv()).await {
                    Ok(heard) => heard,
                    Err(_) if self.grew().await => return Some(()),
                    Err(_) => continue,
                },
            };
            match heard {
                Ok(happened) if !self.watched.is_changed_by(&happened) => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return None,
            }
        }
        sleep(TOGETHER).await;
        while !matches!(self.events.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        Some(())
    }

    /// Whether another server wrote something.
    async fn grew(&mut self) -> bool {
        let shared = self.shared.clone();
        let last = off(move || Ok(shared.store.last_sequence()?)).await.ok();
        let before = std::mem::replace(&mut self.seen, last);
        before.is_some() && before != last
    }
}
