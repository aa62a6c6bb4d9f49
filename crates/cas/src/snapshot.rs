//! The repository as a step sees it: tracked files, and untracked ones that are not ignored.
//!
//! What costs time runs side by side: Git lists the paths while we look (`lstat`) at the paths of the last snapshot and
//! list their directories; what changed since is then hashed on all cores.

mod index;
mod list;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use model::{Digest, Glob, GlobList};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

#[cfg(test)]
use crate::Store;
use crate::disk::{on_all_cores, on_cores};
use crate::tree::{TREE_DEPTH_MAX, TREE_FILES_MAX, check_path, path_order};
use crate::{Tree, TreeEntry, TreeError};

use index::{Index, IndexEntry};
use look::{Looked, Stat, hash_file, look};

/// The repository at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its folder.
    pub root: PathBuf,
    /// What is in view.
    pub tree: Tree,
    /// Files and links in view.
    pub files: usize,
    /// Paths below the root that exist and are not in view, folders as a whole; among them `.git`.
    pub hidden: Vec<PathBuf>,
    seen: Arc<Vec<(String, Stat)>>,
    /// Nobody writes there, so that nothing changes.
    still: bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Git is not there or fails.
    #[error("cannot list the files of {root}: git says: {message}")]
    Git {
        /// The repository.
        root: PathBuf,
        /// What git said.
        message: String,
    },
    /// A name that is not UTF-8.
    #[error("{}: its name is not UTF-8; rename it or ignore it", .0.display())]
    NotUtf8(PathBuf),
    /// A socket, a device or a named pipe.
    #[error("{path} is {what}; ignore it or remove it")]
    Special {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file that does not hold still.
    #[error("{path} changed each of the {tries} times it was read; stop what writes it, or ignore it")]
    Changing {
        /// The path.
        path: PathBuf,
        /// How often it was read.
        tries: u32,
    },
    /// A file or folder cannot be read.
    #[error("cannot {act} {path}: {source}; make it readable or ignore it")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// More files than a tree holds, or too deep.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Snapshot {
    /// Looks at `root`. Digests of files that did not change since the last time come from `index_file`, which is
    /// written anew (a damaged one is ignored; failing to write it is not an error).
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn take(root: &Path, index_file: &Path) -> Result<Snapshot, SnapshotError> {
        let started_ns = now_ns();
        let (index, looked, mut names, paths) = std::thread::scope(|scope| {
            let listing = scope.spawn(|| list::paths(root));
            let index = Index::load(index_file, root).unwrap_or_default();
            // Two threads beside Git: more would only take the cores away from it.
            let looked = on_cores(2, &index.entries, |entry| look(root, &entry.path));
            let mut names = Names::default();
            names.read(root, directories(index.entries.iter().map(|entry| entry.path.as_str())));
            let paths = listing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (index, looked, names, paths)
        });
        let mut found = join(root, paths?, &index, looked)?;
        names.read(root, directories(found.iter().map(|found| found.path.as_str())));
        drop_what_is_behind_links(&mut found, &names)?;
        let hashed = hash_new(root, &mut found)?;
        let snapshot = Snapshot::of(root, &found, &names)?;
        let entries: Vec<IndexEntry> = found.iter().filter_map(Found::index_entry).collect();
        if hashed > 0 || entries.len() != index.entries.len() {
            Index { started_ns, entries }.save(index_file, root);
        }
        Ok(snapshot)
    }

    /// A folder that nobody writes to any more, in which exactly these paths are in view: a commit that was checked out.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn of_still(root: &Path, paths: Vec<String>) -> Result<Snapshot, SnapshotError> {
        let mut found = join(root, paths, &Index::default(), Vec::new())?;
        let mut names = Names::default();
        names.read(root, directories(found.iter().map(|found| found.path.as_str())));
        drop_what_is_behind_links(&mut found, &names)?;
        hash_new(root, &mut found)?;
        Ok(Snapshot { still: true, ..Snapshot::of(root, &found, &names)? })
    }

    /// What is in view and is not on the disk any more as it was then. Paths below the root.
    pub fn changed_since(&self) -> Vec<PathBuf> {
        if self.still {
            return Vec::new();
        }
        let changed = on_all_cores(&self.seen, |(path, stat)| self.is_changed(path, stat));
        let paths = self.seen.iter().zip(changed).filter(|(_, changed)| *changed);
        paths.map(|((path, _), _)| PathBuf::from(path)).collect()
    }

    /// What came since into the folders of the view, folders as a whole, ignored or not: whoever looks at the root itself
    /// sees it.
    pub fn new_since(&self) -> Vec<PathBuf> {
        if self.still {
            return Vec::new();
        }
        let mut names = Names::default();
        names.read(&self.root, directories(self.seen.iter().map(|(path, _)| path.as_str())));
        names.not_in(&self.tree).into_iter().filter(|path| self.hidden.binary_search(path).is_err()).collect()
    }

    /// The value of `hash(…)`: 64 hexadecimal digits over path, content and mode of all files and links that the
    /// patterns take in. A pattern that does not parse takes in nothing.
    pub fn hash_of(&self, globs: &[String]) -> String {
        let globs = GlobList(globs.iter().filter_map(|text| Glob::parse(text).ok()).collect());
        self.tree.filter(&globs).digest().hex()
    }

    /// What must be hidden of the root so that only `tree` (a filter of [`Snapshot::tree`]) shows: [`Snapshot::hidden`]
    /// and everything of the view that is not in `tree`, folders as a whole.
    pub fn hidden_but(&self, tree: &Tree) -> Vec<PathBuf> {
        let mut hidden: Vec<PathBuf> = Vec::new();
        let mut left_out: Option<String> = None;
        for (path, _) in self.tree.entries() {
            let below = |dir: &String| path.strip_prefix(dir.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if !left_out.as_ref().is_some_and(below) && tree.get(&path).is_none() {
                hidden.push(PathBuf::from(&path));
                left_out = Some(path);
            }
        }
        let shown = |path: &&PathBuf| {
            let parent = path.parent().and_then(Path::to_str).unwrap_or_default();
            tree.get(parent) == Some(TreeEntry::Dir)
        };
        hidden.extend(self.hidden.iter().filter(shown).cloned());
        hidden
    }

    fn of(root: &Path, found: &[Found], names: &Names) -> Result<Snapshot, SnapshotError> {
        let entries = found.iter().filter_map(|found| Some((found.path.as_str(), found.entry()?)));
        let tree = Tree::from_entries(entries)?;
        let hidden = names.not_in(&tree);
        let seen = found.iter().filter_map(|found| Some((found.path.clone(), found.stat()?))).collect();
        Ok(Snapshot { root: root.to_path_buf(), files: tree.len(), tree, hidden, seen: Arc::new(seen), still: false })
    }

    fn is_changed(&self, path: &str, stat: &Stat) -> bool {
        match look(&self.root, path) {
            Ok(Looked::File(now)) if now == *stat => false,
            // A hard link or a `touch` changes the times only.
            Ok(Looked::File(now)) => !hash_file(&self.root.join(path)).ok().flatten().is_some_and(|(digest, _)| {
                self.tree.get(path) == Some(TreeEntry::File { digest, executable: now.executable() })
            }),
            Ok(Looked::Symlink(_, target)) => self.tree.get(path) != Some(TreeEntry::Symlink { target: target.into() }),
            _ => true,
        }
    }
}

