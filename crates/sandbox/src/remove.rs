//! Removing scratch trees that a step has written.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories that are held open at once. A deeper tree is first flattened: what lies at this depth is moved up to the
/// top under a number, so neither the stack nor the descriptors limit how deep a step may dig.
const OPEN_MAX: usize = 64;

/// Removes `path` and everything below it, without following symbolic links, whatever the modes of its directories and
/// however deep it is. It is not an error when `path` does not exist.
///
/// # Errors
/// The first thing that could not be removed; the rest of the tree is still attempted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_dir() => return std::fs::remove_file(path),
        Ok(_) => {}
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut removal = Removal { failed: None, moved: 0 };
    let top = open_dir(fs::CWD, &name)?;
    removal.empty(top)?;
    if let Some(error) = removal.failed {
        return Err(error);
    }
    fs::unlinkat(fs::CWD, &*name, AtFlags::REMOVEDIR)?;
    Ok(())
}

struct Removal {
    failed: Option<io::Error>,
    moved: u64,
}

/// A directory being emptied.
struct Level {
    dir: Dir,
    name: CString,
}

impl Removal {
    fn empty(&mut self, top: OwnedFd) -> io::Result<()> {
        let mut levels = vec![Level { dir: Dir::new(top)?, name: CString::default() }];
        while let Some(level) = levels.last_mut() {
            match level.dir.read() {
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_owned();
                    if name.as_c_str() != c"." && name.as_c_str() != c".." {
                        self.take(&mut levels, name, entry.file_type());
                    }
                }
                Some(Err(error)) => {
                    self.note(error.into());
                    self.leave(&mut levels);
                }
                None => self.leave(&mut levels),
            }
        }
        Ok(())
    }

    /// Removes one entry, or goes down into it.
    fn take(&mut self, levels: &mut Vec<Level>, name: CString, kind: FileType) {
        let Some(level) = levels.last() else { return };
        let result = match kind {
            FileType::Directory if levels.len() >= OPEN_MAX => return self.move_up(levels, &name),
            FileType::Directory => level.dir.fd().and_then(|fd| open_dir(fd, &name)).and_then(Dir::new).map(Some),
            FileType::Unknown => level.dir.fd().and_then(|fd| remove_or_open(fd, &name)),
            _ => level.dir.fd().and_then(|fd| fs::unlinkat(fd, &*name, AtFlags::empty())).map(|()| None),
        };
        match result {
            Ok(Some(dir)) => levels.push(Level { dir, name }),
            Ok(None) | Err(Errno::NOENT) => {}
            Err(errno) => self.note(errno.into()),
        }
    }

    /// Moves a directory from the deepest open level to the top, which reads it again later.
    fn move_up(&mut self, levels: &mut [Level], name: &CStr) {
        let [top, .., deepest] = levels else { return };
        self.moved += 1;
        let new = format!(".removing-{}-{}", std::process::id(), self.moved);
        let moved = deepest.dir.fd().and_then(|from| {
            // Renaming a directory writes its `..`, so it must be writable itself.
            let _ = fs::chmodat(from, name, Mode::RWXU, AtFlags::empty());
            top.dir.fd().and_then(|to| fs::renameat(from, name, to, &*new))
        });
        match moved {
            Ok(()) => top.dir.rewind(),
            Err(errno) => self.note(errno.into()),
        }
    }

    /// The last level is empty: removes it from its parent.
    fn leave(&mut self, levels: &mut Vec<Level>) {
        let Some(done) = levels.pop() else { return };
        let Some(parent) = levels.last() else { return };
        let removed = parent.dir.fd().and_then(|fd| fs::unlinkat(fd, &*done.name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => self.note(errno.into()),
        }
    }

    fn note(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }
}

fn remove_or_open(parent: impl std::os::fd::AsFd, name: &CStr) -> Result<Option<Dir>, Errno> {
    match fs::unlinkat(parent.as_fd(), name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => open_dir(parent, name).and_then(Dir::new).map(Some),
        result => result.map(|()| None),
    }
}

/// Opens a directory to empty it, making it readable and writable when it is not: overlay's work directory has no
/// permissions at all, and module caches are read-only.
fn open_dir(parent: impl std::os::fd::AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = fs::openat(parent.as_fd(), name, flags, Mode::empty());
    let dir = match opened {
        Err(Errno::ACCESS) => {
            // No link can be meant: we come here only for what is not one.
            fs::chmodat(parent.as_fd(), name, Mode::RWXU, AtFlags::empty())?;
            fs::openat(parent.as_fd(), name, flags, Mode::empty())?
        }
        result => result?,
    };
    if !Mode::from_raw_mode(fs::fstat(&dir)?.st_mode).contains(Mode::RWXU) {
        // Not ours to change, perhaps; then removing what is in it says why not.
        let _ = fs::fchmod(&dir, Mode::RWXU);
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("the temporary folder is writable")
    }

    #[test]
    fn a_tree_that_is_not_there_is_removed() {
        let dir = folder();
        remove_tree(&dir.path().join("nothing")).expect("is no error");
    }

    #[test]
    fn read_only_and_unreadable_directories_go() {
        let dir = folder();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).expect("made");
        std::fs::write(tree.join("a/b/file"), "x").expect("made");
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o555)).expect("set");
        std::fs::set_permissions(tree.join("a"), std::fs::Permissions::from_mode(0o000)).expect("set");
        remove_tree(&tree).expect("all of it is ours");
        assert!(!tree.exists());
    }

    #[test]
    fn what_a_link_points_to_stays() {
        let dir = folder();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        std::fs::create_dir_all(&tree).expect("made");
        std::fs::create_dir_all(&kept).expect("made");
        std::fs::write(kept.join("file"), "x").expect("made");
        symlink(&kept, tree.join("link")).expect("made");
        remove_tree(&tree).expect("all of it is ours");
        assert!(kept.join("file").exists() && !tree.exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let dir = folder();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).expect("made");
        let mut at = fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            fs::mkdirat(&at, "deeper", Mode::RWXU).expect("made");
            at = fs::openat(&at, "deeper", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
        drop(at);
        remove_tree(&tree).expect("all of it is ours");
        assert!(!tree.exists());
    }
}
