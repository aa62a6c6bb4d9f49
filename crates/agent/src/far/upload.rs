//! Uploads: one thread sends what was executed here, several results at a time: what is missing there, then the blobs,
//! then the results that stand on them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cas::shared::CacheName;
use cas::{ActionRecord, NamedCaches, Store, shared};
use model::Digest;
use remote::{Blob, Content, Error, Remote};

use super::{Asked, Uploading};
use crate::action::Action;
use crate::run::lock;

/// Results in one question what is missing.
const AT_ONCE: usize = 64;
/// How long nothing may move at the end of a run before uploading is given up.
const STANDSTILL: Duration = Duration::from_secs(10);
/// What moves without anything moving: the connection asks whether the other side is alive.
const PING_BYTES: u64 = 256;
/// Over how long the end of a run looks whether uploads are fast enough, and how fast that is.
const WINDOW: Duration = Duration::from_secs(30);
const BYTES_A_SECOND_MIN: u64 = 16 << 10;
/// How often the end of a run looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a blob that was there is taken to be there: far less than servers keep what they confirmed.
const KNOWN_FOR: Duration = Duration::from_secs(20 * 60);

/// Something to upload.
#[derive(Debug)]
pub(crate) enum Job {
    /// The result of an execution.
    Result(Box<Result>),
    /// A named cache, unless its key is known there.
    Cache(Asked),
}

/// The result of an execution.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) step: Arc<str>,
    pub(crate) action: Action,
    pub(crate) record: ActionRecord,
}

/// The thread that uploads, started by the first job.
#[derive(Debug)]
pub(crate) struct Uploads {
    work: Arc<Work>,
    thread: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

#[derive(Debug)]
struct Work {
    remote: Remote,
    store: Store,
    named: NamedCaches,
    snapshot_bytes_max: u64,
    left: Mutex<Uploading>,
    done: Condvar,
    /// Moves while something is read or hashed here.
    beat: AtomicU64,
    lost: Mutex<Lost>,
    known: Mutex<Known>,
}

/// What could not be uploaded.
#[derive(Debug, Default)]
struct Lost {
    results: u64,
    why: Option<String>,
    notes: BTreeSet<String>,
}

/// Blobs that are there.
#[derive(Debug)]
struct Known {
    since: Instant,
    blobs: HashSet<Digest>,
}

impl Uploads {
    pub(crate) fn new(remote: Remote, store: Store, named: NamedCaches, snapshot_bytes_max: u64) -> Uploads {
        let work = Work {
            remote,
            store,
            named,
            snapshot_bytes_max,
            left: Mutex::default(),
            done: Condvar::new(),
            beat: AtomicU64::new(0),
            lost: Mutex::default(),
            known: Mutex::new(Known { since: Instant::now(), blobs: HashSet::new() }),
        };
        Uploads { work: Arc::new(work), thread: Mutex::default() }
    }

    pub(crate) fn push(&self, job: Job) {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (to, from) = channel();
            let work = self.work.clone();
            // Without a thread nothing is uploaded, and nothing else suffers.
            let started = std::thread::Builder::new().name("upload".into()).spawn(move || work.serve(&from));
            *thread = started.ok().map(|started| (to, started));
        }
        if let Some((to, _)) = &*thread {
            lock(&self.work.left).waiting += 1;
            if to.send(job).is_err() {
                lock(&self.work.left).waiting -= 1;
            }
        }
    }

    /// Waits for all that was pushed. Sentences about what could not be uploaded.
    pub(crate) fn finish(&self, go_on: &mut dyn FnMut(Uploading) -> bool) -> Vec<String> {
        let work = &self.work;
        let mut pace = Pace::new(work.moved(), Instant::now());
        let mut given_up = None;
        loop {
            let left = lock(&work.left);
            if left.waiting == 0 {
                break;
            }
            let (left, _) = work.done.wait_timeout(left, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            let now = *left;
            drop(left);
            if now.waiting == 0 {
                break;
            }
            let why = match (go_on(now), pace.complaint(work.moved(), Instant::now())) {
                (false, _) => "uploading was stopped",
                (true, Some(why)) => why,
                (true, None) => continue,
            };
            given_up = Some((now.waiting, why));
            work.remote.close();
            break;
        }
        let mut lost = std::mem::take(&mut *lock(&work.lost));
        if let Some((waiting, why)) = given_up {
            lost.results += waiting;
            lost.why.get_or_insert_with(|| why.into());
        }
        let mut notes: Vec<String> = lost.notes.into_iter().collect();
        if lost.results > 0 {
            let address = &work.remote.options().address;
            let what = if lost.results == 1 { "1 result".into() } else { format!("{} results", lost.results) };
            let why = lost.why.unwrap_or_default();
            notes.push(format!("{what} were not uploaded to the shared cache {address}: {why}"));
        }
        notes
    }
}

/// Whether uploads still move, and fast enough to be waited for.
#[derive(Debug)]
struct Pace {
    still: (u64, Instant),
    window: (u64, Instant),
}

impl Pace {
    fn new(moved: u64, now: Instant) -> Pace {
        Pace { still: (moved, now), window: (moved, now) }
    }

