//! `pace cancel`, `approve`, `rerun` and `release`: what people do to a run on the server.

use clap::Args;
use serde_json::json;

use super::trigger::{show_made, wait};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// A run on the server.
#[derive(Debug, Args)]
pub struct RunOfTeam {
    /// The run: its id, or PROJECT#NUMBER
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The project, for a mere number
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    #[command(flatten)]
    pub team: TeamArgs,
}

/// Stop a run on the server
#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    pub run: RunOfTeam,
    /// At once and without clean-up
    #[arg(long)]
    pub force: bool,
}

/// Answer an approval that a run waits for
#[derive(Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    pub run: RunOfTeam,
    /// The step that asks [default: the only one that does]
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Say no
    #[arg(long)]
    pub refuse: bool,
    /// What to say to it
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
}

/// Do an ended run again
#[derive(Debug, Args)]
pub struct RerunArgs {
    #[command(flatten)]
    pub run: RunOfTeam,
    /// Only what failed, or did not run because of that
    #[arg(long, conflicts_with = "from")]
    pub failed: bool,
    /// This step and all that depends on it
    #[arg(long, value_name = "STEP")]
    pub from: Option<String>,
    /// Wait for the end, and exit as the run does
    #[arg(short, long)]
    pub wait: bool,
}

impl RunOfTeam {
    fn find(&self) -> Result<(Team, String), Failure> {
        let team = Team::find(&self.team)?;
        let id = team.run_id(&self.run, self.project.as_deref())?;
        Ok((team, id))
    }
}

/// Stops it.
pub fn cancel(args: &CancelArgs, screen: &mut Screen) -> Ended {
    let (team, id) = args.run.find()?;
    team.ask("POST", &format!("/runs/{}/cancel", escaped(&id)), Some(&json!({ "force": args.force })))?;
    screen.text(&format!("asked {id} to stop"));
    Ok(Exit::Green)
}

/// Answers it.
pub fn approve(args: &ApproveArgs, screen: &mut Screen) -> Ended {
    let (team, id) = args.run.find()?;
    let step = match &args.step {
        Some(step) => step.clone(),
        None => the_one_that_asks(&team, &id)?,
    };
    let body = json!({ "step": step, "approved": !args.refuse, "comment": args.message });
    team.ask("POST", &format!("/runs/{}/answer", escaped(&id)), Some(&body))?;
    screen.text(&format!("{step} of {id}: {}", if args.refuse { "refused" } else { "approved" }));
    Ok(Exit::Green)
}

/// Does it again.
pub fn rerun(args: &RerunArgs, screen: &mut Screen) -> Ended {
    let (team, id) = args.run.find()?;
    let body = match (&args.from, args.failed) {
        (Some(step), _) => json!({ "what": "from", "step": step }),
        (None, true) => json!({ "what": "failed" }),
        (None, false) => json!({ "what": "all" }),
    };
    let made = team.ask("POST", &format!("/runs/{}/rerun", escaped(&id)), Some(&body))?;
    show_made(&made, "", args.wait, screen);
    match args.wait {
        true => wait(&team, &text(&made, "id"), screen),
        false => Ok(Exit::Green),
    }
}

/// Lets a held run go.
pub fn release(args: &RunOfTeam, screen: &mut Screen) -> Ended {
    let (team, id) = args.find()?;
    team.ask("POST", &format!("/runs/{}/release", escaped(&id)), None)?;
    screen.text(&format!("{id} may go"));
    Ok(Exit::Green)
}

fn the_one_that_asks(team: &Team, id: &str) -> Result<String, Failure> {
    let run = team.read(&format!("/runs/{}", escaped(id)))?;
    let steps = run["steps"].as_array().cloned().unwrap_or_default();
    let asking: Vec<String> =
        steps.iter().filter(|step| step["state"] == "asking").map(|step| text(step, "name")).collect();
    match asking.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::usage(format!("no step of {id} waits for an approval"))),
        _ => Err(Failure::usage(format!("several steps of {id} wait for an approval"))
            .help(format!("add --step with one of: {}", asking.join(", ")))),
    }
}
