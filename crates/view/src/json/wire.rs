//! The shapes of events as they are written. They are not the core's types on purpose: a change there must break the
//! compile here, and no one's script.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    ArtifactRef, AttemptEnd, AttemptNo, AttemptResult, CachedFrom, Cause, Digest, HostTraffic, LayerRef, NodeIx,
    Refusal, Traffic,
};
use serde::{Deserialize, Serialize};

/// One line. `flatten` is fine here: no person writes this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// When: ISO 8601, UTC.
    #[serde(default)]
    pub at: String,
    /// When: microseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub at_us: u64,
    /// The run's id.
    #[serde(default)]
    pub run: String,
    /// What happened.
    #[serde(flatten)]
    pub event: WireEvent,
}

/// What happened; the field `event` says which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WireEvent {
    /// A run was asked for.
    RunRequested(RunRequested),
    /// Somebody let a held run go.
    RunReleased(RunReleased),
    /// Its place in the queue changed.
    RunPrioritised(RunPrioritised),
    /// It may start.
    RunStarted {},
    /// A bound of its `sla` passed.
    SlaMissed(SlaMissed),
    /// The result of an ended run was taken over.
    StepKept(StepKept),
    /// All that an instance waited for is there.
    StepReady(StepReady),
    /// An agent executes an attempt.
    AttemptStarted(AttemptStarted),
    /// The agent keeps the attempt for longer.
    LeaseExtended(LeaseExtended),
    /// An attempt ended.
    AttemptEnded(Box<AttemptEnded>),
    /// Another attempt will be made.
    RetryPlanned(RetryPlanned),
    /// An `expand` step made steps.
    StepsAdded(StepsAdded),
    /// An `approve` step asks.
    ApprovalOpened(ApprovalOpened),
    /// Somebody answered.
    ApprovalGiven(ApprovalGiven),
    /// An instance ended, once and for all.
    StepEnded(StepEnded),
    /// Somebody asked to stop.
    CancelRequested(CancelRequested),
    /// The run ended.
    RunEnded(RunEnded),
    /// A line of output.
    Log(Log),
    /// Written by a later version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Declares a shape whose fields may all be missing, and keeps the table of its fields beside it.
macro_rules! shape {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $text:literal])+ $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[doc = $text])+ pub $field: $type,)*
        }
        impl $name {
            /// Name, type and meaning of each field, in the order they are written.
            pub(super) const FIELDS: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($field), stringify!($type), concat!($($text),+)),)*];
        }
    };
}

