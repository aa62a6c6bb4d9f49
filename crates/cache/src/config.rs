//! What a shared cache is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a shared cache is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its folder.
    pub data: PathBuf,
    /// How the store behaves.
    pub store: blobs::Options,
}
