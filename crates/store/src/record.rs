//! What people keep beside the runs: projects, users, tokens, secrets.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that is kept under a key.
pub trait Record: Serialize + DeserializeOwned {
    /// Kind: `project`, `token`. Never changed.
    const KIND: &'static str;
    /// The key, unique among its kind.
    fn key(&self) -> String;
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<T> {
    /// The value.
    pub value: T,
    /// Its version: higher after each change. What an ETag says.
    pub version: u64,
}
