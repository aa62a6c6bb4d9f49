//! The shared cache as an agent uses it: results are looked up there, what is needed of them is fetched, and what was
//! executed here is uploaded beside the next steps. Nothing of it fails a step: what does not work there is done here.

mod caches;
mod present;
mod upload;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cas::{ActionRecord, Layer, LayerKind, Store, shared};
use model::Digest;
use remote::{Error, Received, Remote};

use crate::config::SharedCache;
use crate::run::lock;

pub(crate) use caches::Asked;
pub(crate) use upload::{Job, Result as SharedResult};

/// The shared cache.
#[derive(Debug)]
pub(crate) struct Far {
    remote: Remote,
    reads: bool,
    store: Store,
    hits: AtomicU64,
    notes: Mutex<BTreeSet<String>>,
    /// Held by whoever fetches a named cache.
    bringing: Mutex<()>,
    uploads: Option<upload::Uploads>,
    present: present::Present,
}

/// What a shared cache was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedCounts {
    /// Results that came from it.
    pub hits: u64,
    /// Bytes received, as they came over the wire.
    pub bytes_down: u64,
    /// Bytes sent, as they went over the wire.
    pub bytes_up: u64,
    /// Requests that failed or came too late.
    pub failures: u64,
}

/// What is still to be uploaded, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploading {
    /// Results and caches.
    pub waiting: u64,
    /// Blobs that are under way.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A blob that is wanted, and how its file shall look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    pub(crate) executable: bool,
    pub(crate) mtime_ns: i64,
}

impl Far {
    pub(crate) fn new(cache: &SharedCache, store: &Store, named: &cas::NamedCaches) -> Far {
        let remote = cache.remote.clone();
        let uploads = cache
            .writes
            .then(|| upload::Uploads::new(remote.clone(), store.clone(), named.clone(), cache.snapshot_bytes_max));
        Far {
            remote,
            reads: cache.reads,
            store: store.clone(),
            hits: AtomicU64::new(0),
            notes: Mutex::default(),
            bringing: Mutex::default(),
            uploads,
            present: present::Present::default(),
        }
    }

    /// What is written from now on is that of this run.
    pub(crate) fn begin(&self, run: &model::RunId) {
        self.remote.set_invocation(run.as_str());
    }

    /// The record of an action, with its manifest and log in the store; its layer's files stay where they are.
    pub(crate) fn look_up(&self, action: &Digest) -> Option<ActionRecord> {
        if !self.reads {
            return None;
        }
        let answer = self.remote.action(action, Some(shared::MANIFEST_PATH)).ok()??;
        let shared::Received { record, along } = self.believed(action, shared::receive(&answer))?;
        let needed: Vec<Digest> = record.layer.iter().map(|layer| layer.digest).chain(record.log).collect();
        for blob in along.iter().filter(|blob| needed.contains(&Store::digest_of(blob))) {
            self.store.put(blob).ok()?;
        }
        self.fetch(needed.iter().map(Wanted::plain)).ok()?;
        if let Some(manifest) = &record.layer {
            let layer = Layer::load(&manifest.digest, &self.store).map_err(|_| "its manifest is none");
            let layer = self.believed(action, layer)?;
            self.believed(action, shared::check_layer(&layer))?;
        }
        Some(record)
    }

