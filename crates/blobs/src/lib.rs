//! The store of the shared cache: blobs by content, and entries that never outlive the blobs they need.
//!
//! It knows no protocol and no network, and blocks: callers with an executor move it to threads that may.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod chunk;
mod codec;
mod commit;
mod disk;
mod entries;
mod entry;
mod error;
mod evict;
mod index;
mod keep;
mod key;
mod lease;
mod log;
mod manifest;
mod memory;
mod policy;
mod read;
mod record;
mod recover;
mod scrub;
mod segment;
#[doc(hidden)]
pub mod sketch;
mod store;
mod tag;
#[cfg(test)]
mod testing;
mod tier;
mod write;

pub use chunk::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_SEED};
pub use entry::{Entry, EntryId, NEEDS_MAX, SPACE_BYTES_MAX, VALUE_BYTES_MAX, WRITER_BYTES_MAX};
pub use error::Error;
pub use key::{Function, Hasher, Key};
pub use store::{Blobs, Durability, Options, Purged, Reader, Stats, Verified, Writer};
pub use tier::{Copy, Fetch, Outgoing, Piece, Tier, TierStats};
