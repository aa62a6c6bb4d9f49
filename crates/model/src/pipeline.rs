//! The pipeline: what a file says after it was parsed, checked and typed. Includes and template uses are gone by now
//! (their steps stand in `steps`), a `matrix` still stands as written: `engine::plan` makes the instances.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::expr::{Expr, Template, Value};
use crate::{Bytes, GlobList, Span, StepId};

/// A checked pipeline.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pipeline {
    /// `name`.
    pub name: String,
    /// `on`: what starts a run.
    pub on: Triggers,
    /// `params`, by name.
    pub params: BTreeMap<String, Param>,
    /// `env` of all steps; a step's own `env` wins.
    pub env: BTreeMap<String, Template>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `sla`.
    pub sla: Option<Sla>,
    /// All steps, in the order of the file, each id once.
    pub steps: Vec<Arc<Step>>,
    /// The glob lists of every `hash(…)` call: their values must be known before the run is planned.
    pub hash_calls: BTreeSet<Vec<String>>,
    /// The names of every `env("NAME")` call.
    pub env_calls: BTreeSet<String>,
}

/// `on`. Empty (no `on` in the file) means: started by hand only.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Triggers {
    /// `push`.
    pub push: Option<PushFilter>,
    /// `pull_request`.
    pub pull_request: Option<PushFilter>,
    /// `schedule`.
    pub schedule: Vec<Schedule>,
    /// `manual` is written.
    pub manual: bool,
}

/// Filters of a push or a pull request. A filter that is not written lets everything pass.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct PushFilter {
    /// `branches` (of a pull request: the branch it goes to).
    pub branches: Option<GlobList>,
    /// `tags`. Who lists only one of `branches` and `tags` wants pushes of that kind only; neither written lets both pass.
    pub tags: Option<GlobList>,
    /// `paths`: at least one changed file matches.
    pub paths: Option<GlobList>,
}

/// One `schedule` entry, checked.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Five-field cron expression.
    pub cron: String,
    /// IANA time zone name; `UTC` when not written.
    pub timezone: String,
}

/// A declared parameter.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Param {
    /// `type`.
    pub kind: ParamKind,
    /// `default`, already of the right type and shape. `None`: must be given.
    pub default: Option<Value>,
    /// `pattern` of a string, checked to be a valid regular expression.
    pub pattern: Option<String>,
    /// `choices` of a string.
    pub choices: Vec<String>,
    /// `description`.
    pub description: Option<String>,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ParamKind {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// 64-bit signed number.
    Integer,
}

/// `concurrency`: at most one run of a group at a time.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Concurrency {
    /// The group's name.
    pub group: Template,
    /// What a newer run does to the older.
    pub policy: ConcurrencyPolicy,
}

/// What happens when a group is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ConcurrencyPolicy {
    /// The newer run waits.
    Queue,
    /// The older run is cancelled, then the newer starts.
    CancelRunning,
    /// The running one goes on; older ones that wait are cancelled, so that only the newest waits.
    CancelQueued,
}

/// `sla`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Sla {
    /// From request to first attempt.
    pub start_within: Option<Duration>,
    /// From request to end.
    pub finish_within: Option<Duration>,
}

/// A step as written, with `defaults` already filled in.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// `id`, unique in the pipeline; a step of a template use carries the use's id before it: `use.inner`.
    pub id: StepId,
    /// Where the step is written.
    pub span: Span,
    /// The `use` step it comes from, if it comes from a template. Steps of one use that share its matrix depend on each
    /// other cell by cell.
    pub scope: Option<StepId>,
    /// What it does.
    pub kind: StepKind,
    /// `depends_on`, resolved: each exists, no cycle.
    pub depends_on: Vec<StepId>,
    /// `when`.
    pub when: When,
    /// `if`, of type bool.
    pub condition: Option<Expr>,
    /// `allow_failure`.
    pub allow_failure: bool,
    /// `matrix`.
    pub matrix: Option<Box<Matrix>>,
    /// `shards`; 1 when not written.
    pub shards: u32,
    /// `retry`.
    pub retry: Retry,
    /// `timeout`.
    pub timeout: Timeout,
    /// `resources`.
    pub resources: Resources,
    /// `runs_on`: labels that its agent must have.
    #[serde(default)]
    pub runs_on: Vec<Template>,
}

/// What a step does: exactly one of these keys stands in a step. (`use` is gone: the template's steps replaced it.)
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum StepKind {
    /// `cmd`.
    Cmd(Box<CmdStep>),
    /// `approve`.
    Approve(Box<Approve>),
    /// `expand`: the path of a file that a former step wrote.
    Expand(String),
    /// What a `use` leaves behind under its own id: done when all the steps of the template are. It runs nothing.
    Group,
}

