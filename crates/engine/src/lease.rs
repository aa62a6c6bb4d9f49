//! Handing ready instances to agents: the longest way to the end first, then the order of the file, as far as slots, CPUs
//! and memory go.

use alloc::collections::{BTreeSet, btree_set};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::iter::Peekable;

use model::limits::{LEASE_GRACE, TIMEOUT_DEFAULT};
use model::{AgentId, Command, Fence, NodeIx, RunEvent};

use crate::draft::Draft;
use crate::render;
use crate::step::StepState;
use crate::world::{Demand, QueueKey, RunIx};

/// Heads of the world's queues, one for each distinct demand. A demand that no agent can take now is closed: leases only
/// take more away, so that nothing changes about it within one decision.
type Queues<'w> = Vec<(Demand, Peekable<btree_set::Iter<'w, QueueKey>>)>;

impl Draft<'_> {
    /// Leases until nothing that is ready fits anywhere.
    pub(crate) fn hand_out(&mut self) {
        let mut free = self.slots_free();
        if free == 0 {
            return;
        }
        let world = self.world;
        let mut queues: Queues<'_> =
            world.ready.iter().map(|(demand, queue)| (*demand, queue.iter().peekable())).collect();
        let mut closed = BTreeSet::new();
        while free > 0 {
            let Some((demand, ix, node)) = self.first(&mut queues, &closed) else { return };
            match self.agent_for(demand) {
                Some(agent) => free -= u64::from(self.lease(ix, node, agent, demand)),
                None => {
                    queues.retain(|(other, _)| *other != demand);
                    closed.insert(demand);
                }
            }
        }
    }

    fn slots_free(&self) -> u64 {
        let before = |id| self.world.agents.get(id).map_or(0, |agent| u64::from(agent.slots_free()));
        self.agents
            .iter()
            .fold(self.world.free_slots, |free, (id, agent)| free - before(id) + u64::from(agent.slots_free()))
    }

    /// The first instance of all queues that is still ready, of the world or of this decision.
    fn first(&mut self, queues: &mut Queues<'_>, closed: &BTreeSet<Demand>) -> Option<(Demand, RunIx, NodeIx)> {
        while let Some(Reverse(((_, ix, node), demand))) = self.fresh.peek() {
            if self.is_ready(*ix, *node) && !closed.contains(demand) {
                break;
            }
            self.fresh.pop();
        }
        let mut best = self.fresh.peek().map(|Reverse(first)| *first);
        for (demand, queue) in queues.iter_mut() {
            while let Some((_, ix, node)) = queue.peek().copied() {
                if self.is_ready(*ix, *node) {
                    break;
                }
                queue.next();
            }
            if let Some(key) = queue.peek() {
                best = best.into_iter().chain([(**key, *demand)]).min();
            }
        }
        best.map(|((_, ix, node), demand)| (demand, ix, node))
    }

    fn is_ready(&self, ix: RunIx, node: NodeIx) -> bool {
        matches!(self.run(ix).and_then(|run| run.step(node)), Some(StepState::Ready { .. }))
    }

    /// The agent with the most free slots that has room. Those that this decision touched come first: in a full house
    /// they are the ones where something was just freed.
    fn agent_for(&self, demand: Demand) -> Option<AgentId> {
        let touched = self.agents.iter().filter(|(_, agent)| agent.fits(demand));
        if let Some((id, _)) = touched.min_by_key(|(_, agent)| Reverse(agent.slots_free())) {
            return Some(id.clone());
        }
        let others =
            self.world.agents.iter().filter(|(id, agent)| agent.fits(demand) && !self.agents.contains_key(*id));
        others.min_by_key(|(_, agent)| Reverse(agent.slots_free())).map(|(id, _)| id.clone())
    }

    /// Leases one instance; `false`: it could not be rendered and has ended instead.
    fn lease(&mut self, ix: RunIx, node: NodeIx, agent: AgentId, demand: Demand) -> bool {
        let fence = Fence(self.next_fence);
        let Some(run) = self.run(ix) else { return false };
        let Some(StepState::Ready { attempt, .. }) = run.step(node) else { return false };
        let attempt = *attempt;
        let spec = match render::attempt(run, node, attempt, fence) {
            Ok(spec) => spec,
            Err(cause) => {
                self.fail(ix, node, cause);
                self.settle();
                return false;
            }
        };
        let total = run.definition(node).timeout.total.unwrap_or(TIMEOUT_DEFAULT);
        let deadline = self.now.after(total.saturating_add(LEASE_GRACE));
        let event = RunEvent::AttemptLeased { node, attempt, agent: agent.clone(), fence, deadline };
        if !self.record(ix, event) {
            return false;
        }
        self.next_fence = self.next_fence.saturating_add(1);
        self.agent_mut(&agent).lease(demand);
        self.decision.commands.push(Command::Execute { agent, spec: Arc::new(spec) });
        true
    }
}
