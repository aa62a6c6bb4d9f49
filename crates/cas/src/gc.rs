//! How much the cache folder holds, and what may go.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::Digest;

use crate::action::{named_blobs, read_last, read_record};
use crate::disk::{RENEW_AFTER, files_below, io_error, on_all_cores, remove_tree};
use crate::tree::DIRECTORY_BYTES_MAX;
use crate::{NamedCaches, Pin, Scratch, Store, StoreError, reapi};

/// What the cache folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Action records.
    pub actions: u64,
    /// Named caches.
    pub named: u64,
    /// Their bytes.
    pub named_bytes: u64,
    /// Bytes of scratch folders.
    pub scratch_bytes: u64,
    /// Damaged blobs that were taken out.
    pub damaged: u64,
}

/// What may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Keep {
    /// At most so many bytes of blobs and named caches.
    pub bytes_max: Option<u64>,
    /// Nothing that was not used for so long.
    pub age_max: Option<Duration>,
}

/// What went, or would go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Action records.
    pub actions: u64,
    /// Blobs.
    pub blobs: u64,
    /// Named caches.
    pub named: u64,
    /// Scratch folders and temporary files.
    pub scratch: u64,
    /// Bytes freed.
    pub bytes: u64,
    /// Bytes of blobs and named caches that stay.
    pub bytes_left: u64,
    /// Things that had to stay because a run is under way.
    pub pinned: u64,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were damaged and taken out.
    pub damaged: Vec<Digest>,
    /// Action records that were damaged and removed.
    pub records: u64,
}

/// Temporary files and damaged blobs older than this are litter: no write takes as long.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);
/// A stored `Action` or `Command`.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Counts what is below `root`.
///
/// # Errors
/// The file system refuses.
pub fn stats(root: &Path) -> Result<Stats, StoreError> {
    fs::metadata(root).map_err(io_error("look at", root))?;
    let blobs = blobs_in(root);
    let size = |files: Vec<(PathBuf, Metadata)>| files.iter().map(|(_, meta)| meta.len()).sum::<u64>();
    Ok(Stats {
        blobs: blobs.iter().map(|blob| blob.digest).collect::<HashSet<_>>().len() as u64,
        blob_bytes: blobs.iter().map(|blob| blob.digest.size).sum(),
        actions: files_below(&root.join("actions")).len() as u64,
        named: fs::read_dir(root.join("named/keys")).map_or(0, |keys| keys.count() as u64),
        named_bytes: size(files_below(&root.join("named/layers"))),
        scratch_bytes: size(files_below(&root.join("scratch"))),
        damaged: files_below(&root.join("damaged")).len() as u64,
    })
}

/// Drops the least recently used action records until `keep` holds, then blobs no record names, named caches and
/// litter. Never what was put or used since the oldest run under way began.
///
/// # Errors
/// The file system refuses.
pub fn gc(root: &Path, keep: Keep, now: SystemTime, dry_run: bool) -> Result<GcReport, StoreError> {
    let lock_path = root.join("gc.lock");
    let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
    let lock = lock.map_err(io_error("open", &lock_path))?;
    lock.lock().map_err(io_error("lock", &lock_path))?;
    let store = Store::open(root)?;
    let named = NamedCaches::open_all(root)?;
    // Marks of use may be as old as RENEW_AFTER, so whatever has one younger than this may belong to a living run.
    let pinned_since = Pin::oldest(root).map(|began| began.checked_sub(RENEW_AFTER).unwrap_or(began));
    let mut collection = Collection::look(root, &store, &named, now, pinned_since);
    collection.drop_older(keep.age_max);
    collection.drop_beyond(keep.bytes_max);
    let mut report = collection.sweep(&store, &named, dry_run);
    report.scratch += litter(root, now, dry_run);
    Ok(report)
}

/// Reads everything again and takes out what is damaged.
///
/// # Errors
/// The file system refuses.
pub fn verify(root: &Path) -> Result<Verified, StoreError> {
    let store = Store::open(root)?;
    let blobs = blobs_in(root);
    let whole = on_all_cores(&blobs, |blob| match Store::digest_of_file(&blob.path) {
        Ok(digest) => digest == blob.digest,
        // Gone meanwhile is not damaged.
        Err(_) => !blob.path.exists(),
    });
    let mut verified = Verified::default();
    for (blob, whole) in blobs.iter().zip(whole) {
        verified.blobs += 1;
        verified.bytes += blob.digest.size;
        if !whole {
            store.take_out(&blob.path);
            verified.damaged.push(blob.digest);
        }
    }
    for (path, _) in files_below(&root.join("actions")) {
        if read_record(&path).is_none() {
            let _ = fs::remove_file(&path);
            verified.records += 1;
        }
    }
    Ok(verified)
}

