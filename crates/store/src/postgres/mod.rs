//! PostgreSQL: several processes read and write; one at a time leads.
//!
//! Whoever appends first locks the row that holds the end of the log, so that numbers and hashes are given in one order, and
//! sees in the same row who leads. A leader leads for 3.5 s from its last sign of life, by the clock of the database; one that
//! slept longer finds another epoch in that row when it wakes.

mod connect;
mod known;
mod migrate;
mod write;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use self::connect::{Tokio, Way, told};
use crate::cell::{Cell, Param, Row, int};
use crate::entry::Hash;
use crate::ledger::{Ledger, Needs};
use crate::prepared::Prepared;
use crate::step::{Step, Steps};
use crate::{Epoch, Receipt, StoreError};

/// How often an idle leader gives one.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Connections that read at the same time.
const READERS_MAX: usize = 8;
/// After a failed attempt to connect: so long nobody tries, then twice as long, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long an end in order may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often it is asked how a commit ended whose answer was lost.
const COMMIT_WAIT: Duration = Duration::from_millis(100);

/// The connections that read.
#[derive(Debug)]
pub(crate) struct Reading {
    tokio: Arc<Tokio>,
    way: Arc<Way>,
    pool: Mutex<Pool>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Client>,
    open: usize,
}

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Writing {
    tokio: Arc<Tokio>,
    way: Arc<Way>,
    session: Option<Session>,
    ledger: Ledger,
    /// This process, among all that write.
    id: String,
    /// Commits of this process.
    commits: u64,
    /// The epoch in which the ledger's memory of runs was made: nobody else appends facts in it.
    memory_of: u64,
    not_before: Instant,
    pause: Duration,
    closing: Arc<AtomicBool>,
}

struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// How far a group got.
enum Group {
    /// Nothing of it can have been written.
    Refused(StoreError),
    /// The answer to its commit was lost.
    Unknown(Vec<Result<Receipt, StoreError>>),
}

type Answers = Vec<Result<Receipt, StoreError>>;

/// Connects, and brings the tables up to date.
pub(crate) fn open(url: &str) -> Result<(Reading, Writing), StoreError> {
    let (tokio, way) = (Arc::new(Tokio::new()?), Arc::new(Way::new(url)?));
    let (client, id) = tokio.wait(async {
        let mut client = way.connect().await?;
        migrate::run(&mut client).await?;
        let id = client.query_one("SELECT gen_random_uuid()::text", &[]).await.map_err(|error| told(&error))?;
        Ok((client, id.get::<_, String>(0)))
    })?;
    let writing = Writing {
        tokio: tokio.clone(),
        way: way.clone(),
        session: Some(Session { client, statements: HashMap::new() }),
        ledger: Ledger::new(0, Hash::default(), 0),
        id,
        commits: 0,
        memory_of: 0,
        not_before: Instant::now(),
        pause: PAUSE.0,
        closing: Arc::default(),
    };
    Ok((Reading { tokio, way, pool: Mutex::default(), freed: Condvar::new() }, writing))
}

/// Connects to a store that is there, for reading only.
pub(crate) fn open_reading(url: &str) -> Result<Reading, StoreError> {
    let (tokio, way) = (Arc::new(Tokio::new()?), Arc::new(Way::new(url)?));
    let reading = Reading { tokio, way, pool: Mutex::default(), freed: Condvar::new() };
    reading.query("SELECT sequence FROM head", &[])?;
    Ok(reading)
}

impl Reading {
    pub(crate) fn query(&self, sql: &str, params: &[Param]) -> Result<Vec<Row>, StoreError> {
        let client = self.take()?;
        let rows = self.tokio.wait(query(&client, sql, params));
        self.give_back(client);
        rows
    }

    fn take(&self) -> Result<Client, StoreError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(client) = pool.idle.pop() {
                if !client.is_closed() {
                    return Ok(client);
                }
                pool.open -= 1;
            }
            if pool.open < READERS_MAX {
                break;
            }
            pool = self.freed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.open += 1;
        drop(pool);
        self.tokio.wait(self.way.connect()).inspect_err(|_| {
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
            self.freed.notify_one();
        })
    }

    fn give_back(&self, client: Client) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.idle.push(client);
        self.freed.notify_one();
    }
}

