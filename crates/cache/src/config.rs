//! What a shared cache is told when it starts: checked, with every default filled in.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use blobs::Durability;

use crate::access::{Ask, Rights};
use crate::execution::Execution;

mod file;
mod shown;

pub use file::{ConfigError, S3Settings, Settings, TlsSettings, UpstreamRights, UpstreamSettings};
pub(crate) use shown::quoted;

/// Connections at a time when nobody says otherwise. Further ones wait until one ends.
pub const CONNECTIONS_DEFAULT: usize = 1024;
/// The most connections that may be asked for: each takes a descriptor and some 20 KiB.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Where it listens when nobody says otherwise.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8980);

/// What a shared cache is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens, at least one place.
    pub listen: Vec<Listen>,
    /// Its folder.
    pub data: PathBuf,
    /// How the store behaves.
    pub store: blobs::Options,
    /// The instances that it serves; any when that is `None`.
    pub instances: Option<BTreeSet<String>>,
    /// Encryption of every TCP listener.
    pub tls: Option<Tls>,
    /// The file of the tokens.
    pub tokens_file: Option<PathBuf>,
    /// What callers without a token may do; `None` decides by the addresses: on loopback without a file of tokens, everything.
    pub anonymous: Option<Anonymous>,
    /// What happens to writes that a caller may not do.
    pub denied_writes: DeniedWrites,
    /// Connections at a time; further ones wait.
    pub connections_max: usize,
    /// Where each request is written down as a line of JSON; `-` is standard output.
    pub log: Option<PathBuf>,
    /// Another cache below this one.
    pub upstream: Option<UpstreamSettings>,
    /// A bucket below this one.
    pub s3: Option<S3Settings>,
    /// What executes actions; `None` executes nothing.
    pub execution: Option<Execution>,
    /// Who knows tokens beside the file.
    pub ask: Option<Ask>,
}

impl Config {
    /// A cache for this machine alone, on a free port of the loopback address, open to everybody there.
    pub fn local(data: &Path) -> Config {
        Config {
            listen: vec![Listen::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))],
            data: data.to_owned(),
            store: blobs::Options::default(),
            instances: None,
            tls: None,
            tokens_file: None,
            anonymous: None,
            denied_writes: DeniedWrites::Refuse,
            connections_max: CONNECTIONS_DEFAULT,
            log: None,
            upstream: None,
            s3: None,
            execution: None,
            ask: None,
        }
    }

    /// What callers without a token may do.
    ///
    /// # Errors
    /// Others than this machine can reach it, and nobody said what they may do.
    pub fn anonymous_rights(&self) -> Result<Option<Rights>, ConfigError> {
        match (self.anonymous, &self.tokens_file) {
            (Some(anonymous), _) => Ok(anonymous.rights()),
            (None, Some(_)) => Ok(None),
            (None, None) => match self.listen.iter().find(|listen| !listen.is_local()) {
                None => Ok(Some(Rights::Write)),
                Some(open) => Err(ConfigError::Open { listen: open.to_string() }),
            },
        }
    }
}

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket in the file system, for clients on this machine; its folder's permissions say for whom.
    Unix(PathBuf),
}

impl Listen {
    /// Only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().is_loopback(),
            Listen::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Listen::Unix(path.into())),
            Some(_) => Err(format!("`{text}` is no place to listen: the path of a socket starts with `/`")),
            None => text.parse().map(Listen::Tcp).map_err(|_| {
                format!("`{text}` is no place to listen: write `127.0.0.1:8980`, `[::]:8980` or `unix:/path`")
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what leads to its root, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who must have signed the certificate that every client shows, PEM; no client shows one when that is `None`.
    pub client_ca: Option<PathBuf>,
}

/// What callers without a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// What these rights allow, in every instance.
    Rights(Rights),
}

impl Anonymous {
    /// As rights.
    pub fn rights(self) -> Option<Rights> {
        match self {
            Anonymous::None => None,
            Anonymous::Rights(rights) => Some(rights),
        }
    }
}

/// What happens to writes that a caller may not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeniedWrites {
    /// The caller is told. Bazel then stops unless `--remote_upload_local_results=false`.
    #[default]
    Refuse,
    /// They are accepted and forgotten: for clients that cannot be told not to write.
    Drop,
}

/// The word for a durability in the configuration.
fn durability_word(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "process",
        Durability::Group => "group",
    }
}

/// A time as the configuration has it: whole seconds are enough for leases and ages.
fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}
