//! `pace why`: what changed since the last time a step ran.

use agent::{Difference, Foresight};
use cas::tree::ChangeKind;
use model::{OnFailure, RunNumber, Selection};

use crate::cli::{Cli, Output, StepArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::prepare::Prepared;
use crate::project::Project;
use crate::rehearsal::rehearse;
use crate::screen::Screen;

/// Changed files that are listed by name.
const FILES_MAX: usize = 50;

/// Compares the step's action with the last one that was recorded.
pub fn run(cli: &Cli, args: &StepArgs, screen: &mut Screen) -> Ended {
    let prepared = Prepared::new(Project::find(cli)?, &args.trigger, screen)?;
    let context = prepared.context(RunNumber(0), &args.trigger, Selection::default(), OnFailure::KeepGoing)?;
    let plan = std::sync::Arc::new(prepared.plan(context)?);
    let (agent, _reports) = prepared.agent(&plan, &args.execute, None)?;
    let rehearsal = rehearse(plan.clone(), &prepared, &agent)?;
    let node = rehearsal.find(&args.step)?;
    let (spec, foresight) = rehearsal.spec(node)?;
    let lines = match foresight {
        Foresight::Cached { from, .. } => {
            vec![format!(
                "`{}` would be taken from the cache: nothing that it reads changed since run {}",
                spec.name, from.number
            )]
        }
        Foresight::Reads(_) => vec![format!("`{}` only reads the steps that were written", spec.name)],
        Foresight::Open(first) => {
            let first = &plan.nodes[first.at()].name;
            vec![
                format!("`{}` depends on what `{first}` writes, and `{first}` has to run first", spec.name),
                format!("next: pace why '{first}'"),
            ]
        }
        Foresight::Executes(why) => {
            let now = agent.action_of(spec).map_err(Failure::infrastructure)?;
            let mut lines = vec![format!("`{}` would run: {why}", spec.name)];
            match agent.last_action(&plan.context.run, &spec.name) {
                None => lines.push("it has not passed here before, so there is nothing to compare with".into()),
                Some(before) => lines.extend(agent::differences(&before, &now, FILES_MAX).iter().map(said)),
            }
            lines
        }
    };
    agent.end(&plan.context.run);
    match screen.output {
        Output::Json => {
            let object = serde_json::json!({ "step": &*spec.name, "cached": matches!(foresight, Foresight::Cached { .. }), "because": lines });
            screen.text(&object.to_string());
        }
        _ => screen.text(&lines.join("\n")),
    }
    Ok(Exit::Green)
}

fn said(difference: &Difference) -> String {
    let change = |what: &str, name: &str, before: &Option<String>, now: &Option<String>| {
        let shown = |value: &Option<String>| value.as_ref().map_or("not set".into(), |value| format!("`{value}`"));
        format!("  {what} {name}: {} before, {} now", shown(before), shown(now))
    };
    match difference {
        Difference::Command => "  the command changed".into(),
        Difference::Env(name, before, now) => change("variable", name, before, now),
        Difference::Platform(name, before, now) => change("platform", name, before, now),
        Difference::Outputs => "  `outputs` changed".into(),
        Difference::File(path, how) => format!("  file {path} {}", said_of_file(*how)),
    }
}

fn said_of_file(how: ChangeKind) -> &'static str {
    match how {
        ChangeKind::Added => "is new",
        ChangeKind::Removed => "is gone",
        ChangeKind::Content => "changed",
        ChangeKind::Executable => "may be executed now, or no longer",
        ChangeKind::Kind => "became another kind of file",
    }
}
