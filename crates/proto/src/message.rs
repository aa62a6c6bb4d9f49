//! The messages.

use prost::{Message, Oneof};

/// What an agent says.
#[derive(Clone, PartialEq, Message)]
pub struct FromAgent {
    /// One of these.
    #[prost(oneof = "AgentWord", tags = "1, 2, 3, 4, 5, 6")]
    pub word: Option<AgentWord>,
}

/// What an agent says.
#[derive(Clone, PartialEq, Oneof)]
pub enum AgentWord {
    /// The first word.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// I am here. Renews all leases.
    #[prost(message, tag = "2")]
    Heartbeat(Heartbeat),
    /// Output.
    #[prost(message, tag = "3")]
    Log(Log),
    /// An attempt ended; all of its log was said before.
    #[prost(message, tag = "4")]
    Finished(Finished),
    /// I take nothing more, and go when what I have is done.
    #[prost(message, tag = "5")]
    Draining(Draining),
    /// What a run left behind.
    #[prost(message, tag = "6")]
    Artifact(Artifact),
}

/// The first word of an agent. Its credential is the bearer token of the call.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// Major and minor of [`crate::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub major: u32,
    /// Minor.
    #[prost(uint32, tag = "2")]
    pub minor: u32,
    /// Version of the program.
    #[prost(string, tag = "3")]
    pub version: String,
    /// `model::Capacity` as JSON.
    #[prost(string, tag = "4")]
    pub capacity: String,
    /// Labels: `linux`, `x86_64`, `gpu`.
    #[prost(string, repeated, tag = "5")]
    pub labels: Vec<String>,
    /// Leases that it holds: attempts that run, or whose results were not acknowledged.
    #[prost(message, repeated, tag = "6")]
    pub held: Vec<Lease>,
    /// What its host can enforce, a sentence for people.
    #[prost(string, tag = "7")]
    pub host: String,
}

/// A lease.
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    /// The run.
    #[prost(string, tag = "1")]
    pub run: String,
    /// The instance.
    #[prost(uint32, tag = "2")]
    pub node: u32,
    /// The try.
    #[prost(uint32, tag = "3")]
    pub attempt: u32,
    /// The fencing number.
    #[prost(uint64, tag = "4")]
    pub fence: u64,
}

/// I am here.
#[derive(Clone, PartialEq, Message)]
pub struct Heartbeat {
    /// Leases that it holds.
    #[prost(message, repeated, tag = "1")]
    pub held: Vec<Lease>,
}

/// Output of an attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Log {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub lease: Option<Lease>,
    /// Where in the log the bytes begin.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Whole lines, `<unix milliseconds> <text>`, at most [`crate::LOG_BYTES_MAX`].
    #[prost(bytes = "vec", tag = "3")]
    pub bytes: Vec<u8>,
}

/// An attempt ended.
#[derive(Clone, PartialEq, Message)]
pub struct Finished {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub lease: Option<Lease>,
    /// `model::AttemptResult` as JSON.
    #[prost(string, tag = "2")]
    pub result: String,
    /// Bytes of its log: the server takes the result only when it has them all.
    #[prost(uint64, tag = "3")]
    pub log_bytes: u64,
}

/// I take nothing more.
#[derive(Clone, PartialEq, Message)]
pub struct Draining {
    /// Why, for people.
    #[prost(string, tag = "1")]
    pub why: String,
}

/// A file of an artifact is in the server's cache by its digest, and is to be kept.
#[derive(Clone, PartialEq, Message)]
pub struct Artifact {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub lease: Option<Lease>,
    /// `model::ArtifactRef` as JSON.
    #[prost(string, tag = "2")]
    pub artifact: String,
}

/// What a server says.
#[derive(Clone, PartialEq, Message)]
pub struct FromServer {
    /// One of these.
    #[prost(oneof = "ServerWord", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub word: Option<ServerWord>,
}

/// What a server says.
#[derive(Clone, PartialEq, Oneof)]
pub enum ServerWord {
    /// The answer to the first word.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// Before the first attempt of a run on this agent and connection.
    #[prost(message, tag = "2")]
    Begin(Begin),
    /// Execute an attempt.
    #[prost(message, tag = "3")]
    Execute(Execute),
    /// Stop an attempt.
    #[prost(message, tag = "4")]
    Stop(Stop),
    /// A run ended: forget it.
    #[prost(message, tag = "5")]
    End(End),
    /// Output is durable up to here.
    #[prost(message, tag = "6")]
    LogTaken(LogTaken),
    /// A result is durable, or is not wanted any more: forget it.
    #[prost(message, tag = "7")]
    ResultTaken(Lease),
    /// Go when what you have is done.
    #[prost(message, tag = "8")]
    Drain(Draining),
    /// The answer to each heartbeat.
    #[prost(message, tag = "9")]
    Renewed(Renewed),
}

