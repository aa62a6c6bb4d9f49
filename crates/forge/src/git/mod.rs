//! Repositories: where they are, a bare mirror of each, and what is read from it. All of it is the `git` program, started
//! with an environment of its own: no configuration, hook, prompt or credential of whoever runs the server.

mod address;
mod cat;
mod command;
mod credential;
mod fetch;
mod mirror;
mod name;
mod object;

pub use address::{Address, AddressError};
pub use command::{Program, SILENT_MAX};
pub use credential::Credential;
pub use mirror::{Mirror, Mirrors, Remote};
pub use name::{is_abbreviated, is_commit, is_ref_name};
pub use object::{CommitInfo, Entry, EntryKind};

/// Why git does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The repository's address is none that is fetched from.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no git, or no room for it.
    #[error("cannot start git: {0}; install git on the server")]
    Start(String),
    /// Git failed; with what it said.
    #[error("cannot {act}: {said}")]
    Failed {
        /// What was tried: `fetch https://…`.
        act: String,
        /// Its first lines, without secrets.
        said: String,
    },
    /// It took too long and was ended.
    #[error("cannot {act}: it took longer than {seconds} s and was ended")]
    TimedOut {
        /// What was tried.
        act: String,
        /// How long it was let.
        seconds: u64,
    },
    /// There is no such commit, branch or tag.
    #[error("{repository} has no {what}")]
    Missing {
        /// Where it was looked for.
        repository: String,
        /// What.
        what: String,
    },
    /// A file or a list that is larger than anybody reads.
    #[error("{what} has {bytes} bytes, more than the {bytes_max} that are read")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        bytes: u64,
        /// What is read.
        bytes_max: u64,
    },
    /// A name that git could take for something else.
    #[error("`{0}` is neither a commit nor a name that git allows")]
    Name(String),
    /// The mirror's folder cannot be used.
    #[error("the mirror {path}: {why}")]
    Folder {
        /// The folder.
        path: String,
        /// Why not.
        why: String,
    },
}

impl GitError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            GitError::Start(_) | GitError::Failed { .. } | GitError::TimedOut { .. } | GitError::Folder { .. }
        )
    }
}
