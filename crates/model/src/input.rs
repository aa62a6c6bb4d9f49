//! Everything that can move the world, and everything the world can ask for.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{
    AgentId, AttemptNo, AttemptResult, AttemptSpec, CachedFrom, Fact, Fence, NodeIx, Plan, RunId, Step, Timestamp,
};

/// Something from outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody wants a run. Asking again for the same run changes nothing.
    RunRequested {
        /// What is to be done.
        plan: Arc<Plan>,
    },
    /// Somebody wants an ended run again. Asking again for the same run changes nothing.
    RunAgain {
        /// What is to be done; [`crate::Terms::again`] says of which run.
        plan: Arc<Plan>,
        /// Results that are taken over, by instance of `plan`.
        kept: Vec<Kept>,
    },
    /// Somebody lets a held run go.
    Released {
        /// The run.
        run: RunId,
        /// Who.
        by: String,
    },
    /// Somebody changes the place of a run in the queue.
    Prioritised {
        /// The run.
        run: RunId,
        /// From [`crate::PRIORITY_MIN`] to [`crate::PRIORITY_MAX`]; what lies outside counts as the bound.
        priority: i32,
        /// Who.
        by: String,
    },
    /// Somebody answers an approval. Whether they may was checked outside; the first answer counts.
    Answered {
        /// The run.
        run: RunId,
        /// The `approve` step.
        node: NodeIx,
        /// Who.
        by: String,
        /// Yes or no.
        approved: bool,
        /// What they say to it; may be empty.
        comment: String,
    },
    /// An agent offers its hands. Again: its capacity or labels changed. What it leased goes on.
    AgentJoined {
        /// Who.
        agent: AgentId,
        /// How much at once.
        capacity: Capacity,
        /// Its labels, for `runs_on`.
        labels: Labels,
    },
    /// An agent is there again after a reconnect of its own or a failover of the server, or for the first time. Leases that
    /// it still holds go on, those that it does not hold are lost, and what it holds without right is stopped.
    AgentBack {
        /// Who.
        agent: AgentId,
        /// How much at once.
        capacity: Capacity,
        /// Its labels, for `runs_on`.
        labels: Labels,
        /// What it executes, or has results of that were not taken yet.
        held: Vec<Held>,
    },
    /// An agent is alive: its leases last for another time to live. What it holds without right is stopped.
    Heartbeat {
        /// Who.
        agent: AgentId,
        /// What it executes, or has results of that were not taken yet.
        held: Vec<Held>,
    },
    /// An agent gets nothing new while it is paused; what it has goes on. May be said before it joins.
    AgentPaused {
        /// Who.
        agent: AgentId,
        /// It is, or not any more.
        paused: bool,
    },
    /// The connection of an agent broke. It gets nothing new; what it leased is lost when its leases run out, unless
    /// it is back before.
    AgentAway {
        /// Who.
        agent: AgentId,
    },
    /// An agent is gone for good; what it leased is lost at once.
    AgentLeft {
        /// Who.
        agent: AgentId,
    },
    /// An agent answers. With an old fencing number it changes nothing.
    AttemptFinished {
        /// The run.
        run: RunId,
        /// The instance.
        node: NodeIx,
        /// The try.
        attempt: AttemptNo,
        /// Under which number.
        fence: Fence,
        /// How it ended.
        result: Arc<AttemptResult>,
    },
    /// The text that an `expand` step read was parsed and checked, or refused with a whole report.
    Expanded {
        /// The run.
        run: RunId,
        /// The `expand` step.
        node: NodeIx,
        /// Its lease.
        fence: Fence,
        /// The steps, or why not.
        steps: Result<Vec<Arc<Step>>, String>,
    },
    /// Somebody wants a run to stop.
    CancelRequested {
        /// The run.
        run: RunId,
        /// Who or what.
        by: String,
        /// Not even clean-up steps, and SIGKILL at once.
        force: bool,
    },
    /// Time went on: something waits for `now`.
    Tick,
}

/// Labels of an agent: `linux`, `x86_64`, `gpu`.
pub type Labels = BTreeSet<String>;

/// Whether a text can be a label: letters, digits, `-`, `_`, `.`, `:`, `/` and `=`, at most
/// [`crate::limits::LABEL_BYTES_MAX`] bytes, at least one.
pub fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/=".contains(&byte);
    (1..=crate::limits::LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// A lease as an agent names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Held {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub node: NodeIx,
    /// The try.
    pub attempt: AttemptNo,
    /// The fencing number.
    pub fence: Fence,
}

/// A result of an ended run that another takes over.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The instance, of the new plan.
    pub node: NodeIx,
    /// The run that executed it.
    pub from: CachedFrom,
    /// How it ended there.
    pub result: Arc<AttemptResult>,
}

/// What an agent can do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capacity {
    /// Attempts.
    pub slots: u32,
    /// Thousandths of CPUs, shared by steps that ask for `resources.cpu`.
    pub cpu_milli: u32,
    /// Bytes, shared by steps that ask for `resources.memory`.
    pub memory: u64,
}

/// Something to do outside. Doing it twice does no harm: each carries its fencing number.
#[derive(Clone, Debug)]
pub enum Command {
    /// Execute an attempt.
    Execute {
        /// Who.
        agent: AgentId,
        /// What.
        spec: Arc<AttemptSpec>,
    },
    /// Stop an attempt: SIGTERM, [`crate::limits::CANCEL_GRACE`], SIGKILL; with `force` SIGKILL at once.
    Stop {
        /// Who.
        agent: AgentId,
        /// The run.
        run: RunId,
        /// The instance.
        node: NodeIx,
        /// Under which number.
        fence: Fence,
        /// SIGKILL at once.
        force: bool,
    },
    /// Parse and check what an `expand` step read; answer with [`Input::Expanded`].
    Expand {
        /// The run.
        run: RunId,
        /// The `expand` step.
        node: NodeIx,
        /// Its lease.
        fence: Fence,
        /// The file's path in the workspace.
        path: String,
        /// Its text.
        text: String,
        /// Nesting of `expand` so far, from 1.
        depth: usize,
    },
}

/// What `decide` returns: facts to append, then things to do, and why.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// When it was made: agents and their leases in memory count from here.
    pub at: Timestamp,
    /// To be appended before anything else happens.
    pub events: Vec<Fact>,
    /// To be carried out after that.
    pub commands: Vec<Command>,
    /// Why, for people and logs.
    pub because: Vec<Reason>,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The run, if it is about one.
    pub run: Option<RunId>,
    /// The instance, if it is about one.
    pub node: Option<NodeIx>,
    /// A short sentence.
    pub text: String,
}
