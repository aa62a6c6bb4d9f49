//! Appending: all records of all writers, one after another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use crate::disk::{Disk, cannot, lock};
use crate::index::{Found, Loc, Seen};
use crate::lease::{NO_LEASE, RECORDS_MAX, now_ms};
use crate::policy::Queue;
use crate::record::{Header, Kind, sum};
use crate::segment::Segment;
use crate::tag::Tag;
use crate::{Durability, Error};

/// Places in memory from which on they are written to a file.
pub(crate) const TABLE_PLACES: usize = 64 << 10;
/// Bytes of the log from which on the same is done: it is what a start after a crash reads again.
pub(crate) const REPLAY_BYTES: u64 = 64 << 20;
/// Bytes after which the disk is given work though nobody waits yet: a large blob is on the disk soon after it came.
const FLUSH_BYTES: u64 = 8 << 20;
/// So many times these, writers wait.
const PATIENCE: usize = 4;

/// Where the next record goes.
#[derive(Debug)]
pub(crate) struct Log {
    pub next_seq: u64,
    pub next_segment: u32,
    /// By queue.
    pub active: [Option<Arc<Segment>>; 2],
    /// Written to since the last flush.
    pub dirty: Vec<Arc<Segment>>,
    /// Written to since the last checkpoint.
    pub unchecked: Vec<Arc<Segment>>,
    /// Bytes since the last flush.
    pub since_flush: u64,
    /// Bytes since the last checkpoint.
    pub since_checkpoint: u64,
    /// A flush failed: what the disk has is not known, so nothing more is promised.
    pub failed: bool,
}

/// When a record is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Unless there is one.
    IfAbsent,
    Always,
    /// If the one there is this.
    IfAt(Loc),
}

/// A record to be.
#[derive(Debug)]
pub(crate) struct Draft {
    pub tag: Tag,
    /// Its `seq` is set when it is written.
    pub header: Header,
    pub body: Bytes,
    /// Checksum of the body.
    pub sum: u64,
    pub rule: Rule,
    /// What was there when somebody looked.
    pub seen: Seen,
    pub queue: Queue,
    /// Its byte of lease and frequency; fresh if there is none.
    pub slot: Option<u8>,
}

impl Draft {
    pub(crate) fn new(tag: Tag, header: Header, body: Bytes, rule: Rule, seen: Seen) -> Draft {
        Draft { tag, sum: sum(&body), header, body, rule, seen, queue: Queue::Small, slot: None }
    }

    pub(crate) fn record_bytes(&self) -> u64 {
        self.header.record_bytes()
    }
}

/// Records on their way to one segment.
#[derive(Default)]
struct Batch {
    /// One after another. Small bodies are put together, large ones are written from where they are.
    pieces: Vec<Bytes>,
    last: Vec<u8>,
    bytes: u64,
    written: Vec<Written>,
}

/// Bytes of a body from which on another write costs less than a copy.
const PIECE_BYTES: usize = 64 << 10;

impl Batch {
    fn push(&mut self, header: &[u8], body: &Bytes) {
        self.bytes += (header.len() + body.len()) as u64;
        self.last.extend_from_slice(header);
        if body.len() < PIECE_BYTES {
            self.last.extend_from_slice(body);
        } else {
            self.pieces.push(std::mem::take(&mut self.last).into());
            self.pieces.push(body.clone());
        }
    }
}

struct Written {
    tag: Tag,
    found: Found,
    old: Option<Loc>,
    slot: u8,
    copied: bool,
}

