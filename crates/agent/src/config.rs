//! What an agent is told before it works: its folders, its executor, its secrets, and each run's project.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::far::Far;

/// What an agent is told once.
#[derive(Debug)]
pub struct Config {
    /// Blobs, action records, named caches and scratch. Made when absent.
    pub cache_dir: PathBuf,
    /// What must outlive the cache: the key of secret versions, kept sandboxes of failed attempts. Made when absent.
    pub state_dir: PathBuf,
    /// Attempts at once, at least 1.
    pub slots: usize,
    /// How attempts are executed.
    pub executor: Executor,
    /// Where `PATH`, `HOME`, toolchain variables and `pass_env` are taken from.
    pub caller_env: BTreeMap<String, String>,
    /// All secrets by name; a step gets those it asks for.
    pub secrets: BTreeMap<String, Secret>,
    /// What all attempts of a tenant may use together, unless [`crate::Agent::set_quota`] says otherwise.
    pub quota: sandbox::cgroup::Limits,
    /// What `network: full` is.
    pub full_network: FullNetwork,
    /// Where images come from.
    pub images: image::Options,
    /// The soft limit of open files that steps get: what the caller had before it raised its own. `None` is its present one.
    pub open_files_soft: Option<u64>,
    /// A cache that is shared with other machines.
    pub shared: Option<SharedCache>,
    /// An attempt whose log cannot be written to its end fails: somebody else shows that log.
    pub whole_logs: bool,
    /// Keep the sandboxes of failed attempts for `pace shell`: those of the last [`crate::KEPT_RUNS_MAX`] runs.
    pub keep_failed: bool,
}

/// A cache that is shared with other machines.
#[derive(Clone, Debug)]
pub struct SharedCache {
    /// The way to it.
    pub remote: remote::Remote,
    /// Results and caches may come from it.
    pub reads: bool,
    /// What is executed here may go to it.
    pub writes: bool,
    /// A named cache with more bytes stays here.
    pub snapshot_bytes_max: u64,
}

/// A shared cache with what is known of it, for all runs that use it alike. Made by [`crate::Agent::way`].
#[derive(Clone, Debug)]
pub struct CacheWay(pub(crate) Arc<Far>);

/// What `network: full` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullNetwork {
    /// TCP to everywhere through a gate that knows every host and byte. Works for everybody.
    #[default]
    Gate,
    /// Routed by the host with address translation, so UDP and ICMP too. Needs root, and a host that forwards already and
    /// whose firewall lets it.
    Routed,
}

/// How attempts are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// In a Linux sandbox of their own.
    Sandbox,
    /// As ordinary processes in a copy of the workspace: no isolation.
    Process,
}

impl Executor {
    /// The word on the command line and in the key.
    pub fn word(self) -> &'static str {
        match self {
            Executor::Sandbox => "sandbox",
            Executor::Process => "process",
        }
    }
}

/// A secret's value. It is overwritten when dropped, and `Debug` does not show it.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: String) -> Secret {
        Secret(value.into_bytes())
    }

    /// The value. Whoever asks must not let it reach a log, an event, a key or an error.
    pub fn reveal(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader the compiler may leave the overwriting out.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The project of a run.
#[derive(Clone, Debug)]
pub struct Project {
    /// The repository's folder.
    pub root: PathBuf,
    /// Stable name of project and pipeline: what `pace why` compares with is remembered under it.
    pub key: String,
    /// The repository as the run sees it.
    pub snapshot: Arc<cas::Snapshot>,
    /// Logs go to `<log_dir>/<node>-<attempt>.log`, lines `<unix milliseconds> <text>`. Made when absent.
    pub log_dir: PathBuf,
    /// What the names of images mean: `paceline.lock`.
    pub lock: Arc<image::Lock>,
    /// Who pays: attempts of one tenant share a group with its own quota ([`Config::quota`]).
    pub tenant: String,
    /// Named caches are shared with runs of the same scope only.
    pub cache_scope: String,
    /// And with other machines under this scope; `None`: not with other machines.
    pub shared_scope: Option<String>,
    /// The shared cache of this run, instead of [`Config::shared`].
    pub cache: Option<CacheWay>,
    /// Artifacts go to `<artifact_dir>/<name>[-<version>]/…`. Made when the first one is kept.
    pub artifact_dir: PathBuf,
}

/// Why an agent cannot do what it was asked, beside executing an attempt (that failure is the attempt's result).
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A folder is not usable.
    #[error("cannot {act} {path}: {source}; name another folder or make it writable")]
    Folder {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The store refused.
    #[error("the cache is not usable: {0}")]
    Store(#[from] cas::StoreError),
    /// The attempt's workspace or action cannot be made.
    #[error("{0}")]
    Attempt(String),
    /// No sandbox was kept for this step.
    #[error(
        "no sandbox of step `{step}` in run {run} was kept: only failed attempts of the last {} runs are",
        crate::KEPT_RUNS_MAX
    )]
    NotKept {
        /// The run.
        run: String,
        /// The step.
        step: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
