//! The world: all runs and agents, and indexes so that no decision searches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;
use core::time::Duration;

use model::{AgentId, Decision, Fact, Input, NodeIx, ProjectId, RunEvent, RunId, SlaBound, Timestamp};

use crate::fleet::{AgentState, Fleet, speaker};
use crate::queue::{Demand, Payer, Queue, QueueKey};
use crate::run::{Bounds, RunPhase, RunState};
use crate::step::StepState;

/// Position of a run in the world, in the order of their requests.
pub(crate) type RunIx = u32;

/// Something of a run that happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A retry may begin, a lease runs out, or an approval expires.
    Step(NodeIx),
    /// A bound of `sla` is missed.
    Bound(SlaBound),
}

/// A concurrency group: the project, and the group's name in it.
pub(crate) type GroupKey = (Option<ProjectId>, Arc<str>);

/// All that is true now. It changes by facts alone, but for agents, who come and go.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) runs: BTreeMap<RunIx, RunState<'static>>,
    pub(crate) by_id: BTreeMap<RunId, RunIx>,
    pub(crate) fleet: Fleet,
    /// Ready instances.
    pub(crate) queue: Queue,
    pub(crate) timers: BTreeSet<(Timestamp, RunIx, Timer)>,
    /// Leases by agent.
    pub(crate) leases: BTreeSet<(AgentId, RunIx, NodeIx)>,
    /// Runs of a concurrency group that have not ended and are not held.
    pub(crate) concurrency: BTreeMap<GroupKey, BTreeSet<RunIx>>,
    /// How long the leases of an agent last without a word of it. `None`: as long as their attempts may.
    pub(crate) lease_ttl: Option<Duration>,
    /// The latest time that was heard of.
    pub(crate) clock: Timestamp,
    pub(crate) next_run: RunIx,
    pub(crate) next_fence: u64,
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

    /// No runs, no agents. An agent that is not heard of for `ttl` loses what it leased: what a server wants, whose agents
    /// are elsewhere.
    pub fn with_leases_of(ttl: Duration) -> World {
        World { lease_ttl: Some(ttl), ..World::new() }
    }

    /// After the log was folded: whoever holds a lease gets a fresh time to live to come back with
    /// [`Input::AgentBack`].
    pub fn resume(&mut self, now: Timestamp) {
        let until = self.lease_ttl.map(|ttl| now.after(ttl));
        let ids: Vec<AgentId> = self.fleet.agents.keys().cloned().collect();
        for id in ids {
            self.change_agent(&id, |state| state.alive_until = until);
        }
        self.clock = now;
    }

    /// Takes over a decision: its facts, and who the agents are (which is no fact of a run).
    ///
    /// # Errors
    /// A fact that cannot happen here: the decision was made over another world.
    pub fn take(&mut self, input: &Input, decision: &Decision) -> Result<(), IllegalEvent> {
        self.heard(input, decision.at);
        decision.events.iter().try_for_each(|fact| self.fold(fact))
    }

    /// Remembers what is no fact of a run: which agents are there, and until when. For loops that fold fact by fact; call it
    /// once after each `decide` with the same time, before or after folding, or leave both to [`World::take`].
    pub fn heard(&mut self, input: &Input, now: Timestamp) {
        let until = self.lease_ttl.map(|ttl| now.after(ttl));
        if let Some(ttl) = self.lease_ttl
            && now < self.clock
        {
            self.fleet.shorten(now, ttl);
        }
        self.clock = now;
        if let Some(agent) = speaker(input) {
            self.change_agent(agent, |state| state.hear(input, until));
        } else if let (Input::Tick, Some(ttl)) = (input, self.lease_ttl) {
            let due: Vec<_> = self.fleet.silent_by(now).cloned().collect();
            for (at, agent) in due {
                self.change_agent(&agent, |state| match is_overslept(at, now, ttl) {
                    true => state.alive_until = until,
                    false => state.fall_silent(),
                });
            }
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
        if let RunEvent::Prioritised { .. } = &fact.event {
            return self.requeue(ix, fact);
        }
        let node = event_node(&fact.event);
        let before = node.and_then(|node| Place::of(run, ix, node));
        let bounds = run.head.bounds;
        if run.apply(fact.at, &fact.event, &mut |_| {}).is_none() {
            return Err(illegal(describe(run, &fact.event)));
        }
        let after = node.and_then(|node| Place::of(run, ix, node));
        let bounds = (bounds, run.head.bounds);
        self.index_bounds(ix, bounds.0, bounds.1);
        self.index_run(ix, &fact.event);
        self.index_step(ix, before, after);
        Ok(())
    }

    /// When something happens by itself: then [`Input::Tick`] is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, ..)| *at);
        timer.into_iter().chain(self.fleet.next_silence()).min()
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
        self.fleet.agent(id)
    }

    /// All agents that are there or hold a lease.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &AgentState)> {
        self.fleet.agents.iter()
    }

    /// Drops a run that has ended; answers whether there was one. Its facts are in the log. From then on nobody here knows
    /// that it was: who asks for it again is told by whoever keeps the log.
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
        if let Some(group) = group_of(&run).filter(|_| run.phase() != RunPhase::Held) {
            self.concurrency.entry(group).or_default().insert(ix);
        }
        self.index_bounds(ix, Bounds::default(), run.head.bounds);
        self.by_id.insert(fact.run.clone(), ix);
        self.runs.insert(ix, run);
        Ok(())
    }

    fn index_run(&mut self, ix: RunIx, event: &RunEvent) {
        match event {
            RunEvent::AttemptLeased { fence, .. } => self.next_fence = self.next_fence.max(fence.0.saturating_add(1)),
            RunEvent::Released { .. } => {
                if let Some(group) = self.runs.get(&ix).and_then(group_of) {
                    self.concurrency.entry(group).or_default().insert(ix);
                }
            }
            RunEvent::Ended { .. } => {
                if let Some(group) = self.runs.get(&ix).and_then(group_of)
                    && let Some(members) = self.concurrency.get_mut(&group)
                {
                    members.remove(&ix);
                    if members.is_empty() {
                        self.concurrency.remove(&group);
                    }
                }
            }
            _ => {}
        }
    }

    /// Its ready instances take their new places.
    fn requeue(&mut self, ix: RunIx, fact: &Fact) -> Result<(), IllegalEvent> {
        let Some(run) = self.runs.get_mut(&ix) else { return Ok(()) };
        let places = |run: &RunState<'_>| -> Vec<Place> {
            let ready = run.steps().filter(|(_, state)| matches!(state, StepState::Ready { .. }));
            ready.filter_map(|(node, _)| Place::of(run, ix, node)).collect()
        };
        let before = places(run);
        if run.apply(fact.at, &fact.event, &mut |_| {}).is_none() {
            return Err(IllegalEvent { run: fact.run.clone(), what: describe(run, &fact.event) });
        }
        let after = places(run);
        before.into_iter().for_each(|place| self.unindex(ix, place));
        after.into_iter().for_each(|place| self.index(ix, place));
        Ok(())
    }

    fn index_bounds(&mut self, ix: RunIx, before: Bounds, after: Bounds) {
        if before != after {
            for (at, bound) in before.all() {
                self.timers.remove(&(at, ix, Timer::Bound(bound)));
            }
            self.timers.extend(after.all().map(|(at, bound)| (at, ix, Timer::Bound(bound))));
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
            Place::Ready(demand, payer, key) => self.queue.remove(&demand, &payer, &key),
            Place::Timed(at, node) => {
                self.timers.remove(&(at, ix, Timer::Step(node)));
            }
            Place::Running(at, node, agent, demand, payer) => {
                self.timers.remove(&(at, ix, Timer::Step(node)));
                self.queue.release(&payer);
                self.change_agent(&agent, |state| state.release(&demand));
                self.leases.remove(&(agent, ix, node));
            }
        }
    }

    fn index(&mut self, ix: RunIx, place: Place) {
        match place {
            Place::Ready(demand, payer, key) => self.queue.insert(&demand, &payer, key),
            Place::Timed(at, node) => {
                self.timers.insert((at, ix, Timer::Step(node)));
            }
            Place::Running(at, node, agent, demand, payer) => {
                self.timers.insert((at, ix, Timer::Step(node)));
                self.queue.lease(&payer);
                self.change_agent(&agent, |state| state.lease(&demand));
                self.leases.insert((agent, ix, node));
            }
        }
    }

    /// Changes an agent; one that is neither there nor busy is dropped.
    fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut AgentState)) {
        self.fleet.change(id, AgentState::default, |state| {
            change(state);
            // Of an agent that only its leases tell of nothing is left to wait for when they are gone.
            if state.capacity.is_none() && state.slots_used == 0 {
                (state.alive_until, state.silent) = (None, false);
            }
        });
        self.fleet.drop_if_gone(id);
    }
}

