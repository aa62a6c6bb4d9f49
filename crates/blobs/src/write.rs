//! Writing: many small blobs at once, one large one in parts, one that is made of others.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use crate::chunk::{CHUNK_BYTES_MAX, Chunker};
use crate::codec::pack;
use crate::disk::{Disk, lock};
use crate::index::Seen;
use crate::log::{Draft, Rule};
use crate::read::{LIST_MAX, encode_list};
use crate::record::{Header, Kind};
use crate::tag::Tag;
use crate::{Error, Hasher, Key};

/// Bytes of a batch from which on it is worth a second thread.
const SHARED_BYTES: usize = 256 << 10;
/// Chunks on their way from who cuts to who stores.
const CHUNKS_AHEAD: usize = 2;
/// Sizes that the index can say.
const SIZE_BITS: u32 = 48;

impl Disk {
    pub(crate) fn put_many(self: &Arc<Disk>, blobs: &[(Key, Bytes)]) -> Vec<Result<(), Error>> {
        let tags: Vec<Tag> = blobs.iter().map(|(key, _)| Tag::of(key)).collect();
        let (found, generation) = match self.index.find_many(&tags).map_err(self.cannot_use_index()) {
            Ok(found) => found,
            Err(err) => return blobs.iter().map(|_| Err(again(&err))).collect(),
        };
        let segments = self.segments();
        let mut wait_for = 0;
        let plan = |at: usize| {
            let (key, bytes) = &blobs[at];
            let seen = Seen { found: found[at], generation };
            match self.place(&segments, found[at]) {
                _ if bytes.len() > CHUNK_BYTES_MAX => Plan::InParts,
                Some(place) if place.loc.size == key.size && self.touch(&place) => {
                    wait_for = wait_for.max(found[at].map_or(0, |found| found.seq));
                    Plan::Check
                }
                _ if key.is_empty_blob() => Plan::Check,
                _ => Plan::Store(seen),
            }
        };
        let plans: Vec<Plan> = (0..blobs.len()).map(plan).collect();
        let mut prepared = prepare(blobs, &tags, &plans);
        let mut drafts: Vec<Draft> = prepared.iter_mut().filter_map(|one| one.as_mut().ok()?.take()).collect();
        // Only now: the first of two of the same name may have been refused.
        let mut taken = HashSet::new();
        drafts.retain(|draft| taken.insert(draft.tag));
        self.choose_queues(&mut drafts);
        let stored = self.store(&drafts, wait_for);
        let finish = |(at, prepared): (usize, Result<Option<Draft>, Error>)| match (&plans[at], prepared) {
            (_, Err(err)) => Err(err),
            (Plan::InParts, Ok(_)) => self.put_in_parts(&blobs[at].0, &blobs[at].1),
            (_, Ok(_)) => stored.as_ref().map_err(again).copied(),
        };
        prepared.into_iter().enumerate().map(finish).collect()
    }

    fn put_in_parts(self: &Arc<Disk>, key: &Key, bytes: &Bytes) -> Result<(), Error> {
        let mut upload = Upload::new(self, *key)?;
        bytes.chunks(CHUNK_BYTES_MAX).try_for_each(|part| upload.write(part))?;
        upload.finish()
    }

    /// Writes records and waits for the disk to have them, and the record `wait_for` of somebody else.
    pub(crate) fn store(&self, drafts: &[Draft], wait_for: u64) -> Result<(), Error> {
        let mut last = wait_for;
        if !drafts.is_empty() {
            self.make_room(drafts.iter().map(Draft::record_bytes).sum())?;
            last = last.max(self.append(drafts)?);
        }
        self.wait(last)
    }

    fn choose_queues(&self, drafts: &mut [Draft]) {
        let mut policy = lock(&self.policy);
        drafts.iter_mut().for_each(|draft| draft.queue = policy.queue_for(draft.tag.high));
    }

    /// Stores a chunk, if it is not there, and does not wait for the disk.
    fn put_chunk(&self, key: &Key, bytes: &Bytes) -> Result<(), Error> {
        let tag = Tag::of(key);
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        let place = self.place(&self.segments(), seen.found);
        if place.is_some_and(|place| place.loc.size == key.size && place.loc.kind == Kind::Blob && self.touch(&place)) {
            return Ok(());
        }
        let mut drafts = [draft(key, tag, bytes, seen)];
        self.choose_queues(&mut drafts);
        self.make_room(drafts[0].record_bytes())?;
        self.append(&drafts).map(drop)
    }

    /// Publishes a blob whose chunks are there.
    fn put_list(&self, key: &Key, chunks: &[Key]) -> Result<(), Error> {
        bound_list(key, chunks.len())?;
        let tag = Tag::of(key);
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        // Its chunks were written before, and may not be on the disk yet.
        let last = self.log().next_seq - 1;
        if self.place(&self.segments(), seen.found).is_some() && self.chunks(key).is_ok() {
            return self.wait(last);
        }
        let body = encode_list(chunks);
        let header = header(Kind::List, key, body.len());
        self.store(&[Draft::new(tag, header, body, Rule::Always, seen)], last)
    }

