//! What Git knows about the checked-out commit, asked of the `git` program.

use std::path::Path;

/// The checked-out commit. All empty outside of Git or before the first commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Full commit id.
    pub commit: String,
    /// Branch, if one is checked out.
    pub branch: String,
    /// A tag that names the commit; the last in byte order if there are several.
    pub tag: String,
    /// The whole message.
    pub message: String,
    /// `Name <address>`.
    pub author: String,
}

/// Reads the checked-out commit of the repository that `root` lies in.
pub fn head(_root: &Path) -> Head {
    unimplemented!()
}

/// Paths below `root` that differ between the merge base of `base` and what is on the disk now.
///
/// # Errors
/// What git said: no such revision, not a repository, no git.
pub fn changed_files(_root: &Path, _base: &str) -> Result<Vec<String>, String> {
    unimplemented!()
}
