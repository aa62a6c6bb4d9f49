//! Named caches: writable directories that live beside the actions, as stacks of overlay layers.
//!
//! `named/keys/<sha256 of the key>/` has `key` (the key as written) and `head` (the layers it consists of, the topmost
//! first); `named/layers/<id>/` are the layers, shared between keys that began as each other's copies, each with a
//! `<id>.lock` that leases hold shared. A head is replaced by rename, so a cache is always some whole generation; a layer
//! goes when no head names it and nobody holds it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::Digest;

use crate::disk::{fresh_name, io_error, read_bounded, remove_tree, renew_modified, seal, unseal, write_atomically};
use crate::layer::LAYER_ENTRIES_MAX;
use crate::store::mtime_of;
use crate::tree::{TREE_DEPTH_MAX, path_order};
use crate::{Layer, LayerEntry, LayerKind, Store, StoreError};

/// All named caches of one cache folder.
#[derive(Clone, Debug)]
pub struct NamedCaches {
    root: PathBuf,
}

/// A view of a named cache. What it shows stays as long as the lease lives.
#[derive(Debug)]
pub struct Lease {
    /// Lower directories of an overlay, the topmost first; empty on first use.
    pub lowers: Vec<PathBuf>,
    /// The key itself was there, not only a fallback.
    pub exact: bool,
    /// The key whose content it shows.
    pub from: Option<String>,
    key: String,
    layers: Vec<String>,
    /// Shared locks on the layers.
    _held: Vec<File>,
}

/// What became of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitEnd {
    /// It is the newest generation now.
    Committed,
    /// Somebody else was faster; it was dropped.
    Stale,
}

/// Layers of a stack before they are made one. An overlay mount takes about a hundred lower directories as arguments;
/// each one costs a look-up for names that are not there.
pub const STACK_MAX: usize = 16;
/// Length of a key file.
const KEY_BYTES_MAX: u64 = 64 << 10;
const HEAD_MAGIC: &[u8; 8] = b"PACEHEAD";

