//! Agents: what each offers and uses, who is alive, and indexes by which one with room is found without a search.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use model::{AgentId, Capacity, Input, Labels, Timestamp};

use crate::queue::Demand;

/// What an agent has and how much of it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AgentState {
    /// What it offers; `None` when only its leases are known (on replay, or after it left).
    pub capacity: Option<Capacity>,
    /// What `runs_on` is held against.
    pub labels: Arc<Labels>,
    /// Attempts that it executes.
    pub slots_used: u32,
    /// Thousandths of CPUs they asked for.
    pub cpu_milli_used: u64,
    /// Bytes they asked for.
    pub memory_used: u64,
    /// Somebody paused it, or it drains: it gets nothing new.
    pub paused: bool,
    /// Its connection broke: it gets nothing new until it is back.
    pub away: bool,
    /// It was not heard of until its leases ran out: it gets nothing new until it is heard of again.
    pub silent: bool,
    /// When its leases run out unless it is heard of. `None`: its leases last as long as their attempts may.
    pub alive_until: Option<Timestamp>,
}

impl AgentState {
    /// Slots that are free for new attempts.
    pub fn slots_free(&self) -> u32 {
        match self.capacity {
            Some(capacity) if !self.paused && !self.away && !self.silent => {
                capacity.slots.saturating_sub(self.slots_used)
            }
            _ => 0,
        }
    }

    /// Whether it has all labels that a step asks for.
    pub(crate) fn has(&self, labels: &[Arc<str>]) -> bool {
        labels.iter().all(|label| self.labels.contains(&**label))
    }

    /// Whether a step that asks for this may be leased now. One that asks for more than there is at all gets an idle agent,
    /// and nothing beside it.
    pub(crate) fn fits(&self, demand: &Demand) -> bool {
        let Some(capacity) = self.capacity else { return false };
        self.slots_free() > 0
            && (self.slots_used == 0
                || (self.cpu_milli_used + u64::from(demand.cpu_milli) <= u64::from(capacity.cpu_milli)
                    && self.memory_used.saturating_add(demand.memory) <= capacity.memory))
            && demand.labels.as_deref().is_none_or(|labels| self.has(labels))
    }

    pub(crate) fn lease(&mut self, demand: &Demand) {
        self.slots_used += 1;
        self.cpu_milli_used += u64::from(demand.cpu_milli);
        self.memory_used = self.memory_used.saturating_add(demand.memory);
    }

    pub(crate) fn release(&mut self, demand: &Demand) {
        self.slots_used = self.slots_used.saturating_sub(1);
        self.cpu_milli_used = self.cpu_milli_used.saturating_sub(u64::from(demand.cpu_milli));
        self.memory_used = self.memory_used.saturating_sub(demand.memory);
    }

    /// What an input says about it: no fact of a run, so it is in no log.
    pub(crate) fn hear(&mut self, input: &Input, alive_until: Option<Timestamp>) {
        match input {
            Input::AgentJoined { capacity, labels, .. } | Input::AgentBack { capacity, labels, .. } => {
                self.capacity = Some(*capacity);
                if *self.labels != *labels {
                    self.labels = Arc::new(labels.clone());
                }
                (self.away, self.silent, self.alive_until) = (false, false, alive_until);
            }
            // Of an agent that never said what it offers there is nothing to renew.
            Input::Heartbeat { .. } if self.capacity.is_some() => {
                (self.away, self.silent, self.alive_until) = (false, false, alive_until);
            }
            Input::AgentPaused { paused, .. } => self.paused = *paused,
            Input::AgentAway { .. } => self.away = self.capacity.is_some(),
            Input::AgentLeft { .. } => {
                let AgentState { slots_used, cpu_milli_used, memory_used, .. } = *self;
                *self = AgentState { slots_used, cpu_milli_used, memory_used, ..AgentState::default() };
            }
            _ => {}
        }
    }

    /// Its leases ran out.
    pub(crate) fn fall_silent(&mut self) {
        (self.silent, self.alive_until) = (self.capacity.is_some(), None);
    }
}

/// The agent that an input is about, unless it is about a run.
pub(crate) fn speaker(input: &Input) -> Option<&AgentId> {
    match input {
        Input::AgentJoined { agent, .. }
        | Input::AgentBack { agent, .. }
        | Input::Heartbeat { agent, .. }
        | Input::AgentPaused { agent, .. }
        | Input::AgentAway { agent }
        | Input::AgentLeft { agent } => Some(agent),
        _ => None,
    }
}

/// Agents with room, those with the most free slots first.
type Free = BTreeSet<(Reverse<u32>, AgentId)>;

