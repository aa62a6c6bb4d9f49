//! The manifest: which files are the store, and from where on the log has to be read again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use xxhash_rust::xxh3::xxh3_64;

use crate::policy::Queue;
use crate::segment::Segment;

const MAGIC: &[u8; 8] = b"paceblb1";

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub next_seq: u64,
    /// Segments from this one on are newer than the manifest.
    pub next_segment: u32,
    pub next_run: u64,
    pub hits: u64,
    pub misses: u64,
    pub evicted: u64,
    pub damaged: u64,
    pub segments: Vec<SegmentState>,
    /// Newest first.
    pub runs: Vec<u64>,
}

/// A segment as it was when the index was last written. What came after is read from the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub id: u32,
    pub main: bool,
    pub sealed: bool,
    pub len: u64,
    pub records: u32,
    pub written_ms: u64,
    pub touched_ms: u64,
    pub blobs: u64,
    pub blob_bytes: u64,
    pub entries: u64,
    pub dead: u64,
}

impl SegmentState {
    pub(crate) fn of(segment: &Segment) -> SegmentState {
        SegmentState {
            id: segment.id,
            main: segment.queue == Queue::Main,
            sealed: segment.sealed.load(Relaxed),
            len: segment.len(),
            records: segment.records.load(Relaxed),
            written_ms: segment.written_ms.load(Relaxed),
            touched_ms: segment.touched_ms.load(Relaxed),
            blobs: segment.tally.blobs.load(Relaxed),
            blob_bytes: segment.tally.blob_bytes.load(Relaxed),
            entries: segment.tally.entries.load(Relaxed),
            dead: segment.tally.dead.load(Relaxed),
        }
    }

    pub(crate) fn open(&self, dir: &Path) -> io::Result<Segment> {
        let queue = if self.main { Queue::Main } else { Queue::Small };
        let segment = Segment::open(dir, self.id, queue)?;
        segment.sealed.store(self.sealed, Relaxed);
        segment.len.store(self.len, Relaxed);
        segment.records.store(self.records, Relaxed);
        segment.written_ms.store(self.written_ms, Relaxed);
        segment.touched_ms.store(self.touched_ms, Relaxed);
        segment.tally.blobs.store(self.blobs, Relaxed);
        segment.tally.blob_bytes.store(self.blob_bytes, Relaxed);
        segment.tally.entries.store(self.entries, Relaxed);
        segment.tally.dead.store(self.dead, Relaxed);
        Ok(segment)
    }
}

impl Manifest {
    /// `None` when there is none, or one that is damaged.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Manifest>> {
        match fs::read(dir.join("manifest")) {
            Ok(bytes) => Ok(Manifest::decode(&bytes)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Takes the place of the one before at once or not at all.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("manifest.new");
        let mut file = File::create(&new)?;
        file.write_all(&self.encode())?;
        file.sync_data()?;
        fs::rename(&new, dir.join("manifest"))?;
        File::open(dir)?.sync_all()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut put = |number: u64| bytes.extend(number.to_le_bytes());
        let counts = [self.hits, self.misses, self.evicted, self.damaged];
        [self.next_seq, u64::from(self.next_segment), self.next_run].into_iter().chain(counts).for_each(&mut put);
        put(self.segments.len() as u64);
        for segment in &self.segments {
            let flags = u64::from(segment.main) | u64::from(segment.sealed) << 1;
            let SegmentState { len, written_ms, touched_ms, blobs, blob_bytes, entries, dead, .. } = *segment;
            let ids = [u64::from(segment.id), flags, u64::from(segment.records)];
            ids.into_iter().chain([len, written_ms, touched_ms, blobs, blob_bytes, entries, dead]).for_each(&mut put);
        }
        put(self.runs.len() as u64);
        self.runs.iter().for_each(|run| put(*run));
        let sum = xxh3_64(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        let numbers = body.strip_prefix(MAGIC).filter(|_| xxh3_64(body).to_le_bytes() == sum)?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next();
        let mut manifest = Manifest {
            next_seq: next()?,
            next_segment: next()? as u32,
            next_run: next()?,
            hits: next()?,
            misses: next()?,
            evicted: next()?,
            damaged: next()?,
            ..Manifest::default()
        };
        for _ in 0..next()? {
            let (id, flags, records) = (next()? as u32, next()?, next()? as u32);
            manifest.segments.push(SegmentState {
                id,
                main: flags & 1 != 0,
                sealed: flags & 2 != 0,
                records,
                len: next()?,
                written_ms: next()?,
                touched_ms: next()?,
                blobs: next()?,
                blob_bytes: next()?,
                entries: next()?,
                dead: next()?,
            });
        }
        for _ in 0..next()? {
            manifest.runs.push(next()?);
        }
        Some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_a_damaged_one_does_not() {
        let segment = SegmentState {
            id: 3,
            main: true,
            sealed: false,
            len: 4,
            records: 5,
            written_ms: 6,
            touched_ms: 7,
            blobs: 8,
            blob_bytes: 9,
            entries: 10,
            dead: 11,
        };
        let manifest = Manifest { next_seq: 1, segments: vec![segment; 3], runs: vec![5, 4], ..Manifest::default() };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest.clone()));
        let bytes = manifest.encode();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Manifest::decode(&bytes), None, "byte {at}");
            assert_eq!(Manifest::decode(&bytes[..at]), None, "{at} bytes");
        }
    }
}
