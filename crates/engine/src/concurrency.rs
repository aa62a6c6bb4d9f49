//! Runs: when they start and end, and who waits for whom in a concurrency group.

use alloc::vec::Vec;

use model::{ConcurrencyPolicy, NodeIx, Outcome, PlannedSkip, RunEvent, Skip};

use crate::draft::Draft;
use crate::run::{RunPhase, RunState};
use crate::world::RunIx;

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

    /// Ends the runs that have nothing left to do; answers whether something followed from it.
    pub(crate) fn end_runs(&mut self) -> bool {
        let ended = |run: &RunState<'_>| matches!(run.phase(), RunPhase::Ended { .. });
        let over = self.runs.iter().find(|(_, run)| run.open() == 0 && !ended(run) && may_end(run));
        let Some((ix, run)) = over else { return false };
        let (ix, outcome, plan) = (*ix, run.outcome(), run.plan().clone());
        if !self.record(ix, RunEvent::Ended { outcome }) {
            return false;
        }
        if let Some((group, _)) = &plan.concurrency
            && let Some(next) = self.next_of_group(group)
        {
            self.start(next);
        }
        true
    }

    /// Whether a new run may start at once; with `cancel-running` the older ones are asked to make room.
    pub(crate) fn group_is_free(&mut self, ix: RunIx) -> bool {
        let Some((id, group, policy)) = self.run(ix).and_then(|run| {
            let (group, concurrency) = run.plan().concurrency.as_ref()?;
            Some((run.id().clone(), group.clone(), concurrency.policy))
        }) else {
            return true;
        };
        let older: Vec<RunIx> = self.members(&group).collect();
        let number = self.run(ix).map(RunState::number).unwrap_or_default();
        if let Some(holder) = older.first().and_then(|ix| self.run(*ix)).map(RunState::number) {
            let why = alloc::format!("run {number} waits for concurrency group `{group}`, held by run {holder}");
            self.because(Some(&id), None, why);
        }
        if policy == ConcurrencyPolicy::CancelRunning {
            let by = alloc::format!("run {number}, which is newer in concurrency group `{group}`");
            older.iter().for_each(|older| self.cancel_run(*older, &by, false));
            self.settle_all_but(ix);
        }
        self.members(&group).next().is_none()
    }

    /// Lets the runs that were just cancelled end, if nothing of them is running, before it is asked who holds the group.
    pub(crate) fn settle_all_but(&mut self, ix: RunIx) {
        let newest = self.runs.remove(&ix);
        self.settle();
        if let Some(run) = newest {
            self.runs.insert(ix, run);
        }
    }

    /// Runs of a group that have not ended, oldest first, without those that were only asked for in this decision.
    pub(crate) fn members(&self, group: &str) -> impl Iterator<Item = RunIx> {
        let known = self.world.concurrency.get(group);
        known
            .into_iter()
            .flatten()
            .copied()
            .filter(|ix| self.run(*ix).is_some_and(|run| !matches!(run.phase(), RunPhase::Ended { .. })))
    }

    pub(crate) fn next_of_group(&self, group: &str) -> Option<RunIx> {
        let next = self.members(group).next()?;
        self.run(next).filter(|run| run.phase() == RunPhase::Queued && run.head.cancel.is_none()).map(|_| next)
    }
}

/// A run that never started ends only when it was cancelled.
fn may_end(run: &RunState<'_>) -> bool {
    run.phase() != RunPhase::Queued || run.head.cancel.is_some()
}
