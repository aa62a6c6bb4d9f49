//! Writing the index down, so that the next start reads little of the log; and putting its files together.

use std::fs::File;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::Error;
use crate::disk::{Disk, cannot, lock};
use crate::index::run::{Builder, Run};
use crate::index::{Table, compact};
use crate::log::Log;
use crate::manifest::{Manifest, SegmentState};
use crate::segment::Segment;

/// Room for one run and the manifest.
const RESERVE_BYTES_MAX: u64 = 4 << 20;

/// What the last checkpoint wrote.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    pub manifest: Manifest,
    /// Files that are nothing any more as soon as the next manifest is there.
    pub retired: Vec<Arc<Segment>>,
}

impl Checkpoint {
    /// Removes the files of retired segments of which the last manifest knows every record. Whether there were any.
    fn let_go(&mut self) -> bool {
        let known = |segment: &Arc<Segment>| {
            self.manifest.segments.iter().any(|state| state.id == segment.id && state.len == segment.len())
        };
        let (gone, kept): (Vec<_>, Vec<_>) = mem::take(&mut self.retired).into_iter().partition(known);
        self.retired = kept;
        gone.iter().for_each(|segment| segment.unlink());
        !gone.is_empty()
    }
}

/// What stood still for a moment to be written.
struct Frozen {
    manifest: Manifest,
    table: Arc<Table>,
    unchecked: Vec<Arc<Segment>>,
    bytes: u64,
}

impl Disk {
    /// Writes the table in memory to a file and a manifest with it. Takes the segments `retire` out of the store at the
    /// same moment: with their records, all that points to them means nothing.
    pub(crate) fn checkpoint(&self, retire: &[u32]) -> Result<(), Error> {
        let mut state = lock(&self.checkpoint);
        let id = state.manifest.next_run;
        let frozen = self.freeze(&mut state, retire);
        let mut manifest = frozen.manifest.clone();
        let written = frozen.unchecked.iter().try_for_each(|segment| segment.sync()).and_then(|()| {
            self.write_down(&frozen, &mut manifest, id).or_else(|err| {
                // On a full disk the way out is to let go first: of the reserve, and of what the last manifest has all of,
                // as a start does not mind that a segment is missing.
                let err = self.note(err);
                let full = err.kind() == io::ErrorKind::StorageFull && (state.let_go() | self.give_reserve());
                if full { self.write_down(&frozen, &mut manifest, id) } else { Err(err) }
            })
        });
        let run = match written {
            Ok(run) => run,
            Err(err) => {
                self.thaw(frozen);
                return Err(cannot("write the index in", &self.dir)(err));
            }
        };
        let mut tables = self.index.change();
        tables.frozen = None;
        tables.generation += 1;
        tables.runs = run.into_iter().map(Arc::new).chain(tables.runs.iter().cloned()).collect();
        let bytes = tables.runs.iter().map(|run| run.bytes).sum();
        drop(tables);
        self.index_bytes.store(bytes, Relaxed);
        state.manifest = manifest;
        mem::take(&mut state.retired).iter().for_each(|segment| segment.unlink());
        self.compactor.ring();
        Ok(())
    }

    fn freeze(&self, state: &mut Checkpoint, retire: &[u32]) -> Frozen {
        let mut log = self.log();
        for id in retire {
            self.retire(state, *id);
        }
        let table = {
            let mut tables = self.index.change();
            let table = Arc::new(mem::take(&mut tables.active));
            tables.frozen = Some(table.clone());
            table
        };
        let manifest = self.manifest_now(&log, &state.manifest);
        let bytes = mem::take(&mut log.since_checkpoint);
        Frozen { manifest, table, unchecked: mem::take(&mut log.unchecked), bytes }
    }

    fn retire(&self, state: &mut Checkpoint, id: u32) {
        let Some(segment) = self.segments().get(&id).cloned() else { return };
        self.change_segments(|segments| drop(segments.remove(&id)));
        lock(&self.policy).removed(segment.queue, u64::from(id));
        self.log_bytes.fetch_sub(segment.len(), Relaxed);
        state.retired.push(segment);
    }

    /// It did not work; everything is as it was, and the next one does it.
    fn thaw(&self, frozen: Frozen) {
        let mut log = self.log();
        let mut tables = self.index.change();
        for (tag, found) in frozen.table.iter() {
            tables.active.entry(*tag).or_insert(*found);
        }
        tables.frozen = None;
        drop(tables);
        log.since_checkpoint += frozen.bytes;
        log.unchecked.extend(frozen.unchecked);
    }

