//! A sorted file of the index, written once.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::Loc;
use super::bloom::Bloom;
use crate::record::{Kind, array};
use crate::tag::Tag;

/// Bytes of one place.
const PLACE_BYTES: usize = 40;
/// Places that are read at once for one tag; the first of each block is known in memory.
const BLOCK_PLACES: usize = 32;
const BLOCK_BYTES: usize = BLOCK_PLACES * PLACE_BYTES;
/// Blocks between two that are wanted which are cheaper read than skipped.
const GAP_BLOCKS: usize = 6;
/// Blocks that are read at once for many tags.
const SPAN_BLOCKS: usize = 200;
const FOOTER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"pacerun1";

/// One file.
#[derive(Debug)]
pub(crate) struct Run {
    pub id: u64,
    pub count: u64,
    /// Bytes of the file.
    pub bytes: u64,
    file: File,
    path: PathBuf,
    /// The first half of the first tag of each block.
    fences: Vec<u64>,
    bloom: Bloom,
}

impl Run {
    /// The file of a run.
    pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
        dir.join(format!("{id}.run"))
    }

    pub(crate) fn open(dir: &Path, id: u64) -> io::Result<Run> {
        let path = Run::path(dir, id);
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "its end is damaged");
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(damaged)?)?;
        let number = |at: usize| u64::from_le_bytes(array(&footer[at..at + 8]));
        let (count, bloom_bytes, check) = (number(8), number(16), number(24));
        let blocks = (count as usize).div_ceil(BLOCK_PLACES);
        let summary = count.checked_mul(PLACE_BYTES as u64).ok_or_else(damaged)?;
        let summary_bytes = (bytes - FOOTER_BYTES as u64).checked_sub(summary).ok_or_else(damaged)?;
        if &footer[..8] != MAGIC || summary_bytes != bloom_bytes.saturating_add(blocks as u64 * 8) {
            return Err(damaged());
        }
        let read = read_at(&file, summary, summary_bytes as usize)?;
        if xxhash_rust::xxh3::xxh3_64(&read) != check {
            return Err(damaged());
        }
        let (fences, bloom) = read.split_at(blocks * 8);
        let fences = fences.as_chunks::<8>().0.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        let bloom = Bloom::from_bytes(bloom).ok_or_else(damaged)?;
        Ok(Run { id, count, bytes, file, path, fences, bloom })
    }

    /// Removes the file. Those who read it go on.
    pub(crate) fn unlink(&self) {
        // What stays is removed by the next start.
        let _ = fs::remove_file(&self.path);
    }

    pub(crate) fn find(&self, tag: Tag) -> io::Result<Option<Loc>> {
        if !self.bloom.may_have(tag) {
            return Ok(None);
        }
        let mut block = self.first_block(tag, 0);
        let mut bytes = [0; BLOCK_BYTES];
        while block < self.fences.len() && self.fences[block] <= tag.high {
            let bytes = &mut bytes[..self.block_bytes(block..block + 1)];
            self.file.read_exact_at(bytes, (block * BLOCK_BYTES) as u64)?;
            if let Some(loc) = find_in(bytes, tag) {
                return Ok(Some(loc));
            }
            block += 1;
        }
        Ok(None)
    }

    /// Tells `found` of each of `wanted` that is here. They are sorted.
    pub(crate) fn find_sorted(&self, wanted: &[(Tag, u32)], mut found: impl FnMut(u32, Loc)) -> io::Result<()> {
        let mut at = 0;
        let mut block = 0;
        let mut near: Vec<(Tag, u32)> = Vec::new();
        let mut bytes = Vec::new();
        while at < wanted.len() {
            near.clear();
            let mut span = 0..0;
            while let Some((tag, place)) = wanted.get(at) {
                if self.bloom.may_have(*tag) {
                    block = self.first_block(*tag, block);
                    let end =
                        block + 1 + self.fences[block + 1..].iter().take_while(|fence| **fence <= tag.high).count();
                    let end = end.min(self.fences.len());
                    if !near.is_empty() && (block > span.end + GAP_BLOCKS || end > span.start + SPAN_BLOCKS) {
                        break;
                    }
                    span = if near.is_empty() { block..end } else { span.start..end.max(span.end) };
                    near.push((*tag, *place));
                }
                at += 1;
            }
            if !near.is_empty() {
                let length = self.block_bytes(span.clone());
                bytes.resize(length.max(bytes.len()), 0);
                self.file.read_exact_at(&mut bytes[..length], (span.start * BLOCK_BYTES) as u64)?;
                merge(&bytes[..length], &near, &mut found);
            }
        }
        Ok(())
    }

    /// All places in order.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { run: self, next: 0, bytes: Vec::new(), at: 0 }
    }

    /// The first block that may have the tag, which is not before `from`.
    fn first_block(&self, tag: Tag, from: usize) -> usize {
        // Two tags with the same first half may be on both sides of a fence.
        let rest = &self.fences[from..];
        let near = 16.min(rest.len());
        let ahead = match rest[..near].iter().position(|fence| *fence >= tag.high) {
            Some(ahead) => ahead,
            None => near + rest[near..].partition_point(|fence| *fence < tag.high),
        };
        (from + ahead).saturating_sub(1).max(from)
    }

    fn block_bytes(&self, blocks: std::ops::Range<usize>) -> usize {
        let end = (blocks.end * BLOCK_PLACES).min(self.count as usize);
        (end - blocks.start * BLOCK_PLACES) * PLACE_BYTES
    }
}

