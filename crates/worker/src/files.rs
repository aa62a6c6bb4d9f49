//! Input files on the disk, each once: actions get hard links.

use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use blobs::{Blobs, Key};
use cache::execution::Fault;

use crate::failed;

/// What every input file was last changed at, 2000-01-01: tools write such times into archives, and results that differ
/// by the hour are of no use in a cache.
const CHANGED: Duration = Duration::from_secs(946_684_800);

/// Input files on the disk.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    bytes_max: u64,
    // One lock: it is held for no longer than a look into a map, or for the removal of what is too much.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<(Key, bool), u64>,
    bytes: u64,
    /// Counts uses, so that the oldest can be told.
    clock: u64,
}

impl Files {
    /// In an empty folder.
    pub(crate) fn new(folder: PathBuf, bytes_max: u64) -> Files {
        Files { folder, bytes_max, kept: Mutex::default() }
    }

    /// Puts a blob to `at`, where nothing is yet.
    ///
    /// # Errors
    /// The blob is missing, or the file system refuses.
    pub(crate) fn place(&self, blobs: &Blobs, key: Key, executable: bool, at: &Path) -> Result<(), Fault> {
        // What is large would push everything else out.
        if key.size > self.bytes_max / 8 {
            return write(blobs, &key, executable, at);
        }
        let kept = self.path(key, executable);
        match fs::hard_link(&kept, at) {
            Ok(()) => {
                self.used(key, executable);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It has as many names as the file system allows.
            Err(_) => return write(blobs, &key, executable, at),
        }
        write(blobs, &key, executable, at)?;
        // Another thread may have been faster, and then its file is as good.
        if fs::hard_link(at, &kept).is_ok() {
            self.made(key, executable);
        }
        Ok(())
    }

    fn path(&self, key: Key, executable: bool) -> PathBuf {
        let mode = if executable { "x" } else { "r" };
        self.folder.join(format!("{}-{}-{}-{mode}", key.function.word(), key.hex(), key.size))
    }

    fn used(&self, key: Key, executable: bool) {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        if let Some(used) = kept.files.get_mut(&(key, executable)) {
            *used = clock;
        }
    }

    fn made(&self, key: Key, executable: bool) {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        kept.files.insert((key, executable), clock);
        kept.bytes += key.size;
        if kept.bytes > self.bytes_max {
            self.make_room(&mut kept);
        }
    }

    /// The longest unused go until an eighth is free. Actions that have links to them keep them.
    fn make_room(&self, kept: &mut Kept) {
        let mut oldest: Vec<((Key, bool), u64)> = kept.files.iter().map(|(file, used)| (*file, *used)).collect();
        oldest.sort_by_key(|(_, used)| *used);
        for (file, _) in oldest {
            if kept.bytes <= self.bytes_max / 8 * 7 {
                break;
            }
            let _ = fs::remove_file(self.path(file.0, file.1));
            kept.files.remove(&file);
            kept.bytes = kept.bytes.saturating_sub(file.0.size);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is whole before anything can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(blobs: &Blobs, key: &Key, executable: bool, at: &Path) -> Result<(), Fault> {
    let mode = if executable { 0o555 } else { 0o444 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(at).map_err(failed("make the file", at))?;
    for part in blobs.reader(key, 0, None)? {
        file.write_all(&part?).map_err(failed("write", at))?;
    }
    // Whatever the caller's umask is.
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the mode of", at))?;
    file.set_modified(SystemTime::UNIX_EPOCH + CHANGED).map_err(failed("set the time of", at))
}
