//! The world: all runs and agents, and indexes so that no decision searches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::fmt;

use model::{AgentId, Capacity, Decision, Fact, Input, NodeIx, RunEvent, RunId, Timestamp};

use crate::run::{RunPhase, RunState};
use crate::step::StepState;

/// Position of a run in the world, in the order of their requests.
pub(crate) type RunIx = u32;

/// The order of the queue: the longest way to the end first, then the older run, then the order of the file.
pub(crate) type QueueKey = (Reverse<u64>, RunIx, NodeIx);

/// What a step asks of an agent's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Demand {
    pub(crate) cpu_milli: u32,
    pub(crate) memory: u64,
}

/// All that is true now. It changes by facts alone, but for agents, who come and go.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) runs: BTreeMap<RunIx, RunState<'static>>,
    pub(crate) by_id: BTreeMap<RunId, RunIx>,
    pub(crate) agents: BTreeMap<AgentId, AgentState>,
    /// Ready instances by what they ask for: instances that ask alike fit alike, so one look at the first is enough.
    pub(crate) ready: BTreeMap<Demand, BTreeSet<QueueKey>>,
    /// When a retry may begin, or a lease runs out.
    pub(crate) timers: BTreeSet<(Timestamp, RunIx, NodeIx)>,
    /// Leases by agent.
    pub(crate) leases: BTreeSet<(AgentId, RunIx, NodeIx)>,
    /// Runs of a concurrency group that have not ended.
    pub(crate) concurrency: BTreeMap<Arc<str>, BTreeSet<RunIx>>,
    /// Free slots of all agents, so that a full house is seen at once.
    pub(crate) free_slots: u64,
    pub(crate) next_run: RunIx,
    pub(crate) next_fence: u64,
}

/// What an agent has and how much of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AgentState {
    /// What it offers; `None` when only its leases are known (on replay, or after it left).
    pub capacity: Option<Capacity>,
    /// Attempts that it executes.
    pub slots_used: u32,
    /// Thousandths of CPUs they asked for.
    pub cpu_milli_used: u64,
    /// Bytes they asked for.
    pub memory_used: u64,
}

/// An event that cannot happen in the state it met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllegalEvent {
    /// The run.
    pub run: RunId,
    /// What cannot happen, and why not.
    pub what: String,
}

impl fmt::Display for IllegalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}: {}; the log is damaged or was written by a newer version", self.run, self.what)
    }
}

impl core::error::Error for IllegalEvent {}

impl World {
    /// No runs, no agents.
    pub fn new() -> World {
        World { next_fence: 1, ..World::default() }
    }

    /// Takes over a decision: its facts, and who the agents are (which is no fact of a run).
    ///
    /// # Errors
    /// A fact that cannot happen here: the decision was made over another world.
    pub fn take(&mut self, input: &Input, decision: &Decision) -> Result<(), IllegalEvent> {
        self.heard(input);
        decision.events.iter().try_for_each(|fact| self.fold(fact))
    }

    /// Remembers what is no fact of a run: which agents are there. For loops that fold fact by fact; call it once after
    /// each `decide`, before or after folding, or leave both to [`World::take`].
    pub fn heard(&mut self, input: &Input) {
        match input {
            Input::AgentJoined { agent, capacity, .. } => {
                self.change_agent(agent, |state| state.capacity = Some(*capacity));
            }
            Input::AgentLeft { agent } => self.change_agent(agent, |state| state.capacity = None),
            _ => {}
        }
    }

    /// Takes over one fact, live and on replay alike.
    ///
    /// # Errors
    /// The fact cannot happen in the state it met; then nothing has changed.
    pub fn fold(&mut self, fact: &Fact) -> Result<(), IllegalEvent> {
        if let RunEvent::Requested { plan } = &fact.event {
            return self.open_run(fact, plan);
        }
        let illegal = |what: String| IllegalEvent { run: fact.run.clone(), what };
        let Some(ix) = self.by_id.get(&fact.run).copied() else {
            return Err(illegal(alloc::format!("{} before it was asked for", event_word(&fact.event))));
        };
        let Some(run) = self.runs.get_mut(&ix) else { return Ok(()) };
        let node = event_node(&fact.event);
        let before = node.and_then(|node| Place::of(run, ix, node));
        if run.apply(fact.at, &fact.event, &mut |_| {}).is_none() {
            return Err(illegal(describe(run, &fact.event)));
        }
        let after = node.and_then(|node| Place::of(run, ix, node));
        self.index_run(ix, &fact.event);
        self.index_step(ix, before, after);
        Ok(())
    }

