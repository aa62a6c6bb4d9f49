//! The desk: the one thread that owns the world. It takes inputs, decides, appends, folds, and only then has things done.
//!
//! Everybody asks it through [`Desk`]. What agents are to do comes out as [`HubOrder`]s, in the order in which it became
//! durable; what they answer goes in by [`Desk::tell_then`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use model::{AgentId, AttemptSpec, Fact, Fence, Input, NodeIx, ProjectId, Reason, RunId, RunNumber, Trigger};
use store::{Epoch, Store};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::live::Live;
use crate::sources::Sources;

mod again;
mod clock;
mod keep;
mod round;
mod thread;

pub(crate) use round::{RunOrder, What};

/// The way to the desk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    inbox: mpsc::Sender<Asked>,
    /// Epoch of this server's leadership; 0 while it does not lead.
    epoch: Arc<AtomicU64>,
    store: Store,
    sources: Arc<Sources>,
}

/// A run that somebody or something asks for; the pipeline is read at the commit.
#[derive(Clone, Debug, PartialEq)]
pub struct RunWish {
    /// Its id, made from what asks for it (a delivery, an idempotency key), so that asking again changes nothing.
    pub run: RunId,
    /// The project.
    pub project: ProjectId,
    /// File of the pipeline in the repository; empty: the only one there is.
    pub pipeline: String,
    /// Why it runs, and at which commit. Without a commit: the head of the branch, and without a branch of the default one.
    pub trigger: Trigger,
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

/// What the agents' side is to do, in this order. What a run is to an agent comes with each attempt, so that the hub needs
/// to remember nothing of runs but which agent it told already.
#[derive(Clone, Debug)]
pub enum HubOrder {
    /// From now on this server leads: agents may come.
    Lead,
    /// It does not lead any more, or begins anew from the log: every conversation ends. Agents come again and say what they
    /// hold.
    Hush,
    /// Execute an attempt. To an agent that is not connected: forget it, it is sent again when that agent is back.
    Execute {
        /// Who.
        agent: AgentId,
        /// Of which run.
        run: Arc<RunCard>,
        /// What.
        spec: Arc<AttemptSpec>,
        /// What the instances that it needs left, as far as this agent was not told before.
        known: Vec<proto::Known>,
    },
    /// Stop an attempt.
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
    /// A run ended: agents may forget it.
    End {
        /// Which.
        run: RunId,
    },
}

/// What an agent, and who hands it secrets, must know of a run.
#[derive(Clone, Debug)]
pub struct RunCard {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: ProjectId,
    /// Why it runs: secrets are for branches.
    pub trigger: Trigger,
    /// It comes from a fork: no secrets.
    pub fork: bool,
    /// What the agent is told.
    pub brief: proto::RunBrief,
}

/// Called when an input is durable, or refused, on the desk's thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// What the desk is asked. One of these is one message.
enum Asked {
    /// Something that agents or timers say.
    Tell { input: Input, done: Option<Done> },
    /// A run whose pipeline was read.
    Run { order: Box<RunOrder>, reply: oneshot::Sender<Result<Granted, Refusal>> },
    /// Something that somebody does to an active run.
    Act { run: RunId, act: Act, reply: oneshot::Sender<Result<(), Refusal>> },
    /// Why instances wait.
    Waiting { run: RunId, reply: oneshot::Sender<Vec<(NodeIx, Reason)>> },
    /// Stop, and give the leadership back.
    Stop { done: mpsc::Sender<()> },
}

/// What somebody does to an active run.
enum Act {
    Cancel { by: String, force: bool },
    Release { by: String },
    Prioritise { priority: i32, by: String },
    Answer { step: String, by: String, approved: bool, comment: String },
}

impl Desk {
    /// Starts the desk's thread, and tries to lead from now on. The receiver is the hub's.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        who: &str,
        store: Store,
        live: Live,
        sources: Arc<Sources>,
    ) -> std::io::Result<(Desk, tokio_mpsc::UnboundedReceiver<HubOrder>)> {
        let (inbox, asked) = mpsc::channel();
        // Not bounded: the desk waits for nobody. What can wait in it is bounded by the leases that are given.
        let (orders, to_hub) = tokio_mpsc::unbounded_channel();
        let epoch = Arc::new(AtomicU64::new(0));
        let desk = Desk { inbox, epoch, store, sources };
        thread::start(who, &desk, live, asked, orders)?;
        Ok((desk, to_hub))
    }

