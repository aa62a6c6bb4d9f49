//! From a directory to a layer.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use model::GlobList;

use super::restore::{OPAQUE_NAMES, REDIRECT_NAMES};
use super::{Captured, LAYER_BYTES_MAX, LAYER_ENTRIES_MAX, Layer, LayerEntry, LayerError, LayerKind};
use crate::disk::{io_error, on_all_cores};
use crate::store::mtime_of;
use crate::tree::{TREE_DEPTH_MAX, path_order};
use crate::{Store, Tree, TreeEntry};

/// Notes of one layer; the rest is counted.
const NOTES_MAX: usize = 20;

/// Reads an overlay's upper directory into a layer and its files into the store, by hard link: the directory is ours
/// and nobody writes it any more. Only what `outputs` takes in. File modes become 0644 or 0755.
///
/// # Errors
/// A name that is not UTF-8; the file system or the store refuses.
pub fn capture(upper: &Path, outputs: Option<&GlobList>, store: &Store) -> Result<Captured, LayerError> {
    let mut walk = Walk::new(outputs, true);
    walk.dir(upper, "", 0)?;
    walk.finish(|file| store_file(file, store).map(Some))
}

/// Reads a plain directory that held `before` into the layer that makes the one of the other. The directory is ours,
/// as in [`capture`].
///
/// # Errors
/// As in [`capture`].
pub fn capture_diff(
    dir: &Path,
    before: &Tree,
    outputs: Option<&GlobList>,
    store: &Store,
) -> Result<Captured, LayerError> {
    let mut walk = Walk::new(outputs, false);
    walk.dir(dir, "", 0)?;
    walk.entries.retain(|entry| match (&entry.kind, before.get(&entry.path)) {
        (LayerKind::Symlink { target }, Some(TreeEntry::Symlink { target: old })) => **target != *old,
        (LayerKind::Dir, Some(TreeEntry::Dir)) => false,
        _ => true,
    });
    walk.delete_missing(before);
    walk.whole = false;
    walk.finish(|file| {
        let digest = Store::digest_of_file(&file.from)?;
        let executable = file.meta.mode() & 0o100 != 0;
        let same = before.get(&file.path) == Some(TreeEntry::File { digest, executable });
        if same { Ok(None) } else { store_file(file, store).map(Some) }
    })
}

fn store_file(file: &FoundFile, store: &Store) -> Result<LayerKind, LayerError> {
    let digest = store.put_file(&file.from, true)?;
    Ok(LayerKind::File { digest, executable: file.meta.mode() & 0o100 != 0, mtime_ns: mtime_of(&file.meta) })
}

struct FoundFile {
    path: String,
    from: PathBuf,
    meta: Metadata,
}

/// What a walk found: everything but the files is final, files are still to be hashed.
struct Walk<'a> {
    outputs: Option<&'a GlobList>,
    /// An overlay's upper directory: whiteouts and opaque directories mean something.
    overlay: bool,
    entries: Vec<LayerEntry>,
    files: Vec<FoundFile>,
    /// All that exists, kept or not.
    seen: HashSet<String>,
    whole: bool,
    bytes: u64,
    notes: Vec<String>,
    notes_left_out: usize,
}