impl NamedCaches {
    /// Opens or makes them below `root`, the same folder as the [`crate::Store`]'s.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open_all(root: &Path) -> Result<NamedCaches, StoreError> {
        for folder in ["named/keys", "named/layers", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("make folder", &path))?;
        }
        Ok(NamedCaches { root: root.to_path_buf() })
    }
    /// Leases the cache of `key`, or of the newest key that starts with the first of `fallback` that any key starts with.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(&self, key: &str, fallback: &[String]) -> Result<Lease, StoreError> {
        if let Some(lease) = self.lease(key, key) {
            return Ok(lease);
        }
        for prefix in fallback {
            for (_, other) in self.newest_first(prefix) {
                if let Some(lease) = self.lease(key, &other) {
                    return Ok(lease);
                }
            }
        }
        Ok(Lease {
            lowers: Vec::new(),
            exact: false,
            from: None,
            key: key.to_string(),
            layers: Vec::new(),
            _held: Vec::new(),
        })
    }
    /// Moves `upper` (an overlay's upper directory in the same file system) on top of what was leased, as the newest
    /// generation of the leased key.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn commit(&self, lease: Lease, upper: PathBuf) -> Result<CommitEnd, StoreError> {
        let dir = self.key_dir(&lease.key);
        fs::create_dir_all(&dir).map_err(io_error("make folder", &dir))?;
        let lock_path = dir.join("lock");
        let lock = open_lock(&lock_path).map_err(io_error("open", &lock_path))?;
        lock.lock().map_err(io_error("lock", &lock_path))?;
        let head = read_head(&dir);
        let leased = if lease.exact { Some(&lease.layers) } else { None };
        if head.as_ref() != leased {
            remove_tree(&upper).map_err(io_error("remove", &upper))?;
            return Ok(CommitEnd::Stale);
        }
        let mut layers = lease.layers.clone();
        // Held until the head names them, or a sweeper would take them for litter.
        let mut held = Vec::new();
        if is_empty(&upper) {
            remove_tree(&upper).map_err(io_error("remove", &upper))?;
        } else {
            let (id, lock) = self.add_layer(&upper)?;
            layers.insert(0, id);
            held.push(lock);
        }
        if layers.len() > STACK_MAX {
            let (id, lock) = self.squash(&layers)?;
            layers = vec![id];
            held.push(lock);
        }
        if Some(&layers) != leased {
            write_atomically(&self.root.join("tmp"), &dir.join("key"), lease.key.as_bytes())?;
            self.write_head(&dir, &layers)?;
        }
        drop((lease, held));
        self.drop_unnamed_layers();
        Ok(CommitEnd::Committed)
    }

    /// Makes `dir` (in the same file system, nobody's any more) the first generation of `key`, unless it has one already.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn adopt(&self, key: &str, dir: PathBuf) -> Result<CommitEnd, StoreError> {
        // As if somebody had opened an empty cache and written all that.
        let empty = Lease {
            lowers: Vec::new(),
            exact: false,
            from: None,
            key: key.to_string(),
            layers: Vec::new(),
            _held: Vec::new(),
        };
        self.commit(empty, dir)
    }

    /// Every key with the time it was last used.
    pub(crate) fn keys(&self) -> Vec<(SystemTime, String)> {
        let Ok(dirs) = fs::read_dir(self.root.join("named/keys")) else { return Vec::new() };
        let key = |dir: PathBuf| {
            let used = fs::metadata(dir.join("head")).ok()?.modified().ok()?;
            let key = String::from_utf8(read_bounded(&dir.join("key"), KEY_BYTES_MAX)?).ok()?;
            Some((used, key))
        };
        dirs.flatten().filter_map(|entry| key(entry.path())).collect()
    }

    /// The layers of a key, with the bytes of each.
    pub(crate) fn layers_of(&self, key: &str) -> Vec<(String, u64)> {
        let layers = read_head(&self.key_dir(key)).unwrap_or_default();
        let sized = |id: String| {
            let bytes = crate::disk::files_below(&self.layer_dir(&id)).iter().map(|(_, meta)| meta.len()).sum();
            (id, bytes)
        };
        layers.into_iter().map(sized).collect()
    }

    /// Forgets a key; its layers go when nobody holds them. `false` if it could not be.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let dir = self.key_dir(key);
        // Not while somebody commits to it.
        open_lock(&dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok() && remove_tree(&dir).is_ok())
    }

    /// Removes layers that no head names and nobody holds.
    pub(crate) fn drop_unnamed_layers(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("named/layers")) else { return };
        let locks: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "lock")).collect();
        for path in locks {
            // Locked first, then looked whether a head names it: a layer is named before its lock is let go.
            let Ok(lock) = open_lock(&path) else { continue };
            if lock.try_lock().is_err() {
                continue;
            }
            let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if !self.named_layers().contains(&id) && remove_tree(&self.layer_dir(&id)).is_ok() {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn named_layers(&self) -> HashSet<String> {
        let Ok(dirs) = fs::read_dir(self.root.join("named/keys")) else { return HashSet::new() };
        dirs.flatten().filter_map(|entry| read_head(&entry.path())).flatten().collect()
    }

    /// Keys that start with `prefix`.
    fn newest_first(&self, prefix: &str) -> Vec<(SystemTime, String)> {
        let mut keys = self.keys();
        keys.retain(|(_, key)| key.starts_with(prefix));
        keys.sort_by(|a, b| b.cmp(a));
        keys
    }

    /// Leases what `from` holds for `key`; `None` if there is nothing, or no more.
    fn lease(&self, key: &str, from: &str) -> Option<Lease> {
        let dir = self.key_dir(from);
        loop {
            let layers = read_head(&dir)?;
            let held: Option<Vec<File>> = layers.iter().map(|id| self.hold(id)).collect();
            let unchanged = read_head(&dir).as_ref() == Some(&layers);
            match held {
                Some(held) => {
                    if let Ok(head) = File::open(dir.join("head"))
                        && let Ok(meta) = head.metadata()
                    {
                        renew_modified(&head, &meta);
                    }
                    return Some(Lease {
                        lowers: layers.iter().map(|id| self.layer_dir(id)).collect(),
                        exact: key == from,
                        from: Some(from.to_string()),
                        key: key.to_string(),
                        layers,
                        _held: held,
                    });
                }
                // A layer is gone though the head names it: somebody removed it by hand. The cache begins anew.
                None if unchanged => {
                    let _ = fs::remove_file(dir.join("head"));
                    return None;
                }
                // The stack was squashed between reading the head and holding its layers.
                None => {}
            }
        }
    }

    fn hold(&self, id: &str) -> Option<File> {
        let lock = OpenOptions::new().read(true).open(self.lock_path(id)).ok()?;
        lock.lock_shared().ok()?;
        self.layer_dir(id).is_dir().then_some(lock)
    }

    fn add_layer(&self, upper: &Path) -> Result<(String, File), StoreError> {
        let id = fresh_name();
        let lock = self.lock_path(&id);
        let held =
            open_lock(&lock).and_then(|file| file.lock_shared().map(|()| file)).map_err(io_error("make", &lock))?;
        let dir = self.layer_dir(&id);
        fs::rename(upper, &dir).map_err(io_error("move into the cache", upper))?;
        Ok((id, held))
    }

    /// One layer that shows what the stack shows, by hard links. Nothing is below it, so nothing need be hidden.
    fn squash(&self, layers: &[String]) -> Result<(String, File), StoreError> {
        let into = self.root.join("tmp").join(fresh_name());
        let lowers: Vec<PathBuf> = layers.iter().map(|id| self.layer_dir(id)).collect();
        merge(&lowers, &into).inspect_err(|_| {
            let _ = remove_tree(&into);
        })?;
        self.add_layer(&into)
    }

    fn write_head(&self, dir: &Path, layers: &[String]) -> Result<(), StoreError> {
        let head = seal(HEAD_MAGIC, layers.join("\n").as_bytes());
        write_atomically(&self.root.join("tmp"), &dir.join("head"), &head)
    }

    fn key_dir(&self, key: &str) -> PathBuf {
        self.root.join("named/keys").join(Store::digest_of(key.as_bytes()).hex())
    }

    fn layer_dir(&self, id: &str) -> PathBuf {
        self.root.join("named/layers").join(id)
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.root.join("named/layers").join(format!("{id}.lock"))
    }
}

/// What a cache consists of, for somebody far away.
#[derive(Debug)]
pub struct Survey {
    /// All that it shows, as one layer over nothing.
    pub layer: Layer,
    /// Where the bytes of each file are, as long as the lease lives.
    pub files: HashMap<Digest, PathBuf>,
}

impl Lease {
    /// Reads and hashes all that the cache shows; `beat` is called for each file. `None` when its files have more than
    /// `bytes_max` together. What is neither file, folder nor link is left out, and so are names that are not UTF-8.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn survey(&self, bytes_max: u64, beat: &mut dyn FnMut()) -> Result<Option<Survey>, StoreError> {
        let mut found = Vec::new();
        if !self.lowers.is_empty() {
            list(&self.lowers, "", 0, &mut found)?;
        }
        let total =
            found.iter().map(|(_, _, meta)| if meta.is_file() { meta.len() } else { 0 }).fold(0, u64::saturating_add);
        if total > bytes_max || found.len() > LAYER_ENTRIES_MAX {
            return Ok(None);
        }
        found.sort_by(|(a, ..), (b, ..)| path_order(a, b));
        let (mut entries, mut files) = (Vec::with_capacity(found.len()), HashMap::new());
        for (path, from, meta) in found {
            beat();
            let kind = if meta.is_dir() {
                LayerKind::Dir
            } else if meta.is_symlink() {
                let target = fs::read_link(&from).map_err(io_error("read the link", &from))?;
                match target.into_os_string().into_string() {
                    Ok(target) => LayerKind::Symlink { target },
                    Err(_) => continue,
                }
            } else {
                let digest = Store::digest_of_file(&from)?;
                files.insert(digest, from);
                LayerKind::File { digest, executable: meta.mode() & 0o100 != 0, mtime_ns: mtime_of(&meta) }
            };
            entries.push(LayerEntry { path, kind });
        }
        Ok(Some(Survey { layer: Layer { entries }, files }))
    }
}

