//! Opening a store: what the manifest says, and after that what the log says.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use rustix::fs::{FlockOperation, flock};

use crate::checkpoint::Checkpoint;
use crate::commit::Commit;
use crate::disk::{Bell, Counts, Disk, Segments, body, cannot};
use crate::index::run::Run;
use crate::index::{Found, Index, Loc};
use crate::lease::{Clock, NO_LEASE, now_ms};
use crate::log::{Log, TABLE_PLACES};
use crate::manifest::Manifest;
use crate::memory::Memory;
use crate::policy::Policy;
use crate::record::{Header, Kind};
use crate::segment::{Scan, Segment, Step};
use crate::tag::Tag;
use crate::{Error, Options};

/// The files of a store, before the log was read.
struct Files {
    manifest: Manifest,
    segments: Segments,
    runs: Vec<Arc<Run>>,
    /// The index is lost: all of the log is read. Entries are not believed then, as nothing says which of them were
    /// removed since.
    rebuild: bool,
    /// There is nothing at all yet.
    new: bool,
}

impl Disk {
    pub(crate) fn open(dir: &Path, options: Options) -> Result<Disk, Error> {
        for dir in [dir, &dir.join("segments"), &dir.join("index")] {
            fs::create_dir_all(dir).map_err(cannot("make the folder", dir))?;
        }
        let lock = take_lock(dir)?;
        let files = Files::find(dir).map_err(cannot("open the store in", dir))?;
        if files.new {
            // From now on a store without a manifest has lost it.
            files.manifest.write(dir).map_err(cannot("begin the store in", dir))?;
        }
        let disk = assemble(dir, options, lock, &files);
        disk.load_leases();
        disk.replay(files.rebuild)?;
        disk.choose_active();
        // What a crash left was acknowledged, so it is there from the first question on; and that is only said of what the
        // disk has.
        let last = disk.log().next_seq - 1;
        disk.wait(last)?;
        if files.rebuild {
            disk.checkpoint(&[])?;
        }
        Ok(disk)
    }

    /// Reads what was logged after the last checkpoint, in the order in which it was written.
    fn replay(&self, rebuild: bool) -> Result<(), Error> {
        let segments = self.segments();
        let failed = cannot("read a segment in", &self.dir);
        let mut sources = Vec::new();
        for segment in segments.values() {
            let end = segment.file_len().map_err(&failed)?;
            if end > segment.len() {
                sources.push(Source::new(segment, end).map_err(&failed)?);
            }
        }
        let first = |(at, source): (usize, &Source<'_>)| Some(Reverse((source.next.as_ref()?.0.seq, at)));
        let mut order: BinaryHeap<_> = sources.iter().enumerate().filter_map(first).collect();
        while let Some(Reverse((_, at))) = order.pop() {
            let Some((header, tag, loc)) = sources[at].next.take() else { continue };
            self.replay_one(&header, tag, loc, rebuild)?;
            sources[at].advance().map_err(&failed)?;
            order.extend(first((at, &sources[at])));
            if self.index.read().active.len() > 4 * TABLE_PLACES {
                self.checkpoint(&[])?;
            }
        }
        for source in &sources {
            let (segment, end) = (source.segment, source.segment.len());
            // What follows was never acknowledged, or is damaged: nothing may be appended behind it.
            if source.end > end {
                segment.cut(end).map_err(cannot("cut off the torn end of a segment in", &self.dir))?;
            }
            let mut log = self.log();
            log.dirty.push((*segment).clone());
            log.unchecked.push((*segment).clone());
        }
        Ok(())
    }

    fn replay_one(&self, header: &Header, tag: Tag, loc: Loc, rebuild: bool) -> Result<(), Error> {
        let segments = self.segments();
        let Some(segment) = segments.get(&loc.segment) else { return Ok(()) };
        let bytes = header.record_bytes();
        segment.len.fetch_add(bytes, Relaxed);
        segment.records.fetch_add(1, Relaxed);
        let byte = if loc.kind == Kind::Tombstone { NO_LEASE } else { self.clock.fresh(now_ms()) };
        segment.slots.set(loc.ordinal, byte);
        self.log_bytes.fetch_add(bytes, Relaxed);
        crate::disk::lock(&self.policy).grew(segment.queue, u64::from(segment.id), bytes);
        {
            let mut log = self.log();
            log.since_checkpoint += bytes;
            log.next_seq = log.next_seq.max(header.seq + 1);
        }
        if rebuild && loc.kind == Kind::Entry {
            segment.tally.dead.fetch_add(bytes, Relaxed);
            return Ok(());
        }
        let old = self.find(tag)?;
        segment.tally.add(&loc);
        if let Some(old) = old {
            old.segment.tally.bury(&old.loc);
            old.segment.slots.release(old.loc.ordinal);
        }
        self.index.change().active.insert(tag, Found { loc, seq: header.seq });
        Ok(())
    }

    /// The newest segment of each queue is written on.
    fn choose_active(&self) {
        let mut log = self.log();
        let mut open: Vec<_> = self.segments().values().cloned().collect();
        open.sort_unstable_by_key(|segment| segment.id);
        for segment in open {
            if !segment.sealed.load(Relaxed) {
                self.seal(&mut log, segment.queue);
                let queue = segment.queue as usize;
                log.active[queue] = Some(segment);
            }
        }
    }
}

fn take_lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(cannot("make", &path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: dir.to_owned() }),
        Err(err) => Err(cannot("lock", &path)(err.into())),
    }
}

