//! What becomes of an instance when all that it waited for has ended.

use alloc::string::String;
use alloc::sync::Arc;

use model::expr::StepFacts;
use model::{Cause, GroupIx, Need, NodeIx, Outcome, Skip, StepKind, When};

use crate::run::RunState;
use crate::scope;
use crate::step::StepState;

/// Whether an instance runs.
pub(crate) enum Verdict {
    /// It does.
    Runs,
    /// It ends as it is.
    Ends(Outcome),
}

/// What an instance sees of the things it needed.
#[derive(Default)]
pub(crate) struct Seen {
    /// The first that failed and was not allowed to.
    failed: Option<Arc<str>>,
    /// The first that was skipped.
    skipped: Option<Arc<str>>,
    /// One was cancelled.
    cancelled: bool,
    /// One did not run because something failed.
    blocked: bool,
    /// One ended well.
    passed: bool,
}

impl Seen {
    pub(crate) fn by(run: &RunState<'_>, node: NodeIx) -> Seen {
        let mut seen = Seen::default();
        for need in run.plan().nodes[node.at()].needs.iter() {
            match *need {
                Need::All(group) => seen.group(run, group),
                Need::One(node) => seen.one(run, node),
            }
        }
        seen
    }

    /// Something failed, here or before.
    pub(crate) fn trouble(&self) -> bool {
        self.failed.is_some() || self.blocked
    }

    fn group(&mut self, run: &RunState<'_>, ix: GroupIx) {
        let (Some(state), definition) = (run.group(ix), &run.plan().groups[ix.at()]) else { return };
        if self.failed.is_none() {
            self.failed.clone_from(&state.failed);
        }
        self.cancelled |= state.cancelled > 0;
        self.blocked |= state.blocked;
        // A step with instances is skipped when all of them are: leaving cells out by `if` is no reason to stop.
        match state.skipped == definition.count {
            true if self.skipped.is_none() => self.skipped = Some(definition.step.id.as_str().into()),
            true => {}
            false => self.passed |= state.failed.is_none() && state.cancelled == 0,
        }
    }

    fn one(&mut self, run: &RunState<'_>, node: NodeIx) {
        let Some(StepState::Done { outcome, blocked, .. }) = run.step(node) else { return };
        self.blocked |= blocked;
        let name = || Some(run.name(node).clone());
        match outcome {
            Outcome::Succeeded { .. } | Outcome::Failed { allowed: true, .. } => self.passed = true,
            Outcome::Failed { allowed: false, .. } if self.failed.is_none() => self.failed = name(),
            Outcome::Skipped(_) if self.skipped.is_none() => self.skipped = name(),
            Outcome::Failed { .. } | Outcome::Skipped(_) => {}
            Outcome::Cancelled => self.cancelled = true,
        }
    }
}

/// Decides about an instance whose needs have all ended.
pub(crate) fn verdict(run: &RunState<'_>, node: NodeIx) -> Verdict {
    let step = run.definition(node);
    let seen = Seen::by(run, node);
    if let StepKind::Group = step.kind {
        return Verdict::Ends(of_use(seen));
    }
    if run.head.cancel.is_some() && !is_spared(run, node) {
        return Verdict::Ends(Outcome::Cancelled);
    }
    match by_when(run, step.when, seen) {
        Some(outcome) => Verdict::Ends(outcome),
        None => by_condition(run, node),
    }
}

/// Clean-up: it runs although the run was told to stop.
pub(crate) fn is_spared(run: &RunState<'_>, node: NodeIx) -> bool {
    run.definition(node).when == When::Always
        && run.head.cancel.as_ref().is_none_or(|cancel| !cancel.force)
        && matches!(run.head.phase, crate::RunPhase::Started { .. })
}

/// Why an instance does not start although it waits for more: what it depends on failed, or else the run did.
pub(crate) fn skip_at_halt(run: &RunState<'_>, node: NodeIx, failure: &Arc<str>) -> Skip {
    match Seen::by(run, node).failed {
        Some(name) => Skip::DependencyFailed(name),
        None => Skip::RunFailed(failure.clone()),
    }
}

/// A template use ends as its steps did: failed if one failed, skipped only if all were.
fn of_use(seen: Seen) -> Outcome {
    match seen {
        Seen { failed: Some(inner), .. } => Outcome::Skipped(Skip::DependencyFailed(inner)),
        Seen { cancelled: true, .. } => Outcome::Cancelled,
        Seen { passed: false, skipped: Some(inner), .. } => Outcome::Skipped(Skip::DependencySkipped(inner)),
        _ => Outcome::Succeeded { cached: false },
    }
}

fn by_when(run: &RunState<'_>, when: When, seen: Seen) -> Option<Outcome> {
    let halted = || run.head.failure.clone().filter(|_| run.is_halted());
    let skip = match when {
        When::Always => return None,
        When::Failure if seen.trouble() => return None,
        When::Failure => Skip::NothingFailed,
        When::Success => match seen {
            Seen { failed: Some(name), .. } => Skip::DependencyFailed(name),
            Seen { skipped: Some(name), .. } => Skip::DependencySkipped(name),
            Seen { cancelled, .. } => match (halted(), cancelled) {
                (Some(name), _) => Skip::RunFailed(name),
                (None, true) => return Some(Outcome::Cancelled),
                (None, false) => return None,
            },
        },
    };
    Some(Outcome::Skipped(skip))
}

fn by_condition(run: &RunState<'_>, node: NodeIx) -> Verdict {
    match scope::condition(run.plan(), node, &|id| facts(run, node, id)) {
        Ok(true) => Verdict::Runs,
        Ok(false) => Verdict::Ends(Outcome::Skipped(Skip::Condition)),
        Err(error) => Verdict::Ends(Outcome::Failed {
            cause: Cause::Expression(alloc::format!("`if` of step `{}`: {}", run.name(node), error.message)),
            allowed: allows_failure(run, node),
        }),
    }
}

/// `allow_failure`, of the instance or of the `expand` step that made it.
pub(crate) fn allows_failure(run: &RunState<'_>, node: NodeIx) -> bool {
    let group = run.head.graph.group(node);
    group.step.allow_failure || group.made_by.is_some_and(|maker| allows_failure(run, maker))
}

/// `steps.<id>` as `node` sees it; `None` while it has not ended. Values of several instances are laid over each other in
/// the order of the plan.
pub(crate) fn facts(run: &RunState<'_>, node: NodeIx, id: &str) -> Option<StepFacts> {
    let group = run.head.graph.named(node, id)?;
    let state = run.group(group)?;
    if state.open > 0 {
        return None;
    }
    let mut facts = StepFacts { outcome: "success", values: Default::default() };
    let mut skipped = 0;
    for instance in run.plan().instances(group) {
        let Some(StepState::Done { outcome, values, .. }) = run.step(instance) else { return None };
        facts.values.extend(values.iter().map(|(key, value): (&String, &String)| (key.clone(), value.clone())));
        match outcome {
            Outcome::Failed { .. } => facts.outcome = "failure",
            Outcome::Cancelled if facts.outcome != "failure" => facts.outcome = "cancelled",
            Outcome::Skipped(_) => skipped += 1,
            _ => {}
        }
    }
    if state.failed.is_some() {
        facts.outcome = "failure";
    } else if skipped == run.plan().groups[group.at()].count {
        facts.outcome = "skipped";
    }
    Some(facts)
}
