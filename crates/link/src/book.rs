//! The book: every lease this agent holds, how much of its log the server has, and its result once there is one.
//!
//! Two threads write in it, the one that talks and the one that hears results; what must survive is in the journal.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{AttemptEnd, AttemptResult, Cause, RunId};
use proto::{AgentWord, Finished, LOG_BYTES_MAX, Log};
use tokio::sync::Notify;

use crate::journal::{Journal, Left};
use crate::lease::Lease;
use crate::lock;

/// A result that the server has not acknowledged for so long is made to survive the machine.
const SYNC_AFTER: Duration = Duration::from_millis(500);
/// How much of a result the envelope leaves room for.
const RESULT_BYTES_MAX: usize = proto::MESSAGE_BYTES_MAX - (64 << 10);

/// The book.
#[derive(Debug)]
pub(crate) struct Book {
    spool: PathBuf,
    state: Mutex<State>,
    shrunk: Condvar,
    /// Lines came that were not said.
    fresh: AtomicBool,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    pages: BTreeMap<Lease, Page>,
    /// Whose turn it was last to be said.
    last: Option<Lease>,
    /// Bytes of logs that the server does not have, about.
    waiting: u64,
}

/// What is known of one lease.
#[derive(Debug)]
struct Page {
    log: PathBuf,
    /// The log was said up to here on this connection.
    said: u64,
    /// The server has the log up to here.
    taken: u64,
    /// Bytes of lines that were heard, about.
    heard: u64,
    /// Lines came since the log was read last.
    fresh: bool,
    /// Why it was stopped though nobody cancelled it.
    lost: Option<String>,
    result: Option<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    json: String,
    log_bytes: u64,
    since: Instant,
    said: bool,
    synced: bool,
}

impl Page {
    fn new(log: PathBuf) -> Page {
        Page { log, said: 0, taken: 0, heard: 0, fresh: false, lost: None, result: None }
    }
}

impl Book {
    /// Opens the journal. Attempts of a former process that had not ended are lost: that is their result.
    ///
    /// # Errors
    /// The journal or the spool cannot be used. A sentence.
    pub(crate) fn open(state_dir: &Path, wake: Arc<Notify>) -> Result<Book, String> {
        let spool = state_dir.join("spool");
        std::fs::create_dir_all(&spool).map_err(|error| format!("cannot make {}: {error}", spool.display()))?;
        let (mut journal, left) = Journal::open(&state_dir.join("journal"))?;
        let mut pages = BTreeMap::new();
        for (lease, left) in left {
            let mut page = Page::new(log_of(&spool, &lease));
            let whole = whole_bytes(&page.log);
            let (json, log_bytes) = match left {
                Left::Ended { result, log_bytes } => (result, log_bytes.min(whole)),
                Left::Taken => {
                    let why = "the agent was ended while the step ran, and started again";
                    let json = json_of(&lost(why));
                    journal.ended(&lease, &json, whole)?;
                    (json, whole)
                }
            };
            page.result = Some(Outcome { json, log_bytes, since: Instant::now(), said: false, synced: true });
            pages.insert(lease, page);
        }
        journal.sync();
        forget_others(&spool, &pages);
        let state = State { journal, pages, last: None, waiting: 0 };
        Ok(Book { spool, state: Mutex::new(state), shrunk: Condvar::new(), fresh: AtomicBool::new(false), wake })
    }

    /// Where logs of a run go.
    pub(crate) fn folder(&self, run: &RunId) -> PathBuf {
        folder(&self.spool, run)
    }

    /// Writes down that a lease was taken. `false`: it is known already.
    ///
    /// # Errors
    /// The journal cannot be written. A sentence; the lease is known all the same.
    pub(crate) fn take(&self, lease: &Lease) -> Result<bool, String> {
        let mut state = lock(&self.state);
        if state.pages.contains_key(lease) {
            return Ok(false);
        }
        state.pages.insert(lease.clone(), Page::new(log_of(&self.spool, lease)));
        state.journal.taken(lease).map(|()| true)
    }

