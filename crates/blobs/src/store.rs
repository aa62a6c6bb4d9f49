//! The store as its callers see it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::disk::Disk;
use crate::keep;
use crate::read::Parts;
use crate::tag::Tag;
use crate::tier::Below;
use crate::write::Upload;
use crate::{Entry, EntryId, Error, Function, Key};

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
    open: Arc<Open>,
}

/// An open store with its threads, which end with it.
#[derive(Debug)]
struct Open {
    disk: Arc<Disk>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        keep::stop(&self.disk);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // What fails here the next start finds in the log.
        let _ = self.disk.flush();
    }
}

impl Blobs {
    /// Opens or makes the store in `dir`. Returns before everything is loaded that is not needed to answer.
    ///
    /// # Errors
    /// Another process has it open, or the file system refuses.
    pub fn open(dir: &Path, options: Options) -> Result<Blobs, Error> {
        let disk = Arc::new(Disk::open(dir, options)?);
        let threads = keep::start(&disk);
        Ok(Blobs { open: Arc::new(Open { disk, threads }) })
    }

    /// Which of `keys` are not there, as positions. The others are leased from now on.
    pub fn missing(&self, keys: &[Key]) -> Vec<usize> {
        // What cannot be looked up is as good as missing.
        self.disk().missing(keys).unwrap_or_else(|_| (0..keys.len()).collect())
    }

    /// The key of a blob of which only the hash is known, as plain HTTP clients know it. No lease: ask for the blob next.
    pub fn find(&self, function: Function, hash: [u8; 32]) -> Option<Key> {
        let empty = function.key_of(&[]);
        if hash == empty.hash {
            return Some(empty);
        }
        let found = self.disk().find_hash(function, &hash).ok().flatten();
        found.or_else(|| self.below()?.recall_hash(self.disk(), |size| Key { function, hash, size }))
    }

    /// Stores blobs whose bytes are at hand, each verified, all flushed together. One result for each, in order.
    ///
    /// # Errors
    /// Of each: its bytes are not what the key says, the store is full, or the file system refuses.
    pub fn put_many(&self, blobs: &[(Key, Bytes)]) -> Vec<Result<(), Error>> {
        self.disk().put_many(blobs)
    }

    /// Begins a blob that comes in parts. Nothing of it is to be seen before [`Writer::finish`].
    ///
    /// # Errors
    /// The store is full, or the file system refuses.
    pub fn writer(&self, key: Key) -> Result<Writer, Error> {
        Upload::new(self.disk(), key).map(|upload| Writer { upload, _open: self.clone() })
    }

    /// A blob of at most `bytes_max`, verified.
    ///
    /// # Errors
    /// It is missing, damaged or too large.
    pub fn get(&self, key: &Key, bytes_max: usize) -> Result<Bytes, Error> {
        self.or_recalled(key, || self.disk().get(key, bytes_max))
    }

    /// A blob from `offset` on in verified parts, at most `limit` bytes if that is given.
    ///
    /// # Errors
    /// It is missing, or `offset` is beyond its end (at its end is an empty reader).
    pub fn reader(&self, key: &Key, offset: u64, limit: Option<u64>) -> Result<Reader, Error> {
        let parts = self.or_recalled(key, || self.disk().reader(key, offset, limit))?;
        Ok(Reader { parts, _open: self.clone() })
    }

    /// The parts a blob is kept in, in order, each a blob of the same digest function; itself alone when it is whole.
    ///
    /// # Errors
    /// It is missing.
    pub fn chunks(&self, key: &Key) -> Result<Vec<Key>, Error> {
        self.or_recalled(key, || self.disk().chunks(key))
    }

    /// Makes a blob of others, in order, and verifies it.
    ///
    /// # Errors
    /// One of them is missing, or together they are not the blob.
    pub fn splice(&self, key: &Key, chunks: &[Key]) -> Result<(), Error> {
        self.disk().splice(key, chunks)
    }

