//! Blobs by digest on the local disk.
//!
//! Layout: `cas/ab/<hex>` (mode 0644) and, for executables, `cas/ab/<hex>.x` (mode 0755): a twin with an inode of its
//! own, because hard links share their mode. A blob is written to `tmp/` and renamed, so it is there as a whole or not
//! at all. It is not synced to the disk: after a power loss it may be torn, which its digest shows when it is read; it
//! is then moved to `damaged/` and counts as missing, and whoever wants it executes again. Syncing each small blob would
//! cost ten times its writing and buy nothing that the digest does not.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::Digest;
use sha2::{Digest as _, Sha256};

use crate::disk::{RENEW_AFTER, create_new, fresh_name, io_error, open_regular, rename_into, with_parent};

/// The local blob store. Cheap to clone; safe between threads and between processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A blob is not there.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// A blob's bytes are not what its name says. It has been moved out of the way.
    #[error("blob {0} is damaged; it was taken out of the store")]
    Damaged(Digest),
    /// A blob is larger than the reader can take.
    #[error("blob {digest} is larger than the {bytes_max} bytes that are allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The bound.
        bytes_max: usize,
    },
    /// The file system refused.
    #[error("cannot {act} {path}: {source}{}", advice(source))]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space, `pace cache gc` may help",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; make it writable or choose another cache folder"
        }
        _ => "",
    }
}

/// Bytes that are read, hashed and written at once: large enough that system calls do not count, small enough for a
/// thread's cache.
const BLOCK_BYTES: usize = 128 << 10;

