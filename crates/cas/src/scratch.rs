//! Scratch folders and pins: what belongs to a living process, and is known to be litter when that process is gone.

use std::path::{Path, PathBuf};

use model::RunId;

use crate::StoreError;

/// A folder of this process below the cache folder (so that renames and hard links into the store work). Removed when
/// dropped; swept by the next process if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one, and sweeps those of processes that are gone.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(_root: &Path) -> Result<Scratch, StoreError> {
        unimplemented!()
    }
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// While it lives, garbage collection keeps everything that was put or used since it began. One per run.
#[derive(Debug)]
pub struct Pin {}

impl Pin {
    /// Begins to hold.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn hold(_root: &Path, _run: &RunId) -> Result<Pin, StoreError> {
        unimplemented!()
    }
}
