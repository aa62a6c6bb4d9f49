//! Why a step waits, in words that a person understands.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use model::units::show_duration;
use model::{Need, NodeIx, Reason, RunId, StepKind, Timestamp};

use crate::queue::{Demand, QueueKey};
use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::world::{World, demand, group_of};

/// Names that a reason lists before it only counts.
const NAMES_MAX: usize = 3;

/// A reason for every instance of a run that is not running and not done.
pub fn waiting(world: &World, run: &RunId, now: Timestamp) -> Vec<(NodeIx, Reason)> {
    let Some(run) = world.run(run) else { return Vec::new() };
    let before_start = match run.phase() {
        RunPhase::Held => Some(why_held(run)),
        RunPhase::Queued => Some(why_queued(world, run)),
        RunPhase::Started { .. } | RunPhase::Ended { .. } => None,
    };
    let mut line = Line { world, busy: None, lanes: BTreeMap::new() };
    let mut reasons = Vec::new();
    for (node, state) in run.steps() {
        let text = match (&before_start, state) {
            (_, StepState::Done { .. } | StepState::Running { .. }) => continue,
            (Some(why), _) => why.clone(),
            (None, StepState::Waiting { .. }) => why_waiting(run, node, now),
            (None, StepState::Kept { .. }) => "waits for its kept result to be taken over".to_string(),
            (None, StepState::Asking { by, message, expires, .. }) => why_asking(by, message, expires.since(now)),
            (None, StepState::Ready { .. }) => line.why_ready(run, node),
            (None, StepState::Backoff { attempt, not_before, cause }) => alloc::format!(
                "waits {} before attempt {attempt} of {} ({cause})",
                show_duration(not_before.since(now)),
                run.definition(node).retry.attempts
            ),
            (None, StepState::Reported { .. }) => why_reported(run, node),
            (None, StepState::Growing { left }) => why_growing(run, node, *left, now),
        };
        reasons.push((node, Reason { run: Some(run.id().clone()), node: Some(node), text }));
    }
    reasons
}

fn why_held(run: &RunState<'_>) -> String {
    match run.plan().context.terms.held.as_deref() {
        None | Some("") => "waits for somebody to let the run go".to_string(),
        Some(why) => alloc::format!("waits for somebody to let the run go: {why}"),
    }
}

fn why_queued(world: &World, run: &RunState<'_>) -> String {
    let Some(key) = group_of(run) else { return "waits for the run to start".to_string() };
    let members = world.concurrency.get(&key).into_iter().flatten();
    let others: Vec<&RunState<'_>> =
        members.filter_map(|ix| world.runs.get(ix)).filter(|other| other.id() != run.id()).collect();
    let group = &key.1;
    let is_running = |run: &&&RunState<'_>| matches!(run.phase(), RunPhase::Started { .. });
    let Some(holder) = others.iter().find(is_running).or(others.first()) else {
        return alloc::format!("waits for concurrency group `{group}`");
    };
    let is_before = |other: &&&RunState<'_>| other.phase() == RunPhase::Queued && other.head.due < run.head.due;
    let text = alloc::format!("waits for concurrency group `{group}`, held by run {}", holder.number());
    match others.iter().filter(is_before).count() {
        0 => text,
        1 => alloc::format!("{text}, with 1 run before it"),
        count => alloc::format!("{text}, with {count} runs before it"),
    }
}

fn why_asking(by: &[String], message: &str, left: Duration) -> String {
    let by = by.join(" or ");
    let asked = if message.is_empty() { String::new() } else { alloc::format!(": {message}") };
    alloc::format!("waits {} for {by} to say yes{asked}", show_duration(left))
}

fn why_waiting(run: &RunState<'_>, node: NodeIx, now: Timestamp) -> String {
    let mut left = 0;
    let mut names = Vec::new();
    for need in run.plan().nodes[node.at()].needs.iter() {
        let (open, name) = match *need {
            Need::All(group) => (
                run.group(group).is_some_and(|group| group.open > 0),
                run.plan().groups[group.at()].step.id.to_string(),
            ),
            Need::One(node) => (run.step(node).is_some_and(|step| !step.is_done()), run.name(node).to_string()),
        };
        if open {
            left += 1;
            if names.len() < NAMES_MAX {
                names.push(alloc::format!("`{name}` ({})", standing(run, need, now)));
            }
        }
    }
    alloc::format!("waits for {}", list(&names, left))
}