/// The answer to the first word.
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// The name the server knows the agent by.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// Version of the server's program.
    #[prost(string, tag = "2")]
    pub version: String,
    /// How often it wants a heartbeat, in milliseconds.
    #[prost(uint32, tag = "3")]
    pub heartbeat_ms: u32,
    /// How long a lease lasts without one, in milliseconds.
    #[prost(uint32, tag = "4")]
    pub lease_ms: u32,
    /// Leases of [`Hello::held`] that are not valid any more: stop these.
    #[prost(message, repeated, tag = "5")]
    pub void: Vec<Lease>,
    /// Key for the versions of secrets in action keys, so that all agents make the same ones; 32 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub version_key: Vec<u8>,
}

/// What an agent must know of a run.
#[derive(Clone, PartialEq, Message)]
pub struct Begin {
    /// The run.
    #[prost(string, tag = "1")]
    pub run: String,
    /// [`RunBrief`] as JSON.
    #[prost(string, tag = "2")]
    pub brief: String,
}

/// What an agent must know of a run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RunBrief {
    /// The project.
    pub project: String,
    /// The run's number.
    pub number: u64,
    /// The commit, 40 or 64 hexadecimal digits. The server serves it at `/git/<project>` by git's smart protocol.
    pub commit: String,
    /// Stable name of project and pipeline.
    pub key: String,
    /// Who pays.
    pub tenant: String,
    /// Named caches are shared with runs of the same scope only; empty: with none.
    pub cache_scope: String,
    /// Instance name of the server's cache that the run reads.
    pub cache_instance: String,
    /// The run may write results and named caches into it. Not so for pull requests of forks.
    pub cache_writes: bool,
}

/// Execute an attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Execute {
    /// `model::AttemptSpec` as JSON.
    #[prost(string, tag = "1")]
    pub spec: String,
    /// Values of the secrets that it asks for.
    #[prost(map = "string, string", tag = "2")]
    pub secrets: std::collections::HashMap<String, String>,
    /// What the instances that it needs wrote and are not known to have been executed by this agent, as JSON:
    /// list of [`Known`].
    #[prost(string, tag = "3")]
    pub known: String,
}

/// How an instance that another needs ended: enough to lay its layer under a workspace.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// The instance.
    pub node: model::NodeIx,
    /// Its name, for messages.
    pub name: String,
    /// What it needed itself, directly.
    pub needs: Vec<model::NodeIx>,
    /// What it wrote; the server's cache has it.
    pub layer: Option<model::LayerRef>,
    /// Its action.
    pub action: Option<model::Digest>,
}

/// Stop an attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Stop {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub lease: Option<Lease>,
    /// SIGKILL at once.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// A run ended.
#[derive(Clone, PartialEq, Message)]
pub struct End {
    /// The run.
    #[prost(string, tag = "1")]
    pub run: String,
}

/// Output is durable.
#[derive(Clone, PartialEq, Message)]
pub struct LogTaken {
    /// Whose.
    #[prost(message, optional, tag = "1")]
    pub lease: Option<Lease>,
    /// Up to this byte.
    #[prost(uint64, tag = "2")]
    pub length: u64,
}

/// The answer to each [`Heartbeat`], in their order: all leases it named and that are valid are renewed. An agent that gets none
/// for [`Welcome::lease_ms`] stops what it runs, since others may run it by then.
#[derive(Clone, PartialEq, Message)]
pub struct Renewed {}

/// The question of a new agent.
#[derive(Clone, PartialEq, Message)]
pub struct Registration {
    /// The single-use token.
    #[prost(string, tag = "1")]
    pub token: String,
    /// The name it wants.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its labels.
    #[prost(string, repeated, tag = "3")]
    pub labels: Vec<String>,
}

/// The answer: what it shows from now on.
#[derive(Clone, PartialEq, Message)]
pub struct Registered {
    /// The name it has.
    #[prost(string, tag = "1")]
    pub agent: String,
    /// Bearer token of its calls, of the cache and of git.
    #[prost(string, tag = "2")]
    pub credential: String,
}
