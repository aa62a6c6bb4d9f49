//! The draft of a decision: the world as it becomes, and the facts, commands and reasons that lead there.

use alloc::boxed::Box;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BinaryHeap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use model::{AgentId, Decision, Fact, NodeIx, Reason, RunEvent, RunId, Timestamp};

use crate::fleet::{AgentState, Fleet};
use crate::queue::{Demand, Payer, QueueKey};
use crate::run::RunState;
use crate::step::StepState;
use crate::world::{RunIx, World, demand};

/// The world as it becomes.
pub(crate) struct Draft<'w> {
    pub(crate) world: &'w World,
    pub(crate) now: Timestamp,
    /// Boxed, because a map reserves room for eleven at once, and most decisions touch one.
    pub(crate) runs: BTreeMap<RunIx, Box<RunState<'w>>>,
    /// Agents that this decision touched.
    pub(crate) fleet: Fleet,
    /// Slots that payers got or gave back in this decision.
    pub(crate) used: BTreeMap<Payer, i64>,
    pub(crate) next_fence: u64,
    /// Instances that became ready in this decision.
    pub(crate) fresh: BTreeMap<(Demand, Payer), BinaryHeap<Reverse<QueueKey>>>,
    pub(crate) decision: Decision,
    /// Instances whose needs have all ended.
    pub(crate) freed: VecDeque<(RunIx, NodeIx)>,
    /// Runs that failed just now and stop at a failure.
    pub(crate) halted: Vec<RunIx>,
}

impl<'w> Draft<'w> {
    pub(crate) fn over(world: &'w World, now: Timestamp) -> Draft<'w> {
        Draft {
            world,
            now,
            runs: BTreeMap::new(),
            fleet: Fleet::default(),
            used: BTreeMap::new(),
            next_fence: world.next_fence,
            fresh: BTreeMap::new(),
            decision: Decision { at: now, ..Decision::default() },
            freed: VecDeque::new(),
            halted: Vec::new(),
        }
    }

    pub(crate) fn run(&self, ix: RunIx) -> Option<&RunState<'w>> {
        // A run of the world is a `RunState<'static>`, which is one of any shorter life as well.
        self.runs.get(&ix).map(Box::as_ref).or_else(|| self.world.runs.get(&ix))
    }

    /// Makes a fact and applies it; `false`: it cannot happen, which is a fault of this module and shows in the reasons.
    pub(crate) fn record(&mut self, ix: RunIx, event: RunEvent) -> bool {
        let world = self.world;
        let run = match self.runs.entry(ix) {
            Entry::Occupied(run) => run.into_mut(),
            Entry::Vacant(place) => match world.runs.get(&ix) {
                Some(run) => place.insert(Box::new(run.over())),
                None => return false,
            },
        };
        let released = match &event {
            RunEvent::AttemptEnded { node, .. } => match run.step(*node) {
                Some(StepState::Running { lease, .. }) => {
                    Some((lease.agent.clone(), demand(run, *node), run.head.payer.clone()))
                }
                _ => None,
            },
            _ => None,
        };
        let (id, freed) = (run.id().clone(), &mut self.freed);
        if run.apply(self.now, &event, &mut |node| freed.push_back((ix, node))).is_none() {
            debug_assert!(false, "an illegal event was decided: {event:?}");
            self.because(Some(&id), None, alloc::format!("internal: an illegal event was decided: {event:?}"));
            return false;
        }
        if let Some((agent, demand, payer)) = released {
            self.change_agent(&agent, |state| state.release(&demand));
            *self.used.entry(payer).or_default() -= 1;
        }
        self.decision.events.push(Fact { at: self.now, run: id, event });
        true
    }

    pub(crate) fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut AgentState)) {
        let world = self.world;
        self.fleet.change(id, || world.fleet.agent(id).cloned().unwrap_or_default(), change);
    }

    pub(crate) fn because(&mut self, run: Option<&RunId>, node: Option<NodeIx>, text: String) {
        self.decision.because.push(Reason { run: run.cloned(), node, text });
    }
}