/// What an overlay of `dirs` would show, as paths below `path`.
fn list(
    dirs: &[PathBuf],
    path: &str,
    depth: usize,
    found: &mut Vec<(String, PathBuf, fs::Metadata)>,
) -> Result<(), StoreError> {
    let mut done = HashSet::new();
    for (level, dir) in dirs.iter().enumerate() {
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?;
            if !done.insert(entry.file_name()) {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let from = entry.path();
            let meta = fs::symlink_metadata(&from).map_err(io_error("look at", &from))?;
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if meta.is_dir() {
                found.push((below.clone(), from, meta));
                if depth < TREE_DEPTH_MAX - 1 {
                    list(&shown_together(&dirs[level..], &entry.file_name()), &below, depth + 1, found)?;
                }
            } else if meta.is_file() || meta.is_symlink() {
                found.push((below, from, meta));
            }
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// The layers of a key, the topmost first; `None` if there are none or the file is damaged.
fn read_head(dir: &Path) -> Option<Vec<String>> {
    let sealed = read_bounded(&dir.join("head"), 64 << 10)?;
    let text = std::str::from_utf8(unseal(HEAD_MAGIC, &sealed)?).ok()?;
    let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.lines().all(plain).then(|| text.lines().map(str::to_string).collect())
}

/// Makes the directory that an overlay of `dirs` (the topmost first) would show.
fn merge(dirs: &[PathBuf], into: &Path) -> Result<(), StoreError> {
    let Some(top) = dirs.first() else { return Ok(()) };
    let meta = fs::symlink_metadata(top).map_err(io_error("look at", top))?;
    fs::create_dir(into).map_err(io_error("make folder", into))?;
    let mut done = HashSet::new();
    for (level, dir) in dirs.iter().enumerate() {
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?;
            if !done.insert(entry.file_name()) {
                continue;
            }
            let (from, to) = (entry.path(), into.join(entry.file_name()));
            let kind = entry.file_type().map_err(io_error("look at", &from))?;
            if kind.is_dir() {
                merge(&shown_together(&dirs[level..], &entry.file_name()), &to)?;
            } else if !is_whiteout(&from) {
                fs::hard_link(&from, &to).map_err(io_error("link", &from))?;
            }
        }
    }
    let _ = fs::set_permissions(into, meta.permissions());
    let _ = File::open(into).and_then(|dir| dir.set_modified(meta.modified()?));
    Ok(())
}

/// The directories of this name that an overlay merges: down to the first one that hides the rest, or is none.
fn shown_together(dirs: &[PathBuf], name: &std::ffi::OsStr) -> Vec<PathBuf> {
    let mut together = Vec::new();
    for dir in dirs {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                let opaque = crate::layer::is_opaque(&path);
                together.push(path);
                if opaque {
                    break;
                }
            }
            Ok(_) => break,
            Err(_) => {}
        }
    }
    together
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{make_whiteout, mark_opaque};

    struct World {
        root: tempfile::TempDir,
        caches: NamedCaches,
    }

    fn world() -> World {
        let root = tempfile::tempdir().expect("folder");
        let caches = NamedCaches::open_all(root.path()).expect("caches");
        World { root, caches }
    }

    impl World {
        fn upper(&self, files: &[(&str, &str)]) -> PathBuf {
            let upper = self.root.path().join(fresh_name());
            fs::create_dir(&upper).expect("upper");
            for (path, text) in files {
                let path = upper.join(path);
                fs::create_dir_all(path.parent().expect("parent")).expect("dir");
                fs::write(path, text).expect("file");
            }
            upper
        }
        fn add(&self, key: &str, files: &[(&str, &str)]) -> CommitEnd {
            let lease = self.caches.open(key, &[]).expect("open");
            self.caches.commit(lease, self.upper(files)).expect("commit")
        }
        fn shows(&self, lease: &Lease) -> Vec<String> {
            let merged = self.root.path().join(fresh_name());
            merge(&lease.lowers, &merged).expect("merge");
            let files = crate::disk::files_below(&merged);
            let mut shown: Vec<String> = files
                .iter()
                .map(|(path, _)| {
                    let text = fs::read_to_string(path).expect("file");
                    format!("{}={text}", path.strip_prefix(&merged).expect("below").display())
                })
                .collect();
            shown.sort();
            shown
        }
    }

    #[test]
    fn a_cache_grows_by_generations() {
        let w = world();
        let first = w.caches.open("go-1", &["go-".into()]).expect("open");
        assert_eq!((first.lowers.len(), first.exact, first.from.clone()), (0, false, None));
        assert_eq!(w.caches.commit(first, w.upper(&[("mod/a", "1")])).expect("commit"), CommitEnd::Committed);
        w.add("go-1", &[("mod/b", "2")]);
        let lease = w.caches.open("go-1", &[]).expect("open");
        assert_eq!((lease.lowers.len(), lease.exact, lease.from.as_deref()), (2, true, Some("go-1")));
        assert_eq!(w.shows(&lease), ["mod/a=1", "mod/b=2"]);
        w.caches.commit(lease, w.upper(&[])).expect("commit");
        assert_eq!(w.caches.open("go-1", &[]).expect("open").lowers.len(), 2, "nothing written, nothing added");
    }

    #[test]
    fn a_new_key_starts_from_the_newest_that_fits() {
        let w = world();
        w.add("go-old", &[("a", "old")]);
        let old = File::open(w.caches.key_dir("go-old").join("head")).expect("head");
        old.set_modified(SystemTime::UNIX_EPOCH).expect("time");
        w.add("go-new", &[("a", "new")]);
        w.add("npm-1", &[("a", "npm")]);
        let lease = w.caches.open("go-2", &["nothing-".into(), "go-".into()]).expect("open");
        assert_eq!((lease.exact, lease.from.as_deref()), (false, Some("go-new")));
        assert_eq!(w.shows(&lease), ["a=new"]);
        w.caches.commit(lease, w.upper(&[("b", "2")])).expect("commit");
        let again = w.caches.open("go-2", &[]).expect("open");
        assert_eq!((again.exact, w.shows(&again)), (true, vec!["a=new".to_string(), "b=2".to_string()]));
        assert_eq!(w.shows(&w.caches.open("go-new", &[]).expect("open")), ["a=new"]);
    }

    #[test]
    fn of_two_writers_the_first_wins() {
        let w = world();
        w.add("k", &[("a", "1")]);
        let (one, two) = (w.caches.open("k", &[]).expect("open"), w.caches.open("k", &[]).expect("open"));
        assert_eq!(w.caches.commit(one, w.upper(&[("a", "one")])).expect("commit"), CommitEnd::Committed);
        let upper = w.upper(&[("a", "two")]);
        assert_eq!(w.caches.commit(two, upper.clone()).expect("commit"), CommitEnd::Stale);
        assert!(!upper.exists());
        assert_eq!(w.shows(&w.caches.open("k", &[]).expect("open")), ["a=one"]);
        let (one, two) = (w.caches.open("n", &[]).expect("open"), w.caches.open("n", &[]).expect("open"));
        assert_eq!(w.caches.commit(one, w.upper(&[("a", "1")])).expect("commit"), CommitEnd::Committed);
        assert_eq!(w.caches.commit(two, w.upper(&[("a", "2")])).expect("commit"), CommitEnd::Stale);
    }

    #[test]
    fn a_tall_stack_becomes_one_layer_and_leases_keep_the_old_ones() {
        let w = world();
        w.add("k", &[("keep", "1"), ("gone", "1"), ("dir/old", "1")]);
        let upper = w.upper(&[("dir/new", "2")]);
        make_whiteout(&upper.join("gone")).expect("whiteout");
        mark_opaque(&upper.join("dir")).expect("opaque");
        w.caches.commit(w.caches.open("k", &[]).expect("open"), upper).expect("commit");
        let held = w.caches.open("k", &[]).expect("open");
        for n in 0..STACK_MAX - 1 {
            w.add("k", &[("n", &n.to_string())]);
        }
        let now = w.caches.open("k", &[]).expect("open");
        assert_eq!(now.lowers.len(), 1);
        assert_eq!(w.shows(&now), ["dir/new=2", "keep=1", "n=14"]);
        assert!(held.lowers.iter().all(|lower| lower.is_dir()), "pinned");
        assert_eq!(w.shows(&held), ["dir/new=2", "keep=1"]);
        let lowers = held.lowers.clone();
        drop(held);
        w.caches.drop_unnamed_layers();
        assert!(lowers.iter().all(|lower| !lower.exists()));
    }

    #[test]
    fn a_survey_shows_what_the_overlay_shows_and_restores_to_the_same() {
        let w = world();
        w.add("k", &[("a/one", "1"), ("a/two", "2"), ("gone", "x")]);
        let lease = w.caches.open("k", &[]).expect("open");
        let upper = w.upper(&[("a/two", "two"), ("b/three", "3")]);
        make_whiteout(&upper.join("gone")).expect("whiteout");
        w.caches.commit(lease, upper).expect("commit");
        let lease = w.caches.open("k", &[]).expect("open");
        let survey = lease.survey(1 << 20, &mut || {}).expect("survey").expect("small enough");
        let paths: Vec<&str> = survey.layer.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "a/one", "a/two", "b", "b/three"]);
        assert!(Layer::decode(&survey.layer.encode()).is_ok());
        assert!(lease.survey(3, &mut || {}).expect("survey").is_none());
        let store = Store::open(w.root.path()).expect("store");
        for path in survey.files.values() {
            store.put_file(path, false).expect("put");
        }
        let dir = w.root.path().join("tmp").join(fresh_name());
        survey.layer.restore(&store, &dir).expect("restore");
        assert_eq!(w.caches.adopt("other", dir).expect("adopt"), CommitEnd::Committed);
        let other = w.caches.open("other", &[]).expect("open");
        assert!(other.exact);
        assert_eq!(w.shows(&other), w.shows(&lease));
        let late = w.upper(&[("late", "")]);
        assert_eq!(w.caches.adopt("other", late).expect("adopt"), CommitEnd::Stale);
    }

    #[test]
    fn a_damaged_head_is_a_cache_that_begins_anew() {
        let w = world();
        w.add("k", &[("a", "1")]);
        fs::write(w.caches.key_dir("k").join("head"), "garbage").expect("damage");
        assert!(w.caches.open("k", &[]).expect("open").lowers.is_empty());
        assert_eq!(w.add("k", &[("a", "2")]), CommitEnd::Committed);
        let id = read_head(&w.caches.key_dir("k")).expect("head")[0].clone();
        fs::remove_dir_all(w.caches.layer_dir(&id)).expect("remove");
        assert!(w.caches.open("k", &[]).expect("open").lowers.is_empty());
    }
}
