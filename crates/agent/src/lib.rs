//! Executes attempts: prepares the workspace, looks the action up, runs it in the sandbox, masks secrets, streams the
//! log, captures the layer, records the result. No policy: what to execute and when is decided elsewhere.
//!
//! Plain threads: one for each slot, which lives with its attempt from lease to end, and one that writes action records.
#![forbid(unsafe_code)]

mod config;
mod mask;
mod regular;
mod report;
mod secret;
mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use model::{AttemptSpec, CachedFrom, Digest, Fence, NodeIx, RunId};

pub use config::{AgentError, Config, Executor, Project, Secret};
pub use report::{LogLine, Report};

/// Runs whose failed sandboxes are kept for `pace shell`.
pub const KEPT_RUNS_MAX: usize = 5;

/// A pool of slots that execute attempts. Dropped: running attempts are killed.
#[derive(Debug)]
pub struct Agent {}

/// What would happen if an attempt were executed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// It would be taken from the cache.
    Cached(CachedFrom),
    /// It would be executed. Why, as a clause: `its inputs changed`, `cache: never`.
    Executes(String),
    /// That depends on what steps before it write. The first of these.
    Open(NodeIx),
}

/// An action in the parts that `pace why` compares.
#[derive(Clone, Debug)]
pub struct ActionParts {
    /// The action's digest: the key.
    pub digest: Digest,
    /// Script and shell.
    pub arguments: Vec<String>,
    /// Environment with versions of secrets.
    pub env: Vec<(String, String)>,
    /// Executor, host fingerprint, network and the like.
    pub platform: Vec<(String, String)>,
    /// `outputs`.
    pub outputs: Vec<String>,
    /// The input tree.
    pub tree: cas::Tree,
}

/// One difference of two actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The script or its shell.
    Command,
    /// A variable: name, value before, value now.
    Env(String, Option<String>, Option<String>),
    /// A property of the platform: name, value before, value now.
    Platform(String, Option<String>, Option<String>),
    /// `outputs`.
    Outputs,
    /// A file: path, and `added`, `removed` or `changed`.
    File(String, &'static str),
}

/// A sandbox to look around in: fill in the standard streams and spawn it. Its folders go when this is dropped.
#[derive(Debug)]
pub struct Shell {
    /// What to spawn; `terminal` is set.
    pub spec: sandbox::Spec,
    /// Things a person should know: what is not as it was.
    pub notes: Vec<String>,
    /// Made for this shell only.
    _scratch: Option<PathBuf>,
}

impl Agent {
    /// Opens the folders and starts `config.slots` threads.
    ///
    /// # Errors
    /// A folder cannot be made, read or written.
    pub fn start(config: Config, reports: Sender<Report>) -> Result<Agent, AgentError> {
        let _ = (config, reports);
        unimplemented!()
    }
    /// Makes a run known: comes before anything else about it.
    pub fn begin(&self, run: &RunId, project: Project) {
        let _ = (run, project);
        unimplemented!()
    }
    /// Executes an attempt when a slot is free; [`Report::Finished`] tells its end.
    pub fn execute(&self, spec: Arc<AttemptSpec>) {
        let _ = spec;
        unimplemented!()
    }
    /// Stops an attempt: SIGTERM, [`model::limits::CANCEL_GRACE`], SIGKILL; with `force` SIGKILL at once. Nothing
    /// happens for one that ended or has another fencing number.
    pub fn stop(&self, run: &RunId, node: NodeIx, fence: Fence, force: bool) {
        let _ = (run, node, fence, force);
        unimplemented!()
    }
    /// Ends a run: waits until its records are written, removes its scratch, keeps the sandboxes of failed attempts
    /// when the configuration says so. Returns sentences about what could not be recorded or kept.
    pub fn end(&self, run: &RunId) -> Vec<String> {
        let _ = run;
        unimplemented!()
    }
    /// Whether an attempt would be taken from the cache. Ask for what it needs first: a hit makes its layer known, so
    /// that its dependants can be foreseen.
    pub fn foresee(&self, spec: &Arc<AttemptSpec>) -> Foresight {
        let _ = spec;
        unimplemented!()
    }
    /// The action that the attempt would be. What it needs must have been executed or foreseen as cached.
    ///
    /// # Errors
    /// Needed layers are not known, or contradict each other.
    pub fn action_of(&self, spec: &AttemptSpec) -> Result<ActionParts, AgentError> {
        let _ = spec;
        unimplemented!()
    }
    /// The action of the last time that this step of the run's project was recorded.
    pub fn last_action(&self, run: &RunId, step: &str) -> Option<ActionParts> {
        let _ = (run, step);
        unimplemented!()
    }
    /// The sandbox that the attempt would get, for an interactive shell. What it needs must have been executed or
    /// foreseen as cached.
    ///
    /// # Errors
    /// Needed layers are not known or not to be had any more; the process executor has no sandbox.
    pub fn open_shell(&self, spec: &Arc<AttemptSpec>) -> Result<Shell, AgentError> {
        let _ = spec;
        unimplemented!()
    }
    /// The kept sandbox of a failed attempt, as it was when it failed. `run` need not be begun.
    ///
    /// # Errors
    /// None was kept, or it cannot be opened any more.
    pub fn open_kept(&self, run: &RunId, step: &str) -> Result<Shell, AgentError> {
        let _ = (run, step);
        unimplemented!()
    }
}

/// What differs from `before` to `now`, at most `files_max` files of it.
pub fn differences(before: &ActionParts, now: &ActionParts, files_max: usize) -> Vec<Difference> {
    let _ = (before, now, files_max);
    unimplemented!()
}
