//! `pace agents`: who executes steps for the server.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{LIST_MAX, rows};
use crate::cli::Output;
use crate::exit::{Ended, Exit};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// List, register, pause and remove agents of the server
#[derive(Debug, Args)]
pub struct AgentsArgs {
    #[command(subcommand)]
    pub what: AgentsCommand,
}

#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List them
    List(TeamArgs),
    /// Make a token by which one agent registers, shown once
    Token {
        /// The name the agent gets [default: the one it asks for]
        #[arg(long, value_name = "NAME", default_value = "")]
        name: String,
        /// A label it gets beside its own; may be given several times
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
        /// Life of the token
        #[arg(long, value_name = "MINUTES", default_value_t = 60)]
        minutes: u64,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Give an agent no new work
    Pause(AgentOfTeam),
    /// Give a paused agent work again
    Resume(AgentOfTeam),
    /// Remove an agent: its credential is worth nothing any more
    Rm(AgentOfTeam),
}

/// An agent of the server.
#[derive(Debug, Args)]
pub struct AgentOfTeam {
    /// Its name
    pub name: String,
    #[command(flatten)]
    pub team: TeamArgs,
}

/// Does it.
pub fn run(args: &AgentsArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        AgentsCommand::List(team) => {
            let all = Team::find(team)?.list("/agents", LIST_MAX)?;
            rows(&all, &["name", "connected", "paused", "slots", "busy", "version", "labels"], screen);
        }
        AgentsCommand::Token { name, labels, minutes, team } => {
            let body = json!({ "name": name, "labels": labels, "minutes": minutes });
            let made = Team::find(team)?.ask("POST", "/agent-tokens", Some(&body))?;
            match screen.output {
                Output::Json => screen.text(&made.to_string()),
                _ => screen.text(&text(&made, "token")),
            }
        }
        AgentsCommand::Pause(agent) => pause(agent, true, screen)?,
        AgentsCommand::Resume(agent) => pause(agent, false, screen)?,
        AgentsCommand::Rm(agent) => {
            Team::find(&agent.team)?.ask("DELETE", &format!("/agents/{}", escaped(&agent.name)), None)?;
            screen.text(&format!("{}: removed", agent.name));
        }
    }
    Ok(Exit::Green)
}

fn pause(agent: &AgentOfTeam, paused: bool, screen: &mut Screen) -> Result<(), crate::exit::Failure> {
    let path = format!("/agents/{}", escaped(&agent.name));
    Team::find(&agent.team)?.ask("PATCH", &path, Some(&json!({ "paused": paused })))?;
    screen.text(&format!("{}: {}", agent.name, if paused { "paused" } else { "gets work again" }));
    Ok(())
}
