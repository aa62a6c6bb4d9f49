//! The decision: what an input means now. The only place where anything changes status.
//!
//! A draft lies over the world and holds the states that this decision touches. Every fact is applied to the draft as it
//! is made, so that one input may go a long way (a failure skips a hundred steps, ends the run and starts the next) and
//! every fact is complete. What follows from what: attempts in [`crate::attempt`], ends in [`crate::cascade`], runs and
//! their groups in [`crate::concurrency`], leases in [`crate::lease`].

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::{
    AgentId, AttemptNo, AttemptResult, Capacity, Cause, Decision, Fact, Fence, Input, NodeIx, Plan, RunEvent, RunId,
    Step, Timestamp,
};

use crate::draft::Draft;
use crate::run::RunState;
use crate::step::StepState;
use crate::world::World;

/// Decides what an input means now: facts to append, then things to do, and why. Repeating an input changes nothing.
pub fn decide(world: &World, input: &Input, now: Timestamp) -> Decision {
    let mut draft = Draft::over(world, now);
    match input {
        Input::RunRequested { plan } => draft.request(plan),
        Input::AgentJoined { agent, capacity, .. } => draft.join(agent, *capacity),
        Input::AgentLeft { agent } => draft.leave(agent),
        Input::AttemptFinished { run, node, attempt, fence, result } => {
            draft.finish(run, *node, *attempt, *fence, result);
        }
        Input::Expanded { run, node, fence, steps } => draft.expanded(run, *node, *fence, steps),
        Input::CancelRequested { run, by, force } => draft.cancel(run, by, *force),
        Input::RunAgain { .. }
        | Input::Released { .. }
        | Input::Prioritised { .. }
        | Input::Answered { .. }
        | Input::AgentBack { .. }
        | Input::Heartbeat { .. }
        | Input::AgentPaused { .. }
        | Input::AgentAway { .. } => {}
        Input::Tick => draft.tick(),
    }
    draft.settle();
    draft.hand_out();
    draft.decision
}

impl Draft<'_> {
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
}