    /// Lines of an attempt came.
    pub(crate) fn heard<'a>(&self, lines: impl Iterator<Item = (&'a Lease, u64)>) {
        let mut state = lock(&self.state);
        for (lease, bytes) in lines {
            if let Some(page) = state.pages.get_mut(lease) {
                page.fresh = true;
                page.heard += bytes;
                state.waiting += bytes;
            }
        }
        drop(state);
        self.fresh.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether lines came that were not said.
    pub(crate) fn has_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Waits while more of logs waits for the server than this, unless `go_on` says no.
    pub(crate) fn wait_for_room(&self, bytes_max: u64, go_on: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        while state.waiting > bytes_max && go_on() {
            let woken = self.shrunk.wait_timeout(state, Duration::from_millis(100));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes down how an attempt ended. What was stopped because its lease was lost says so.
    pub(crate) fn end(&self, lease: &Lease, mut result: AttemptResult) {
        let mut state = lock(&self.state);
        let State { journal, pages, .. } = &mut *state;
        let Some(page) = pages.get_mut(lease).filter(|page| page.result.is_none()) else { return };
        if let (Some(why), AttemptEnd::Cancelled) = (&page.lost, &result.end) {
            result.end = AttemptEnd::Failed(Cause::Lost(why.clone()));
        }
        let (json, log_bytes) = (json_of(&result), whole_bytes(&page.log));
        if let Err(why) = journal.ended(lease, &json, log_bytes) {
            // It is told all the same; only a kill in this moment would lose it.
            tracing::error!("{why}");
        }
        page.result = Some(Outcome { json, log_bytes, since: Instant::now(), said: false, synced: false });
        drop(state);
        self.wake.notify_one();
    }

    /// Attempts that have no result yet were stopped because of this.
    pub(crate) fn lose(&self, leases: &[Lease], why: &str) {
        let mut state = lock(&self.state);
        for lease in leases {
            if let Some(page) = state.pages.get_mut(lease) {
                page.lost.get_or_insert_with(|| why.to_string());
            }
        }
    }

    /// All leases.
    pub(crate) fn held(&self) -> Vec<Lease> {
        lock(&self.state).pages.keys().cloned().collect()
    }

    /// Leases whose attempts have not ended.
    pub(crate) fn running(&self) -> Vec<Lease> {
        let state = lock(&self.state);
        state.pages.iter().filter(|(_, page)| page.result.is_none()).map(|(lease, _)| lease.clone()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).pages.is_empty()
    }

    /// A new connection: all that was not acknowledged is said again.
    pub(crate) fn begin_anew(&self) {
        for page in lock(&self.state).pages.values_mut() {
            page.said = page.taken;
            page.fresh = true;
            if let Some(result) = &mut page.result {
                result.said = false;
            }
        }
    }

    /// The server has the log up to here.
    pub(crate) fn log_taken(&self, lease: &Lease, length: u64) {
        let mut state = lock(&self.state);
        let Some(page) = state.pages.get_mut(lease) else { return };
        let more = length.saturating_sub(page.taken);
        match &mut page.result {
            // The server has less than it had: it was restored from a backup, or is another one.
            _ if length < page.taken => {
                (page.said, page.taken, page.fresh) = (length, length, true);
                if let Some(result) = &mut page.result {
                    result.said = false;
                }
                self.wake.notify_one();
            }
            // The whole log was said, and its end did not arrive: from there again.
            Some(result) if more == 0 && result.said && length < result.log_bytes => {
                page.said = length;
                result.said = false;
                self.wake.notify_one();
            }
            _ => page.said = page.said.max(length),
        }
        page.taken = length;
        state.waiting = state.waiting.saturating_sub(more);
        drop(state);
        self.shrunk.notify_all();
    }

    /// The server has the result, or does not want it: the lease is forgotten with its log. Whether it was known.
    pub(crate) fn result_taken(&self, lease: &Lease) -> bool {
        let mut state = lock(&self.state);
        let Some(page) = state.pages.remove(lease) else { return false };
        state.journal.gone(lease);
        state.waiting = state.waiting.saturating_sub(page.heard.saturating_sub(page.taken));
        drop(state);
        let _ = std::fs::remove_file(&page.log);
        self.shrunk.notify_all();
        true
    }

    /// The next thing to say, each lease in its turn. `flush`: also what came in the last moment of logs that go on.
    pub(crate) fn next_word(&self, flush: bool) -> Option<AgentWord> {
        let mut state = lock(&self.state);
        if flush {
            self.fresh.store(false, Ordering::Relaxed);
        }
        let State { pages, last, .. } = &mut *state;
        let has_word = |page: &Page| match &page.result {
            Some(result) => !result.said,
            None => page.fresh && flush,
        };
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = pages.range((from, Bound::Unbounded)).find(|(_, page)| has_word(page));
            let next = next.or_else(|| pages.iter().find(|(_, page)| has_word(page)));
            let lease = next?.0.clone();
            *last = Some(lease.clone());
            let page = pages.get_mut(&lease)?;
            if let Some(word) = page.next_word(&lease) {
                return Some(word);
            }
        }
    }

    /// Makes results survive the machine that the server has not acknowledged for a while.
    pub(crate) fn sync(&self) {
        let mut state = lock(&self.state);
        let State { journal, pages, .. } = &mut *state;
        let mut late = false;
        for page in pages.values_mut() {
            let Some(result) = &mut page.result else { continue };
            if !result.synced && result.since.elapsed() > SYNC_AFTER {
                result.synced = true;
                late = true;
                if let Ok(log) = std::fs::File::open(&page.log) {
                    let _ = log.sync_data();
                }
            }
        }
        if late {
            journal.sync();
        }
    }
}

impl Page {
    /// A piece of its log, else its result.
    fn next_word(&mut self, lease: &Lease) -> Option<AgentWord> {
        let end = self.result.as_ref().map(|result| result.log_bytes);
        let piece = piece(&self.log, self.said, end.unwrap_or(u64::MAX)).unwrap_or_else(|error| {
            tracing::error!("cannot read {}: {error}; the rest of the log is missing", self.log.display());
            if let Some(result) = &mut self.result {
                result.log_bytes = self.said;
            }
            Vec::new()
        });
        if !piece.is_empty() {
            let offset = self.said;
            self.said += piece.len() as u64;
            return Some(AgentWord::Log(Log { lease: Some(lease.to_wire()), offset, bytes: piece }));
        }
        self.fresh = false;
        let result = self.result.as_mut().filter(|result| !result.said)?;
        result.said = true;
        let (result, log_bytes) = (result.json.clone(), result.log_bytes);
        Some(AgentWord::Finished(Finished { lease: Some(lease.to_wire()), result, log_bytes }))
    }
}

/// Whole lines of a log from here on, as many as one message holds. A log that was never made is empty.
fn piece(log: &Path, from: u64, end: u64) -> std::io::Result<Vec<u8>> {
    let room = end.saturating_sub(from).min(LOG_BYTES_MAX as u64);
    if room == 0 {
        return Ok(Vec::new());
    }
    let mut file = match std::fs::File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && from == 0 => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(room).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(whole);
    Ok(bytes)
}

/// Length of a log without a last line that is not whole.
fn whole_bytes(log: &Path) -> u64 {
    let Ok(mut file) = std::fs::File::open(log) else { return 0 };
    let Ok(length) = file.metadata().map(|meta| meta.len()) else { return 0 };
    let reach = length.min(LOG_BYTES_MAX as u64);
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(length - reach)).and_then(|_| file.take(reach).read_to_end(&mut bytes));
    match (read, bytes.iter().rposition(|byte| *byte == b'\n')) {
        (Ok(_), Some(at)) => length - reach + at as u64 + 1,
        _ => 0,
    }
}

