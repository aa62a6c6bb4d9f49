//! Scratch folders and pins: what belongs to a living process, and is known to be litter when that process is gone.
//!
//! Life is an exclusive `flock` on a file: the kernel drops it when the process ends, however it ends, and no pid can
//! be mistaken for another one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::RunId;

use crate::StoreError;
use crate::disk::{fresh_name, io_error, remove_tree};

/// A folder of this process below the cache folder (so that renames and hard links into the store work). Removed when
/// dropped; swept by the next process if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    life: Life,
}

impl Scratch {
    /// Makes one, and sweeps those of processes that are gone (in the background: they may be large).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(root: &Path) -> Result<Scratch, StoreError> {
        let folder = root.join("scratch");
        let life = Life::begin(&folder)?;
        let path = life.path.with_extension("");
        fs::create_dir(&path).map_err(io_error("make folder", &path))?;
        let dead = dead(&folder);
        if !dead.is_empty() {
            std::thread::spawn(|| bury(dead));
        }
        Ok(Scratch { path, life })
    }
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Removes the scratch folders of processes that are gone; returns how many.
    pub fn sweep(root: &Path) -> usize {
        bury(dead(&root.join("scratch")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
        self.life.end();
    }
}

/// While it lives, garbage collection keeps everything that was put or used since it began. One per run.
#[derive(Debug)]
pub struct Pin {
    life: Life,
}

impl Pin {
    /// Begins to hold.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn hold(root: &Path, run: &RunId) -> Result<Pin, StoreError> {
        let life = Life::begin(&root.join("pins"))?;
        // For people who look into the folder; nothing reads it.
        let _ = fs::write(&life.path, run.as_str());
        Ok(Pin { life })
    }
    /// When the oldest living pin began; forgets dead ones.
    pub(crate) fn oldest(root: &Path) -> Option<SystemTime> {
        let folder = root.join("pins");
        bury(dead(&folder));
        locks_in(&folder).iter().filter_map(|lock| fs::metadata(lock).ok()?.modified().ok()).min()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.life.end();
    }
}

#[derive(Debug)]
struct Life {
    path: PathBuf,
    _lock: File,
}

impl Life {
    fn begin(folder: &Path) -> Result<Life, StoreError> {
        fs::create_dir_all(folder).map_err(io_error("make folder", folder))?;
        loop {
            let path = folder.join(fresh_name() + ".lock");
            let lock = OpenOptions::new().write(true).create_new(true).open(&path);
            let lock = lock.map_err(io_error("make", &path))?;
            // A sweeper may have come between making and locking; then the next name.
            if lock.try_lock().is_ok() && is_at(&lock, &path) {
                return Ok(Life { path, _lock: lock });
            }
        }
    }

    fn end(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    inode(file.metadata()) == inode(fs::symlink_metadata(path))
}

fn locks_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "lock")).collect()
}

/// The lock files that nobody holds. They are held from now on, so that two sweepers do not meet.
fn dead(folder: &Path) -> Vec<(PathBuf, File)> {
    let take = |path: PathBuf| {
        let file = OpenOptions::new().write(true).open(&path).ok()?;
        (file.try_lock().is_ok() && is_at(&file, &path)).then_some((path, file))
    };
    locks_in(folder).into_iter().filter_map(take).collect()
}

fn bury(dead: Vec<(PathBuf, File)>) -> usize {
    let count = dead.len();
    for (lock, _held) in dead {
        if remove_tree(&lock.with_extension("")).is_ok() {
            let _ = fs::remove_file(&lock);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_scratch_folder_goes_with_its_owner() {
        let root = tempfile::tempdir().expect("folder");
        let scratch = Scratch::open(root.path()).expect("scratch");
        let path = scratch.path().to_path_buf();
        let closed = path.join("work");
        fs::create_dir(&closed).expect("dir");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("mode");
        assert_eq!(Scratch::sweep(root.path()), 0, "the living are left alone");
        assert!(path.exists());
        drop(scratch);
        assert_eq!(fs::read_dir(root.path().join("scratch")).expect("folder").count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_swept() {
        let root = tempfile::tempdir().expect("folder");
        let folder = root.path().join("scratch");
        fs::create_dir_all(folder.join("77-dead-0/upper/x")).expect("dir");
        fs::write(folder.join("77-dead-0.lock"), "").expect("lock");
        let living = Scratch::open(root.path()).expect("scratch");
        // Opening sweeps in the background; whoever is first, in the end only the living one is there.
        let started = std::time::Instant::now();
        while folder.join("77-dead-0.lock").exists() {
            Scratch::sweep(root.path());
            assert!(started.elapsed().as_secs() < 20, "never swept");
        }
        assert!(!folder.join("77-dead-0").exists() && living.path().exists());
    }

    #[test]
    fn the_oldest_pin_counts_while_it_lives() {
        let root = tempfile::tempdir().expect("folder");
        assert_eq!(Pin::oldest(root.path()), None);
        let pin = Pin::hold(root.path(), &RunId::from("r1")).expect("pin");
        let first = Pin::oldest(root.path()).expect("a pin");
        let second = Pin::hold(root.path(), &RunId::from("r2")).expect("pin");
        assert_eq!(Pin::oldest(root.path()), Some(first));
        drop(pin);
        assert!(Pin::oldest(root.path()).expect("a pin") >= first);
        drop(second);
        assert_eq!(Pin::oldest(root.path()), None);
    }
}
