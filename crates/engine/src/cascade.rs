//! What follows when a step ends: what depends on it goes on or is skipped, and a failure or a cancellation reaches all
//! that it must reach.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::cmp::Reverse;

use model::limits::EXPANSION_DEPTH_MAX;
use model::{AttemptNo, Cause, Command, NodeIx, OnFailure, Outcome, RunEvent, StepKind, When};

use crate::draft::Draft;
use crate::grow;
use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::verdict::{Verdict, allows_failure, is_spared, skip_at_halt, verdict};
use crate::world::{RunIx, demand, queue_key};

impl Draft<'_> {
    pub(crate) fn fail(&mut self, ix: RunIx, node: NodeIx, cause: Cause) {
        let allowed = self.run(ix).is_some_and(|run| allows_failure(run, node));
        self.end(ix, node, Outcome::Failed { cause, allowed });
    }

    pub(crate) fn end(&mut self, ix: RunIx, node: NodeIx, outcome: Outcome) {
        self.end_with(ix, node, outcome, BTreeMap::new());
    }

    pub(crate) fn end_with(&mut self, ix: RunIx, node: NodeIx, outcome: Outcome, values: BTreeMap<String, String>) {
        let was_halted = self.run(ix).is_some_and(RunState::is_halted);
        self.record(ix, RunEvent::StepEnded { node, outcome, values });
        if !was_halted && self.run(ix).is_some_and(RunState::is_halted) {
            self.halted.push(ix);
        }
    }

    /// Goes on until nothing follows from anything any more. A queue and no recursion: a chain of 10,000 skipped steps must
    /// not need a deep stack.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some((ix, node)) = self.freed.pop_front() {
                self.go_on(ix, node);
            } else if let Some(ix) = self.halted.pop() {
                // After the cascade, so that what depends on the failed step names it and not the policy.
                self.halt(ix);
            } else if !self.end_runs() {
                return;
            }
        }
    }

    /// All that an instance waited for has ended.
    pub(crate) fn go_on(&mut self, ix: RunIx, node: NodeIx) {
        let Some(run) = self.run(ix) else { return };
        match run.step(node) {
            Some(StepState::Waiting { left: 0 }) => match verdict(run, node) {
                Verdict::Ends(outcome) => self.end(ix, node, outcome),
                Verdict::Runs => self.run_step(ix, node),
            },
            Some(StepState::Growing { left: 0 }) => self.end_growth(ix, node),
            _ => {}
        }
    }

    pub(crate) fn run_step(&mut self, ix: RunIx, node: NodeIx) {
        let Some(run) = self.run(ix) else { return };
        match &run.definition(node).kind {
            StepKind::Approve(_) => self.ask(ix, node),
            StepKind::Expand(_) if grow::depth(run.plan(), node) >= EXPANSION_DEPTH_MAX => {
                let why = alloc::format!(
                    "step `{}` is expanded {EXPANSION_DEPTH_MAX} times deep already; that is the limit, so let the first \
                     file name all steps",
                    run.name(node)
                );
                self.fail(ix, node, Cause::Broken(why));
            }
            StepKind::Cmd(_) | StepKind::Expand(_) => self.ready(ix, node),
            StepKind::Group => self.end(ix, node, Outcome::Succeeded { cached: false }),
        }
    }

    pub(crate) fn ready(&mut self, ix: RunIx, node: NodeIx) {
        if self.record(ix, RunEvent::StepReady { node })
            && let Some(run) = self.run(ix)
        {
            let (place, key) = ((demand(run, node), run.head.payer.clone()), queue_key(run, ix, node));
            self.fresh.entry(place).or_default().push(Reverse(key));
        }
    }

    /// The run failed and stops: what has not started does not start; with `--fail-fast` what runs is stopped too.
    pub(crate) fn halt(&mut self, ix: RunIx) {
        let Some(run) = self.run(ix) else { return };
        let (Some(failed), fast) = (run.head.failure.clone(), run.plan().context.on_failure == OnFailure::FailFast)
        else {
            return;
        };
        for node in (0..run.steps.len() as u32).map(NodeIx) {
            let Some(run) = self.run(ix) else { return };
            let step = run.definition(node);
            if step.when != When::Success || matches!(step.kind, StepKind::Group) {
                continue;
            }
            match run.step(node) {
                Some(
                    StepState::Waiting { .. }
                    | StepState::Asking { .. }
                    | StepState::Ready { attempt: AttemptNo(1), .. },
                ) => {
                    let skip = skip_at_halt(run, node, &failed);
                    self.end(ix, node, Outcome::Skipped(skip));
                }
                Some(StepState::Running { lease, .. }) if fast => {
                    let lease = lease.clone();
                    self.stop(ix, node, &lease, false);
                }
                Some(StepState::Backoff { .. } | StepState::Ready { .. } | StepState::Reported { .. }) if fast => {
                    self.end(ix, node, Outcome::Cancelled);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn cancel_run(&mut self, ix: RunIx, by: &str, force: bool) {
        let Some(run) = self.run(ix) else { return };
        let id = run.id().clone();
        if let RunPhase::Ended { .. } = run.phase() {
            return self.because(Some(&id), None, "the run has ended: there is nothing to cancel".to_string());
        }
        if run.head.cancel.as_ref().is_some_and(|cancel| cancel.force || !force) {
            return self.because(Some(&id), None, "the run is being cancelled already".to_string());
        }
        if !self.record(ix, RunEvent::CancelRequested { by: by.to_string(), force }) {
            return;
        }
        let count = self.run(ix).map_or(0, |run| run.steps.len() as u32);
        (0..count).map(NodeIx).for_each(|node| self.cancel_step(ix, node, force));
    }

    pub(crate) fn cancel_step(&mut self, ix: RunIx, node: NodeIx, force: bool) {
        let Some(run) = self.run(ix) else { return };
        let queued = matches!(run.phase(), RunPhase::Held | RunPhase::Queued);
        let is_use = matches!(run.definition(node).kind, StepKind::Group);
        match run.step(node) {
            _ if is_spared(run, node) || (is_use && !queued) => {}
            Some(StepState::Running { lease, .. }) => {
                let lease = lease.clone();
                self.stop(ix, node, &lease, force);
            }
            Some(StepState::Done { .. } | StepState::Growing { .. }) | None => {}
            Some(_) => self.end(ix, node, Outcome::Cancelled),
        }
    }

    pub(crate) fn stop(&mut self, ix: RunIx, node: NodeIx, lease: &crate::Lease, force: bool) {
        let Some(run) = self.run(ix) else { return };
        let command =
            Command::Stop { agent: lease.agent.clone(), run: run.id().clone(), node, fence: lease.fence, force };
        self.decision.commands.push(command);
    }
}
