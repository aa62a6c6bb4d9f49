//! Another cache below this one: what is missing here is looked for there, what is written here is sent there.
//!
//! It is asked only when something is read that is not here, and never by `FindMissingBlobs`. Whatever it does or does not
//! do, this cache answers: a dead upstream costs a warning a minute.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Entry, Function, Key};
use bytes::Bytes;
use prost::Message as _;
use remote::{Address, Received, Remote, Token};

use crate::access::{Domain, Rights};
use crate::config::UpstreamSettings;
use crate::grpc::actions::{self, KIND};
use crate::grpc::digests;
use crate::meters::exposition;

mod sender;

use sender::Sender;

/// Look-ups at a time; what comes on top is a miss, so that a slow upstream cannot take every thread.
const FETCHES_MAX: usize = 64;
/// Bytes that one action result may bring along.
const RESULT_BYTES_MAX: u64 = 8 << 30;
/// Levels of a tree of directories that are fetched one after the other.
const LEVELS_MAX: usize = 10_000;
/// Instances that connections are kept for.
const INSTANCES_MAX: usize = 256;
/// How often trouble is told.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Who wrote the entries that came from there.
const WRITER: &str = "upstream";

/// The cache below.
#[derive(Debug)]
pub struct Upstream {
    line: Arc<Line>,
    sender: Sender,
    rights: Rights,
}

/// What was asked of the cache below, and what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct UpstreamStats {
    /// Actions that it had, with all their blobs.
    pub hits: u64,
    /// Actions that it did not have.
    pub misses: u64,
    /// Questions that it did not answer, or not rightly, or that were not asked because it failed before.
    pub failures: u64,
    /// Blobs that came from it.
    pub blobs_fetched: u64,
    /// Their bytes.
    pub bytes_fetched: u64,
    /// What waits to be sent now: batches of blobs, and action results.
    pub queued: u64,
    /// Blobs that were sent.
    pub blobs_sent: u64,
    /// Action results that were sent.
    pub actions_sent: u64,
    /// What was not sent because too much waited already.
    pub not_queued: u64,
    /// What was not sent because it failed.
    pub not_sent: u64,
}

impl UpstreamStats {
    /// As text for Prometheus.
    pub fn text(&self) -> String {
        exposition(
            "upstream_",
            &[
                ("hits_total", "counter", self.hits),
                ("misses_total", "counter", self.misses),
                ("failures_total", "counter", self.failures),
                ("blobs_fetched_total", "counter", self.blobs_fetched),
                ("bytes_fetched_total", "counter", self.bytes_fetched),
                ("queued", "gauge", self.queued),
                ("blobs_sent_total", "counter", self.blobs_sent),
                ("actions_sent_total", "counter", self.actions_sent),
                ("not_queued_total", "counter", self.not_queued),
                ("not_sent_total", "counter", self.not_sent),
            ],
        )
    }
}

/// The connections, and what they share.
struct Line {
    options: remote::Options,
    instance: Option<String>,
    // Few entries, held for the time of a look-up.
    remotes: Mutex<HashMap<String, Remote>>,
    spool: PathBuf,
    fetching: AtomicUsize,
    counters: Counters,
    complained: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    blobs_fetched: AtomicU64,
    bytes_fetched: AtomicU64,
    queued: AtomicU64,
    blobs_sent: AtomicU64,
    actions_sent: AtomicU64,
    not_queued: AtomicU64,
    not_sent: AtomicU64,
}

/// The token is in its options, and stays there.
impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.options.address)
    }
}