impl Writing {
    /// Appends a group in one transaction. An error means that nothing of it was written.
    pub(crate) fn commit(&mut self, group: Vec<(Option<Epoch>, Prepared)>) -> Result<Answers, StoreError> {
        self.connect()?;
        let tokio = self.tokio.clone();
        let outcome = tokio.wait(async { Ok(self.try_commit(group).await) })?;
        match outcome {
            Ok(answers) => Ok(answers),
            Err(Group::Refused(error)) => {
                self.start_over();
                Err(error)
            }
            Err(Group::Unknown(answers)) => {
                self.session = None;
                if self.was_committed()? { Ok(answers) } else { Err(lost()) }
            }
        }
    }

    async fn try_commit(&mut self, group: Vec<(Option<Epoch>, Prepared)>) -> Result<Answers, Group> {
        let Some(session) = &mut self.session else { return Err(Group::Refused(lost())) };
        let refused = |error: tokio_postgres::Error| Group::Refused(told(&error));
        let head = "SELECT sequence, hash, epoch, holder FROM head WHERE one = 1 FOR UPDATE";
        let head = session.prepared(head).await.map_err(refused)?;
        let (begun, end) = tokio::join!(session.client.batch_execute("BEGIN"), session.client.query_one(&head, &[]));
        begun.map_err(refused)?;
        let end = end.map_err(refused)?;
        adopt(&mut self.ledger, &mut self.memory_of, &self.id, &end).map_err(Group::Refused)?;

        let needs = Needs::of(&self.ledger, group.iter().map(|(_, batch)| batch));
        let known = known::load(session, &needs).await.map_err(Group::Refused)?;
        let (rows, answers) = self.ledger.settle(group, known);
        if rows.is_empty() {
            session.client.batch_execute("ROLLBACK").await.map_err(refused)?;
            return Ok(answers);
        }
        write::rows(session, &rows).await.map_err(refused)?;
        self.commits += 1;
        write::head(session, &self.ledger, &self.id, self.commits).await.map_err(refused)?;
        match session.client.batch_execute("COMMIT").await {
            Ok(()) => Ok(answers),
            // The server said no: then it did nothing.
            Err(error) if error.as_db_error().is_some() && !session.client.is_closed() => Err(refused(error)),
            Err(_) => Err(Group::Unknown(answers)),
        }
    }

    /// When this is set, it asks no longer how a lost commit ended.
    pub(crate) fn gives_up_when(&mut self, closing: Arc<AtomicBool>) {
        self.closing = closing;
    }

    /// Looks until it is known whether our last commit was one. The row that it locked tells when it can be told.
    fn was_committed(&mut self) -> Result<bool, StoreError> {
        let commits = int(self.commits);
        loop {
            let asked = self.connect().and_then(|()| self.ask_commits());
            match asked {
                Ok(last) => {
                    self.ledger = Ledger::new(0, Hash::default(), 0);
                    return Ok(last >= commits);
                }
                Err(_) if self.closing.load(Ordering::Relaxed) => {
                    let why = "the database went away during a commit, and it is not known whether that was written";
                    return Err(StoreError::Unavailable(why.into()));
                }
                Err(_) => {
                    self.session = None;
                    std::thread::sleep(COMMIT_WAIT);
                }
            }
        }
    }

    fn ask_commits(&mut self) -> Result<i64, StoreError> {
        let tokio = self.tokio.clone();
        let Some(session) = &self.session else { return Err(lost()) };
        tokio.wait(async {
            let client = &session.client;
            client.batch_execute("BEGIN; SELECT 1 FROM head FOR UPDATE").await.map_err(|error| told(&error))?;
            let last = client.query_opt("SELECT commits FROM writers WHERE id = $1", &[&self.id]).await;
            client.batch_execute("ROLLBACK").await.map_err(|error| told(&error))?;
            Ok(last.map_err(|error| told(&error))?.map_or(0, |row| row.get(0)))
        })
    }