fn assemble(dir: &Path, options: Options, lock: File, files: &Files) -> Disk {
    let Files { manifest, segments, runs, .. } = files;
    let index = Index::default();
    index.change().runs = runs.clone().into();
    let mut policy = Policy::new(options.bytes_max);
    let mut ordered: Vec<_> = segments.values().collect();
    ordered.sort_unstable_by_key(|segment| segment.id);
    for segment in &ordered {
        let id = u64::from(segment.id);
        policy.opened(segment.queue, id);
        policy.grew(segment.queue, id, segment.len());
        if segment.sealed.load(Relaxed) {
            policy.sealed(segment.queue, id);
        }
    }
    let counts = Counts {
        hits: manifest.hits.into(),
        misses: manifest.misses.into(),
        evicted: manifest.evicted.into(),
        damaged: manifest.damaged.into(),
        ..Counts::default()
    };
    let next_segment = ordered.last().map_or(0, |segment| segment.id + 1).max(manifest.next_segment);
    Disk {
        dir: dir.to_owned(),
        _lock: lock,
        index,
        log: Mutex::new(Log {
            next_seq: manifest.next_seq.max(1),
            next_segment,
            active: [None, None],
            dirty: Vec::new(),
            unchecked: Vec::new(),
            since_flush: 0,
            since_checkpoint: 0,
            failed: false,
        }),
        commit: Commit::new(manifest.next_seq.saturating_sub(1)),
        checkpoint: Mutex::new(Checkpoint { manifest: manifest.clone(), retired: Vec::new() }),
        log_bytes: segments.values().map(|segment| segment.len()).sum::<u64>().into(),
        index_bytes: runs.iter().map(|run| run.bytes).sum::<u64>().into(),
        reserve_bytes: 0.into(),
        segments: RwLock::new(Arc::new(segments.clone())),
        policy: Mutex::new(policy),
        memory: Memory::new(options.memory_bytes),
        clock: Clock::new(options.lease),
        counts,
        below: OnceLock::new(),
        evicting: Mutex::new(()),
        keeper: Bell::default(),
        compactor: Bell::default(),
        flusher: Bell::default(),
        options,
    }
}

impl Files {
    fn find(dir: &Path) -> io::Result<Files> {
        let (segments_dir, index_dir) = (dir.join("segments"), dir.join("index"));
        let names = |dir: &Path| -> io::Result<Vec<String>> {
            fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let on_disk: Vec<_> = names(&segments_dir)?.iter().filter_map(|name| Segment::parse_name(name)).collect();
        let read = Manifest::read(dir)?;
        let runs = read.as_ref().map_or(Ok(Vec::new()), |manifest| {
            manifest.runs.iter().map(|id| Run::open(&index_dir, *id).map(Arc::new)).collect::<io::Result<Vec<_>>>()
        });
        let usable = read.zip(runs.ok());
        let rebuild = usable.is_none() && !on_disk.is_empty();
        let new = usable.is_none() && on_disk.is_empty();
        let (manifest, runs) = usable.unwrap_or_default();
        let mut segments = Segments::default();
        for state in &manifest.segments {
            match state.open(&segments_dir) {
                Ok(segment) => drop(segments.insert(state.id, Arc::new(segment))),
                // It takes its records and its share of the counts along.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
        for (id, queue) in on_disk {
            if id >= manifest.next_segment {
                segments.insert(id, Arc::new(Segment::open(&segments_dir, id, queue)?));
            } else if !segments.contains_key(&id) {
                fs::remove_file(Segment::path(&segments_dir, id, queue))?;
            }
        }
        let kept: HashSet<String> = runs.iter().map(|run| format!("{}.run", run.id)).collect();
        for name in names(&index_dir)?.iter().filter(|name| !kept.contains(*name)) {
            fs::remove_file(index_dir.join(name))?;
        }
        Ok(Files { manifest, segments, runs, rebuild, new })
    }
}

/// The records of one segment that are to be read again.
struct Source<'a> {
    segment: &'a Arc<Segment>,
    scan: Scan<'a>,
    end: u64,
    ordinal: u32,
    next: Option<(Header, Tag, Loc)>,
}

impl<'a> Source<'a> {
    fn new(segment: &'a Arc<Segment>, end: u64) -> io::Result<Source<'a>> {
        let scan = segment.scan(segment.len(), end);
        let mut source = Source { segment, scan, end, ordinal: segment.records.load(Relaxed), next: None };
        source.advance()?;
        Ok(source)
    }

    /// `next` is none at the end, and where the first record is not right.
    fn advance(&mut self) -> io::Result<()> {
        let Some(Step::Record { offset, header, bytes }) = self.scan.next()? else { return Ok(()) };
        let Some(tag) = Tag::of_record(&header, body(bytes)) else { return Ok(()) };
        let loc = Loc {
            segment: self.segment.id,
            offset: offset as u32,
            ordinal: self.ordinal,
            stored_len: header.stored_len,
            size: header.size,
            kind: header.kind,
        };
        self.ordinal += 1;
        self.next = Some((header, tag, loc));
        Ok(())
    }
}
