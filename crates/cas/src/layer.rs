//! Layers: what a step wrote in its workspace, as a list of paths over a tree.

use std::path::{Path, PathBuf};

use model::{Digest, GlobList, LayerRef};

use crate::{Store, StoreError, Tree};

/// What a step wrote, sorted by path segment by segment (a directory before what is in it).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layer {
    /// The paths.
    pub entries: Vec<LayerEntry>,
}

/// One path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// Below the workspace, `/` between segments.
    pub path: String,
    /// What stands there now.
    pub kind: LayerKind,
}

/// What stands at a path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A file.
    File {
        /// Content; in the store.
        digest: Digest,
        /// May be executed.
        executable: bool,
        /// When it was written: nanoseconds since 1970-01-01 UTC.
        mtime_ns: i64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
    /// A directory, with whatever was in it before.
    Dir,
    /// Nothing: what stood there was deleted.
    Whiteout,
    /// A directory that hides what was in it before.
    OpaqueDir,
}

/// A captured layer.
#[derive(Clone, Debug)]
pub struct Captured {
    /// What was written.
    pub layer: Layer,
    /// The layer is all that is in the captured directory: the directory may be used in place of the layer. False
    /// when `outputs` or a skipped special file left something out.
    pub whole: bool,
    /// What a person should know: special files that were skipped, links that leave the workspace.
    pub notes: Vec<String>,
}

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A name that is not UTF-8.
    #[error("cannot keep {}: its name is not UTF-8; rename it, or leave it out with `outputs`", .0.display())]
    NotUtf8(PathBuf),
    /// Too much.
    #[error("the layer has more than {0}; name what is needed in `outputs`")]
    TooLarge(&'static str),
    /// A stored manifest is not one.
    #[error("the layer's manifest is malformed: {0}")]
    Malformed(&'static str),
    /// The overlay was mounted with a feature that a layer cannot hold.
    #[error("cannot keep {}: the directory was moved by the overlay (redirect_dir must be off)", .0.display())]
    Redirected(PathBuf),
    /// A blob or the file system.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads an overlay's upper directory into a layer and its files into the store, by hard link: the directory is ours
/// and nobody writes it any more. Only what `outputs` takes in. File modes become 0644 or 0755.
///
/// # Errors
/// A name that is not UTF-8; the file system or the store refuses.
pub fn capture(_upper: &Path, _outputs: Option<&GlobList>, _store: &Store) -> Result<Captured, LayerError> {
    unimplemented!()
}

/// Reads a plain directory that held `before` into the layer that makes the one of the other. The directory is ours,
/// as in [`capture`].
///
/// # Errors
/// As in [`capture`].
pub fn capture_diff(
    _dir: &Path,
    _before: &Tree,
    _outputs: Option<&GlobList>,
    _store: &Store,
) -> Result<Captured, LayerError> {
    unimplemented!()
}

/// A tree with layers over it, the first one lowest.
pub fn stack_tree<'a>(base: &Tree, layers: impl IntoIterator<Item = &'a Layer>) -> Tree {
    layers.into_iter().fold(base.clone(), |tree, layer| tree.overlay(layer))
}

/// Paths that both layers wrote, and not the same.
pub fn conflicts(_a: &Layer, _b: &Layer) -> Vec<String> {
    unimplemented!()
}

impl Layer {
    /// Digest of what it says, but for the times: two executions are the same if this is.
    pub fn digest(&self) -> Digest {
        unimplemented!()
    }
    /// Its manifest.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is malformed, too large, or has paths that would lead out of the directory it is restored to.
    pub fn decode(_bytes: &[u8]) -> Result<Layer, LayerError> {
        unimplemented!()
    }
    /// Puts the manifest into the store.
    ///
    /// # Errors
    /// The store refuses.
    pub fn put(&self, _store: &Store) -> Result<LayerRef, StoreError> {
        unimplemented!()
    }
    /// Reads a manifest from the store.
    ///
    /// # Errors
    /// As in [`Layer::decode`], or it is missing or damaged.
    pub fn load(_manifest: &Digest, _store: &Store) -> Result<Layer, LayerError> {
        unimplemented!()
    }
    /// The entries that `keep` takes in.
    pub fn filter(&self, mut keep: impl FnMut(&LayerEntry) -> bool) -> Layer {
        Layer { entries: self.entries.iter().filter(|entry| keep(entry)).cloned().collect() }
    }
    /// Makes a lower directory of an overlay in `dir`, which must be empty or absent.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the file system refuses.
    pub fn restore(&self, _store: &Store, _dir: &Path) -> Result<(), LayerError> {
        unimplemented!()
    }
}
