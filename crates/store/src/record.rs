//! A record as it is kept.

pub use model::Record;

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<T> {
    /// The value.
    pub value: T,
    /// Its version: higher after each change. What an ETag says.
    pub version: u64,
}
