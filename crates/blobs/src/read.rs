//! Reading: what is there, one blob, and a blob in parts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::vec;

use bytes::Bytes;

use crate::codec::unpack;
use crate::disk::{Disk, Place, body, touch};
use crate::index::Found;
use crate::lease::now_ms;
use crate::log::{Draft, Rule};
use crate::record::{Header, Kind, array};
use crate::tag::Tag;
use crate::{Error, Function, Key};

/// Bytes of a key in a list of chunks. Its digest function is that of the list.
const LISTED_BYTES: usize = 40;
/// Chunks in a list, so that it is a record of at most 16 MiB: enough for 200 GiB of chunks of the usual size.
pub(crate) const LIST_MAX: usize = (16 << 20) / LISTED_BYTES;
/// Reads from memory for one that is told to the disk's eviction: enough to keep there what is hot here.
const TOLD_PART: u64 = 8;

/// A part of a blob: a record that holds it.
pub(crate) type Part = (Place, Key);

impl Disk {
    /// Positions of the keys that are not there; all others are leased.
    pub(crate) fn missing(&self, keys: &[Key]) -> Result<Vec<usize>, Error> {
        let tags: Vec<Tag> = keys.iter().map(Tag::of).collect();
        let (found, _) = self.index.find_many(&tags).map_err(self.cannot_use_index())?;
        let segments = self.segments();
        let now = now_ms();
        let mut complete: HashMap<Tag, bool> = HashMap::new();
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let there = found[at].filter(|found| is_blob(found, key) && self.is_durable(found));
            let segment = there.and_then(|found| segments.get(&found.loc.segment));
            let there = match there.zip(segment) {
                Some((Found { loc, .. }, segment)) if touch(segment, &loc, self.clock, now) => {
                    loc.kind == Kind::Blob || {
                        let place = Place { loc, segment: segment.clone() };
                        match complete.get(&tags[at]) {
                            Some(complete) => *complete,
                            None => *complete.entry(tags[at]).or_insert(self.is_complete(&place, key)?),
                        }
                    }
                }
                _ => false,
            };
            if !there && !key.is_empty_blob() {
                missing.push(at);
            }
        }
        Ok(missing)
    }

    /// Whether all chunks of a list are there; they are leased too.
    fn is_complete(&self, list: &Place, key: &Key) -> Result<bool, Error> {
        match self.chunk_list(list, key) {
            // A list of lists is never written.
            Ok(chunks) => Ok(self.locate(&chunks)?.is_some_and(|parts| parts.iter().all(|(part, _)| self.touch(part)))),
            Err(Error::Damaged(_)) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Where chunks are; `None` when one of them is not there.
    pub(crate) fn locate(&self, chunks: &[Key]) -> Result<Option<Vec<Part>>, Error> {
        let tags: Vec<Tag> = chunks.iter().map(Tag::of).collect();
        let (found, _) = self.index.find_many(&tags).map_err(self.cannot_use_index())?;
        let segments = self.segments();
        let part = |(found, key): (Option<Found>, &Key)| {
            let found = found.filter(|found| found.loc.kind == Kind::Blob && found.loc.size == key.size);
            Some((self.place(&segments, found)?, *key))
        };
        Ok(found.into_iter().zip(chunks).map(part).collect())
    }

    pub(crate) fn get(&self, key: &Key, bytes_max: usize) -> Result<Bytes, Error> {
        if key.size > bytes_max as u64 {
            let what = format!("blob {key}");
            return Err(Error::TooLarge { what, size: key.size, max: bytes_max as u64, unit: "bytes" });
        }
        if key.is_empty_blob() {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.memory.lookup(key) {
            if self.counts.hits.fetch_add(1, Relaxed).is_multiple_of(TOLD_PART) {
                self.ask(key)?;
            }
            return Ok(bytes);
        }
        let removals = self.counts.removals.load(Relaxed);
        let place = self.ask_counted(key)?;
        if place.loc.kind == Kind::List {
            let mut bytes = Vec::with_capacity(key.size as usize);
            for part in self.parts(place, key, 0, key.size)?.0 {
                bytes.extend_from_slice(&self.load(&part.0, &part.1)?);
            }
            return Ok(bytes.into());
        }
        let bytes = self.load(&place, key)?;
        self.memory.keep(key, &bytes);
        if self.counts.removals.load(Relaxed) != removals {
            self.memory.forget(key);
        }
        Ok(bytes)
    }

    fn ask_counted(&self, key: &Key) -> Result<Place, Error> {
        let place = self.ask(key)?;
        let count = if place.is_some() { &self.counts.hits } else { &self.counts.misses };
        count.fetch_add(1, Relaxed);
        place.ok_or(Error::Missing(*key))
    }

    pub(crate) fn reader(self: &Arc<Disk>, key: &Key, offset: u64, limit: Option<u64>) -> Result<Parts, Error> {
        let place = if key.is_empty_blob() { None } else { Some(self.ask_counted(key)?) };
        if offset > key.size {
            return Err(Error::OutOfRange { key: *key, offset });
        }
        let end = limit.map_or(key.size, |limit| key.size.min(offset.saturating_add(limit)));
        let (parts, skip) = place.map_or(Ok((Vec::new(), 0)), |place| self.parts(place, key, offset, end))?;
        Ok(Parts { disk: self.clone(), key: *key, parts: parts.into_iter(), skip, left: end - offset })
    }

    /// The parts that have the bytes from `offset` to `end`, and how many bytes of the first are before `offset`.
    fn parts(&self, place: Place, key: &Key, offset: u64, end: u64) -> Result<(Vec<Part>, u64), Error> {
        if place.loc.kind != Kind::List {
            return Ok((vec![(place, *key)], offset));
        }
        let mut chunks = self.chunk_list(&place, key)?;
        let (mut at, mut skip) = (0, None);
        chunks.retain(|chunk| {
            let from = at;
            at += chunk.size;
            let wanted = from < end && at > offset;
            skip = skip.or(wanted.then(|| offset.saturating_sub(from)));
            wanted
        });
        let parts = self.locate(&chunks)?.ok_or(Error::Missing(*key))?;
        match parts.iter().all(|(part, _)| self.touch(part)) {
            true => Ok((parts, skip.unwrap_or(0))),
            false => Err(Error::Missing(*key)),
        }
    }

    /// A verified blob that is one record.
    pub(crate) fn load(&self, place: &Place, key: &Key) -> Result<Bytes, Error> {
        let Some((header, record)) = self.read(place)? else { return Err(self.damaged(place, key)) };
        if header.kind != Kind::Blob || header.key() != *key {
            // Another blob whose hash begins the same: it was never this one.
            return Err(Error::Missing(*key));
        }
        content(&header, record).ok_or_else(|| self.damaged(place, key))
    }

    /// The keys in a list, which make the blob together.
    pub(crate) fn chunk_list(&self, place: &Place, key: &Key) -> Result<Vec<Key>, Error> {
        let Some((header, record)) = self.read(place)? else { return Err(self.damaged(place, key)) };
        if header.kind != Kind::List || header.key() != *key {
            return Err(Error::Missing(*key));
        }
        decode_list(key.function, body(&record)).ok_or_else(|| self.damaged(place, key))
    }

    pub(crate) fn chunks(&self, key: &Key) -> Result<Vec<Key>, Error> {
        if key.is_empty_blob() {
            return Ok(vec![*key]);
        }
        let place = self.ask(key)?.ok_or(Error::Missing(*key))?;
        if place.loc.kind != Kind::List {
            return Ok(vec![*key]);
        }
        let chunks = self.chunk_list(&place, key)?;
        let there = self.locate(&chunks)?.is_some_and(|parts| parts.iter().all(|(part, _)| self.touch(part)));
        if there { Ok(chunks) } else { Err(Error::Missing(*key)) }
    }

    /// Takes a damaged record out of the store.
    pub(crate) fn damaged(&self, place: &Place, key: &Key) -> Error {
        self.counts.damaged.fetch_add(1, Relaxed);
        self.counts.removals.fetch_add(1, Relaxed);
        self.memory.forget(key);
        place.segment.slots.kill(place.loc.ordinal);
        // If it cannot be logged it is found damaged again after the next start.
        let _ = self.bury(Tag::of(key), place);
        Error::Damaged(*key)
    }

    /// Logs that a record is gone.
    pub(crate) fn bury(&self, tag: Tag, place: &Place) -> Result<u64, Error> {
        let header = Header {
            kind: Kind::Tombstone,
            packed: false,
            function: Function::Sha256,
            stored_len: 16,
            hash: [0; 32],
            size: 0,
            seq: 0,
        };
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        let body = Bytes::copy_from_slice(&tag.bytes());
        self.append(&[Draft::new(tag, header, body, Rule::IfAt(place.loc), seen)])
    }

    pub(crate) fn remove(&self, key: &Key) -> Result<(), Error> {
        let Some(place) = self.find(Tag::of(key))?.filter(|place| place.loc.size == key.size) else { return Ok(()) };
        let seq = self.bury(Tag::of(key), &place)?;
        self.counts.removals.fetch_add(1, Relaxed);
        self.memory.forget(key);
        self.wait(seq)
    }

    /// The whole key of a hash.
    pub(crate) fn find_hash(&self, function: Function, hash: &[u8; 32]) -> Result<Option<Key>, Error> {
        let Some(place) = self.find(Tag::of_hash(function, hash))? else { return Ok(None) };
        let key = Key { function, hash: *hash, size: place.loc.size };
        let Some((header, _)) = self.read(&place)? else {
            self.damaged(&place, &key);
            return Ok(None);
        };
        Ok((header.key() == key).then_some(key))
    }
}

fn is_blob(found: &Found, key: &Key) -> bool {
    matches!(found.loc.kind, Kind::Blob | Kind::List) && found.loc.size == key.size
}

/// What a checked record of a blob holds; `None` when its frame is broken, which no flipped bit does alone.
pub(crate) fn content(header: &Header, record: Vec<u8>) -> Option<Bytes> {
    if header.packed {
        return unpack(body(&record), header.size as usize).ok().map(Bytes::from);
    }
    let record = Bytes::from(record);
    Some(record.slice(record.len() - header.stored_len as usize..))
}

pub(crate) fn encode_list(chunks: &[Key]) -> Bytes {
    let listed = |chunk: &Key| [&chunk.hash[..], &chunk.size.to_le_bytes()].concat();
    chunks.iter().flat_map(listed).collect::<Vec<u8>>().into()
}

pub(crate) fn decode_list(function: Function, body: &[u8]) -> Option<Vec<Key>> {
    let (listed, rest) = body.as_chunks::<LISTED_BYTES>();
    let key = |one: &[u8; LISTED_BYTES]| Key {
        function,
        hash: array(&one[..32]),
        size: u64::from_le_bytes(array(&one[32..])),
    };
    rest.is_empty().then(|| listed.iter().map(key).collect())
}

/// The verified parts of a blob, at most 2 MiB each.
#[derive(Debug)]
pub(crate) struct Parts {
    disk: Arc<Disk>,
    key: Key,
    parts: vec::IntoIter<Part>,
    /// Bytes of the next part that are before the offset.
    skip: u64,
    left: u64,
}

impl Iterator for Parts {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.left == 0 {
            return None;
        }
        let (place, key) = self.parts.next()?;
        let bytes = match self.disk.load(&place, &key) {
            Ok(bytes) => bytes,
            Err(err) => {
                self.left = 0;
                return Some(Err(if let Error::Damaged(_) = err { Error::Damaged(self.key) } else { err }));
            }
        };
        let from = std::mem::take(&mut self.skip) as usize;
        let end = bytes.len().min(from + usize::try_from(self.left).unwrap_or(usize::MAX - from));
        self.left -= (end - from) as u64;
        Some(Ok(bytes.slice(from..end)))
    }
}
