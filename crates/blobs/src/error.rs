//! What a store may refuse, and why.

use std::io;
use std::path::PathBuf;

use crate::Key;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A blob is not there.
    #[error("blob {0} is not in the store")]
    Missing(Key),
    /// A blob's bytes on the disk were not what its name says. It is out of the store now.
    #[error("blob {0} was damaged on the disk; it was taken out of the store, so upload it again")]
    Damaged(Key),
    /// The bytes that were sent are not what the name says.
    #[error("the bytes sent for blob {expected} have the digest {actual}; send the right bytes or the right digest")]
    WrongBytes {
        /// What was announced.
        expected: Key,
        /// What came.
        actual: Key,
    },
    /// A blob, entry or list is larger than allowed.
    #[error("{what} has {size} {unit}, and at most {max} are allowed here")]
    TooLarge {
        /// Of what.
        what: String,
        /// How large it is.
        size: u64,
        /// The bound.
        max: u64,
        /// Of what `size` and `max` are numbers.
        unit: &'static str,
    },
    /// A part was asked for that the blob does not have.
    #[error("blob {key} has no byte {offset}")]
    OutOfRange {
        /// The blob.
        key: Key,
        /// Where the part was to begin.
        offset: u64,
    },
    /// Everything that may go has gone, and there is still no room.
    #[error("the store is full: its {bytes_max} bytes are all leased or in use; allow it more, or shorten leases")]
    Full {
        /// The bound.
        bytes_max: u64,
    },
    /// Another process works on the folder.
    #[error("{path} is in use by another process; stop that one or name another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