/// A path in view and what stands there.
struct Found {
    path: String,
    looked: Looked,
    digest: Option<Digest>,
}

impl Found {
    fn stat(&self) -> Option<Stat> {
        match self.looked {
            Looked::File(stat) | Looked::Symlink(stat, _) => Some(stat),
            _ => None,
        }
    }
    fn entry(&self) -> Option<TreeEntry> {
        match &self.looked {
            Looked::File(stat) => Some(TreeEntry::File { digest: self.digest?, executable: stat.executable() }),
            Looked::Symlink(_, target) => Some(TreeEntry::Symlink { target: target.as_str().into() }),
            _ => None,
        }
    }
    fn index_entry(&self) -> Option<IndexEntry> {
        let Looked::File(stat) = self.looked else { return None };
        Some(IndexEntry { path: self.path.clone(), stat, digest: self.digest? })
    }
}

/// Repositories within repositories within repositories.
const NESTED_MAX: usize = 16;

/// Puts together what Git listed and what we looked at meanwhile, and looks at the rest.
fn join(
    root: &Path,
    paths: Vec<String>,
    index: &Index,
    looked: Vec<Result<Looked, SnapshotError>>,
) -> Result<Vec<Found>, SnapshotError> {
    let mut ahead = index.entries.iter().zip(looked).peekable();
    let mut found = Vec::with_capacity(paths.len());
    let mut new = Vec::new();
    for path in paths {
        while ahead.next_if(|(entry, _)| path_order(&entry.path, &path).is_lt()).is_some() {}
        match ahead.next_if(|(entry, _)| entry.path == path) {
            Some((entry, looked)) => {
                let looked = looked?;
                let same = looked == Looked::File(entry.stat) && !index.is_racy(entry);
                found.push(Found { path, looked, digest: same.then_some(entry.digest) });
            }
            None => new.push(path),
        }
    }
    for _ in 0..NESTED_MAX {
        let looked = on_all_cores(&new, |path| look(root, path));
        for (path, looked) in new.drain(..).zip(looked) {
            found.push(Found { path, looked: looked?, digest: None });
        }
        for dir in found.extract_if(.., |found| found.looked == Looked::Dir) {
            new.extend(list::nested(root, &dir.path)?);
        }
        if new.is_empty() {
            break;
        }
    }
    found.sort_unstable_by(|a, b| path_order(&a.path, &b.path));
    found.dedup_by(|a, b| a.path == b.path);
    if found.len() > TREE_FILES_MAX {
        return Err(TreeError::TooLarge("2,000,000 files").into());
    }
    Ok(found)
}

