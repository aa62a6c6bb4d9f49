//! The tier below: copies of whole sealed segments somewhere else, and a local index that says exactly what is there.
//!
//! The store does not know where. It says which segments have no copy yet, and gets pieces of copies through one
//! function. Whether a blob is there is always answered from the local disk alone; what is only below is brought back
//! when somebody asks for it, verified, and then is here again. A blob that cannot be brought back in time is missing,
//! an entry whose blobs cannot is not there: nobody waits for a tier that is gone.

mod manifest;
mod recall;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use bytes::Bytes;

use self::manifest::{Manifest, Object};
use self::recall::Breaker;
use crate::checkpoint::sync_dir;
use crate::disk::{Disk, Segments, body, cannot, lock};
use crate::index::run::{Builder, Run};
use crate::index::{Loc, compact};
use crate::record::{HEADER_BYTES, Kind};
use crate::segment::{Segment, Step};
use crate::tag::Tag;
use crate::{Blobs, Error};

/// Records of a segment that are looked up at once when its copy begins.
const LOOKUP: usize = 4096;

/// The copy of a segment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Copy {
    /// The store that made it: 32 hexadecimal digits.
    pub store: String,
    /// Counted by that store.
    pub number: u32,
}

/// A piece of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Of which.
    pub copy: Copy,
    /// From which byte on.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Gets pieces, each of its length, or says why not: [`io::ErrorKind::NotFound`] when that copy is not there, anything
/// else when the tier does not answer as it should. It must return by the time given.
pub type Fetch = Box<dyn Fn(&[Piece], Instant) -> Vec<io::Result<Bytes>> + Send + Sync>;

/// What happened between a store and the tier below it since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Segments that have no copy yet.
    pub waiting: u64,
    /// Bytes of these.
    pub waiting_bytes: u64,
    /// Copies that are known, also those of earlier runs and of other stores.
    pub copies: u64,
    /// Bytes of the copies.
    pub copied_bytes: u64,
    /// Blobs and entries that were brought back.
    pub recalled: u64,
    /// Blobs and entries that are below, and could not be brought back.
    pub unreachable: u64,
    /// Segments that were emptied here before they were copied, and with them something that is not below: the copies
    /// are too slow for what is written.
    pub overtaken: u64,
}

/// A store's side of the tier below it.
#[derive(Clone, Debug)]
pub struct Tier {
    blobs: Blobs,
    below: Arc<Below>,
}

impl Tier {
    /// Attaches a tier to a store, once. What was known of it is read from the store's folder.
    ///
    /// # Errors
    /// The file system refuses, or there is a tier already.
    pub fn attach(blobs: &Blobs, fetch: Fetch) -> Result<Tier, Error> {
        let below = Arc::new(Below::open(&blobs.disk().dir.join("below"), fetch)?);
        if blobs.disk().below.set(below.clone()).is_err() {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::Io { act: "attach a second tier to", path: blobs.disk().dir.clone(), source });
        }
        Ok(Tier { blobs: blobs.clone(), below })
    }

    /// What this store calls itself in the names of its copies.
    pub fn store(&self) -> String {
        lock(&self.below.state).manifest.store.clone()
    }

    /// Begins the copy of the oldest sealed segment that has none. `None` when all have one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn next_copy(&self) -> Result<Option<Outgoing>, Error> {
        for segment in self.waiting() {
            match self.below.begin(self.blobs.disk(), &segment) {
                Ok(Some(outgoing)) => return Ok(Some(outgoing)),
                // All that counts in it is below already.
                Ok(None) => self.below.change(|state| state.manifest.copied.extend([segment.id]))?,
                // It was emptied in this moment.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(cannot("copy a segment to the tier below", &self.below.dir)(err)),
            }
        }
        Ok(None)
    }

    /// The copy and then its index are where they belong, for good.
    ///
    /// # Errors
    /// The file system refuses; the segment will be copied again.
    pub fn copied(&self, mut outgoing: Outgoing) -> Result<(), Error> {
        self.below.change(|state| {
            let copy = outgoing.copy.clone();
            state.manifest.copied.insert(outgoing.segment);
            state.lost.remove(&outgoing.segment);
            state.manifest.objects.insert(copy.number, Object { copy, bytes: outgoing.bytes });
            outgoing.run.take().into_iter().for_each(|run| state.add(run));
        })?;
        drop(outgoing);
        self.below.compact()
    }

    /// Learns what a copy has that another store made, or this one before it lost its disk. `index` is what
    /// [`Outgoing::index`] was then. Known copies are left as they are.
    ///
    /// # Errors
    /// The index is damaged, or the file system refuses.
    pub fn adopt(&self, copy: Copy, bytes: u64, index: &[u8]) -> Result<(), Error> {
        if lock(&self.below.state).manifest.objects.values().any(|object| object.copy == copy) {
            return Ok(());
        }
        let (number, run) =
            self.below.rewrite(index).map_err(cannot("adopt the index of a copy in", &self.below.dir))?;
        self.below.change(|state| {
            state.manifest.objects.insert(number, Object { copy, bytes });
            state.add(run);
        })?;
        self.below.compact()
    }

    /// A copy is gone for good.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget(&self, copy: &Copy) -> Result<(), Error> {
        self.below.forget(copy)
    }

    /// All copies that are known, of this store and of others.
    pub fn copies(&self) -> Vec<Copy> {
        lock(&self.below.state).manifest.objects.values().map(|object| object.copy.clone()).collect()
    }

    /// What happened so far.
    pub fn stats(&self) -> TierStats {
        let waiting = self.waiting();
        let counts = &self.below.counts;
        let state = lock(&self.below.state);
        TierStats {
            waiting: waiting.len() as u64,
            waiting_bytes: waiting.iter().map(|segment| segment.len()).sum(),
            copies: state.manifest.objects.len() as u64,
            copied_bytes: state.manifest.objects.values().map(|object| object.bytes).sum(),
            recalled: counts.recalled.load(Relaxed),
            unreachable: counts.unreachable.load(Relaxed),
            overtaken: counts.overtaken.load(Relaxed),
        }
    }

    /// Sealed segments without a copy, the oldest first. Counts those that are gone without one.
    fn waiting(&self) -> Vec<Arc<Segment>> {
        let mut state = lock(&self.below.state);
        // Not before the lock: a segment that is copied meanwhile would seem to be gone.
        let segments = self.blobs.disk().segments();
        self.below.counts.overtaken.fetch_add(state.overtaken(&segments), Relaxed);
        state.manifest.copied.retain(|id| segments.contains_key(id));
        let copied = &state.manifest.copied;
        let due = |segment: &&Arc<Segment>| segment.sealed.load(Relaxed) && !copied.contains(&segment.id);
        let mut waiting: Vec<_> = segments.values().filter(due).cloned().collect();
        waiting.sort_unstable_by_key(|segment| segment.id);
        waiting
    }
}

