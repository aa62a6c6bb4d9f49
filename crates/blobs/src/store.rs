//! The store as its callers see it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::{Entry, EntryId, Error, Function, Hasher, Key};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes on the disk, all files together.
    pub bytes_max: u64,
    /// What nobody asked for or wrote in so long goes, though there is room.
    pub age_max: Option<Duration>,
    /// How long a blob stays at least after somebody was told that it is there.
    pub lease: Duration,
    /// What a write waits for.
    pub durability: Durability,
    /// Bytes of often read blobs and entries that are kept in memory.
    pub memory_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bytes_max: 50 << 30,
            age_max: None,
            lease: Duration::from_secs(2 * 3600),
            durability: Durability::Group,
            memory_bytes: 32 << 20,
        }
    }
}

/// What a write waits for before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// For the kernel to have the bytes: they survive the end of this process, not the end of power.
    Process,
    /// For the disk to have them: one flush for all writes that wait at the same time.
    Group,
}

/// What a store holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blobs.
    pub blobs: u64,
    /// Bytes of the blobs, as their readers see them.
    pub blob_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
    /// Reads that found their blob.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Blobs that were dropped to make room or for their age.
    pub evicted: u64,
    /// Blobs that were found damaged.
    pub damaged: u64,
}

/// What a scrub looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Entries read.
    pub entries: u64,
    /// Blobs that were damaged, and are gone.
    pub damaged: Vec<Key>,
    /// Entries that were damaged, or need what is not there, and are gone.
    pub entries_dropped: u64,
}

/// What a purge removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The entries.
    pub entries: Vec<EntryId>,
}

/// The store. Cheap to clone; one process has a folder at a time, any number of threads.
#[derive(Clone, Debug)]
pub struct Blobs {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: HashMap<Key, Bytes>,
    entries: HashMap<EntryId, Entry>,
}

impl Blobs {
    /// Opens or makes the store in `dir`. Returns before everything is loaded that is not needed to answer.
    ///
    /// # Errors
    /// Another process has it open, or the file system refuses.
    pub fn open(dir: &Path, options: Options) -> Result<Blobs, Error> {
        let _ = (dir, options);
        Ok(Blobs { inner: Arc::default() })
    }

    /// Which of `keys` are not there, as positions. The others are leased from now on.
    pub fn missing(&self, keys: &[Key]) -> Vec<usize> {
        let inner = self.lock();
        let absent = |key: &Key| !key.is_empty_blob() && !inner.blobs.contains_key(key);
        keys.iter().enumerate().filter(|(_, key)| absent(key)).map(|(at, _)| at).collect()
    }

    /// The key of a blob of which only the hash is known, as plain HTTP clients know it. No lease: ask for the blob next.
    pub fn find(&self, function: Function, hash: [u8; 32]) -> Option<Key> {
        let empty = function.key_of(&[]);
        if hash == empty.hash {
            return Some(empty);
        }
        self.lock().blobs.keys().find(|key| key.function == function && key.hash == hash).copied()
    }

    /// Stores blobs whose bytes are at hand, each verified, all flushed together. One result for each, in order.
    ///
    /// # Errors
    /// Of each: its bytes are not what the key says, the store is full, or the file system refuses.
    pub fn put_many(&self, blobs: &[(Key, Bytes)]) -> Vec<Result<(), Error>> {
        let put = |(key, bytes): &(Key, Bytes)| {
            let actual = key.function.key_of(bytes);
            if actual != *key {
                return Err(Error::WrongBytes { expected: *key, actual });
            }
            self.lock().blobs.insert(*key, bytes.clone());
            Ok(())
        };
        blobs.iter().map(put).collect()
    }

    /// Begins a blob that comes in parts. Nothing of it is to be seen before [`Writer::finish`].
    ///
    /// # Errors
    /// The store is full, or the file system refuses.
    pub fn writer(&self, key: Key) -> Result<Writer, Error> {
        Ok(Writer { blobs: self.clone(), key, hasher: Hasher::new(key.function), bytes: Vec::new() })
    }

    /// A blob of at most `bytes_max`, verified.
    ///
    /// # Errors
    /// It is missing, damaged or too large.
    pub fn get(&self, key: &Key, bytes_max: usize) -> Result<Bytes, Error> {
        if key.size > bytes_max as u64 {
            let what = format!("blob {key}");
            return Err(Error::TooLarge { what, size: key.size, max: bytes_max as u64, unit: "bytes" });
        }
        if key.is_empty_blob() {
            return Ok(Bytes::new());
        }
        self.lock().blobs.get(key).cloned().ok_or(Error::Missing(*key))
    }

    /// A blob from `offset` on in verified parts, at most `limit` bytes if that is given.
    ///
    /// # Errors
    /// It is missing, or `offset` is beyond its end (at its end is an empty reader).
    pub fn reader(&self, key: &Key, offset: u64, limit: Option<u64>) -> Result<Reader, Error> {
        let bytes = self.get(key, usize::MAX)?;
        if offset > key.size {
            return Err(Error::OutOfRange { key: *key, offset });
        }
        let end = limit.map_or(key.size, |limit| key.size.min(offset.saturating_add(limit)));
        Ok(Reader { rest: bytes.slice(offset as usize..end as usize) })
    }