impl<'a> Walk<'a> {
    fn new(outputs: Option<&'a GlobList>, overlay: bool) -> Walk<'a> {
        Walk {
            outputs,
            overlay,
            entries: Vec::new(),
            files: Vec::new(),
            seen: HashSet::new(),
            whole: true,
            bytes: 0,
            notes: Vec::new(),
            notes_left_out: 0,
        }
    }

    fn dir(&mut self, dir: &Path, path: &str, depth: usize) -> Result<(), LayerError> {
        if depth > TREE_DEPTH_MAX {
            return Err(LayerError::TooLarge("256 directories within each other"));
        }
        for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
            let entry = entry.map_err(io_error("list", dir))?;
            let from = entry.path();
            let meta = entry.metadata().map_err(io_error("look at", &from))?;
            let Ok(name) = entry.file_name().into_string() else {
                // What nobody asked for may have any name.
                if self.outputs.is_some_and(|outputs| !outputs.matches(&format!("{path}/\u{fffd}"))) {
                    self.whole = false;
                    continue;
                }
                return Err(LayerError::NotUtf8(from));
            };
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(path, from, meta, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: String, from: PathBuf, meta: Metadata, depth: usize) -> Result<(), LayerError> {
        if self.entries.len() + self.files.len() >= LAYER_ENTRIES_MAX {
            return Err(LayerError::TooLarge("1,000,000 paths"));
        }
        if !self.overlay {
            self.seen.insert(path.clone());
        }
        let wanted = self.outputs.is_none_or(|outputs| outputs.matches(&path));
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.below(path, &from, &meta, wanted, depth);
        }
        if !wanted {
            self.whole = false;
        } else if kind.is_file() {
            if meta.mode() & 0o400 == 0 {
                let mode = fs::Permissions::from_mode(meta.mode() & 0o777 | 0o600);
                fs::set_permissions(&from, mode).map_err(io_error("make readable", &from))?;
            }
            self.bytes = self.bytes.saturating_add(meta.len());
            if self.bytes > LAYER_BYTES_MAX {
                return Err(LayerError::TooLarge("32 GiB in its files, holes included"));
            }
            self.files.push(FoundFile { path, from, meta });
        } else if kind.is_symlink() {
            self.symlink(path, &from)?;
        } else if self.overlay && kind.is_char_device() && meta.rdev() == 0 {
            self.entries.push(LayerEntry { path, kind: LayerKind::Whiteout });
        } else {
            self.whole = false;
            self.note(format!("{path} is {} and was not kept", special_name(&meta)));
        }
        Ok(())
    }

    fn below(
        &mut self,
        path: String,
        from: &Path,
        meta: &Metadata,
        wanted: bool,
        depth: usize,
    ) -> Result<(), LayerError> {
        if self.outputs.is_some_and(|outputs| !wanted && !outputs.may_match_below(&path)) {
            self.whole = false;
            return Ok(());
        }
        if meta.mode() & 0o700 != 0o700 {
            let mode = fs::Permissions::from_mode(meta.mode() & 0o777 | 0o700);
            fs::set_permissions(from, mode).map_err(io_error("make readable", from))?;
        }
        let opaque = self.overlay && is_opaque(from);
        if self.overlay && has_xattr(from, &REDIRECT_NAMES, b"") {
            return Err(LayerError::Redirected(from.to_path_buf()));
        }
        if wanted {
            let kind = if opaque { LayerKind::OpaqueDir } else { LayerKind::Dir };
            self.entries.push(LayerEntry { path: path.clone(), kind });
        } else if opaque {
            self.whole = false;
        }
        self.dir(from, &path, depth + 1)
    }

    fn symlink(&mut self, path: String, from: &Path) -> Result<(), LayerError> {
        let target = fs::read_link(from).map_err(io_error("read link", from))?;
        let Some(target) = target.to_str().map(str::to_string) else {
            return Err(LayerError::NotUtf8(from.to_path_buf()));
        };
        if self.outputs.is_some() && leaves_workspace(&path, &target) {
            self.note(format!(
                "{path} is a link to {target}, outside of the workspace; the link was kept, not the file"
            ));
        }
        self.entries.push(LayerEntry { path, kind: LayerKind::Symlink { target } });
        Ok(())
    }

    /// What the tree has and the directory has not, folders as a whole.
    fn delete_missing(&mut self, before: &Tree) {
        let mut gone: Option<String> = None;
        for (path, _) in before.entries() {
            let below = |dir: &String| path.strip_prefix(dir.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if self.seen.contains(&path) || gone.as_ref().is_some_and(below) {
                continue;
            }
            if self.outputs.is_none_or(|outputs| outputs.matches(&path)) {
                self.entries.push(LayerEntry { path: path.clone(), kind: LayerKind::Whiteout });
                gone = Some(path);
            }
        }
        // A file that became a directory was not deleted, and what is below a file that was a directory is implied.
        let files: HashSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let links: HashSet<String> = self
            .entries
            .iter()
            .filter(|e| matches!(e.kind, LayerKind::Symlink { .. }))
            .map(|e| e.path.clone())
            .collect();
        self.entries.retain(|entry| {
            entry.kind != LayerKind::Whiteout
                || !super::above(&entry.path).any(|dir| files.contains(dir) || links.contains(dir))
        });
    }

    /// Hashes and stores the files on all cores.
    fn finish(
        mut self,
        store: impl Fn(&FoundFile) -> Result<Option<LayerKind>, LayerError> + Sync,
    ) -> Result<Captured, LayerError> {
        let stored = on_all_cores(&self.files, store);
        for (file, kind) in self.files.into_iter().zip(stored) {
            if let Some(kind) = kind? {
                self.entries.push(LayerEntry { path: file.path, kind });
            }
        }
        self.entries.sort_by(|a, b| path_order(&a.path, &b.path));
        if self.notes_left_out > 0 {
            self.notes.push(format!("and {} more", self.notes_left_out));
        }
        Ok(Captured { layer: Layer { entries: self.entries }, whole: self.whole, notes: self.notes })
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.notes_left_out += 1;
        }
    }
}

/// Whether an overlay would show nothing of the directories below this one.
pub(crate) fn is_opaque(dir: &Path) -> bool {
    has_xattr(dir, &OPAQUE_NAMES, b"y")
}

fn has_xattr(path: &Path, names: &[&str], value: &[u8]) -> bool {
    names.iter().any(|name| {
        let mut found = [0u8; 256];
        match rustix::fs::lgetxattr(path, *name, &mut found) {
            Ok(length) => value.is_empty() || found[..length] == *value,
            Err(error) => value.is_empty() && error == rustix::io::Errno::RANGE,
        }
    })
}

fn special_name(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a named pipe",
        () => "a device",
    }
}

