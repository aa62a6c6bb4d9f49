//! What follows when an attempt ends: success, another attempt, the end of the step, or the steps that it made.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::time::Duration;

use model::units::show_duration;
use model::{
    AttemptEnd, AttemptNo, AttemptResult, Cause, Command, NodeIx, OnFailure, Outcome, Plan, RunEvent, Skip, Step,
    StepKind, When,
};

use crate::draft::Draft;
use crate::run::RunState;
use crate::step::StepState;
use crate::verdict::is_spared;
use crate::world::RunIx;
use crate::{grow, retry};

impl Draft<'_> {
    pub(crate) fn lose(&mut self, ix: RunIx, node: NodeIx, why: String) {
        let Some(StepState::Running { attempt, lease }) = self.run(ix).and_then(|run| run.step(node)) else { return };
        let (attempt, took) = (*attempt, self.now.since(lease.since));
        let mut result = AttemptResult::ended(AttemptEnd::Failed(Cause::Lost(why)));
        result.took = took;
        self.end_attempt(ix, node, attempt, Arc::new(result));
    }

    pub(crate) fn end_attempt(&mut self, ix: RunIx, node: NodeIx, attempt: AttemptNo, result: Arc<AttemptResult>) {
        if !self.record(ix, RunEvent::AttemptEnded { node, attempt, result: result.clone() }) {
            return;
        }
        let Some(run) = self.run(ix) else { return };
        let stopped = is_stopped(run, node);
        match &result.end {
            AttemptEnd::Succeeded => match &run.definition(node).kind {
                StepKind::Expand(path) if !stopped => {
                    let path = path.clone();
                    self.expand(ix, node, path, &result);
                }
                StepKind::Expand(_) => self.end(ix, node, Outcome::Cancelled),
                _ => {
                    let outcome = Outcome::Succeeded { cached: result.cached.is_some() };
                    self.end_with(ix, node, outcome, result.values.clone());
                }
            },
            AttemptEnd::Cancelled if stopped => self.end(ix, node, Outcome::Cancelled),
            AttemptEnd::Failed(Cause::Lost(_)) if run.head.cancel.is_some() && stopped => {
                self.end(ix, node, Outcome::Cancelled);
            }
            AttemptEnd::Cancelled => {
                self.retry_or_fail(ix, node, attempt, &Cause::Lost("its agent stopped it unasked".to_string()));
            }
            AttemptEnd::Failed(cause) => self.retry_or_fail(ix, node, attempt, cause),
        }
    }

    pub(crate) fn retry_or_fail(&mut self, ix: RunIx, node: NodeIx, attempt: AttemptNo, cause: &Cause) {
        let Some(run) = self.run(ix) else { return };
        let policy = &run.definition(node).retry;
        let is_served = run.plan().context.terms.project.is_some();
        let attempts = retry::attempts(policy, cause, is_served);
        if is_stopped(run, node) || !retry::is_wanted(policy, attempts, attempt, cause) {
            return self.fail(ix, node, cause.clone());
        }
        // What is given back because its agent is gone need not wait: another takes it.
        let wait = match cause {
            Cause::Lost(_) if attempts > policy.attempts => Duration::ZERO,
            _ => retry::wait(&policy.backoff, run.id(), node, attempt),
        };
        let why = alloc::format!(
            "`{}` gets attempt {} of {} in {}: {cause}",
            run.name(node),
            attempt.0 + 1,
            attempts,
            show_duration(wait)
        );
        let id = run.id().clone();
        self.because(Some(&id), Some(node), why);
        let not_before = self.now.after(wait);
        if self.record(ix, RunEvent::RetryPlanned { node, not_before, cause: cause.clone() }) && wait.is_zero() {
            self.ready(ix, node);
        }
    }

    pub(crate) fn expand(&mut self, ix: RunIx, node: NodeIx, path: String, result: &AttemptResult) {
        let Some(run) = self.run(ix) else { return };
        let Some(StepState::Reported { fence, .. }) = run.step(node) else { return };
        let (id, fence, depth) = (run.id().clone(), *fence, grow::depth(run.plan(), node) + 1);
        match &result.text {
            Some(text) => {
                let text = text.clone();
                self.decision.commands.push(Command::Expand { run: id, node, fence, path, text, depth });
            }
            None => {
                let why = alloc::format!("the agent read `{path}` but did not hand its text back; update the agent");
                self.fail(ix, node, Cause::Infrastructure(why));
            }
        }
    }

    pub(crate) fn grow(&mut self, ix: RunIx, node: NodeIx, steps: &[Arc<Step>]) {
        let Some(run) = self.run(ix) else { return };
        // Tried on a copy first: what cannot be added is a failure of the step with its reason, not an illegal fact.
        let mut plan = Plan::clone(run.plan());
        let first = plan.nodes.len();
        if let Err(error) = grow::add(&mut plan, steps, Some(node)) {
            return self.fail(ix, node, Cause::Broken(error.to_string()));
        }
        if !self.record(ix, RunEvent::Expanded { node, steps: steps.to_vec() }) {
            return;
        }
        self.open_steps(ix, first);
        if self.run(ix).is_some_and(RunState::is_halted) {
            self.halted.push(ix);
        }
    }

    pub(crate) fn end_growth(&mut self, ix: RunIx, node: NodeIx) {
        let Some(run) = self.run(ix) else { return };
        let mut cause = None;
        let mut cancelled = false;
        let mut halted = false;
        for made in run.head.graph.made_by(node).flat_map(|group| run.plan().instances(group)) {
            let Some(StepState::Done { outcome, blocked, .. }) = run.step(made) else { continue };
            match outcome {
                Outcome::Failed { cause: why, allowed: false } if cause.is_none() => cause = Some(why.clone()),
                Outcome::Cancelled => cancelled = true,
                _ => halted |= blocked,
            }
        }
        let halt = run.head.failure.clone().filter(|_| halted);
        match (cause, halt) {
            (Some(cause), _) => self.fail(ix, node, cause),
            (None, _) if cancelled => self.end(ix, node, Outcome::Cancelled),
            (None, Some(failed)) => self.end(ix, node, Outcome::Skipped(Skip::RunFailed(failed))),
            (None, None) => self.end(ix, node, Outcome::Succeeded { cached: false }),
        }
    }
}

/// No further attempt is made of it: it was told to stop, or the run is.
fn is_stopped(run: &RunState<'_>, node: NodeIx) -> bool {
    let cancelled = run.head.cancel.is_some() && !is_spared(run, node);
    let fast = run.plan().context.on_failure == OnFailure::FailFast && run.head.failure.is_some();
    cancelled || (fast && run.definition(node).when == When::Success)
}