    /// After a failure: the tables say what is, not what we remember.
    fn start_over(&mut self) {
        self.ledger = Ledger::new(0, Hash::default(), 0);
        let Some(session) = &self.session else { return };
        let rolled_back =
            self.tokio.wait(async { session.client.batch_execute("ROLLBACK").await.map_err(|error| told(&error)) });
        if rolled_back.is_err() || session.client.is_closed() {
            self.session = None;
        }
    }

    /// Carries out steps in one transaction: all of them, or none.
    pub(crate) fn transact(&mut self, steps: Steps<'_>) -> Result<(), StoreError> {
        self.connect()?;
        let begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0;
                     SELECT 1 FROM head FOR UPDATE";
        self.ask(async |client| client.batch_execute(begin).await)?;
        let done = self.steps(steps).and_then(|()| self.ask(async |client| client.batch_execute("COMMIT").await));
        // What it remembers of the log may have been changed; and after a commit there is nothing to roll back.
        self.start_over();
        done
    }

    fn steps(&mut self, steps: Steps<'_>) -> Result<(), StoreError> {
        while let Some(step) = steps()? {
            let Some(session) = &mut self.session else { return Err(lost()) };
            self.tokio.wait(async { carry_out(session, step).await.map_err(|error| told(&error)) })?;
        }
        Ok(())
    }

    /// Has a session, or says at once why not.
    fn connect(&mut self) -> Result<(), StoreError> {
        if self.session.as_ref().is_some_and(|session| !session.client.is_closed()) {
            return Ok(());
        }
        self.session = None;
        if Instant::now() < self.not_before {
            return Err(lost());
        }
        let (way, id) = (self.way.clone(), &self.id);
        let connected = self.tokio.wait(async {
            let client = way.connect().await?;
            // Whoever leads, and nobody took over meanwhile, goes on with this session.
            let again = format!("{SIGN} WHERE one = 1 AND holder = $1");
            client.execute(&again, &[id]).await.map_err(|error| told(&error))?;
            Ok(client)
        });
        match connected {
            Ok(client) => {
                self.session = Some(Session { client, statements: HashMap::new() });
                self.pause = PAUSE.0;
                Ok(())
            }
            Err(error) => {
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE.1);
                Err(error)
            }
        }
    }

    /// Leads, if nobody does: nobody ever did, gave it back, was silent for a term, or has no session any more.
    pub(crate) fn lead(&mut self, who: &str) -> Result<Option<Epoch>, StoreError> {
        let sql = format!(
            "{SIGN}, epoch = epoch + 1, holder = $1, leader = $2
             WHERE one = 1 AND (holder IN ('', $1) OR leads_until < clock_timestamp() OR NOT EXISTS
             (SELECT FROM pg_stat_activity WHERE pid = session AND backend_start = session_start)) RETURNING epoch"
        );
        let id = self.id.clone();
        let row = self.ask(async |client| client.query_opt(&sql, &[&id, &who]).await)?;
        Ok(row.map(|row| Epoch(row.get::<_, i64>(0).unsigned_abs())))
    }

    pub(crate) fn step_down(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let sql = "UPDATE head SET holder = '', leads_until = '-infinity' WHERE one = 1 AND holder = $1 AND epoch = $2";
        let (id, epoch) = (self.id.clone(), int(epoch.0));
        self.ask(async |client| client.execute(sql, &[&id, &epoch]).await).map(drop)
    }

    /// A sign of life of a leader who has nothing to say. What goes wrong shows when there is something.
    pub(crate) fn sign_of_life(&mut self) {
        let sql = format!("{SIGN} WHERE one = 1 AND holder = $1");
        let id = self.id.clone();
        let _ = self.ask(async |client| client.execute(&sql, &[&id]).await);
    }

    fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        self.connect()?;
        let Some(session) = &self.session else { return Err(lost()) };
        let answer = self.tokio.wait(async { question(&session.client).await.map_err(|error| told(&error)) });
        if session.client.is_closed() {
            self.session = None;
        }
        answer
    }
}

