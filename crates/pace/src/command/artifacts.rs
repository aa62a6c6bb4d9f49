//! `pace artifacts`: what a run left, and its content.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::Output;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, TeamArgs, escaped, text};

/// List or fetch the artifacts of a run
#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    #[command(subcommand)]
    pub what: ArtifactsCommand,
}

#[derive(Debug, Subcommand)]
pub enum ArtifactsCommand {
    /// List them
    List {
        /// The run: its id, or PROJECT#NUMBER
        run: String,
        #[command(flatten)]
        team: TeamArgs,
    },
    /// Fetch one, or all
    Download {
        /// The run: its id, or PROJECT#NUMBER
        run: String,
        /// Its name [default: all]
        name: Option<String>,
        /// The folder
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
        #[command(flatten)]
        team: TeamArgs,
    },
}

/// Does it.
pub fn run(args: &ArtifactsArgs, screen: &mut Screen) -> Ended {
    match &args.what {
        ArtifactsCommand::List { run, team } => list(&Team::find(team)?, run, screen),
        ArtifactsCommand::Download { run, name, to, team } => {
            download(&Team::find(team)?, run, name.as_deref(), to, screen)
        }
    }
}

fn list(team: &Team, run: &str, screen: &mut Screen) -> Ended {
    for made in of_run(team, &team.run_id(run, None)?)? {
        match screen.output {
            Output::Json => screen.text(&made.to_string()),
            _ => {
                let files = made["files"].as_array().map_or(0, Vec::len);
                screen.text(&format!(
                    "{:<24} {:<12} {:<16} {files} files",
                    text(&made, "name"),
                    text(&made, "version"),
                    text(&made, "step")
                ));
            }
        }
    }
    Ok(Exit::Green)
}

fn download(team: &Team, run: &str, name: Option<&str>, to: &Path, screen: &mut Screen) -> Ended {
    let id = team.run_id(run, None)?;
    let all = of_run(team, &id)?;
    let wanted: Vec<&Value> = all.iter().filter(|made| name.is_none_or(|name| made["name"] == name)).collect();
    if wanted.is_empty() {
        return Err(Failure::usage(format!("{id} has no such artifact")).help("`pace artifacts list RUN` lists them"));
    }
    for made in wanted {
        fetch(team, &id, made, to, screen)?;
    }
    Ok(Exit::Green)
}

/// Each file of it, below a folder of its name; a single file under its own name.
fn fetch(team: &Team, id: &str, made: &Value, to: &Path, screen: &mut Screen) -> Result<(), Failure> {
    let (name, step) = (text(made, "name"), text(made, "step"));
    for file in made["files"].as_array().into_iter().flatten() {
        let path = text(file, "path");
        let target = match path.as_str() {
            "" => to.join(inside(text(made, "path").rsplit('/').next().unwrap_or_default())?),
            path => to.join(inside(&name)?).join(inside(path)?),
        };
        let query = format!("step={}&path={}", escaped(&step), escaped(&path));
        let content = team.content(&format!("/runs/{}/artifacts/{}?{query}", escaped(id), escaped(&name)))?;
        write(content, &target, file["executable"] == true)?;
        screen.text(&target.display().to_string());
    }
    Ok(())
}

fn write(mut content: impl std::io::Read, target: &Path, executable: bool) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: std::io::Error| Failure::infrastructure(format!("cannot write {}: {error}", target.display()));
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = File::create(target).map_err(failed)?;
    std::io::copy(&mut content, &mut file).map_err(failed)?;
    if executable {
        fs::set_permissions(target, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}

/// A path that a server names must stay in the folder that a person named.
fn inside(path: &str) -> Result<PathBuf, Failure> {
    let parts: Vec<&str> = path.split('/').collect();
    match !path.is_empty() && parts.iter().all(|part| !matches!(*part, "" | "." | "..")) {
        true => Ok(path.into()),
        false => {
            Err(Failure::refused(format!("the server names a file outside of the folder: `{}`", path.escape_debug())))
        }
    }
}

fn of_run(team: &Team, id: &str) -> Result<Vec<Value>, Failure> {
    let answer = team.read(&format!("/runs/{}/artifacts", escaped(id)))?;
    Ok(answer.as_array().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_artifact_leaves_its_folder() {
        assert!(inside("a/b").is_ok());
        assert!(["", "/etc/x", "../x", "a/../../x", "a//b", "."].iter().all(|path| inside(path).is_err()));
    }
}
