//! Bringing back what is only below.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Below, Piece};
use crate::disk::{Disk, body, lock};
use crate::log::Rule;
use crate::read::{content, decode_list};
use crate::record::{Header, Kind, checked};
use crate::tag::Tag;
use crate::{Entry, EntryId, Key};

/// How long somebody waits who asks for something below; large blobs get a second more for each of these bytes.
const PATIENCE: Duration = Duration::from_secs(10);
const BYTES_A_SECOND: u64 = 16 << 20;
/// Pieces that are asked for together, and their bytes.
const PIECES: usize = 256;
const PIECES_BYTES: u64 = 32 << 20;
/// How long nothing is asked of a tier that failed, the first time and at most.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Keeps those who ask from waiting for a tier that is gone, one after the other.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
    fn note(&mut self, well: bool, now: Instant) {
        if well {
            *self = Breaker::default();
            return;
        }
        self.until = Some(now + (REST * 2u32.saturating_pow(self.failures.min(10))).min(REST_MAX));
        self.failures += 1;
    }
}

/// One record, as it was written.
enum Record {
    Blob(Key, Bytes),
    List(Key, Vec<Key>),
    Entry(EntryId, Entry),
}

impl Below {
    /// Brings a blob back that is missing or damaged here. Whether it is here now.
    pub(crate) fn recall(&self, disk: &Arc<Disk>, key: &Key) -> bool {
        let tag = Tag::of(key);
        if self.find(tag).is_none() && !is_list(disk, tag) {
            return false;
        }
        let deadline = deadline(key.size);
        let _turn = self.turn(tag, deadline);
        self.counted(self.bring(disk, &[*key], deadline), 1)
    }

    /// Brings a blob back of which only the hash is known.
    pub(crate) fn recall_hash(&self, disk: &Arc<Disk>, key_of: impl Fn(u64) -> Key) -> Option<Key> {
        let (_, loc) = self.find(Tag::of(&key_of(0)))?;
        let key = key_of(loc.size);
        self.recall(disk, &key).then_some(key)
    }

    /// Brings an entry back, or the blobs that an entry here lacks. All of it or nothing.
    pub(crate) fn recall_entry(&self, disk: &Arc<Disk>, id: &EntryId) -> Option<Entry> {
        let tag = Tag::of_entry(id);
        let local = |disk: &Disk| {
            let place = disk.find(tag).ok()??;
            disk.load_entry(&place, tag).ok()?.filter(|(found, _)| found == id)
        };
        if local(disk).is_none() && self.find(tag).is_none() {
            return None;
        }
        let mut until = deadline(0);
        let _turn = self.turn(tag, until);
        let (entry, is_here) = match local(disk) {
            Some((_, entry)) => (entry, true),
            None => (self.fetch_entry(tag, id, until)?, false),
        };
        let bytes = entry.needs.iter().fold(0u64, |sum, need| sum.saturating_add(need.size));
        until = deadline(bytes.min(64 * BYTES_A_SECOND));
        let brought = self.bring(disk, &entry.needs, until);
        self.counted(brought, 1).then_some(())?;
        if !is_here {
            disk.write_entry(id, &entry, Rule::IfAbsent).ok()?;
            // Somebody may have purged meanwhile, before it was here to be seen.
            if self.find(tag).is_none() {
                let _ = disk.remove_entry(id);
            }
        }
        disk.entry(id).ok().flatten()
    }

    fn fetch_entry(&self, tag: Tag, id: &EntryId, deadline: Instant) -> Option<Entry> {
        let (piece, _) = self.find(tag)?;
        match self.get(&[(tag, piece)], deadline)?.pop()? {
            Record::Entry(found, entry) if found == *id => Some(entry),
            _ => None,
        }
    }

    /// Brings those of `keys` back that are missing. Whether all are here now.
    fn bring(&self, disk: &Arc<Disk>, keys: &[Key], deadline: Instant) -> bool {
        let Some(lists) = self.bring_records(disk, keys, deadline) else { return false };
        // Lists are of whole blobs only, so this goes no deeper.
        let splice = |(key, chunks): &(Key, Vec<Key>)| {
            let lists = self.bring_records(disk, chunks, deadline);
            lists.is_some_and(|lists| lists.is_empty()) && disk.splice(key, chunks).is_ok()
        };
        lists.iter().all(splice)
    }

