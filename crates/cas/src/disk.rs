//! What the modules do to the disk in one and the same way: whole files or none, checksummed files, work on all cores.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::StoreError;

/// Times of use are written again only when they are older than this, and garbage collection allows for as much.
pub(crate) const RENEW_AFTER: Duration = Duration::from_secs(60);

/// Finishes an error of the file system: what was tried, on what.
pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { act, path: path.to_path_buf(), source }
}

/// A name that no other process uses, even one in another pid namespace on the same folder.
pub(crate) fn fresh_name() -> String {
    static CHANCE: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let chance = CHANCE.get_or_init(|| RandomState::new().hash_one(SystemTime::now()));
    format!("{}-{:x}-{}", std::process::id(), chance, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a new file for writing; its mode is exactly `mode`, whatever the umask.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// Opens a regular file for reading; never follows a link, never waits for a pipe.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, fs::Metadata)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, meta))
}

/// Puts `bytes` at `to` so that a reader sees all of them or what was there before. Makes `to`'s folder.
pub(crate) fn write_atomically(tmp_dir: &Path, to: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let tmp = tmp_dir.join(fresh_name());
    let written = create_new(&tmp, 0o644).and_then(|mut file| file.write_all(bytes));
    written.map_err(io_error("write", &tmp)).and_then(|()| rename_into(&tmp, to)).inspect_err(|_| {
        let _ = fs::remove_file(&tmp);
    })
}

/// Renames, making the target's folder if it is not there yet.
pub(crate) fn rename_into(from: &Path, to: &Path) -> Result<(), StoreError> {
    with_parent(to, || fs::rename(from, to)).map_err(io_error("write", to))
}

/// Does something that makes `path`, and once more after making its folder if that was missing.
pub(crate) fn with_parent<T>(path: &Path, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            act()
        }
        done => done,
    }
}

/// At most `bytes_max` of a file; `None` if it is absent, unreadable or longer.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let (file, meta) = open_regular(path).ok()?;
    if meta.len() > bytes_max {
        return None;
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.take(bytes_max + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= bytes_max).then_some(bytes)
}

/// `magic`, SHA-256 of `body`, `body`.
pub(crate) fn seal(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(40 + body.len());
    sealed.extend_from_slice(magic);
    sealed.extend_from_slice(&Sha256::digest(body));
    sealed.extend_from_slice(body);
    sealed
}

/// What [`seal`] sealed; `None` if a single bit is otherwise.
pub(crate) fn unseal<'a>(magic: &[u8; 8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (head, body) = sealed.split_at_checked(40)?;
    (head[..8] == magic[..] && head[8..] == Sha256::digest(body)[..]).then_some(body)
}

/// Marks a file as used now, unless it was only just.
pub(crate) fn renew_modified(file: &File, meta: &fs::Metadata) {
    let now = SystemTime::now();
    let fresh = meta.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age < RENEW_AFTER));
    if !fresh {
        // Failing costs at most an earlier eviction.
        let _ = file.set_modified(now);
    }
}

/// Removes a folder and everything in it, also what a step made unreadable. A folder that is not there is removed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Everything below a folder that is not a folder, with its `lstat`; what vanishes meanwhile is left out.
pub(crate) fn files_below(dir: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                Ok(meta) => files.push((entry.path(), meta)),
                Err(_) => {}
            }
        }
    }
    files
}

/// `f` of every item, in order, on all cores. Hashing and copying are what this crate spends its time with, and they
/// are independent of each other, hence threads; a few items are not worth starting any.
pub(crate) fn on_all_cores<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    on_cores(cores(), items, f)
}

/// As [`on_all_cores`], on at most `threads`.
pub(crate) fn on_cores<T: Sync, R: Send>(threads: usize, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const WORTH_A_THREAD: usize = 4;
    let threads = threads.min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        return items.iter().map(f).collect();
    }
    // Blocks keep neighbours (one directory's files) together and the counter cool.
    let block = (items.len() / (threads * 8)).clamp(1, 256);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(block, Ordering::Relaxed);
            if start >= items.len() {
                return done;
            }
            let part = &items[start..items.len().min(start + block)];
            done.push((start, part.iter().map(&f).collect::<Vec<R>>()));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parts = work();
        for other in others {
            match other.join() {
                Ok(part) => parts.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parts
    });
    parts.sort_by_key(|(start, _)| *start);
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_all_cores_keeps_the_order() {
        let items: Vec<u32> = (0..10_000).collect();
        assert_eq!(on_cores(4, &items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(on_all_cores(&[] as &[u32], |n| *n), Vec::<u32>::new());
    }

    #[test]
    fn a_sealed_file_shows_every_flipped_bit() {
        let sealed = seal(b"PACETEST", b"body");
        assert_eq!(unseal(b"PACETEST", &sealed), Some(&b"body"[..]));
        for at in 0..sealed.len() {
            let mut torn = sealed.clone();
            torn[at] ^= 1;
            assert_eq!(unseal(b"PACETEST", &torn), None, "byte {at}");
            assert_eq!(unseal(b"PACETEST", &sealed[..at]), None, "cut at {at}");
        }
    }
}
