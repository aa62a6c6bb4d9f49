//! What an agent is asked to execute, and what it answers.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{
    AttemptNo, CacheMode, Digest, Fence, GlobList, LimitHit, Network, NodeIx, Ready, ReportKind, Resources, RunId,
    RunNumber, Shell, StepId, Traffic, Usage,
};

/// One attempt, with every expression already rendered: executing it leaves no choice open.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttemptSpec {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
    /// The instance.
    pub node: NodeIx,
    /// The instance's name.
    pub name: Arc<str>,
    /// The try.
    pub attempt: AttemptNo,
    /// The lease's fencing number.
    pub fence: Fence,
    /// Instances whose layers it sees, directly (theirs come with them). All of them succeeded, or may fail.
    pub needs: Vec<NodeIx>,
    /// What it does.
    pub work: Work,
    /// From start to end.
    pub timeout_total: Duration,
    /// Without a byte of output.
    pub timeout_idle: Option<Duration>,
    /// What it asks for.
    pub resources: Resources,
}

/// What an attempt does.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Work {
    /// Run a command.
    Command(Arc<CommandSpec>),
    /// Read a pipeline fragment from the workspace and hand its text back ([`AttemptResult::text`]).
    ReadFile(String),
}

/// A command with everything that describes its action.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CommandSpec {
    /// The script.
    pub script: String,
    /// Who reads the script.
    pub shell: Shell,
    /// The step it is an instance of.
    pub step: StepId,
    /// Its shard, counted from 1, and of how many.
    pub shard: Option<(u32, u32)>,
    /// `env`, of the pipeline and the step's own. Shared, because most steps of a run have the same.
    pub env: Arc<BTreeMap<String, String>>,
    /// What every step of the run gets and is not part of the key: `PACE_RUN_ID` and the like.
    pub run_env: Arc<BTreeMap<String, String>>,
    /// Names to take from the caller's environment; in the key.
    pub pass_env: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// `image`.
    pub image: Option<String>,
    /// `inputs`.
    pub inputs: Option<GlobList>,
    /// `outputs`.
    pub outputs: Option<GlobList>,
    /// `network`.
    pub network: Network,
    /// `caches`.
    pub caches: Vec<CacheSpec>,
    /// `services`.
    pub services: Vec<ServiceSpec>,
    /// `reports`.
    pub reports: BTreeMap<ReportKind, String>,
    /// `artifacts`.
    pub artifacts: Vec<ArtifactSpec>,
    /// `cache`.
    pub cache: CacheMode,
    /// Look nothing up, but record: `--no-cache`, `--from`, a retry.
    pub fresh: bool,
    /// Execute even on a hit and compare: `--verify`.
    pub verify: bool,
    /// Somebody may read its layer: it has dependants. Otherwise the layer is kept only if `outputs` or `artifacts` ask.
    pub has_dependants: bool,
}

impl CommandSpec {
    /// A script for `sh` with nothing beside it: no environment, no network, cached like any other.
    pub fn new(script: &str) -> CommandSpec {
        CommandSpec {
            script: script.into(),
            shell: Shell::Sh,
            step: StepId::new("step"),
            shard: None,
            env: Arc::default(),
            run_env: Arc::default(),
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
            fresh: false,
            verify: false,
            has_dependants: false,
        }
    }

    /// The variables that it gets and that are part of its key, without `pass_env` and secrets: `env` and what tells the
    /// step who it is.
    pub fn keyed_env(&self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::clone(&self.env);
        let mut set = |name: &str, value: String| env.insert(name.into(), value);
        set("CI", "true".into());
        set("PACE", "true".into());
        set("PACE_STEP", self.step.as_str().into());
        if let Some((index, total)) = self.shard {
            set("PACE_SHARD_INDEX", index.to_string());
            set("PACE_SHARD_TOTAL", total.to_string());
        }
        env
    }

    /// The variables that it gets in this attempt and that are no part of its key.
    pub fn unkeyed_env(&self, attempt: AttemptNo) -> BTreeMap<String, String> {
        let mut env = BTreeMap::clone(&self.run_env);
        env.insert("PACE_ATTEMPT".into(), attempt.0.to_string());
        env
    }
}

/// A named cache directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheSpec {
    /// As in [`crate::CacheDir`].
    pub path: String,
    /// As in [`crate::CacheDir`].
    pub key: String,
    /// As in [`crate::CacheDir`].
    pub fallback: Vec<String>,
}

/// A service, rendered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServiceSpec {
    /// `id`.
    pub id: String,
    /// `image`; `None` is the host's file system.
    pub image: Option<String>,
    /// `cmd`; `None` is the image's own.
    pub cmd: Option<String>,
    /// `env`.
    pub env: BTreeMap<String, String>,
    /// `ready`; without it the step starts as soon as the service runs.
    pub ready: Option<Ready>,
}

