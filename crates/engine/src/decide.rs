//! The decision: what an input means now. The only place where anything changes status.
//!
//! A draft lies over the world and holds the states that this decision touches. Every fact is applied to the draft as it
//! is made, so that one input may go a long way (a failure skips a hundred steps, ends the run and starts the next) and
//! every fact is complete. What follows from what: attempts in [`crate::attempt`], ends in [`crate::cascade`], runs and
//! their groups in [`crate::concurrency`], leases in [`crate::lease`].

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::limits::LEASE_GRACE;
use model::units::show_duration;
use model::{
    AgentId, AttemptEnd, AttemptNo, AttemptResult, Cause, Command, Decision, Fact, Fence, Held, Input, Kept, NodeIx,
    PRIORITY_MAX, PRIORITY_MIN, Plan, RunEvent, RunId, SlaBound, Step, Timestamp,
};

use crate::draft::Draft;
use crate::fleet::{AgentState, speaker};
use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::verdict::allows_failure;
use crate::world::{RunIx, Timer, World, is_overslept};

/// Decides what an input means now: facts to append, then things to do, and why. Repeating an input changes nothing.
pub fn decide(world: &World, input: &Input, now: Timestamp) -> Decision {
    let mut draft = Draft::over(world, now);
    match input {
        Input::RunRequested { plan } => draft.request(plan, &[]),
        Input::RunAgain { plan, kept } => draft.request(plan, kept),
        Input::Released { run, by } => draft.release(run, by),
        Input::Prioritised { run, priority, by } => draft.prioritise(run, *priority, by),
        Input::Answered { run, node, by, approved, comment } => draft.answer(run, *node, by, *approved, comment),
        Input::AgentJoined { .. } | Input::AgentPaused { .. } | Input::AgentAway { .. } => {}
        Input::AgentBack { agent, held, .. } => draft.back(agent, held),
        Input::Heartbeat { agent, held } => draft.stop_void(agent, held),
        Input::AgentLeft { agent } => draft.lose_all(agent, &|agent| alloc::format!("agent {agent} is gone")),
        Input::AttemptFinished { run, node, attempt, fence, result } => {
            draft.finish(run, *node, *attempt, *fence, result);
        }
        Input::Expanded { run, node, fence, steps } => draft.expanded(run, *node, *fence, steps),
        Input::CancelRequested { run, by, force } => draft.cancel(run, by, *force),
        Input::Tick => draft.tick(),
    }
    if let Some(agent) = speaker(input) {
        let until = world.lease_ttl.map(|ttl| now.after(ttl));
        draft.change_agent(agent, |state| state.hear(input, until));
    }
    draft.settle();
    draft.hand_out();
    draft.decision
}

