//! The store of the shared cache: blobs by content, and entries that never outlive the blobs they need.
//!
//! It knows no protocol and no network, and blocks: callers with an executor move it to threads that may.

#![cfg_attr(test, allow(clippy::unwrap_used))]

// Used by the segments, which are under way.
#[allow(dead_code)]
mod chunk;
#[allow(dead_code)]
mod codec;
mod entry;
mod error;
mod key;
#[allow(dead_code)]
mod memory;
#[allow(dead_code)]
mod policy;
mod store;
#[cfg(test)]
mod testing;
#[allow(dead_code)]
mod touch;

pub use chunk::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_SEED};
pub use entry::{Entry, EntryId, NEEDS_MAX, SPACE_BYTES_MAX, VALUE_BYTES_MAX};
pub use error::Error;
pub use key::{Function, Hasher, Key};
pub use store::{Blobs, Durability, Options, Purged, Reader, Stats, Verified, Writer};
