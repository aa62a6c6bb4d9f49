//! The state of a step instance and the one function that moves it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::{AgentId, AttemptNo, AttemptResult, CachedFrom, Cause, Fence, Outcome, RunEvent, Timestamp};

/// Where a step instance stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepState {
    /// It waits for others.
    Waiting {
        /// How many of its needs have not ended.
        left: u32,
    },
    /// The result of an ended run stands for it; it ends when the run starts.
    Kept {
        /// The run that executed it.
        from: CachedFrom,
        /// How it ended there.
        result: Arc<AttemptResult>,
    },
    /// It waits for the answer of a person.
    Asking {
        /// Since when.
        since: Timestamp,
        /// What is asked; may be empty.
        message: String,
        /// Who may answer: `user:NAME`, `team:NAME`.
        by: Vec<String>,
        /// When it fails without an answer.
        expires: Timestamp,
    },
    /// It may be leased.
    Ready {
        /// Since when.
        since: Timestamp,
        /// Which try it will be.
        attempt: AttemptNo,
    },
    /// An agent executes it.
    Running {
        /// Which try.
        attempt: AttemptNo,
        /// By what right.
        lease: Lease,
    },
    /// An attempt ended, and what follows is not decided: only an `expand` step stays here, until its file is parsed.
    Reported {
        /// Which try.
        attempt: AttemptNo,
        /// Its lease's number.
        fence: Fence,
        /// How it ended.
        result: Arc<AttemptResult>,
    },
    /// Another attempt will be made.
    Backoff {
        /// The next try.
        attempt: AttemptNo,
        /// Not before.
        not_before: Timestamp,
        /// Why.
        cause: Arc<Cause>,
    },
    /// The steps that it made run.
    Growing {
        /// How many instances have not ended.
        left: u32,
    },
    /// It ended, once and for all.
    Done {
        /// How.
        outcome: Outcome,
        /// Its values.
        values: BTreeMap<String, String>,
        /// When.
        at: Timestamp,
        /// It did not run because something failed, however many skipped steps ago.
        blocked: bool,
    },
}

/// The right to execute one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who.
    pub agent: AgentId,
    /// Its number.
    pub fence: Fence,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub deadline: Timestamp,
}

impl StepState {
    /// One word for people and errors.
    pub fn word(&self) -> &'static str {
        match self {
            StepState::Waiting { .. } => "waiting",
            StepState::Kept { .. } => "kept",
            StepState::Asking { .. } => "asking",
            StepState::Ready { .. } => "ready",
            StepState::Running { .. } => "running",
            StepState::Reported { .. } => "reported",
            StepState::Backoff { .. } => "waiting for its next attempt",
            StepState::Growing { .. } => "running the steps it made",
            StepState::Done { outcome, .. } => outcome.word(),
        }
    }

    /// It ended.
    pub fn is_done(&self) -> bool {
        matches!(self, StepState::Done { .. })
    }

    /// The state after an event of this instance; `None`: that cannot happen. (`StepEnded` and `Expanded`, which reach over
    /// to others, are in [`crate::RunState`].)
    pub(crate) fn after(&self, at: Timestamp, event: &RunEvent) -> Option<StepState> {
        match (self, event) {
            (StepState::Waiting { .. }, RunEvent::StepKept { from, result, .. }) => {
                Some(StepState::Kept { from: from.clone(), result: result.clone() })
            }
            (StepState::Waiting { left: 0 }, RunEvent::ApprovalOpened { message, by, expires, .. }) => {
                Some(StepState::Asking { since: at, message: message.clone(), by: by.clone(), expires: *expires })
            }
            // What it answers shows in how the step ends.
            (StepState::Asking { .. }, RunEvent::ApprovalGiven { .. }) => Some(self.clone()),
            (StepState::Running { attempt, lease }, RunEvent::LeaseExtended { deadline, .. }) => {
                Some(StepState::Running { attempt: *attempt, lease: Lease { deadline: *deadline, ..lease.clone() } })
            }
            (StepState::Waiting { left: 0 }, RunEvent::StepReady { .. }) => {
                Some(StepState::Ready { since: at, attempt: AttemptNo(1) })
            }
            (StepState::Backoff { attempt, .. }, RunEvent::StepReady { .. }) => {
                Some(StepState::Ready { since: at, attempt: *attempt })
            }
            (
                StepState::Ready { attempt: next, .. },
                RunEvent::AttemptLeased { attempt, agent, fence, deadline, .. },
            ) if next == attempt => {
                let lease = Lease { agent: agent.clone(), fence: *fence, since: at, deadline: *deadline };
                Some(StepState::Running { attempt: *attempt, lease })
            }
            (StepState::Running { attempt: now, lease }, RunEvent::AttemptEnded { attempt, result, .. })
                if now == attempt =>
            {
                Some(StepState::Reported { attempt: *attempt, fence: lease.fence, result: result.clone() })
            }
            (StepState::Reported { attempt, .. }, RunEvent::RetryPlanned { not_before, cause, .. }) => {
                let cause = Arc::new(cause.clone());
                Some(StepState::Backoff {
                    attempt: AttemptNo(attempt.0.checked_add(1)?),
                    not_before: *not_before,
                    cause,
                })
            }
            _ => None,
        }
    }

    /// Whether it may end so from here.
    pub(crate) fn may_end(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (StepState::Done { .. } | StepState::Running { .. }, _) => false,
            (StepState::Waiting { left }, Outcome::Succeeded { .. } | Outcome::Failed { .. }) => *left == 0,
            (StepState::Growing { left }, _) => *left == 0,
            _ => true,
        }
    }
}