/// `cmd` and everything that describes its action.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CmdStep {
    /// The script. Values that a stranger can set do not stand in it: they are in `cmd_env`, and the script names them.
    pub cmd: Template,
    /// Variables `PACE_EXPR_n` that `cmd` refers to in place of unsafe `${{ }}`.
    pub cmd_env: BTreeMap<String, Template>,
    /// `shell`.
    pub shell: Shell,
    /// `env`.
    pub env: BTreeMap<String, Template>,
    /// `pass_env`.
    pub pass_env: Vec<String>,
    /// `secrets`.
    pub secrets: Vec<String>,
    /// `image`; `None` is the host's file system.
    pub image: Option<Template>,
    /// `inputs`; `None` is the whole workspace.
    pub inputs: Option<GlobList>,
    /// `outputs`; `None` is everything that was written.
    pub outputs: Option<GlobList>,
    /// `network`.
    pub network: Network,
    /// `caches`.
    pub caches: Vec<CacheDir>,
    /// `services`.
    pub services: Vec<Service>,
    /// `reports`: format to path.
    pub reports: BTreeMap<ReportKind, String>,
    /// `artifacts`.
    pub artifacts: Vec<Artifact>,
    /// `cache`.
    pub cache: CacheMode,
}

impl CmdStep {
    /// A command for `sh` with nothing beside it: no environment, no network, cached like any other.
    pub fn new(cmd: Template) -> CmdStep {
        CmdStep {
            cmd,
            cmd_env: BTreeMap::new(),
            shell: Shell::Sh,
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            secrets: Vec::new(),
            image: None,
            inputs: None,
            outputs: None,
            network: Network::None,
            caches: Vec::new(),
            services: Vec::new(),
            reports: BTreeMap::new(),
            artifacts: Vec::new(),
            cache: CacheMode::Auto,
        }
    }
}

/// `shell`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Shell {
    /// `sh -eu` (default).
    Sh,
    /// `bash -euo pipefail`.
    Bash,
    /// `python3`, the script on its command line as a file.
    Python,
    /// An argument list that the path of the script file is appended to.
    Argv(Vec<String>),
}

/// `when`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum When {
    /// All dependencies succeeded (default).
    Success,
    /// At least one dependency failed.
    Failure,
    /// All dependencies ended, however they did, and when the run is cancelled.
    Always,
}

/// `network`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// Loopback only (default).
    None,
    /// The host's network.
    Full,
    /// These `host:port` only.
    Hosts(Vec<String>),
}

/// `cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum CacheMode {
    /// By content (default).
    Auto,
    /// Always executed, never recorded.
    Never,
}

/// One of `caches`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CacheDir {
    /// Where the step sees it: `~/…`, absolute, or relative to the workspace.
    pub path: String,
    /// Its name.
    pub key: Template,
    /// Prefixes of other keys to start from when `key` is new; the newest match wins, first prefix first.
    pub fallback: Vec<Template>,
}

/// One of `services` (executed by a later version; parsed and checked now).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Service {
    /// `id`: also its host name.
    pub id: String,
    /// `image`.
    pub image: Option<Template>,
    /// `cmd`, of a service without an image, or instead of the image's own.
    pub cmd: Option<Template>,
    /// `env`.
    pub env: BTreeMap<String, Template>,
    /// `ready`.
    pub ready: Option<Ready>,
}

/// `ready` of a service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ready {
    /// How it is asked.
    pub probe: Probe,
    /// Until when it must answer.
    pub within: Duration,
}

/// How a service is asked whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Probe {
    /// The port accepts.
    Tcp(u16),
    /// `GET` of `:port/path` answers 2xx.
    Http(String),
    /// The command exits 0.
    Cmd(String),
}

/// A machine-readable result that later versions read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ReportKind {
    /// JUnit XML.
    Junit,
    /// `go test -json`.
    GoTest,
    /// Go cover profile.
    GoCover,
    /// libtest or nextest JSON.
    Libtest,
    /// LCOV.
    Lcov,
    /// Cobertura XML.
    Cobertura,
    /// SARIF.
    Sarif,
}

