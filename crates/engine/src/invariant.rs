//! What must always hold, as pure functions: shared by property tests, the simulation and whoever wants to be sure.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};

use model::{Decision, Fact, NodeIx, RunEvent, RunId, Timestamp};

use crate::fleet::AgentState;
use crate::run::{RunPhase, RunState};
use crate::step::StepState;
use crate::waiting;
use crate::world::{World, demand};

/// Everything that holds of a world at any time.
///
/// # Errors
/// What does not hold, a sentence.
pub fn all(world: &World, now: Timestamp) -> Result<(), String> {
    no_two_leases(world)?;
    slots_add_up(world)?;
    counts_add_up(world)?;
    indexes_are_needed(world)?;
    everybody_has_a_reason(world, now)
}

/// No two attempts hold the same fencing number, and none a number that is still to be given.
///
/// # Errors
/// Which one, a sentence.
pub fn no_two_leases(world: &World) -> Result<(), String> {
    let mut fences = BTreeSet::new();
    for (run, node, lease) in running(world) {
        if !fences.insert(lease.fence) || lease.fence.0 >= world.next_fence {
            return Err(alloc::format!("fence {} is held twice, last by {}", lease.fence.0, run.name(node)));
        }
    }
    Ok(())
}

/// What agents are said to use is what their leases use.
///
/// # Errors
/// Which agent, a sentence.
pub fn slots_add_up(world: &World) -> Result<(), String> {
    let mut used: BTreeMap<_, AgentState> = BTreeMap::new();
    for (run, node, lease) in running(world) {
        used.entry(lease.agent.clone()).or_default().lease(&demand(run, node));
    }
    for (id, agent) in world.agents() {
        let AgentState { slots_used, cpu_milli_used, memory_used, .. } = used.remove(id).unwrap_or_default();
        let counted = AgentState { slots_used, cpu_milli_used, memory_used, ..agent.clone() };
        if counted != *agent {
            return Err(alloc::format!("agent {id} uses {counted:?}, the world says {agent:?}"));
        }
    }
    if !world.fleet.is_sound() || !used.is_empty() {
        return Err(alloc::format!("the indexes of the agents are not what the agents say; unknown: {used:?}"));
    }
    Ok(())
}

/// A decision never leases more than an agent has. `after`: the world that took it over.
///
/// # Errors
/// Which agent, a sentence.
pub fn slots_never_exceeded(after: &World, decision: &Decision) -> Result<(), String> {
    for fact in &decision.events {
        let RunEvent::AttemptLeased { agent, .. } = &fact.event else { continue };
        let Some(state) = after.agent(agent).filter(|state| !state.silent) else { continue };
        let Some(capacity) = state.capacity else {
            return Err(alloc::format!("agent {agent} is not there and got a lease"));
        };
        let alone = state.slots_used == 1;
        let over = state.cpu_milli_used > u64::from(capacity.cpu_milli) || state.memory_used > capacity.memory;
        if state.slots_used > capacity.slots || (over && !alone) {
            return Err(alloc::format!("agent {agent} has {capacity:?} and uses {state:?}"));
        }
    }
    Ok(())
}

/// The counts that decisions rely on are those of the states.
///
/// # Errors
/// Which one, a sentence.
pub fn counts_add_up(world: &World) -> Result<(), String> {
    world.runs().try_for_each(|run| {
        let open = run.steps().filter(|(_, state)| !state.is_done()).count() as u32;
        if open != run.open() {
            return Err(alloc::format!("run {}: {open} steps are open, it says {}", run.id(), run.open()));
        }
        match run.phase() {
            RunPhase::Ended { .. } if open > 0 => Err(alloc::format!("run {} ended with {open} open", run.id())),
            _ => needs_add_up(run),
        }
    })
}

fn needs_add_up(run: &RunState<'_>) -> Result<(), String> {
    for (node, state) in run.steps() {
        let StepState::Waiting { left } = state else { continue };
        let needs = run.plan().nodes[node.at()].needs.iter();
        let open = needs.filter(|need| match **need {
            model::Need::All(group) => run.plan().instances(group).any(|node| !is_done(run, node)),
            model::Need::One(node) => !is_done(run, node),
        });
        let open = open.count() as u32;
        if open != *left {
            return Err(alloc::format!("`{}` waits for {open}, it says {left}", run.name(node)));
        }
    }
    Ok(())
}

/// Nothing waits without a reason that can be shown.
///
/// # Errors
/// Which instance, a sentence.
pub fn everybody_has_a_reason(world: &World, now: Timestamp) -> Result<(), String> {
    for run in world.runs() {
        let reasons: BTreeMap<NodeIx, String> =
            waiting(world, run.id(), now).into_iter().map(|(node, reason)| (node, reason.text)).collect();
        for (node, state) in run.steps() {
            let waits = !matches!(state, StepState::Running { .. } | StepState::Done { .. });
            let reason = reasons.get(&node).map_or("", String::as_str);
            // A reason that names nothing (`waits for `) would mean that it waits for nothing.
            if waits != reasons.contains_key(&node) || (waits && reason.trim_end().ends_with(" for")) {
                return Err(alloc::format!("`{}` is {} and its reason is {reason:?}", run.name(node), state.word()));
            }
        }
    }
    Ok(())
}