    fn complaint(&mut self, moved: u64, now: Instant) -> Option<&'static str> {
        if moved.wrapping_sub(self.still.0) > PING_BYTES {
            self.still = (moved, now);
        }
        if now.duration_since(self.still.1) > STANDSTILL {
            return Some("nothing moved any more");
        }
        if now.duration_since(self.window.1) > WINDOW {
            let came = moved.wrapping_sub(self.window.0);
            self.window = (moved, now);
            return (came < WINDOW.as_secs() * BYTES_A_SECOND_MIN).then_some("it was too slow");
        }
        None
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let thread = lock(&self.thread).take();
        if let Some((to, thread)) = thread {
            self.work.remote.close();
            drop(to);
            let _ = thread.join();
        }
    }
}

impl Work {
    fn moved(&self) -> u64 {
        self.remote.moved().wrapping_add(self.beat.load(Ordering::Relaxed))
    }

    fn serve(&self, from: &Receiver<Job>) {
        while let Ok(first) = from.recv() {
            let mut jobs = vec![first];
            jobs.extend(from.try_iter().take(AT_ONCE - 1));
            let count = jobs.len() as u64;
            let (mut results, mut caches) = (Vec::new(), Vec::new());
            for job in jobs {
                match job {
                    Job::Result(result) => results.push(*result),
                    Job::Cache(cache) => caches.push(cache),
                }
            }
            // Results first: others may wait for them.
            self.results(results);
            caches.iter().for_each(|cache| self.cache(cache));
            let mut left = lock(&self.left);
            left.waiting -= count;
            (left.blobs, left.bytes) = (0, 0);
            self.done.notify_all();
        }
    }

    fn cache(&self, asked: &Asked) {
        let name = CacheName::new(&asked.scope, &asked.key);
        if !lock(&self.known).blobs.insert(name.digest) {
            return;
        }
        let sent = match self.remote.limits() {
            Ok(limits) if !limits.may_update => return,
            Ok(_) => self.send_cache(asked, &name),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            let note = format!("cache `{}` was not uploaded to the shared cache: {error}", asked.key);
            lock(&self.lost).notes.insert(note);
        }
    }

    fn send_cache(&self, asked: &Asked, name: &CacheName) -> std::result::Result<(), Error> {
        let local = |why: &dyn std::fmt::Display| Error::Unusable(why.to_string());
        if self.remote.action(&name.digest, None)?.is_some() {
            return Ok(());
        }
        let lease = self.named.open(&asked.here(&asked.key), &[]).map_err(|error| local(&error))?;
        if !lease.exact {
            return Ok(());
        }
        let mut beat = || {
            self.beat.fetch_add(1, Ordering::Relaxed);
        };
        let Some(survey) = lease.survey(self.snapshot_bytes_max, &mut beat).map_err(|error| local(&error))? else {
            let max = model::Bytes(self.snapshot_bytes_max);
            return Err(local(&format!("it is larger than {max}, or has too many files")));
        };
        let (shared, manifest) = shared::share_cache(&asked.key, &survey.layer).map_err(|why| local(&why))?;
        let mut blobs = Blobs { known: self.known(), store: &self.store, wanted: HashMap::new() };
        let names: Vec<CacheName> = asked.fallback.iter().map(|prefix| CacheName::new(&asked.scope, prefix)).collect();
        let messages = names.iter().chain([name]).flat_map(|name| name.messages.iter());
        for bytes in messages.chain(&shared.tree).chain([&manifest]) {
            blobs.bytes(Store::digest_of(bytes), bytes);
        }
        for (digest, path) in survey.files {
            if blobs.is_new(&digest) {
                blobs.wanted.insert(digest, Content::File(path));
            }
        }
        self.send_blobs(blobs.wanted)?;
        // The fallbacks lead to the newest of those that begin with them.
        let written: Vec<_> =
            [name].into_iter().chain(&names).map(|name| (name.digest, shared.result.clone())).collect();
        self.remote.set_actions(&written)
    }