impl Upstream {
    /// Prepares to ask; nothing is connected yet. `data` is the store's folder.
    ///
    /// # Errors
    /// Says why the address, the token or the folder for large blobs cannot be used.
    pub fn open(settings: &UpstreamSettings, data: &Path, blobs: &Blobs) -> Result<Upstream, String> {
        let address = Address::parse(&settings.url).map_err(|error| error.to_string())?;
        let instance = settings.instance.clone().or(Some(address.instance.clone()).filter(|name| !name.is_empty()));
        let mut options = remote::Options::new(address);
        options.ca = settings.ca.clone();
        if let Some(name) = &settings.token_env {
            let token = std::env::var(name).map_err(|_| format!("the variable {name} with its token is not set"))?;
            options.token = Some(Token::new(&token).map_err(|error| error.to_string())?);
        }
        let spool = data.join("upstream");
        // What a killed server left behind belongs to nobody.
        let _ = std::fs::remove_dir_all(&spool);
        std::fs::create_dir_all(&spool).map_err(|error| format!("cannot make {}: {error}", spool.display()))?;
        let line = Arc::new(Line {
            options,
            instance,
            remotes: Mutex::default(),
            spool,
            fetching: AtomicUsize::new(0),
            counters: Counters::default(),
            complained: Mutex::default(),
        });
        let sender =
            Sender::start(line.clone(), blobs.clone()).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Upstream { line, sender, rights: settings.rights.into() })
    }

    /// The result of an action that is not here. When it is there, it is here afterwards, with every blob it needs. Blocks.
    pub fn entry(&self, blobs: &Blobs, domain: &Domain, action: &Key) -> Option<Entry> {
        let _turn = self.line.turn()?;
        if action.function != Function::Sha256 {
            return None;
        }
        match self.line.bring(blobs, domain, action) {
            Ok(Some(id)) => {
                count(&self.line.counters.hits, 1);
                blobs.entry(&id)
            }
            Ok(None) => {
                count(&self.line.counters.misses, 1);
                None
            }
            Err(trouble) => {
                self.line.failed(&trouble);
                None
            }
        }
    }

    /// Fetches those of `keys` that are not here, as far as they are there. Blocks.
    pub fn fetch(&self, blobs: &Blobs, domain: &Domain, keys: &[Key]) {
        let missing: Vec<Key> = blobs.missing(keys).into_iter().map(|at| keys[at]).collect();
        if missing.is_empty() {
            return;
        }
        let Some(_turn) = self.line.turn() else { return };
        if let Err(trouble) = self.line.fetch(blobs, &self.line.remote(domain), &missing) {
            self.line.failed(&trouble);
        }
    }

    /// Sends blobs up, some time.
    pub fn offer_blobs(&self, domain: &Domain, keys: Vec<Key>) {
        if self.rights >= Rights::Content && !keys.is_empty() {
            self.sender.blobs(domain, keys);
        }
    }

    /// Sends an action's result up, some time, with the blobs it needs.
    pub fn offer_action(&self, domain: &Domain, action: Key, result: Bytes) {
        if self.rights >= Rights::Write && action.function == Function::Sha256 {
            self.sender.action(domain, action, result);
        }
    }

    /// What happened so far.
    pub fn stats(&self) -> UpstreamStats {
        let counters = &self.line.counters;
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UpstreamStats {
            hits: now(&counters.hits),
            misses: now(&counters.misses),
            failures: now(&counters.failures),
            blobs_fetched: now(&counters.blobs_fetched),
            bytes_fetched: now(&counters.bytes_fetched),
            queued: now(&counters.queued),
            blobs_sent: now(&counters.blobs_sent),
            actions_sent: now(&counters.actions_sent),
            not_queued: now(&counters.not_queued),
            not_sent: now(&counters.not_sent),
        }
    }

    /// Waits until everything was sent, at most so long, and ends. Whether everything was.
    pub fn finish(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        while self.stats().queued > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = self.stats().queued;
        if left > 0 {
            crate::complain(&format!("{left} writes were not sent to the upstream cache before the end"));
        }
        self.line.close();
        left == 0
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.line.close();
    }
}

