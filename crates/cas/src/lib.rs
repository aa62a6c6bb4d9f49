//! Content: digests, trees, blobs, layers, action results and named caches on the local disk.
//!
//! It knows nothing of steps or scheduling. Every write is atomic: a blob is whole and verified, or absent.

pub mod action;
pub mod layer;
pub mod named;
pub mod reapi;
pub mod snapshot;
pub mod store;
pub mod tree;

pub use action::{ActionRecord, ActionStore};
pub use layer::{Layer, LayerEntry, LayerKind};
pub use named::NamedCaches;
pub use snapshot::Snapshot;
pub use store::{Store, StoreError};
pub use tree::Tree;