/// Reads a run from its beginning to its end.
pub(crate) struct Cursor<'a> {
    run: &'a Run,
    next: usize,
    bytes: Vec<u8>,
    at: usize,
}

impl Iterator for Cursor<'_> {
    type Item = io::Result<(Tag, Loc)>;

    fn next(&mut self) -> Option<io::Result<(Tag, Loc)>> {
        if self.at == self.bytes.len() {
            let span = self.next..(self.next + SPAN_BLOCKS).min(self.run.fences.len());
            if span.is_empty() {
                return None;
            }
            self.bytes.resize(self.run.block_bytes(span.clone()), 0);
            if let Err(err) = self.run.file.read_exact_at(&mut self.bytes, (span.start * BLOCK_BYTES) as u64) {
                self.next = usize::MAX - SPAN_BLOCKS;
                self.at = self.bytes.len();
                return Some(Err(err));
            }
            (self.next, self.at) = (span.end, 0);
        }
        let place = &self.bytes[self.at..self.at + PLACE_BYTES];
        self.at += PLACE_BYTES;
        Some(Ok((tag_of(place), loc_of(place))))
    }
}

/// Writes a run. Its places come in order.
pub(crate) struct Builder {
    id: u64,
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
    fences: Vec<u64>,
    bloom: Bloom,
}

impl Builder {
    /// Of at most `capacity` places.
    pub(crate) fn create(dir: &Path, id: u64, capacity: u64) -> io::Result<Builder> {
        let path = Run::path(dir, id);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let fences = Vec::with_capacity((capacity as usize).div_ceil(BLOCK_PLACES));
        let bloom = Bloom::with_capacity(capacity);
        Ok(Builder { id, path, file: BufWriter::with_capacity(256 << 10, file), count: 0, fences, bloom })
    }

    pub(crate) fn push(&mut self, tag: Tag, loc: &Loc) -> io::Result<()> {
        if self.count.is_multiple_of(BLOCK_PLACES as u64) {
            self.fences.push(tag.high);
        }
        self.bloom.add(tag);
        self.count += 1;
        self.file.write_all(&encode(tag, loc))
    }

    /// Flushes it to the disk.
    pub(crate) fn finish(mut self) -> io::Result<Run> {
        let mut sum = Xxh3::new();
        let fences = self.fences.iter().map(|fence| fence.to_le_bytes());
        for word in fences.chain(self.bloom.bytes()) {
            sum.update(&word);
            self.file.write_all(&word)?;
        }
        let mut footer = [0; FOOTER_BYTES];
        footer[..8].copy_from_slice(MAGIC);
        footer[8..16].copy_from_slice(&self.count.to_le_bytes());
        footer[16..24].copy_from_slice(&(self.bloom.len() as u64).to_le_bytes());
        footer[24..32].copy_from_slice(&sum.digest().to_le_bytes());
        self.file.write_all(&footer)?;
        let file = self.file.into_inner().map_err(|err| err.into_error())?;
        file.sync_data()?;
        let bytes = file.metadata()?.len();
        let (fences, bloom) = (self.fences, self.bloom);
        Ok(Run { id: self.id, count: self.count, bytes, file, path: self.path, fences, bloom })
    }
}

fn encode(tag: Tag, loc: &Loc) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    bytes[..16].copy_from_slice(&tag.bytes());
    bytes[16..22].copy_from_slice(&loc.size.to_le_bytes()[..6]);
    bytes[22] = loc.kind as u8;
    bytes[24..28].copy_from_slice(&loc.segment.to_le_bytes());
    bytes[28..32].copy_from_slice(&loc.offset.to_le_bytes());
    bytes[32..36].copy_from_slice(&loc.stored_len.to_le_bytes());
    bytes[36..40].copy_from_slice(&loc.ordinal.to_le_bytes());
    bytes
}

fn tag_of(place: &[u8]) -> Tag {
    Tag::from_bytes(array(&place[..16]))
}

