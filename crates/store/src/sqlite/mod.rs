//! SQLite: one file, one process, one writing connection; a few connections that only read.

mod known;
mod migrate;
mod write;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::cell::{Cell, Param, Row, int};
use crate::ledger::{Ledger, Needs, Rows};
use crate::prepared::Prepared;
use crate::step::{Step, Steps};
use crate::{Epoch, Receipt, StoreError};

/// Connections that read at the same time. More would not read faster, and each costs memory.
const READERS_MAX: usize = 8;
/// Connections that are kept when nobody reads.
const READERS_KEPT: usize = 2;
/// Statements that a connection keeps ready: all there are.
const STATEMENTS: usize = 64;
/// Only recovery after a crash, or a backup by another process, makes us wait at all.
const BUSY: Duration = Duration::from_secs(10);

/// The connections that read.
#[derive(Debug)]
pub(crate) struct Reading {
    path: PathBuf,
    pool: Mutex<Pool>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Writing {
    connection: Connection,
    ledger: Ledger,
    /// Held for as long as the process has the store.
    _lock: File,
}

impl Reading {
    pub(crate) fn new(path: &Path) -> Reading {
        Reading { path: path.into(), pool: Mutex::default(), freed: Condvar::new() }
    }

    /// Of a file that another process may have.
    pub(crate) fn existing(path: &Path) -> Result<Reading, StoreError> {
        let reading = Reading::new(path);
        if !path.is_file() {
            return Err(StoreError::Unavailable(format!("{} is not there", path.display())));
        }
        reading.query("SELECT sequence FROM head", &[])?;
        Ok(reading)
    }

    pub(crate) fn query(&self, sql: &str, params: &[Param]) -> Result<Vec<Row>, StoreError> {
        let connection = self.take()?;
        let rows = query(&connection, sql, params);
        self.give_back(connection);
        rows
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(connection);
            }
            if pool.open < READERS_MAX {
                break;
            }
            pool = self.freed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.open += 1;
        drop(pool);
        open_reader(&self.path).inspect_err(|_| self.close_one())
    }

    fn give_back(&self, connection: Connection) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.idle.len() < READERS_KEPT {
            pool.idle.push(connection);
            self.freed.notify_one();
        } else {
            drop(pool);
            drop(connection);
            self.close_one();
        }
    }

    fn close_one(&self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
        self.freed.notify_one();
    }
}

impl Writing {
    /// Takes the file for this process, makes it if it is new, and brings its tables up to date.
    pub(crate) fn open(path: &Path) -> Result<Writing, StoreError> {
        let lock = lock(path)?;
        let mut connection = open_writer(path)?;
        migrate::run(&mut connection, path)?;
        let ledger = ledger(&connection)?;
        Ok(Writing { connection, ledger, _lock: lock })
    }

    /// Appends a group in one transaction. An error means that nothing of it was written.
    pub(crate) fn commit(
        &mut self,
        group: Vec<(Option<Epoch>, Prepared)>,
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let answers = self.try_commit(group);
        if answers.is_err() {
            self.start_over()?;
        }
        answers
    }

    fn try_commit(
        &mut self,
        group: Vec<(Option<Epoch>, Prepared)>,
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        let needs = Needs::of(&self.ledger, group.iter().map(|(_, batch)| batch));
        let known = known::load(&self.connection, &needs)?;
        let (rows, answers) = self.ledger.settle(group, known);
        if !rows.is_empty() {
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(told)?;
            self.write(&rows).map_err(told)?;
            self.connection.execute_batch("COMMIT").map_err(told)?;
        }
        Ok(answers)
    }

    fn write(&self, rows: &Rows) -> rusqlite::Result<()> {
        write::rows(&self.connection, rows)?;
        let head = "UPDATE head SET sequence = ?1, hash = ?2";
        self.connection.prepare_cached(head)?.execute((self.ledger.sequence.cast_signed(), self.ledger.hash))?;
        Ok(())
    }

    /// Carries out steps in one transaction: all of them, or none.
    pub(crate) fn transact(&mut self, steps: Steps<'_>) -> Result<(), StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(told)?;
        let done = self.steps(steps);
        if done.is_ok() {
            self.connection.execute_batch("COMMIT").map_err(told)?;
        }
        // What it remembers of the log may have been changed.
        self.start_over()?;
        done
    }

