//! What people keep beside the runs: projects, users, tokens, secrets.

use alloc::string::String;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that is kept under a key. It is kept as JSON: a new field needs a default.
pub trait Record: Serialize + DeserializeOwned {
    /// Kind: `project`, `token`. Never changed.
    const KIND: &'static str;
    /// The key, unique among its kind.
    fn key(&self) -> String;
}