/// SHA-256 of nothing; the blob that is always there.
const EMPTY_HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Store {
    /// Opens or makes the store below `root`.
    ///
    /// # Errors
    /// The folder cannot be made or is not writable.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        for folder in ["cas", "tmp", "damaged"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("make folder", &path))?;
            rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)
                .map_err(|errno| io_error("write in folder", &path)(errno.into()))?;
        }
        Ok(Store { root: root.to_path_buf() })
    }
    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Digest of bytes; stores nothing.
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest { hash: Sha256::digest(bytes).into(), size: bytes.len() as u64 }
    }
    /// Digest of a file's content; stores nothing. Reads in blocks, does not follow a link.
    ///
    /// # Errors
    /// It cannot be read, or is not a regular file.
    pub fn digest_of_file(path: &Path) -> Result<Digest, StoreError> {
        let (mut file, meta) = open_regular(path).map_err(io_error("open", path))?;
        hash_all(&mut file, meta.len(), |_| Ok(())).map_err(io_error("read", path))
    }
    /// Stores bytes.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Store::digest_of(bytes);
        if digest.size > 0 && !self.renew(&digest) {
            self.publish(&digest, false, |tmp| tmp.write_all(bytes))?;
        }
        Ok(digest)
    }
    /// Stores a file's content: by hard link when `own` (the caller will never write the file again; its mode becomes
    /// 0644 or 0755) and the file system allows it, else by copy. Does not follow a link.
    ///
    /// # Errors
    /// The file cannot be read, is not a regular file, or the file system refuses.
    pub fn put_file(&self, path: &Path, own: bool) -> Result<Digest, StoreError> {
        let (mut file, meta) = open_regular(path).map_err(io_error("open", path))?;
        let executable = meta.mode() & 0o100 != 0;
        if !own {
            return self.put_copy(path, &mut file, &meta, executable);
        }
        let digest = hash_all(&mut file, meta.len(), |_| Ok(())).map_err(io_error("read", path))?;
        set_mode(&file, &meta, executable).map_err(io_error("change the mode of", path))?;
        if digest.size == 0 || self.renew(&digest) {
            return Ok(digest);
        }
        let to = self.path(&digest, executable);
        match with_parent(&to, || fs::hard_link(path, &to)) {
            Ok(()) => Ok(digest),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.renew(&digest) => Ok(digest),
            // Another file system, too many links, links not allowed, or a torn blob in the way: a copy always works.
            Err(_) => {
                let (mut file, meta) = open_regular(path).map_err(io_error("open", path))?;
                self.put_copy(path, &mut file, &meta, executable)
            }
        }
    }
    /// Whether a blob is there (not whether it is undamaged).
    pub fn has(&self, digest: &Digest) -> bool {
        digest.size == 0 || self.find(digest, false).is_some()
    }
    /// A blob of at most `bytes_max`, verified.
    ///
    /// # Errors
    /// It is missing, damaged or too large.
    pub fn get(&self, digest: &Digest, bytes_max: usize) -> Result<Vec<u8>, StoreError> {
        if digest.size > bytes_max as u64 {
            return Err(StoreError::TooLarge { digest: *digest, bytes_max });
        }
        let mut bytes = Vec::with_capacity(digest.size as usize);
        self.read(digest, false, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }
    /// Puts a verified blob at `to`, which must not exist and which nobody writes in place: by hard link, else copy.
    ///
    /// # Errors
    /// It is missing or damaged, `to` exists, or the file system refuses.
    pub fn place(&self, digest: &Digest, executable: bool, to: &Path) -> Result<(), StoreError> {
        self.place_if(digest, executable, to, |_| true)
    }
    /// As [`Store::place`], and the file at `to` has this time of last change (nanoseconds since 1970-01-01 UTC).
    ///
    /// # Errors
    /// As in [`Store::place`].
    pub fn place_at(&self, digest: &Digest, executable: bool, mtime_ns: i64, to: &Path) -> Result<(), StoreError> {
        self.place_if(digest, executable, to, |meta| mtime_of(meta) == mtime_ns)?;
        let meta = fs::symlink_metadata(to).map_err(io_error("look at", to))?;
        if mtime_of(&meta) != mtime_ns {
            set_mtime(to, mtime_ns).map_err(io_error("set the time of", to))?;
        }
        Ok(())
    }
    /// As [`Store::place`], but always an own copy: for places where somebody may write.
    ///
    /// # Errors
    /// As in [`Store::place`].
    pub fn copy_to(&self, digest: &Digest, executable: bool, to: &Path) -> Result<(), StoreError> {
        self.place_if(digest, executable, to, |_| false)
    }

    /// Takes over the file at `path`, on the store's file system, whose bytes the caller has just hashed and will not
    /// write again: a large download is neither copied nor read a second time.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn adopt(&self, path: &Path, digest: &Digest) -> Result<(), StoreError> {
        if digest.size == 0 || self.renew(digest) {
            return fs::remove_file(path).map_err(io_error("remove", path));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(io_error("change the mode of", path))?;
        rename_into(path, &self.path(digest, false))
    }
    /// As [`Store::put`], in the form that a layer's file has: its mode, and its time of last change in nanoseconds since
    /// 1970-01-01 UTC. [`Store::place_at`] can then link it instead of copying it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn put_as(&self, bytes: &[u8], executable: bool, mtime_ns: i64) -> Result<Digest, StoreError> {
        let digest = Store::digest_of(bytes);
        if digest.size > 0 && !self.renew(&digest) {
            self.publish(&digest, executable, |tmp| {
                tmp.write_all(bytes)?;
                // Failing costs a copy later.
                let _ = time_of(mtime_ns).map(|time| tmp.set_modified(time));
                Ok(())
            })?;
        }
        Ok(digest)
    }
    /// As [`Store::adopt`], in the form that a layer's file has: see [`Store::put_as`].
    ///
    /// # Errors
    /// The file system refuses.
    pub fn adopt_as(&self, path: &Path, digest: &Digest, executable: bool, mtime_ns: i64) -> Result<(), StoreError> {
        if digest.size == 0 || self.renew(digest) {
            return fs::remove_file(path).map_err(io_error("remove", path));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode(executable)))
            .and_then(|()| set_mtime(path, mtime_ns))
            .map_err(io_error("change the mode and time of", path))?;
        rename_into(path, &self.path(digest, executable))
    }
    /// A blob as a stream. Whoever reads it hashes it, and calls [`Store::reject`] when its bytes are not the right ones.
    ///
    /// # Errors
    /// It is missing, or the file system refuses.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let (path, _) = self.find(digest, false).ok_or(StoreError::Missing(*digest))?;
        open_regular(&path).map(|(file, _)| file).map_err(io_error("open", &path))
    }
    /// Where a blob lies, for readers only; `None` if it is not there.
    pub fn path_of(&self, digest: &Digest) -> Option<PathBuf> {
        self.find(digest, false).map(|(path, _)| path)
    }
    /// Takes a blob out of the store whose bytes turned out to be wrong.
    pub fn reject(&self, digest: &Digest) {
        if let Some((path, _)) = self.find(digest, false) {
            self.take_out(&path);
        }
    }

    pub(crate) fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn path(&self, digest: &Digest, executable: bool) -> PathBuf {
        let hex = digest.hex();
        self.root.join("cas").join(&hex[..2]).join(if executable { hex + ".x" } else { hex })
    }

    /// Where a blob is, rather the executable twin or rather the other. One with a wrong length is torn, hence absent.
    fn find(&self, digest: &Digest, executable: bool) -> Option<(PathBuf, fs::Metadata)> {
        [executable, !executable].into_iter().find_map(|twin| {
            let path = self.path(digest, twin);
            let meta = fs::symlink_metadata(&path).ok()?;
            (meta.is_file() && meta.len() == digest.size).then_some((path, meta))
        })
    }

    /// Whether a blob is there already; marks it as put now. The mark is its change time (a `chmod` to the mode it
    /// has), because its modification time is what layers remember of their files.
    fn renew(&self, digest: &Digest) -> bool {
        let Some((path, meta)) = self.find(digest, false) else { return false };
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(meta.ctime().max(0) as u64);
        if changed.elapsed().is_ok_and(|age| age > RENEW_AFTER / 2) {
            let _ = fs::set_permissions(&path, meta.permissions());
        }
        true
    }

    fn publish(
        &self,
        digest: &Digest,
        executable: bool,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let tmp = self.tmp_dir().join(fresh_name());
        create_new(&tmp, mode(executable))
            .and_then(|mut file| write(&mut file))
            .map_err(io_error("write", &tmp))
            .and_then(|()| rename_into(&tmp, &self.path(digest, executable)))
            .inspect_err(|_| {
                let _ = fs::remove_file(&tmp);
            })
    }

    /// Hashes what it copies, so that a file that changes meanwhile still makes a blob with the right name.
    fn put_copy(
        &self,
        path: &Path,
        file: &mut File,
        meta: &fs::Metadata,
        executable: bool,
    ) -> Result<Digest, StoreError> {
        let tmp = self.tmp_dir().join(fresh_name());
        let mut copy = create_new(&tmp, mode(executable)).map_err(io_error("write", &tmp))?;
        let copied = hash_all(file, meta.len(), |part| copy.write_all(part)).and_then(|digest| {
            copy.set_modified(meta.modified()?)?;
            Ok(digest)
        });
        let stored = copied.map_err(io_error("copy into the store", path)).and_then(|digest| {
            if digest.size > 0 && !self.renew(&digest) {
                rename_into(&tmp, &self.path(&digest, executable))?;
            }
            Ok(digest)
        });
        let _ = fs::remove_file(&tmp);
        stored
    }

    /// Hands a blob's bytes on, and fails at the end if they were not the right ones.
    fn read(
        &self,
        digest: &Digest,
        executable: bool,
        part: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        if digest.size == 0 {
            return if digest.hex() == EMPTY_HEX { Ok(()) } else { Err(StoreError::Missing(*digest)) };
        }
        let (path, _) = self.find(digest, executable).ok_or(StoreError::Missing(*digest))?;
        let (mut file, meta) = match open_regular(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(*digest)),
            opened => opened.map_err(io_error("open", &path))?,
        };
        if hash_all(&mut file, meta.len(), part).map_err(io_error("read", &path))? != *digest {
            self.take_out(&path);
            return Err(StoreError::Damaged(*digest));
        }
        Ok(())
    }

    fn place_if(
        &self,
        digest: &Digest,
        executable: bool,
        to: &Path,
        link_when: impl Fn(&fs::Metadata) -> bool,
    ) -> Result<(), StoreError> {
        if let Some((path, meta)) = self.find(digest, executable)
            && digest.size > 0
            && (meta.mode() & 0o100 != 0) == executable
            && link_when(&meta)
        {
            self.read(digest, executable, |_| Ok(()))?;
            match fs::hard_link(&path, to) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(io_error("write", to)(error)),
                Err(_) => {}
            }
        }
        let mut copy = create_new(to, mode(executable)).map_err(io_error("write", to))?;
        let copied = self.read(digest, executable, |part| copy.write_all(part));
        copied.inspect_err(|_| {
            let _ = fs::remove_file(to);
        })
    }

    /// Moves a damaged blob to where a person can look at it and nobody else will find it.
    pub(crate) fn take_out(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = self.root.join("damaged").join(format!("{name}-{}", fresh_name()));
        if fs::rename(path, aside).is_err() {
            let _ = fs::remove_file(path);
        }
    }
}

