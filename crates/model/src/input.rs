//! Everything that can move the world, and everything the world can ask for.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{AgentId, AttemptNo, AttemptResult, AttemptSpec, Fact, Fence, NodeIx, Plan, RunId, Step};

/// Something from outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody wants a run. Asking again for the same run changes nothing.
    RunRequested {
        /// What is to be done.
        plan: Arc<Plan>,
    },
    /// An agent offers its hands. Again: its capacity changed.
    AgentJoined {
        /// Who.
        agent: AgentId,
        /// How much at once.
        capacity: Capacity,
    },
    /// An agent is gone; what it leased is lost.
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
