//! Doing an ended run again: all of it, what failed, or from a step on. What succeeded and does not depend on what is done
//! again keeps its result without being executed, whatever `cache` says.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use model::{
    AgainOf, AttemptEnd, AttemptResult, CachedFrom, Fact, Kept, NodeIx, Outcome, Plan, RunEvent, RunId, RunNumber,
    Skip, StepKind,
};

use crate::run::{RunPhase, RunState};
use crate::select;
use crate::step::StepState;
use crate::{PlanError, World};

/// Which steps of an ended run are done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that failed, were stopped or did not run because of that, and what depends on them.
    Failed,
    /// This one (a step's id or an instance's name) and what depends on it, without the cache; and what failed.
    From(String),
}

/// A run that does another again: an [`model::Input::RunAgain`].
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// What is to be done. Who asks may still change [`model::RunContext::terms`].
    pub plan: Plan,
    /// Results that are taken over.
    pub kept: Vec<Kept>,
}

/// Why a run cannot be done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgainError {
    /// The facts are not those of one run from its request on.
    Damaged(String),
    /// It goes on.
    NotEnded,
    /// Nothing failed.
    NothingFailed,
    /// A step that does not exist.
    UnknownStep(PlanError),
}

impl fmt::Display for AgainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgainError::Damaged(what) => write!(f, "the facts of the run cannot be read: {what}"),
            AgainError::NotEnded => f.write_str("the run has not ended; cancel it first, or wait"),
            AgainError::NothingFailed => {
                f.write_str("nothing failed in the run; do all of it again, or from a step on")
            }
            AgainError::UnknownStep(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for AgainError {}

/// Makes the plan of a run that does the run of these facts again, and the results that it takes over. `facts`: all of that
/// one run, in their order.
///
/// # Errors
/// It has not ended, or there is nothing to do.
pub fn again(facts: &[Fact], which: &Which, run: RunId, number: RunNumber) -> Result<Again, AgainError> {
    let mut world = World::new();
    facts.iter().try_for_each(|fact| world.fold(fact)).map_err(|illegal| AgainError::Damaged(illegal.what))?;
    let Some(RunEvent::Requested { plan }) = facts.first().map(|fact| &fact.event) else {
        return Err(AgainError::Damaged("the first is not its request".to_string()));
    };
    let Some(old) = world.run(&plan.context.run).filter(|_| world.runs().count() == 1) else {
        return Err(AgainError::Damaged("they are of several runs".to_string()));
    };
    if !matches!(old.phase(), RunPhase::Ended { .. }) {
        return Err(AgainError::NotEnded);
    }
    let mut plan = Plan::clone(plan);
    let redo = redo(&mut plan, old, which)?;
    let of = AgainOf { run: plan.context.run.clone(), number: plan.context.number };
    let kept = kept(&plan, old, facts, &redo, &of);
    plan.context.run = run;
    plan.context.number = number;
    plan.context.terms.again = Some(of);
    plan.context.terms.held = None;
    Ok(Again { plan, kept })
}

/// Which instances are done again; also marks those that must not come from the cache.
fn redo(plan: &mut Plan, old: &RunState<'_>, which: &Which) -> Result<Vec<bool>, AgainError> {
    let all = (0..plan.nodes.len() as u32).map(NodeIx);
    if *which == Which::All {
        return Ok(all.map(|_| true).collect());
    }
    let mut seeds: Vec<NodeIx> = all.filter(|node| has_failed(plan, old, *node)).collect();
    if let Which::From(step) = which {
        let from = select::named(plan, core::slice::from_ref(step)).map_err(AgainError::UnknownStep)?;
        let fresh = select::with_dependants(plan, from.clone());
        plan.nodes.iter_mut().zip(fresh).for_each(|(node, fresh)| node.fresh |= fresh);
        seeds.extend(from);
    }
    if seeds.is_empty() {
        return Err(AgainError::NothingFailed);
    }
    let mut redo = select::with_dependants(plan, seeds.clone());
    // What an `expand` step made is not kept: who needs it has it made again, and with it all that depends on it. An
    // approval holds for what was approved then: who needs it asks again.
    loop {
        let ahead = |node: &NodeIx| {
            let dependants = select::with_dependants(plan, alloc::vec![*node]);
            dependants.iter().zip(&redo).any(|(dependant, redo)| *dependant && *redo)
        };
        let is_made = |node: &NodeIx| matches!(plan.step(*node).kind, StepKind::Expand(_) | StepKind::Approve(_));
        let open = (0..plan.nodes.len() as u32).map(NodeIx).filter(|node| !redo[node.at()]);
        let more: Vec<NodeIx> = open.filter(is_made).filter(ahead).collect();
        if more.is_empty() {
            return Ok(redo);
        }
        for node in more {
            match plan.step(node).kind {
                StepKind::Expand(_) => seeds.push(node),
                _ => redo[node.at()] = true,
            }
        }
        let closed = select::with_dependants(plan, seeds.clone());
        redo.iter_mut().zip(closed).for_each(|(redo, closed)| *redo |= closed);
    }
}

/// It failed, or did not run because something did.
fn has_failed(plan: &Plan, old: &RunState<'_>, node: NodeIx) -> bool {
    // A template use ends as its steps did.
    if matches!(plan.step(node).kind, StepKind::Group) {
        return false;
    }
    match old.step(node) {
        Some(StepState::Done { outcome, blocked, .. }) => match outcome {
            Outcome::Succeeded { .. } | Outcome::Failed { allowed: true, .. } => false,
            Outcome::Failed { .. } | Outcome::Cancelled => true,
            Outcome::Skipped(Skip::DependencyFailed(_) | Skip::RunFailed(_)) => true,
            Outcome::Skipped(_) => *blocked,
        },
        _ => true,
    }
}

fn kept(plan: &Plan, old: &RunState<'_>, facts: &[Fact], redo: &[bool], of: &AgainOf) -> Vec<Kept> {
    let results = results(facts, of);
    let nodes = (0..plan.nodes.len() as u32).map(NodeIx).filter(|node| !redo[node.at()]);
    let keeps = nodes.filter_map(|node| {
        let Some(StepState::Done { outcome, values, .. }) = old.step(node) else { return None };
        if !outcome.lets_pass() || matches!(plan.step(node).kind, StepKind::Group) {
            return None;
        }
        // An approval has no attempt; its answer is in its values.
        let (from, result) = results.get(&node).cloned().unwrap_or_else(|| {
            let from = CachedFrom { run: of.run.clone(), number: of.number, took: core::time::Duration::ZERO };
            (from, Arc::new(AttemptResult::ended(AttemptEnd::Succeeded)))
        });
        let mut result = AttemptResult::clone(&result);
        result.values.clone_from(values);
        // The log is where it was executed.
        (result.tail, result.notes, result.text) = (Vec::new(), Vec::new(), None);
        Some(Kept { node, from, result: Arc::new(result) })
    });
    keeps.collect()
}

/// The last result of every instance, and the run that it comes from.
fn results(facts: &[Fact], of: &AgainOf) -> BTreeMap<NodeIx, (CachedFrom, Arc<AttemptResult>)> {
    let found = facts.iter().filter_map(|fact| match &fact.event {
        RunEvent::AttemptEnded { node, result, .. } => {
            let from = CachedFrom { run: of.run.clone(), number: of.number, took: result.took };
            Some((*node, (result.cached.clone().unwrap_or(from), result.clone())))
        }
        RunEvent::StepKept { node, from, result } => Some((*node, (from.clone(), result.clone()))),
        _ => None,
    });
    found.collect()
}