/// Nothing stays in an index that no open run needs.
///
/// # Errors
/// Which index, a sentence.
pub fn indexes_are_needed(world: &World) -> Result<(), String> {
    let is_open = |ix: &u32| world.runs.get(ix).is_some_and(|run| !matches!(run.phase(), RunPhase::Ended { .. }));
    let stale = |what: &str| Err(alloc::format!("an ended run is still in {what}"));
    if !world.timers.iter().all(|(_, ix, _)| is_open(ix)) {
        return stale("the timers");
    }
    if !world.leases.iter().all(|(_, ix, _)| is_open(ix)) {
        return stale("the leases");
    }
    if !world.concurrency.values().flatten().all(is_open) {
        return stale("the concurrency groups");
    }
    let mut keys = world.queue.lanes.values().flat_map(|lane| lane.order()).map(|(_, key, _)| key.2);
    if !keys.all(|ix| is_open(&ix)) {
        return stale("the queue");
    }
    if world.by_id.len() != world.runs.len() {
        return Err("runs and their ids do not agree".to_string());
    }
    Ok(())
}

/// A run ends at most once and nothing happens to it afterwards; a step ends at most once.
///
/// # Errors
/// Which one, a sentence.
pub fn ends_once(facts: &[Fact]) -> Result<(), String> {
    let mut runs: BTreeSet<&RunId> = BTreeSet::new();
    let mut steps = BTreeSet::new();
    for fact in facts {
        if runs.contains(&fact.run) {
            return Err(alloc::format!("run {} goes on after its end: {:?}", fact.run, fact.event));
        }
        match &fact.event {
            RunEvent::Ended { .. } => drop(runs.insert(&fact.run)),
            RunEvent::StepEnded { node, .. } if !steps.insert((&fact.run, *node)) => {
                return Err(alloc::format!("instance {} of run {} ended twice", node.0, fact.run));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Folding the facts into a new world gives the runs of the live one.
///
/// # Errors
/// Which run differs, or which fact is refused, a sentence.
pub fn replay_equals(live: &World, facts: &[Fact]) -> Result<(), String> {
    let mut replayed = World::new();
    facts.iter().try_for_each(|fact| replayed.fold(fact)).map_err(|error| error.to_string())?;
    match replayed.next_fence == live.next_fence {
        true => same_runs(&replayed, live),
        false => Err("replay gives another fencing number".to_string()),
    }
}

/// The runs of two worlds, and all that is looked up by, are the same. Agents are not of the log.
///
/// # Errors
/// What differs, a sentence.
pub fn same_runs(replayed: &World, live: &World) -> Result<(), String> {
    if !replayed.runs().map(RunState::id).eq(live.runs().map(RunState::id)) {
        return Err("replay gives other runs".to_string());
    }
    if let Some((_, run)) = replayed.runs().zip(live.runs()).find(|(replayed, live)| replayed != live) {
        return Err(alloc::format!("run {} is another one after replay", run.id()));
    }
    // Positions differ where ended runs were forgotten; their order does not.
    let counts = |world: &World| {
        let lanes = world.queue.lanes.values().map(|lane| lane.order().count()).sum::<usize>();
        (world.timers.len(), world.leases.len(), world.concurrency.len(), lanes)
    };
    match counts(replayed) == counts(live) {
        true => Ok(()),
        false => Err("replay waits for other things".to_string()),
    }
}

/// Nothing is left of runs that are forgotten.
///
/// # Errors
/// Of what, a sentence.
pub fn is_empty(world: &World) -> Result<(), String> {
    let left = [
        (world.runs.len(), "runs"),
        (world.by_id.len(), "ids"),
        (world.timers.len(), "timers"),
        (world.leases.len(), "leases"),
        (world.concurrency.len(), "concurrency groups"),
        (world.queue.lanes.len(), "lanes"),
    ];
    match left.into_iter().find(|(count, _)| *count > 0) {
        Some((count, what)) => Err(alloc::format!("{count} {what} are left")),
        None => Ok(()),
    }
}

fn running(world: &World) -> impl Iterator<Item = (&RunState<'static>, NodeIx, &crate::Lease)> {
    world.runs().flat_map(|run| {
        run.steps().filter_map(move |(node, state)| match state {
            StepState::Running { lease, .. } => Some((run, node, lease)),
            _ => None,
        })
    })
}

fn is_done(run: &RunState<'_>, node: NodeIx) -> bool {
    run.step(node).is_some_and(StepState::is_done)
}