/// How it stands with something that is needed: `running 12s`, `3 of 8 done`.
fn standing(run: &RunState<'_>, need: &Need, now: Timestamp) -> String {
    let node = match *need {
        Need::One(node) => node,
        Need::All(group) => {
            let definition = &run.plan().groups[group.at()];
            let open = run.group(group).map_or(0, |group| group.open);
            if definition.count > 1 {
                return alloc::format!("{} of {} done", definition.count - open, definition.count);
            }
            definition.first
        }
    };
    match run.step(node) {
        Some(StepState::Running { lease, .. }) => {
            alloc::format!("running {}", show_duration(now.since(lease.since)))
        }
        Some(state) => state.word().to_string(),
        None => String::new(),
    }
}

fn list(names: &[String], all: usize) -> String {
    let shown = names.join(", ");
    match all.saturating_sub(names.len()) {
        0 => shown,
        more => alloc::format!("{shown} and {more} more"),
    }
}

/// Which steps hold slots, some by name.
struct Busy {
    names: Vec<String>,
    used: usize,
    slots: u64,
}

impl Busy {
    fn of(world: &World) -> Busy {
        let names = world.leases.iter().take(NAMES_MAX).filter_map(|(_, ix, node)| {
            let run = world.runs.get(ix)?;
            Some(alloc::format!("`{}`", run.name(*node)))
        });
        let capacities = world.agents().filter(|(_, agent)| !agent.silent).filter_map(|(_, agent)| agent.capacity);
        Busy {
            names: names.collect(),
            used: world.leases.len(),
            slots: capacities.map(|capacity| u64::from(capacity.slots)).sum(),
        }
    }
}

/// What is asked once for all instances of a run.
struct Line<'w> {
    world: &'w World,
    busy: Option<Busy>,
    lanes: BTreeMap<Demand, Place<'w>>,
}

/// A lane as one payer sees it.
struct Place<'w> {
    /// The instances of this payer.
    own: Vec<&'w QueueKey>,
    /// Instances of others, and how many others.
    others: (usize, usize),
    /// Why no agent that is known can ever take it.
    never: Option<String>,
}

impl<'w> Line<'w> {
    fn why_ready(&mut self, run: &RunState<'_>, node: NodeIx) -> String {
        let (world, demand) = (self.world, demand(run, node));
        let busy = self.busy.get_or_insert_with(|| Busy::of(world));
        let place = self.lanes.entry(demand.clone()).or_insert_with(|| Place::of(world, run, &demand));
        let Busy { names, used, slots } = busy;
        if let Some(never) = &place.never {
            return never.clone();
        }
        let text = match (*slots, world.fleet.free_slots) {
            (0, _) => "waits for an agent: none is there".to_string(),
            (_, 0) => alloc::format!("waits for a free slot: {used} of {slots} busy with {}", list(names, *used)),
            _ => alloc::format!("waits for {}, now used by {}", show_demand(&demand), list(names, *used)),
        };
        // On a desk there is one run, and its own order is the order of its steps.
        match run.plan().context.terms.project {
            Some(_) => text + &place.show(run, node),
            None => text,
        }
    }
}

