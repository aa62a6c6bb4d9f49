//! The store of the shared cache: blobs by content, and entries that never outlive the blobs they need.
//!
//! It knows no protocol and no network, and blocks: callers with an executor move it to threads that may.

mod entry;
mod error;
mod key;
mod store;

pub use entry::{Entry, EntryId, NEEDS_MAX, SPACE_BYTES_MAX, VALUE_BYTES_MAX};
pub use error::Error;
pub use key::{Function, Hasher, Key};
pub use store::{Blobs, Durability, Options, Purged, Reader, Stats, Verified, Writer};
