//! What a check is, how it is run, and what can come of it.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tonic::{Code, Status};

use crate::Server;

/// A server that says nothing for so long has failed the check. Seconds, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How strongly the protocol words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A client may rely on it.
    Must,
    /// Clients are better off with it.
    Should,
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// The service or the part of it.
    pub group: &'static str,
    /// What the server does when it passes.
    pub promise: &'static str,
    /// How strongly the protocol words it.
    pub level: Level,
    /// The sentence of the protocol that it stands on, in our words.
    pub rule: &'static str,
    pub(crate) run: for<'a> fn(&'a Server) -> BoxFuture<'a, Verdict>,
}

impl Check {
    /// `group/promise`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.group, self.promise)
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Pass,
    /// It is not, and what was seen instead.
    Fail(String),
    /// The server does not say that it can do this.
    NotSupported(String),
}

/// A check and what came of it.
#[derive(Debug)]
pub struct Result {
    /// The check.
    pub check: &'static Check,
    /// What came of it.
    pub outcome: Outcome,
}

/// Runs checks, one after the other, so that none is disturbed by what another does to the server.
pub async fn run(server: &Server, checks: &[&'static Check]) -> Vec<Result> {
    let mut results = Vec::new();
    for check in checks {
        let outcome = match tokio::time::timeout(TIMEOUT, (check.run)(server)).await {
            Ok(Ok(())) => Outcome::Pass,
            Ok(Err(Failure::Wrong(seen))) => Outcome::Fail(seen),
            Ok(Err(Failure::NotSupported(what))) => Outcome::NotSupported(what),
            Err(_) => Outcome::Fail(format!("no answer within {} seconds", TIMEOUT.as_secs())),
        };
        results.push(Result { check, outcome });
    }
    results
}

/// What a check finds: nothing to say, or why it did not pass.
pub(crate) type Verdict = std::result::Result<(), Failure>;

/// Why a check did not pass.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Wrong(String),
    NotSupported(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Wrong(told(&status))
    }
}

/// A status in one line.
pub(crate) fn told(status: &Status) -> String {
    format!("answered {:?}: {}", status.code(), status.message().chars().take(160).collect::<String>())
}

/// Passes if it is so.
pub(crate) fn holds(so: bool, otherwise: impl Into<String>) -> Verdict {
    if so { Ok(()) } else { Err(Failure::Wrong(otherwise.into())) }
}

/// Passes if both are equal.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Verdict {
    holds(seen == expected, format!("{what} is {seen:?}, expected {expected:?}"))
}

/// Passes if both are equal; for content, which nobody wants to see printed.
pub(crate) fn same_bytes(what: &str, seen: &[u8], expected: &[u8]) -> Verdict {
    let first = seen.iter().zip(expected).position(|(a, b)| a != b);
    let otherwise =
        format!("{what} has {} bytes, expected {}, the first that differs at {first:?}", seen.len(), expected.len());
    holds(seen == expected, otherwise)
}

/// Passes if it was refused with one of these codes.
pub(crate) fn refused<T: Debug>(answer: std::result::Result<T, Status>, codes: &[Code]) -> Verdict {
    match answer {
        Err(status) if codes.contains(&status.code()) => Ok(()),
        Err(status) => Err(Failure::Wrong(format!("{}, expected {codes:?}", told(&status)))),
        Ok(_) => Err(Failure::Wrong(format!("was accepted, expected {codes:?}"))),
    }
}

/// Passes if a status inside an answer has one of these codes.
pub(crate) fn coded(code: i32, codes: &[Code]) -> Verdict {
    let code = Code::from(code);
    holds(codes.contains(&code), format!("its status is {code:?}, expected {codes:?}"))
}

/// The table of a group: level, function, sentence.
macro_rules! checks {
    ($group:literal: $($level:ident $run:ident $rule:literal)*) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[$($crate::check::Check {
            group: $group,
            promise: stringify!($run),
            level: $crate::check::Level::$level,
            rule: $rule,
            run: |server| Box::pin($run(server)),
        }),*];
    };
}
pub(crate) use checks;