impl Draft<'_> {
    fn request(&mut self, plan: &Arc<Plan>, kept: &[Kept]) {
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
        kept.iter().for_each(|kept| self.keep(ix, kept));
        self.start_if_free(ix);
    }

    /// Takes over a result of an ended run, if it can stand for the instance.
    fn keep(&mut self, ix: RunIx, Kept { node, from, result }: &Kept) {
        let Some(run) = self.run(ix).filter(|run| matches!(run.step(*node), Some(StepState::Waiting { .. }))) else {
            return;
        };
        let stands = match result.end {
            AttemptEnd::Succeeded => true,
            AttemptEnd::Failed(_) => allows_failure(run, *node),
            AttemptEnd::Cancelled => false,
        };
        if stands && run.plan().nodes[node.at()].skip.is_none() {
            self.record(ix, RunEvent::StepKept { node: *node, from: from.clone(), result: result.clone() });
        }
    }

    fn start_if_free(&mut self, ix: RunIx) {
        let held = self.run(ix).is_none_or(|run| run.phase() != RunPhase::Queued);
        if !held && self.group_is_free(ix) {
            self.start(ix);
        }
    }

    fn release(&mut self, run: &RunId, by: &str) {
        let ix = self.world.by_id.get(run).copied();
        let Some(ix) = ix.filter(|ix| self.run(*ix).is_some_and(|run| run.phase() == RunPhase::Held)) else {
            return self.because(Some(run), None, "the run is not held: there is nothing to let go".to_string());
        };
        if self.run(ix).is_some_and(|run| run.head.cancel.is_some()) {
            return self.because(Some(run), None, "the run is being cancelled".to_string());
        }
        if self.record(ix, RunEvent::Released { by: by.to_string() }) {
            self.start_if_free(ix);
        }
    }

    fn prioritise(&mut self, run: &RunId, priority: i32, by: &str) {
        let ix = self.world.by_id.get(run).copied();
        let Some((ix, state)) = ix.and_then(|ix| Some((ix, self.run(ix)?))) else {
            return self.because(Some(run), None, "there is no such run to prioritise".to_string());
        };
        let priority = priority.clamp(PRIORITY_MIN, PRIORITY_MAX);
        match state.phase() {
            RunPhase::Ended { .. } => self.because(Some(run), None, "the run has ended".to_string()),
            _ if state.head.priority == priority => {
                self.because(Some(run), None, alloc::format!("the run has priority {priority} already"));
            }
            _ => drop(self.record(ix, RunEvent::Prioritised { priority, by: by.to_string() })),
        }
    }

    /// What it still holds goes on; what it does not hold is lost, and what it holds without right is stopped.
    fn back(&mut self, agent: &AgentId, held: &[Held]) {
        self.stop_void(agent, held);
        let holds: BTreeSet<Fence> =
            held.iter().filter(|held| self.is_leased(agent, held)).map(|held| held.fence).collect();
        for (ix, node) in self.leases_of(agent) {
            let Some(StepState::Running { lease, .. }) = self.run(ix).and_then(|run| run.step(node)) else { continue };
            if !holds.contains(&lease.fence) {
                self.lose(ix, node, alloc::format!("agent {agent} came back without it"));
            }
        }
    }

    fn stop_void(&mut self, agent: &AgentId, held: &[Held]) {
        let void: Vec<&Held> = held.iter().filter(|held| !self.is_leased(agent, held)).collect();
        for Held { run, node, fence, .. } in void {
            let why = alloc::format!("agent {agent} holds fencing number {}, which is not valid: stopped", fence.0);
            self.because(Some(run), Some(*node), why);
            let (agent, run, node, fence) = (agent.clone(), run.clone(), *node, *fence);
            self.decision.commands.push(Command::Stop { agent, run, node, fence, force: true });
        }
    }

    fn is_leased(&self, agent: &AgentId, held: &Held) -> bool {
        let state = self.world.by_id.get(&held.run).and_then(|ix| self.run(*ix)).and_then(|run| run.step(held.node));
        matches!(state, Some(StepState::Running { lease, .. }) if lease.fence == held.fence && lease.agent == *agent)
    }

    fn leases_of(&self, agent: &AgentId) -> Vec<(RunIx, NodeIx)> {
        let from = (agent.clone(), 0, NodeIx(0));
        let leases = self.world.leases.range(from..).take_while(|(owner, _, _)| owner == agent);
        leases.map(|(_, ix, node)| (*ix, *node)).collect()
    }

    fn lose_all(&mut self, agent: &AgentId, why: &dyn Fn(&AgentId) -> String) {
        for (ix, node) in self.leases_of(agent) {
            self.lose(ix, node, why(agent));
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
        let (world, now) = (self.world, self.now);
        self.agents_fall_silent();
        for (at, ix, timer) in world.timers.iter().take_while(|(at, ..)| *at <= now) {
            match timer {
                Timer::Step(node) => self.step_is_due(*at, *ix, *node),
                Timer::Bound(bound) => self.miss(*ix, *bound),
            }
        }
    }

    /// Agents that were not heard of for the life of a lease lose what they leased.
    fn agents_fall_silent(&mut self) {
        let (world, now) = (self.world, self.now);
        let Some(ttl) = world.lease_ttl else { return };
        for (at, agent) in world.fleet.silent_by(now) {
            if is_overslept(*at, now, ttl) {
                continue;
            }
            self.change_agent(agent, AgentState::fall_silent);
            let gone = |agent: &AgentId| alloc::format!("agent {agent} was not heard of for {}", show_duration(ttl));
            self.lose_all(agent, &gone);
        }
    }

    fn step_is_due(&mut self, at: Timestamp, ix: RunIx, node: NodeIx) {
        match self.run(ix).and_then(|run| run.step(node)) {
            Some(StepState::Backoff { .. }) => self.ready(ix, node),
            Some(StepState::Asking { since, expires, .. }) => {
                let waited = expires.since(*since);
                self.fail(ix, node, Cause::Unanswered(waited));
            }
            // Nobody looked for long: the agent's own clock, which did not jump, ends the attempt in time.
            Some(StepState::Running { lease, .. }) if self.now.since(at) > LEASE_GRACE => {
                let deadline = self.now.after(lease.deadline.since(lease.since));
                self.record(ix, RunEvent::LeaseExtended { node, deadline });
            }
            Some(StepState::Running { lease, .. }) => {
                let lease = lease.clone();
                let why = alloc::format!("agent {} did not answer until the lease ran out", lease.agent);
                self.stop(ix, node, &lease, true);
                self.lose(ix, node, why);
            }
            _ => {}
        }
    }

    fn miss(&mut self, ix: RunIx, bound: SlaBound) {
        let Some(run) = self.run(ix) else { return };
        let sla = run.plan().sla.unwrap_or_default();
        let (id, within) = match bound {
            SlaBound::Start => (run.id().clone(), sla.start_within),
            SlaBound::Finish => (run.id().clone(), sla.finish_within),
        };
        let within = within.unwrap_or_default();
        let is_open = run.head.bounds.all().any(|(_, open)| open == bound);
        if is_open && self.record(ix, RunEvent::SlaMissed { bound, within }) {
            let why = alloc::format!("`{}: {}` of `sla` is missed", bound.word(), show_duration(within));
            self.because(Some(&id), None, why);
        }
    }
}
