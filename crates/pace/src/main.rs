//! `pace`: parse, one match over the commands, an exit code.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod exit;
mod folders;
mod group;
mod history;
mod past;
mod prepare;
mod project;
mod rehearsal;
mod relay;
mod remote_cache;
mod runner;
mod screen;
mod signals;
mod team;
mod timings;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::screen::Screen;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let mut screen = Screen::new(cli.output, cli.color);
    let ended = match &cli.command {
        Command::Run(args) => command::run::run(&cli, args, &mut screen),
        Command::Check(args) => command::check::run(&cli, args, &mut screen),
        Command::Plan(args) => command::plan::run(&cli, args, &mut screen),
        Command::Why(args) => command::why::run(&cli, args, &mut screen),
        Command::Shell(args) => command::shell::run(&cli, args, &mut screen),
        Command::Explain(args) => command::explain::run(args, &mut screen),
        Command::Init(args) => command::init::run(&cli, args, &mut screen),
        Command::Runs(args) => command::runs::run(&cli, args, &mut screen),
        Command::Logs(args) => command::logs::run(&cli, args, &mut screen),
        Command::Image(args) => command::image::run(&cli, args, &mut screen),
        Command::Cache(args) => command::cache::run(args, &mut screen),
        Command::Agent(args) => command::agent::run(args, &mut screen),
        Command::Server(args) => command::server::run(args, &mut screen),
        Command::Login(args) => command::login::run(args, &mut screen),
        Command::Logout(args) => command::login::logout(args, &mut screen),
        Command::Trigger(args) => command::trigger::run(args, &mut screen),
        Command::Cancel(args) => command::steer::cancel(args, &mut screen),
        Command::Approve(args) => command::steer::approve(args, &mut screen),
        Command::Rerun(args) => command::steer::rerun(args, &mut screen),
        Command::Release(args) => command::steer::release(args, &mut screen),
        Command::Artifacts(args) => command::artifacts::run(args, &mut screen),
        Command::Secrets(args) => command::secrets::run(args, &mut screen),
        Command::Agents(args) => command::agents::run(args, &mut screen),
        Command::Projects(args) => command::projects::run(args, &mut screen),
        Command::Users(args) => command::people::users(args, &mut screen),
        Command::Tokens(args) => command::people::tokens(args, &mut screen),

        Command::Store(args) => command::store::run(&cli, args, &mut screen),
        Command::Audit(args) => command::store::audit(&cli, args, &mut screen),
        Command::Doctor(args) => command::doctor::run(args, &mut screen),
        Command::Schema => command::explain::schema(&mut screen),
        Command::Completions(args) => command::completions::run(args, &mut screen),
    };
    match ended {
        Ok(code) => code.into(),
        Err(failure) => failure.report(&mut screen).into(),
    }
}
