//! The repository as a step sees it: tracked files, and untracked ones that are not ignored.

use std::path::{Path, PathBuf};

use crate::Tree;

/// The repository at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its folder.
    pub root: PathBuf,
    /// What is in view.
    pub tree: Tree,
    /// Files and links in view.
    pub files: usize,
    /// Paths below the root that exist and are not in view, folders as a whole; among them `.git`.
    pub hidden: Vec<PathBuf>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Git is not there or fails.
    #[error("cannot list the files of {root}: git says: {message}")]
    Git {
        /// The repository.
        root: PathBuf,
        /// What git said.
        message: String,
    },
    /// A name that is not UTF-8.
    #[error("{}: its name is not UTF-8; rename it or ignore it", .0.display())]
    NotUtf8(PathBuf),
    /// A socket, a device or a named pipe.
    #[error("{path} is {what}; ignore it or remove it")]
    Special {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file that does not hold still.
    #[error("{path} changed each of the {tries} times it was read; stop what writes it, or ignore it")]
    Changing {
        /// The path.
        path: PathBuf,
        /// How often it was read.
        tries: u32,
    },
    /// A file or folder cannot be read.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// More files than a tree holds, or too deep.
    #[error(transparent)]
    Tree(#[from] crate::TreeError),
}

impl Snapshot {
    /// Looks at `root`. Digests of files that did not change since the last time come from `index_file`, which is
    /// written anew (a damaged one is ignored; failing to write it is not an error).
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn take(_root: &Path, _index_file: &Path) -> Result<Snapshot, SnapshotError> {
        unimplemented!()
    }
    /// What is in view and is not on the disk any more as it was then. Paths below the root.
    pub fn changed_since(&self) -> Vec<PathBuf> {
        unimplemented!()
    }
    /// The value of `hash(…)`: 64 hexadecimal digits over path, content and mode of all files and links that the
    /// patterns take in. A pattern that does not parse takes in nothing.
    pub fn hash_of(&self, _globs: &[String]) -> String {
        unimplemented!()
    }
    /// What must be hidden of the root so that only `tree` (a filter of [`Snapshot::tree`]) shows: [`Snapshot::hidden`]
    /// and everything of the view that is not in `tree`, folders as a whole.
    pub fn hidden_but(&self, _tree: &Tree) -> Vec<PathBuf> {
        unimplemented!()
    }
}
