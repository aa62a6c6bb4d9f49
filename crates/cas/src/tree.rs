//! Directory trees by content: persistent, so that a tree with a layer over it shares what the layer did not touch.

use std::sync::Arc;

use model::{Digest, GlobList};

use crate::{Layer, Store, StoreError};

/// A directory tree. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tree(#[allow(dead_code)] Arc<()>);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEntry {
    /// A file.
    File {
        /// Content.
        digest: Digest,
        /// May be executed.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Arc<str>,
    },
    /// A directory.
    Dir,
}

/// A difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// What.
    pub kind: ChangeKind,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only in the later tree.
    Added,
    /// Only in the earlier tree.
    Removed,
    /// Other bytes, or another target of a symbolic link.
    Content,
    /// Same bytes, but executable or no longer so.
    Executable,
    /// A file became a link, or the like.
    Kind,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A path that cannot be in a tree.
    #[error("`{path}` cannot be in a tree: {reason}")]
    Path {
        /// The path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A stored directory is not one.
    #[error("blob {0} is not a directory message: {1}")]
    Malformed(Digest, &'static str),
    /// A stored tree is larger than any tree we make.
    #[error("the tree has more than {0}")]
    TooLarge(&'static str),
    /// A stored directory could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tree {
    /// A tree with nothing in it.
    pub fn empty() -> Tree {
        unimplemented!()
    }
    /// A tree of these entries, in any order; directories on the way to them come by themselves.
    ///
    /// # Errors
    /// A path that is absolute, has `..` or an empty segment, is too deep, or stands there twice.
    pub fn from_entries<P: AsRef<str>>(_entries: impl IntoIterator<Item = (P, TreeEntry)>) -> Result<Tree, TreeError> {
        unimplemented!()
    }
    /// This tree with a layer laid over it.
    pub fn overlay(&self, _layer: &Layer) -> Tree {
        unimplemented!()
    }
    /// Only what the patterns take in; symbolic links stay links.
    pub fn filter(&self, _globs: &GlobList) -> Tree {
        unimplemented!()
    }
    /// Digest of the root directory message.
    pub fn digest(&self) -> Digest {
        unimplemented!()
    }
    /// Hands every directory message to `visit`, the root first; below a directory only if `visit` says so.
    pub fn directories(&self, _visit: &mut dyn FnMut(Digest, &[u8]) -> bool) {
        unimplemented!()
    }
    /// Puts every directory message into the store (not the files), and returns the root's digest.
    ///
    /// # Errors
    /// The store refuses.
    pub fn put(&self, _store: &Store) -> Result<Digest, StoreError> {
        unimplemented!()
    }
    /// What stands at a path (`/` between segments; empty: the root).
    pub fn get(&self, _path: &str) -> Option<TreeEntry> {
        unimplemented!()
    }
    /// Everything in it but the root, parents before children, names in byte order.
    pub fn entries(&self) -> Vec<(String, TreeEntry)> {
        unimplemented!()
    }
    /// Files and links in it.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Whether it has neither files nor links.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What `other`, the later one, has otherwise: files and links only.
    pub fn diff(&self, _other: &Tree) -> Vec<Change> {
        unimplemented!()
    }
    /// Reads a tree from stored directory messages.
    ///
    /// # Errors
    /// A directory is missing, damaged or not canonical, or the tree is too deep or too large.
    pub fn load(_digest: &Digest, _store: &Store) -> Result<Tree, TreeError> {
        unimplemented!()
    }
}
