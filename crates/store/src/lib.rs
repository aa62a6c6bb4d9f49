//! The store of a server: the event log, the read models that follow from it, and what people keep beside it.
//!
//! One log, globally ordered and hash-chained, with a number per run; read models are tables that are written in the same
//! transaction as the facts they follow from. Two backends, one contract: SQLite (one writer, immediate transactions,
//! group commit) and PostgreSQL (a leader's lock with an epoch that every append of the leader checks). Callers are many
//! threads: what they append at the same time shares one commit.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod cell;
mod entry;
mod error;
mod ledger;
mod postgres;
mod prepared;
mod query;
mod read;
mod rebuild;
mod record;
mod retention;
mod sqlite;
mod step;
mod transfer;
mod upkeep;
mod verify;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use model::{Fact, ProjectId, RunId, RunNumber, RunSummary, Timestamp};

pub use batch::{Batch, Change, Delivery, Errand, Expect, LogChunk, LogId, ProjectFact, Receipt, Settled};
pub use error::StoreError;
pub use query::{Artifact, Audited, Counts, DeliveryRow, LogPart, RunQuery, Sequenced, Timing, Verified};
pub use record::{Kept, Record};
pub use upkeep::{backup, export, import, rebuild, restore};

use prepared::Prepared;
use read::Reader;
use writer::{Append, Backend, Writer};

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
pub struct Store {
    reader: Arc<Reader>,
    /// `None`: opened for reading only.
    writer: Option<Arc<Writer>>,
}

impl Store {
    /// Opens the store, makes it if it is new, and brings its tables up to date.
    ///
    /// # Errors
    /// It cannot be reached or written, was made by a newer version, or (SQLite) another process has it.
    pub fn open(location: &Location) -> Result<Store, StoreError> {
        match location {
            Location::Sqlite(path) => {
                let writing = sqlite::Writing::open(path)?;
                let writer = Some(Arc::new(Writer::start(Backend::Sqlite(writing))?));
                Ok(Store { reader: Arc::new(Reader::Sqlite(sqlite::Reading::new(path))), writer })
            }
            Location::Postgres(url) => {
                let (reading, writing) = postgres::open(url)?;
                let writer = Some(Arc::new(Writer::start(Backend::Postgres(Box::new(writing)))?));
                Ok(Store { reader: Arc::new(Reader::Postgres(reading)), writer })
            }
        }
    }

    /// Opens a store that is there for reading, while another process may have it. Whatever would write is refused.
    ///
    /// # Errors
    /// It is not there or cannot be reached.
    pub fn open_reading(location: &Location) -> Result<Store, StoreError> {
        let reader = match location {
            Location::Sqlite(path) => Reader::Sqlite(sqlite::Reading::existing(path)?),
            Location::Postgres(url) => Reader::Postgres(postgres::open_reading(url)?),
        };
        Ok(Store { reader: Arc::new(reader), writer: None })
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        self.writer.as_deref().ok_or_else(|| StoreError::Unavailable("it was opened for reading only".into()))
    }

