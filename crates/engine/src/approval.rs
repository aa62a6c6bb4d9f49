//! Approvals: a step asks, a person answers, or nobody does in time.
//!
//! Whoever says no fails the step, as a rejected deployment does elsewhere: the run then says `failure`, what depends on the
//! step does not run, and clean-up does. That is what the person who asked for the run has to hear of.

use alloc::collections::BTreeMap;
use alloc::string::ToString;

use model::limits::APPROVAL_DEFAULT;
use model::{Cause, NodeIx, Outcome, RunEvent, RunId, StepKind};

use crate::draft::Draft;
use crate::scope;
use crate::step::StepState;
use crate::verdict::facts;
use crate::world::RunIx;

impl Draft<'_> {
    pub(crate) fn ask(&mut self, ix: RunIx, node: NodeIx) {
        let Some(run) = self.run(ix) else { return };
        let StepKind::Approve(approve) = &run.definition(node).kind else { return };
        if run.plan().context.terms.project.is_none() {
            let why = alloc::format!(
                "step `{}` waits for an approval, and on a desk nobody is there to give it; `pace server` asks people",
                run.name(node)
            );
            return self.fail(ix, node, Cause::Refused(why));
        }
        let message = approve.message.as_ref().map(|message| {
            let steps = |id: &str| facts(run, node, id);
            let env = scope::env(run.plan(), node, run.head.graph.env.as_ref(), &steps)?;
            scope::with_env(run.plan(), node, &env, &steps, |scope| model::expr::render(message, scope))
        });
        let message = match message.transpose() {
            Ok(message) => message.unwrap_or_default(),
            Err(error) => {
                let why = alloc::format!("`approve` of step `{}`: {}", run.name(node), error.message);
                return self.fail(ix, node, Cause::Expression(why));
            }
        };
        let (by, expires) = (approve.by.clone(), self.now.after(approve.expires.unwrap_or(APPROVAL_DEFAULT)));
        self.record(ix, RunEvent::ApprovalOpened { node, message, by, expires });
    }

    pub(crate) fn answer(&mut self, run: &RunId, node: NodeIx, by: &str, approved: bool, comment: &str) {
        let ix = self.world.by_id.get(run).copied();
        let state = ix.and_then(|ix| self.run(ix)).and_then(|run| run.step(node));
        let (Some(ix), Some(StepState::Asking { .. })) = (ix, state) else {
            let why = "no approval is open here: it was answered, it expired, or the run ended";
            return self.because(Some(run), Some(node), why.to_string());
        };
        let (by, comment) = (by.to_string(), comment.to_string());
        if !self.record(ix, RunEvent::ApprovalGiven { node, by: by.clone(), approved, comment: comment.clone() }) {
            return;
        }
        if approved {
            let values = BTreeMap::from([("by".to_string(), by), ("comment".to_string(), comment)]);
            return self.end_with(ix, node, Outcome::Succeeded { cached: false }, values);
        }
        let why = match comment.as_str() {
            "" => alloc::format!("declined by {by}"),
            said => alloc::format!("declined by {by}: {said}"),
        };
        self.fail(ix, node, Cause::Declined(why));
    }
}
