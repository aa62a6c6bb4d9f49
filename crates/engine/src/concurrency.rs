//! Runs: when they start and end, and who waits for whom in a concurrency group.

use alloc::vec::Vec;

use model::{AttemptEnd, ConcurrencyPolicy, NodeIx, Outcome, PlannedSkip, RunEvent, Skip};

use crate::draft::Draft;
use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::world::{GroupKey, RunIx, group_of};

impl Draft<'_> {
    pub(crate) fn start(&mut self, ix: RunIx) {
        if self.record(ix, RunEvent::Started) {
            self.open_steps(ix, 0);
        }
    }

    /// From this instance on: those that are known not to run end, those that wait for nothing go on.
    pub(crate) fn open_steps(&mut self, ix: RunIx, first: usize) {
        let Some(run) = self.run(ix) else { return };
        let plan = run.plan().clone();
        let kept = run.steps().filter(|(_, state)| matches!(state, StepState::Kept { .. })).map(|(node, _)| node);
        let kept: Vec<NodeIx> = kept.collect();
        kept.into_iter().for_each(|node| self.end_kept(ix, node));
        for (at, node) in plan.nodes.iter().enumerate().skip(first) {
            let skip = match node.skip {
                None => continue,
                Some(PlannedSkip::Condition) => Skip::Condition,
                Some(PlannedSkip::NotSelected) => Skip::NotSelected,
            };
            self.end(ix, NodeIx(at as u32), Outcome::Skipped(skip));
        }
        let roots = plan.nodes.iter().enumerate().skip(first).filter(|(_, node)| node.needs.is_empty());
        self.freed.extend(roots.map(|(at, _)| (ix, NodeIx(at as u32))));
    }

    /// The result of an ended run stands for this one's.
    fn end_kept(&mut self, ix: RunIx, node: NodeIx) {
        let Some(StepState::Kept { result, .. }) = self.run(ix).and_then(|run| run.step(node)) else { return };
        let outcome = match &result.end {
            AttemptEnd::Failed(cause) => Outcome::Failed { cause: cause.clone(), allowed: true },
            AttemptEnd::Succeeded | AttemptEnd::Cancelled => Outcome::Succeeded { cached: true },
        };
        let values = result.values.clone();
        self.end_with(ix, node, outcome, values);
    }

    /// Ends the runs that have nothing left to do; answers whether something followed from it.
    pub(crate) fn end_runs(&mut self) -> bool {
        let ended = |run: &RunState<'_>| matches!(run.phase(), RunPhase::Ended { .. });
        let over = self.runs.iter().find(|(_, run)| run.open() == 0 && !ended(run) && may_end(run));
        let Some((ix, run)) = over else { return false };
        let (ix, outcome, group) = (*ix, run.outcome(), group_of(run));
        if !self.record(ix, RunEvent::Ended { outcome }) {
            return false;
        }
        if let Some(next) = group.and_then(|group| self.next_of_group(&group)) {
            self.start(next);
        }
        true
    }

    /// Whether a run that was just asked for or let go may start at once; its policy says what becomes of the older ones.
    pub(crate) fn group_is_free(&mut self, ix: RunIx) -> bool {
        let Some((id, group, policy)) = self.run(ix).and_then(|run| {
            let (_, concurrency) = run.plan().concurrency.as_ref()?;
            Some((run.id().clone(), group_of(run)?, concurrency.policy))
        }) else {
            return true;
        };
        let older: Vec<RunIx> = self.members(&group, ix).collect();
        let number = self.run(ix).map(RunState::number).unwrap_or_default();
        let name = &group.1;
        if let Some(holder) = older.first().and_then(|ix| self.run(*ix)).map(RunState::number) {
            let why = alloc::format!("run {number} waits for concurrency group `{name}`, held by run {holder}");
            self.because(Some(&id), None, why);
        }
        let by = alloc::format!("run {number}, which is newer in concurrency group `{name}`");
        let is_queued = |draft: &Self, ix: &RunIx| draft.run(*ix).is_some_and(|run| run.phase() == RunPhase::Queued);
        for other in older {
            let goes = match policy {
                ConcurrencyPolicy::Queue => false,
                ConcurrencyPolicy::CancelRunning => true,
                ConcurrencyPolicy::CancelQueued => is_queued(self, &other),
            };
            if goes {
                self.cancel_run(other, &by, false);
            }
        }
        self.settle_all_but(ix);
        self.members(&group, ix).next().is_none()
    }

    /// Lets the runs that were just cancelled end, if nothing of them is running, before it is asked who holds the group.
    pub(crate) fn settle_all_but(&mut self, ix: RunIx) {
        let newest = self.runs.remove(&ix);
        self.settle();
        if let Some(run) = newest {
            self.runs.insert(ix, run);
        }
    }

    /// Runs of a group that have not ended, oldest first, without `but` and those that were only asked for in this decision.
    fn members(&self, group: &GroupKey, but: RunIx) -> impl Iterator<Item = RunIx> {
        let known = self.world.concurrency.get(group).into_iter().flatten().copied();
        known.filter(move |ix| {
            *ix != but && self.run(*ix).is_some_and(|run| !matches!(run.phase(), RunPhase::Ended { .. }))
        })
    }

    /// The run of a group that starts next, if none is running: the one that is due first.
    fn next_of_group(&self, group: &GroupKey) -> Option<RunIx> {
        let members = self.members(group, RunIx::MAX).filter_map(|ix| Some((self.run(ix)?, ix)));
        let mut next = None;
        for (run, ix) in members {
            match run.phase() {
                RunPhase::Queued if run.head.cancel.is_none() => {
                    next = next.into_iter().chain([(run.head.due, ix)]).min();
                }
                RunPhase::Started { .. } => return None,
                _ => {}
            }
        }
        next.map(|(_, ix)| ix)
    }
}

/// A run that never started ends only when it was cancelled.
fn may_end(run: &RunState<'_>) -> bool {
    matches!(run.phase(), RunPhase::Started { .. }) || run.head.cancel.is_some()
}