struct BlobFile {
    path: PathBuf,
    /// By its name and length, not by its bytes.
    digest: Digest,
    /// When it was put, or put again.
    put: SystemTime,
}

fn blobs_in(root: &Path) -> Vec<BlobFile> {
    let blob = |(path, meta): (PathBuf, Metadata)| {
        let name = path.file_name()?.to_str()?;
        let digest = Digest::from_hex(name.strip_suffix(".x").unwrap_or(name), meta.len())?;
        let put = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec().max(0) as u32);
        Some(BlobFile { path, digest, put })
    };
    files_below(&root.join("cas")).into_iter().filter_map(blob).collect()
}

/// Something that is dropped as a whole, the least recently used first.
struct Unit {
    what: What,
    used: SystemTime,
    /// What it alone or with others keeps: blobs or layers.
    holds: Vec<Held>,
    dropped: bool,
}

enum What {
    Record(PathBuf),
    Cache(String),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Held {
    Blob(Digest),
    Layer(String),
}

struct Collection {
    units: Vec<Unit>,
    /// How many units hold a thing.
    holders: HashMap<Held, u32>,
    bytes: HashMap<Held, u64>,
    blobs: Vec<BlobFile>,
    /// What `last` and `outcomes` remember.
    small: Vec<(PathBuf, SystemTime)>,
    small_dropped: Vec<PathBuf>,
    now: SystemTime,
    pinned_since: Option<SystemTime>,
    report: GcReport,
}

impl Collection {
    fn look(
        root: &Path,
        store: &Store,
        named: &NamedCaches,
        now: SystemTime,
        pinned_since: Option<SystemTime>,
    ) -> Collection {
        let blobs = blobs_in(root);
        let mut bytes: HashMap<Held, u64> = HashMap::new();
        for blob in &blobs {
            *bytes.entry(Held::Blob(blob.digest)).or_default() += blob.digest.size;
        }
        let mut units = record_units(root, store);
        for (used, key) in named.keys() {
            let layers = named.layers_of(&key);
            let holds = layers.iter().map(|(id, _)| Held::Layer(id.clone())).collect();
            bytes.extend(layers.into_iter().map(|(id, size)| (Held::Layer(id), size)));
            units.push(Unit { what: What::Cache(key), used, holds, dropped: false });
        }
        units.sort_by_key(|unit| unit.used);
        let mut holders: HashMap<Held, u32> = HashMap::new();
        for held in units.iter().flat_map(|unit| &unit.holds) {
            *holders.entry(held.clone()).or_default() += 1;
        }
        let small = ["last", "outcomes"].into_iter().flat_map(|folder| files_below(&root.join(folder)));
        let small = small.filter_map(|(path, meta)| Some((path, meta.modified().ok()?))).collect();
        Collection {
            units,
            holders,
            bytes,
            blobs,
            small,
            small_dropped: Vec::new(),
            now,
            pinned_since,
            report: GcReport::default(),
        }
    }

    fn is_pinned(&self, used: SystemTime) -> bool {
        self.pinned_since.is_some_and(|since| used >= since)
    }

    fn drop_older(&mut self, age_max: Option<Duration>) {
        let Some(since) = age_max.and_then(|age| self.now.checked_sub(age)) else { return };
        for at in 0..self.units.len() {
            if self.units[at].used < since {
                self.drop_unit(at);
            }
        }
        let old = self.small.iter().filter(|(_, used)| *used < since);
        self.small_dropped = old.map(|(path, _)| path.clone()).collect();
    }

    fn drop_beyond(&mut self, bytes_max: Option<u64>) {
        let Some(bytes_max) = bytes_max else { return };
        let mut left: u64 = self.holders.keys().filter_map(|held| self.bytes.get(held)).sum();
        for at in 0..self.units.len() {
            if left <= bytes_max {
                return;
            }
            left = left.saturating_sub(self.drop_unit(at));
        }
    }

