//! The one thread that writes: it takes everything that waits, appends it in one commit, and tells each how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::prepared::Prepared;
use crate::step::Steps;
use crate::{Epoch, Receipt, StoreError, postgres, sqlite};

/// Batches of one commit. More would make the first of them wait for the last.
const GROUP_MAX: usize = 1024;
/// Bytes of one commit, about.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Told once a batch is durable or refused.
pub(crate) type Done = Box<dyn FnOnce(Result<Receipt, StoreError>) + Send>;
type Call = Box<dyn FnOnce(&mut Backend) + Send>;

/// What the writer is asked.
enum Job {
    Append(Append),
    Call(Call),
}

pub(crate) struct Append {
    pub epoch: Option<Epoch>,
    pub batch: Prepared,
    pub done: Done,
}

/// Where the writer writes.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(sqlite::Writing),
    Postgres(Box<postgres::Writing>),
}

/// The way to the writer. The thread ends with it, once all that waits is written.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Nobody is left who would wait for the database to come back.
    closing: Arc<AtomicBool>,
}

impl Backend {
    fn commit(
        &mut self,
        group: Vec<(Option<Epoch>, Prepared)>,
    ) -> Result<Vec<Result<Receipt, StoreError>>, StoreError> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.commit(group),
            Backend::Postgres(postgres) => postgres.commit(group),
        }
    }

    pub(crate) fn lead(&mut self, who: &str) -> Result<Option<Epoch>, StoreError> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.lead(who),
            Backend::Postgres(postgres) => postgres.lead(who),
        }
    }

    /// Carries out steps in one transaction: all of them, or none.
    pub(crate) fn transact(&mut self, steps: Steps<'_>) -> Result<(), StoreError> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.transact(steps),
            Backend::Postgres(postgres) => postgres.transact(steps),
        }
    }

    /// How long it may hear nothing before it wants to do something by itself.
    fn patience(&self) -> Option<Duration> {
        match self {
            Backend::Sqlite(_) => None,
            Backend::Postgres(_) => Some(postgres::SIGN_OF_LIFE),
        }
    }

    fn idle(&mut self) {
        if let Backend::Postgres(postgres) = self {
            postgres.sign_of_life();
        }
    }

    pub(crate) fn step_down(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.step_down(epoch),
            Backend::Postgres(postgres) => postgres.step_down(epoch),
        }
    }
}

impl Writer {
    pub(crate) fn start(mut backend: Backend) -> Result<Writer, StoreError> {
        let (jobs, inbox) = mpsc::channel();
        let closing = Arc::new(AtomicBool::new(false));
        if let Backend::Postgres(postgres) = &mut backend {
            postgres.gives_up_when(closing.clone());
        }
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || serve(&mut backend, &inbox));
        let thread = thread.map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread), closing })
    }

    pub(crate) fn append(&self, append: Append) {
        if let Some(Job::Append(append)) = self.send(Job::Append(append)) {
            (append.done)(Err(stopped()));
        }
    }

    /// Has something done between two commits.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Backend) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = sync_channel(1);
        // Nobody hears the answer of a caller that is gone.
        let call = Job::Call(Box::new(move |backend| drop(answer.send(call(backend)))));
        if self.send(call).is_some() {
            return Err(stopped());
        }
        answered.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// Gives a job back that nobody takes any more.
    fn send(&self, job: Job) -> Option<Job> {
        match &self.jobs {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        self.closing.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        // The last clone may go on the writer's own thread, in a callback.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

fn serve(backend: &mut Backend, inbox: &Receiver<Job>) {
    let mut next = wait(backend, inbox);
    while let Some(job) = next.take() {
        match job {
            Job::Call(call) => call(backend),
            Job::Append(first) => {
                let group = gather(first, inbox, &mut next);
                commit(backend, group);
            }
        }
        if next.is_none() {
            next = wait(backend, inbox);
        }
    }
}

/// The next job; `None` once nobody is left to give one.
fn wait(backend: &mut Backend, inbox: &Receiver<Job>) -> Option<Job> {
    let Some(patience) = backend.patience() else { return inbox.recv().ok() };
    loop {
        match inbox.recv_timeout(patience) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => backend.idle(),
        }
    }
}

/// Everything that waits, up to a call: that one is `next`.
fn gather(first: Append, inbox: &Receiver<Job>, next: &mut Option<Job>) -> Vec<Append> {
    let mut bytes = first.batch.weight;
    let mut group = vec![first];
    while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
        match inbox.try_recv() {
            Ok(Job::Append(append)) => {
                bytes += append.batch.weight;
                group.push(append);
            }
            Ok(call) => {
                *next = Some(call);
                break;
            }
            Err(_) => break,
        }
    }
    group
}

fn commit(backend: &mut Backend, group: Vec<Append>) {
    let alone = group.len() == 1;
    // What failed together is tried one by one: a batch that is too large for the disk must not hurt its neighbours.
    let again: Vec<_> = if alone { Vec::new() } else { group.iter().map(|append| append.batch.clone()).collect() };
    let (batches, dones): (Vec<_>, Vec<_>) =
        group.into_iter().map(|append| ((append.epoch, append.batch), (append.epoch, append.done))).unzip();
    match backend.commit(batches) {
        Ok(answers) => {
            for (answer, (_, done)) in answers.into_iter().zip(dones) {
                done(answer);
            }
        }
        Err(StoreError::Full(_)) if !alone => {
            for (batch, (epoch, done)) in again.into_iter().zip(dones) {
                commit(backend, vec![Append { epoch, batch, done }]);
            }
        }
        Err(error) => {
            for (_, done) in dones {
                done(Err(error.clone()));
            }
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("it was closed".into())
}
