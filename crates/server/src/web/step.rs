//! A step of a run, and its log: a part of it, all of it, and as it grows.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::sse::Event;
use axum::response::{Html, IntoResponse};
use futures_util::stream::unfold;
use http::{HeaderMap, header};
use model::{AttemptNo, Fact, NodeIx, RunEvent};
use serde::Deserialize;
use store::LogId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use view::page::log::lines as html_lines;
use view::page::step::{StepPage, Window, attempts};

use super::enter::page as html_page;
use super::live::sse;
use super::log::{At, whole_lines, window};
use super::run::{Known, known};
use super::{Answer, Failed, Visit, Web};
use crate::authentication::off;
use crate::live::Happened;
use crate::problem::Problem;
use crate::verbs;

/// Bytes and lines that are sent in one event.
const EVENT_BYTES_MAX: usize = 128 << 10;
const EVENT_LINES_MAX: usize = 500;
/// A watcher looks at the log at least so often: a server that does not lead hears of nothing.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes of a download that are in memory.
const DOWNLOAD_BYTES: usize = 1 << 20;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    attempt: Option<u16>,
    from: Option<u64>,
    before: Option<u64>,
    line: Option<u64>,
}

impl Asked {
    fn at(&self) -> At {
        match (self.from, self.before, self.line) {
            (Some(from), ..) => At::From(from),
            (_, Some(before), _) => At::Before(before),
            (_, _, Some(line)) => At::Line(line),
            _ => At::Tail,
        }
    }
}

/// `GET …/steps/NODE`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path((project, number, node)): Path<(String, u64, u32)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    let Known { summary, facts, view, rights } = known(&web, &visit.asker.who, &project, number).await?;
    let node = NodeIx(node);
    if view.step(node).is_none() {
        return Err(Problem::not_found(format!("run {} has no step {}", summary.number, node.0)).into());
    }
    let attempts = attempts(&facts, node);
    let attempt = asked.attempt.map(AttemptNo).or(attempts.last().map(|attempt| attempt.number));
    let window = match attempt {
        // A page that is there wants to know what changed around its log.
        Some(_) if headers.contains_key("x-live") => Window::default(),
        Some(attempt) => read(&web, LogId { run: summary.run.clone(), node, attempt }, asked.at()).await?,
        None => Window::default(),
    };
    let follows = attempt.is_some_and(|attempt| !is_over(&facts, node, attempt));
    let shown = StepPage { summary: &summary, view: &view, node, rights, attempts, attempt, window, follows };
    Ok(html_page(shown.page(&visit.frame)))
}

async fn read(web: &Arc<Web>, log: LogId, at: At) -> Result<Window, Failed> {
    let web = web.clone();
    let read = off(move || {
        let mut lines = web.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(window(&web.shared.store, &mut lines, &log, at)?)
    });
    Ok(read.await?)
}

/// The attempt ended, so its log is whole: a result is taken only after all of its log.
fn is_over(facts: &[Fact], node: NodeIx, attempt: AttemptNo) -> bool {
    facts.iter().any(|fact| match &fact.event {
        RunEvent::AttemptEnded { node: of, attempt: which, .. } => *of == node && *which == attempt,
        RunEvent::StepEnded { node: of, .. } => *of == node,
        RunEvent::Ended { .. } => true,
        _ => false,
    })
}

async fn log_id(
    web: &Web,
    visit: &Visit,
    (project, number, node): (String, u64, u32),
    asked: &Asked,
) -> Result<LogId, Failed> {
    let run = verbs::run_of_number(&web.shared, &visit.asker.who, &project, number).await?;
    Ok(LogId { run: run.run, node: NodeIx(node), attempt: AttemptNo(asked.attempt.unwrap_or(1)) })
}

/// `GET …/steps/NODE/lines`: part of the log as HTML, to be put before what is shown.
pub(super) async fn lines(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(place): Path<(String, u64, u32)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let log = log_id(&web, &visit, place, &asked).await?;
    let window = read(&web, log, asked.at()).await?;
    let html: String =
        html_lines(&window.bytes, window.first_line).into_iter().map(|line| line.into_string()).collect();
    Ok(([("x-log-from", window.from.to_string())], Html(html)).into_response())
}