fn log_of(spool: &Path, lease: &Lease) -> PathBuf {
    folder(spool, &lease.run).join(format!("{}-{}.log", lease.node.0, lease.attempt))
}

/// One segment that leads nowhere else, whatever the server calls its runs.
fn folder(spool: &Path, run: &RunId) -> PathBuf {
    let name = run.as_str();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match name.len() <= 100 && !name.is_empty() && name.bytes().all(is_plain) {
        true => spool.join(name),
        false => spool.join(cas::Store::digest_of(name.as_bytes()).hex()),
    }
}

/// Removes folders of runs that nothing is known of.
fn forget_others(spool: &Path, pages: &BTreeMap<Lease, Page>) {
    let Ok(entries) = std::fs::read_dir(spool) else { return };
    let known: Vec<PathBuf> = pages.keys().map(|lease| folder(spool, &lease.run)).collect();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path)) {
        let _ = sandbox::remove_tree(&path);
    }
}

/// A result that only says that the attempt is lost.
pub(crate) fn lost(why: &str) -> AttemptResult {
    AttemptResult::ended(AttemptEnd::Failed(Cause::Lost(why.to_string())))
}

/// A result as it is told. One that no message holds fails the attempt.
fn json_of(result: &AttemptResult) -> String {
    let json = serde_json::to_string(result).expect("a result has nothing in it that JSON cannot say");
    if json.len() <= RESULT_BYTES_MAX {
        return json;
    }
    let why = "the result of the step is too long to be told: pack the files of its artifacts into archives";
    let short = AttemptResult::ended(AttemptEnd::Failed(Cause::Broken(why.into())));
    serde_json::to_string(&short).expect("a result has nothing in it that JSON cannot say")
}
