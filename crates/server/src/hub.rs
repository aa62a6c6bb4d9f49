//! The hub: the server's side of the agents. It carries the desk's orders to them, and what they say to the store and the desk.
//!
//! It decides nothing. What an agent says of a lease that is not its own is left out; what it says of its own is
//! acknowledged when it is durable, and not before. A conversation in which something could not be made durable is ended: the
//! agent comes again and tells it again.

mod conversation;
mod lease;
mod register;
mod result;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{AgentId, AttemptEnd, AttemptResult, Capacity, Cause, Fence, Input, RunId, Timestamp, Work};
use proto::{FromServer, ServerWord};
use store::{LogId, Store};
use tokio::sync::mpsc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::archive::Archive;
use crate::desk::{Desk, HubOrder, RunCard};
use crate::live::{Happened, Live};

pub use conversation::{Counter, Words};
pub use register::BUILTIN;

/// Values of the secrets that an attempt asks for, or a sentence why not. Blocks.
pub type Secrets = dyn Fn(&RunCard, &[String]) -> Result<BTreeMap<String, String>, String> + Send + Sync;

/// How often an agent is to say that it lives, in milliseconds.
const HEARTBEAT_MS: u32 = 5_000;
/// How long a lease lasts without a heartbeat, in milliseconds.
const LEASE_MS: u32 = 30_000;
/// The same.
pub(crate) const LEASE: std::time::Duration = std::time::Duration::from_millis(LEASE_MS as u64);

/// The server's side of the agents. Handlers share it in an `Arc`.
pub struct Hub {
    store: Store,
    desk: Desk,
    live: Live,
    archive: Archive,
    secrets: Box<Secrets>,
    /// The same for all agents, so that they make the same action keys of secrets.
    version_key: Vec<u8>,
    /// Credential of the agent in this process, which is in no store.
    builtin: String,
    leading: AtomicBool,
    sessions: AtomicU64,
    board: Mutex<Board>,
}

/// Who is here and who has what.
#[derive(Default)]
struct Board {
    agents: BTreeMap<AgentId, Session>,
    leases: BTreeMap<LogId, (AgentId, Fence)>,
}

/// A conversation that goes on.
struct Session {
    number: u64,
    say: UnboundedSender<FromServer>,
    /// Runs that it was told of.
    begun: BTreeSet<RunId>,
    line: AgentLine,
}

/// An agent that is connected, in one line.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentLine {
    /// Its name.
    pub agent: AgentId,
    /// Version of its program.
    pub version: String,
    /// What it offers.
    pub capacity: Capacity,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// What its host can enforce.
    pub host: String,
    /// Since when it is connected.
    pub since: Timestamp,
    /// When it was heard last.
    pub heard: Timestamp,
    /// It takes nothing more.
    pub draining: bool,
    /// Attempts that it executes.
    pub busy: usize,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("leading", &self.leading).finish_non_exhaustive()
    }
}

/// What a hub works with.
pub struct Parts {
    /// What is kept.
    pub store: Store,
    /// Where inputs go.
    pub desk: Desk,
    /// Who watches.
    pub live: Live,
    /// Where artifacts go.
    pub archive: Archive,
    /// Where secrets come from.
    pub secrets: Box<Secrets>,
    /// Key of the versions of secrets, 32 bytes.
    pub version_key: Vec<u8>,
    /// Credential of the agent in this process.
    pub builtin: String,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts(…)")
    }
}

impl Hub {
    /// A hub without agents. Its orders are carried out by [`Hub::serve`].
    pub fn new(parts: Parts) -> Hub {
        let Parts { store, desk, live, archive, secrets, version_key, builtin } = parts;
        let (leading, sessions, board) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        Hub { store, desk, live, archive, secrets, version_key, builtin, leading, sessions, board }
    }

    /// Carries out the desk's orders, one after the other, until the desk ends.
    pub async fn serve(self: Arc<Hub>, mut orders: UnboundedReceiver<HubOrder>) {
        while let Some(order) = orders.recv().await {
            match order {
                HubOrder::Lead => self.leading.store(true, Ordering::Release),
                HubOrder::Hush => self.hush(),
                HubOrder::Execute { agent, run, spec, known } => self.execute(agent, run, spec, known).await,
                HubOrder::Stop { agent, run, node, fence, force } => {
                    let lease = self.lease_of(&run, node, fence);
                    self.say_to(&agent, ServerWord::Stop(proto::Stop { lease: Some(lease), force }));
                }
                HubOrder::End { run } => self.end(&run),
            }
        }
    }

    /// Where artifacts are kept.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Agents that are connected, by name.
    pub fn agents(&self) -> Vec<AgentLine> {
        let board = self.board();
        let busy = |agent: &AgentId| board.leases.values().filter(|(owner, _)| owner == agent).count();
        board.agents.iter().map(|(agent, session)| AgentLine { busy: busy(agent), ..session.line.clone() }).collect()
    }