    /// Counts a result that is used.
    pub(crate) fn used(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Brings what is not in the store yet, verified, as many at once as the way allows.
    ///
    /// # Errors
    /// A blob is gone or damaged there, the cache does not answer, or the disk refuses.
    pub(crate) fn fetch(&self, wanted: impl Iterator<Item = Wanted>) -> Result<(), Error> {
        let mut looks = std::collections::HashMap::new();
        for wanted in wanted.filter(|wanted| !self.store.has(&wanted.digest)) {
            looks.entry(wanted.digest).or_insert(wanted);
        }
        if looks.is_empty() {
            return Ok(());
        }
        let digests: Vec<Digest> = looks.keys().copied().collect();
        let folder = self.store.root().join("tmp");
        let mut keep = |digest: Digest, received: Received| {
            let Some(look) = looks.get(&digest) else { return Ok(()) };
            let kept = match received {
                Received::Bytes(bytes) => self.store.put_as(&bytes, look.executable, look.mtime_ns).map(|_| ()),
                Received::File(path) => self.store.adopt_as(&path, &digest, look.executable, look.mtime_ns),
            };
            kept.map_err(std::io::Error::other)
        };
        let fetched = self.remote.download(&digests, &folder, &mut keep)?;
        if let Some(damaged) = fetched.damaged.first() {
            self.note(format!("the shared cache sent wrong bytes for blob {}; they were not used", damaged.short()));
        }
        match fetched.missing.first().or(fetched.damaged.first()) {
            Some(digest) => Err(Error::Missing(*digest)),
            None => Ok(()),
        }
    }

    /// Brings the files of a layer.
    ///
    /// # Errors
    /// As [`Far::fetch`].
    pub(crate) fn fetch_layer(&self, layer: &Layer) -> Result<(), Error> {
        self.fetch(files(layer))
    }

    /// Uploads this beside what is done next; nothing happens when nothing may be written there.
    pub(crate) fn share(&self, job: Job) {
        if let Some(uploads) = &self.uploads {
            uploads.push(job);
        }
    }

    /// Waits until everything is uploaded, or `go_on` says no, or nothing moves any more. Sentences about what went wrong.
    pub(crate) fn finish(&self, go_on: &mut dyn FnMut(Uploading) -> bool) -> Vec<String> {
        let mut notes: Vec<String> = std::mem::take(&mut *lock(&self.notes)).into_iter().collect();
        let lost = self.uploads.as_ref().map(|uploads| uploads.finish(go_on)).unwrap_or_default();
        let told = lost.iter().any(|note| note.contains("were not uploaded"));
        notes.extend(lost);
        if let Some(why) = self.remote.trouble().filter(|_| !told) {
            notes.push(format!("the shared cache {} was not to be had: {why}", self.remote.options().address));
        }
        notes
    }

    pub(crate) fn counts(&self) -> SharedCounts {
        let counted = self.remote.counted();
        SharedCounts {
            hits: self.hits.load(Ordering::Relaxed),
            bytes_down: counted.bytes_down,
            bytes_up: counted.bytes_up,
            failures: counted.failures,
        }
    }

    pub(crate) fn note(&self, note: String) {
        lock(&self.notes).insert(note);
    }

    fn believed<T>(&self, action: &Digest, answer: Result<T, &'static str>) -> Option<T> {
        let note = |why| self.note(format!("the shared cache's result {} was not used: {why}", action.short()));
        answer.map_err(note).ok()
    }
}

impl Wanted {
    /// Content alone.
    pub(crate) fn plain(digest: &Digest) -> Wanted {
        Wanted { digest: *digest, executable: false, mtime_ns: 0 }
    }
}

/// The files of a layer.
pub(crate) fn files(layer: &Layer) -> impl Iterator<Item = Wanted> + '_ {
    layer.entries.iter().filter_map(|entry| match entry.kind {
        LayerKind::File { digest, executable, mtime_ns } => Some(Wanted { digest, executable, mtime_ns }),
        _ => None,
    })
}

/// Blobs of a record that its own look needs: artifacts and reports.
pub(crate) fn extras(record: &ActionRecord) -> impl Iterator<Item = Wanted> + '_ {
    let artifacts = record.artifacts.iter().flat_map(|artifact| &artifact.files);
    let artifacts =
        artifacts.map(|(_, digest, executable)| Wanted { executable: *executable, ..Wanted::plain(digest) });
    artifacts.chain(record.reports.iter().map(|(_, digest)| Wanted::plain(digest)))
}
