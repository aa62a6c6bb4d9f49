//! `pace trigger`: starts a run on the server; with `--wait` ends as the run does.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// Start a run on the server
#[derive(Debug, Args)]
pub struct TriggerArgs {
    /// The project
    #[arg(value_name = "PROJECT")]
    pub project: String,
    /// File of the pipeline [default: the only one]
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<String>,
    /// The branch [default: the project's default branch]
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// The tag
    #[arg(long, value_name = "NAME", conflicts_with = "branch")]
    pub tag: Option<String>,
    /// The commit [default: the head of the branch]
    #[arg(long, value_name = "SHA")]
    pub commit: Option<String>,
    /// A parameter's value; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// Only these steps and what they need; may be given several times
    #[arg(long = "step", value_name = "STEP")]
    pub steps: Vec<String>,
    /// Execute every step, whatever the cache knows
    #[arg(long)]
    pub no_cache: bool,
    /// Higher goes first, from -100 to 100
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// Asking again with the same key gives the same run
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Wait for the end, and exit as the run does
    #[arg(short, long)]
    pub wait: bool,
    #[command(flatten)]
    pub team: TeamArgs,
}

/// Starts it.
pub fn run(args: &TriggerArgs, screen: &mut Screen) -> Ended {
    let team = Team::find(&args.team)?;
    let mut params = serde_json::Map::new();
    for param in &args.params {
        let (name, value) =
            param.split_once('=').ok_or_else(|| Failure::usage(format!("--param {param} is not NAME=VALUE")))?;
        params.insert(name.to_owned(), value.into());
    }
    let body = json!({
        "pipeline": args.pipeline.clone().unwrap_or_default(),
        "branch": args.branch.clone().unwrap_or_default(),
        "tag": args.tag.clone().unwrap_or_default(),
        "commit": args.commit.clone().unwrap_or_default(),
        "params": params,
        "only": args.steps,
        "no_cache": args.no_cache,
        "priority": args.priority,
    });
    // A key of our own makes it harmless to ask again when the answer was lost.
    let own = access::id();
    let path = format!("/projects/{}/runs", escaped(&args.project));
    let made = team.ask_keyed("POST", &path, Some(&body), Some(args.key.as_deref().unwrap_or(&own)))?;
    show_made(&made, &args.project, args.wait, screen);
    match args.wait {
        true => wait(&team, &text(&made, "id"), screen),
        false => Ok(Exit::Green),
    }
}

/// Shows a run that was made.
pub fn show_made(made: &Value, project: &str, waits: bool, screen: &mut Screen) {
    match screen.output {
        // Events follow, one a line; the first says the same.
        Output::Json if waits => {}
        Output::Json => screen.text(&made.to_string()),
        _ => screen.text(&format!("{project}#{} {} {}", text(made, "number"), text(made, "id"), text(made, "url"))),
    }
}

/// Shows what happens until the run ends, and ends as it does.
pub fn wait(team: &Team, run: &str, screen: &mut Screen) -> Ended {
    let mut exit = None;
    team.follow(&format!("/runs/{}/events", escaped(run)), |told| {
        let event: Value = serde_json::from_str(&told.data).unwrap_or_default();
        match screen.output {
            Output::Json => screen.text(&told.data),
            _ => show(&event, screen),
        }
        if event["event"] == "run_ended" {
            exit = event["exit_code"].as_u64();
        }
        Ok(exit.is_none())
    })?;
    Ok(exit_of(exit.unwrap_or(1)))
}

fn show(event: &Value, screen: &mut Screen) {
    let step = text(event, "step");
    match event["event"].as_str().unwrap_or_default() {
        "step_ended" => {
            let cached = if event["cached"] == true { " (cached)" } else { "" };
            screen.text(&format!("{step}: {}{cached}", text(event, "outcome")));
        }
        "approval_opened" => {
            screen.text(&format!("{step} asks: {} (`pace approve RUN {step}`)", text(event, "message")))
        }
        "run_ended" => screen.text(&format!("run {}", text(event, "outcome"))),
        _ => {}
    }
}

/// The exit code of a run.
fn exit_of(code: u64) -> Exit {
    let all = [Exit::Green, Exit::StepFailed, Exit::Infrastructure, Exit::Cancelled, Exit::Refused];
    all.into_iter().find(|exit| *exit as u64 == code).unwrap_or(Exit::Internal)
}
