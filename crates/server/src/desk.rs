//! The desk: the one thread that owns the world. It takes inputs, decides, appends, folds, and only then has things done.

use model::{Fact, NodeIx, ProjectId, Reason, RunId, RunNumber};

/// The way to the desk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {}

/// A run that somebody or something asks for; the pipeline is read at the commit.
#[derive(Clone, Debug, PartialEq)]
pub struct RunWish {
    /// Its id, made from what asks for it (a delivery, an idempotency key), so that asking again changes nothing.
    pub run: RunId,
    /// The project.
    pub project: ProjectId,
    /// File of the pipeline in the repository; empty: all that the trigger fires.
    pub pipeline: String,
    /// Why it runs, and at which commit.
    pub trigger: model::Trigger,
    /// `NAME=VALUE` parameters.
    pub params: Vec<(String, String)>,
    /// Which steps.
    pub selection: model::Selection,
    /// Who asks: `user:anna`, `delivery:…`, `schedule`.
    pub by: String,
    /// Higher goes first; 0 is usual, from -100 to 100.
    pub priority: i32,
    /// It comes from a fork: no secrets, read-only cache.
    pub fork: bool,
}

/// Which steps of an ended run are done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// All.
    All,
    /// Those that failed or did not run because of that.
    Failed,
    /// This one and all that depend on it.
    From(String),
}

/// Why the desk refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such project, run or step.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense in the state that is met.
    #[error("{0}")]
    Conflict(String),
    /// The pipeline, a parameter or a name is wrong. A report of several lines for a pipeline.
    #[error("{0}")]
    Invalid(String),
    /// This server does not lead; that one may.
    #[error("another server leads now; ask again")]
    NotLeader,
    /// The store, git or the forge cannot be reached.
    #[error("{0}")]
    Unavailable(String),
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
}

impl Desk {
    /// Asks for a run. Returns once its first facts are durable.
    ///
    /// # Errors
    /// Why not.
    pub async fn run(&self, _wish: RunWish) -> Result<Granted, Refusal> {
        Err(Refusal::NotLeader)
    }

    /// Stops a run; with `force` at once and without clean-up.
    ///
    /// # Errors
    /// There is no such run, or it ended.
    pub async fn cancel(&self, _run: &RunId, _by: &str, _force: bool) -> Result<(), Refusal> {
        Err(Refusal::NotLeader)
    }

    /// Answers an approval that a step waits for.
    ///
    /// # Errors
    /// Nothing waits for it. Who may is checked before, by `access`.
    pub async fn answer(
        &self,
        _run: &RunId,
        _step: &str,
        _by: &str,
        _approved: bool,
        _comment: &str,
    ) -> Result<(), Refusal> {
        Err(Refusal::NotLeader)
    }

    /// Makes a new run of an ended one.
    ///
    /// # Errors
    /// Why not.
    pub async fn again(&self, _run: &RunId, _which: Again, _by: &str) -> Result<Granted, Refusal> {
        Err(Refusal::NotLeader)
    }

    /// Changes the place of a run in the queue.
    ///
    /// # Errors
    /// There is no such run, or it ended.
    pub async fn prioritise(&self, _run: &RunId, _priority: i32, _by: &str) -> Result<(), Refusal> {
        Err(Refusal::NotLeader)
    }

    /// Why each instance of a run waits that neither runs nor has ended. Empty for a run that is not active.
    pub async fn waiting(&self, _run: &RunId) -> Vec<(NodeIx, Reason)> {
        Vec::new()
    }

    /// Facts of a run, ended or not.
    ///
    /// # Errors
    /// There is no such run, or the store cannot be read.
    pub async fn facts(&self, _run: &RunId) -> Result<Vec<Fact>, Refusal> {
        Err(Refusal::NotLeader)
    }
}
