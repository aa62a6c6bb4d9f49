//! The parts of an open store, and what they all need of each other.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::commit::Commit;
use crate::index::{Found, Index, Loc};
use crate::lease::{Clock, now_ms};
use crate::log::Log;
use crate::memory::Memory;
use crate::policy::Policy;
use crate::record::{HEADER_BYTES, Header, Kind, checked};
use crate::segment::Segment;
use crate::tag::{Tag, TagState};
use crate::tier::Below;
use crate::{Durability, Error, Key, Options, Stats};

pub(crate) type Segments = HashMap<u32, Arc<Segment>, TagState>;

/// An open store. Locks are taken in the order `checkpoint`, `log`, the tables of `index`, `segments`, `policy`.
#[derive(Debug)]
pub(crate) struct Disk {
    pub dir: PathBuf,
    pub options: Options,
    /// Held locked.
    pub _lock: File,
    pub index: Index,
    pub log: Mutex<Log>,
    pub commit: Commit,
    pub checkpoint: Mutex<Checkpoint>,
    pub segments: RwLock<Arc<Segments>>,
    pub policy: Mutex<Policy>,
    pub memory: Memory,
    pub clock: Clock,
    pub counts: Counts,
    /// The tier below, if there is one.
    pub below: OnceLock<Arc<Below>>,
    /// One eviction at a time.
    pub evicting: Mutex<()>,
    pub keeper: Bell,
    pub compactor: Bell,
    pub flusher: Bell,
    /// Bytes of segments, and of the index with its manifest.
    pub log_bytes: AtomicU64,
    pub index_bytes: AtomicU64,
    /// Bytes set aside for a full disk.
    pub reserve_bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evicted: AtomicU64,
    pub damaged: AtomicU64,
    /// Times that something was taken out which may be in memory.
    pub removals: AtomicU64,
    /// Until when it is known that nothing may go: milliseconds since 1970.
    pub full_until_ms: AtomicU64,
    /// The file system said that it is full.
    pub no_space: AtomicBool,
}

/// Wakes a thread that sleeps most of the time.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rung {
    work: bool,
    stop: bool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        lock(&self.rung).work = true;
        self.heard.notify_one();
    }

    pub(crate) fn stop(&self) {
        lock(&self.rung).stop = true;
        self.heard.notify_one();
    }

    pub(crate) fn stopped(&self) -> bool {
        lock(&self.rung).stop
    }

    /// Sleeps until it is rung, for so long at most. `false` when it is time to end.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let rung = lock(&self.rung);
        let idle = |rung: &mut Rung| !rung.work && !rung.stop;
        let (mut rung, _) = self.heard.wait_timeout_while(rung, at_most, idle).unwrap_or_else(PoisonError::into_inner);
        rung.work = false;
        !rung.stop
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of an act on a path.
pub(crate) fn cannot<'a>(act: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io { act, path: path.to_owned(), source }
}

/// A record that is there, with the file it is in.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub loc: Loc,
    pub segment: Arc<Segment>,
}

impl Disk {
    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(crate) fn index_dir(&self) -> PathBuf {
        self.dir.join("index")
    }

    pub(crate) fn segments(&self) -> Arc<Segments> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Readers of the map keep the one they have.
    pub(crate) fn change_segments(&self, change: impl FnOnce(&mut Segments)) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Segments::clone(&segments);
        change(&mut changed);
        *segments = Arc::new(changed);
    }

    /// Bytes of a segment before the next one is begun.
    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.options.bytes_max / 64).clamp(256 << 10, 512 << 20)
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.log_bytes.load(Relaxed) + self.index_bytes.load(Relaxed) + self.reserve_bytes.load(Relaxed)
    }

    pub(crate) fn cannot_use_index(&self) -> impl Fn(io::Error) -> Error {
        let path = self.index_dir();
        move |source| Error::Io { act: "read the index in", path: path.clone(), source }
    }

    /// The file of what the index says, if it is still there.
    pub(crate) fn place(&self, segments: &Segments, found: Option<Found>) -> Option<Place> {
        let loc = found?.loc;
        let segment = segments.get(&loc.segment).filter(|_| loc.kind != Kind::Tombstone)?;
        (!segment.slots.is_doomed(loc.ordinal)).then(|| Place { loc, segment: segment.clone() })
    }

    /// Says that the file system has no room, if that is why an act failed.
    pub(crate) fn note(&self, err: io::Error) -> io::Error {
        if err.kind() == io::ErrorKind::StorageFull {
            self.counts.no_space.store(true, Relaxed);
            self.keeper.ring();
        }
        err
    }

    /// Where a tag is now, without asking for it.
    pub(crate) fn find(&self, tag: Tag) -> Result<Option<Place>, Error> {
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        Ok(self.place(&self.segments(), seen.found))
    }

    /// Where the record of a blob is; it counts as asked for.
    pub(crate) fn ask(&self, key: &Key) -> Result<Option<Place>, Error> {
        let place = self.find(Tag::of(key))?;
        let there = |place: &Place| place.loc.size == key.size && place.loc.kind != Kind::Entry && self.touch(place);
        Ok(place.filter(there))
    }

    /// Leases a record and counts that it was asked for; `false` when it went in this moment.
    pub(crate) fn touch(&self, place: &Place) -> bool {
        let now = now_ms();
        touch(&place.segment, &place.loc, self.clock, now)
    }

    /// A whole record that is right, with its header; `None` when it is damaged.
    pub(crate) fn read(&self, place: &Place) -> Result<Option<(Header, Vec<u8>)>, Error> {
        let record = place.segment.read(place.loc.offset, place.loc.stored_len);
        let record = record.map_err(cannot("read a segment in", &self.dir));
        match record {
            Ok(record) => Ok(checked(&record).map(|header| (header, record))),
            // A disk that cannot read what it was given is damage too.
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let sum =
            |count: fn(&Segment) -> &AtomicU64| self.segments().values().map(|one| count(one).load(Relaxed)).sum();
        Stats {
            blobs: sum(|segment| &segment.tally.blobs),
            blob_bytes: sum(|segment| &segment.tally.blob_bytes),
            entries: sum(|segment| &segment.tally.entries),
            disk_bytes: self.disk_bytes(),
            hits: self.counts.hits.load(Relaxed),
            misses: self.counts.misses.load(Relaxed),
            evicted: self.counts.evicted.load(Relaxed),
            damaged: self.counts.damaged.load(Relaxed),
        }
    }

    pub(crate) fn is_durable(&self, found: &Found) -> bool {
        self.options.durability == Durability::Process || found.seq <= self.commit.durable()
    }
}

pub(crate) fn touch(segment: &Segment, loc: &Loc, clock: Clock, now_ms: u64) -> bool {
    // Whole seconds: a store to memory that all threads share is not for free.
    if segment.touched_ms.load(Relaxed) + 1000 < now_ms {
        segment.touched_ms.store(now_ms, Relaxed);
    }
    segment.slots.touch(loc.ordinal, clock, now_ms)
}

/// The body of a record.
pub(crate) fn body(record: &[u8]) -> &[u8] {
    &record[HEADER_BYTES..]
}
