//! Named caches: writable directories that live beside the actions, as stacks of overlay layers.

use std::path::{Path, PathBuf};

use crate::StoreError;

/// All named caches of one cache folder.
#[derive(Clone, Debug)]
pub struct NamedCaches {
    #[allow(dead_code)]
    root: PathBuf,
}

/// A view of a named cache. What it shows stays as long as the lease lives.
#[derive(Debug)]
pub struct Lease {
    /// Lower directories of an overlay, the topmost first; empty on first use.
    pub lowers: Vec<PathBuf>,
    /// The key itself was there, not only a fallback.
    pub exact: bool,
    /// The key whose content it shows.
    pub from: Option<String>,
}

/// What became of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitEnd {
    /// It is the newest generation now.
    Committed,
    /// Somebody else was faster; it was dropped.
    Stale,
}

impl NamedCaches {
    /// Opens or makes them below `root`, the same folder as the [`crate::Store`]'s.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open_all(_root: &Path) -> Result<NamedCaches, StoreError> {
        unimplemented!()
    }
    /// Leases the cache of `key`, or of the newest key that starts with the first of `fallback` that any key starts with.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(&self, _key: &str, _fallback: &[String]) -> Result<Lease, StoreError> {
        unimplemented!()
    }
    /// Moves `upper` (an overlay's upper directory in the same file system) on top of what was leased, as the newest
    /// generation of the leased key.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn commit(&self, _lease: Lease, _upper: PathBuf) -> Result<CommitEnd, StoreError> {
        unimplemented!()
    }
}
