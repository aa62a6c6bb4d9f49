//! An ended run is done again: all of it, what failed, or from a step on.

use engine::again::{AgainError, Which, again};
use model::{Fact, RunId, RunNumber};

use super::{Again, Refusal, RunOrder, What};

/// The order for a run that does an ended one again.
pub(super) fn order(facts: &[Fact], which: Again, by: &str) -> Result<RunOrder, Refusal> {
    let is_all = which == Again::All;
    let which = match which {
        Again::All => Which::All,
        Again::Failed => Which::Failed,
        Again::From(step) => Which::From(step),
    };
    let run = RunId::new(access::id());
    // The desk numbers it.
    let engine::again::Again { mut plan, kept } =
        again(facts, &which, run.clone(), RunNumber(0)).map_err(|error| refusal(&error))?;
    if is_all {
        plan.context.selection.no_cache = true;
        plan.nodes.iter_mut().for_each(|node| node.fresh = true);
    }
    plan.context.terms.by = by.into();
    let project = plan.context.terms.project.clone();
    let project = project.ok_or_else(|| Refusal::Unavailable("the run belongs to no project".into()))?;
    Ok(RunOrder { run, project, what: What::Again(Box::new(plan), kept) })
}

fn refusal(error: &AgainError) -> Refusal {
    match error {
        AgainError::Damaged(_) => Refusal::Unavailable(error.to_string()),
        AgainError::NotEnded | AgainError::NothingFailed => Refusal::Conflict(error.to_string()),
        AgainError::UnknownStep(_) => Refusal::NotFound(error.to_string()),
    }
}
