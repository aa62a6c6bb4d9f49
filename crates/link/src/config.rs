//! What an agent of a server is told.

use std::path::{Path, PathBuf};

use remote::{Address, Options, Token};

/// Bytes of checked-out commits that are kept.
const CHECKOUT_BYTES_MAX: u64 = 10 << 30;
/// Bytes of logs that wait for the server. More than that, and steps wait too.
const SPOOL_BYTES_MAX: u64 = 4 << 30;

/// What an agent of a server is told.
#[derive(Debug)]
pub struct Config {
    /// `http://host:port` or `https://host:port`.
    pub server: String,
    /// A single-use token, changed into a credential on the first contact.
    pub token: Option<String>,
    /// A credential that is known beforehand. It is not written anywhere.
    pub credential: Option<String>,
    /// The name it wants.
    pub name: String,
    /// Labels beside those of the host.
    pub labels: Vec<String>,
    /// Authorities that may vouch for the server, PEM, instead of those that the system trusts.
    pub ca: Option<PathBuf>,
    /// A certificate and its key, PEM, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How attempts are executed, in which folders and how many at once. `shared`, `secrets`, `whole_logs` and `keep_failed`
    /// are the server's to say and are not looked at.
    pub execution: agent::Config,
    /// Bytes of checked-out commits that are kept.
    pub checkout_bytes_max: u64,
    /// Bytes of logs that wait for the server.
    pub spool_bytes_max: u64,
}

/// Why an agent of a server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address, the token or a file of certificates cannot be used.
    #[error("{0}")]
    Server(String),
    /// A folder cannot be used.
    #[error("cannot use the folder {path}: {why}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The executing part cannot be started.
    #[error(transparent)]
    Agent(agent::AgentError),
    /// Threads cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
}

impl Config {
    /// The usual bounds.
    pub fn new(server: &str, name: &str, execution: agent::Config) -> Config {
        Config {
            server: server.trim_end_matches('/').to_string(),
            token: None,
            credential: None,
            name: name.to_string(),
            labels: Vec::new(),
            ca: None,
            identity: None,
            execution,
            checkout_bytes_max: CHECKOUT_BYTES_MAX,
            spool_bytes_max: SPOOL_BYTES_MAX,
        }
    }

    /// How the server is asked, with this credential.
    pub(crate) fn options(&self, credential: &str) -> Result<Options, LinkError> {
        let wrong = |error: remote::Error| LinkError::Server(error.to_string());
        let mut options = Options::new(Address::parse(&self.server).map_err(wrong)?);
        if !credential.is_empty() {
            options.token = Some(Token::new(credential).map_err(wrong)?);
        }
        (options.ca, options.identity) = (self.ca.clone(), self.identity.clone());
        // A server that is restarted is back in a second, and then everything is to go on.
        options.rest = std::time::Duration::from_secs(1);
        options.look_up = std::time::Duration::from_secs(10);
        Ok(options)
    }

    pub(crate) fn check(&self) -> Result<(), LinkError> {
        let address = Address::parse(&self.server).map_err(|error| LinkError::Server(error.to_string()))?;
        if !self.server.starts_with("http") || !address.instance.is_empty() {
            return Err(LinkError::Server(format!(
                "`{}` is no address of a server: write it like https://ci.example.com, without a path",
                self.server
            )));
        }
        self.options(self.credential.as_deref().unwrap_or_default()).map(|_| ())
    }

    /// What the executing part is told.
    pub(crate) fn execution(&self) -> agent::Config {
        let own = &self.execution;
        agent::Config {
            cache_dir: own.cache_dir.clone(),
            state_dir: own.state_dir.clone(),
            slots: own.slots,
            executor: own.executor,
            caller_env: own.caller_env.clone(),
            secrets: std::collections::BTreeMap::new(),
            quota: own.quota,
            full_network: own.full_network,
            images: own.images.clone(),
            open_files_soft: own.open_files_soft,
            shared: None,
            whole_logs: true,
            keep_failed: false,
        }
    }
}

/// The agent that a server has built in: in folders below the server's own, with a credential that it made for it.
pub fn builtin(server: &str, credential: &str, data: &Path, mut execution: agent::Config) -> Config {
    execution.cache_dir = data.join("agent/cache");
    execution.state_dir = data.join("agent/state");
    Config { credential: Some(credential.to_string()), ..Config::new(server, "builtin", execution) }
}