/// A segment on its way. Dropping it leaves the segment waiting.
#[derive(Debug)]
pub struct Outgoing {
    below: Arc<Below>,
    copy: Copy,
    segment: u32,
    bytes: u64,
    file: File,
    run: Option<Run>,
    run_path: PathBuf,
}

impl Outgoing {
    /// The name of the copy.
    pub fn copy(&self) -> &Copy {
        &self.copy
    }
    /// Bytes of the copy.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// A piece of it. Works on when the segment is emptied meanwhile.
    ///
    /// # Errors
    /// The file system refuses, or the piece is not all within the copy.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
    /// Its index, to be kept beside it: some 42 bytes for each record.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn index(&self) -> io::Result<Bytes> {
        fs::read(&self.run_path).map(Bytes::from)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let outgoing = &mut lock(&self.below.state).outgoing;
        let at = outgoing.iter().position(|segment| *segment == self.segment);
        at.map(|at| outgoing.swap_remove(at));
    }
}

/// What a store knows of the tier below it.
pub(crate) struct Below {
    dir: PathBuf,
    fetch: Fetch,
    state: Mutex<State>,
    counts: Counts,
    breaker: Mutex<Breaker>,
    /// What is being brought back just now: the second who asks waits for the first.
    recalls: Mutex<HashSet<Tag>>,
    recalled: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    recalled: AtomicU64,
    unreachable: AtomicU64,
    overtaken: AtomicU64,
}

#[derive(Debug)]
struct State {
    manifest: Manifest,
    /// Newest first.
    runs: Arc<[Arc<Run>]>,
    /// Segments without a copy of which something goes, or went, that is not below.
    lost: BTreeSet<u32>,
    /// Segments of which a copy is under way.
    outgoing: Vec<u32>,
}

impl State {
    fn add(&mut self, run: Run) {
        self.manifest.runs.insert(0, run.id);
        self.runs = std::iter::once(Arc::new(run)).chain(self.runs.iter().cloned()).collect();
    }

    /// How many more segments are gone of which something is lost. One whose copy is under way may still be saved.
    fn overtaken(&mut self, segments: &Segments) -> u64 {
        let before = self.lost.len();
        let outgoing = &self.outgoing;
        self.lost.retain(|id| segments.contains_key(id) || outgoing.contains(id));
        (before - self.lost.len()) as u64
    }
}

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Below({})", self.dir.display())
    }
}

