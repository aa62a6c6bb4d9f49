//! An ended run is done again: all of it, what failed, or from a step on.

use model::{AgainOf, Fact, Plan, RunEvent, RunId};

use super::{Again, Refusal, RunOrder, What};

/// The order for a run that does an ended one again.
pub(super) fn order(facts: &[Fact], which: Again, by: &str) -> Result<RunOrder, Refusal> {
    let plan = facts.iter().find_map(|fact| match &fact.event {
        RunEvent::Requested { plan } => Some(plan),
        _ => None,
    });
    let plan = plan.ok_or_else(|| Refusal::Unavailable("the run's first fact is not in the log".into()))?;
    if !facts.iter().any(|fact| matches!(fact.event, RunEvent::Ended { .. })) {
        let number = plan.context.number;
        return Err(Refusal::Conflict(format!("run {number} has not ended: cancel it first, or wait")));
    }
    let project = plan.context.terms.project.clone();
    let project = project.ok_or_else(|| Refusal::Unavailable("the run belongs to no project".into()))?;
    let mut new = Plan::clone(plan);
    let context = &mut new.context;
    context.terms.again = Some(AgainOf { run: context.run.clone(), number: context.number });
    context.terms.by = by.into();
    // Who does it again lets it go.
    context.terms.held = None;
    match which {
        Again::All => context.selection.no_cache = true,
        Again::Failed => {}
        Again::From(step) => from(&mut new, &step)?,
    }
    if new.context.selection.no_cache {
        new.nodes.iter_mut().for_each(|node| node.fresh = true);
    }
    let run = RunId::new(access::id());
    Ok(RunOrder { run, project, what: What::Again(Box::new(new), Vec::new()) })
}

/// Marks a step and all that depend on it: these are executed.
fn from(plan: &mut Plan, step: &str) -> Result<(), Refusal> {
    let named = |at: usize| *plan.nodes[at].name == *step || plan.step(model::NodeIx(at as u32)).id.as_str() == step;
    let mut open: Vec<usize> = (0..plan.nodes.len()).filter(|at| named(*at)).collect();
    if open.is_empty() {
        return Err(Refusal::NotFound(format!("the run has no step `{step}`")));
    }
    let mut needed_by = vec![Vec::new(); plan.nodes.len()];
    for at in 0..plan.nodes.len() {
        for need in plan.needed_nodes(model::NodeIx(at as u32)) {
            needed_by[need.at()].push(at);
        }
    }
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut plan.nodes[at].fresh, true) {
            open.extend(&needed_by[at]);
        }
    }
    Ok(())
}
