//! Exit codes, stable for ever, and the failure that carries one with its message.

use std::fmt::Display;
use std::process::ExitCode;

use model::RunOutcome;

use crate::screen::Screen;

/// How `pace` ends. The numbers are documented in docs/output.md and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All green.
    Green = 0,
    /// Something in `pace` itself or around it failed.
    Internal = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The pipeline is invalid.
    Invalid = 3,
    /// A step failed.
    StepFailed = 10,
    /// The infrastructure failed, not the pipeline.
    Infrastructure = 11,
    /// Cancelled.
    Cancelled = 12,
    /// Refused by policy, or for lack of what the step asks for.
    Refused = 13,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<RunOutcome> for Exit {
    fn from(outcome: RunOutcome) -> Exit {
        match outcome {
            RunOutcome::Succeeded => Exit::Green,
            RunOutcome::Failed => Exit::StepFailed,
            RunOutcome::Infrastructure => Exit::Infrastructure,
            RunOutcome::Refused => Exit::Refused,
            RunOutcome::Cancelled => Exit::Cancelled,
        }
    }
}

/// A command that could not do what was asked: what, why not, what to do next, and the exit code.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    help: Option<String>,
}

/// What every command returns.
pub type Ended = Result<Exit, Failure>;

impl Failure {
    /// A failure of `pace` or of what is around it.
    pub fn internal(message: impl Display) -> Self {
        Failure { exit: Exit::Internal, message: message.to_string(), help: None }
    }
    /// The command line asks for something that is not there.
    pub fn usage(message: impl Display) -> Self {
        Failure { exit: Exit::Usage, message: message.to_string(), help: None }
    }
    /// The pipeline is invalid; the diagnostics were shown.
    pub fn invalid(message: impl Display) -> Self {
        Failure { exit: Exit::Invalid, message: message.to_string(), help: None }
    }
    /// Disk, sandbox or cache.
    pub fn infrastructure(message: impl Display) -> Self {
        Failure { exit: Exit::Infrastructure, message: message.to_string(), help: None }
    }
    /// What was asked for is not to be had, or must not be had.
    pub fn refused(message: impl Display) -> Self {
        Failure { exit: Exit::Refused, message: message.to_string(), help: None }
    }
    /// The user asked to stop.
    pub fn cancelled(message: impl Display) -> Self {
        Failure { exit: Exit::Cancelled, message: message.to_string(), help: None }
    }
    /// Whether trying again later may help.
    pub fn is_infrastructure(&self) -> bool {
        self.exit == Exit::Infrastructure
    }
    /// Adds what to do next.
    pub fn help(mut self, help: impl Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
    /// Shows it.
    pub fn report(&self, screen: &mut Screen) -> Exit {
        screen.error(&self.message, self.help.as_deref());
        self.exit
    }
}

/// What clap has to say: help and version go to standard output and are no failure.
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe while printing help is nobody's failure.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Green.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_exits_with_the_code_that_its_last_event_names() {
        use RunOutcome::{Cancelled, Failed, Infrastructure, Refused, Succeeded};
        for outcome in [Succeeded, Failed, Infrastructure, Refused, Cancelled] {
            assert_eq!(Exit::from(outcome) as u8, view::exit_code(outcome));
        }
    }
}
