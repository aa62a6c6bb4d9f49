//! Which paths are in view.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use super::SnapshotError;
use super::look::io_error;
use crate::git;
use crate::tree::{TREE_FILES_MAX, path_order};

/// Paths in view below `root`, sorted, each once. Paths of repositories within the repository stand for themselves; ask
/// for [`nested`] ones when they turn out to be directories.
pub(super) fn paths(root: &Path) -> Result<Vec<String>, SnapshotError> {
    let mut paths = if git::is_inside(root) { ask_git(root)? } else { walk(root)? };
    if paths.len() > TREE_FILES_MAX {
        return Err(crate::TreeError::TooLarge("2,000,000 files").into());
    }
    if !paths.is_sorted_by(|a, b| path_order(a, b).is_lt()) {
        paths.sort_unstable_by(|a, b| path_order(a, b));
        paths.dedup();
    }
    Ok(paths)
}

/// Paths in view of the repository at `path` below `root`: a submodule, or a checkout that nobody added. A directory
/// that is neither (a submodule that was not fetched) has none.
pub(super) fn nested(root: &Path, path: &str) -> Result<Vec<String>, SnapshotError> {
    let dir = root.join(path);
    if !dir.join(".git").exists() {
        return Ok(Vec::new());
    }
    let below = ask_git(&dir)?;
    Ok(below.into_iter().map(|name| format!("{path}/{name}")).collect())
}

fn ask_git(root: &Path) -> Result<Vec<String>, SnapshotError> {
    let failed = |message| SnapshotError::Git { root: root.to_path_buf(), message };
    let out = git::run(root, &["ls-files", "-c", "-o", "--exclude-standard", "-z"]).map_err(failed)?;
    let name = |bytes: &[u8]| {
        // A repository within the repository is listed as a directory, with a slash.
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        std::str::from_utf8(bytes).map(str::to_string).map_err(|_| not_utf8(root, bytes))
    };
    out.split(|byte| *byte == 0).filter(|bytes| !bytes.is_empty()).map(name).collect()
}

fn not_utf8(root: &Path, name: &[u8]) -> SnapshotError {
    use std::os::unix::ffi::OsStrExt;
    SnapshotError::NotUtf8(root.join(std::ffi::OsStr::from_bytes(name)))
}

/// Outside of Git the `.gitignore` files below `root` count all the same.
fn walk(root: &Path) -> Result<Vec<String>, SnapshotError> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| walk_error(root, error))?;
        if entry.file_type().is_none_or(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let path = path.to_str().ok_or_else(|| SnapshotError::NotUtf8(entry.path().to_path_buf()))?;
        paths.push(path.to_string());
    }
    Ok(paths)
}

fn walk_error(root: &Path, error: ignore::Error) -> SnapshotError {
    let path = path_in(&error).unwrap_or(root).to_path_buf();
    let text = error.to_string();
    let source = error.into_io_error().unwrap_or_else(|| std::io::Error::other(text));
    io_error("list", &path)(source)
}

fn path_in(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_in(err),
        ignore::Error::Loop { child, .. } => Some(PathBuf::as_path(child)),
        _ => None,
    }
}