/// One look-up under way.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Line {
    fn turn(&self) -> Option<Turn<'_>> {
        let turn = Turn(&self.fetching);
        if self.fetching.fetch_add(1, Ordering::AcqRel) < FETCHES_MAX {
            return Some(turn);
        }
        self.failed("more look-ups are under way than are allowed at a time");
        None
    }

    /// The connection for a domain: each instance is asked by its own name.
    fn remote(&self, domain: &Domain) -> Remote {
        let instance = self.instance.clone().unwrap_or_else(|| domain.to_string());
        let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        if remotes.len() >= INSTANCES_MAX && !remotes.contains_key(&instance) {
            remotes.clear();
        }
        let new = || {
            let mut options = self.options.clone();
            options.address.instance = instance.clone();
            Remote::new(options)
        };
        remotes.entry(instance.clone()).or_insert_with(new).clone()
    }

    /// Brings an action's result with all it needs.
    fn bring(&self, blobs: &Blobs, domain: &Domain, action: &Key) -> Result<Option<blobs::EntryId>, String> {
        let remote = self.remote(domain);
        let digest = digest_of(action);
        let Some(bytes) = remote.action(&digest, None).map_err(|error| error.to_string())? else { return Ok(None) };
        let result = api::ActionResult::decode(bytes).map_err(|_| format!("the result of {action} is none"))?;
        if !self.bring_trees(blobs, &remote, &result)? {
            return Ok(None);
        }
        let needs = actions::needs(blobs, Function::Sha256, &result).map_err(|status| status.message().to_owned())?;
        let missing: Vec<Key> = blobs.missing(&needs).into_iter().map(|at| needs[at]).collect();
        if !self.fetch(blobs, &remote, &missing)? {
            return Ok(None);
        }
        let id = blobs::EntryId { space: domain.space(KIND), hash: action.hash };
        actions::store(blobs, &id, Function::Sha256, &result, WRITER.to_owned())
            .map_err(|status| status.message().to_owned())?;
        Ok(Some(id))
    }

    /// Brings what must be read to know what a result needs.
    fn bring_trees(&self, blobs: &Blobs, remote: &Remote, result: &api::ActionResult) -> Result<bool, String> {
        let key = |digest: &api::Digest| digests::required(Function::Sha256, Some(digest), "digest").ok();
        let trees = result.output_directories.iter().filter_map(|directory| key(directory.tree_digest.as_ref()?));
        let roots =
            result.output_directories.iter().filter_map(|directory| key(directory.root_directory_digest.as_ref()?));
        let mut whole = self.fetch_missing(blobs, remote, trees.collect())?;
        let mut level: Vec<Key> = roots.collect();
        for _ in 0..LEVELS_MAX {
            if level.is_empty() || !whole {
                return Ok(whole);
            }
            whole = self.fetch_missing(blobs, remote, level.clone())?;
            let below = level.iter().filter_map(|key| blobs.get(key, 16 << 20).ok()).flat_map(|bytes| {
                let directories = api::Directory::decode(bytes).unwrap_or_default().directories;
                directories.into_iter().filter_map(|node| key(node.digest.as_ref()?)).collect::<Vec<_>>()
            });
            let mut below: Vec<Key> = below.collect();
            below.sort_unstable();
            below.dedup();
            level = below;
        }
        Err(format!("a tree has more than {LEVELS_MAX} levels"))
    }

    fn fetch_missing(&self, blobs: &Blobs, remote: &Remote, keys: Vec<Key>) -> Result<bool, String> {
        let missing: Vec<Key> = blobs.missing(&keys).into_iter().map(|at| keys[at]).collect();
        self.fetch(blobs, remote, &missing)
    }

    /// Whether all of them came. The store verifies each once more: this is where trust in the network ends.
    fn fetch(&self, blobs: &Blobs, remote: &Remote, keys: &[Key]) -> Result<bool, String> {
        let keys: Vec<&Key> = keys.iter().filter(|key| key.function == Function::Sha256).collect();
        let bytes = keys.iter().fold(0u64, |sum, key| sum.saturating_add(key.size));
        if bytes > RESULT_BYTES_MAX {
            return Err(format!("{bytes} bytes at once, and at most {RESULT_BYTES_MAX} are fetched"));
        }
        if keys.is_empty() {
            return Ok(true);
        }
        let digests: Vec<model::Digest> = keys.iter().map(|key| digest_of(key)).collect();
        let fetched = remote.download(&digests, &self.spool, &mut |digest, received| {
            count(&self.counters.blobs_fetched, 1);
            count(&self.counters.bytes_fetched, digest.size);
            keep(blobs, Key::from(digest), received)
        });
        fetched.map(|fetched| fetched.is_whole()).map_err(|error| error.to_string())
    }

    fn failed(&self, trouble: &str) {
        count(&self.counters.failures, 1);
        self.complain(trouble);
    }

    /// Once a minute: what fails fails a thousand times a second.
    fn complain(&self, trouble: &str) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|before| before.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            crate::complain(&format!("upstream {}: {trouble}; this cache goes on alone", self.options.address));
        }
    }

    fn close(&self) {
        let remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        remotes.values().for_each(Remote::close);
    }
}

fn keep(blobs: &Blobs, key: Key, received: Received) -> io::Result<()> {
    let refused = |error: blobs::Error| io::Error::other(error.to_string());
    match received {
        Received::Bytes(bytes) => blobs.put_many(&[(key, bytes)]).into_iter().try_for_each(|put| put.map_err(refused)),
        Received::File(path) => {
            let kept = copy_in(blobs, key, &path);
            let _ = std::fs::remove_file(&path);
            kept
        }
    }
}

fn copy_in(blobs: &Blobs, key: Key, path: &Path) -> io::Result<()> {
    let refused = |error: blobs::Error| io::Error::other(error.to_string());
    let mut file = std::fs::File::open(path)?;
    let mut writer = blobs.writer(key).map_err(refused)?;
    let mut part = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut part)? {
            0 => return writer.finish().map_err(refused),
            length => writer.write(&part[..length]).map_err(refused)?,
        }
    }
}

fn digest_of(key: &Key) -> model::Digest {
    model::Digest { hash: key.hash, size: key.size }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
