//! A segment: an append-only file of records.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::index::Loc;
use crate::lease::{Slots, now_ms};
use crate::policy::Queue;
use crate::record::{HEADER_BYTES, Header, Kind, checked};

/// What of a segment counts. Kept with each segment and not in all, so that a lost segment takes its share along.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub blobs: AtomicU64,
    pub blob_bytes: AtomicU64,
    pub entries: AtomicU64,
    /// Bytes of records that newer ones took the place of.
    pub dead: AtomicU64,
}

impl Tally {
    pub(crate) fn add(&self, loc: &Loc) {
        match loc.kind {
            Kind::Blob | Kind::List => {
                self.blobs.fetch_add(1, Relaxed);
                self.blob_bytes.fetch_add(loc.size, Relaxed);
            }
            Kind::Entry => drop(self.entries.fetch_add(1, Relaxed)),
            // It counts in the index; in the segment it is only there for a crash.
            Kind::Tombstone => drop(self.dead.fetch_add(loc.record_bytes(), Relaxed)),
        }
    }

    /// A record that was added has no meaning any more.
    pub(crate) fn bury(&self, loc: &Loc) {
        match loc.kind {
            Kind::Blob | Kind::List => {
                self.blobs.fetch_sub(1, Relaxed);
                self.blob_bytes.fetch_sub(loc.size, Relaxed);
            }
            Kind::Entry => drop(self.entries.fetch_sub(1, Relaxed)),
            Kind::Tombstone => return,
        }
        self.dead.fetch_add(loc.record_bytes(), Relaxed);
    }
}

/// One file. Readers hold it, and read on when it is unlinked.
#[derive(Debug)]
pub(crate) struct Segment {
    pub id: u32,
    pub queue: Queue,
    /// Bytes of whole records.
    pub len: AtomicU64,
    pub records: AtomicU32,
    /// Nothing is appended any more.
    pub sealed: AtomicBool,
    /// When something was last written to it: milliseconds since 1970.
    pub written_ms: AtomicU64,
    /// When somebody last wrote or asked for one of its records.
    pub touched_ms: AtomicU64,
    pub tally: Tally,
    pub slots: Slots,
    file: File,
    path: PathBuf,
}

impl Segment {
    pub(crate) fn path(dir: &Path, id: u32, queue: Queue) -> PathBuf {
        dir.join(match queue {
            Queue::Small => format!("{id}-small.seg"),
            Queue::Main => format!("{id}-main.seg"),
        })
    }

    /// What a file is by its name.
    pub(crate) fn parse_name(name: &str) -> Option<(u32, Queue)> {
        let (id, queue) = name.strip_suffix(".seg")?.split_once('-')?;
        let queue = [("small", Queue::Small), ("main", Queue::Main)].into_iter().find(|(word, _)| *word == queue)?.1;
        Some((id.parse().ok()?, queue))
    }

    pub(crate) fn create(dir: &Path, id: u32, queue: Queue) -> io::Result<Segment> {
        let file = File::options().read(true).write(true).create_new(true).open(Segment::path(dir, id, queue))?;
        // Its name has to be on the disk before anything in it is said to be.
        File::open(dir)?.sync_all()?;
        Ok(Segment::new(dir, id, queue, file))
    }

    pub(crate) fn open(dir: &Path, id: u32, queue: Queue) -> io::Result<Segment> {
        let file = File::options().read(true).write(true).open(Segment::path(dir, id, queue))?;
        Ok(Segment::new(dir, id, queue, file))
    }

    fn new(dir: &Path, id: u32, queue: Queue, file: File) -> Segment {
        let now = now_ms();
        Segment {
            id,
            queue,
            len: AtomicU64::new(0),
            records: AtomicU32::new(0),
            sealed: AtomicBool::new(false),
            written_ms: AtomicU64::new(now),
            touched_ms: AtomicU64::new(now),
            tally: Tally::default(),
            slots: Slots::new(),
            file,
            path: Segment::path(dir, id, queue),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Relaxed)
    }

