//! What a server is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use cache::config::{S3Settings, Tls};

/// Connections at a time: a fleet of agents keeps one or two each.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Bytes that the shared cache keeps on the disk, when nobody says otherwise.
pub const CACHE_BYTES_DEFAULT: u64 = 50 << 30;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How people and forges reach it, without a slash at the end: `https://ci.example.com`. Links and statuses say it.
    /// Empty: worked out from where it listens.
    pub url: String,
    /// Its data folder, made when absent.
    pub data: PathBuf,
    /// The store; by default a file in the data folder.
    pub database: store::Location,
    /// `s3://bucket/prefix` for blobs and artifacts; `None` keeps them in the data folder.
    pub blobs: Option<S3Settings>,
    /// Bytes that the shared cache keeps on this server's disk.
    pub cache_bytes: u64,
    /// Encryption of its port.
    pub tls: Option<Tls>,
    /// Its name among replicas.
    pub name: String,
    /// Where traces of runs go: a collector that takes OTLP over HTTP, without `/v1/traces`.
    pub otlp: Option<String>,
    /// Whom else people sign in with, beside names and passwords.
    pub oidc: Option<access::OidcConfig>,
}

impl Config {
    /// A server for this machine alone, on a free port of the loopback address, with everything in one folder.
    pub fn local(data: &Path) -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            url: String::new(),
            data: data.to_owned(),
            database: store::Location::Sqlite(data.join("paceline.db")),
            blobs: None,
            cache_bytes: CACHE_BYTES_DEFAULT,
            tls: None,
            name: "server".into(),
            otlp: None,
            oidc: None,
        }
    }
}