/// What Git lists by a path that goes through a symbolic link was deleted, and something else shows there.
fn drop_what_is_behind_links(found: &mut Vec<Found>, names: &Names) -> Result<(), SnapshotError> {
    if let Some(found) = found.iter().find(|found| check_path(&found.path).is_err()) {
        let reason = check_path(&found.path).err().unwrap_or_default();
        return Err(TreeError::Path { path: found.path.clone(), reason }.into());
    }
    let mut last = (String::new(), true);
    found.retain(|found| {
        let (dir, _) = found.path.rsplit_once('/').unwrap_or_default();
        if dir != last.0 {
            last = (dir.to_string(), names.is_real(dir));
        }
        last.1
    });
    Ok(())
}

/// Hashes the files that no index knows; returns how many there were.
fn hash_new(root: &Path, found: &mut [Found]) -> Result<usize, SnapshotError> {
    let mut new: Vec<&mut Found> =
        found.iter_mut().filter(|found| found.digest.is_none() && matches!(found.looked, Looked::File(_))).collect();
    let hashed = on_all_cores(&new, |found| hash_file(&root.join(&found.path)));
    for (found, hashed) in new.iter_mut().zip(hashed) {
        match hashed? {
            Some((digest, stat)) => (found.looked, found.digest) = (Looked::File(stat), Some(digest)),
            None => found.looked = Looked::Absent,
        }
    }
    Ok(new.len())
}

/// The directories that sorted paths lie in, with those above them; the root is the empty path.
fn directories<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut all = BTreeSet::from([String::new()]);
    let mut last = "";
    for path in paths {
        let (mut dir, _) = path.rsplit_once('/').unwrap_or_default();
        if dir == last {
            continue;
        }
        last = dir;
        while !dir.is_empty() && all.insert(dir.to_string()) {
            dir = dir.rsplit_once('/').unwrap_or_default().0;
        }
    }
    all
}

/// What is in the directories of the view.
#[derive(Default)]
struct Names(BTreeMap<String, Option<Vec<OsString>>>);

impl Names {
    /// Reads those that are not read yet. One that cannot be listed is as good as none: nothing of it is in view, or
    /// looking at what is in view failed before.
    fn read(&mut self, root: &Path, dirs: BTreeSet<String>) {
        let new: Vec<String> = dirs.into_iter().filter(|dir| !self.0.contains_key(dir)).collect();
        let listed = on_cores(2, &new, |dir| names_in(&root.join(dir)));
        self.0.extend(new.into_iter().zip(listed));
    }

    /// Whether a path is a directory, and not by way of a link.
    fn is_real(&self, dir: &str) -> bool {
        let above = std::iter::successors(Some(dir), |dir| dir.rsplit_once('/').map(|(above, _)| above));
        above.take(TREE_DEPTH_MAX + 1).all(|dir| self.0.get(dir).is_some_and(Option::is_some))
    }

