//! The store of a server: the event log, the read models that follow from it, and what people keep beside it.
//!
//! One log, globally ordered and hash-chained, with a number per run; read models are tables that are written in the same
//! transaction as the facts they follow from. Two backends, one contract: SQLite (one writer, immediate transactions,
//! group commit) and PostgreSQL (a leader's lock with an epoch that every append of the leader checks). Callers are many
//! threads: what they append at the same time shares one commit.
#![forbid(unsafe_code)]

mod batch;
mod error;
mod query;
mod record;

use std::path::PathBuf;

use model::{Fact, ProjectId, RunId, RunNumber, RunSummary, Timestamp};

pub use batch::{Batch, Change, Delivery, Errand, Expect, LogChunk, LogId, ProjectFact, Receipt, Settled};
pub use error::StoreError;
pub use query::{Audited, DeliveryRow, LogPart, RunQuery, Sequenced, Verified};
pub use record::{Kept, Record};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite, made when absent.
    Sqlite(PathBuf),
    /// `postgres://…`, as libpq writes it.
    Postgres(String),
}

/// The right to append facts of runs. Higher than any other that was given before; a store refuses lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A store. Cheap to clone; all clones are one store. Every method may be called from any thread and blocks until it has
/// its answer, but for [`Store::append_then`].
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the store, makes it if it is new, and brings its tables up to date.
    ///
    /// # Errors
    /// It cannot be reached or written, was made by a newer version, or (SQLite) another process has it.
    pub fn open(_location: &Location) -> Result<Store, StoreError> {
        Err(unready())
    }

    /// Tries to become the one that appends facts. `None`: somebody else is. With SQLite it succeeds at once. The right
    /// ends when the process does, when [`Store::step_down`] is called, or when the connection that holds it is gone.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn lead(&self, _who: &str) -> Result<Option<Epoch>, StoreError> {
        Err(unready())
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn step_down(&self, _epoch: Epoch) -> Result<(), StoreError> {
        Err(unready())
    }

    /// Appends all of a batch or nothing, and calls `done` once that is durable or refused, on a thread of the store: it
    /// must not block. `epoch` is needed for facts and logs, and checked whenever it is given.
    pub fn append_then(
        &self,
        _epoch: Option<Epoch>,
        _batch: Batch,
        done: impl FnOnce(Result<Receipt, StoreError>) + Send + 'static,
    ) {
        done(Err(unready()));
    }

    /// Appends all of a batch or nothing. Returns once that is durable.
    ///
    /// # Errors
    /// [`StoreError::NotLeader`], [`StoreError::Conflict`] for a record that is not as expected, [`StoreError::Gap`] for a
    /// log chunk that does not follow, or the store cannot be written.
    pub fn append(&self, _epoch: Option<Epoch>, _batch: Batch) -> Result<Receipt, StoreError> {
        Err(unready())
    }

    /// Facts of a run, in order.
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is no fact.
    pub fn facts_of(&self, _run: &RunId) -> Result<Vec<Fact>, StoreError> {
        Err(unready())
    }

    /// At most `max` facts of all runs after a global number, in order.
    ///
    /// # Errors
    /// As [`Store::facts_of`].
    pub fn facts_after(&self, _sequence: u64, _max: usize) -> Result<Vec<Sequenced<ProjectFact>>, StoreError> {
        Err(unready())
    }

    /// The last global number; 0 for an empty log.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        Err(unready())
    }

    /// Runs that have not ended, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn active_runs(&self) -> Result<Vec<RunSummary>, StoreError> {
        Err(unready())
    }

    /// A run in one line.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn run(&self, _run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        Err(unready())
    }

    /// The run of a number.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn run_numbered(&self, _project: &ProjectId, _number: RunNumber) -> Result<Option<RunSummary>, StoreError> {
        Err(unready())
    }

    /// Runs, newest first, each with the cursor that the next page starts after.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn runs(&self, _query: &RunQuery) -> Result<Vec<Sequenced<RunSummary>>, StoreError> {
        Err(unready())
    }

    /// The highest number of a run of a project; 0 if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_number(&self, _project: &ProjectId) -> Result<RunNumber, StoreError> {
        Err(unready())
    }

    /// Deliveries that nobody has settled, oldest first, at most `max`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open_deliveries(&self, _max: usize) -> Result<Vec<Delivery>, StoreError> {
        Err(unready())
    }

    /// Deliveries, newest first, of one project or of all, before a cursor.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn deliveries(
        &self,
        _project: Option<&ProjectId>,
        _before: Option<u64>,
        _max: usize,
    ) -> Result<Vec<Sequenced<DeliveryRow>>, StoreError> {
        Err(unready())
    }

    /// Part of a log: at most `max` bytes from `offset` on, and how long the log is now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn log(&self, _log: &LogId, _offset: u64, _max: usize) -> Result<LogPart, StoreError> {
        Err(unready())
    }

    /// Errands that are due, oldest first, at most `max`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn errands_due(&self, _now: Timestamp, _max: usize) -> Result<Vec<Errand>, StoreError> {
        Err(unready())
    }

    /// A record.
    ///
    /// # Errors
    /// The store cannot be read, or the record is not of this type.
    pub fn record<T: Record>(&self, _key: &str) -> Result<Option<Kept<T>>, StoreError> {
        Err(unready())
    }

    /// Records whose keys begin with `prefix`, in order of their keys, after a key, at most `max`.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn records<T: Record>(&self, _prefix: &str, _after: &str, _max: usize) -> Result<Vec<Kept<T>>, StoreError> {
        Err(unready())
    }

    /// Who changed what, newest first, before a cursor.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit(&self, _before: Option<u64>, _max: usize) -> Result<Vec<Sequenced<Audited>>, StoreError> {
        Err(unready())
    }

    /// Reads the whole log and holds every hash against the one before it. `progress` hears how many were read.
    ///
    /// # Errors
    /// The store cannot be read. A broken chain is no error but an answer.
    pub fn verify(&self, _progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
        Err(unready())
    }
}

fn unready() -> StoreError {
    StoreError::Unavailable("it is being built".into())
}