fn time_of(mtime_ns: i64) -> Option<SystemTime> {
    let since = Duration::from_nanos(mtime_ns.unsigned_abs());
    match mtime_ns >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(since),
        false => SystemTime::UNIX_EPOCH.checked_sub(since),
    }
}

/// Time of last change of a file's content in nanoseconds since 1970-01-01 UTC.
pub(crate) fn mtime_of(meta: &fs::Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn set_mode(file: &File, meta: &fs::Metadata, executable: bool) -> io::Result<()> {
    if meta.mode() & 0o7777 == mode(executable) {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(mode(executable)))
}

fn set_mtime(path: &Path, mtime_ns: i64) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        },
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Hashes a file to its end in blocks, handing each one on; `expected` is only a hint for their size.
pub(crate) fn hash_all(
    file: &mut File,
    expected: u64,
    mut part: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut block = vec![0u8; usize::try_from(expected + 1).unwrap_or(BLOCK_BYTES).clamp(512, BLOCK_BYTES)];
    let mut hash = Sha256::new();
    let mut size = 0u64;
    loop {
        let read = match file.read(&mut block) {
            Ok(0) => return Ok(Digest { hash: hash.finalize().into(), size }),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&block[..read]);
        part(&block[..read])?;
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        (dir, store)
    }

    #[test]
    fn what_was_put_comes_back() {
        let (dir, store) = store();
        let digest = store.put(b"hello").expect("put");
        assert_eq!(digest.hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert!(store.has(&digest));
        assert_eq!(store.get(&digest, 5).expect("get"), b"hello");
        assert!(matches!(store.get(&digest, 4), Err(StoreError::TooLarge { .. })));
        let to = dir.path().join("placed");
        store.place(&digest, false, &to).expect("place");
        assert_eq!(fs::read(&to).expect("placed"), b"hello");
        assert!(store.place(&digest, false, &to).is_err(), "an existing file is not overwritten");
    }

    #[test]
    fn the_empty_blob_is_always_there() {
        let (dir, store) = store();
        let empty = Store::digest_of(b"");
        assert_eq!(empty.hex(), EMPTY_HEX);
        assert!(store.has(&empty));
        assert_eq!(store.get(&empty, 0).expect("get"), b"");
        store.place(&empty, true, &dir.path().join("e")).expect("place");
        assert_eq!(fs::metadata(dir.path().join("e")).expect("placed").mode() & 0o777, 0o755);
    }

    #[test]
    fn executables_have_an_inode_of_their_own() {
        let (dir, store) = store();
        let digest = store.put(b"#!/bin/sh\n").expect("put");
        let (plain, run) = (dir.path().join("plain"), dir.path().join("run"));
        store.place(&digest, false, &plain).expect("place");
        store.place(&digest, true, &run).expect("place");
        let mode = |path: &Path| fs::metadata(path).expect("placed").mode() & 0o7777;
        assert_eq!((mode(&plain), mode(&run)), (0o644, 0o755));
    }

    #[test]
    fn an_own_file_is_linked_and_any_other_copied() {
        let (dir, store) = store();
        let file = dir.path().join("file");
        fs::write(&file, "mine").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("chmod");
        let digest = store.put_file(&file, true).expect("put");
        let meta = fs::metadata(&file).expect("file");
        assert_eq!((meta.nlink(), meta.mode() & 0o7777), (2, 0o755), "linked, and no longer setuid");
        assert_eq!(store.get(&digest, 10).expect("get"), b"mine");
        let other = dir.path().join("other");
        fs::write(&other, "yours").expect("write");
        let digest = store.put_file(&other, false).expect("put");
        fs::write(&other, "YOURS").expect("write");
        assert_eq!(store.get(&digest, 10).expect("get"), b"yours");
    }

    #[test]
    fn a_damaged_blob_is_never_served_and_can_be_put_again() {
        let (dir, store) = store();
        let digest = store.put(b"precious").expect("put");
        let path = store.path(&digest, false);
        fs::write(&path, b"precioux").expect("damage");
        assert!(matches!(store.get(&digest, 100), Err(StoreError::Damaged(_))));
        assert!(matches!(store.get(&digest, 100), Err(StoreError::Missing(_))));
        store.put(b"precious").expect("put again");
        fs::write(&path, b"precioux").expect("damage");
        let to = dir.path().join("to");
        assert!(matches!(store.place(&digest, true, &to), Err(StoreError::Damaged(_))));
        assert!(!to.exists());
        assert_eq!(fs::read_dir(store.root.join("damaged")).expect("folder").count(), 2);
        store.put(b"precious").expect("put again");
        fs::write(&path, b"prec").expect("tear");
        assert!(!store.has(&digest), "a torn blob is absent");
        store.put(b"precious").expect("put over it");
        assert_eq!(store.get(&digest, 100).expect("healed"), b"precious");
    }

    #[test]
    fn a_placed_file_has_the_time_it_is_given() {
        let (dir, store) = store();
        let file = dir.path().join("file");
        fs::write(&file, "timed").expect("write");
        set_mtime(&file, 1_000_000_000_123_456_789).expect("time");
        let digest = store.put_file(&file, true).expect("put");
        for (name, mtime, links) in [("same", 1_000_000_000_123_456_789, 3), ("other", 5, 1)] {
            let to = dir.path().join(name);
            store.place_at(&digest, false, mtime, &to).expect("place");
            let meta = fs::metadata(&to).expect("placed");
            assert_eq!((mtime_of(&meta), meta.nlink()), (mtime, links), "{name}");
        }
        let meta = fs::metadata(&file).expect("file");
        assert_eq!(mtime_of(&meta), 1_000_000_000_123_456_789, "the blob keeps its own");
    }

    #[test]
    fn links_and_pipes_are_not_read() {
        let (dir, store) = store();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("link");
        assert!(store.put_file(&link, false).is_err() && Store::digest_of_file(&link).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("pipe");
        assert!(store.put_file(&pipe, true).is_err());
        assert!(store.put_file(dir.path(), true).is_err());
    }

    #[test]
    fn many_threads_may_put_the_same_blobs() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200u32 {
                        let digest = store.put(&n.to_le_bytes()).expect("put");
                        assert_eq!(store.get(&digest, 4).expect("get"), n.to_le_bytes());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("folder").count(), 0, "no litter");
    }

    #[test]
    fn errors_name_the_act_the_path_and_what_to_do() {
        let full = StoreError::Io {
            act: "write",
            path: "/c/tmp/1".into(),
            source: io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
        };
        assert_eq!(
            full.to_string(),
            "cannot write /c/tmp/1: No space left on device (os error 28); free some space, `pace cache gc` may help"
        );
        let file = tempfile::NamedTempFile::new().expect("file");
        let error = Store::open(file.path()).expect_err("a file is no folder").to_string();
        assert!(error.starts_with("cannot make folder /") && error.contains("/cas: "), "{error}");
    }

    #[test]
    fn a_file_that_was_hashed_already_is_taken_over_and_read_as_a_stream() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let path = dir.path().join("download");
        let digest = Store::digest_of(b"data");
        for _ in 0..2 {
            fs::write(&path, "data").expect("write");
            store.adopt(&path, &digest).expect("adopt");
            assert!(!path.exists());
        }
        let mut text = String::new();
        store.open_blob(&digest).expect("open").read_to_string(&mut text).expect("read");
        assert_eq!(text, "data");
        store.reject(&digest);
        assert!(!store.has(&digest) && matches!(store.open_blob(&digest), Err(StoreError::Missing(_))));
    }
}
