//! `pace projects`: repositories that the server looks after.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{LIST_MAX, rows};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// List, add, test and remove projects of the server
#[derive(Debug, Args)]
pub struct ProjectsArgs {
    #[command(subcommand)]
    pub what: ProjectsCommand,
}

#[derive(Debug, Subcommand)]
pub enum ProjectsCommand {
    /// List them
    List(TeamArgs),
    /// Add one
    Add {
        /// Its name: `web`, `team/web`
        name: String,
        /// What git fetches: an address, or a path on the server; without it the server makes one to push to
        repository: Option<String>,
        /// Who sends its webhooks: github, gitlab, gitea, bitbucket or generic
        #[arg(long, value_name = "NAME", default_value = "generic")]
        forge: String,
        /// The repository's name at the forge
        #[arg(long, value_name = "OWNER/NAME")]
        forge_name: Option<String>,
        /// The branch that manual runs take
        #[arg(long, value_name = "NAME", default_value = "main")]
        branch: String,
        /// The variable with the secret of its webhooks
        #[arg(long, value_name = "VARIABLE")]
        webhook_secret_env: Option<String>,
        /// The variable with the credential for git and the forge
        #[arg(long, value_name = "VARIABLE")]
        credential_env: Option<String>,
        /// Anybody may see it
        #[arg(long)]
        public: bool,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Try to reach the repository
    Test(ProjectOfTeam),
    /// Remove one with its secrets; its runs stay
    Rm(ProjectOfTeam),
}

/// A project of the server.
#[derive(Debug, Args)]
pub struct ProjectOfTeam {
    /// Its name
    pub name: String,
    #[command(flatten)]
    pub team: TeamArgs,
}

/// Does it.
pub fn run(args: &ProjectsArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        ProjectsCommand::List(team) => {
            let all = Team::find(team)?.list("/projects", LIST_MAX)?;
            rows(&all, &["name", "default_branch", "forge", "public", "repository"], screen);
        }
        ProjectsCommand::Add {
            name,
            repository,
            forge,
            forge_name,
            branch,
            webhook_secret_env,
            credential_env,
            public,
            team,
        } => {
            let body = json!({
                "name": name,
                "repository": repository.clone().unwrap_or_default(),
                "forge": forge,
                "forge_name": forge_name.clone().unwrap_or_default(),
                "default_branch": branch,
                "webhook_secret": variable(webhook_secret_env.as_deref())?,
                "credential": variable(credential_env.as_deref())?,
                "public": public,
            });
            Team::find(team)?.ask("POST", "/projects", Some(&body))?;
            screen.text(&format!("{name}: added"));
        }
        ProjectsCommand::Test(project) => {
            let tried =
                Team::find(&project.team)?.ask("POST", &format!("/projects/{}/test", escaped(&project.name)), None)?;
            if tried["reached"] != true {
                return Err(Failure::infrastructure(format!("{}: {}", project.name, text(&tried, "detail"))));
            }
            screen.text(&format!("{}: {}", project.name, text(&tried, "detail")));
        }
        ProjectsCommand::Rm(project) => {
            Team::find(&project.team)?.ask("DELETE", &format!("/projects/{}", escaped(&project.name)), None)?;
            screen.text(&format!("{}: removed", project.name));
        }
    }
    Ok(Exit::Green)
}

/// What must not stand on a command line, where others see it.
fn variable(name: Option<&str>) -> Result<String, Failure> {
    let Some(name) = name else { return Ok(String::new()) };
    std::env::var(name).map_err(|_| Failure::usage(format!("the variable {name} is not set")))
}
