//! Why a store does not do what it was asked.

/// Why a store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else leads, or a later epoch was given. Nothing was written.
    #[error("another server leads now; this one writes nothing more")]
    NotLeader,
    /// A record is not as the change expects it. Nothing was written.
    #[error("{kind} `{key}` was changed by somebody else in the meantime, or is there already; read it again")]
    Conflict {
        /// Kind of the record.
        kind: String,
        /// Its key.
        key: String,
    },
    /// A log chunk begins after the end of what is there. Nothing was written.
    #[error("the log ends at byte {have}, and the chunk begins at {got}; send what is between")]
    Gap {
        /// Bytes that are there.
        have: u64,
        /// Where the chunk begins.
        got: u64,
    },
    /// A fact that cannot follow what is there (a run asked for twice). Nothing was written.
    #[error("{0}")]
    Illegal(String),
    /// No room on the disk. Nothing was written.
    #[error("no room is left where the store is: {0}; make room, nothing that was acknowledged is lost")]
    Full(String),
    /// It cannot be reached, read or written now; trying again may help.
    #[error("the store is not to be reached: {0}")]
    Unavailable(String),
    /// What is there cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