fn loc_of(place: &[u8]) -> Loc {
    let number = |at: usize| u32::from_le_bytes(array(&place[at..at + 4]));
    let mut size = [0; 8];
    size[..6].copy_from_slice(&place[16..22]);
    Loc {
        size: u64::from_le_bytes(size),
        // A flipped bit in the index makes the record vanish; its bytes are checked wherever it points.
        kind: Kind::from_byte(place[22]).unwrap_or(Kind::Tombstone),
        segment: number(24),
        offset: number(28),
        stored_len: number(32),
        ordinal: number(36),
    }
}

fn find_in(block: &[u8], tag: Tag) -> Option<Loc> {
    let wanted = tag.bytes();
    block.chunks_exact(PLACE_BYTES).find(|place| place[..16] == wanted).map(loc_of)
}

/// Walks through sorted places and sorted tags together.
fn merge(places: &[u8], wanted: &[(Tag, u32)], found: &mut impl FnMut(u32, Loc)) {
    let places = places.as_chunks::<PLACE_BYTES>().0;
    let mut from = 0;
    for (tag, at) in wanted {
        let bytes = tag.bytes();
        let before = |place: &[u8; PLACE_BYTES]| place[..16] < bytes[..];
        // Doubling steps: the next one is near when tags are many, far when they are few.
        let mut step = 1;
        while from + step < places.len() && before(&places[from + step]) {
            from += step;
            step *= 2;
        }
        let end = places.len().min(from + step + 1);
        from += places[from..end].partition_point(before);
        if places.get(from).is_some_and(|place| place[..16] == bytes) {
            found(*at, loc_of(&places[from]));
        }
    }
}

/// Bytes that were not zeroed first in vain.
fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;

    fn tag(n: u32) -> Tag {
        Tag::of(&Function::Sha256.key_of(&n.to_le_bytes()))
    }

    fn loc(n: u32) -> Loc {
        Loc { segment: n, offset: n * 2, ordinal: n * 3, stored_len: 5, size: u64::from(n) << 20, kind: Kind::Blob }
    }

    fn run(dir: &Path, numbers: std::ops::Range<u32>) -> Run {
        let mut places: Vec<_> = numbers.map(|n| (tag(n), loc(n))).collect();
        places.sort_unstable_by_key(|(tag, _)| *tag);
        let mut builder = Builder::create(dir, 1, places.len() as u64).unwrap();
        places.iter().for_each(|(tag, loc)| builder.push(*tag, loc).unwrap());
        builder.finish().unwrap();
        Run::open(dir, 1).unwrap()
    }

    #[test]
    fn every_tag_is_found_alone_and_among_others() {
        let dir = tempfile::tempdir().unwrap();
        for count in [1, 31, 32, 33, 64, 5000] {
            let run = run(dir.path(), 0..count);
            for n in 0..count + 20 {
                assert_eq!(run.find(tag(n)).unwrap(), (n < count).then(|| loc(n)), "{n} of {count}");
            }
            for step in [1, 7, 500] {
                let mut wanted: Vec<_> = (0..count + 100).step_by(step).map(|n| (tag(n), n)).collect();
                wanted.sort_unstable();
                let mut found = Vec::new();
                run.find_sorted(&wanted, |at, there| found.push((at, there))).unwrap();
                found.sort_unstable_by_key(|(at, _)| *at);
                let all: Vec<_> = (0..count).step_by(step).map(|n| (n, loc(n))).collect();
                assert_eq!(found, all);
            }
            assert_eq!(run.cursor().count(), count as usize);
        }
    }

    #[test]
    fn tags_that_share_their_first_half_are_told_apart_across_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = Builder::create(dir.path(), 1, 200).unwrap();
        let same = |low: u64| Tag { high: 7, low };
        (0..100).for_each(|low| builder.push(same(low), &loc(low as u32)).unwrap());
        let run = builder.finish().unwrap();
        for low in 0..100 {
            assert_eq!(run.find(same(low)).unwrap(), Some(loc(low as u32)));
        }
        let wanted: Vec<_> = (0..100).map(|low| (same(low), low as u32)).collect();
        let mut found = 0;
        run.find_sorted(&wanted, |at, there| found += u32::from(there == loc(at))).unwrap();
        assert_eq!(found, 100);
    }

    #[test]
    fn a_run_whose_end_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(run(dir.path(), 0..100));
        let path = Run::path(dir.path(), 1);
        let bytes = fs::read(&path).unwrap();
        for at in 100 * PLACE_BYTES..bytes.len() - 8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(Run::open(dir.path(), 1).is_err(), "byte {at}");
        }
        fs::write(&path, &bytes[..20]).unwrap();
        assert!(Run::open(dir.path(), 1).is_err());
    }
}