    /// The newest entry of a name if all it needs is there; what it needs is leased from now on.
    pub fn entry(&self, id: &EntryId) -> Option<Entry> {
        let entry = self.disk().entry(id).ok().flatten();
        entry.or_else(|| self.below()?.recall_entry(self.disk(), id))
    }

    /// Writes an entry. The blobs it needs must be there; they are on the disk no later than it is.
    ///
    /// # Errors
    /// A blob it needs is missing, a part is too large, the store is full, or the file system refuses.
    pub fn set_entry(&self, id: &EntryId, entry: Entry) -> Result<(), Error> {
        self.disk().set_entry(id, &entry)
    }

    /// Forgets an entry; nothing happens when there is none.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove_entry(&self, id: &EntryId) -> Result<(), Error> {
        self.below().map_or(Ok(()), |below| below.remove(Tag::of_entry(id)))?;
        self.disk().remove_entry(id)
    }

    /// Shows every entry of the spaces that start with `prefix`, in no order. Reads all of them: not for the hot path.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn entries(&self, prefix: &str, show: impl FnMut(&EntryId, &Entry)) -> Result<(), Error> {
        self.disk().entries(prefix, show)
    }

    /// Removes every entry whose writer `condemned` says yes to.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn purge(&self, condemned: impl FnMut(&EntryId, &Entry) -> bool) -> Result<Purged, Error> {
        self.below().map_or(Ok(()), |below| below.distrust_entries())?;
        self.disk().purge(condemned)
    }

    /// Takes one blob out, whoever leased it: for content that must not be there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, key: &Key) -> Result<(), Error> {
        self.below().map_or(Ok(()), |below| below.remove(Tag::of(key)))?;
        self.disk().remove(key)
    }

    /// What it holds and did.
    pub fn stats(&self) -> Stats {
        self.disk().stats()
    }

    /// Makes room now: down to `bytes_max` (the store's own bound if that is `None`) and, if given, to this age.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn collect(&self, bytes_max: Option<u64>, age_max: Option<Duration>) -> Result<Stats, Error> {
        self.disk().collect(bytes_max, age_max)?;
        Ok(self.stats())
    }

    /// Reads everything again; takes out what is damaged and what needs it. `seen` is told bytes done and bytes in all.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn verify(&self, seen: impl FnMut(u64, u64)) -> Result<Verified, Error> {
        self.disk().verify(seen)
    }

    /// Writes down what makes the next start quick. Also done when the last clone is dropped.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn flush(&self) -> Result<(), Error> {
        self.disk().flush()
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.open.disk
    }

    fn below(&self) -> Option<&Arc<Below>> {
        self.disk().below.get()
    }

    /// What is missing or damaged here may be whole in the tier below: then it is brought back, and read once more.
    fn or_recalled<T>(&self, key: &Key, read: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        match read() {
            Err(Error::Missing(_) | Error::Damaged(_))
                if self.below().is_some_and(|it| it.recall(self.disk(), key)) =>
            {
                read()
            }
            done => done,
        }
    }
}

/// A blob under way.
#[derive(Debug)]
pub struct Writer {
    // Before the store: it is to end first.
    upload: Upload,
    _open: Blobs,
}

impl Writer {
    /// The next bytes.
    ///
    /// # Errors
    /// More come than the key says, the store is full, or the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.upload.write(bytes)
    }
    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.upload.written()
    }
    /// Verifies and publishes the blob.
    ///
    /// # Errors
    /// The bytes are not what the key says, the store is full, or the file system refuses.
    pub fn finish(self) -> Result<(), Error> {
        self.upload.finish()
    }
}

/// The parts of a blob, each verified before it is handed out and at most 2 MiB.
#[derive(Debug)]
pub struct Reader {
    parts: Parts,
    _open: Blobs,
}

impl Iterator for Reader {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.parts.next()
    }
}