    /// Bytes of the file.
    pub(crate) fn file_len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Writes records after the last one, given in pieces. When that fails nothing has changed.
    pub(crate) fn append(&self, pieces: &[Bytes], records: u32) -> io::Result<()> {
        let begin = self.len();
        let mut at = begin;
        for piece in pieces {
            if let Err(err) = self.file.write_all_at(piece, at) {
                // What is left of the try would be dropped by the next start as well; here it is in the way of others.
                let _ = self.file.set_len(begin);
                return Err(err);
            }
            at += piece.len() as u64;
        }
        self.len.store(at, Relaxed);
        self.records.fetch_add(records, Relaxed);
        let now = now_ms();
        self.written_ms.store(now, Relaxed);
        self.touched_ms.store(now, Relaxed);
        Ok(())
    }

    /// Cuts off what is after its records.
    pub(crate) fn cut(&self, len: u64) -> io::Result<()> {
        self.len.store(len, Relaxed);
        self.file.set_len(len)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(crate) fn unlink(&self) {
        // What stays is removed by the next start.
        let _ = fs::remove_file(&self.path);
    }

    /// The whole record, or as much of it as there is.
    pub(crate) fn read(&self, offset: u32, stored_len: u32) -> io::Result<Vec<u8>> {
        self.read_at(u64::from(offset), HEADER_BYTES + stored_len as usize)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// All records from `offset` to `end`.
    pub(crate) fn scan(&self, offset: u64, end: u64) -> Scan<'_> {
        Scan { segment: self, at: offset, end, window: Vec::new(), window_at: 0 }
    }
}

/// What a scan comes by.
pub(crate) enum Step<'a> {
    /// A record whose checksum is right. The slice is all of it.
    Record { offset: u64, header: Header, bytes: &'a [u8] },
    /// Here is no record that is right. When its header is to be believed, that is where the next one begins.
    Damaged { offset: u64 },
}

/// Reads the records of a segment in order, in large steps.
pub(crate) struct Scan<'a> {
    segment: &'a Segment,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;

impl Scan<'_> {
    pub(crate) fn next(&mut self) -> io::Result<Option<Step<'_>>> {
        let offset = self.at;
        if offset >= self.end {
            return Ok(None);
        }
        let header = Header::parse(self.show(offset, HEADER_BYTES)?);
        let Some(header) = header.filter(|header| header.record_bytes() <= self.end - offset) else {
            self.at = self.end;
            return Ok(Some(Step::Damaged { offset }));
        };
        self.at += header.record_bytes();
        let bytes = self.show(offset, header.record_bytes() as usize)?;
        Ok(Some(match checked(bytes) {
            Some(header) => Step::Record { offset, header, bytes },
            None => Step::Damaged { offset },
        }))
    }

    /// After damage: goes to the next place after `offset` where a whole record seems to be, if there is one. What it
    /// finds may be a record inside of a blob, so only what the index knows is to be believed.
    pub(crate) fn resume(&mut self, offset: u64) -> io::Result<()> {
        self.at = offset + 1;
        while self.at < self.end {
            let wanted = (self.end - self.at).min(WINDOW as u64) as usize;
            let at = self.at;
            let window = self.show(at, wanted)?.to_vec();
            for skip in 0..window.len().saturating_sub(HEADER_BYTES - 1) {
                let here = at + skip as u64;
                let header = Header::parse(&window[skip..]);
                let Some(header) = header.filter(|header| header.record_bytes() <= self.end - here) else { continue };
                if checked(self.show(here, header.record_bytes() as usize)?).is_some() {
                    self.at = here;
                    return Ok(());
                }
            }
            self.at += (window.len() - (HEADER_BYTES - 1).min(window.len() - 1)) as u64;
        }
        Ok(())
    }

    /// Bytes of the file; fewer at its end.
    fn show(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let inside = offset >= self.window_at && offset + length as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let wanted = length.max(WINDOW.min((self.end - offset) as usize));
            self.window = self.segment.read_at(offset, wanted)?;
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        Ok(&self.window[from..(from + length).min(self.window.len())])
    }
}
