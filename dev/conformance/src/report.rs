//! What came of the checks, for people and for programs.

use std::fmt::Write;

use crate::{Level, Outcome, Result};

/// A line for each check, the failed ones with the sentence they stand on, and the sums.
pub fn table(results: &[Result]) -> String {
    let mut text = String::new();
    for result in results {
        let name = result.check.name();
        let _ = match &result.outcome {
            Outcome::Pass => writeln!(text, "pass  {name}"),
            Outcome::NotSupported(what) => writeln!(text, "-     {name}: {what}"),
            Outcome::Fail(seen) => {
                let level = worded(result.check.level);
                writeln!(text, "FAIL  {name} ({level})\n      {seen}\n      protocol: {}", result.check.rule)
            }
        };
    }
    for level in [Level::Must, Level::Should] {
        let of_level = || results.iter().filter(|result| result.check.level == level);
        let count = |is: fn(&Outcome) -> bool| of_level().filter(|result| is(&result.outcome)).count();
        let _ = writeln!(
            text,
            "{}: {} passed, {} failed, {} not supported",
            worded(level),
            count(|outcome| matches!(outcome, Outcome::Pass)),
            count(|outcome| matches!(outcome, Outcome::Fail(_))),
            count(|outcome| matches!(outcome, Outcome::NotSupported(_))),
        );
    }
    text
}

/// A list of objects: `name`, `level`, `rule`, `outcome` (`pass`, `fail`, `not-supported`) and, if there is one, `why`.
pub fn json(results: &[Result]) -> String {
    let one = |result: &Result| {
        let (outcome, why) = match &result.outcome {
            Outcome::Pass => ("pass", None),
            Outcome::Fail(why) => ("fail", Some(why)),
            Outcome::NotSupported(why) => ("not-supported", Some(why)),
        };
        serde_json::json!({
            "name": result.check.name(),
            "level": worded(result.check.level),
            "rule": result.check.rule,
            "outcome": outcome,
            "why": why,
        })
    };
    let all: Vec<_> = results.iter().map(one).collect();
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

fn worded(level: Level) -> &'static str {
    match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    }
}