/// `GET …/steps/NODE/log`: all of the log as it was printed, without the times.
pub(super) async fn download(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(place): Path<(String, u64, u32)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let name = format!("run-{}-step-{}.log", place.1, place.2);
    let log = log_id(&web, &visit, place, &asked).await?;
    let bytes = unfold((web.shared.clone(), log, 0u64), |(shared, log, from)| async move {
        let (store, of) = (shared.store.clone(), log.clone());
        let part = off(move || Ok(whole_lines(&store, &of, from, DOWNLOAD_BYTES, usize::MAX)?)).await;
        match part {
            Ok(part) if part.is_empty() => None,
            Ok(part) => {
                let next = from + part.len() as u64;
                Some((Ok::<_, std::io::Error>(Bytes::from(without_times(&part))), (shared, log, next)))
            }
            Err(problem) => Some((Err(std::io::Error::other(problem.detail)), (shared, log, from))),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

fn without_times(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_time = digits > 0 && line.get(digits) == Some(&b' ');
        out.extend_from_slice(if is_time { &line[digits + 1..] } else { line });
    }
    out
}

/// `GET …/steps/NODE/follow`: lines from a byte on, as they come. The id of an event is where its lines end, so a browser
/// that comes back says where it was.
pub(super) async fn follow(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(place): Path<(String, u64, u32)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    let log = log_id(&web, &visit, place, &asked).await?;
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let from = last_seen.or(asked.from).unwrap_or(0);
    let events = web.shared.live.watch();
    let follower = Follower { web, log, from, line: None, events, look: true, done: false };
    Ok(sse(unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    })))
}

struct Follower {
    web: Arc<Web>,
    log: LogId,
    /// What was sent ends here.
    from: u64,
    /// The number of the next line, once it is known.
    line: Option<u64>,
    events: Receiver<Happened>,
    /// A fact of the run came: the attempt may be over.
    look: bool,
    done: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        while !self.done {
            // Asked before the log is read: what is printed before the end is in the log by then.
            let over = std::mem::take(&mut self.look) && self.is_over().await;
            if let Some(event) = self.more().await? {
                self.look |= over;
                return Some(event);
            }
            if over {
                self.done = true;
                return Some(Event::default().event("end").data("1"));
            }
            self.wait().await?;
        }
        None
    }

    async fn is_over(&self) -> bool {
        let facts = self.web.shared.desk.facts(&self.log.run).await;
        facts.is_ok_and(|facts| is_over(&facts, self.log.node, self.log.attempt))
    }

    /// Lines that were not sent; the outer `None`: the store cannot be read, the browser shall come again.
    async fn more(&mut self) -> Option<Option<Event>> {
        let (web, log, from, line) = (self.web.clone(), self.log.clone(), self.from, self.line);
        let read = off(move || {
            let store = &web.shared.store;
            let number = match line {
                Some(line) => line,
                None => web.lines.lock().unwrap_or_else(PoisonError::into_inner).number_at(store, &log, from)?,
            };
            Ok((number, whole_lines(store, &log, from, EVENT_BYTES_MAX, EVENT_LINES_MAX)?))
        });
        let (number, bytes) = read.await.ok()?;
        self.line = Some(number);
        if bytes.is_empty() {
            return Some(None);
        }
        let html = html_lines(&bytes, number);
        let begin = self.from;
        self.from += bytes.len() as u64;
        self.line = Some(number + html.len() as u64);
        let html: String = html.into_iter().map(|line| line.into_string()).collect();
        let event = Event::default().event("lines").id(self.from.to_string());
        Some(Some(event.data(format!("{begin}\n{html}"))))
    }

    /// Waits until there may be more. `None`: the server ends.
    async fn wait(&mut self) -> Option<()> {
        loop {
            match timeout(LOOK, self.events.recv()).await {
                Ok(Ok(Happened::Log { log, length })) if log == self.log && length > self.from => return Some(()),
                Ok(Ok(Happened::Fact(fact)))
                    if fact.value.fact.run == self.log.run && ends_something(&fact.value.fact) =>
                {
                    self.look = true;
                    return Some(());
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(_))) => {
                    self.look = true;
                    return Some(());
                }
                Err(_) => {
                    self.look |= self.web.shared.desk.epoch().is_none();
                    return Some(());
                }
            }
        }
    }
}

fn ends_something(fact: &Fact) -> bool {
    matches!(fact.event, RunEvent::AttemptEnded { .. } | RunEvent::StepEnded { .. } | RunEvent::Ended { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_what_the_step_printed() {
        assert_eq!(without_times(b"1795255082123 a b\n1795255082124 \nno time\n"), b"a b\n\nno time\n");
        assert_eq!(without_times(b"1795255082123 7 x"), b"7 x");
    }
}