    /// The right to append facts and logs, while this server leads.
    pub fn epoch(&self) -> Option<Epoch> {
        match self.epoch.load(Ordering::Acquire) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    /// Tells the desk something that nobody waits for. Lost while this server does not lead.
    pub fn tell(&self, input: Input) {
        let _ = self.inbox.send(Asked::Tell { input, done: None });
    }

    /// Tells the desk something, and hears when what follows from it is durable. An input that changes nothing (a late
    /// result) is `Ok`, too: there is nothing more to be done about it.
    pub fn tell_then(&self, input: Input, done: impl FnOnce(Result<(), Refusal>) + Send + 'static) {
        let asked = Asked::Tell { input, done: Some(Box::new(done)) };
        if let Err(mpsc::SendError(Asked::Tell { done: Some(done), .. })) = self.inbox.send(asked) {
            done(Err(Refusal::NotLeader));
        }
    }

    /// Asks for a run. Returns once its first facts are durable.
    ///
    /// # Errors
    /// Why not.
    pub async fn run(&self, wish: RunWish) -> Result<Granted, Refusal> {
        self.epoch().ok_or(Refusal::NotLeader)?;
        let (store, sources) = (self.store.clone(), self.sources.clone());
        let prepared = blocking(move || match store.run(&wish.run).map_err(of_store)? {
            Some(known) => Ok(Err(Granted { run: known.run, number: known.number })),
            None => sources.order(&wish).map(Ok),
        });
        match prepared.await? {
            Ok(order) => self.order(order).await,
            Err(granted) => Ok(granted),
        }
    }

    /// A run whose pipeline was read already.
    pub(crate) async fn order(&self, order: RunOrder) -> Result<Granted, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Run { order: Box::new(order), reply }, answer).await?
    }

    /// As [`Desk::order`], for threads.
    pub(crate) fn order_blocking(&self, order: RunOrder) -> Result<Granted, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Asked::Run { order: Box::new(order), reply }).map_err(|_| Refusal::NotLeader)?;
        answer.blocking_recv().unwrap_or(Err(Refusal::NotLeader))
    }

    /// Answers an approval that a step waits for.
    ///
    /// # Errors
    /// Nothing waits for it. Who may is checked before, by `access`.
    pub async fn answer(
        &self,
        run: &RunId,
        step: &str,
        by: &str,
        approved: bool,
        comment: &str,
    ) -> Result<(), Refusal> {
        let (step, by, comment) = (step.into(), by.into(), comment.into());
        self.act(run, Act::Answer { step, by, approved, comment }).await
    }

    /// Lets a held run go.
    ///
    /// # Errors
    /// There is no such run, or it is not held.
    pub async fn release(&self, run: &RunId, by: &str) -> Result<(), Refusal> {
        self.act(run, Act::Release { by: by.into() }).await
    }

    /// Changes the place of a run in the queue.
    ///
    /// # Errors
    /// There is no such run, or it ended, or that is its place.
    pub async fn prioritise(&self, run: &RunId, priority: i32, by: &str) -> Result<(), Refusal> {
        self.act(run, Act::Prioritise { priority, by: by.into() }).await
    }

    /// Makes a new run of an ended one. Its id is made by the caller, so that asking again changes nothing.
    ///
    /// # Errors
    /// Why not.
    pub async fn again(&self, run: &RunId, which: Again, by: &str) -> Result<Granted, Refusal> {
        let facts = self.facts(run).await?;
        self.order(again::order(&facts, which, by)?).await
    }

    /// Stops a run; with `force` at once and without clean-up.
    ///
    /// # Errors
    /// There is no such run, or it ended.
    pub async fn cancel(&self, run: &RunId, by: &str, force: bool) -> Result<(), Refusal> {
        self.act(run, Act::Cancel { by: by.into(), force }).await
    }

    /// Why each instance of a run waits that neither runs nor has ended. Empty for a run that is not active.
    pub async fn waiting(&self, run: &RunId) -> Vec<(NodeIx, Reason)> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Waiting { run: run.clone(), reply }, answer).await.unwrap_or_default()
    }

    /// Facts of a run, ended or not.
    ///
    /// # Errors
    /// There is no such run, or the store cannot be read.
    pub async fn facts(&self, run: &RunId) -> Result<Vec<Fact>, Refusal> {
        let (store, id) = (self.store.clone(), run.clone());
        let facts = blocking(move || store.facts_of(&id).map_err(of_store)).await?;
        match facts.is_empty() {
            true => Err(no_run(run)),
            false => Ok(facts),
        }
    }

    /// Lets what was taken become durable, gives the leadership back and ends the thread. Waits for at most `grace`.
    pub fn stop(&self, grace: Duration) {
        let (done, ended) = mpsc::channel();
        if self.inbox.send(Asked::Stop { done }).is_ok() {
            let _ = ended.recv_timeout(grace);
        }
    }

    async fn act(&self, run: &RunId, act: Act) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let answered = self.ask(Asked::Act { run: run.clone(), act, reply }, answer).await?;
        match answered {
            Err(Refusal::NotFound(what)) if what.is_empty() => Err(self.why_not_active(run).await),
            other => other,
        }
    }

    /// Ended runs are not in memory: whether there was one says the store.
    async fn why_not_active(&self, run: &RunId) -> Refusal {
        let (store, id) = (self.store.clone(), run.clone());
        match blocking(move || store.run(&id).map_err(of_store)).await {
            Ok(Some(known)) => Refusal::Conflict(format!("run {} has ended: {}", known.number, known.word())),
            Ok(None) => no_run(run),
            Err(refusal) => refusal,
        }
    }

    async fn ask<T>(&self, asked: Asked, answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
        self.inbox.send(asked).map_err(|_| Refusal::NotLeader)?;
        // The desk drops what it cannot do because it does not lead any more.
        answer.await.map_err(|_| Refusal::NotLeader)
    }
}

fn no_run(run: &RunId) -> Refusal {
    Refusal::NotFound(format!("there is no run `{run}`"))
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::Unavailable("a defect of this server, described in its log".into())))
}

/// What the store says, for whoever asked.
pub(crate) fn of_store(error: store::StoreError) -> Refusal {
    match error {
        store::StoreError::NotLeader => Refusal::NotLeader,
        other => Refusal::Unavailable(other.to_string()),
    }
}
