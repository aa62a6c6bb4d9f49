//! A stored layer that turns out to be damaged is made again by executing its step; no run fails for it.

use std::sync::Arc;
use std::time::Instant;

use model::{AttemptEnd, AttemptResult, NodeIx, Work};

use crate::Shared;
use crate::attempt::perform;
use crate::halt::{Halt, trouble};
use crate::report::Feed;
use crate::run::{Run, lock};
use crate::supervise::Stopper;

/// How often layers of one attempt's stack may turn out to be damaged before the store is given up.
const REMAKES_MAX: usize = 100;

/// Tries again after what was stored and damaged has been made again.
pub(crate) fn with_remakes(
    agent: &Shared,
    run: &Arc<Run>,
    stopper: &Stopper,
    mut attempt: impl FnMut() -> Result<AttemptResult, Halt>,
) -> Result<AttemptResult, Halt> {
    let mut notes = Vec::new();
    for _ in 0..REMAKES_MAX {
        match attempt() {
            Err(Halt::Remake(node)) => notes.extend(remake(agent, run, node, stopper)?),
            other => {
                return other.map(|mut result| {
                    result.notes.splice(0..0, notes);
                    result
                });
            }
        }
    }
    attempt()
}

/// Executes the step again whose stored layer is damaged. Unheard: its own result was reported long ago.
fn remake(agent: &Shared, run: &Arc<Run>, node: NodeIx, stopper: &Stopper) -> Result<Option<String>, Halt> {
    let Some(damaged) = run.done(node) else { return Ok(None) };
    let _only_one = lock(&damaged.healing);
    if run.done(node).is_none_or(|now| !Arc::ptr_eq(&now, &damaged)) {
        return Ok(None);
    }
    if damaged.elsewhere {
        return Err(trouble(&format!(
            "what step `{}` wrote on another agent is not in the server's cache any more; run that step again",
            damaged.spec.name
        )));
    }
    if let Some(action) = &damaged.action {
        agent.actions.remove(action);
    }
    let mut spec = (*damaged.spec).clone();
    if let Work::Command(command) = &mut spec.work {
        let command = Arc::make_mut(command);
        (command.fresh, command.verify) = (true, false);
    }
    let result = perform(agent, run, &Arc::new(spec), stopper, &Feed::muted(), Instant::now());
    let name = &damaged.spec.name;
    match result.end {
        AttemptEnd::Succeeded => {
            Ok(Some(format!("the stored result of step `{name}` was damaged, so it was executed again")))
        }
        AttemptEnd::Cancelled => Err(Halt::Ends(AttemptEnd::Cancelled)),
        AttemptEnd::Failed(cause) => Err(trouble(&format!(
            "the stored result of step `{name}` is damaged, and executing it again failed ({cause}); run with `--no-cache`"
        ))),
    }
}
