//! Facts. Everything a person sees is a fold over these, and so is the engine's own state.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{AgentId, AttemptNo, AttemptResult, CachedFrom, Cause, Fence, NodeIx, Plan, RunId, Step, Timestamp};

/// A fact about one run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    /// When.
    pub at: Timestamp,
    /// Which run.
    pub run: RunId,
    /// What.
    pub event: RunEvent,
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum RunEvent {
    /// It was asked for.
    Requested {
        /// Everything that is to be done.
        plan: Arc<Plan>,
    },
    /// Somebody let a held run go ([`crate::Terms::held`]). It starts when its concurrency group is free.
    Released {
        /// Who.
        by: String,
    },
    /// Its place in the queue changed.
    Prioritised {
        /// From now on, within [`crate::PRIORITY_MIN`] and [`crate::PRIORITY_MAX`].
        priority: i32,
        /// Who changed it.
        by: String,
    },
    /// It may start (its concurrency group is free).
    Started,
    /// A bound of its `sla` passed.
    SlaMissed {
        /// Which.
        bound: SlaBound,
        /// What was promised, counted from the request.
        within: Duration,
    },
    /// The result of an ended run was taken over: the instance is not executed. It ends when the run starts.
    StepKept {
        /// The instance.
        node: NodeIx,
        /// The run that it comes from, and how long it took there.
        from: CachedFrom,
        /// How it ended there: its layer, values, artifacts.
        result: Arc<AttemptResult>,
    },
    /// All that an instance waited for is there.
    StepReady {
        /// The instance.
        node: NodeIx,
    },
    /// An agent got the right to execute an attempt.
    AttemptLeased {
        /// The instance.
        node: NodeIx,
        /// The try.
        attempt: AttemptNo,
        /// Who.
        agent: AgentId,
        /// Under which number.
        fence: Fence,
        /// Until when.
        deadline: Timestamp,
    },
    /// The right to execute an attempt lasts longer than it was given for, because the server slept or its clock jumped.
    LeaseExtended {
        /// The instance.
        node: NodeIx,
        /// Until when now.
        deadline: Timestamp,
    },
    /// An attempt ended.
    AttemptEnded {
        /// The instance.
        node: NodeIx,
        /// The try.
        attempt: AttemptNo,
        /// How.
        result: Arc<AttemptResult>,
    },
    /// Another attempt will be made.
    RetryPlanned {
        /// The instance.
        node: NodeIx,
        /// Not before.
        not_before: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// An `expand` step made steps. They are numbered on from the plan's last ones.
    Expanded {
        /// The `expand` step.
        node: NodeIx,
        /// What it made; ids carry its own before them: `more.build`.
        steps: Vec<Arc<Step>>,
    },
    /// An `approve` step asks.
    ApprovalOpened {
        /// The instance.
        node: NodeIx,
        /// What people are asked; may be empty.
        message: String,
        /// Who may answer: `user:NAME` or `team:NAME`, each is enough.
        by: Vec<String>,
        /// When it fails without an answer.
        expires: Timestamp,
    },
    /// Somebody answered.
    ApprovalGiven {
        /// The instance.
        node: NodeIx,
        /// Who.
        by: String,
        /// Yes or no.
        approved: bool,
        /// What they said to it; may be empty.
        comment: String,
    },
    /// An instance ended, once and for all.
    StepEnded {
        /// The instance.
        node: NodeIx,
        /// How.
        outcome: Outcome,
        /// Its values.
        values: BTreeMap<String, String>,
    },
    /// Somebody asked to stop.
    CancelRequested {
        /// Who or what.
        by: String,
        /// Not even clean-up steps.
        force: bool,
    },
    /// The run ended.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}

/// A bound of `sla`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum SlaBound {
    /// `start_within`: from the request to the first attempt.
    Start,
    /// `finish_within`: from the request to the end.
    Finish,
}

impl SlaBound {
    /// The keyword in a pipeline.
    pub fn word(self) -> &'static str {
        match self {
            SlaBound::Start => "start_within",
            SlaBound::Finish => "finish_within",
        }
    }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// It did what it should; `true`: taken from the cache.
    Succeeded {
        /// Taken from the cache, or from an ended run that this one does again.
        cached: bool,
    },
    /// It failed.
    Failed {
        /// Why.
        cause: Cause,
        /// `allow_failure`: nobody minds.
        allowed: bool,
    },
    /// It did not run.
    Skipped(Skip),
    /// It was stopped, or never started because the run was.
    Cancelled,
}

impl Outcome {
    /// The word in expressions: `steps.x.outcome`.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Succeeded { .. } => "success",
            Outcome::Failed { .. } => "failure",
            Outcome::Skipped(_) => "skipped",
            Outcome::Cancelled => "cancelled",
        }
    }
    /// What depends on it may run.
    pub fn lets_pass(&self) -> bool {
        matches!(self, Outcome::Succeeded { .. } | Outcome::Failed { allowed: true, .. })
    }
}

/// Why an instance did not run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Skip {
    /// Its `if` is false.
    Condition,
    /// It was not asked for.
    NotSelected,
    /// What it depends on was skipped.
    DependencySkipped(Arc<str>),
    /// What it depends on failed.
    DependencyFailed(Arc<str>),
    /// `when: failure`, and nothing failed.
    NothingFailed,
    /// Another step failed, and the run stops at the first failure.
    RunFailed(Arc<str>),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::Condition => f.write_str("its `if` is false"),
            Skip::NotSelected => f.write_str("not asked for"),
            Skip::DependencySkipped(step) => write!(f, "`{step}` was skipped"),
            Skip::DependencyFailed(step) => write!(f, "`{step}` failed"),
            Skip::NothingFailed => f.write_str("nothing failed"),
            Skip::RunFailed(step) => {
                write!(f, "`{step}` failed, and the run stops at the first failure (--keep-going goes on)")
            }
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RunOutcome {
    /// All that ran passed, or was allowed to fail.
    Succeeded,
    /// A step failed.
    Failed,
    /// Nothing of the pipeline failed, but something around it did.
    Infrastructure,
    /// A step asked for what is not to be had here.
    Refused,
    /// It was stopped.
    Cancelled,
}

impl RunOutcome {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            RunOutcome::Succeeded => "success",
            RunOutcome::Failed => "failure",
            RunOutcome::Infrastructure => "infrastructure",
            RunOutcome::Refused => "refused",
            RunOutcome::Cancelled => "cancelled",
        }
    }
}
