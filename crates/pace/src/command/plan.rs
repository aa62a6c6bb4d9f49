//! `pace plan`: the graph after matrix, includes and conditions: what would run, what is cached, why.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::Foresight;
use model::{Cause, NodeIx, OnFailure, Outcome, RunNumber, Selection};
use view::plan_text::Hit;

use crate::cli::{Cli, EventName, Output, PlanArgs};
use crate::exit::{Ended, Exit};
use crate::prepare::Prepared;
use crate::project::Project;
use crate::rehearsal::{Rehearsal, rehearse};
use crate::screen::Screen;

/// Plans, foresees, shows.
pub fn run(cli: &Cli, args: &PlanArgs, screen: &mut Screen) -> Ended {
    for project in Project::find_all(cli)? {
        let prepared = Prepared::new(project, &args.trigger, screen)?;
        if args.trigger.event != EventName::Manual
            && let Err(why) = engine::trigger::fires(&prepared.pipeline.on, &prepared.trigger)
        {
            screen.text(&format!("{}: nothing to run: {why}", prepared.project.file));
            continue;
        }
        let selection = Selection { only: args.steps.clone(), ..Selection::default() };
        let context = prepared.context(RunNumber(0), &args.trigger, selection, OnFailure::KeepGoing)?;
        let plan = Arc::new(prepared.plan(context)?);
        let (agent, _reports) = prepared.agent(&plan, &args.execute, None)?;
        let rehearsal = rehearse(plan.clone(), &prepared, &agent)?;
        agent.end(&plan.context.run);
        let (plan, hits) = (&rehearsal.plan, hits(&rehearsal));
        match screen.output {
            Output::Json => screen.text(&view::plan_text::json(plan, &hits)),
            _ => screen.text(&view::plan_text::render(plan, &hits, screen.style())),
        }
    }
    Ok(Exit::Green)
}

fn hits(rehearsal: &Rehearsal) -> BTreeMap<NodeIx, Hit> {
    let name = |node: &NodeIx| &rehearsal.plan.nodes[node.at()].name;
    let ended = rehearsal.outcomes.iter().filter_map(|(node, outcome)| match outcome {
        Outcome::Skipped(why) => Some((*node, Hit::Skipped(why.to_string()))),
        // A value that no step has written yet: it is one only a real run can know.
        Outcome::Failed { cause: Cause::Expression(_), .. } => {
            Some((*node, Hit::Runs("depends on values that are not known yet".into())))
        }
        Outcome::Failed { cause, .. } => Some((*node, Hit::Runs(format!("and fail: {cause}")))),
        _ => None,
    });
    let foreseen = rehearsal.attempts.iter().map(|(node, (_, foresight))| {
        let hit = match foresight {
            Foresight::Cached { from, .. } => Hit::Cached(from.clone()),
            Foresight::Executes(why) => Hit::Runs(why.clone()),
            Foresight::Reads(_) => Hit::Runs("reads the steps that were written".into()),
            Foresight::Open(first) => Hit::Runs(format!("depends on what `{}` writes", name(first))),
        };
        (*node, hit)
    });
    ended.chain(foreseen).filter(|(node, _)| node.at() < rehearsal.plan.nodes.len()).collect()
}
