//! What an action left in its workspace, as the action saw it: the upper layer over the inputs. No link is followed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    upper: Option<PathBuf>,
    lower: Option<PathBuf>,
}

/// What is at a path.
#[derive(Debug)]
pub(crate) enum Found {
    File {
        path: PathBuf,
        executable: bool,
    },
    Link(PathBuf),
    Directory(Directory),
    /// A pipe, a socket: nothing that could be handed on.
    Other,
}

impl Directory {
    /// The whole workspace.
    pub(crate) fn root(upper: PathBuf, lower: PathBuf) -> Directory {
        Directory { upper: Some(upper), lower: Some(lower) }
    }

    /// What is at a path of plain names; the empty one is this directory.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn at(self, path: &str) -> io::Result<Option<Found>> {
        let mut found = Found::Directory(self);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Found::Directory(directory) = found else { return Ok(None) };
            match directory.child(OsStr::new(name))? {
                Some(child) => found = child,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// What is under a name in it.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn child(&self, name: &OsStr) -> io::Result<Option<Found>> {
        let lower = self.lower.as_ref().map(|lower| lower.join(name));
        let Some(upper) = self.upper.as_ref().map(|upper| upper.join(name)) else {
            return below(lower);
        };
        match there(&upper)? {
            None => below(lower),
            Some(meta) if is_whiteout(&meta) => Ok(None),
            Some(meta) if meta.is_dir() => {
                readable(&upper, &meta)?;
                let hides = is_opaque(&upper);
                let is_dir = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
                let lower = lower.filter(|path| !hides && is_dir(path));
                Ok(Some(Found::Directory(Directory { upper: Some(upper), lower })))
            }
            Some(meta) => found(upper, &meta).map(Some),
        }
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for folder in self.upper.iter().chain(&self.lower) {
            for entry in fs::read_dir(folder)? {
                names.insert(entry?.file_name());
            }
        }
        Ok(names)
    }
}

fn below(path: Option<PathBuf>) -> io::Result<Option<Found>> {
    let Some(path) = path else { return Ok(None) };
    match there(&path)? {
        None => Ok(None),
        Some(meta) if meta.is_dir() => Ok(Some(Found::Directory(Directory { upper: None, lower: Some(path) }))),
        Some(meta) => found(path, &meta).map(Some),
    }
}

fn found(path: PathBuf, meta: &Metadata) -> io::Result<Found> {
    if meta.is_symlink() {
        return fs::read_link(&path).map(Found::Link);
    }
    if !meta.is_file() {
        return Ok(Found::Other);
    }
    readable(&path, meta)?;
    Ok(Found::File { path, executable: meta.mode() & 0o111 != 0 })
}

/// An action may take the right to read its own outputs from itself, and that is no reason not to hand them on.
fn readable(path: &Path, meta: &Metadata) -> io::Result<()> {
    let needed = if meta.is_dir() { 0o500 } else { 0o400 };
    if meta.mode() & needed == needed {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(meta.mode() & 0o7777 | needed))
}

fn there(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        meta => meta.map(Some),
    }
}

/// How an overlay marks what was deleted.
fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// How it marks a directory that hides what was there before, with `userxattr` and without.
fn is_opaque(path: &Path) -> bool {
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 16];
        rustix::fs::lgetxattr(path, *name, &mut value).is_ok_and(|length| value[..length] == *b"y")
    })
}