    fn manifest_now(&self, log: &Log, last: &Manifest) -> Manifest {
        let mut segments: Vec<_> = self.segments().values().map(|segment| SegmentState::of(segment)).collect();
        segments.sort_unstable_by_key(|segment| segment.id);
        Manifest {
            next_seq: log.next_seq,
            next_segment: log.next_segment,
            next_run: last.next_run,
            hits: self.counts.hits.load(Relaxed),
            misses: self.counts.misses.load(Relaxed),
            evicted: self.counts.evicted.load(Relaxed),
            damaged: self.counts.damaged.load(Relaxed),
            segments,
            runs: last.runs.clone(),
        }
    }

    /// First the run, then the manifest: it says that the run and all of the log that was frozen are on the disk.
    fn write_down(&self, frozen: &Frozen, manifest: &mut Manifest, id: u64) -> io::Result<Option<Run>> {
        let dir = self.index_dir();
        let run = match frozen.table.is_empty() {
            true => None,
            false => Some(write_table(&frozen.table, &dir, id)?),
        };
        if run.is_some() {
            manifest.runs.retain(|run| *run != id);
            manifest.runs.insert(0, id);
            manifest.next_run = id + 1;
            sync_dir(&dir)?;
        }
        manifest.write(&self.dir)?;
        Ok(run)
    }

    /// Makes one of several files of the index, if there are that many. `false` when there is nothing to do.
    pub(crate) fn compact(&self) -> Result<bool, Error> {
        let runs = self.index.read().runs.clone();
        let counts: Vec<u64> = runs.iter().map(|run| run.count).collect();
        let taken = compact::due(&counts);
        if taken == 0 {
            return Ok(false);
        }
        // Numbers are taken under the lock, so a checkpoint meanwhile has another.
        let id = {
            let mut state = lock(&self.checkpoint);
            state.manifest.next_run += 1;
            state.manifest.next_run - 1
        };
        let failed = cannot("write the index in", &self.dir);
        let segments = self.segments();
        let alive = |loc: &crate::index::Loc| segments.contains_key(&loc.segment);
        let oldest = taken == runs.len();
        let merged = compact::merge(&runs[..taken], &self.index_dir(), id, oldest, alive).map_err(&failed)?;
        sync_dir(&self.index_dir()).map_err(&failed)?;
        self.replace(&runs[..taken], merged).map_err(&failed)?;
        Ok(true)
    }

    fn replace(&self, old: &[Arc<Run>], merged: Run) -> io::Result<()> {
        let mut state = lock(&self.checkpoint);
        let replaced = |id: u64| old.iter().any(|run| run.id == id);
        let mut manifest = state.manifest.clone();
        let at = manifest.runs.iter().position(|id| replaced(*id)).unwrap_or(0);
        manifest.runs.retain(|id| !replaced(*id));
        manifest.runs.insert(at, merged.id);
        manifest.write(&self.dir)?;
        state.manifest = manifest;
        let mut tables = self.index.change();
        let mut runs: Vec<_> = tables.runs.iter().filter(|run| !replaced(run.id)).cloned().collect();
        runs.insert(at, Arc::new(merged));
        self.index_bytes.store(runs.iter().map(|run| run.bytes).sum(), Relaxed);
        tables.runs = runs.into();
        drop(tables);
        old.iter().for_each(|run| run.unlink());
        Ok(())
    }
}

fn write_table(table: &Table, dir: &Path, id: u64) -> io::Result<Run> {
    let mut places: Vec<_> = table.iter().map(|(tag, found)| (*tag, found.loc)).collect();
    places.sort_unstable_by_key(|(tag, _)| *tag);
    let mut builder = Builder::create(dir, id, places.len() as u64)?;
    for (tag, loc) in &places {
        builder.push(*tag, loc)?;
    }
    builder.finish()
}

impl Disk {
    fn reserve_path(&self) -> std::path::PathBuf {
        self.dir.join("reserve")
    }

    /// Sets room aside for a checkpoint on a full disk: without one, nothing can be let go. A file system that cannot
    /// does without.
    pub(crate) fn take_reserve(&self) {
        let bytes = (self.options.bytes_max / 256).min(RESERVE_BYTES_MAX);
        let taken = File::create(self.reserve_path())
            .and_then(|file| Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?));
        match taken {
            Ok(()) => self.reserve_bytes.store(bytes, Relaxed),
            Err(_) => drop(self.give_reserve()),
        }
    }

    pub(crate) fn has_reserve(&self) -> bool {
        self.reserve_bytes.load(Relaxed) > 0
    }

    /// Whether there was any.
    fn give_reserve(&self) -> bool {
        self.reserve_bytes.store(0, Relaxed);
        std::fs::remove_file(self.reserve_path()).is_ok()
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