impl Below {
    fn open(dir: &Path, fetch: Fetch) -> Result<Below, Error> {
        let failed = cannot("open the index of the tier below in", dir);
        fs::create_dir_all(dir).map_err(&failed)?;
        let mut manifest = match Manifest::read(dir).map_err(&failed)? {
            Some(manifest) => manifest,
            None => Manifest::new().map_err(&failed)?,
        };
        // A damaged run costs what it says: its records are not found below any more.
        let runs: Vec<_> = manifest.runs.iter().filter_map(|id| Run::open(dir, *id).ok()).map(Arc::new).collect();
        manifest.runs = runs.iter().map(|run| run.id).collect();
        remove_others(dir, &manifest).map_err(&failed)?;
        let state = State { manifest, runs: runs.into(), lost: BTreeSet::new(), outgoing: Vec::new() };
        let below = Below {
            dir: dir.to_owned(),
            fetch,
            state: Mutex::new(state),
            counts: Counts::default(),
            breaker: Mutex::default(),
            recalls: Mutex::default(),
            recalled: Condvar::new(),
        };
        below.change(|_| {})?;
        Ok(below)
    }

    /// Changes what is known and writes it down.
    fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        let mut state = lock(&self.state);
        change(&mut state);
        state.manifest.write(&self.dir).map_err(cannot("write the index of the tier below in", &self.dir))
    }

    fn next_run(&self) -> u64 {
        let mut state = lock(&self.state);
        state.manifest.next_run += 1;
        state.manifest.next_run
    }

    fn next_object(&self) -> (u32, String) {
        let mut state = lock(&self.state);
        state.manifest.next_object += 1;
        (state.manifest.next_object, state.manifest.store.clone())
    }

    /// Looks through a segment for what counts, and writes the index of its copy. `None` when nothing does.
    fn begin(self: &Arc<Below>, disk: &Disk, segment: &Segment) -> io::Result<Option<Outgoing>> {
        let bytes = segment.len();
        // Opened by name once more: a copy takes long, and must not be the reason why a segment is not closed.
        let file = File::open(Segment::path(&disk.segments_dir(), segment.id, segment.queue))?;
        // The number comes first: what is purged while this looks is of an earlier number than the purge says.
        let (number, store) = self.next_object();
        lock(&self.state).outgoing.push(segment.id);
        let (copy, run_path) = (Copy { store, number }, PathBuf::new());
        let below = self.clone();
        let mut outgoing = Outgoing { below, copy, segment: segment.id, bytes, file, run: None, run_path };
        let mut places = places(disk, segment, number, bytes)?;
        // A blob is the same in every copy: what came back from below is not sent there again.
        places.retain(|(tag, loc)| loc.kind == Kind::Entry || self.find(*tag).is_none());
        if places.is_empty() {
            return Ok(None);
        }
        let run = self.write_run(&mut places)?;
        outgoing.run_path = Run::path(&self.dir, run.id);
        outgoing.run = Some(run);
        Ok(Some(outgoing))
    }

    /// The index of a foreign copy as one of this store, under a number of its own.
    fn rewrite(&self, index: &[u8]) -> io::Result<(u32, Run)> {
        let (number, _) = self.next_object();
        let foreign = self.next_run();
        fs::write(Run::path(&self.dir, foreign), index)?;
        let there = Run::open(&self.dir, foreign)?;
        let own = |place: io::Result<(Tag, Loc)>| place.map(|(tag, loc)| (tag, Loc { segment: number, ..loc }));
        let places: io::Result<Vec<_>> = there.cursor().map(own).collect();
        there.unlink();
        Ok((number, self.write_run(&mut places?)?))
    }

    fn write_run(&self, places: &mut [(Tag, Loc)]) -> io::Result<Run> {
        // The last of a name in a segment is the newest.
        places.sort_unstable_by_key(|(tag, loc)| (*tag, loc.offset));
        let mut builder = Builder::create(&self.dir, self.next_run(), places.len() as u64)?;
        for (at, (tag, loc)) in places.iter().enumerate() {
            if places.get(at + 1).is_none_or(|(next, _)| next != tag) {
                builder.push(*tag, loc)?;
            }
        }
        let run = builder.finish()?;
        sync_dir(&self.dir)?;
        Ok(run)
    }

    /// Makes one of several runs when there are that many.
    fn compact(&self) -> Result<(), Error> {
        let (runs, alive) = {
            let state = lock(&self.state);
            (state.runs.clone(), state.manifest.objects.keys().copied().collect::<BTreeSet<u32>>())
        };
        let counts: Vec<u64> = runs.iter().map(|run| run.count).collect();
        let taken = compact::due(&counts);
        if taken == 0 {
            return Ok(());
        }
        let (old, id) = (&runs[..taken], self.next_run());
        let merged = compact::merge(old, &self.dir, id, taken == runs.len(), |loc| alive.contains(&loc.segment));
        let merged = merged.map_err(cannot("merge the index of the tier below in", &self.dir))?;
        self.change(|state| {
            // Only the one thread that copies adds runs and merges them, so the newest are those taken.
            let rest = state.runs.iter().filter(|run| !old.iter().any(|old| old.id == run.id)).cloned();
            state.runs = std::iter::once(Arc::new(merged)).chain(rest).collect();
            state.manifest.runs = state.runs.iter().map(|run| run.id).collect();
        })?;
        old.iter().for_each(|run| run.unlink());
        Ok(())
    }

    /// What was only in that copy waits again, if it is still here.
    fn forget(&self, copy: &Copy) -> Result<(), Error> {
        self.change(|state| {
            state.manifest.objects.retain(|_, object| object.copy != *copy);
            state.manifest.copied.clear();
        })
    }

    pub(crate) fn has_copy_of(&self, segment: u32) -> bool {
        lock(&self.state).manifest.copied.contains(&segment)
    }

    /// A segment that is to go has something that is not below.
    pub(crate) fn loses(&self, segment: u32) {
        let mut state = lock(&self.state);
        if !state.manifest.copied.contains(&segment) {
            state.lost.insert(segment);
        }
    }

    pub(crate) fn has(&self, tag: Tag) -> bool {
        self.find(tag).is_some()
    }

    /// Entries that are only below are not believed any more: a purge could not read who wrote them.
    pub(crate) fn distrust_entries(&self) -> Result<(), Error> {
        self.change(|state| state.manifest.entries_after = state.manifest.next_object)
    }

    /// What has this tag is not to come back.
    pub(crate) fn remove(&self, tag: Tag) -> Result<(), Error> {
        // A copy under way may have it too, and says so only when it is done.
        let under_way = !lock(&self.state).outgoing.is_empty();
        if under_way || self.find(tag).is_some() { self.change(|state| state.manifest.remove(tag)) } else { Ok(()) }
    }

    /// Where a record is below.
    fn find(&self, tag: Tag) -> Option<(Piece, Loc)> {
        let (runs, removed, entries_after) = {
            let state = lock(&self.state);
            (state.runs.clone(), state.manifest.removed.contains(&tag), state.manifest.entries_after)
        };
        if removed {
            return None;
        }
        runs.iter().find_map(|run| {
            let loc = run.find(tag).ok()??;
            let believed = loc.kind != Kind::Tombstone && (loc.kind != Kind::Entry || loc.segment > entries_after);
            let copy = lock(&self.state).manifest.objects.get(&loc.segment).filter(|_| believed)?.copy.clone();
            let length = HEADER_BYTES as u64 + u64::from(loc.stored_len);
            Some((Piece { copy, offset: u64::from(loc.offset), length }, loc))
        })
    }
}