    /// Returns the bytes that nobody holds any more.
    fn drop_unit(&mut self, at: usize) -> u64 {
        if self.units[at].dropped {
            return 0;
        }
        if self.is_pinned(self.units[at].used) {
            self.report.pinned += 1;
            return 0;
        }
        self.units[at].dropped = true;
        let mut freed = 0;
        for held in &self.units[at].holds {
            if let Some(count) = self.holders.get_mut(held) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(held);
                    freed += self.bytes.get(held).copied().unwrap_or(0);
                }
            }
        }
        freed
    }

    /// Records go before the blobs they name, so that a killed collection leaves no record without its blobs.
    fn sweep(mut self, store: &Store, named: &NamedCaches, dry_run: bool) -> GcReport {
        for unit in self.units.iter().filter(|unit| unit.dropped) {
            match &unit.what {
                What::Record(path) => {
                    self.report.actions += 1;
                    if !dry_run {
                        let _ = fs::remove_file(path);
                    }
                }
                What::Cache(key) if dry_run || named.remove(key) => self.report.named += 1,
                What::Cache(_) => self.report.pinned += 1,
            }
        }
        if !dry_run {
            named.drop_unnamed_layers();
            for path in &self.small_dropped {
                let _ = fs::remove_file(path);
            }
        }
        for (held, size) in &self.bytes {
            match held {
                Held::Layer(_) if self.holders.contains_key(held) => self.report.bytes_left += size,
                Held::Layer(_) => self.report.bytes += size,
                Held::Blob(_) => {}
            }
        }
        let kept = inputs_of_kept(&self, store);
        for blob in &self.blobs {
            let held = self.holders.contains_key(&Held::Blob(blob.digest)) || kept.contains(&blob.digest);
            if held || self.is_pinned(blob.put) {
                self.report.pinned += u64::from(!held);
                self.report.bytes_left += blob.digest.size;
                continue;
            }
            if dry_run || still_unused(blob) && fs::remove_file(&blob.path).is_ok() {
                self.report.blobs += 1;
                self.report.bytes += blob.digest.size;
            }
        }
        self.report
    }
}

/// Looks once more, right before removing: a run may have put the blob again meanwhile.
fn still_unused(blob: &BlobFile) -> bool {
    fs::symlink_metadata(&blob.path).is_ok_and(|meta| {
        let put = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec().max(0) as u32);
        put == blob.put
    })
}

fn record_units(root: &Path, store: &Store) -> Vec<Unit> {
    let files = files_below(&root.join("actions"));
    on_all_cores(&files, |(path, meta)| {
        let holds = read_record(path).and_then(|record| named_blobs(&record, store)).unwrap_or_default();
        let unique: HashSet<Held> = holds.into_iter().map(Held::Blob).collect();
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Unit { what: What::Record(path.clone()), used, holds: unique.into_iter().collect(), dropped: false }
    })
}

/// What `pace why` needs: the action, command and directory messages of actions that are kept, and of each step's last
/// one. They are small, and not worth evicting by size.
fn inputs_of_kept(collection: &Collection, store: &Store) -> HashSet<Digest> {
    let by_hex: HashMap<[u8; 32], Digest> =
        collection.blobs.iter().map(|blob| (blob.digest.hash, blob.digest)).collect();
    let mut actions: Vec<Digest> = Vec::new();
    for unit in collection.units.iter().filter(|unit| !unit.dropped) {
        if let What::Record(path) = &unit.what {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            actions.extend(Digest::from_hex(name, 0).and_then(|digest| by_hex.get(&digest.hash)));
        }
    }
    for (path, _) in files_below(&store.root().join("last")) {
        actions.extend(read_last(&path));
    }
    let mut kept = HashSet::new();
    for digest in actions {
        keep_action(&digest, store, &mut kept);
    }
    kept
}

fn keep_action(digest: &Digest, store: &Store, kept: &mut HashSet<Digest>) {
    if !kept.insert(*digest) {
        return;
    }
    let Some(action) = message::<reapi::Action>(digest, store, MESSAGE_BYTES_MAX) else { return };
    kept.extend(action.command_digest.and_then(|digest| digest.value()));
    let mut directories: Vec<Digest> = action.input_root_digest.and_then(|digest| digest.value()).into_iter().collect();
    while let Some(digest) = directories.pop() {
        if kept.insert(digest)
            && let Some(directory) = message::<reapi::Directory>(&digest, store, DIRECTORY_BYTES_MAX)
        {
            directories.extend(directory.directories.into_iter().filter_map(|node| node.digest?.value()));
        }
    }
}