    /// The parts a blob is kept in, in order, each a blob of the same digest function; itself alone when it is whole.
    ///
    /// # Errors
    /// It is missing.
    pub fn chunks(&self, key: &Key) -> Result<Vec<Key>, Error> {
        self.get(key, usize::MAX).map(|_| vec![*key])
    }

    /// Makes a blob of others, in order, and verifies it.
    ///
    /// # Errors
    /// One of them is missing, or together they are not the blob.
    pub fn splice(&self, key: &Key, chunks: &[Key]) -> Result<(), Error> {
        let mut writer = self.writer(*key)?;
        for chunk in chunks {
            writer.write(&self.get(chunk, usize::MAX)?)?;
        }
        writer.finish()
    }

    /// The newest entry of a name if all it needs is there; what it needs is leased from now on.
    pub fn entry(&self, id: &EntryId) -> Option<Entry> {
        let entry = self.lock().entries.get(id).cloned()?;
        self.missing(&entry.needs).is_empty().then_some(entry)
    }

    /// Writes an entry. The blobs it needs must be there; they are on the disk no later than it is.
    ///
    /// # Errors
    /// A blob it needs is missing, a part is too large, the store is full, or the file system refuses.
    pub fn set_entry(&self, id: &EntryId, entry: Entry) -> Result<(), Error> {
        if let Some(at) = self.missing(&entry.needs).first() {
            return Err(Error::Missing(entry.needs[*at]));
        }
        self.lock().entries.insert(id.clone(), entry);
        Ok(())
    }

    /// Forgets an entry; nothing happens when there is none.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove_entry(&self, id: &EntryId) -> Result<(), Error> {
        self.lock().entries.remove(id);
        Ok(())
    }

    /// Shows every entry of the spaces that start with `prefix`, in no order. Reads all of them: not for the hot path.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn entries(&self, prefix: &str, mut show: impl FnMut(&EntryId, &Entry)) -> Result<(), Error> {
        let entries = self.lock().entries.clone();
        entries.iter().filter(|(id, _)| id.space.starts_with(prefix)).for_each(|(id, entry)| show(id, entry));
        Ok(())
    }

    /// Removes every entry whose writer `condemned` says yes to.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn purge(&self, mut condemned: impl FnMut(&EntryId, &Entry) -> bool) -> Result<Purged, Error> {
        let mut ids = Vec::new();
        self.entries("", |id, entry| ids.extend(condemned(id, entry).then(|| id.clone())))?;
        for id in &ids {
            self.remove_entry(id)?;
        }
        Ok(Purged { entries: ids })
    }

    /// Takes one blob out, whoever leased it: for content that must not be there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, key: &Key) -> Result<(), Error> {
        self.lock().blobs.remove(key);
        Ok(())
    }

    /// What it holds and did.
    pub fn stats(&self) -> Stats {
        let inner = self.lock();
        Stats { blobs: inner.blobs.len() as u64, entries: inner.entries.len() as u64, ..Stats::default() }
    }

    /// Makes room now: down to `bytes_max` (the store's own bound if that is `None`) and, if given, to this age.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn collect(&self, bytes_max: Option<u64>, age_max: Option<Duration>) -> Result<Stats, Error> {
        let _ = (bytes_max, age_max);
        Ok(self.stats())
    }

    /// Reads everything again; takes out what is damaged and what needs it. `seen` is told bytes done and bytes in all.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn verify(&self, seen: impl FnMut(u64, u64)) -> Result<Verified, Error> {
        let _ = seen;
        Ok(Verified::default())
    }

    /// Writes down what makes the next start quick. Also done when the last clone is dropped.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob under way.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    key: Key,
    hasher: Hasher,
    bytes: Vec<u8>,
}

impl Writer {
    /// The next bytes.
    ///
    /// # Errors
    /// More come than the key says, the store is full, or the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        if self.hasher.size() > self.key.size {
            return Err(Error::WrongBytes { expected: self.key, actual: self.hasher.clone().key() });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.hasher.size()
    }
    /// Verifies and publishes the blob.
    ///
    /// # Errors
    /// The bytes are not what the key says, the store is full, or the file system refuses.
    pub fn finish(self) -> Result<(), Error> {
        let actual = self.hasher.key();
        if actual != self.key {
            return Err(Error::WrongBytes { expected: self.key, actual });
        }
        self.blobs.lock().blobs.insert(self.key, self.bytes.into());
        Ok(())
    }
}

/// The parts of a blob, each verified before it is handed out and at most 2 MiB.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Iterator for Reader {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let part = self.rest.split_to(self.rest.len().min(2 << 20));
        (!part.is_empty()).then_some(Ok(part))
    }
}
