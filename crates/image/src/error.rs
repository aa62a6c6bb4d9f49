//! What can go wrong with an image, said so that the sentence needs no other.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas::StoreError;

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A text that names no image.
    #[error("`{text}` names no image: {why}")]
    Reference {
        /// As written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A registry said no, or nothing.
    #[error("cannot {act}: {why}{}", refusal.advice())]
    Registry {
        /// What was tried, on what.
        act: String,
        /// Why not.
        why: String,
        /// The kind of refusal.
        refusal: Refusal,
    },
    /// A document that is none.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than a bound allows.
    #[error("{what} is larger than the {bound} that are allowed")]
    TooLarge {
        /// What.
        what: String,
        /// The bound, with its unit.
        bound: String,
    },
    /// Bytes that are not those that were asked for.
    #[error("{what} is not what its digest says: expected {expected}, found {found}; nothing of it was kept")]
    Mismatch {
        /// What was read.
        what: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// A layer that tries what no layer may.
    #[error("the layer is refused at entry `{entry}`: {why}")]
    Hostile {
        /// The entry's name, made printable and cut.
        entry: String,
        /// What it tried.
        why: String,
    },
    /// An image for other machines.
    #[error("{image} has nothing for {wanted}; it has {offered}")]
    NoPlatform {
        /// Which image.
        image: String,
        /// This machine.
        wanted: String,
        /// What the index lists.
        offered: String,
    },
    /// The lock file and the reference disagree.
    #[error("{file}: {why}")]
    Lock {
        /// The lock file.
        file: String,
        /// What is wrong; what to do.
        why: String,
    },
    /// A user that the image does not know.
    #[error("the image's user `{user}` cannot be used: {why}")]
    User {
        /// As the config has it.
        user: String,
        /// Why not.
        why: String,
    },
    /// The file system refused.
    #[error("cannot {act} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The blob store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller asked to stop.
    #[error("stopped before the image was complete; what was fetched so far is kept for the next time")]
    Stopped,
}

/// Kinds of refusals, for whoever decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such image.
    Absent,
    /// Not without other credentials.
    Denied,
    /// Not now.
    Busy {
        /// How long it asks us to wait.
        wait: Option<Duration>,
    },
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It does not speak as a registry does.
    Broken,
}

impl Refusal {
    fn advice(self) -> &'static str {
        match self {
            Refusal::Denied => {
                "; log in with a tool that writes ~/.docker/config.json, or name such a file in REGISTRY_AUTH_FILE"
            }
            Refusal::Unreachable => "; an image that is locked and was fetched before needs no registry",
            Refusal::Absent | Refusal::Busy { .. } | Refusal::Broken => "",
        }
    }
}

/// Finishes an error of the file system: what was tried, on what.
pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::Io { act, path: path.to_path_buf(), source }
}

pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> ImageError {
    ImageError::Malformed { what: what.into(), why: why.into() }
}