    pub(crate) fn splice(self: &Arc<Disk>, key: &Key, chunks: &[Key]) -> Result<(), Error> {
        bound_list(key, chunks.len())?;
        if let Some(at) = self.missing(chunks)?.first() {
            return Err(Error::Missing(chunks[*at]));
        }
        let total = chunks.iter().fold(0u64, |sum, chunk| sum.saturating_add(chunk.size));
        if total != key.size {
            return Err(Error::WrongBytes { expected: *key, actual: Key { size: total, ..*key } });
        }
        let alike = chunks.iter().all(|chunk| chunk.function == key.function);
        if !alike || key.size <= CHUNK_BYTES_MAX as u64 {
            return self.splice_by_copy(key, chunks);
        }
        let mut hasher = Hasher::new(key.function);
        let mut flat = Vec::with_capacity(chunks.len());
        for chunk in chunks.iter().filter(|chunk| chunk.size > 0) {
            self.reader(chunk, 0, None)?.try_for_each(|part| part.map(|part| hasher.update(&part)))?;
            flat.extend(self.chunks(chunk)?);
            bound_list(key, flat.len())?;
        }
        let actual = hasher.key();
        if actual != *key {
            return Err(Error::WrongBytes { expected: *key, actual });
        }
        self.put_list(key, &flat)
    }

    fn splice_by_copy(self: &Arc<Disk>, key: &Key, chunks: &[Key]) -> Result<(), Error> {
        let mut upload = Upload::new(self, *key)?;
        for chunk in chunks {
            self.reader(chunk, 0, None)?.try_for_each(|part| upload.write(&part?))?;
        }
        upload.finish()
    }
}

/// What is to be done with one blob of many.
enum Plan {
    /// It is there: its bytes are checked all the same.
    Check,
    Store(Seen),
    /// It is too large for one record.
    InParts,
}

/// Checks bytes and makes records, on two threads if there is much to do.
fn prepare(blobs: &[(Key, Bytes)], tags: &[Tag], plans: &[Plan]) -> Vec<Result<Option<Draft>, Error>> {
    let one = |at: usize| {
        let (key, bytes) = &blobs[at];
        if let Plan::InParts = &plans[at] {
            return Ok(None);
        }
        let actual = key.function.key_of(bytes);
        match &plans[at] {
            _ if actual != *key => Err(Error::WrongBytes { expected: *key, actual }),
            Plan::Store(seen) => Ok(Some(draft(key, tags[at], bytes, *seen))),
            Plan::Check | Plan::InParts => Ok(None),
        }
    };
    let total: usize = blobs.iter().map(|(_, bytes)| bytes.len()).sum();
    if total < SHARED_BYTES || blobs.len() < 2 {
        return (0..blobs.len()).map(one).collect();
    }
    let mut sum = 0;
    let half = blobs.iter().take_while(|(_, bytes)| (sum + bytes.len() <= total / 2, sum += bytes.len()).0).count();
    thread::scope(|scope| {
        let second = scope.spawn(|| (half..blobs.len()).map(one).collect::<Vec<_>>());
        let mut prepared: Vec<_> = (0..half).map(one).collect();
        prepared.extend(second.join().unwrap_or_default());
        prepared
    })
}

/// The record of a blob.
fn draft(key: &Key, tag: Tag, bytes: &Bytes, seen: Seen) -> Draft {
    let packed = pack(bytes).map(Bytes::from);
    let is_packed = packed.is_some();
    let body = packed.unwrap_or_else(|| bytes.clone());
    let header = Header { packed: is_packed, ..header(Kind::Blob, key, body.len()) };
    Draft::new(tag, header, body, Rule::IfAbsent, seen)
}

pub(crate) fn header(kind: Kind, key: &Key, stored_len: usize) -> Header {
    let Key { function, hash, size } = *key;
    Header { kind, packed: false, function, stored_len: stored_len as u32, hash, size, seq: 0 }
}

fn bound_list(key: &Key, chunks: usize) -> Result<(), Error> {
    if chunks <= LIST_MAX {
        return Ok(());
    }
    let what = format!("the list of chunks of blob {key}");
    Err(Error::TooLarge { what, size: chunks as u64, max: LIST_MAX as u64, unit: "chunks" })
}

