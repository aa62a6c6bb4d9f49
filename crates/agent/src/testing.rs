//! Specs for tests.

use model::{CommandSpec, Glob, GlobList};

/// A command with nothing but a script.
pub(crate) fn command(script: &str) -> CommandSpec {
    CommandSpec { has_dependants: true, ..CommandSpec::new(script) }
}

pub(crate) fn globs(patterns: &[&str]) -> GlobList {
    GlobList(patterns.iter().map(|pattern| Glob::parse(pattern).expect(pattern)).collect())
}