impl Drop for Writing {
    /// Whoever ends in order does not make the others wait.
    fn drop(&mut self) {
        let Some(session) = &self.session else { return };
        let sql = "UPDATE head SET holder = '', leads_until = '-infinity' WHERE one = 1 AND holder = $1";
        let _ = self.tokio.wait(async {
            let _ = tokio::time::timeout(GOODBYE, session.client.execute(sql, &[&self.id])).await;
            Ok(())
        });
    }
}

/// A sign of life of the process that leads. It leads 3.5 s from the last one on: so long failover takes after a pause; after a crash
/// its session is gone and failover is at once.
const SIGN: &str =
    "UPDATE head SET leads_until = clock_timestamp() + make_interval(secs => 3.5), session = pg_backend_pid(),
    session_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())";

impl Session {
    /// A statement, prepared when it is needed first.
    async fn prepared(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    async fn execute(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        let statement = self.prepared(sql).await?;
        self.client.execute(&statement, params).await
    }

    async fn query(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let statement = self.prepared(sql).await.map_err(|error| told(&error))?;
        self.client.query(&statement, params).await.map_err(|error| told(&error))
    }
}

async fn carry_out(session: &mut Session, step: Step) -> Result<(), tokio_postgres::Error> {
    match step {
        Step::Clear => write::clear(session).await,
        Step::Models(rows) => write::read_models(session, &rows).await,
        Step::All(rows) => write::rows(session, &rows).await,
        Step::Remove(removal) => write::remove(session, &removal).await,
        Step::End { sequence, hash, epoch } => {
            let sql = "UPDATE head SET sequence = $1, hash = $2, epoch = GREATEST(epoch, $3)";
            session.execute(sql, &[&int(sequence), &&hash[..], &int(epoch)]).await.map(drop)
        }
    }
}

/// Takes over the end of the log: others may have appended changes since we looked last. Facts only the leader appends, so
/// what we remember of runs holds for as long as the epoch is the same.
fn adopt(ledger: &mut Ledger, memory_of: &mut u64, id: &str, end: &tokio_postgres::Row) -> Result<(), StoreError> {
    let hash: Vec<u8> = end.get(1);
    let hash = hash.try_into().map_err(|_| StoreError::Damaged("the last hash is not 32 bytes long".into()))?;
    let epoch = end.get::<_, i64>(2).unsigned_abs();
    if epoch != *memory_of {
        *ledger = Ledger::new(0, hash, 0);
        *memory_of = epoch;
    }
    ledger.sequence = end.get::<_, i64>(0).unsigned_abs();
    ledger.hash = hash;
    ledger.epoch = if end.get::<_, &str>(3) == id { epoch } else { 0 };
    Ok(())
}

async fn query(client: &Client, sql: &str, params: &[Param]) -> Result<Vec<Row>, StoreError> {
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = params
        .iter()
        .map(|param| match param {
            Param::Int(number) => (number as &(dyn ToSql + Sync), Type::INT8),
            Param::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
        })
        .collect();
    // No text that is kept holds a zero byte, and the database would not hear of one.
    if params.iter().any(|param| matches!(param, Param::Text(text) if text.contains('\0'))) {
        return Ok(Vec::new());
    }
    let rows = client.query_typed(&sql.replace('?', "$"), &typed).await.map_err(|error| told(&error))?;
    rows.iter().map(row).collect()
}

fn row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let cell = |at: usize, kind: &Type| -> Result<Cell, tokio_postgres::Error> {
        Ok(match *kind {
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Blob),
            Type::TEXT => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text),
            Type::INT4 => row.try_get::<_, Option<i32>>(at)?.map_or(Cell::Null, |number| Cell::Int(number.into())),
            _ => row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int),
        })
    };
    let cells = row.columns().iter().enumerate().map(|(at, column)| cell(at, column.type_()));
    Ok(Row::new(cells.collect::<Result<_, _>>().map_err(|error| told(&error))?))
}

fn lost() -> StoreError {
    StoreError::Unavailable("the connection to the database was lost; nothing was written".into())
}
