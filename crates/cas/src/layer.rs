//! Layers: what a step wrote in its workspace, as a list of paths over a tree.

mod capture;
mod manifest;
mod restore;

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::Digest;

use crate::{StoreError, Tree};

pub(crate) use capture::is_opaque;
pub use capture::{capture, capture_diff};
pub use restore::make_whiteout;
#[cfg(test)]
pub(crate) use restore::mark_opaque;

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

/// Files, links, directories and deletions of one layer.
pub const LAYER_ENTRIES_MAX: usize = 1_000_000;
/// Bytes of all files of one layer as they are read, holes included: a file of a terabyte that takes no disk is made in a
/// moment and read for a day.
pub const LAYER_BYTES_MAX: u64 = 32 << 30;
/// Bytes of one manifest: entries of two hundred bytes each.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;

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

impl Layer {
    /// The entries that `keep` takes in.
    pub fn filter(&self, mut keep: impl FnMut(&LayerEntry) -> bool) -> Layer {
        Layer { entries: self.entries.iter().filter(|entry| keep(entry)).cloned().collect() }
    }
}

/// A tree with layers over it, the first one lowest.
pub fn stack_tree<'a>(base: &Tree, layers: impl IntoIterator<Item = &'a Layer>) -> Tree {
    layers.into_iter().fold(base.clone(), |tree, layer| tree.overlay(layer))
}

/// Paths that both layers wrote, and not the same; in byte order. A deletion is a write, also of all that was below.
pub fn conflicts(a: &Layer, b: &Layer) -> Vec<String> {
    let index = |layer: &Layer| -> BTreeMap<String, LayerKind> {
        layer.entries.iter().map(|entry| (entry.path.clone(), entry.kind.clone())).collect()
    };
    let (in_a, in_b) = (index(a), index(b));
    let mut found: Vec<String> = one_way(&in_a, &in_b).chain(one_way(&in_b, &in_a)).collect();
    found.sort();
    found.dedup();
    found
}

fn one_way<'a>(
    ours: &'a BTreeMap<String, LayerKind>,
    theirs: &'a BTreeMap<String, LayerKind>,
) -> impl Iterator<Item = String> + 'a {
    ours.iter().filter_map(move |(path, kind)| match theirs.get(path) {
        Some(other) => (!same(kind, other)).then(|| path.clone()),
        None if matches!(kind, LayerKind::Dir) => None,
        None => above(path).find_map(|dir| match theirs.get(dir)? {
            LayerKind::Dir => None,
            LayerKind::Whiteout | LayerKind::OpaqueDir if *kind == LayerKind::Whiteout => None,
            // What is below a directory that they emptied is ours alone; what they deleted is gone for both.
            _ => Some(path.clone()),
        }),
    })
}

fn same(a: &LayerKind, b: &LayerKind) -> bool {
    use LayerKind::{Dir, File, OpaqueDir};
    match (a, b) {
        (File { digest: x, executable: e, .. }, File { digest: y, executable: f, .. }) => x == y && e == f,
        // Whether the two agree about what is in the directory shows below it.
        (Dir | OpaqueDir, Dir | OpaqueDir) => true,
        _ => a == b,
    }
}

/// The directories that a path lies in, the innermost first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/'), |(dir, _)| dir.rsplit_once('/')).map(|(dir, _)| dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn layer(entries: &[(&str, LayerKind)]) -> Layer {
        Layer {
            entries: entries
                .iter()
                .map(|(path, kind)| LayerEntry { path: path.to_string(), kind: kind.clone() })
                .collect(),
        }
    }

    fn file(text: &str, mtime_ns: i64) -> LayerKind {
        LayerKind::File { digest: Store::digest_of(text.as_bytes()), executable: false, mtime_ns }
    }

    #[test]
    fn only_different_writes_of_one_path_are_conflicts() {
        use LayerKind::{Dir, OpaqueDir, Whiteout};
        let a = layer(&[("d", Dir), ("d/same", file("1", 5)), ("d/x", file("a", 5)), ("gone", Whiteout)]);
        let b = layer(&[("d", Dir), ("d/same", file("1", 6)), ("d/x", file("b", 5)), ("gone", Whiteout)]);
        assert_eq!(conflicts(&a, &b), ["d/x"]);
        let deleted = layer(&[("d", Whiteout)]);
        assert_eq!(conflicts(&a, &deleted), ["d", "d/same", "d/x"]);
        let emptied = layer(&[("d", OpaqueDir)]);
        assert_eq!(conflicts(&a, &emptied), ["d/same", "d/x"]);
        assert_eq!(conflicts(&layer(&[("d/y", Whiteout)]), &emptied), Vec::<String>::new());
        assert_eq!(conflicts(&layer(&[("f", Dir)]), &layer(&[("f", file("x", 0))])), ["f"]);
        assert_eq!(conflicts(&a, &Layer::default()), Vec::<String>::new());
    }

    #[test]
    fn layers_stack_in_order() {
        let base = Tree::from_entries([("a", crate::TreeEntry::Dir)]).expect("tree");
        let (one, two) = (layer(&[("f", file("1", 0))]), layer(&[("f", file("2", 0))]));
        let top = stack_tree(&base, [&one, &two]).get("f");
        assert_eq!(top, Some(crate::TreeEntry::File { digest: Store::digest_of(b"2"), executable: false }));
    }
}
