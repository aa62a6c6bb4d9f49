//! Why a process could not be started.

use std::io;

/// Why a process could not be started. The text is a whole sentence with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The host does not let us make namespaces: no sandbox starts here.
    #[error("cannot make a sandbox: {why}; {advice}")]
    Forbidden {
        /// What the host forbids.
        why: String,
        /// What its administrator or the user can do.
        advice: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was asked for makes no sense: a relative path, a NUL byte, no program.
    #[error("cannot start the process: {0}")]
    Invalid(String),
    /// The sandbox could not be furnished.
    #[error("cannot {what}: {source}")]
    Setup {
        /// What was tried, on which path.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program could not be executed: not there, not on `PATH`, no permission.
    #[error("cannot execute `{program}`: {why}")]
    Program {
        /// As it was asked for.
        program: String,
        /// Why not, and where it was looked for.
        why: String,
        /// What the kernel said.
        source: io::Error,
    },
}