    fn results(&self, results: Vec<Result>) {
        if results.is_empty() {
            return;
        }
        match self.remote.limits() {
            // Not ours to write: a token that reads is nothing to complain about.
            Ok(limits) if !limits.may_update => return,
            Ok(_) => {}
            Err(error) => return self.lose(results.len(), &error),
        }
        match self.send(&results) {
            Ok(()) => {}
            // One of them is the reason; the others need not suffer.
            Err(Error::Refused { .. } | Error::Wrong { .. } | Error::Local { .. }) if results.len() > 1 => {
                for result in results {
                    if let Err(error) = self.send(std::slice::from_ref(&result)) {
                        self.lose(1, &error);
                    }
                }
            }
            Err(error) => self.lose(results.len(), &error),
        }
    }

    fn lose(&self, results: usize, error: &Error) {
        let mut lost = lock(&self.lost);
        lost.results += results as u64;
        lost.why.get_or_insert_with(|| match error {
            Error::Gone(why) => why.clone(),
            other => other.to_string(),
        });
    }

    fn send(&self, results: &[Result]) -> std::result::Result<(), Error> {
        let mut blobs = Blobs { known: self.known(), store: &self.store, wanted: HashMap::new() };
        let mut actions = Vec::new();
        for result in results {
            self.beat.fetch_add(1, Ordering::Relaxed);
            match shared::share(&result.record, &self.store) {
                Ok(shared) => {
                    blobs.result(result, &shared);
                    actions.push((result.action.digest, shared.result));
                }
                Err(why) => {
                    let note = format!("the result of step `{}` was not shared: {why}", result.step);
                    lock(&self.lost).notes.insert(note);
                }
            }
        }
        self.send_blobs(blobs.wanted)?;
        self.remote.set_actions(&actions)
    }

    /// Uploads what is not there.
    fn send_blobs(&self, wanted: HashMap<Digest, Content>) -> std::result::Result<(), Error> {
        let asked: Vec<Digest> = wanted.keys().copied().collect();
        let missing = self.remote.missing(&asked)?;
        let blobs: Vec<Blob> = missing
            .iter()
            .filter_map(|digest| Some(Blob { digest: *digest, content: wanted.get(digest)?.clone() }))
            .collect();
        {
            let mut left = lock(&self.left);
            left.blobs = blobs.len() as u64;
            left.bytes = blobs.iter().map(|blob| blob.digest.size).sum();
        }
        if !blobs.is_empty() {
            self.remote.upload(&blobs)?;
        }
        lock(&self.known).blobs.extend(asked);
        Ok(())
    }

    fn known(&self) -> HashSet<Digest> {
        let mut known = lock(&self.known);
        if known.since.elapsed() > KNOWN_FOR {
            known.blobs.clear();
            known.since = Instant::now();
        }
        known.blobs.clone()
    }
}

/// What is to be there.
struct Blobs<'a> {
    known: HashSet<Digest>,
    store: &'a Store,
    wanted: HashMap<Digest, Content>,
}

impl Blobs<'_> {
    /// What a result stands on, and what says what it is the result of: action, command and directories, so that it can be
    /// asked elsewhere what changed. Not the input files.
    fn result(&mut self, result: &Result, shared: &shared::SharedResult) {
        for bytes in shared.tree.iter().map(Vec::as_slice).chain(result.action.messages()) {
            self.bytes(Store::digest_of(bytes), bytes);
        }
        result.action.tree().directories(&mut |digest, message| self.bytes(digest, message));
        for digest in &shared.blobs {
            if let Some(path) = self.store.path_of(digest)
                && self.is_new(digest)
            {
                self.wanted.insert(*digest, Content::File(path));
            }
        }
    }

    /// Whether it was not known yet: what is known has all that is below it there, too.
    fn bytes(&mut self, digest: Digest, bytes: &[u8]) -> bool {
        let is_new = self.is_new(&digest);
        if is_new {
            self.wanted.insert(digest, Content::Bytes(bytes.to_vec().into()));
        }
        is_new
    }

    fn is_new(&self, digest: &Digest) -> bool {
        // The blob of no bytes is always there.
        digest.size > 0 && !self.known.contains(digest) && !self.wanted.contains_key(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_waited_for_while_they_move_and_not_for_ever() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(0, start);
        assert_eq!(pace.complaint(1 << 20, at(9)), None);
        assert_eq!(pace.complaint(1 << 20, at(18)), None);
        assert_eq!(pace.complaint((1 << 20) + 20, at(20)), Some("nothing moved any more"), "a ping is no progress");
        let mut slow = Pace::new(0, start);
        let ends = (1..60).find_map(|second| slow.complaint(second * 1000, at(second)));
        assert_eq!(ends, Some("it was too slow"));
        let mut fast = Pace::new(0, start);
        assert_eq!((1..600).find_map(|second| fast.complaint(second * 50_000, at(second))), None);
    }
}
