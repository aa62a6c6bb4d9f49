//! The folders of an attempt, used again by a later one when nothing of it is left in them.
//!
//! Making a file costs a microsecond on one file system and a quarter of a millisecond on another (ext4 passes over
//! every inode that was freed in the last minutes), and most steps leave neither home nor workspace changed.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::halt::{Halt, io};
use crate::run::{Run, lock};

/// The folders of one attempt.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) path: PathBuf,
    /// What it writes in its workspace.
    pub(crate) upper: PathBuf,
    /// For the kernel's use beside `upper`.
    pub(crate) work: PathBuf,
}

impl Room {
    /// Takes one that is free, or makes one. `number` is no other room's in the run.
    pub(crate) fn take(run: &Run, number: u64) -> Result<Room, Halt> {
        if let Some(mut room) = lock(&run.rooms).pop() {
            if !room.upper.exists() {
                room.upper = room.path.join(format!("upper-{number}"));
                make(&room.upper)?;
            }
            return Ok(room);
        }
        let path = run.scratch.join(format!("room-{number}"));
        make(&path)?;
        Room::fresh(path)
    }

    /// The room that lies at `path`, with its upper directory of that name.
    pub(crate) fn at(path: PathBuf, upper: &str) -> Room {
        Room { upper: path.join(upper), work: path.join("work"), path }
    }

    /// A new one at `path`, an empty folder.
    pub(crate) fn fresh(path: PathBuf) -> Result<Room, Halt> {
        let room = Room::at(path, "upper");
        for part in [&room.upper, &room.work, &room.home(), &room.desk()] {
            make(part)?;
        }
        Ok(room)
    }

    /// What stands at `$HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.path.join("home")
    }
    /// What stands at [`crate::workspace::DESK`]: the script, and the file of values.
    pub(crate) fn desk(&self) -> PathBuf {
        self.path.join("desk")
    }
    /// What it writes beside workspace and home when it stands on an image.
    pub(crate) fn image_upper(&self) -> PathBuf {
        self.path.join("image")
    }
    pub(crate) fn script(&self) -> PathBuf {
        self.path.join("desk/script")
    }
    pub(crate) fn values(&self) -> PathBuf {
        self.path.join("desk/values")
    }

    /// Lays the script and an empty file for values on the desk.
    pub(crate) fn lay_desk(&self, script: &str) -> Result<(), Halt> {
        for (path, text) in [(self.script(), script), (self.values(), "")] {
            open_regular(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(io("write", &path))?;
        }
        Ok(())
    }

    /// Gives the room back to its run. `points` are the paths below home where something is mounted, with the
    /// directories on the way: nothing else may be there. A room in which anything is left is not used again, nor is
    /// an upper directory in which something was written; they go with the run.
    pub(crate) fn give_back(mut self, run: &Run, points: &BTreeSet<PathBuf>) {
        let known: BTreeSet<&str> = ["home", "desk", "work", "upper", "hosts", "resolv.conf"].into();
        let is_known = |name: &str| known.contains(name) || name.starts_with("upper-");
        if !holds_only(&self.path, is_known) || !self.desk_is_clean() || !is_bare(&self.home(), Path::new(""), points) {
            return;
        }
        // The mark of a volatile mount: with it the kernel refuses the directory a second time.
        if sandbox::remove_tree(&self.work.join("work")).is_err() || !holds_only(&self.work, |_| false) {
            return;
        }
        if !holds_only(&self.upper, |_| false) || !has_plain_mode(&self.upper) {
            self.upper = self.path.join("none");
        }
        lock(&run.rooms).push(self);
    }

    fn desk_is_clean(&self) -> bool {
        holds_only(&self.desk(), |name| matches!(name, "script" | "values"))
            && has_plain_mode(&self.desk())
            && [self.script(), self.values()]
                .iter()
                .all(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1))
    }
}

fn make(path: &Path) -> Result<(), Halt> {
    fs::create_dir(path).map_err(io("make the folder", path))
}

/// Opens for writing from the start, and never what a step may have put there instead.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)
}

fn holds_only(dir: &Path, is_known: impl Fn(&str) -> bool) -> bool {
    let Ok(mut entries) = fs::read_dir(dir) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(&is_known)))
}

/// The mode that a folder of ours has: nobody changed it.
fn has_plain_mode(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.mode() & 0o7700 == 0o700)
}

/// Whether only mount points are below `dir`: empty files and folders.
fn is_bare(home: &Path, below: &Path, points: &BTreeSet<PathBuf>) -> bool {
    let dir = home.join(below);
    let Ok(entries) = fs::read_dir(&dir) else { return false };
    has_plain_mode(&dir)
        && entries.flatten().all(|entry| {
            let path = below.join(entry.file_name());
            let Ok(meta) = entry.metadata() else { return false };
            points.contains(&path)
                && if meta.is_dir() { is_bare(home, &path, points) } else { meta.is_file() && meta.size() == 0 }
        })
}

/// The paths below `home` at which something is mounted, with the directories on the way.
pub(crate) fn mount_points<'a>(home: &Path, mounts: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let below = mounts.into_iter().filter_map(|path| path.strip_prefix(home).ok());
    let ways = below.flat_map(|path| path.ancestors().filter(|path| !path.as_os_str().is_empty()).map(PathBuf::from));
    ways.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn bare(home: &Path) -> bool {
        let points = mount_points(Path::new("/h"), &[PathBuf::from("/h/.cargo/bin"), PathBuf::from("/h/.npmrc")]);
        is_bare(home, Path::new(""), &points)
    }

    #[test]
    fn a_home_is_used_again_only_when_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path();
        fs::create_dir_all(home.join(".cargo/bin")).expect("mount point");
        fs::write(home.join(".npmrc"), "").expect("mount point");
        assert!(bare(home));
        for name in [".cargo/registry/", ".cargo/bin/tool", ".profile", "link@"] {
            let path = home.join(name.trim_end_matches(['/', '@']));
            match name.chars().last() {
                Some('/') => fs::create_dir(&path).expect("folder"),
                Some('@') => symlink("/etc", &path).expect("link"),
                _ => fs::write(&path, "x").expect("file"),
            }
            assert!(!bare(home), "{name}");
            sandbox::remove_tree(&path).expect("removed");
            assert!(bare(home), "{name}");
        }
        fs::set_permissions(home, fs::Permissions::from_mode(0o500)).expect("mode");
        assert!(!bare(home));
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("mode");
    }

    #[test]
    fn what_a_step_put_in_place_of_its_script_is_not_written_through() {
        let dir = tempfile::tempdir().expect("a folder");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "mine").expect("file");
        symlink(&target, &link).expect("link");
        assert!(open_regular(&link).is_err());
        assert_eq!(fs::read_to_string(&target).expect("file"), "mine");
    }
}
