//! A client of a shared cache: content, action results and named caches, with deadlines and a circuit breaker.
//!
//! It blocks, and may be used from any number of threads. Connections and timers live in a thread of its own that is
//! started by the first request, so a [`Remote`] that nobody asks costs nothing. No call waits for ever: a cache that does
//! not answer counts as gone for a while, and then every call returns at once.
#![forbid(unsafe_code)]

mod address;
mod breaker;
mod connect;
mod counted;
mod download;
mod error;
mod stream;
mod upload;

pub use address::{Address, Options, Token};
pub use connect::{Limits, Remote, connection};
pub use counted::Counted;
pub use download::{Fetched, Received};
pub use error::Error;
pub use upload::{Blob, Content, Uploaded};