/// The same error once more, for the next blob of the batch.
pub(crate) fn again(err: &Error) -> Error {
    match err {
        Error::Io { act, path, source } => {
            let copy = match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            };
            Error::Io { act, path: path.clone(), source: copy }
        }
        Error::Full { bytes_max } => Error::Full { bytes_max: *bytes_max },
        Error::Missing(key) => Error::Missing(*key),
        Error::Damaged(key) => Error::Damaged(*key),
        Error::WrongBytes { expected, actual } => Error::WrongBytes { expected: *expected, actual: *actual },
        Error::OutOfRange { key, offset } => Error::OutOfRange { key: *key, offset: *offset },
        Error::InUse { path } => Error::InUse { path: path.clone() },
        Error::TooLarge { what, size, max, unit } => {
            Error::TooLarge { what: what.clone(), size: *size, max: *max, unit }
        }
    }
}

/// A blob that comes in parts.
#[derive(Debug)]
pub(crate) struct Upload {
    disk: Arc<Disk>,
    key: Key,
    hasher: Hasher,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// It fits in one record.
    Whole(Vec<u8>),
    /// One thread hashes the whole and cuts it, another hashes and stores the chunks.
    Chunks { chunker: Chunker, storer: Storer },
}

impl Upload {
    pub(crate) fn new(disk: &Arc<Disk>, key: Key) -> Result<Upload, Error> {
        if key.size >> SIZE_BITS != 0 {
            let what = format!("blob {key}");
            return Err(Error::TooLarge { what, size: key.size, max: (1 << SIZE_BITS) - 1, unit: "bytes" });
        }
        let body = match key.size <= CHUNK_BYTES_MAX as u64 {
            true => Body::Whole(Vec::new()),
            false => Body::Chunks { chunker: Chunker::new(), storer: Storer::start(disk, key) },
        };
        Ok(Upload { disk: disk.clone(), key, hasher: Hasher::new(key.function), body })
    }

    pub(crate) fn written(&self) -> u64 {
        self.hasher.size()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.hasher.size() + bytes.len() as u64 > self.key.size {
            let mut hasher = self.hasher.clone();
            hasher.update(bytes);
            return Err(Error::WrongBytes { expected: self.key, actual: hasher.key() });
        }
        match &mut self.body {
            Body::Whole(whole) => whole.extend_from_slice(bytes),
            Body::Chunks { chunker, storer } => chunker.push(bytes, |chunk| storer.send(chunk))?,
        }
        self.hasher.update(bytes);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        let Upload { disk, key, hasher, body } = self;
        let actual = hasher.key();
        let wrong = actual != key;
        match body {
            _ if wrong => Err(Error::WrongBytes { expected: key, actual }),
            Body::Whole(whole) => disk.put_checked(&key, whole.into()),
            Body::Chunks { chunker, mut storer } => {
                chunker.finish(|chunk| storer.send(chunk))?;
                let chunks = storer.finish()?;
                disk.put_list(&key, &chunks)
            }
        }
    }
}

impl Disk {
    /// Stores a blob that is known to be right.
    fn put_checked(&self, key: &Key, bytes: Bytes) -> Result<(), Error> {
        if key.is_empty_blob() {
            return Ok(());
        }
        let tag = Tag::of(key);
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        let there = self.place(&self.segments(), seen.found);
        if there.is_some_and(|place| place.loc.size == key.size && self.touch(&place)) {
            return self.wait(seen.found.map_or(0, |found| found.seq));
        }
        let mut drafts = [draft(key, tag, &bytes, seen)];
        self.choose_queues(&mut drafts);
        self.store(&drafts, 0)
    }
}

/// The thread that stores chunks. What it has stored stays when the upload is given up: ordinary blobs, which the next
/// try finds.
#[derive(Debug)]
struct Storer {
    chunks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<Vec<Key>, Error>>>,
}

impl Storer {
    fn start(disk: &Arc<Disk>, key: Key) -> Storer {
        let (chunks, incoming) = sync_channel::<Vec<u8>>(CHUNKS_AHEAD);
        let disk = disk.clone();
        let store = move || {
            let mut keys = Vec::new();
            for chunk in incoming {
                let chunk_key = key.function.key_of(&chunk);
                disk.put_chunk(&chunk_key, &Bytes::from(chunk))?;
                keys.push(chunk_key);
                bound_list(&key, keys.len())?;
            }
            Ok(keys)
        };
        Storer { chunks: Some(chunks), thread: Some(thread::spawn(store)) }
    }

    fn send(&mut self, chunk: &[u8]) -> Result<(), Error> {
        match &self.chunks {
            Some(chunks) if chunks.send(chunk.to_vec()).is_ok() => Ok(()),
            // It has ended, and not without an error.
            _ => self.finish().map(drop),
        }
    }

    fn finish(&mut self) -> Result<Vec<Key>, Error> {
        self.chunks = None;
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        let gone = || io::Error::other("the thread that stores its chunks has ended");
        ended.unwrap_or_else(|| Err(Error::Io { act: "store", path: "a blob".into(), source: gone() }))
    }
}

impl Drop for Storer {
    /// Waits, so that nobody writes to a store that was closed.
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