    /// What is there and not in the tree; nothing below a directory that is not in the tree.
    fn not_in(&self, tree: &Tree) -> Vec<PathBuf> {
        let mut hidden = Vec::new();
        for (dir, names) in &self.0 {
            let Some(shown) = tree.names(dir) else { continue };
            for name in names.iter().flatten() {
                let known =
                    name.to_str().is_some_and(|name| shown.binary_search_by(|other| (**other).cmp(name)).is_ok());
                if !known {
                    hidden.push(Path::new(dir).join(name));
                }
            }
        }
        hidden.sort();
        hidden
    }
}

fn names_in(dir: &Path) -> Option<Vec<OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let listing = Dir::new(openat(CWD, dir, flags, Mode::empty()).ok()?).ok()?;
    let names = listing.flatten().map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()));
    Some(names.filter(|name| name != "." && name != "..").collect())
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::git;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A repository with these files in its first commit.
    pub(crate) fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        git(dir.path(), &["init", "-q", "-b", "main"]);
        git(dir.path(), &["config", "user.name", "A Tester"]);
        git(dir.path(), &["config", "user.email", "a@example.com"]);
        write(dir.path(), files);
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "-q", "-m", "first\n\nwith a body"]);
        dir
    }

    fn git(dir: &Path, arguments: &[&str]) {
        git::run(dir, arguments).expect("git");
    }

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("file");
        }
    }

    struct World {
        repo: tempfile::TempDir,
        cache: tempfile::TempDir,
    }

    fn world(files: &[(&str, &str)]) -> World {
        World { repo: repository(files), cache: tempfile::tempdir().expect("folder") }
    }

    impl World {
        fn root(&self) -> &Path {
            self.repo.path()
        }
        fn index(&self) -> PathBuf {
            self.cache.path().join("index")
        }
        fn take(&self) -> Snapshot {
            Snapshot::take(self.root(), &self.index()).expect("snapshot")
        }
    }

    fn shown(snapshot: &Snapshot) -> Vec<String> {
        let leaf = |(path, entry): (String, TreeEntry)| (entry != TreeEntry::Dir).then_some(path);
        snapshot.tree.entries().into_iter().filter_map(leaf).collect()
    }

    fn hidden(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.hidden.iter().map(|path| path.to_str().expect("UTF-8")).collect()
    }

    #[test]
    fn the_view_is_what_is_tracked_or_new_and_not_what_is_ignored_or_deleted() {
        let w = world(&[("src/a", "1"), ("src/gone", "2"), (".gitignore", "*.log\n/target\n"), ("kept.log", "x")]);
        git(w.root(), &["add", "-f", "kept.log"]);
        write(w.root(), &[("src/new", "3"), ("src/x.log", "4"), ("target/deep/y", "5"), ("odd \"name\"\n", "6")]);
        fs::create_dir(w.root().join("empty")).expect("dir");
        fs::remove_file(w.root().join("src/gone")).expect("remove");
        let snapshot = w.take();
        assert_eq!(shown(&snapshot), [".gitignore", "kept.log", "odd \"name\"\n", "src/a", "src/new"]);
        assert_eq!(snapshot.files, 5);
        assert_eq!(hidden(&snapshot), [".git", "empty", "src/x.log", "target"]);
        let digest = Store::digest_of(b"3");
        assert_eq!(snapshot.tree.get("src/new"), Some(TreeEntry::File { digest, executable: false }));
    }

    #[test]
    fn a_second_look_sees_every_change_and_only_changes() {
        let w = world(&[("a", "1"), ("b/c", "2"), ("run.sh", "3")]);
        let first = w.take();
        assert_eq!(w.take().tree, first.tree);
        write(w.root(), &[("a", "9"), ("new", "4")]);
        fs::remove_file(w.root().join("b/c")).expect("remove");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(w.root().join("run.sh"), fs::Permissions::from_mode(0o755)).expect("mode");
        let second = w.take();
        let changes: Vec<String> = first.tree.diff(&second.tree).into_iter().map(|c| c.path).collect();
        assert_eq!(changes, ["a", "b/c", "new", "run.sh"]);
    }

    #[test]
    fn an_index_saves_reading_but_never_trusts_what_may_have_changed() {
        let w = world(&[("a", "1")]);
        w.take();
        let mut index = Index::load(&w.index(), w.root()).expect("index");
        index.entries[0].digest = Store::digest_of(b"?");
        index.started_ns += 10_000_000_000;
        index.save(&w.index(), w.root());
        let digest = Store::digest_of(b"?");
        assert_eq!(w.take().tree.get("a"), Some(TreeEntry::File { digest, executable: false }), "taken from the index");
        index.started_ns -= 10_000_000_000;
        index.save(&w.index(), w.root());
        let digest = Store::digest_of(b"1");
        assert_eq!(w.take().tree.get("a"), Some(TreeEntry::File { digest, executable: false }), "racy: read again");
        fs::write(w.index(), "garbage").expect("damage");
        assert_eq!(w.take().files, 1);
        let nowhere = Path::new("/proc/no/such/folder/index");
        assert_eq!(Snapshot::take(w.root(), nowhere).expect("without an index").files, 1);
    }

    #[test]
    fn links_are_links_and_nothing_behind_them_is_in_view() {
        let w = world(&[("dir/file", "1"), ("a", "2")]);
        let outside = tempfile::tempdir().expect("folder");
        write(outside.path(), &[("file", "secret"), ("file2", "secret")]);
        fs::remove_dir_all(w.root().join("dir")).expect("remove");
        symlink(outside.path(), w.root().join("dir")).expect("link");
        symlink("/etc/passwd", w.root().join("passwd")).expect("link");
        symlink("nowhere", w.root().join("broken")).expect("link");
        let snapshot = w.take();
        assert_eq!(shown(&snapshot), ["a", "broken", "dir", "passwd"]);
        assert_eq!(snapshot.tree.get("passwd"), Some(TreeEntry::Symlink { target: "/etc/passwd".into() }));
        write(w.root(), &[(".git/info/exclude", "dir\n")]);
        let ignored = w.take();
        assert_eq!(
            (shown(&ignored), hidden(&ignored)),
            (vec!["a".into(), "broken".into(), "passwd".into()], vec![".git", "dir"])
        );
    }

    #[test]
    fn repositories_within_the_repository_are_in_view() {
        let w = world(&[("a", "1")]);
        let inner = repository(&[("lib.c", "2"), (".gitignore", "*.o")]);
        git(
            w.root(),
            &[
                "-c",
                "protocol.file.allow=always",
                "submodule",
                "add",
                "-q",
                inner.path().to_str().expect("path"),
                "sub",
            ],
        );
        write(w.root(), &[("sub/x.o", "3"), ("sub/new.c", "4")]);
        git(w.root(), &["init", "-q", "nested"]);
        write(w.root(), &[("nested/n", "5")]);
        git(
            w.root(),
            &[
                "-C",
                "nested",
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@example.com",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "x",
            ],
        );
        let snapshot = w.take();
        assert_eq!(shown(&snapshot), [".gitmodules", "a", "nested/n", "sub/.gitignore", "sub/lib.c", "sub/new.c"]);
        assert_eq!(hidden(&snapshot), [".git", "nested/.git", "sub/.git", "sub/x.o"]);
        assert_eq!(w.take().tree, snapshot.tree);
    }

    #[test]
    fn a_folder_of_a_repository_is_a_view_of_its_own() {
        let w = world(&[("svc/a", "1"), ("other", "2"), (".gitignore", "*.tmp")]);
        write(w.root(), &[("svc/x.tmp", "3")]);
        let snapshot = Snapshot::take(&w.root().join("svc"), &w.index()).expect("snapshot");
        assert_eq!((shown(&snapshot), hidden(&snapshot)), (vec!["a".to_string()], vec!["x.tmp"]));
    }

    #[test]
    fn outside_of_git_gitignore_counts_too() {
        let dir = tempfile::tempdir().expect("folder");
        write(dir.path(), &[("a", "1"), (".hidden", "2"), ("x.log", "3"), ("sub/y.log", "4"), ("sub/b", "5")]);
        write(dir.path(), &[(".gitignore", "*.log\n"), (".ignore", "a\n")]);
        let snapshot = Snapshot::take(dir.path(), &dir.path().join("../no-such/index")).expect("snapshot");
        assert_eq!(shown(&snapshot), [".gitignore", ".hidden", ".ignore", "a", "sub/b"]);
        assert_eq!(hidden(&snapshot), ["sub/y.log", "x.log"]);
        rustix::fs::mknodat(CWD, dir.path().join("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("pipe");
        let error = Snapshot::take(dir.path(), Path::new("/proc/no/index")).expect_err("a pipe").to_string();
        assert!(error.ends_with("/pipe is a named pipe; ignore it or remove it"), "{error}");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_an_error_unless_ignored() {
        use std::os::unix::ffi::OsStrExt;
        let w = world(&[("a", "1")]);
        fs::write(w.root().join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").expect("file");
        let error = Snapshot::take(w.root(), &w.index()).expect_err("not UTF-8").to_string();
        assert!(error.ends_with("its name is not UTF-8; rename it or ignore it"), "{error}");
        write(w.root(), &[(".git/info/exclude", "caf*\n")]);
        assert_eq!(w.take().hidden.len(), 2);
    }

    #[test]
    fn what_git_says_is_said() {
        let dir = tempfile::tempdir().expect("folder");
        write(dir.path(), &[(".git/config", "garbage")]);
        let error = Snapshot::take(dir.path(), &dir.path().join("index")).expect_err("no repository").to_string();
        assert!(error.starts_with("cannot list the files of /") && error.contains("git says: fatal"), "{error}");
    }

    #[test]
    fn changes_since_are_those_of_content() {
        let w = world(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        symlink("a", w.root().join("l")).expect("link");
        let snapshot = w.take();
        assert!(snapshot.changed_since().is_empty());
        fs::hard_link(w.root().join("a"), w.root().join("linked")).expect("link");
        fs::write(w.root().join("b"), "9").expect("file");
        fs::remove_file(w.root().join("c")).expect("remove");
        fs::remove_file(w.root().join("l")).expect("remove");
        symlink("b", w.root().join("l")).expect("link");
        assert_eq!(snapshot.changed_since(), ["b", "c", "l"].map(PathBuf::from));
        assert_eq!(snapshot.new_since(), ["linked"].map(PathBuf::from));
    }

    #[test]
    fn of_a_commit_that_lies_still_all_files_are_in_view_ignored_or_not() {
        let dir = tempfile::tempdir().expect("folder");
        write(dir.path(), &[("a", "1"), ("x.log", "2"), ("sub/b", "3"), (".gitignore", "*.log"), ("left", "4")]);
        let paths = ["a", "x.log", "sub/b", ".gitignore", "gone"].map(String::from).to_vec();
        let snapshot = Snapshot::of_still(dir.path(), paths).expect("snapshot");
        assert_eq!(shown(&snapshot), [".gitignore", "a", "sub/b", "x.log"]);
        assert_eq!(hidden(&snapshot), ["left"]);
        assert!(snapshot.changed_since().is_empty() && snapshot.new_since().is_empty());
    }

    #[test]
    fn a_hash_is_of_names_and_content_that_the_patterns_take_in() {
        let w = world(&[("go.sum", "1"), ("x/go.sum", "2"), ("main.go", "3")]);
        let hash = |snapshot: &Snapshot, globs: &[&str]| {
            snapshot.hash_of(&globs.iter().map(|glob| glob.to_string()).collect::<Vec<_>>())
        };
        let (sums, one) = (hash(&w.take(), &["go.sum"]), hash(&w.take(), &["/go.sum"]));
        assert_eq!(sums.len(), 64);
        assert_ne!(sums, one);
        write(w.root(), &[("main.go", "9")]);
        assert_eq!(hash(&w.take(), &["go.sum"]), sums);
        write(w.root(), &[("x/go.sum", "9")]);
        assert_ne!(hash(&w.take(), &["go.sum"]), sums);
        assert_eq!(hash(&w.take(), &["/go.sum"]), one);
        assert_eq!(hash(&w.take(), &["[bad"]), hash(&w.take(), &["no-such-file"]));
    }

    #[test]
    fn what_inputs_leave_out_is_hidden_in_whole_folders() {
        let w =
            world(&[("svc/a/x", "1"), ("svc/a/y", "2"), ("svc/b/deep/z", "3"), ("docs/d", "4"), (".gitignore", "*.o")]);
        write(w.root(), &[("svc/a/x.o", "5"), ("docs/d.o", "6")]);
        let snapshot = w.take();
        let inputs = GlobList(vec![Glob::parse("svc/a/x").expect("pattern")]);
        let left = snapshot.hidden_but(&snapshot.tree.filter(&inputs));
        let left: Vec<&str> = left.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        assert_eq!(left, [".gitignore", "docs", "svc/a/y", "svc/b", ".git", "svc/a/x.o"]);
    }
}