    /// When something happens by itself: then [`Input::Tick`] is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// A run.
    pub fn run(&self, id: &RunId) -> Option<&RunState<'static>> {
        self.runs.get(self.by_id.get(id)?)
    }

    /// All runs, in the order of their requests.
    pub fn runs(&self) -> impl Iterator<Item = &RunState<'static>> {
        self.runs.values()
    }

    /// An agent.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentState> {
        self.agents.get(id)
    }

    /// All agents that are there or hold a lease.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &AgentState)> {
        self.agents.iter()
    }

    /// Drops a run that has ended; answers whether there was one. Its facts are in the log.
    pub fn forget(&mut self, id: &RunId) -> bool {
        let ended = self.run(id).is_some_and(|run| matches!(run.phase(), RunPhase::Ended { .. }));
        if ended && let Some(ix) = self.by_id.remove(id) {
            self.runs.remove(&ix);
        }
        ended
    }

    fn open_run(&mut self, fact: &Fact, plan: &Arc<model::Plan>) -> Result<(), IllegalEvent> {
        let illegal = |what: &str| IllegalEvent { run: fact.run.clone(), what: what.into() };
        if self.by_id.contains_key(&fact.run) || plan.context.run != fact.run {
            return Err(illegal("it was asked for twice"));
        }
        let run = RunState::requested(plan, fact.at).ok_or_else(|| illegal("its plan points outside of itself"))?;
        let ix = self.next_run;
        self.next_run += 1;
        if let Some((group, _)) = &plan.concurrency {
            self.concurrency.entry(group.as_str().into()).or_default().insert(ix);
        }
        self.by_id.insert(fact.run.clone(), ix);
        self.runs.insert(ix, run);
        Ok(())
    }

    fn index_run(&mut self, ix: RunIx, event: &RunEvent) {
        match event {
            RunEvent::AttemptLeased { fence, .. } => self.next_fence = self.next_fence.max(fence.0.saturating_add(1)),
            RunEvent::Ended { .. } => {
                let group = self.runs.get(&ix).and_then(|run| run.plan().concurrency.as_ref());
                if let Some((group, _)) = group
                    && let Some(members) = self.concurrency.get_mut(group.as_str())
                {
                    members.remove(&ix);
                    if members.is_empty() {
                        self.concurrency.remove(group.as_str());
                    }
                }
            }
            _ => {}
        }
    }

    fn index_step(&mut self, ix: RunIx, before: Option<Place>, after: Option<Place>) {
        if let Some(place) = before {
            self.unindex(ix, place);
        }
        if let Some(place) = after {
            self.index(ix, place);
        }
    }

    fn unindex(&mut self, ix: RunIx, place: Place) {
        match place {
            Place::Ready(demand, key) => {
                if let Some(queue) = self.ready.get_mut(&demand) {
                    queue.remove(&key);
                    if queue.is_empty() {
                        self.ready.remove(&demand);
                    }
                }
            }
            Place::Backoff(at, node) => {
                self.timers.remove(&(at, ix, node));
            }
            Place::Running(at, node, agent, demand) => {
                self.timers.remove(&(at, ix, node));
                self.change_agent(&agent, |state| state.release(demand));
                self.leases.remove(&(agent, ix, node));
            }
        }
    }

    fn index(&mut self, ix: RunIx, place: Place) {
        match place {
            Place::Ready(demand, key) => {
                self.ready.entry(demand).or_default().insert(key);
            }
            Place::Backoff(at, node) => {
                self.timers.insert((at, ix, node));
            }
            Place::Running(at, node, agent, demand) => {
                self.timers.insert((at, ix, node));
                self.change_agent(&agent, |state| state.lease(demand));
                self.leases.insert((agent, ix, node));
            }
        }
    }

    /// Changes an agent and keeps the sum of free slots; one that is neither there nor busy is dropped.
    fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut AgentState)) {
        if !self.agents.contains_key(id) {
            self.agents.insert(id.clone(), AgentState::default());
        }
        let Some(state) = self.agents.get_mut(id) else { return };
        let before = state.slots_free();
        change(state);
        self.free_slots = self.free_slots - u64::from(before) + u64::from(state.slots_free());
        if *state == AgentState::default() {
            self.agents.remove(id);
        }
    }
}

impl AgentState {
    /// Slots that are free.
    pub fn slots_free(&self) -> u32 {
        self.capacity.map_or(0, |capacity| capacity.slots.saturating_sub(self.slots_used))
    }

    /// Whether a step that asks for this may be leased now. One that asks for more than there is at all gets an idle agent,
    /// and nothing beside it.
    pub(crate) fn fits(&self, demand: Demand) -> bool {
        let Some(capacity) = self.capacity else { return false };
        self.slots_free() > 0
            && (self.slots_used == 0
                || (self.cpu_milli_used + u64::from(demand.cpu_milli) <= u64::from(capacity.cpu_milli)
                    && self.memory_used.saturating_add(demand.memory) <= capacity.memory))
    }