    /// Tells an agent to go when what it has is done. Whether it is connected.
    pub fn drain(&self, agent: &AgentId, why: &str) -> bool {
        self.say_to(agent, ServerWord::Drain(proto::Draining { why: why.into() }))
    }

    /// Ends the conversation with an agent: its credential is not good any more.
    pub fn dismiss(&self, agent: &AgentId) {
        if self.board().agents.remove(agent).is_some() {
            self.desk.tell(Input::AgentLeft { agent: agent.clone() });
            self.live.tell(Happened::Agents);
        }
    }

    fn hush(&self) {
        self.leading.store(false, Ordering::Release);
        *self.board() = Board::default();
        self.live.tell(Happened::Agents);
    }

    /// The only place that gives out secrets: they go into this one message, and nowhere else.
    async fn execute(
        self: &Arc<Hub>,
        agent: AgentId,
        run: Arc<RunCard>,
        spec: Arc<model::AttemptSpec>,
        known: Vec<proto::Known>,
    ) {
        let wanted = match &spec.work {
            Work::Command(command) => command.secrets.clone(),
            Work::ReadFile(_) => Vec::new(),
        };
        let secrets = match wanted.is_empty() {
            true => Ok(BTreeMap::new()),
            false => self.secrets_of(run.clone(), wanted).await,
        };
        match secrets {
            Ok(secrets) => self.hand_over(&agent, &run, &spec, known, secrets),
            Err(why) => self.refuse(&spec, why),
        }
    }

    async fn secrets_of(
        self: &Arc<Hub>,
        run: Arc<RunCard>,
        wanted: Vec<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let hub = self.clone();
        let found = tokio::task::spawn_blocking(move || (hub.secrets)(&run, &wanted)).await;
        found.unwrap_or_else(|_| Err("the secrets could not be read: a defect of this server, see its log".into()))
    }

    fn hand_over(
        &self,
        agent: &AgentId,
        run: &RunCard,
        spec: &model::AttemptSpec,
        known: Vec<proto::Known>,
        secrets: BTreeMap<String, String>,
    ) {
        let log = LogId { run: spec.run.clone(), node: spec.node, attempt: spec.attempt };
        let mut board = self.board();
        board.leases.insert(log, (agent.clone(), spec.fence));
        // Not connected: the engine sends it again when the agent is back, or takes the lease back.
        let Some(session) = board.agents.get_mut(agent) else { return };
        if session.begun.insert(run.run.clone()) {
            let begin = proto::Begin { run: run.run.to_string(), brief: json(&run.brief) };
            session.tell(ServerWord::Begin(begin));
        }
        let execute = proto::Execute { spec: json(spec), secrets: secrets.into_iter().collect(), known: json(&known) };
        session.tell(ServerWord::Execute(execute));
    }

    /// An attempt that cannot even begin has failed, with a reason that stands on its page.
    fn refuse(&self, spec: &model::AttemptSpec, why: String) {
        let result = Arc::new(AttemptResult::ended(AttemptEnd::Failed(Cause::Refused(why))));
        let (run, node, attempt, fence) = (spec.run.clone(), spec.node, spec.attempt, spec.fence);
        self.desk.tell(Input::AttemptFinished { run, node, attempt, fence, result });
    }

    fn end(&self, run: &RunId) {
        let mut board = self.board();
        board.leases.retain(|log, _| log.run != *run);
        for session in board.agents.values_mut() {
            if session.begun.remove(run) {
                session.tell(ServerWord::End(proto::End { run: run.to_string() }));
            }
        }
    }

    fn say_to(&self, agent: &AgentId, word: ServerWord) -> bool {
        self.board().agents.get(agent).is_some_and(|session| session.tell(word))
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a conversation, in place of an older one of the same agent.
    fn admit(&self, line: AgentLine) -> (u64, mpsc::UnboundedReceiver<FromServer>) {
        // Not bounded: what waits in it is bounded by the leases that are given, and an agent that does not read is away soon.
        let (say, said) = mpsc::unbounded_channel();
        let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let agent = line.agent.clone();
        let session = Session { number, say, begun: BTreeSet::new(), line };
        self.board().agents.insert(agent, session);
        self.live.tell(Happened::Agents);
        (number, said)
    }

    /// Ends a conversation, if it is still the one with this agent.
    fn part(&self, agent: &AgentId, number: u64) {
        let mut board = self.board();
        if board.agents.get(agent).is_some_and(|session| session.number == number) {
            board.agents.remove(agent);
            drop(board);
            self.desk.tell(Input::AgentAway { agent: agent.clone() });
            self.live.tell(Happened::Agents);
        }
    }
}

impl Session {
    /// Whether the conversation goes on.
    fn tell(&self, word: ServerWord) -> bool {
        self.say.send(FromServer { word: Some(word) }).is_ok()
    }
}

/// Our own values, whose keys are texts.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("values of the model have text keys and no failing parts")
}
