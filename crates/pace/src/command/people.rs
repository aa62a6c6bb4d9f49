//! `pace users` and `pace tokens`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{LIST_MAX, rows};
use crate::cli::Output;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// List, invite, change and remove users of the server
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    pub what: UsersCommand,
}

#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// List them
    List(TeamArgs),
    /// Make a link by which somebody becomes a user
    Invite {
        /// A role: PROJECT=ROLE, `team/*=ROLE` or `*=ROLE` with viewer, developer, maintainer or admin; may be given several times
        #[arg(long = "role", value_name = "PROJECT=ROLE")]
        roles: Vec<String>,
        /// An administrator of the whole server
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Give a user these roles instead of those it has
    Roles {
        /// Its name
        name: String,
        /// As in `invite`
        #[arg(long = "role", value_name = "PROJECT=ROLE")]
        roles: Vec<String>,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Make a link by which a user chooses a new password
    Password {
        /// Its name
        name: String,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Remove a user with its tokens
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        team: TeamArgs,
    },
}

/// Make, list and remove your tokens on the server
#[derive(Debug, Args)]
pub struct TokensArgs {
    #[command(subcommand)]
    pub what: TokensCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// List yours
    List(TeamArgs),
    /// Make one, shown once
    Add {
        /// What it is for
        label: String,
        /// What it may: read, run, secrets, manage or admin; may be given several times
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// Only for this project; may be given several times
        #[arg(long = "project", value_name = "NAME")]
        projects: Vec<String>,
        /// Its life in days; 0 for ever
        #[arg(long, value_name = "DAYS", default_value_t = 90)]
        days: u64,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Remove one
    Rm {
        /// Its id
        id: String,
        #[command(flatten)]
        team: TeamArgs,
    },
}

/// `pace users`.
pub fn users(args: &UsersArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        UsersCommand::List(team) => {
            let all = Team::find(team)?.list("/users", LIST_MAX)?;
            rows(&all, &["name", "display", "admin", "disabled", "roles", "teams"], screen);
        }
        UsersCommand::Invite { roles, admin, team } => {
            let body = json!({ "admin": admin, "roles": pairs(roles)? });
            let made = Team::find(team)?.ask("POST", "/invites", Some(&body))?;
            screen.text(&text(&made, "url"));
        }
        UsersCommand::Roles { name, roles, team } => {
            let path = format!("/users/{}", escaped(name));
            Team::find(team)?.ask("PATCH", &path, Some(&json!({ "roles": pairs(roles)? })))?;
            screen.text(&format!("{name}: changed"));
        }
        UsersCommand::Password { name, team } => {
            let made = Team::find(team)?.ask("POST", &format!("/users/{}/password-link", escaped(name)), None)?;
            screen.text(&text(&made, "url"));
        }
        UsersCommand::Rm { name, team } => {
            Team::find(team)?.ask("DELETE", &format!("/users/{}", escaped(name)), None)?;
            screen.text(&format!("{name}: removed"));
        }
    }
    Ok(Exit::Green)
}

/// `pace tokens`.
pub fn tokens(args: &TokensArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        TokensCommand::List(team) => {
            let all = Team::find(team)?.list("/tokens", LIST_MAX)?;
            rows(&all, &["id", "label", "scopes", "projects", "created_at", "expires_at"], screen);
        }
        TokensCommand::Add { label, scopes, projects, days, team } => {
            let body = json!({ "label": label, "scopes": scopes, "projects": projects, "days": days });
            let made = Team::find(team)?.ask("POST", "/tokens", Some(&body))?;
            match screen.output {
                Output::Json => screen.text(&made.to_string()),
                _ => screen.text(&text(&made, "token")),
            }
        }
        TokensCommand::Rm { id, team } => {
            Team::find(team)?.ask("DELETE", &format!("/tokens/{}", escaped(id)), None)?;
            screen.text(&format!("{id}: removed"));
        }
    }
    Ok(Exit::Green)
}

fn pairs(roles: &[String]) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    let pair = |text: &String| {
        let (project, role) =
            text.split_once('=').ok_or_else(|| Failure::usage(format!("--role {text} is not PROJECT=ROLE")))?;
        Ok((project.to_owned(), role.into()))
    };
    roles.iter().map(pair).collect()
}
