//! Counts what happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{AttemptEnd, Cause, Fact, NodeIx, RunEvent, RunId, Timestamp};
use store::LogId;
use tokio::sync::broadcast::error::RecvError;

use super::metrics::Meters;
use super::trace::Traces;
use crate::Shared;
use crate::live::Happened;

/// Times that are still open: a run's request, a step's readiness. Runs that were active at the start are not in it.
#[derive(Default)]
struct Open {
    runs: HashMap<RunId, Timestamp>,
    ready: HashMap<(RunId, NodeIx), Timestamp>,
    logs: HashMap<LogId, u64>,
}

/// Counts what happens until the server ends.
pub async fn watch(shared: Arc<Shared>) {
    let (mut events, mut open) = (shared.live.watch(), Open::default());
    let traces = shared.config.otlp.as_ref().and_then(|endpoint| Traces::start(endpoint, &shared));
    let meters = &shared.meters;
    loop {
        match events.recv().await {
            Ok(Happened::Fact(fact)) => {
                open.count(&fact.value.fact, meters);
                if let (Some(traces), RunEvent::Ended { .. }) = (&traces, &fact.value.fact.event) {
                    traces.offer(&fact.value.fact.run, &fact.value.project);
                }
            }
            Ok(Happened::Log { log, length }) => open.grew(log, length, meters),
            Ok(Happened::Agents) => {}
            Err(RecvError::Lagged(missed)) => {
                meters.missed.fetch_add(missed, Relaxed);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

impl Open {
    fn grew(&mut self, log: LogId, length: u64, meters: &Meters) {
        let before = self.logs.insert(log, length).unwrap_or(0);
        meters.log_bytes.fetch_add(length.saturating_sub(before), Relaxed);
    }

    fn count(&mut self, fact: &Fact, meters: &Meters) {
        meters.facts.fetch_add(1, Relaxed);
        let run = || fact.run.clone();
        match &fact.event {
            RunEvent::Requested { plan } => {
                meters.requested.count(plan.event().word());
                self.runs.insert(run(), fact.at);
            }
            RunEvent::Started => {
                if let Some(requested) = self.runs.get(&fact.run) {
                    meters.run_wait.took(fact.at.since(*requested));
                }
            }
            RunEvent::StepReady { node } => {
                self.ready.insert((run(), *node), fact.at);
            }
            RunEvent::AttemptLeased { node, .. } => {
                if let Some(ready) = self.ready.remove(&(run(), *node)) {
                    meters.queue.took(fact.at.since(ready));
                }
            }
            RunEvent::AttemptEnded { node, attempt, result } => {
                self.logs.remove(&LogId { run: run(), node: *node, attempt: *attempt });
                meters.attempt.took(result.took);
                meters.prepare.took(result.prepare);
                meters.cached.fetch_add(u64::from(result.cached.is_some()), Relaxed);
                if let AttemptEnd::Failed(cause) = &result.end {
                    meters.failed.count(word(cause));
                }
            }
            RunEvent::StepEnded { node, outcome, .. } => {
                self.ready.remove(&(run(), *node));
                meters.steps.count(outcome.word());
            }
            RunEvent::Ended { outcome } => {
                meters.ended.count(outcome.word());
                if let Some(requested) = self.runs.remove(&fact.run) {
                    meters.run.took(fact.at.since(requested));
                }
            }
            _ => {}
        }
    }
}

fn word(cause: &Cause) -> &'static str {
    match cause {
        Cause::Exit(_) => "exit",
        Cause::Signal(_) => "signal",
        Cause::TimedOut(_) => "timeout",
        Cause::Idle(_) => "idle",
        Cause::Limit(_) => "limit",
        Cause::Lost(_) => "lost",
        Cause::Infrastructure(_) => "infrastructure",
        Cause::Refused(_) => "refused",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_event_that_starts_a_run_has_its_own_label() {
        use super::super::metrics::EVENTS;
        use model::EventKind;
        let kinds = [EventKind::Manual, EventKind::Push, EventKind::PullRequest, EventKind::Schedule];
        assert_eq!(kinds.map(EventKind::word), EVENTS);
    }
}
