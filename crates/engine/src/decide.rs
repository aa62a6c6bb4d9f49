//! The decision: what an input means now. The only place where anything changes status.
//!
//! A draft lies over the world and holds the states that this decision touches. Every fact is applied to the draft as it
//! is made, so that one input may go a long way (a failure skips a hundred steps, ends the run and starts the next) and
//! every fact is complete.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use model::limits::EXPANSION_DEPTH_MAX;
use model::units::show_duration;
use model::{
    AgentId, AttemptEnd, AttemptNo, AttemptResult, Capacity, Cause, Command, ConcurrencyPolicy, Decision, Fact, Fence,
    Input, NodeIx, OnFailure, Outcome, Plan, PlannedSkip, Reason, RunEvent, RunId, Skip, Step, StepKind, Timestamp,
    When,
};

use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::verdict::{Verdict, allows_failure, is_spared, skip_at_halt, verdict};
use crate::world::{AgentState, Demand, QueueKey, RunIx, World, demand, queue_key};
use crate::{grow, retry};

/// Decides what an input means now: facts to append, then things to do, and why. Repeating an input changes nothing.
pub fn decide(world: &World, input: &Input, now: Timestamp) -> Decision {
    let mut draft = Draft::over(world, now);
    match input {
        Input::RunRequested { plan } => draft.request(plan),
        Input::AgentJoined { agent, capacity } => draft.join(agent, *capacity),
        Input::AgentLeft { agent } => draft.leave(agent),
        Input::AttemptFinished { run, node, attempt, fence, result } => {
            draft.finish(run, *node, *attempt, *fence, result);
        }
        Input::Expanded { run, node, fence, steps } => draft.expanded(run, *node, *fence, steps),
        Input::CancelRequested { run, by, force } => draft.cancel(run, by, *force),
        Input::Tick => draft.tick(),
    }
    draft.settle();
    draft.hand_out();
    draft.decision
}

/// The world as it becomes.
pub(crate) struct Draft<'w> {
    pub(crate) world: &'w World,
    pub(crate) now: Timestamp,
    /// Boxed, because a map reserves room for eleven at once, and most decisions touch one.
    pub(crate) runs: BTreeMap<RunIx, Box<RunState<'w>>>,
    pub(crate) agents: BTreeMap<AgentId, AgentState>,
    pub(crate) next_fence: u64,
    /// Instances that became ready in this decision.
    pub(crate) fresh: BinaryHeap<Reverse<(QueueKey, Demand)>>,
    pub(crate) decision: Decision,
    /// Instances whose needs have all ended.
    freed: VecDeque<(RunIx, NodeIx)>,
    /// Runs that failed just now and stop at a failure.
    halted: Vec<RunIx>,
}

