//! `pace plan`: the graph after matrix, includes and conditions: what would run, what is cached, why.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::Foresight;
use model::{NodeIx, OnFailure, Outcome, RunNumber, Selection};
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
        let (agent, _reports) = prepared.agent(&plan, &args.execute)?;
        let rehearsal = rehearse(plan.clone(), &prepared, &agent)?;
        agent.end(&plan.context.run);
        let hits = hits(&rehearsal);
        match screen.output {
            Output::Json => screen.text(&view::plan_text::json(&plan, &hits)),
            _ => screen.text(&view::plan_text::render(&plan, &hits, screen.style())),
        }
    }
    Ok(Exit::Green)
}

fn hits(rehearsal: &Rehearsal) -> BTreeMap<NodeIx, Hit> {
    let mut hits: BTreeMap<NodeIx, Hit> = BTreeMap::new();
    for (node, outcome) in &rehearsal.outcomes {
        match outcome {
            Outcome::Skipped(why) => drop(hits.insert(*node, Hit::Skipped { why: why.to_string() })),
            Outcome::Failed { cause, .. } => drop(hits.insert(*node, Hit::Run { why: format!("and fail: {cause}") })),
            _ => {}
        }
    }
    for (node, (_, foresight)) in &rehearsal.attempts {
        let hit = match foresight {
            Foresight::Cached(result) => match &result.cached {
                Some(from) => Hit::Cached { run: from.number, took: from.took },
                None => Hit::Run { why: String::new() },
            },
            Foresight::Executes(why) => Hit::Run { why: why.clone() },
            Foresight::Open(first) => Hit::Run { why: format!("depends on what `{}` writes", rehearsal.plan.nodes[first.at()].name) },
        };
        hits.insert(*node, hit);
    }
    hits
}