shape! {
    /// `run_requested`
    RunRequested {
        /// The run's number.
        number: u64,
        /// The pipeline's name.
        pipeline: String,
        /// What started it: `manual`, `push`, `pull_request`, `schedule`.
        trigger: String,
        /// The commit, or empty.
        commit: String,
        /// The branch, or empty.
        branch: String,
        /// The tag, or empty.
        tag: String,
        /// All parameters, as text.
        params: BTreeMap<String, String>,
        /// Why it waits until somebody lets it go.
        held: Option<String>,
        /// Higher goes first; 0 is usual.
        priority: i32,
        /// Who or what asked for it; empty for `pace run`.
        by: String,
        /// The id of the ended run that it does again.
        again: Option<String>,
        /// All step instances.
        steps: Vec<PlannedStep>,
    }
}
shape! {
    /// A step instance of a plan.
    PlannedStep {
        /// The instance's name: `test[go=1.23]`.
        step: String,
        /// The instance's number, from 0.
        node: u32,
        /// The step's id: `test`.
        id: String,
        /// Ids of the steps it depends on.
        depends_on: Vec<String>,
        /// The id of a template use: it ends when the template's steps have.
        runs_nothing: bool,
        /// Labels that its agent must have.
        runs_on: Vec<String>,
    }
}
shape! {
    /// `run_released`
    RunReleased {
        /// Who let it go.
        by: String,
    }
}
shape! {
    /// `run_prioritised`
    RunPrioritised {
        /// From now on; higher goes first, from -100 to 100.
        priority: i32,
        /// Who changed it.
        by: String,
    }
}
shape! {
    /// `sla_missed`
    SlaMissed {
        /// `start_within` or `finish_within`.
        bound: String,
        /// What was promised, from the request on, in microseconds.
        within_us: u64,
    }
}
shape! {
    /// `step_kept`
    StepKept {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// The run that it comes from.
        from: WireCached,
        /// What it wrote there.
        layer: Option<WireLayer>,
    }
}
shape! {
    /// `step_ready`
    StepReady {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
    }
}
shape! {
    /// `attempt_started`
    AttemptStarted {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// The try, from 1.
        attempt: u16,
        /// Who executes it.
        agent: String,
        /// When the agent loses it: microseconds since 1970-01-01 UTC.
        deadline_us: u64,
    }
}
shape! {
    /// `lease_extended`
    LeaseExtended {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// When the agent loses it now: microseconds since 1970-01-01 UTC.
        deadline_us: u64,
    }
}
shape! {
    /// `attempt_ended`
    AttemptEnded {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// The try, from 1.
        attempt: u16,
        /// `success`, `failure` or `cancelled`.
        outcome: String,
        /// Why it failed.
        cause: Option<WireCause>,
        /// The execution its result comes from, if that is the cache.
        cached: Option<WireCached>,
        /// From lease to end, in microseconds.
        took_us: u64,
        /// The part of it before the command's first instruction.
        prepare_us: u64,
        /// CPU time, user and system.
        cpu_us: u64,
        /// How long it was held back by its `cpu` limit, in microseconds.
        throttled_us: u64,
        /// Peak memory in bytes, with what it wrote to memory-backed folders; on a host without control groups that of
        /// its largest process.
        memory_peak: u64,
        /// Most processes and threads at one time; 0 where the host cannot count them.
        pids_peak: u32,
        /// Bytes read from disks; 0 where the host cannot count them.
        io_read: u64,
        /// Bytes written to disks; 0 where the host cannot count them.
        io_written: u64,
        /// What it reached over its network and was refused; nothing for `network: none`.
        traffic: Option<WireTraffic>,
        /// The action's digest: `sha256/size`.
        action: Option<String>,
        /// What it wrote.
        layer: Option<WireLayer>,
        /// Artifacts that were kept.
        artifacts: Vec<WireArtifact>,
        /// Reports that were kept.
        reports: Vec<WireReport>,
        /// Length of its log, in bytes.
        log_bytes: u64,
        /// The last lines of its log, at most 40.
        tail: Vec<String>,
        /// Things a person should know though nothing failed.
        notes: Vec<String>,
    }
}
shape! {
    /// `retry_planned`
    RetryPlanned {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// The attempt that will be made, from 2.
        attempt: u16,
        /// Not before: ISO 8601, UTC.
        not_before: String,
        /// Not before: microseconds since 1970-01-01 UTC.
        not_before_us: u64,
        /// Why the last one did not do.
        cause: WireCause,
    }
}
shape! {
    /// `steps_added`
    StepsAdded {
        /// The name of the `expand` step that made them.
        step: String,
        /// Its number.
        node: u32,
        /// Ids of the steps it made.
        ids: Vec<String>,
    }
}
shape! {
    /// `approval_opened`
    ApprovalOpened {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// What people are asked; may be empty.
        message: String,
        /// Who may answer: `user:NAME` or `team:NAME`, each is enough.
        by: Vec<String>,
        /// When it fails without an answer: ISO 8601, UTC.
        expires: String,
        /// When it fails without an answer: microseconds since 1970-01-01 UTC.
        expires_us: u64,
    }
}
shape! {
    /// `approval_given`
    ApprovalGiven {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// Who answered.
        by: String,
        /// Yes or no.
        approved: bool,
        /// What they said to it; may be empty.
        comment: String,
    }
}
shape! {
    /// `step_ended`
    StepEnded {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// `success`, `failure`, `skipped` or `cancelled`.
        outcome: String,
        /// Its result was taken from the cache.
        cached: bool,
        /// It failed, and `allow_failure` says that nobody minds.
        allowed: bool,
        /// Why it failed.
        cause: Option<WireCause>,
        /// Why it did not run.
        skip: Option<WireSkip>,
        /// Attempts it took.
        attempts: u16,
        /// From the start of its first attempt, in microseconds.
        took_us: u64,
        /// Its values for the steps that depend on it.
        values: BTreeMap<String, String>,
    }
}
shape! {
    /// `cancel_requested`
    CancelRequested {
        /// Who or what asked.
        by: String,
        /// Not even clean-up steps run.
        force: bool,
    }
}
shape! {
    /// `run_ended`
    RunEnded {
        /// `success`, `failure`, `infrastructure`, `refused` or `cancelled`.
        outcome: String,
        /// What `pace run` exits with.
        exit_code: u8,
        /// From request to end, in microseconds.
        took_us: u64,
    }
}
shape! {
    /// `log`
    Log {
        /// The instance's name.
        step: String,
        /// The instance's number.
        node: u32,
        /// The try, from 1.
        attempt: u16,
        /// One line, secrets masked, colours kept.
        text: String,
    }
}
shape! {
    /// Why something failed.
    WireCause {
        /// `exit`, `signal`, `timeout`, `idle`, a limit (`memory`, `pids`, `file_size`, `disk`, `host_disk`, `output`),
        /// `service`, `lost`, `infrastructure`, `refused`, `broken`, `expression`, `declined` or
        /// `unanswered`.
        kind: String,
        /// The exit code or the number of the signal.
        code: Option<i32>,
        /// The timeout, in microseconds.
        after_us: Option<u64>,
        /// For a person.
        text: String,
    }
}
shape! {
    /// What an attempt reached over its network, and what it was refused.
    WireTraffic {
        /// Hosts that it reached.
        hosts: Vec<WireHost>,
        /// What it was refused, at most 100.
        refused: Vec<WireRefusal>,
        /// Refusals beyond these.
        refused_more: u64,
    }
}
shape! {
    /// A host that an attempt reached.
    WireHost {
        /// Its name, or its address.
        host: String,
        /// The port.
        port: u16,
        /// Connections.
        connections: u64,
        /// Bytes that the step received.
        received: u64,
        /// Bytes that the step sent.
        sent: u64,
    }
}
shape! {
    /// Something that an attempt was not let reach.
    WireRefusal {
        /// `host:port`, or a name alone.
        what: String,
        /// Why not.
        why: String,
        /// How often.
        count: u64,
    }
}
shape! {
    /// Why a step did not run.
    WireSkip {
        /// `condition`, `not_selected`, `dependency_skipped`, `dependency_failed`, `nothing_failed` or `run_failed`.
        kind: String,
        /// The step it is about.
        because_of: Option<String>,
        /// For a person.
        text: String,
    }
}
shape! {
    /// The execution a cached result comes from.
    WireCached {
        /// The id of the run that executed it.
        run: String,
        /// That run's number.
        number: u64,
        /// How long it took then, in microseconds.
        took_us: u64,
    }
}
shape! {
    /// What an attempt wrote.
    WireLayer {
        /// Digest of the layer's manifest: `sha256/size`.
        digest: String,
        /// Files in it.
        files: u32,
        /// Their bytes.
        bytes: u64,
    }
}
shape! {
    /// A kept artifact.
    WireArtifact {
        /// Name.
        name: String,
        /// Version.
        version: Option<String>,
        /// Path in the workspace.
        path: String,
        /// Its files.
        files: Vec<WireFile>,
    }
}
shape! {
    /// A file of an artifact.
    WireFile {
        /// Path below the artifact's; empty for the artifact's path itself.
        path: String,
        /// Content: `sha256/size`.
        digest: String,
        /// It may be executed.
        executable: bool,
    }
}
shape! {
    /// A kept report.
    WireReport {
        /// `junit`, `go_test`, `go_cover`, `libtest`, `lcov`, `cobertura` or `sarif`.
        kind: String,
        /// Content: `sha256/size`.
        digest: String,
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Reads `sha256/size` back; `None` for anything else.
pub fn read_digest(text: &str) -> Option<Digest> {
    let (hash, size) = text.split_once('/')?;
    Digest::from_hex(hash, size.parse().ok()?)
}

impl AttemptEnded {
    pub(super) fn new(step: String, node: NodeIx, attempt: AttemptNo, result: &AttemptResult) -> Self {
        let (outcome, cause) = match &result.end {
            AttemptEnd::Succeeded => ("success", None),
            AttemptEnd::Failed(cause) => ("failure", Some(cause.into())),
            AttemptEnd::Cancelled => ("cancelled", None),
        };
        let report = |(kind, digest): &(model::ReportKind, Digest)| WireReport {
            kind: kind.word().to_owned(),
            digest: digest.to_string(),
        };
        AttemptEnded {
            step,
            node: node.0,
            attempt: attempt.0,
            outcome: outcome.to_owned(),
            cause,
            cached: result.cached.as_ref().map(Into::into),
            took_us: micros(result.took),
            prepare_us: micros(result.prepare),
            cpu_us: micros(result.usage.cpu),
            throttled_us: micros(result.usage.throttled),
            memory_peak: result.usage.memory_peak,
            pids_peak: result.usage.pids_peak,
            io_read: result.usage.io_read,
            io_written: result.usage.io_written,
            traffic: result.traffic.as_ref().map(Into::into),
            action: result.action.map(|digest| digest.to_string()),
            layer: result.layer.as_ref().map(Into::into),
            artifacts: result.artifacts.iter().map(Into::into).collect(),
            reports: result.reports.iter().map(report).collect(),
            log_bytes: result.log_bytes,
            tail: result.tail.clone(),
            notes: result.notes.clone(),
        }
    }
}

impl From<&Cause> for WireCause {
    fn from(cause: &Cause) -> Self {
        let (code, after) = match cause {
            Cause::Exit(code) | Cause::Signal(code) => (Some(*code), None),
            Cause::TimedOut(after) | Cause::Idle(after) | Cause::Unanswered(after) => (None, Some(micros(*after))),
            _ => (None, None),
        };
        WireCause { kind: super::cause_kind(cause).to_owned(), code, after_us: after, text: cause.to_string() }
    }
}

impl From<&Traffic> for WireTraffic {
    fn from(traffic: &Traffic) -> Self {
        let host = |host: &HostTraffic| WireHost {
            host: host.host.clone(),
            port: host.port,
            connections: host.connections,
            received: host.received,
            sent: host.sent,
        };
        let refusal = |refusal: &Refusal| WireRefusal {
            what: refusal.what.clone(),
            why: refusal.why.clone(),
            count: refusal.count,
        };
        WireTraffic {
            hosts: traffic.hosts.iter().map(host).collect(),
            refused: traffic.refused.iter().map(refusal).collect(),
            refused_more: traffic.refused_more,
        }
    }
}

impl From<&CachedFrom> for WireCached {
    fn from(from: &CachedFrom) -> Self {
        WireCached { run: from.run.to_string(), number: from.number.0, took_us: micros(from.took) }
    }
}

impl From<&LayerRef> for WireLayer {
    fn from(layer: &LayerRef) -> Self {
        WireLayer { digest: layer.digest.to_string(), files: layer.files, bytes: layer.bytes }
    }
}

impl From<&ArtifactRef> for WireArtifact {
    fn from(artifact: &ArtifactRef) -> Self {
        let file = |(path, digest, executable): &(String, Digest, bool)| WireFile {
            path: path.clone(),
            digest: digest.to_string(),
            executable: *executable,
        };
        WireArtifact {
            name: artifact.name.clone(),
            version: artifact.version.clone(),
            path: artifact.path.clone(),
            files: artifact.files.iter().map(file).collect(),
        }
    }
}
