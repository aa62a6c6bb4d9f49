//! Entries: small values under a name, that are there only as long as every blob they need is.

use bytes::Bytes;

use crate::Key;

/// The name of an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// Which collection: an action cache's domain, the files of one HTTP client, a map of assets. At most
    /// [`SPACE_BYTES_MAX`] bytes. Entries of different spaces never meet.
    pub space: String,
    /// Within the space; what has another kind of name uses a hash of it.
    pub hash: [u8; 32],
}

/// Length of [`EntryId::space`] in bytes: names of instances are short, and each record repeats it.
pub const SPACE_BYTES_MAX: usize = 1024;
/// Length of [`Entry::value`] in bytes. What is larger is a blob that the entry needs.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Blobs that one entry may need.
pub const NEEDS_MAX: usize = 1 << 20;

/// An entry. The newest one under a name counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// What it says, at most [`VALUE_BYTES_MAX`] bytes: an encoded `ActionResult`, for example.
    pub value: Bytes,
    /// The blobs without which it is worth nothing, at most [`NEEDS_MAX`], flattened once when it is written.
    pub needs: Vec<Key>,
    /// Who wrote it: the name of a token and what it said of its run. Entries can be purged by it.
    pub writer: String,
    /// When it was written: seconds since 1970-01-01 UTC.
    pub written: u64,
}
