//! Results by action digest, and what `pace why` and flaky detection remember.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{ArtifactRef, Digest, LayerRef, ReportKind, RunId, RunNumber, Timestamp};

use crate::{Store, StoreError};

/// What an execution left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRecord {
    /// The run that executed it.
    pub run: RunId,
    /// That run's number.
    pub number: RunNumber,
    /// When it ended.
    pub finished: Timestamp,
    /// Exit code.
    pub exit: i32,
    /// How long it took.
    pub took: Duration,
    /// Values for its dependants.
    pub values: BTreeMap<String, String>,
    /// What it wrote.
    pub layer: Option<LayerRef>,
    /// Its log, as a blob.
    pub log: Option<Digest>,
    /// Kept artifacts.
    pub artifacts: Vec<ArtifactRef>,
    /// Kept reports.
    pub reports: Vec<(ReportKind, Digest)>,
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Peak resident memory of the largest process, in bytes.
    pub memory_peak: u64,
}

/// How often an action ended how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Times it succeeded.
    pub succeeded: u32,
    /// Times it failed.
    pub failed: u32,
}

impl Outcomes {
    /// The same action with different outcomes.
    pub fn is_flaky(self) -> bool {
        self.succeeded > 0 && self.failed > 0
    }
}

/// Records by action digest, beside the blobs.
#[derive(Clone, Debug)]
pub struct ActionStore {
    #[allow(dead_code)]
    root: PathBuf,
}

impl ActionStore {
    /// Opens or makes it below `root`, the same folder as the [`Store`]'s.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(_root: &Path) -> Result<ActionStore, StoreError> {
        unimplemented!()
    }
    /// The record of an action, marked as used. A damaged one is removed and absent.
    pub fn lookup(&self, _action: &Digest) -> Option<ActionRecord> {
        unimplemented!()
    }
    /// Keeps a record. The blobs it names must be in the store already.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn record(&self, _action: &Digest, _record: &ActionRecord) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Forgets a record.
    pub fn remove(&self, _action: &Digest) {
        unimplemented!()
    }
    /// Whether every blob that a record names is in the store (its layer's files included).
    pub fn complete(&self, _record: &ActionRecord, _store: &Store) -> bool {
        unimplemented!()
    }
    /// The last action of a step.
    pub fn last(&self, _pipeline: &str, _step: &str) -> Option<Digest> {
        unimplemented!()
    }
    /// Remembers the last action of a step.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_last(&self, _pipeline: &str, _step: &str, _action: &Digest) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// How often an action ended how.
    pub fn outcomes(&self, _action: &Digest) -> Outcomes {
        unimplemented!()
    }
    /// Counts an outcome; returns all of them, this one included.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn note_outcome(&self, _action: &Digest, _succeeded: bool) -> Result<Outcomes, StoreError> {
        unimplemented!()
    }
}