impl<'w> Place<'w> {
    fn of(world: &'w World, run: &RunState<'_>, demand: &Demand) -> Place<'w> {
        let lane = world.queue.lanes.get(demand);
        let own = lane.and_then(|lane| lane.of(&run.head.payer));
        let before = lane.map_or((0, 0), |lane| {
            let used = world.queue.used(&run.head.payer);
            let first = lane.order().take_while(|(other, ..)| *other < used).map(|(.., payer)| payer);
            first.fold((0, 0), |(steps, payers), payer| {
                (steps + lane.of(payer).map_or(0, |queue| queue.len()), payers + 1)
            })
        });
        let own = own.into_iter().flatten().collect();
        Place { own, others: before, never: never(world, demand) }
    }

    /// `; 3 steps go before it`, and whose.
    fn show(&self, run: &RunState<'_>, node: NodeIx) -> String {
        let before = self.own.partition_point(|(due, rank, _, at)| {
            (*due, *rank, *at) < (run.head.due, Reverse(run.plan().nodes[node.at()].rank), node)
        });
        let mut text = match before {
            0 => String::new(),
            1 => "; 1 step goes before it".to_string(),
            _ => alloc::format!("; {before} steps go before it"),
        };
        if let (steps @ 1.., payers) = self.others {
            let of = if payers == 1 { "another tenant that uses" } else { "other tenants that use" };
            text += &alloc::format!("; {steps} of {of} less go first");
        }
        match run.priority() {
            0 => text,
            priority => text + &alloc::format!("; its priority is {priority}"),
        }
    }
}

/// Why no agent that is known can ever take it: nobody has all the labels.
fn never(world: &World, demand: &Demand) -> Option<String> {
    let labels = demand.labels.as_deref()?;
    let known = || world.agents().filter(|(_, agent)| agent.capacity.is_some());
    let shown = |labels: &[&str]| -> String {
        let quoted: Vec<String> = labels.iter().map(|label| alloc::format!("`{label}`")).collect();
        quoted.join(", ")
    };
    let all: Vec<&str> = labels.iter().map(|label| &**label).collect();
    let able: Vec<_> = known().filter(|(_, agent)| agent.has(labels)).collect();
    let there = able.iter().any(|(_, agent)| !agent.paused && !agent.away && !agent.silent);
    match (known().next(), able.first()) {
        (None, _) => Some(alloc::format!("waits for an agent with {}: none is there", shown(&all))),
        (Some(_), None) => {
            let missing: Vec<&str> =
                all.iter().copied().filter(|label| !known().any(|(_, agent)| agent.labels.contains(*label))).collect();
            Some(match missing.is_empty() {
                true => alloc::format!("waits for an agent with {}: no agent has all of them", shown(&all)),
                false => alloc::format!("waits for an agent with {}: no agent has {}", shown(&all), shown(&missing)),
            })
        }
        (Some(_), Some((id, agent))) if !there => {
            let why = if agent.paused { "paused" } else { "not connected" };
            Some(alloc::format!("waits for an agent with {}: {id} is {why}", shown(&all)))
        }
        _ => None,
    }
}

fn show_demand(demand: &Demand) -> String {
    let cpus = alloc::format!("{} CPUs", f64::from(demand.cpu_milli) / 1000.0);
    let memory = alloc::format!("{} of memory", model::Bytes(demand.memory));
    let asked = match (demand.cpu_milli, demand.memory) {
        (0, 0) if demand.labels.is_some() => "a free slot".to_string(),
        (0, 0) => "an agent that is not taken whole".to_string(),
        (_, 0) => cpus,
        (0, _) => memory,
        _ => alloc::format!("{cpus} and {memory}"),
    };
    match demand.labels.as_deref() {
        None => asked,
        Some(labels) => {
            let labels: Vec<String> = labels.iter().map(|label| alloc::format!("`{label}`")).collect();
            alloc::format!("{asked} on an agent with {}", labels.join(", "))
        }
    }
}

fn why_reported(run: &RunState<'_>, node: NodeIx) -> String {
    match &run.definition(node).kind {
        StepKind::Expand(path) => alloc::format!("waits for `{path}` to be read as steps"),
        _ => "waits for what follows from its attempt".to_string(),
    }
}

fn why_growing(run: &RunState<'_>, node: NodeIx, left: u32, now: Timestamp) -> String {
    let made = run.head.graph.made_by(node).flat_map(|group| run.plan().instances(group));
    let open = made.filter(|made| run.step(*made).is_some_and(|state| !state.is_done()));
    let names: Vec<String> = open
        .take(NAMES_MAX)
        .map(|made| alloc::format!("`{}` ({})", run.name(made), standing(run, &Need::One(made), now)))
        .collect();
    alloc::format!("waits for the steps it made: {}", list(&names, left as usize))
}