    pub(crate) fn lease(&mut self, demand: Demand) {
        self.slots_used += 1;
        self.cpu_milli_used += u64::from(demand.cpu_milli);
        self.memory_used = self.memory_used.saturating_add(demand.memory);
    }

    pub(crate) fn release(&mut self, demand: Demand) {
        self.slots_used = self.slots_used.saturating_sub(1);
        self.cpu_milli_used = self.cpu_milli_used.saturating_sub(u64::from(demand.cpu_milli));
        self.memory_used = self.memory_used.saturating_sub(demand.memory);
    }
}

/// Where the indexes know an instance.
enum Place {
    Ready(Demand, QueueKey),
    Backoff(Timestamp, NodeIx),
    Running(Timestamp, NodeIx, AgentId, Demand),
}

impl Place {
    fn of(run: &RunState<'_>, ix: RunIx, node: NodeIx) -> Option<Place> {
        match run.step(node)? {
            StepState::Ready { .. } => Some(Place::Ready(demand(run, node), queue_key(run, ix, node))),
            StepState::Backoff { not_before, .. } => Some(Place::Backoff(*not_before, node)),
            StepState::Running { lease, .. } => {
                Some(Place::Running(lease.deadline, node, lease.agent.clone(), demand(run, node)))
            }
            _ => None,
        }
    }
}

pub(crate) fn queue_key(run: &RunState<'_>, ix: RunIx, node: NodeIx) -> QueueKey {
    (Reverse(run.plan().nodes[node.at()].rank), ix, node)
}

/// What an instance asks for.
pub(crate) fn demand(run: &RunState<'_>, node: NodeIx) -> Demand {
    let resources = &run.definition(node).resources;
    // Bounded so that sums of them cannot overflow: 16 PiB are more than any machine has.
    let memory = resources.memory.map_or(0, |bytes| bytes.0).min(1 << 54);
    Demand { cpu_milli: resources.cpu_milli.unwrap_or(0), memory }
}

pub(crate) fn event_node(event: &RunEvent) -> Option<NodeIx> {
    match event {
        RunEvent::StepReady { node }
        | RunEvent::AttemptLeased { node, .. }
        | RunEvent::AttemptEnded { node, .. }
        | RunEvent::RetryPlanned { node, .. }
        | RunEvent::StepKept { node, .. }
        | RunEvent::LeaseExtended { node, .. }
        | RunEvent::Expanded { node, .. }
        | RunEvent::ApprovalOpened { node, .. }
        | RunEvent::ApprovalGiven { node, .. }
        | RunEvent::StepEnded { node, .. } => Some(*node),
        RunEvent::Requested { .. }
        | RunEvent::Released { .. }
        | RunEvent::Prioritised { .. }
        | RunEvent::Started
        | RunEvent::SlaMissed { .. }
        | RunEvent::CancelRequested { .. }
        | RunEvent::Ended { .. } => None,
    }
}

pub(crate) fn event_word(event: &RunEvent) -> &'static str {
    match event {
        RunEvent::Requested { .. } => "asked for",
        RunEvent::Released { .. } => "let go",
        RunEvent::Prioritised { .. } => "prioritised",
        RunEvent::Started => "started",
        RunEvent::SlaMissed { .. } => "late",
        RunEvent::StepKept { .. } => "step kept",
        RunEvent::LeaseExtended { .. } => "lease extended",
        RunEvent::ApprovalOpened { .. } => "approval opened",
        RunEvent::ApprovalGiven { .. } => "approval given",
        RunEvent::StepReady { .. } => "step ready",
        RunEvent::AttemptLeased { .. } => "attempt leased",
        RunEvent::AttemptEnded { .. } => "attempt ended",
        RunEvent::RetryPlanned { .. } => "retry planned",
        RunEvent::Expanded { .. } => "expanded",
        RunEvent::StepEnded { .. } => "step ended",
        RunEvent::CancelRequested { .. } => "cancelled",
        RunEvent::Ended { .. } => "ended",
    }
}

fn describe(run: &RunState<'_>, event: &RunEvent) -> String {
    let word = event_word(event);
    match event_node(event).map(|node| (node, run.step(node))) {
        None => alloc::format!("`{word}` cannot happen to a run that is {:?}", run.phase()),
        Some((node, None)) => alloc::format!("`{word}` names instance {}, which is not in the plan", node.0),
        Some((node, Some(state))) => {
            alloc::format!("`{word}` cannot happen to `{}`, which is {}", run.name(node), state.word())
        }
    }
}
