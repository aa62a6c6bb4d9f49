//! Handing ready instances to agents, in the order of [`crate::queue`], as far as slots, CPUs, memory and labels go.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::iter::Peekable;

use model::limits::{LEASE_GRACE, TIMEOUT_DEFAULT};
use model::{AgentId, Command, Fence, NodeIx, RunEvent};

use crate::draft::Draft;
use crate::queue::{Demand, Lane, Payer, QueueKey};
use crate::render;
use crate::step::StepState;
use crate::world::RunIx;

/// What is left of the lanes while a decision hands out.
///
/// The world's lanes say who is next as long as a payer was not touched by this decision. Of payers that were touched
/// (they got a slot or gave one back, or something of theirs became ready or ended) the first instance and the slots in
/// use are looked up one by one; these are few.
struct Open<'w> {
    /// A demand that no agent can take now is taken out: leases only take more away, so that nothing changes about it
    /// within one decision.
    lanes: Vec<(Demand, Option<&'w Lane>)>,
    touched: BTreeSet<Payer>,
    /// How far the world's queues of touched payers were taken.
    taken: BTreeMap<(Demand, Payer), Peekable<btree_set::Iter<'w, QueueKey>>>,
}

impl<'w> Draft<'w> {
    /// Leases until nothing that is ready fits anywhere.
    pub(crate) fn hand_out(&mut self) {
        let mut free = self.slots_free();
        if free == 0 || (self.world.queue.lanes.is_empty() && self.fresh.is_empty()) {
            return;
        }
        let mut open = self.open();
        while free > 0 {
            let Some((demand, payer, key)) = self.first(&mut open) else { return };
            let (_, _, ix, node) = key;
            match self.agent_for(&demand) {
                Some(agent) => free -= u64::from(self.lease(ix, node, agent, &demand)),
                None => open.lanes.retain(|(other, _)| *other != demand),
            }
            open.touched.insert(payer);
        }
    }

    fn slots_free(&self) -> u64 {
        let before = |id| self.world.fleet.agent(id).map_or(0, |agent| u64::from(agent.slots_free()));
        let touched = &self.fleet;
        self.world.fleet.free_slots + touched.free_slots - touched.agents.keys().map(before).sum::<u64>()
    }

    fn open(&self) -> Open<'w> {
        let world = self.world;
        let mut lanes: Vec<(Demand, Option<&'w Lane>)> =
            world.queue.lanes.iter().map(|(demand, lane)| (demand.clone(), Some(lane))).collect();
        let mut touched: BTreeSet<Payer> = self.used.keys().cloned().collect();
        for (demand, payer) in self.fresh.keys() {
            touched.insert(payer.clone());
            if !world.queue.lanes.contains_key(demand) && lanes.last().is_none_or(|(last, _)| last != demand) {
                lanes.push((demand.clone(), None));
            }
        }
        Open { lanes, touched, taken: BTreeMap::new() }
    }

    /// The first instance of all lanes that is still ready, of the world or of this decision.
    fn first(&mut self, open: &mut Open<'w>) -> Option<(Demand, Payer, QueueKey)> {
        let mut best: Option<(u32, QueueKey, usize, Payer)> = None;
        for at in 0..open.lanes.len() {
            let (demand, lane) = open.lanes[at].clone();
            let untouched = lane.and_then(|lane| self.untouched(lane, &mut open.touched));
            let payers: Vec<Payer> = open.touched.iter().cloned().collect();
            let touched = payers.into_iter().filter_map(|payer| {
                let key = self.first_of(&demand, lane, &payer, &mut open.taken)?;
                Some((self.used(&payer), key, payer))
            });
            let first = touched.chain(untouched).min().map(|(used, key, payer)| (used, key, at, payer));
            best = best.into_iter().chain(first).min();
        }
        let (_, key, at, payer) = best?;
        Some((open.lanes[at].0.clone(), payer, key))
    }

    /// Who is next of the payers that this decision did not touch. One whose first instance ended in this decision is
    /// touched, it shows now.
    fn untouched(&self, lane: &Lane, touched: &mut BTreeSet<Payer>) -> Option<(u32, QueueKey, Payer)> {
        for (used, key, payer) in lane.order() {
            if touched.contains(payer) {
                continue;
            }
            if self.is_ready(key.2, key.3) {
                return Some((*used, *key, payer.clone()));
            }
            touched.insert(payer.clone());
        }
        None
    }

    fn first_of(
        &mut self,
        demand: &Demand,
        lane: Option<&'w Lane>,
        payer: &Payer,
        taken: &mut BTreeMap<(Demand, Payer), Peekable<btree_set::Iter<'w, QueueKey>>>,
    ) -> Option<QueueKey> {
        let place = (demand.clone(), payer.clone());
        let mut old = None;
        if let Some(queue) = lane.and_then(|lane| lane.of(payer)) {
            let queue = taken.entry(place.clone()).or_insert_with(|| queue.iter().peekable());
            while queue.next_if(|(_, _, ix, node)| !self.is_ready(*ix, *node)).is_some() {}
            old = queue.peek().map(|key| **key);
        }
        loop {
            let new = self.fresh.get(&place).and_then(BinaryHeap::peek).map(|Reverse(key)| *key);
            match new {
                Some((_, _, ix, node)) if !self.is_ready(ix, node) => {
                    self.fresh.get_mut(&place).and_then(BinaryHeap::pop);
                }
                _ => return old.into_iter().chain(new).min(),
            }
        }
    }

    /// Slots in use by a payer, as they become.
    fn used(&self, payer: &Payer) -> u32 {
        let change = self.used.get(payer).copied().unwrap_or(0);
        u32::try_from(i64::from(self.world.queue.used(payer)) + change).unwrap_or(0)
    }

    fn is_ready(&self, ix: RunIx, node: NodeIx) -> bool {
        matches!(self.run(ix).and_then(|run| run.step(node)), Some(StepState::Ready { .. }))
    }

    /// The agent with the most free slots that has room. Those that this decision touched come first: what they just
    /// ended is what the next step needs, and they have it at hand.
    fn agent_for(&self, demand: &Demand) -> Option<AgentId> {
        let touched = self.fleet.with_room(demand, |_| true);
        let other = || self.world.fleet.with_room(demand, |id| self.fleet.agent(id).is_none());
        touched.or_else(other).cloned()
    }

    /// Leases one instance; `false`: it could not be rendered and has ended instead.
    fn lease(&mut self, ix: RunIx, node: NodeIx, agent: AgentId, demand: &Demand) -> bool {
        let fence = Fence(self.next_fence);
        let Some(run) = self.run(ix) else { return false };
        let Some(StepState::Ready { attempt, .. }) = run.step(node) else { return false };
        let (attempt, payer) = (*attempt, run.head.payer.clone());
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
        self.change_agent(&agent, |state| state.lease(demand));
        *self.used.entry(payer).or_default() += 1;
        self.decision.commands.push(Command::Execute { agent, spec: Arc::new(spec) });
        true
    }
}