/// The records of a segment that are the newest of their name: what was overwritten, removed or copied elsewhere by
/// now is not to come back.
fn places(disk: &Disk, segment: &Segment, number: u32, bytes: u64) -> io::Result<Vec<(Tag, Loc)>> {
    let (mut places, mut batch) = (Vec::new(), Vec::with_capacity(LOOKUP));
    let mut scan = segment.scan(0, bytes);
    while let Some(step) = scan.next()? {
        let Step::Record { offset, header, bytes } = step else { continue };
        let Some(tag) = Tag::of_record(&header, body(bytes)).filter(|_| header.kind != Kind::Tombstone) else {
            continue;
        };
        let (offset, stored_len) = (offset as u32, header.stored_len);
        let loc = Loc { segment: number, offset, ordinal: 0, stored_len, size: header.size, kind: header.kind };
        batch.push((tag, loc));
        if batch.len() == LOOKUP {
            keep_newest(disk, segment.id, &mut batch, &mut places)?;
        }
    }
    keep_newest(disk, segment.id, &mut batch, &mut places)?;
    Ok(places)
}

fn keep_newest(disk: &Disk, segment: u32, batch: &mut Vec<(Tag, Loc)>, places: &mut Vec<(Tag, Loc)>) -> io::Result<()> {
    let tags: Vec<Tag> = batch.iter().map(|(tag, _)| *tag).collect();
    let (found, _) = disk.index.find_many(&tags)?;
    let newest = batch.drain(..).zip(found).filter(|((_, loc), found)| {
        found.is_some_and(|found| found.loc.segment == segment && found.loc.offset == loc.offset)
    });
    places.extend(newest.map(|(place, _)| place));
    Ok(())
}

/// Removes runs that the manifest does not name: those of copies that were not finished.
fn remove_others(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".run")).and_then(|id| id.parse().ok());
        if id.is_some_and(|id| !manifest.runs.contains(&id)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

type Objects = BTreeMap<u32, Object>;

#[cfg(test)]
mod tests;
