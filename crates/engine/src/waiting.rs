//! Why a step waits, in words that a person understands.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use model::units::show_duration;
use model::{Need, NodeIx, Reason, RunId, StepKind, Timestamp};

use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::world::{Demand, World, demand};

/// Names that a reason lists before it only counts.
const NAMES_MAX: usize = 3;

/// A reason for every instance of a run that is not running and not done.
pub fn waiting(world: &World, run: &RunId, now: Timestamp) -> Vec<(NodeIx, Reason)> {
    let Some(run) = world.run(run) else { return Vec::new() };
    let queued = (run.phase() == RunPhase::Queued).then(|| why_queued(world, run));
    let mut busy = None;
    let mut reasons = Vec::new();
    for (node, state) in run.steps() {
        let text = match (&queued, state) {
            (_, StepState::Done { .. } | StepState::Running { .. }) => continue,
            (Some(queued), _) => queued.clone(),
            (None, StepState::Waiting { .. }) => why_waiting(run, node, now),
            (None, StepState::Ready { .. }) => {
                why_ready(world, demand(run, node), busy.get_or_insert_with(|| who_is_busy(world)))
            }
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

fn why_queued(world: &World, run: &RunState<'_>) -> String {
    let Some((group, _)) = &run.plan().concurrency else { return "waits for the run to start".to_string() };
    let holder = world.concurrency.get(group.as_str()).and_then(|members| members.first());
    match holder.and_then(|ix| world.runs.get(ix)).filter(|holder| holder.id() != run.id()) {
        Some(holder) => alloc::format!("waits for concurrency group `{group}`, held by run {}", holder.number()),
        None => alloc::format!("waits for concurrency group `{group}`"),
    }
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

fn who_is_busy(world: &World) -> Busy {
    let names = world.leases.iter().take(NAMES_MAX).filter_map(|(_, ix, node)| {
        let run = world.runs.get(ix)?;
        Some(alloc::format!("`{}`", run.name(*node)))
    });
    let capacities = world.agents.values().filter_map(|agent| agent.capacity);
    Busy {
        names: names.collect(),
        used: world.leases.len(),
        slots: capacities.map(|capacity| u64::from(capacity.slots)).sum(),
    }
}

fn why_ready(world: &World, demand: Demand, busy: &Busy) -> String {
    let Busy { names, used, slots } = busy;
    match (*slots, world.free_slots) {
        (0, _) => "waits for an agent: none is there".to_string(),
        (_, 0) => alloc::format!("waits for a free slot: {used} of {slots} busy with {}", list(names, *used)),
        _ => alloc::format!("waits for {}, now used by {}", show_demand(demand), list(names, *used)),
    }
}

fn show_demand(demand: Demand) -> String {
    let cpus = alloc::format!("{} CPUs", f64::from(demand.cpu_milli) / 1000.0);
    let memory = alloc::format!("{} of memory", model::Bytes(demand.memory));
    match (demand.cpu_milli, demand.memory) {
        (0, 0) => "an agent that is not taken whole".to_string(),
        (_, 0) => cpus,
        (0, _) => memory,
        _ => alloc::format!("{cpus} and {memory}"),
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