fn leaves_workspace(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for segment in target.split('/') {
        match segment {
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn world() -> (tempfile::TempDir, Store, PathBuf) {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let upper = dir.path().join("upper");
        fs::create_dir(&upper).expect("upper");
        (dir, store, upper)
    }

    fn globs(patterns: &[&str]) -> GlobList {
        GlobList(patterns.iter().map(|text| model::Glob::parse(text).expect("pattern")).collect())
    }

    fn shown(layer: &Layer) -> Vec<String> {
        let word = |kind: &LayerKind| match kind {
            LayerKind::File { executable: true, .. } => "run".to_string(),
            LayerKind::File { .. } => "file".to_string(),
            LayerKind::Symlink { target } => format!("-> {target}"),
            LayerKind::Dir => "dir".to_string(),
            LayerKind::Whiteout => "gone".to_string(),
            LayerKind::OpaqueDir => "new dir".to_string(),
        };
        layer.entries.iter().map(|entry| format!("{} {}", entry.path, word(&entry.kind))).collect()
    }

    #[test]
    fn what_was_written_is_kept_and_linked() {
        let (_dir, store, upper) = world();
        fs::create_dir(upper.join("bin")).expect("dir");
        fs::write(upper.join("bin/app"), "app").expect("file");
        fs::set_permissions(upper.join("bin/app"), fs::Permissions::from_mode(0o6775)).expect("mode");
        fs::write(upper.join("note"), "n").expect("file");
        fs::set_permissions(upper.join("note"), fs::Permissions::from_mode(0o000)).expect("mode");
        let captured = capture(&upper, None, &store).expect("capture");
        assert_eq!(shown(&captured.layer), ["bin dir", "bin/app run", "note file"]);
        assert!(captured.whole && captured.notes.is_empty());
        let modes = ["bin/app", "note"].map(|file| fs::metadata(upper.join(file)).expect("file").mode() & 0o7777);
        assert_eq!(modes, [0o755, 0o644], "no setuid; what is used in place looks as what is restored");
        assert_eq!(store.get(&Store::digest_of(b"app"), 9).expect("blob"), b"app");
    }

    #[test]
    fn outputs_narrow_the_layer() {
        let (_dir, store, upper) = world();
        fs::create_dir_all(upper.join("dist/js")).expect("dir");
        fs::create_dir(upper.join("node_modules")).expect("dir");
        fs::write(upper.join("dist/js/a.js"), "a").expect("file");
        fs::write(upper.join("dist/js/a.map"), "m").expect("file");
        fs::write(upper.join("node_modules/x"), "x").expect("file");
        let captured = capture(&upper, Some(&globs(&["dist/**", "!*.map"])), &store).expect("capture");
        assert_eq!(shown(&captured.layer), ["dist/js dir", "dist/js/a.js file"]);
        assert!(!captured.whole);
        assert!(!store.has(&Store::digest_of(b"x")), "what is not wanted is not even hashed");
    }

    #[test]
    fn links_stay_links_and_are_never_followed() {
        let (_dir, store, upper) = world();
        symlink("/etc/passwd", upper.join("abs")).expect("link");
        symlink("../../secret", upper.join("up")).expect("link");
        symlink("in/side", upper.join("in")).expect("link");
        let captured = capture(&upper, Some(&globs(&["*"])), &store).expect("capture");
        assert_eq!(shown(&captured.layer), ["abs -> /etc/passwd", "in -> in/side", "up -> ../../secret"]);
        let mut notes = captured.notes;
        notes.sort();
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[0], "abs is a link to /etc/passwd, outside of the workspace; the link was kept, not the file");
    }

    #[test]
    fn sockets_and_pipes_are_left_out_and_said() {
        let (_dir, store, upper) = world();
        let _socket = UnixListener::bind(upper.join("sock")).expect("socket");
        rustix::fs::mknodat(rustix::fs::CWD, upper.join("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
            .expect("pipe");
        let captured = capture(&upper, None, &store).expect("capture");
        let mut notes = captured.notes;
        notes.sort();
        assert_eq!(notes, ["pipe is a named pipe and was not kept", "sock is a socket and was not kept"]);
        assert!(captured.layer.entries.is_empty() && !captured.whole);
    }

    #[test]
    fn a_name_that_is_not_utf8_is_an_error_unless_nobody_wants_it() {
        use std::os::unix::ffi::OsStrExt;
        let (_dir, store, upper) = world();
        fs::write(upper.join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").expect("file");
        let error = capture(&upper, None, &store).expect_err("not UTF-8").to_string();
        assert!(error.contains("is not UTF-8; rename it, or leave it out with `outputs`"), "{error}");
        assert!(capture(&upper, Some(&globs(&["dist/**"])), &store).expect("capture").layer.entries.is_empty());
    }

    #[test]
    fn a_plain_directory_gives_the_difference() {
        let (_dir, store, upper) = world();
        let file = |text: &str| TreeEntry::File { digest: Store::digest_of(text.as_bytes()), executable: false };
        let before = Tree::from_entries([
            ("same", file("s")),
            ("changed", file("old")),
            ("gone/a", file("1")),
            ("gone/b", file("2")),
            ("was_dir/x", file("3")),
            ("was_file", file("4")),
        ])
        .expect("tree");
        fs::write(upper.join("same"), "s").expect("file");
        fs::write(upper.join("changed"), "new").expect("file");
        fs::write(upper.join("was_dir"), "now a file").expect("file");
        fs::create_dir(upper.join("was_file")).expect("dir");
        fs::write(upper.join("was_file/in"), "in").expect("file");
        let captured = capture_diff(&upper, &before, None, &store).expect("capture");
        assert_eq!(
            shown(&captured.layer),
            ["changed file", "gone gone", "was_dir file", "was_file dir", "was_file/in file"]
        );
        let after = before.overlay(&captured.layer);
        assert_eq!(after.get("gone"), None);
        assert_eq!(after.get("was_dir"), Some(file("now a file")));
        assert_eq!(after.get("was_file/in"), Some(file("in")));
        assert!(Layer::decode(&captured.layer.encode()).is_ok());
    }
}