impl<'w> Draft<'w> {
    fn over(world: &'w World, now: Timestamp) -> Draft<'w> {
        Draft {
            world,
            now,
            runs: BTreeMap::new(),
            agents: BTreeMap::new(),
            next_fence: world.next_fence,
            fresh: BinaryHeap::new(),
            decision: Decision::default(),
            freed: VecDeque::new(),
            halted: Vec::new(),
        }
    }

    // ---- what comes in ----

    fn request(&mut self, plan: &Arc<Plan>) {
        let id = &plan.context.run;
        if self.world.by_id.contains_key(id) {
            return self.because(Some(id), None, "this run was asked for before: nothing changes".to_string());
        }
        let Some(run) = RunState::requested(plan, self.now) else {
            return self.because(Some(id), None, "the plan points outside of itself: refused".to_string());
        };
        let ix = self.world.next_run;
        self.runs.insert(ix, Box::new(run));
        let event = RunEvent::Requested { plan: plan.clone() };
        self.decision.events.push(Fact { at: self.now, run: id.clone(), event });
        if self.group_is_free(ix) {
            self.start(ix);
        }
    }

    fn join(&mut self, agent: &AgentId, capacity: Capacity) {
        self.agent_mut(agent).capacity = Some(capacity);
    }

    fn leave(&mut self, agent: &AgentId) {
        self.agent_mut(agent).capacity = None;
        let from = (agent.clone(), 0, NodeIx(0));
        let leases = self.world.leases.range(from..).take_while(|(owner, _, _)| owner == agent);
        for (_, ix, node) in leases {
            self.lose(*ix, *node, alloc::format!("agent {agent} is gone"));
        }
    }

    fn finish(&mut self, run: &RunId, node: NodeIx, attempt: AttemptNo, fence: Fence, result: &Arc<AttemptResult>) {
        let Some(ix) = self.world.by_id.get(run).copied() else {
            return self.because(Some(run), None, "a report about a run that is not known: ignored".to_string());
        };
        match self.run(ix).and_then(|run| run.step(node)) {
            Some(StepState::Running { attempt: now, lease }) if *now == attempt && lease.fence == fence => {
                self.end_attempt(ix, node, attempt, result.clone());
            }
            _ => self.because(
                Some(run),
                Some(node),
                alloc::format!("a report with fencing number {} comes too late or twice: ignored", fence.0),
            ),
        }
    }

    fn expanded(&mut self, run: &RunId, node: NodeIx, fence: Fence, steps: &Result<Vec<Arc<Step>>, String>) {
        let ix = self.world.by_id.get(run).copied();
        let state = ix.and_then(|ix| self.run(ix)).and_then(|run| run.step(node));
        let (Some(ix), Some(StepState::Reported { fence: of_step, .. })) = (ix, state) else {
            return self.because(Some(run), Some(node), "steps that nobody waits for: ignored".to_string());
        };
        if *of_step != fence {
            return self.because(Some(run), Some(node), "steps of an older attempt: ignored".to_string());
        }
        match steps {
            Ok(steps) => self.grow(ix, node, steps),
            Err(report) => self.fail(ix, node, Cause::Broken(report.clone())),
        }
    }

    fn cancel(&mut self, run: &RunId, by: &str, force: bool) {
        let Some(ix) = self.world.by_id.get(run).copied() else {
            return self.because(Some(run), None, "there is no such run to cancel".to_string());
        };
        self.cancel_run(ix, by, force);
    }

    fn tick(&mut self) {
        let now = self.now;
        let due = self.world.timers.iter().take_while(|(at, _, _)| *at <= now);
        for (_, ix, node) in due {
            match self.run(*ix).and_then(|run| run.step(*node)) {
                Some(StepState::Backoff { .. }) => self.ready(*ix, *node),
                Some(StepState::Running { lease, .. }) => {
                    let lease = lease.clone();
                    let why = alloc::format!("agent {} did not answer until the lease ran out", lease.agent);
                    self.stop(*ix, *node, &lease, true);
                    self.lose(*ix, *node, why);
                }
                _ => {}
            }
        }
    }

    // ---- attempts ----

    fn lose(&mut self, ix: RunIx, node: NodeIx, why: String) {
        let Some(StepState::Running { attempt, lease }) = self.run(ix).and_then(|run| run.step(node)) else { return };
        let (attempt, took) = (*attempt, self.now.since(lease.since));
        let mut result = AttemptResult::ended(AttemptEnd::Failed(Cause::Lost(why)));
        result.took = took;
        self.end_attempt(ix, node, attempt, Arc::new(result));
    }

    fn end_attempt(&mut self, ix: RunIx, node: NodeIx, attempt: AttemptNo, result: Arc<AttemptResult>) {
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

    fn retry_or_fail(&mut self, ix: RunIx, node: NodeIx, attempt: AttemptNo, cause: &Cause) {
        let Some(run) = self.run(ix) else { return };
        let policy = &run.definition(node).retry;
        if is_stopped(run, node) || !retry::is_wanted(policy, attempt, cause) {
            return self.fail(ix, node, cause.clone());
        }
        let wait = retry::wait(&policy.backoff, run.id(), node, attempt);
        let why = alloc::format!(
            "`{}` gets attempt {} of {} in {}: {cause}",
            run.name(node),
            attempt.0 + 1,
            policy.attempts,
            show_duration(wait)
        );
        let id = run.id().clone();
        self.because(Some(&id), Some(node), why);
        let not_before = self.now.after(wait);
        if self.record(ix, RunEvent::RetryPlanned { node, not_before, cause: cause.clone() }) && wait.is_zero() {
            self.ready(ix, node);
        }
    }

    // ---- expansion ----

    fn expand(&mut self, ix: RunIx, node: NodeIx, path: String, result: &AttemptResult) {
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

    fn grow(&mut self, ix: RunIx, node: NodeIx, steps: &[Arc<Step>]) {
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

    fn end_growth(&mut self, ix: RunIx, node: NodeIx) {
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

    // ---- ends ----

    pub(crate) fn fail(&mut self, ix: RunIx, node: NodeIx, cause: Cause) {
        let allowed = self.run(ix).is_some_and(|run| allows_failure(run, node));
        self.end(ix, node, Outcome::Failed { cause, allowed });
    }

    fn end(&mut self, ix: RunIx, node: NodeIx, outcome: Outcome) {
        self.end_with(ix, node, outcome, BTreeMap::new());
    }

    fn end_with(&mut self, ix: RunIx, node: NodeIx, outcome: Outcome, values: BTreeMap<String, String>) {
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
    fn go_on(&mut self, ix: RunIx, node: NodeIx) {
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

    fn run_step(&mut self, ix: RunIx, node: NodeIx) {
        let Some(run) = self.run(ix) else { return };
        match &run.definition(node).kind {
            StepKind::Approve(_) => {
                let why = alloc::format!(
                    "step `{}` waits for an approval; approvals need the server, which comes with a later version",
                    run.name(node)
                );
                self.fail(ix, node, Cause::Refused(why));
            }
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

    fn ready(&mut self, ix: RunIx, node: NodeIx) {
        if self.record(ix, RunEvent::StepReady { node })
            && let Some(run) = self.run(ix)
        {
            let (demand, key) = (demand(run, node), queue_key(run, ix, node));
            self.fresh.push(Reverse((key, demand)));
        }
    }

    /// The run failed and stops: what has not started does not start; with `--fail-fast` what runs is stopped too.
    fn halt(&mut self, ix: RunIx) {
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
                Some(StepState::Waiting { .. } | StepState::Ready { attempt: AttemptNo(1), .. }) => {
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

    fn cancel_run(&mut self, ix: RunIx, by: &str, force: bool) {
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

    fn cancel_step(&mut self, ix: RunIx, node: NodeIx, force: bool) {
        let Some(run) = self.run(ix) else { return };
        let queued = run.phase() == RunPhase::Queued;
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

    fn stop(&mut self, ix: RunIx, node: NodeIx, lease: &crate::Lease, force: bool) {
        let Some(run) = self.run(ix) else { return };
        let command =
            Command::Stop { agent: lease.agent.clone(), run: run.id().clone(), node, fence: lease.fence, force };
        self.decision.commands.push(command);
    }

    // ---- runs ----

    fn start(&mut self, ix: RunIx) {
        if self.record(ix, RunEvent::Started) {
            self.open_steps(ix, 0);
        }
    }

    /// From this instance on: those that are known not to run end, those that wait for nothing go on.
    fn open_steps(&mut self, ix: RunIx, first: usize) {
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
    fn end_runs(&mut self) -> bool {
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

    // ---- concurrency groups ----

    /// Whether a new run may start at once; with `cancel-running` the older ones are asked to make room.
    fn group_is_free(&mut self, ix: RunIx) -> bool {
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
    fn settle_all_but(&mut self, ix: RunIx) {
        let newest = self.runs.remove(&ix);
        self.settle();
        if let Some(run) = newest {
            self.runs.insert(ix, run);
        }
    }

    /// Runs of a group that have not ended, oldest first, without those that were only asked for in this decision.
    fn members(&self, group: &str) -> impl Iterator<Item = RunIx> {
        let known = self.world.concurrency.get(group);
        known
            .into_iter()
            .flatten()
            .copied()
            .filter(|ix| self.run(*ix).is_some_and(|run| !matches!(run.phase(), RunPhase::Ended { .. })))
    }

    fn next_of_group(&self, group: &str) -> Option<RunIx> {
        let next = self.members(group).next()?;
        self.run(next).filter(|run| run.phase() == RunPhase::Queued && run.head.cancel.is_none()).map(|_| next)
    }

    // ---- the draft itself ----

    pub(crate) fn run(&self, ix: RunIx) -> Option<&RunState<'w>> {
        // A run of the world is a `RunState<'static>`, which is one of any shorter life as well.
        self.runs.get(&ix).map(Box::as_ref).or_else(|| self.world.runs.get(&ix))
    }

    /// Makes a fact and applies it; `false`: it cannot happen, which is a fault of this module and shows in the reasons.
    pub(crate) fn record(&mut self, ix: RunIx, event: RunEvent) -> bool {
        let world = self.world;
        let run = match self.runs.entry(ix) {
            alloc::collections::btree_map::Entry::Occupied(run) => run.into_mut(),
            alloc::collections::btree_map::Entry::Vacant(place) => match world.runs.get(&ix) {
                Some(run) => place.insert(Box::new(run.over())),
                None => return false,
            },
        };
        let released = match &event {
            RunEvent::AttemptEnded { node, .. } => match run.step(*node) {
                Some(StepState::Running { lease, .. }) => Some((lease.agent.clone(), demand(run, *node))),
                _ => None,
            },
            _ => None,
        };
        let mut freed = Vec::new();
        let id = run.id().clone();
        if run.apply(self.now, &event, &mut freed).is_none() {
            debug_assert!(false, "an illegal event was decided: {event:?}");
            self.because(Some(&id), None, alloc::format!("internal: an illegal event was decided: {event:?}"));
            return false;
        }
        self.freed.extend(freed.into_iter().map(|node| (ix, node)));
        if let Some((agent, demand)) = released {
            self.agent_mut(&agent).release(demand);
        }
        self.decision.events.push(Fact { at: self.now, run: id, event });
        true
    }

    pub(crate) fn agent_mut(&mut self, id: &AgentId) -> &mut AgentState {
        let world = self.world;
        self.agents.entry(id.clone()).or_insert_with(|| world.agents.get(id).copied().unwrap_or_default())
    }

    pub(crate) fn because(&mut self, run: Option<&RunId>, node: Option<NodeIx>, text: String) {
        self.decision.because.push(Reason { run: run.cloned(), node, text });
    }
}

/// No further attempt is made of it: it was told to stop, or the run is.
fn is_stopped(run: &RunState<'_>, node: NodeIx) -> bool {
    let cancelled = run.head.cancel.is_some() && !is_spared(run, node);
    let fast = run.plan().context.on_failure == OnFailure::FailFast && run.head.failure.is_some();
    cancelled || (fast && run.definition(node).when == When::Success)
}

/// A run that never started ends only when it was cancelled.
fn may_end(run: &RunState<'_>) -> bool {
    run.phase() != RunPhase::Queued || run.head.cancel.is_some()
}