/// Nobody looked for so long after the agent's leases ran out that its word may well be on the way: the server slept, or
/// its clock jumped.
pub(crate) fn is_overslept(ran_out: Timestamp, now: Timestamp, ttl: Duration) -> bool {
    now.since(ran_out) > ttl
}

/// Where the indexes know an instance.
enum Place {
    Ready(Demand, Payer, QueueKey),
    Timed(Timestamp, NodeIx),
    Running(Timestamp, NodeIx, AgentId, Demand, Payer),
}

impl Place {
    fn of(run: &RunState<'_>, ix: RunIx, node: NodeIx) -> Option<Place> {
        let payer = || run.head.payer.clone();
        match run.step(node)? {
            StepState::Ready { .. } => Some(Place::Ready(demand(run, node), payer(), queue_key(run, ix, node))),
            StepState::Backoff { not_before: at, .. } | StepState::Asking { expires: at, .. } => {
                Some(Place::Timed(*at, node))
            }
            StepState::Running { lease, .. } => {
                Some(Place::Running(lease.deadline, node, lease.agent.clone(), demand(run, node), payer()))
            }
            _ => None,
        }
    }
}

pub(crate) fn queue_key(run: &RunState<'_>, ix: RunIx, node: NodeIx) -> QueueKey {
    (run.head.due, Reverse(run.plan().nodes[node.at()].rank), ix, node)
}

/// The concurrency group of a run: groups of different projects have nothing to do with each other.
pub(crate) fn group_of(run: &RunState<'_>) -> Option<GroupKey> {
    let (group, _) = run.plan().concurrency.as_ref()?;
    Some((run.plan().context.terms.project.clone(), group.as_str().into()))
}

/// What an instance asks for.
pub(crate) fn demand(run: &RunState<'_>, node: NodeIx) -> Demand {
    let resources = &run.definition(node).resources;
    // Bounded so that sums of them cannot overflow: 16 PiB are more than any machine has.
    let memory = resources.memory.map_or(0, |bytes| bytes.0).min(1 << 54);
    // A desk has one agent, and a pipeline that runs on the server runs there, too.
    let is_served = run.plan().context.terms.project.is_some();
    let labels = run.plan().nodes[node.at()].runs_on.clone().filter(|_| is_served);
    Demand { cpu_milli: resources.cpu_milli.unwrap_or(0), memory, labels }
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
