//! Content: digests, trees, blobs, layers, action results and named caches on the local disk.
//!
//! It knows nothing of steps or scheduling. Every write is atomic: a blob is whole and verified, or absent.

pub mod action;
mod disk;
pub mod gc;
pub mod git;
pub mod layer;
pub mod named;
pub mod reapi;
pub mod scratch;
pub mod shared;
pub mod snapshot;
pub mod store;
pub mod tree;

pub use action::{ActionRecord, ActionStore, Outcomes};
pub use layer::{Captured, Layer, LayerEntry, LayerError, LayerKind, capture, capture_diff, conflicts, stack_tree};
pub use named::{CommitEnd, Lease, NamedCaches, Survey};
pub use scratch::{Pin, Scratch};
pub use snapshot::{Snapshot, SnapshotError};
pub use store::{Store, StoreError};
pub use tree::{Change, ChangeKind, Tree, TreeEntry, TreeError};