/// An artifact to keep.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArtifactSpec {
    /// Name.
    pub name: String,
    /// Path in the workspace.
    pub path: String,
    /// Version.
    pub version: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttemptResult {
    /// Success or the cause of failure.
    pub end: AttemptEnd,
    /// Taken from the cache: by whom it was executed, and how long that took.
    pub cached: Option<CachedFrom>,
    /// From lease to end.
    pub took: Duration,
    /// The part of it before the command's first instruction.
    pub prepare: Duration,
    /// Lines of `$PACE_VALUES`.
    pub values: BTreeMap<String, String>,
    /// The action's digest, if it got that far.
    pub action: Option<Digest>,
    /// What it wrote.
    pub layer: Option<LayerRef>,
    /// Kept artifacts.
    pub artifacts: Vec<ArtifactRef>,
    /// Kept reports.
    pub reports: Vec<(ReportKind, Digest)>,
    /// The last lines of the log, masked: at most [`TAIL_LINES_MAX`].
    pub tail: Vec<String>,
    /// Length of the log.
    pub log_bytes: u64,
    /// What it used of the machine.
    pub usage: Usage,
    /// What it reached and tried to reach; `None` for `network: none`, and where nobody counted.
    pub traffic: Option<Traffic>,
    /// Things a person should know though nothing failed.
    pub notes: Vec<String>,
    /// For [`Work::ReadFile`]: the text.
    pub text: Option<String>,
}

/// Lines of [`AttemptResult::tail`].
pub const TAIL_LINES_MAX: usize = 40;

impl AttemptResult {
    /// A result with nothing in it but its end.
    pub fn ended(end: AttemptEnd) -> Self {
        AttemptResult {
            end,
            cached: None,
            took: Duration::ZERO,
            prepare: Duration::ZERO,
            values: BTreeMap::new(),
            action: None,
            layer: None,
            artifacts: Vec::new(),
            reports: Vec::new(),
            tail: Vec::new(),
            log_bytes: 0,
            usage: Usage::default(),
            traffic: None,
            notes: Vec::new(),
            text: None,
        }
    }
}

/// Success or the cause of failure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AttemptEnd {
    /// Exit 0.
    Succeeded,
    /// It failed.
    Failed(Cause),
    /// It was told to stop, and did.
    Cancelled,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Cause {
    /// The command's exit code, not 0.
    Exit(i32),
    /// The command was ended by this signal.
    Signal(i32),
    /// Longer than its total timeout.
    TimedOut(Duration),
    /// No output for its idle timeout.
    Idle(Duration),
    /// It went over one of its limits.
    Limit(LimitHit),
    /// A service beside it did not start, did not get ready or ended. A whole sentence.
    Service(String),
    /// The agent vanished or its lease ran out.
    Lost(String),
    /// Something around the step failed: disk, sandbox, cache. A whole sentence with what to do.
    Infrastructure(String),
    /// What the step asks for is not to be had here: images, services, a network list. A whole sentence.
    Refused(String),
    /// Two steps it depends on wrote different bytes to one path, an output is missing, values are malformed,
    /// `--verify` found a difference. A whole sentence.
    Broken(String),
    /// An expression had no value. A whole sentence.
    Expression(String),
    /// A person said no to an approval. A whole sentence: who, and what they said to it.
    Declined(String),
    /// Nobody answered an approval for so long.
    Unanswered(Duration),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::units::show_duration;
        match self {
            Cause::Exit(code) => write!(f, "exit code {code}"),
            Cause::Signal(signal) => write!(f, "ended by {}", signal_name(*signal)),
            Cause::TimedOut(after) => write!(f, "timed out after {}", show_duration(*after)),
            Cause::Idle(after) => write!(f, "no output for {}", show_duration(*after)),
            Cause::Limit(limit) => write!(f, "{limit}"),
            Cause::Lost(why) => write!(f, "lost: {why}"),
            Cause::Unanswered(after) => write!(f, "nobody answered for {}", show_duration(*after)),
            Cause::Declined(why)
            | Cause::Service(why)
            | Cause::Infrastructure(why)
            | Cause::Refused(why)
            | Cause::Broken(why)
            | Cause::Expression(why) => f.write_str(why),
        }
    }
}

/// `SIGKILL` for 9, and so on; `signal 42` for those without a common name.
pub fn signal_name(signal: i32) -> Arc<str> {
    const NAMES: [(i32, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS (a system call that the sandbox forbids)"),
    ];
    match NAMES.into_iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => name.into(),
        None => alloc::format!("signal {signal}").into(),
    }
}

/// The execution a cached result comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CachedFrom {
    /// The run that executed it.
    pub run: RunId,
    /// That run's number.
    pub number: RunNumber,
    /// How long it took then.
    pub took: Duration,
}

/// What an attempt wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerRef {
    /// Digest of the layer's manifest.
    pub digest: Digest,
    /// Files in it.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// A kept artifact.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArtifactRef {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Option<String>,
    /// Path in the workspace.
    pub path: String,
    /// Its files: path below `path` (empty for `path` itself), content, executable.
    pub files: Vec<(String, Digest, bool)>,
}
