//! `pace secrets`: written here, read by steps alone.

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{LIST_MAX, rows};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// Write, list and remove secrets of a project on the server
#[derive(Debug, Args)]
pub struct SecretsArgs {
    #[command(subcommand)]
    pub what: SecretsCommand,
}

/// For what a secret is.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// The project
    #[arg(long, value_name = "NAME")]
    pub project: String,
    /// Only for this environment
    #[arg(long, value_name = "NAME", default_value = "")]
    pub environment: String,
    /// Only for these branches, a glob
    #[arg(long, value_name = "GLOB", default_value = "")]
    pub branches: String,
    #[command(flatten)]
    pub team: TeamArgs,
}

#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Write one; the value is read from standard input, a line end at its end is taken off
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// List them, without values
    List {
        /// The project
        #[arg(long, value_name = "NAME")]
        project: String,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Remove one
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Make a new master key, and wrap all secrets of the server with it
    Rekey(TeamArgs),
}

/// Does it.
pub fn run(args: &SecretsArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        SecretsCommand::Set { name, scope } => {
            let mut value = String::new();
            let read = std::io::stdin().lock().take(1 << 20).read_to_string(&mut value);
            read.map_err(|error| Failure::usage(format!("cannot read the value: {error}")))?;
            let value = value.strip_suffix('\n').unwrap_or(&value);
            let written = Team::find(&scope.team)?.ask("PUT", &path(name, scope), Some(&json!({ "value": value })))?;
            screen.text(&format!("{name}: version {}", text(&written, "version")));
        }
        SecretsCommand::List { project, team } => {
            let all = Team::find(team)?.list(&format!("/projects/{}/secrets", escaped(project)), LIST_MAX)?;
            rows(&all, &["name", "environment", "branches", "version", "written_at", "by"], screen);
        }
        SecretsCommand::Rm { name, scope } => {
            Team::find(&scope.team)?.ask("DELETE", &path(name, scope), None)?;
            screen.text(&format!("{name}: removed"));
        }
        SecretsCommand::Rekey(team) => {
            let done = Team::find(team)?.ask("POST", "/rekey", None)?;
            screen.text(&format!("a new master key; {} records were wrapped with it", text(&done, "records")));
        }
    }
    Ok(Exit::Green)
}

fn path(name: &str, scope: &ScopeArgs) -> String {
    let ScopeArgs { project, environment, branches, .. } = scope;
    let query = format!("environment={}&branches={}", escaped(environment), escaped(branches));
    format!("/projects/{}/secrets/{}?{query}", escaped(project), escaped(name))
}