impl Disk {
    pub(crate) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        lock(&self.log)
    }

    /// Writes records in order. What it returns is what [`Disk::wait`] waits for: these records, or those that are there
    /// in place of them.
    pub(crate) fn append(&self, drafts: &[Draft]) -> Result<u64, Error> {
        let last = {
            let mut log = self.log();
            if log.failed {
                let source = io::Error::other("a flush to the disk failed before; restart when the disk is well");
                return Err(Error::Io { act: "write to", path: self.segments_dir(), source });
            }
            for queue in [Queue::Small, Queue::Main] {
                self.append_to(&mut log, queue, drafts.iter().filter(|draft| draft.queue == queue))?;
            }
            log.next_seq - 1
        };
        self.relieve()?;
        Ok(last)
    }

    fn append_to<'a>(&self, log: &mut Log, queue: Queue, drafts: impl Iterator<Item = &'a Draft>) -> Result<(), Error> {
        let mut batch = Batch::default();
        for draft in drafts {
            let Some(old) = self.wanted(draft)? else { continue };
            let length = draft.record_bytes();
            let fits = log.active[queue as usize].as_ref().is_some_and(|segment| {
                let (bytes, records) = (segment.len() + batch.bytes, segment.records.load(Relaxed));
                bytes == 0
                    || (bytes + length <= self.segment_bytes() && records + (batch.written.len() as u32) < RECORDS_MAX)
            });
            if !fits {
                self.write_out(log, queue, &mut batch)?;
                self.roll(log, queue)?;
            }
            let segment = log.active[queue as usize].as_ref().expect("one was just made");
            let header = Header { seq: log.next_seq, ..draft.header };
            let loc = Loc {
                segment: segment.id,
                offset: (segment.len() + batch.bytes) as u32,
                ordinal: segment.records.load(Relaxed) + batch.written.len() as u32,
                stored_len: header.stored_len,
                size: header.size,
                kind: header.kind,
            };
            log.next_seq += 1;
            batch.push(&header.encode(draft.sum), &draft.body);
            let slot = match (header.kind, draft.slot) {
                (Kind::Tombstone, _) => NO_LEASE,
                (_, slot) => slot.unwrap_or_else(|| self.clock.fresh(now_ms())),
            };
            let copied = matches!(draft.rule, Rule::IfAt(_)) && header.kind != Kind::Tombstone;
            batch.written.push(Written { tag: draft.tag, found: Found { loc, seq: header.seq }, old, slot, copied });
        }
        self.write_out(log, queue, &mut batch)
    }

    /// Whether a record is still to be written, and then what it takes the place of.
    fn wanted(&self, draft: &Draft) -> Result<Option<Option<Loc>>, Error> {
        let now = self.index.find_again(draft.tag, draft.seen).map_err(self.cannot_use_index())?;
        let there = self.place(&self.segments(), now).map(|place| place.loc);
        Ok(match draft.rule {
            Rule::IfAbsent => there.is_none().then_some(None),
            Rule::Always => Some(there),
            Rule::IfAt(loc) => (now.map(|found| found.loc) == Some(loc)).then_some(Some(loc)),
        })
    }

    fn write_out(&self, log: &mut Log, queue: Queue, batch: &mut Batch) -> Result<(), Error> {
        let Some(segment) = log.active[queue as usize].clone().filter(|_| !batch.written.is_empty()) else {
            return Ok(());
        };
        let Batch { mut pieces, last, bytes, written } = std::mem::take(batch);
        pieces.push(last.into());
        let appended = segment.append(&pieces, written.len() as u32).map_err(|err| self.note(err));
        appended.map_err(cannot("write to a segment in", &self.dir))?;
        self.log_bytes.fetch_add(bytes, Relaxed);
        lock(&self.policy).grew(queue, u64::from(segment.id), bytes);
        log.since_checkpoint += bytes;
        log.since_flush += bytes;
        if log.since_flush >= FLUSH_BYTES && self.options.durability == Durability::Group {
            self.flusher.ring();
        }
        for list in [&mut log.dirty, &mut log.unchecked] {
            if !list.iter().any(|one| one.id == segment.id) {
                list.push(segment.clone());
            }
        }
        let segments = self.segments();
        let mut tables = self.index.change();
        for Written { tag, found, old, slot, copied } in written {
            segment.slots.set(found.loc.ordinal, slot);
            segment.tally.add(&found.loc);
            tables.active.insert(tag, found);
            if let Some((old, segment)) = old.and_then(|old| Some((old, segments.get(&old.segment)?))) {
                segment.tally.bury(&old);
                // A copy may be asked for through the old place for a moment, so that one keeps its byte.
                if !copied {
                    segment.slots.release(old.ordinal);
                }
            }
        }
        Ok(())
    }

    /// Begins the next segment of a queue.
    pub(crate) fn roll(&self, log: &mut Log, queue: Queue) -> Result<(), Error> {
        let id = log.next_segment;
        let segment =
            Segment::create(&self.segments_dir(), id, queue).map_err(cannot("make a segment in", &self.dir))?;
        log.next_segment += 1;
        let segment = Arc::new(segment);
        self.seal(log, queue);
        lock(&self.policy).opened(queue, u64::from(id));
        self.change_segments(|segments| drop(segments.insert(id, segment.clone())));
        log.active[queue as usize] = Some(segment);
        Ok(())
    }

    /// Nothing more is written to the last segment of a queue.
    pub(crate) fn seal(&self, log: &mut Log, queue: Queue) {
        if let Some(segment) = log.active[queue as usize].take() {
            segment.sealed.store(true, Relaxed);
            lock(&self.policy).sealed(queue, u64::from(segment.id));
        }
    }

    /// Has the table written to a file when it is full; waits for that only when it is far too full.
    fn relieve(&self) -> Result<(), Error> {
        let places = self.index.read().active.len();
        let bytes = self.log().since_checkpoint;
        if places >= TABLE_PLACES * PATIENCE || bytes >= REPLAY_BYTES * PATIENCE as u64 {
            return self.checkpoint(&[]);
        }
        if places >= TABLE_PLACES || bytes >= REPLAY_BYTES {
            self.keeper.ring();
        }
        Ok(())
    }
}