impl ReportKind {
    /// Every kind with the word that stands for it in a pipeline.
    pub const ALL: [(&'static str, ReportKind); 7] = [
        ("junit", ReportKind::Junit),
        ("go_test", ReportKind::GoTest),
        ("go_cover", ReportKind::GoCover),
        ("libtest", ReportKind::Libtest),
        ("lcov", ReportKind::Lcov),
        ("cobertura", ReportKind::Cobertura),
        ("sarif", ReportKind::Sarif),
    ];
    /// The word that stands for it in a pipeline.
    pub fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// One of `artifacts`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Artifact {
    /// `name`.
    pub name: String,
    /// `path` in the workspace, a file or a folder.
    pub path: String,
    /// `version`.
    pub version: Option<Template>,
}

/// `approve`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Approve {
    /// `by`: `user:NAME` or `team:NAME`.
    pub by: Vec<String>,
    /// `message`.
    pub message: Option<Template>,
    /// `expires`.
    pub expires: Option<Duration>,
}

/// `matrix`.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Matrix {
    /// Axes in the order of the file; each has at least one value.
    pub axes: Vec<(String, Vec<Value>)>,
    /// Cells that are left out: every named axis has this value.
    pub exclude: Vec<BTreeMap<String, Value>>,
    /// Cells that are added.
    pub include: Vec<BTreeMap<String, Value>>,
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Retry {
    /// `attempts` in all; 1 when not written.
    pub attempts: u16,
    /// `on`. Empty: every failure.
    pub on: Vec<RetryOn>,
    /// `backoff`.
    pub backoff: Backoff,
}

/// A cause that `retry` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RetryOn {
    /// The agent or its lease was lost, or preparing failed for reasons outside the step.
    Lost,
    /// A timeout, total or idle.
    Timeout,
    /// This exit code.
    Exit(i32),
    /// This signal.
    Signal(i32),
    /// Any failure.
    Any,
}

/// How long to wait before the next attempt: `initial * factor^(n-1)`, at most `max`, plus or minus `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Backoff {
    /// Before the second attempt.
    pub initial: Duration,
    /// At least 1.
    #[serde(with = "crate::exact")]
    pub factor: f64,
    /// The longest wait.
    pub max: Duration,
    /// Share of the wait that is random, 0 to 1.
    #[serde(with = "crate::exact")]
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 1, on: Vec::new(), backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { initial: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(30), jitter: 0.1 }
    }
}

/// `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Timeout {
    /// From start to end. `None`: [`crate::limits::TIMEOUT_DEFAULT`].
    pub total: Option<Duration>,
    /// Without a byte of output.
    pub idle: Option<Duration>,
}

/// `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: Option<u32>,
    /// `memory`.
    pub memory: Option<Bytes>,
    /// `pids`.
    pub pids: Option<u32>,
    /// `io_weight`, 1 to 10,000.
    pub io_weight: Option<u16>,
    /// `open_files`.
    pub open_files: Option<u32>,
    /// `file_size`.
    pub file_size: Option<Bytes>,
    /// `disk`: what it writes to its workspace, home and image, together.
    pub disk: Option<Bytes>,
    /// `output`: what it prints.
    pub output: Option<Bytes>,
    /// `enforce: best_effort` is written: run even where the host cannot hold the limits.
    pub best_effort: bool,
}

/// What started a run, as expressions and filters see it.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Trigger {
    /// `event`.
    pub event: Event,
    /// `git`.
    pub git: Git,
}

/// `event`.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// `event.kind`.
    pub kind: EventKind,
    /// `event.title` of a pull request.
    pub title: String,
    /// `event.number` of a pull request.
    pub number: u64,
    /// `event.author`.
    pub author: String,
    /// Changed files, if known; path filters read them.
    pub changed: Option<Vec<String>>,
    /// It comes from a fork: its run gets no secrets and writes into no cache.
    #[serde(default)]
    pub fork: bool,
}

/// `event.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum EventKind {
    /// By hand: `pace run`, the API.
    #[default]
    Manual,
    /// A branch or tag moved.
    Push,
    /// A pull request opened or changed.
    PullRequest,
    /// The clock.
    Schedule,
}

impl EventKind {
    /// The word in expressions and in `PACE_EVENT`.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::Manual => "manual",
            EventKind::Push => "push",
            EventKind::PullRequest => "pull_request",
            EventKind::Schedule => "schedule",
        }
    }
}

/// `git`.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Git {
    /// 40 hexadecimal digits, or empty outside a repository.
    pub commit: String,
    /// Branch, or empty.
    pub branch: String,
    /// Tag, or empty.
    pub tag: String,
    /// First line of the commit message.
    pub message: String,
    /// Author's name.
    pub author: String,
    /// The branch a pull request goes to, or empty.
    pub target: String,
}

impl Git {
    /// `git.short_sha`: the first seven digits.
    pub fn short_sha(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }
}
