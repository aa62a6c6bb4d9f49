//! Work on the tables beside appending: retention, rebuilding, importing. Each is a series of steps in one transaction.

use crate::entry::Hash;
use crate::ledger::Rows;

/// A step of it.
#[derive(Debug)]
pub(crate) enum Step {
    /// Read models become empty, but for timings: what those came from retention may have removed.
    Clear,
    /// Rows of read models.
    Models(Rows),
    /// Rows of all tables, with numbers and hashes as they are.
    All(Rows),
    /// What retention removes.
    Remove(Removal),
    /// The end of the log, and the last epoch that was given.
    End { sequence: u64, hash: Hash, epoch: u64 },
}

/// What retention removes.
#[derive(Debug, Default)]
pub(crate) struct Removal {
    /// Keys of runs: their line, logs and artifacts go.
    pub runs: Vec<u64>,
    /// Entries of theirs, with the SHA-256 that takes the place of what they say.
    pub entries: Vec<(u64, Hash)>,
    /// Deliveries that keep their id and lose the rest.
    pub deliveries: Vec<u64>,
}

/// Gives the next step; `None` once all are done, and an error to undo them.
pub(crate) type Steps<'a> = &'a mut dyn FnMut() -> Result<Option<Step>, crate::StoreError>;
