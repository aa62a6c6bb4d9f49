//! The agent's side of a server: it dials, takes leases, executes them with `agent`, and tells results and logs until they are
//! acknowledged.
//!
//! ```text
//! server ◀── words ──▶ talk (one task) ──▶ runs ──▶ checkout, agent
//!                        ▲                              │ reports
//!                        └────── book ◀── results ◀─────┘
//! ```
//!
//! What must not be lost stands in the `book`: leases that were taken and results that the server has not acknowledged,
//! both in a journal on disk, and logs in files. `talk` says what the book holds, again and again until it is taken.
#![forbid(unsafe_code)]

mod book;
mod checkout;
mod config;
mod credential;
mod git;
mod host;
mod journal;
mod lease;
mod patience;
mod results;
mod runs;
mod service;
mod talk;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent::Agent;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use book::Book;
use checkout::Checkouts;
use credential::Credential;
use runs::Runs;

pub use config::{Config, LinkError, builtin};
pub use service::{ready, stopping};

/// Threads that fetch commits and layers, publish results and tidy up.
const HELPERS_MAX: usize = 64;

/// An agent that belongs to a server. Dropped: what runs is killed, and told as lost when it starts again.
#[derive(Debug)]
pub struct Link {
    station: Arc<Station>,
    threads: Vec<JoinHandle<()>>,
}

/// How it stands with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not connected, and trying. Why, once that is known.
    Connecting(String),
    /// Connected, under this name.
    Connected(String),
    /// The server does not want it: a sentence. Tried again slowly.
    Refused(String),
    /// Drained: nothing runs, everything is told.
    Drained,
}

/// What all parts share.
#[derive(Debug)]
struct Station {
    config: Config,
    agent: Agent,
    book: Book,
    runs: Runs,
    checkouts: Checkouts,
    credential: Mutex<Option<Credential>>,
    status: Mutex<Status>,
    status_changed: Condvar,
    /// Something is to be said.
    wake: Arc<Notify>,
    /// Why no more is taken, when that is so.
    draining: Mutex<Option<String>>,
    closing: AtomicBool,
    closed: Notify,
    helpers: Handle,
    /// Labels of the host, and what it can enforce.
    host: OnceLock<(Vec<String>, String)>,
    /// Held as long as the state folder is ours.
    _state: File,
}

/// Starts an agent for a server. Returns at once; it connects in the background, for ever.
///
/// # Errors
/// A folder cannot be used, the address cannot be read, or threads cannot be started.
pub fn start(config: Config) -> Result<Link, LinkError> {
    config.check()?;
    let state_dir = config.execution.state_dir.clone();
    let state = own(&state_dir)?;
    let wake = Arc::new(Notify::new());
    let book =
        Book::open(&state_dir, wake.clone()).map_err(|why| LinkError::Folder { path: state_dir.clone(), why })?;
    let checkouts = Checkouts::open(&config).map_err(|why| LinkError::Folder { path: state_dir.clone(), why })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HELPERS_MAX)
        .thread_name("link-helper")
        .build()
        .map_err(|error| LinkError::Threads(error.to_string()))?;
    let (reports, inbox) = channel();
    let agent = Agent::start(config.execution(), reports).map_err(LinkError::Agent)?;
    let station = Arc::new(Station {
        credential: Mutex::new(credential::known(&config)),
        agent,
        book,
        runs: Runs::default(),
        checkouts,
        status: Mutex::new(Status::Connecting(String::new())),
        status_changed: Condvar::new(),
        wake,
        draining: Mutex::default(),
        closing: AtomicBool::new(false),
        closed: Notify::new(),
        helpers: runtime.handle().clone(),
        host: OnceLock::new(),
        _state: state,
        config,
    });
    let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.into()).spawn(work).map_err(|error| LinkError::Threads(error.to_string()))
    };
    let (talking, hearing) = (station.clone(), station.clone());
    let threads = vec![
        thread("link", Box::new(move || talk::forever(runtime, &talking)))?,
        thread("results", Box::new(move || results::hear(&hearing, &inbox)))?,
    ];
    Ok(Link { station, threads })
}

impl Link {
    /// How it stands with the server.
    pub fn status(&self) -> Status {
        lock(&self.station.status).clone()
    }

    /// Waits until `wanted` is true of how it stands, at most so long. What it is then.
    pub fn wait(&self, at_most: Duration, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let end = Instant::now() + at_most;
        let mut status = lock(&self.station.status);
        while !wanted(&status) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.station.status_changed.wait_timeout(status, left);
            status = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        status.clone()
    }

    /// Takes nothing more, finishes what runs, and is [`Status::Drained`] when everything is told.
    pub fn drain(&self, why: &str) {
        self.station.drain(why);
    }

    /// Attempts that run or whose results the server has not acknowledged.
    pub fn held(&self) -> usize {
        self.station.book.held().len()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.station.closing.store(true, Ordering::SeqCst);
        self.station.closed.notify_waiters();
        self.station.wake.notify_one();
        for thread in self.threads.drain(..) {
            // One that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Station {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn set_status(&self, status: Status) {
        let mut now = lock(&self.status);
        if *now == status || *now == Status::Drained {
            return;
        }
        match &status {
            Status::Connecting(why) if why.is_empty() => {}
            Status::Connecting(why) => tracing::warn!("no connection to {}: {why}; trying again", self.config.server),
            Status::Connected(name) => tracing::info!("connected to {} as agent `{name}`", self.config.server),
            Status::Refused(why) => tracing::error!("{} refuses this agent: {why}", self.config.server),
            Status::Drained => tracing::info!("drained: nothing runs, and everything is told"),
        }
        *now = status;
        drop(now);
        self.status_changed.notify_all();
    }

    fn drain(&self, why: &str) {
        lock(&self.draining).get_or_insert_with(|| why.to_string());
        self.look_whether_drained();
        self.wake.notify_one();
    }

    /// Whether it is drained: nothing runs, and the server has everything.
    fn look_whether_drained(&self) {
        if lock(&self.draining).is_some() && self.book.is_empty() {
            self.set_status(Status::Drained);
        }
    }
}

/// A lock whose holder panicked still guards whole values here: every change is one assignment or one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two agents in one state folder would tell each other's results.
fn own(state_dir: &Path) -> Result<File, LinkError> {
    let refused = |why: String| LinkError::Folder { path: state_dir.to_path_buf(), why };
    std::fs::create_dir_all(state_dir).map_err(|error| refused(error.to_string()))?;
    let file = File::create(state_dir.join("lock")).map_err(|error| refused(error.to_string()))?;
    file.try_lock().map_err(|_| refused("another agent works there".into()))?;
    Ok(file)
}
