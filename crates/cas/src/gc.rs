//! How much the cache folder holds, and what may go.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::StoreError;

/// What the cache folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Action records.
    pub actions: u64,
    /// Named caches.
    pub named: u64,
    /// Their bytes.
    pub named_bytes: u64,
    /// Bytes of scratch folders.
    pub scratch_bytes: u64,
    /// Damaged blobs that were taken out.
    pub damaged: u64,
}

/// What may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Keep {
    /// At most so many bytes of blobs and named caches.
    pub bytes_max: Option<u64>,
    /// Nothing that was not used for so long.
    pub age_max: Option<Duration>,
}

/// What went, or would go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Action records.
    pub actions: u64,
    /// Blobs.
    pub blobs: u64,
    /// Named caches.
    pub named: u64,
    /// Scratch folders and temporary files.
    pub scratch: u64,
    /// Bytes freed.
    pub bytes: u64,
    /// Bytes of blobs and named caches that stay.
    pub bytes_left: u64,
    /// Things that had to stay because a run is under way.
    pub pinned: u64,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were damaged and taken out.
    pub damaged: Vec<model::Digest>,
    /// Action records that were damaged and removed.
    pub records: u64,
}

/// Counts what is below `root`.
///
/// # Errors
/// The file system refuses.
pub fn stats(_root: &Path) -> Result<Stats, StoreError> {
    unimplemented!()
}

/// Drops the least recently used action records until `keep` holds, then blobs no record names, named caches and
/// litter. Never what was put or used since the oldest run under way began.
///
/// # Errors
/// The file system refuses.
pub fn gc(_root: &Path, _keep: Keep, _now: SystemTime, _dry_run: bool) -> Result<GcReport, StoreError> {
    unimplemented!()
}

/// Reads everything again and takes out what is damaged.
///
/// # Errors
/// The file system refuses.
pub fn verify(_root: &Path) -> Result<Verified, StoreError> {
    unimplemented!()
}