    /// Brings the records of missing keys back. Of those that are lists, the chunks are not here for that.
    fn bring_records(&self, disk: &Arc<Disk>, keys: &[Key], deadline: Instant) -> Option<Vec<(Key, Vec<Key>)>> {
        let mut lists = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for at in disk.missing(keys).ok()? {
            let tag = Tag::of(&keys[at]);
            let Some((piece, _)) = self.find(tag) else {
                lists.push((keys[at], local_list(disk, &keys[at])?));
                continue;
            };
            bytes += piece.length;
            batch.push((tag, piece));
            if batch.len() == PIECES || bytes >= PIECES_BYTES {
                self.put(disk, &std::mem::take(&mut batch), &mut lists, deadline)?;
                bytes = 0;
            }
        }
        self.put(disk, &batch, &mut lists, deadline)?;
        Some(lists)
    }

    fn put(
        &self,
        disk: &Arc<Disk>,
        batch: &[(Tag, Piece)],
        lists: &mut Vec<(Key, Vec<Key>)>,
        deadline: Instant,
    ) -> Option<()> {
        let mut blobs = Vec::with_capacity(batch.len());
        for record in self.get(batch, deadline)? {
            match record {
                Record::Blob(key, bytes) => blobs.push((key, bytes)),
                Record::List(key, chunks) => lists.push((key, chunks)),
                Record::Entry(..) => return None,
            }
        }
        // This verifies them, as if a client had sent them.
        disk.put_many(&blobs).into_iter().all(|put| put.is_ok()).then_some(())
    }

    /// The records of all the pieces, or none.
    fn get(&self, wanted: &[(Tag, Piece)], deadline: Instant) -> Option<Vec<Record>> {
        let now = Instant::now();
        if wanted.is_empty() {
            return Some(Vec::new());
        }
        if now >= deadline || lock(&self.breaker).is_open(now) {
            return None;
        }
        let pieces: Vec<Piece> = wanted.iter().map(|(_, piece)| piece.clone()).collect();
        let got = (self.fetch)(&pieces, deadline);
        let failed = |got: &io::Result<Bytes>| got.as_ref().is_err_and(|err| err.kind() != io::ErrorKind::NotFound);
        lock(&self.breaker).note(!got.iter().any(failed), Instant::now());
        let record = |((tag, _), got): (&(Tag, Piece), io::Result<Bytes>)| record(*tag, &got.ok()?);
        wanted.iter().zip(got).map(record).collect()
    }

    fn counted(&self, well: bool, count: u64) -> bool {
        let counter = if well { &self.counts.recalled } else { &self.counts.unreachable };
        counter.fetch_add(count, Relaxed);
        well
    }

    /// Waits for others who bring the same back; a turn that does not come by the deadline comes all the same.
    fn turn(&self, tag: Tag, deadline: Instant) -> Turn<'_> {
        let recalls = lock(&self.recalls);
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.recalled.wait_timeout_while(recalls, patience, |recalls| recalls.contains(&tag));
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0.insert(tag);
        Turn { below: self, tag }
    }
}

/// Somebody brings something back; dropping it says that it is done.
struct Turn<'a> {
    below: &'a Below,
    tag: Tag,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.below.recalls).remove(&self.tag);
        self.below.recalled.notify_all();
    }
}

fn deadline(bytes: u64) -> Instant {
    Instant::now() + PATIENCE + Duration::from_secs(bytes / BYTES_A_SECOND)
}

fn is_list(disk: &Disk, tag: Tag) -> bool {
    disk.find(tag).ok().flatten().is_some_and(|place| place.loc.kind == Kind::List)
}

/// The chunks of a blob whose list is here.
fn local_list(disk: &Disk, key: &Key) -> Option<Vec<Key>> {
    let place = disk.find(Tag::of(key)).ok()??;
    (place.loc.kind == Kind::List).then(|| disk.chunk_list(&place, key).ok())?
}

/// What came from below, if it is what was asked for and no bit of it has changed.
fn record(tag: Tag, bytes: &Bytes) -> Option<Record> {
    let header: Header = checked(bytes)?;
    if Tag::of_record(&header, body(bytes)) != Some(tag) {
        return None;
    }
    let key = header.key();
    match header.kind {
        Kind::Blob => content(&header, bytes.to_vec()).map(|bytes| Record::Blob(key, bytes)),
        Kind::List => decode_list(header.function, body(bytes)).map(|chunks| Record::List(key, chunks)),
        Kind::Entry => {
            let body = bytes.slice(bytes.len() - header.stored_len as usize..);
            Entry::decode(header.hash, &body).map(|(id, entry)| Record::Entry(id, entry))
        }
        Kind::Tombstone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_that_fails_is_left_alone_for_a_while_and_longer_each_time() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.is_open(start));
        let mut rests = Vec::new();
        for _ in 0..8 {
            breaker.note(false, start);
            rests.push((1..).find(|seconds| !breaker.is_open(start + Duration::from_secs(*seconds))).unwrap());
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30]);
        breaker.note(true, start);
        assert!(!breaker.is_open(start));
    }
}
