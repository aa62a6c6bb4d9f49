//! The facts of a run as text: the live tree, plain lines, JSON events, the summary, JUnit and the plan.
//!
//! Everything here is a fold over [`model::Fact`] and log lines, without IO and without a clock (`clippy.toml` keeps it
//! that way), so a recorded run reads the same as one that is watched. The order of use is always: fold a fact into
//! [`RunView`], then render it.
#![forbid(unsafe_code)]

pub mod ansi;
mod errors;
pub mod json;
pub mod junit;
pub mod live;
pub mod page;
pub mod plain;
pub mod plan_text;
mod run;
#[cfg(test)]
mod scene;
pub mod summary;
mod tree;

pub use ansi::Style;
pub use run::{Counts, LogLine, RunView, StepState, StepView};

use model::RunOutcome;

/// The exit code of `pace` after a run: 0 green, 10 a step failed, 11 infrastructure, 12 cancelled, 13 refused.
pub fn exit_code(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Succeeded => 0,
        RunOutcome::Failed => 10,
        RunOutcome::Infrastructure => 11,
        RunOutcome::Cancelled => 12,
        RunOutcome::Refused => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_exit_code() {
        use RunOutcome::*;
        assert_eq!([Succeeded, Failed, Infrastructure, Cancelled, Refused].map(exit_code), [0, 10, 11, 12, 13]);
    }
}
