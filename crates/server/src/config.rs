//! What a server is told.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How people and forges reach it, without a slash at the end: `https://ci.example.com`. Links and statuses say it.
    pub url: String,
    /// Its data folder, made when absent.
    pub data: PathBuf,
    /// The store; by default a file in the data folder.
    pub database: store::Location,
    /// `s3://bucket/prefix` for blobs and artifacts; `None` keeps them in the data folder.
    pub blobs: Option<String>,
}