    /// Tries to become the one that appends facts. `None`: somebody else is. With SQLite it succeeds at once. The right
    /// ends when the process does, when [`Store::step_down`] is called, or when the connection that holds it is gone.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn lead(&self, who: &str) -> Result<Option<Epoch>, StoreError> {
        let who = who.to_owned();
        self.writer()?.call(move |backend| backend.lead(&who))
    }

    /// Whether nobody else was given the right to append facts since. A leader that slept asks, since it may have nothing to
    /// append by which it would hear.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn leads(&self, epoch: Epoch) -> Result<bool, StoreError> {
        self.reader.is_newest(epoch)
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub fn step_down(&self, epoch: Epoch) -> Result<(), StoreError> {
        self.writer()?.call(move |backend| backend.step_down(epoch))
    }

    /// Appends all of a batch or nothing, and calls `done` once that is durable or refused, on a thread of the store: it
    /// must not block. `epoch` is needed for facts and logs, and checked whenever it is given.
    pub fn append_then(
        &self,
        epoch: Option<Epoch>,
        batch: Batch,
        done: impl FnOnce(Result<Receipt, StoreError>) + Send + 'static,
    ) {
        match self.writer().and_then(|writer| Ok((writer, Prepared::new(batch)?))) {
            Ok((writer, batch)) => writer.append(Append { epoch, batch, done: Box::new(done) }),
            Err(error) => done(Err(error)),
        }
    }

    /// Appends all of a batch or nothing. Returns once that is durable.
    ///
    /// # Errors
    /// [`StoreError::NotLeader`], [`StoreError::Conflict`] for a record that is not as expected, [`StoreError::Gap`] for a
    /// log chunk that does not follow, or the store cannot be written.
    pub fn append(&self, epoch: Option<Epoch>, batch: Batch) -> Result<Receipt, StoreError> {
        let (answer, answered) = sync_channel(1);
        // The channel has room for the one answer, so this does not block.
        self.append_then(epoch, batch, move |receipt| drop(answer.send(receipt)));
        answered.recv().unwrap_or_else(|_| Err(StoreError::Unavailable("it was closed".into())))
    }

    /// Facts of a run, in order.
    ///
    /// # Errors
    /// The store cannot be read, or what it holds is no fact.
    pub fn facts_of(&self, run: &RunId) -> Result<Vec<Fact>, StoreError> {
        self.reader.facts_of(run)
    }

    /// At most `max` facts of a run, in order, without its first `after` ones.
    ///
    /// # Errors
    /// As [`Store::facts_of`].
    pub fn facts_of_after(&self, run: &RunId, after: u64, max: usize) -> Result<Vec<Fact>, StoreError> {
        self.reader.facts_of_after(run, after, max)
    }

    /// At most `max` facts of all runs after a global number, in order.
    ///
    /// # Errors
    /// As [`Store::facts_of`].
    pub fn facts_after(&self, sequence: u64, max: usize) -> Result<Vec<Sequenced<ProjectFact>>, StoreError> {
        self.reader.facts_after(sequence, max)
    }

    /// The last global number; 0 for an empty log.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        self.reader.last_sequence()
    }

    /// Runs that have not ended, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn active_runs(&self) -> Result<Vec<RunSummary>, StoreError> {
        self.reader.active_runs()
    }

    /// A run in one line.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        self.reader.run(run)
    }

    /// The run of a number.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn run_numbered(&self, project: &ProjectId, number: RunNumber) -> Result<Option<RunSummary>, StoreError> {
        self.reader.run_numbered(project, number)
    }

    /// Runs, newest first, each with the cursor that the next page starts after.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn runs(&self, query: &RunQuery) -> Result<Vec<Sequenced<RunSummary>>, StoreError> {
        self.reader.runs(query)
    }

    /// The highest number of a run of a project; 0 if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_number(&self, project: &ProjectId) -> Result<RunNumber, StoreError> {
        self.reader.last_number(project)
    }

    /// Deliveries that nobody has settled, oldest first, at most `max` and at most 20 of one project.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open_deliveries(&self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        self.reader.open_deliveries(max)
    }

    /// Deliveries, newest first, of one project or of all, before a cursor.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn deliveries(
        &self,
        project: Option<&ProjectId>,
        before: Option<u64>,
        max: usize,
    ) -> Result<Vec<Sequenced<DeliveryRow>>, StoreError> {
        self.reader.deliveries(project, before, max)
    }

    /// A delivery by its id, and what became of it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn delivery(&self, id: &str) -> Result<Option<(Delivery, DeliveryRow)>, StoreError> {
        self.reader.delivery(id)
    }

    /// Artifacts of a run, by instance and name. Of several attempts the last one's.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn artifacts_of(&self, run: &RunId) -> Result<Vec<Artifact>, StoreError> {
        self.reader.artifacts_of(run)
    }

    /// How long the instances of a project took last, for estimates: the latest 10,000.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn timings(&self, project: &ProjectId) -> Result<Vec<Timing>, StoreError> {
        self.reader.timings(project)
    }

    /// How much there is, for metrics.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.reader.counts()
    }

    /// Part of a log: at most `max` bytes (and 16 MiB) from `offset` on, and how long the log is now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn log(&self, log: &LogId, offset: u64, max: usize) -> Result<LogPart, StoreError> {
        self.reader.log(log, offset, max)
    }

    /// Errands that are due, oldest first, at most `max`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn errands_due(&self, now: Timestamp, max: usize) -> Result<Vec<Errand>, StoreError> {
        self.reader.errands_due(now, max)
    }

    /// A record.
    ///
    /// # Errors
    /// The store cannot be read, or the record is not of this type.
    pub fn record<T: Record>(&self, key: &str) -> Result<Option<Kept<T>>, StoreError> {
        self.reader.record(key)
    }

    /// Records whose keys begin with `prefix`, in order of their keys, after a key, at most `max`.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn records<T: Record>(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Kept<T>>, StoreError> {
        self.reader.records(prefix, after, max)
    }

    /// Who changed what, newest first, before a cursor.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit(&self, before: Option<u64>, max: usize) -> Result<Vec<Sequenced<Audited>>, StoreError> {
        self.reader.audit(before, max)
    }

    /// Removes what runs of a project left behind that ended before a time: their lines in lists, logs and artifacts, and what
    /// their facts say; and the bodies of settled deliveries that came before it. What is left of a fact is its place in the chain
    /// and the SHA-256 of what it said; which runs went is written down in the log. Run ids, numbers and delivery ids are never
    /// given again. Works in small transactions, so that others write in between; what an interrupted call left is removed by
    /// the next. Returns how many runs went.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn delete_before(
        &self,
        epoch: Option<Epoch>,
        project: &ProjectId,
        before: Timestamp,
        now: Timestamp,
        by: &str,
    ) -> Result<u64, StoreError> {
        retention::remove(self, epoch, project, before, now, by)
    }

    /// Reads the whole log and holds every hash against the one before it. `progress` hears how many were read.
    ///
    /// # Errors
    /// The store cannot be read. A broken chain is no error but an answer.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
        verify::log(&self.reader, progress)
    }
}
