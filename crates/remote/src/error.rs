//! Why the shared cache did not do as asked.

use std::path::PathBuf;

use model::Digest;
use tonic::{Code, Status};

/// Why the shared cache did not do as asked. None of it is a reason to fail a run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address, token or certificate cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// It failed before in this run and is not asked for a while.
    #[error("the shared cache is not asked for now: {0}")]
    Gone(String),
    /// It did not answer in time, or not at all.
    #[error("cannot {act}: {why}")]
    Unavailable {
        /// What was tried.
        act: &'static str,
        /// Why not.
        why: String,
    },
    /// It says that we may not, or that the request makes no sense to it.
    #[error("cannot {act}: the shared cache refuses: {why}")]
    Refused {
        /// What was tried.
        act: &'static str,
        /// What it says.
        why: String,
    },
    /// What it answers cannot be right.
    #[error("cannot {act}: the shared cache answers {what}")]
    Wrong {
        /// What was tried.
        act: &'static str,
        /// What is wrong about it.
        what: String,
    },
    /// It does not have the blob.
    #[error("blob {0} is not in the shared cache")]
    Missing(Digest),
    /// A file of ours cannot be read or written.
    #[error("cannot {act} {path}: {why}")]
    Local {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl Error {
    /// What a status means.
    pub(crate) fn of(act: &'static str, status: &Status) -> Error {
        let why = said(status);
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Aborted => {
                Error::Unavailable { act, why }
            }
            Code::Internal | Code::DataLoss => Error::Wrong { act, what: why },
            _ => Error::Refused { act, why },
        }
    }

    /// Whether the same request may succeed when it is made again.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }
}

/// A server's words, bounded and without control characters: they go to a terminal.
fn said(status: &Status) -> String {
    let mut why = format!("{:?}", status.code());
    let words: String = status.message().chars().filter(|c| !c.is_control()).take(300).collect();
    if !words.is_empty() {
        why = format!("{why}: {words}");
    }
    let mut cause = std::error::Error::source(status);
    while let Some(below) = cause {
        let words: String = below.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        if !words.is_empty() && !why.contains(&words) {
            why = format!("{why}: {words}");
        }
        cause = below.source();
    }
    why
}
