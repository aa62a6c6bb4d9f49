//! One path of the repository: what stands there, and the digest of a file that holds still.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use model::Digest;

use super::SnapshotError;
use crate::disk::open_regular;
use crate::store::hash_all;

/// How often a file that changes meanwhile is read.
const TRIES: u32 = 3;

/// What tells that a file was not written since. The change time is among it because a program can set the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) inode: u64,
    pub(super) mode: u32,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    File(Stat),
    Symlink(Stat, String),
    /// A repository within the repository.
    Dir,
    /// Nothing: tracked, but deleted.
    Absent,
}

impl Stat {
    pub(super) fn of(meta: &Metadata) -> Stat {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Stat {
            size: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            mode: meta.mode(),
        }
    }
    pub(super) fn executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

pub(super) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { act, path: path.to_path_buf(), source }
}

/// Looks at a path below `root` without following a link at its end.
pub(super) fn look(root: &Path, path: &str) -> Result<Looked, SnapshotError> {
    let path = root.join(path);
    let meta = match fs::symlink_metadata(&path) {
        Err(error) if is_absent(&error) => return Ok(Looked::Absent),
        looked => looked.map_err(io_error("look at", &path))?,
    };
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(Looked::File(Stat::of(&meta)));
    }
    if kind.is_dir() {
        return Ok(Looked::Dir);
    }
    if kind.is_symlink() {
        let target = fs::read_link(&path).map_err(io_error("read link", &path))?;
        let target = target.into_os_string().into_string();
        return Ok(Looked::Symlink(Stat::of(&meta), target.map_err(|_| SnapshotError::NotUtf8(path))?));
    }
    let what = match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a named pipe",
        () => "a device",
    };
    Err(SnapshotError::Special { path, what })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Digest of a file that was the same before and after reading it; `None` if it is gone.
pub(super) fn hash_file(path: &Path) -> Result<Option<(Digest, Stat)>, SnapshotError> {
    hash_still(path, || {})
}

/// `meanwhile` is called after each reading; tests write there.
fn hash_still(path: &Path, mut meanwhile: impl FnMut()) -> Result<Option<(Digest, Stat)>, SnapshotError> {
    for _ in 0..TRIES {
        let (mut file, meta) = match open_regular(path) {
            Err(error) if is_absent(&error) => return Ok(None),
            opened => opened.map_err(io_error("open", path))?,
        };
        let before = Stat::of(&meta);
        let digest = hash_all(&mut file, meta.len(), |_| Ok(())).map_err(io_error("read", path))?;
        meanwhile();
        let after = Stat::of(&file.metadata().map_err(io_error("look at", path))?);
        if before == after && digest.size == after.size {
            return Ok(Some((digest, after)));
        }
    }
    Err(SnapshotError::Changing { path: path.to_path_buf(), tries: TRIES })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again_and_at_last_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("log");
        fs::write(&path, "1").expect("file");
        let append = || fs::File::options().append(true).open(&path).expect("file").write_all(b"x").expect("write");
        let mut times = 0;
        let (digest, _) = hash_still(&path, || {
            times += 1;
            if times < 3 {
                append();
            }
        })
        .expect("the third time it holds still")
        .expect("it is there");
        assert_eq!(digest, crate::Store::digest_of(b"1xx"));
        let error = hash_still(&path, append).expect_err("never still").to_string();
        assert!(
            error.ends_with("log changed each of the 3 times it was read; stop what writes it, or ignore it"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_vanishes_is_absent() {
        let dir = tempfile::tempdir().expect("folder");
        assert_eq!(hash_file(&dir.path().join("gone")).expect("no error"), None);
        assert_eq!(look(dir.path(), "gone").expect("no error"), Looked::Absent);
    }
}
