//! What a server keeps beside runs.

use std::collections::BTreeMap;

use access::{Keys, SealError};
use model::ProjectId;
use serde::{Deserialize, Serialize};
use store::Record;

/// A project: a repository and how its pipelines are run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Its name: `web`, `team/web`. Letters, digits, `-`, `_`, `.` and `/`.
    pub name: String,
    /// What git fetches: `https://…`, `ssh://…`, or a path on the server.
    pub repository: String,
    /// `github`, `gitlab`, `gitea`, `bitbucket`, `generic`.
    pub forge: String,
    /// The forge's API, where statuses go; empty: worked out from the repository, or none.
    pub forge_api: String,
    /// The repository's name at the forge: `owner/name`.
    pub forge_name: String,
    /// Checks webhooks; sealed by `access`.
    pub webhook_secret: String,
    /// For git and the forge's API; sealed by `access`.
    pub credential: String,
    /// The branch that manual runs and schedules take.
    pub default_branch: String,
    /// Files of pipelines; empty: `paceline.yaml` and `.paceline/*.yaml`.
    pub pipelines: Vec<String>,
    /// Who pays; empty: the project itself.
    pub tenant: String,
    /// Whether anybody may read it without signing in.
    pub public: bool,
    /// Runs of pull requests from forks wait until somebody with the role of a developer lets them.
    pub approve_forks: bool,
    /// Runs, logs and artifacts are kept so many days; 0: for ever.
    pub keep_days: u32,
    /// Rules of notifications, as `notify` reads them.
    pub notify: Vec<serde_json::Value>,
    /// Names and values that are neither secret nor in the repository: `values.NAME`.
    pub values: BTreeMap<String, String>,
}

impl Record for Project {
    const KIND: &'static str = "project";
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// Length of a project's name in bytes: it stands in every fact, and in paths.
pub const PROJECT_NAME_BYTES_MAX: usize = 100;

/// Why a project cannot have this name, if so.
pub fn name_problem(name: &str) -> Option<String> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (name.len() > PROJECT_NAME_BYTES_MAX || !name.split('/').all(part)).then(|| {
        format!(
            "`{}` is no name of a project: write letters, digits, `-`, `_`, `.` and `/`, at most {PROJECT_NAME_BYTES_MAX}",
            name.escape_debug()
        )
    })
}

impl Project {
    /// Its id.
    pub fn id(&self) -> ProjectId {
        ProjectId::new(self.name.as_str())
    }

    /// What `webhook_secret` is in the clear; empty when there is none.
    ///
    /// # Errors
    /// It cannot be opened with these keys.
    pub fn webhook_secret_in_clear(&self, keys: &Keys) -> Result<String, SealError> {
        self.in_clear(keys, "webhook_secret", &self.webhook_secret)
    }

    /// What `credential` is in the clear; empty when there is none.
    ///
    /// # Errors
    /// It cannot be opened with these keys.
    pub fn credential_in_clear(&self, keys: &Keys) -> Result<String, SealError> {
        self.in_clear(keys, "credential", &self.credential)
    }

    /// For what place a field is sealed.
    pub(crate) fn context(&self, field: &str) -> String {
        format!("project/{}/{field}", self.name)
    }

    /// Wraps what is sealed with the first key. Whether that changed anything.
    pub(crate) fn rewrap(&mut self, keys: &Keys) -> Result<bool, SealError> {
        let (secret, credential) = (self.context("webhook_secret"), self.context("credential"));
        let mut changed = false;
        for (context, sealed) in [(secret, &mut self.webhook_secret), (credential, &mut self.credential)] {
            if !sealed.is_empty()
                && let Some(rewrapped) = keys.rewrap(&context, sealed)?
            {
                (*sealed, changed) = (rewrapped, true);
            }
        }
        Ok(changed)
    }

    fn in_clear(&self, keys: &Keys, field: &str, sealed: &str) -> Result<String, SealError> {
        if sealed.is_empty() {
            return Ok(String::new());
        }
        String::from_utf8(keys.open(&self.context(field), sealed)?).map_err(|_| SealError::Broken)
    }
}

/// An agent that was registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisteredAgent {
    /// Its name.
    pub name: String,
    /// Labels that an administrator gave it, beside those it says itself.
    pub labels: Vec<String>,
    /// SHA-256 of its credential in hexadecimal digits.
    pub credential: String,
    /// When it was registered: microseconds since 1970.
    pub registered_us: u64,
    /// It gets no new work.
    pub paused: bool,
}

impl Record for RegisteredAgent {
    const KIND: &'static str = "agent";
    fn key(&self) -> String {
        self.name.clone()
    }
}