fn message<M: prost::Message + Default>(digest: &Digest, store: &Store, bytes_max: usize) -> Option<M> {
    reapi::decode(&store.get(digest, bytes_max).ok()?).ok()
}

fn litter(root: &Path, now: SystemTime, dry_run: bool) -> u64 {
    let old =
        |meta: &Metadata| meta.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LITTER_AGE));
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in ["tmp", "damaged"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        let entries = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|meta| old(&meta)));
        found.extend(entries.map(|entry| entry.path()));
    }
    if !dry_run {
        for path in &found {
            let _ = fs::remove_file(path).or_else(|_| remove_tree(path));
        }
    }
    found.len() as u64 + if dry_run { 0 } else { Scratch::sweep(root) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActionRecord, ActionStore, Layer, LayerEntry, LayerKind, Tree, TreeEntry};
    use model::{RunId, RunNumber, Timestamp};

    struct World {
        dir: tempfile::TempDir,
        store: Store,
        actions: ActionStore,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let actions = ActionStore::open(dir.path()).expect("actions");
        World { dir, store, actions }
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    impl World {
        /// An action that wrote one file, used so many days ago.
        fn action(&self, name: &str, written: &str, days: u32) -> Digest {
            let digest = self.store.put(written.as_bytes()).expect("put");
            let kind = LayerKind::File { digest, executable: false, mtime_ns: 0 };
            let layer = Layer { entries: vec![LayerEntry { path: "out".into(), kind }] };
            let file = TreeEntry::File { digest: Store::digest_of(b"input"), executable: false };
            let tree = Tree::from_entries([(format!("src/{name}"), file)]).expect("tree");
            let action = reapi::Action {
                command_digest: Some((&self.store.put(format!("command {name}").as_bytes()).expect("put")).into()),
                input_root_digest: Some((&tree.put(&self.store).expect("put")).into()),
                ..Default::default()
            };
            let action = self.store.put(&reapi::encode(&action)).expect("put");
            let record = ActionRecord {
                run: RunId::from("r"),
                number: RunNumber(1),
                finished: Timestamp(1),
                exit: 0,
                took: DAY,
                values: Default::default(),
                layer: Some(layer.put(&self.store).expect("put")),
                log: Some(self.store.put(format!("log of {name}").as_bytes()).expect("put")),
                artifacts: Vec::new(),
                reports: Vec::new(),
                cpu: DAY,
                memory_peak: 0,
            };
            self.actions.record(&action, &record).expect("record");
            let hex = action.hex();
            let file = fs::File::options().write(true).open(self.dir.path().join("actions").join(&hex[..2]).join(hex));
            file.expect("record").set_modified(SystemTime::now() - DAY * days).expect("time");
            action
        }
        fn gc(&self, keep: Keep) -> GcReport {
            gc(self.dir.path(), keep, SystemTime::now(), false).expect("gc")
        }
        fn there(&self, action: &Digest) -> bool {
            read_record(&self.record_path(action)).is_some_and(|record| self.actions.complete(&record, &self.store))
        }
        fn record_path(&self, action: &Digest) -> PathBuf {
            self.dir.path().join("actions").join(&action.hex()[..2]).join(action.hex())
        }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let w = world();
        let (old, new) = (w.action("old", &"o".repeat(5000), 9), w.action("new", &"n".repeat(5000), 1));
        let report = w.gc(Keep { bytes_max: Some(6000), age_max: None });
        assert_eq!((report.actions, w.there(&old), w.there(&new)), (1, false, true));
        assert!(report.bytes >= 5000 && report.bytes_left >= 5000, "{report:?}");
        assert!(!w.store.has(&Store::digest_of("o".repeat(5000).as_bytes())));
    }

    #[test]
    fn what_is_too_old_goes_and_what_others_share_stays() {
        let w = world();
        let (old, new) = (w.action("old", "shared", 40), w.action("new", "shared", 1));
        w.action("older", "alone", 50);
        let report = w.gc(Keep { bytes_max: None, age_max: Some(DAY * 30) });
        assert_eq!((report.actions, w.there(&old), w.there(&new)), (2, false, true));
        assert!(w.store.has(&Store::digest_of(b"shared")) && !w.store.has(&Store::digest_of(b"alone")));
    }

    #[test]
    fn what_why_needs_of_a_steps_last_action_stays() {
        let w = world();
        let old = w.action("old", "text", 9);
        w.actions.set_last("p", "s", &old).expect("last");
        w.gc(Keep { bytes_max: Some(0), age_max: None });
        assert!(!w.there(&old));
        let action: reapi::Action = message(&old, &w.store, 1 << 20).expect("the action");
        let root = action.input_root_digest.and_then(|digest| digest.value()).expect("digest");
        assert!(Tree::load(&root, &w.store).expect("the tree").get("src/old").is_some());
        assert!(!w.store.has(&Store::digest_of(b"text")));
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let w = world();
        w.store.put(b"unnamed").expect("put");
        let before = stats(w.dir.path()).expect("stats");
        assert_eq!((before.blobs, before.blob_bytes), (1, 7));
        let dry = gc(w.dir.path(), Keep::default(), SystemTime::now(), true).expect("gc");
        assert_eq!(stats(w.dir.path()).expect("stats"), before, "a dry run changes nothing");
        let report = w.gc(Keep::default());
        assert_eq!((report.blobs, report.bytes), (1, 7));
        assert_eq!((dry.blobs, dry.bytes), (1, 7));
    }

    #[test]
    fn what_a_run_under_way_put_or_used_stays() {
        let w = world();
        let pin = Pin::hold(w.dir.path(), &RunId::from("r")).expect("pin");
        let digest = w.store.put(b"in flight").expect("put");
        let (old, used) = (w.action("old", "old", 9), w.action("used", "used", 9));
        assert!(w.actions.lookup(&used).is_some());
        let report = w.gc(Keep { bytes_max: Some(0), age_max: None });
        assert!(w.store.has(&digest) && w.there(&used) && read_record(&w.record_path(&old)).is_none());
        assert!(report.pinned > 0);
        drop(pin);
        w.gc(Keep { bytes_max: Some(0), age_max: None });
        assert!(!w.store.has(&digest) && !w.there(&used));
    }

    #[test]
    fn old_named_caches_go_too() {
        let w = world();
        let caches = NamedCaches::open_all(w.dir.path()).expect("caches");
        let upper = w.dir.path().join("upper");
        fs::create_dir(&upper).expect("upper");
        fs::write(upper.join("f"), "12345").expect("file");
        caches.commit(caches.open("k", &[]).expect("open"), upper).expect("commit");
        assert_eq!(stats(w.dir.path()).expect("stats").named_bytes, 5);
        let report = w.gc(Keep { bytes_max: Some(4), age_max: None });
        assert_eq!((report.named, report.bytes, report.bytes_left), (1, 5, 0));
        assert_eq!(stats(w.dir.path()).expect("stats").named, 0);
        assert_eq!(stats(w.dir.path()).expect("stats").named_bytes, 0);
    }

    #[test]
    fn verifying_finds_every_damaged_blob_and_record() {
        let w = world();
        let action = w.action("a", "text", 1);
        assert!(verify(w.dir.path()).expect("verify").damaged.is_empty());
        let blob = Store::digest_of(b"text");
        fs::write(w.dir.path().join("cas").join(&blob.hex()[..2]).join(blob.hex()), "texT").expect("damage");
        fs::write(w.record_path(&action), "garbage").expect("damage");
        let verified = verify(w.dir.path()).expect("verify");
        assert_eq!((verified.damaged, verified.records), (vec![blob], 1));
        assert!(!w.store.has(&blob));
        assert_eq!(stats(w.dir.path()).expect("stats").damaged, 1);
    }

    #[test]
    fn litter_of_killed_processes_goes_after_a_day() {
        let w = world();
        let tmp = w.dir.path().join("tmp/77-x-1");
        fs::write(&tmp, "half a blob").expect("file");
        w.gc(Keep::default());
        assert!(tmp.exists(), "it may still be written");
        fs::File::options()
            .write(true)
            .open(&tmp)
            .expect("file")
            .set_modified(SystemTime::now() - DAY * 2)
            .expect("time");
        assert_eq!(w.gc(Keep::default()).scratch, 1);
        assert!(!tmp.exists());
    }
}
