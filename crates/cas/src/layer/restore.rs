//! From a layer to a lower directory of an overlay.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::{Layer, LayerEntry, LayerError, LayerKind};
use crate::disk::{io_error, on_all_cores};
use crate::{Store, StoreError};

/// How an overlay marks a directory that hides what was in it before: with `userxattr`, and without.
pub(super) const OPAQUE_NAMES: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];
/// How an overlay marks a directory that was moved there.
pub(super) const REDIRECT_NAMES: [&str; 2] = ["user.overlay.redirect", "trusted.overlay.redirect"];

impl Layer {
    /// Makes a lower directory of an overlay in `dir`, which must be empty or absent: files from the store (verified),
    /// deletions as character devices 0:0 and hiding directories as `user.overlay.opaque` and, for root,
    /// `trusted.overlay.opaque`. Linux lets anybody make both since 5.8; where it does not, that is an error, because
    /// a layer without its deletions is another layer.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the file system refuses.
    pub fn restore(&self, store: &Store, dir: &Path) -> Result<(), LayerError> {
        fs::create_dir_all(dir).map_err(io_error("make folder", dir))?;
        let mut made: HashSet<PathBuf> = HashSet::from([dir.to_path_buf()]);
        let mut files = Vec::new();
        for entry in &self.entries {
            let to = dir.join(&entry.path);
            if let Some(parent) = to.parent()
                && made.insert(parent.to_path_buf())
            {
                fs::create_dir_all(parent).map_err(io_error("make folder", parent))?;
            }
            if matches!(entry.kind, LayerKind::File { .. }) {
                files.push((entry, to));
            } else {
                restore_marker(entry, &to)?;
                made.insert(to);
            }
        }
        let restored = on_all_cores(&files, |(entry, to)| restore_file(entry, to, store));
        Ok(restored.into_iter().collect::<Result<(), StoreError>>()?)
    }
}

fn restore_file(entry: &LayerEntry, to: &Path, store: &Store) -> Result<(), StoreError> {
    match &entry.kind {
        LayerKind::File { digest, executable, mtime_ns } => store.place_at(digest, *executable, *mtime_ns, to),
        _ => Ok(()),
    }
}

fn restore_marker(entry: &LayerEntry, to: &Path) -> Result<(), StoreError> {
    match &entry.kind {
        LayerKind::Dir => fs::create_dir_all(to).map_err(io_error("make folder", to)),
        LayerKind::OpaqueDir => {
            fs::create_dir_all(to).map_err(io_error("make folder", to))?;
            mark_opaque(to).map_err(io_error("mark as new", to))
        }
        LayerKind::Symlink { target } => symlink(target, to).map_err(io_error("make link", to)),
        LayerKind::Whiteout => make_whiteout(to).map_err(io_error("mark as deleted", to)),
        LayerKind::File { .. } => Ok(()),
    }
}

/// Makes what an overlay takes for "nothing is here".
///
/// # Errors
/// The file system or the kernel (before 5.8, for other users than root) refuses.
pub fn make_whiteout(path: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)?)
}

pub(crate) fn mark_opaque(dir: &Path) -> io::Result<()> {
    // One of the two is enough: which one counts is decided by whoever mounts.
    let [user, trusted] = OPAQUE_NAMES.map(|name| lsetxattr(dir, name, b"y", XattrFlags::empty()));
    Ok(user.or(trusted)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture;
    use crate::store::mtime_of;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_restored_layer_is_the_captured_one() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let upper = dir.path().join("upper");
        fs::create_dir_all(upper.join("new/sub")).expect("dir");
        fs::write(upper.join("new/sub/f"), "data").expect("file");
        fs::write(upper.join("empty"), "").expect("file");
        symlink("/nowhere", upper.join("link")).expect("link");
        make_whiteout(&upper.join("gone")).expect("whiteout");
        mark_opaque(&upper.join("new")).expect("opaque");
        let captured = capture(&upper, None, &store).expect("capture");
        assert!(captured.whole);
        let kinds: Vec<_> = captured.layer.entries.iter().map(|e| (e.path.as_str(), &e.kind)).collect();
        assert!(kinds.contains(&("gone", &LayerKind::Whiteout)) && kinds.contains(&("new", &LayerKind::OpaqueDir)));

        let lower = dir.path().join("lower");
        captured.layer.restore(&store, &lower).expect("restore");
        let again = capture(&lower, None, &store).expect("capture again");
        assert_eq!(again.layer, captured.layer, "times included");
        assert_eq!(fs::metadata(lower.join("new/sub/f")).expect("file").nlink(), 3, "by hard link");
        assert!(captured.layer.restore(&store, &lower).is_err(), "never over something");
    }

    #[test]
    fn a_file_with_another_time_is_copied_and_gets_its_time() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let digest = store.put(b"data").expect("put");
        let entry = LayerEntry {
            path: "f".into(),
            kind: LayerKind::File { digest, executable: true, mtime_ns: 1_500_000_000 },
        };
        let layer = Layer { entries: vec![entry] };
        layer.restore(&store, &dir.path().join("lower")).expect("restore");
        let meta = fs::metadata(dir.path().join("lower/f")).expect("file");
        assert_eq!((mtime_of(&meta), meta.nlink(), meta.mode() & 0o777), (1_500_000_000, 1, 0o755));
    }

    #[test]
    fn a_layer_with_a_damaged_or_missing_blob_is_not_restored() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let digest = Store::digest_of(b"never put");
        let entry = LayerEntry { path: "f".into(), kind: LayerKind::File { digest, executable: false, mtime_ns: 0 } };
        let result = Layer { entries: vec![entry] }.restore(&store, &dir.path().join("lower"));
        assert!(matches!(result, Err(LayerError::Store(StoreError::Missing(_)))));
        assert!(!dir.path().join("lower/f").exists());
    }
}
