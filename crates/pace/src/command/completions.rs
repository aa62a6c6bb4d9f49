//! `pace completions`: completion scripts, generated from the command line's own definition.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{Ended, Exit};
use crate::screen::Screen;

/// Prints the script.
pub fn run(args: &CompletionsArgs, screen: &mut Screen) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pace", &mut script);
    screen.text(&String::from_utf8_lossy(&script));
    Ok(Exit::Green)
}