    fn steps(&mut self, steps: Steps<'_>) -> Result<(), StoreError> {
        while let Some(step) = steps()? {
            let connection = &self.connection;
            match step {
                Step::Clear => write::clear(connection),
                Step::Models(rows) => write::read_models(connection, &rows),
                Step::All(rows) => write::rows(connection, &rows),
                Step::Remove(removal) => write::remove(connection, &removal),
                Step::End { sequence, hash, epoch } => {
                    let sql = "UPDATE head SET sequence = ?1, hash = ?2, epoch = MAX(epoch, ?3)";
                    connection.execute(sql, (int(sequence), hash, int(epoch))).map(drop)
                }
            }
            .map_err(told)?;
        }
        Ok(())
    }

    /// After a failure: the tables say what is, not what we remember.
    fn start_over(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            // Some failures have rolled back already, and then this one says so.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        let epoch = self.ledger.epoch;
        self.ledger = ledger(&self.connection)?;
        self.ledger.epoch = epoch;
        Ok(())
    }

    /// Gives the right to append facts to `who`; whoever had it before has it no more.
    pub(crate) fn lead(&mut self, who: &str) -> Result<Option<Epoch>, StoreError> {
        let sql = "UPDATE head SET epoch = epoch + 1, leader = ?1 RETURNING epoch";
        let epoch: i64 = self.connection.query_row(sql, [who], |row| row.get(0)).map_err(told)?;
        self.ledger.epoch = epoch.unsigned_abs();
        Ok(Some(Epoch(self.ledger.epoch)))
    }

    pub(crate) fn step_down(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        if self.ledger.epoch == epoch.0 {
            self.ledger.epoch = 0;
        }
        Ok(())
    }
}

/// Copies the file as it is at this moment, while others may write to it. The copy is there once all of it is on the disk.
pub(crate) fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    let source = open_reader(path)?;
    let part = beside(to, ".part");
    let copied = (|| {
        let mut copy = Connection::open(&part).map_err(told)?;
        let backup = rusqlite::backup::Backup::new(&source, &mut copy).map_err(told)?;
        // All at once: one that stops in between would begin anew with each commit of a busy server.
        backup.step(-1).map_err(told)?;
        drop(backup);
        copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(told)?;
        drop(copy);
        let unwritten = |error| StoreError::Unavailable(format!("{} cannot be written: {error}", to.display()));
        File::open(&part).and_then(|file| file.sync_all()).map_err(unwritten)?;
        std::fs::rename(&part, to).map_err(unwritten)
    })();
    if copied.is_err() {
        // Half a copy helps nobody; if it cannot be removed, that was told already.
        let _ = std::fs::remove_file(&part);
    }
    copied
}

/// The end of the log. Nobody leads yet.
fn ledger(connection: &Connection) -> Result<Ledger, StoreError> {
    let mut rows = query(connection, "SELECT sequence, hash FROM head", &[])?;
    let Some(head) = rows.first_mut() else {
        return Err(StoreError::Damaged("the end of the log is not written down".into()));
    };
    Ok(Ledger::new(head.int()?, head.hash()?, 0))
}

fn query(connection: &Connection, sql: &str, params: &[Param]) -> Result<Vec<Row>, StoreError> {
    let ask = || {
        let mut statement = connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query(rusqlite::params_from_iter(params))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let cells = (0..columns).map(|at| row.get_ref(at).map(cell)).collect::<rusqlite::Result<_>>()?;
            rows.push(Row::new(cells));
        }
        Ok(rows)
    };
    ask().map_err(told)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null | ValueRef::Real(_) => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

impl rusqlite::ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Int(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

/// Makes the file, if it must, such that only its owner reads it, and takes it for this process. SQLite's own locks would let
/// a second process in between two transactions.
fn lock(path: &Path) -> Result<File, StoreError> {
    let cannot = |what: &Path, error: std::io::Error| {
        StoreError::Unavailable(format!("{} cannot be opened for writing: {error}", what.display()))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    }
    let mut private = OpenOptions::new();
    private.create(true).append(true).mode(0o600);
    private.open(path).map_err(|error| cannot(path, error))?;
    let beside = beside(path, "-lock");
    let file = private.open(&beside).map_err(|error| cannot(&beside, error))?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // What a killed server had started holds the lock until it has ended, too.
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_WAIT / 100),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unavailable(format!(
                    "another process has {}; stop it, or give this one a folder of its own",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(&beside, error)),
        }
    }
}

/// How long the lock of a server that ended a moment ago is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(told)?;
    settings(&connection).map_err(told)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -4096;
             PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(told)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        settings(&connection)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
        Ok(connection)
    };
    open().map_err(told)
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY")
}

/// What an error of SQLite means for whoever asked.
fn told(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        _ => StoreError::Unavailable(text),
    }
}
