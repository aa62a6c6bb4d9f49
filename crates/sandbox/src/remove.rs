//! Removing scratch trees that a step has written.

use std::io;
use std::path::Path;

/// Removes `path` and everything below it, without following symbolic links, whatever the modes of its directories and
/// however deep it is. It is not an error when `path` does not exist.
///
/// # Errors
/// The first thing that could not be removed; the rest of the tree is still attempted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let _ = path;
    todo!()
}