/// All agents of a world, or those that a draft touched.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fleet {
    pub(crate) agents: BTreeMap<AgentId, AgentState>,
    free: Free,
    by_label: BTreeMap<String, Free>,
    /// When agents fall silent.
    silences: BTreeSet<(Timestamp, AgentId)>,
    /// Free slots of all, so that a full house is seen at once.
    pub(crate) free_slots: u64,
}

impl Fleet {
    pub(crate) fn agent(&self, id: &AgentId) -> Option<&AgentState> {
        self.agents.get(id)
    }

    /// Changes an agent and keeps the indexes. One that is not known starts from `known`.
    pub(crate) fn change(
        &mut self,
        id: &AgentId,
        known: impl FnOnce() -> AgentState,
        change: impl FnOnce(&mut AgentState),
    ) {
        if !self.agents.contains_key(id) {
            let known = known();
            self.index(id, &known);
            self.agents.insert(id.clone(), known);
        }
        let Some(state) = self.agents.get(id) else { return };
        let (before, mut after) = (state.clone(), state.clone());
        change(&mut after);
        if before.slots_free() != after.slots_free() || before.labels != after.labels {
            self.unindex(id, &before);
            self.index(id, &after);
        }
        if before.alive_until != after.alive_until {
            before.alive_until.map(|at| self.silences.remove(&(at, id.clone())));
            after.alive_until.map(|at| self.silences.insert((at, id.clone())));
        }
        self.agents.insert(id.clone(), after);
    }

    /// Drops an agent that is neither there nor busy.
    pub(crate) fn drop_if_gone(&mut self, id: &AgentId) {
        if self.agents.get(id).is_some_and(|state| *state == AgentState::default()) {
            self.agents.remove(id);
        }
    }

    /// The agent with the most free slots that can take it, and for which `wanted` holds.
    pub(crate) fn with_room(&self, demand: &Demand, wanted: impl Fn(&AgentId) -> bool) -> Option<&AgentId> {
        let candidates = match demand.labels.as_deref() {
            None => &self.free,
            // The rarest label leaves the fewest to look at.
            Some(labels) => {
                let sets: Option<Vec<&Free>> = labels.iter().map(|label| self.by_label.get(&**label)).collect();
                sets?.into_iter().min_by_key(|free| free.len())?
            }
        };
        let fits = |id: &&AgentId| wanted(id) && self.agents.get(*id).is_some_and(|agent| agent.fits(demand));
        candidates.iter().map(|(_, id)| id).find(fits)
    }

    /// When the next agent falls silent.
    pub(crate) fn next_silence(&self) -> Option<Timestamp> {
        self.silences.first().map(|(at, _)| *at)
    }

    /// Agents whose leases have run out by now, and since when.
    pub(crate) fn silent_by(&self, now: Timestamp) -> impl Iterator<Item = &(Timestamp, AgentId)> {
        self.silences.iter().take_while(move |(at, _)| *at <= now)
    }

    /// No agent has longer than `ttl` from now on: the clock went back.
    pub(crate) fn shorten(&mut self, now: Timestamp, ttl: Duration) {
        let until = now.after(ttl);
        let later: Vec<AgentId> =
            self.silences.iter().filter(|(at, _)| *at > until).map(|(_, id)| id.clone()).collect();
        for id in later {
            self.change(&id, AgentState::default, |state| state.alive_until = Some(until));
        }
    }

    fn index(&mut self, id: &AgentId, state: &AgentState) {
        let free = state.slots_free();
        self.free_slots += u64::from(free);
        if free > 0 {
            self.free.insert((Reverse(free), id.clone()));
            for label in state.labels.iter() {
                if !self.by_label.contains_key(label) {
                    self.by_label.insert(label.clone(), Free::new());
                }
                self.by_label.get_mut(label).map(|set| set.insert((Reverse(free), id.clone())));
            }
        }
    }

    fn unindex(&mut self, id: &AgentId, state: &AgentState) {
        let free = state.slots_free();
        self.free_slots -= u64::from(free);
        if free > 0 {
            let key = (Reverse(free), id.clone());
            self.free.remove(&key);
            for label in state.labels.iter() {
                let Some(set) = self.by_label.get_mut(label) else { continue };
                set.remove(&key);
                if set.is_empty() {
                    self.by_label.remove(label);
                }
            }
        }
    }

    /// Whether the indexes are what the agents say; for the invariants.
    pub(crate) fn is_sound(&self) -> bool {
        let mut counted = Fleet { agents: self.agents.clone(), ..Fleet::default() };
        for (id, state) in &self.agents {
            counted.index(id, state);
            state.alive_until.map(|at| counted.silences.insert((at, id.clone())));
        }
        counted == *self
    }
}
