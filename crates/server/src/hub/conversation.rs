//! A conversation with one agent: who it is, what it says, and what becomes of that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, Capacity, Held, Input};
use proto::{AgentWord, Agents, FromAgent, FromServer, Heartbeat, Hello, Log, Registered, Registration, ServerWord};
use proto::{PROTOCOL, Welcome};
use store::{Batch, LogChunk, StoreError};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::lease::Named;
use super::register::{check_labels, id_of};
use super::{AgentLine, HEARTBEAT_MS, Hub, LEASE_MS};
use crate::clock::now;
use crate::live::Happened;
use crate::records::RegisteredAgent;

/// From the call to the first word.
const HELLO_TIME: Duration = Duration::from_secs(20);
/// Without a word an agent is away; its leases last longer.
const SILENCE: Duration = Duration::from_secs(25);
/// Bytes of one agent's logs that may wait for the disk: a fast step waits, instead of filling our memory.
pub(super) const LOG_BYTES_WAITING_MAX: u32 = 4 << 20;
/// Leases that one message may name.
const HELD_MAX: usize = 10_000;

/// What is said to one agent.
pub type Words = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<FromServer, Status>> + Send>>;

/// One agent's conversation, as its reader knows it.
pub(super) struct Talk {
    pub(super) hub: Arc<Hub>,
    pub(super) agent: AgentId,
    pub(super) number: u64,
    /// Bytes of logs that may still come before the disk is waited for.
    pub(super) room: Arc<Semaphore>,
}

/// The hub as the service that agents call.
#[derive(Clone, Debug)]
pub struct Counter(pub Arc<Hub>);

impl Agents for Counter {
    type Words = Words;

    async fn work(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Words>, Status> {
        let credential = bearer(&request)?;
        let hub = self.0.clone();
        let agent = blocking(move || hub.agent_of(&credential)).await?;
        if !self.0.leads() {
            return Err(Status::unavailable("this server does not lead now; try again, or another one"));
        }
        let mut words = request.into_inner();
        let hello = match timeout(HELLO_TIME, words.message()).await {
            Ok(Ok(Some(FromAgent { word: Some(AgentWord::Hello(hello)) }))) => hello,
            Ok(Err(status)) => return Err(status),
            _ => return Err(Status::invalid_argument("the first word is a Hello")),
        };
        let said = self.0.greet(&agent, &hello, words)?;
        Ok(Response::new(Box::pin(said)))
    }

    async fn register(&self, request: Request<Registration>) -> Result<Response<Registered>, Status> {
        let (hub, question) = (self.0.clone(), request.into_inner());
        blocking(move || hub.enrol(&question)).await.map(Response::new)
    }
}

impl Hub {
    fn greet(
        self: &Arc<Hub>,
        known: &RegisteredAgent,
        hello: &Hello,
        words: Streaming<FromAgent>,
    ) -> Result<impl tokio_stream::Stream<Item = Result<FromServer, Status>> + Send + use<>, Status> {
        check_version(hello)?;
        check_labels(&hello.labels)?;
        let agent = id_of(known);
        let capacity: Capacity = serde_json::from_str(&hello.capacity)
            .map_err(|error| Status::invalid_argument(format!("the capacity cannot be read: {error}")))?;
        let held = read_held(&hello.held)?;
        let labels: BTreeSet<String> = hello.labels.iter().chain(&known.labels).cloned().collect();
        let line = AgentLine {
            agent: agent.clone(),
            version: hello.version.clone(),
            capacity,
            labels: labels.clone(),
            host: hello.host.chars().take(1000).collect(),
            since: now(),
            heard: now(),
            draining: false,
            busy: 0,
        };
        let (number, said) = self.admit(line);
        // Before the desk hears of the agent, so that it is the first word.
        self.say_to(&agent, ServerWord::Welcome(self.welcome(&agent)));
        self.desk.tell(Input::AgentPaused { agent: agent.clone(), paused: known.paused });
        self.desk.tell(Input::AgentBack { agent: agent.clone(), capacity, labels, held });
        let room = Arc::new(Semaphore::new(LOG_BYTES_WAITING_MAX as usize));
        let talk = Arc::new(Talk { hub: self.clone(), agent, number, room });
        tokio::spawn(talk.listen(words));
        Ok(UnboundedReceiverStream::new(said).map(Ok))
    }

    fn welcome(&self, agent: &AgentId) -> Welcome {
        Welcome {
            agent: agent.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            heartbeat_ms: HEARTBEAT_MS,
            lease_ms: LEASE_MS,
            void: Vec::new(),
            version_key: self.version_key.clone(),
        }
    }

    fn leads(&self) -> bool {
        self.leading.load(std::sync::atomic::Ordering::Acquire)
    }
}

impl Talk {
    /// Hears the agent out, until it goes, is silent too long, or another conversation took the place of this one.
    async fn listen(self: Arc<Self>, mut words: Streaming<FromAgent>) {
        while self.goes_on() {
            match timeout(SILENCE, words.message()).await {
                Ok(Ok(Some(FromAgent { word: Some(word) }))) => self.hear(word).await,
                // A word of a later version.
                Ok(Ok(Some(FromAgent { word: None }))) => {}
                _ => break,
            }
        }
        self.part();
    }

    async fn hear(self: &Arc<Self>, word: AgentWord) {
        match word {
            AgentWord::Hello(_) | AgentWord::Artifact(_) => {}
            AgentWord::Heartbeat(Heartbeat { held }) => match read_held(&held) {
                Ok(held) => {
                    self.note(|line| line.heard = now());
                    let (talk, input) = (self.clone(), Input::Heartbeat { agent: self.agent.clone(), held });
                    // An agent that hears nothing stops what it runs: its leases are given to others by then.
                    self.hub.desk.tell_then(input, move |taken| match taken {
                        Ok(()) => talk.say(ServerWord::Renewed(proto::Renewed {})),
                        Err(_) => talk.part(),
                    });
                }
                Err(_) => self.part(),
            },
            AgentWord::Log(log) => self.take_log(log).await,
            AgentWord::Finished(finished) => {
                // It waits for the log before it; further words need not.
                tokio::spawn(self.clone().take_result(finished));
            }
            AgentWord::Draining(_) => {
                self.note(|line| line.draining = true);
                self.hub.desk.tell(Input::AgentPaused { agent: self.agent.clone(), paused: true });
                self.hub.live.tell(Happened::Agents);
            }
        }
    }

    async fn take_log(self: &Arc<Self>, Log { lease, offset, bytes }: Log) {
        let Some(named) = self.own(lease).await else { return };
        let length = bytes.len();
        let Some(end) = offset.checked_add(length as u64) else { return self.part() };
        if length > proto::LOG_BYTES_MAX {
            return self.part();
        }
        let wanted = u32::try_from(length).unwrap_or(LOG_BYTES_WAITING_MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(wanted).await else { return };
        let batch = Batch { logs: vec![LogChunk { log: named.log.clone(), offset, bytes }], ..Batch::default() };
        let talk = self.clone();
        self.hub.store.append_then(self.hub.desk.epoch(), batch, move |taken| {
            drop(room);
            match taken {
                Ok(_) => {
                    talk.log_taken(&named, end);
                    talk.hub.live.tell(Happened::Log { log: named.log, length: end });
                }
                // The agent goes back to where the store is.
                Err(StoreError::Gap { have, .. }) => talk.log_taken(&named, have),
                Err(_) => talk.part(),
            }
        });
    }

    pub(super) fn log_taken(&self, named: &Named, length: u64) {
        self.say(ServerWord::LogTaken(proto::LogTaken { lease: Some(named.write()), length }));
    }

    /// A lease that is this agent's own; what it says of others is left out.
    pub(super) async fn own(self: &Arc<Self>, lease: Option<proto::Lease>) -> Option<Named> {
        let named = Named::read(&lease?)?;
        if let Some((owner, fence)) = self.hub.board().leases.get(&named.log) {
            return (*owner == self.agent && *fence == named.fence).then_some(named);
        }
        let talk = self.clone();
        let asked = named.clone();
        let own = tokio::task::spawn_blocking(move || talk.hub.is_of(&talk.agent, &asked)).await;
        own.unwrap_or(false).then_some(named)
    }

    pub(super) fn say(&self, word: ServerWord) {
        if self.goes_on() {
            self.hub.say_to(&self.agent, word);
        }
    }

    /// Ends the conversation: what could not be made durable is told again in the next one.
    pub(super) fn part(&self) {
        self.hub.part(&self.agent, self.number);
    }

    fn goes_on(&self) -> bool {
        self.hub.board().agents.get(&self.agent).is_some_and(|session| session.number == self.number)
    }

    fn note(&self, change: impl FnOnce(&mut AgentLine)) {
        let mut board = self.hub.board();
        if let Some(session) = board.agents.get_mut(&self.agent).filter(|session| session.number == self.number) {
            change(&mut session.line);
        }
    }
}

fn read_held(held: &[proto::Lease]) -> Result<Vec<Held>, Status> {
    if held.len() > HELD_MAX {
        return Err(Status::invalid_argument(format!("an agent holds at most {HELD_MAX} leases")));
    }
    Ok(held.iter().filter_map(|lease| Named::read(lease).map(|named| named.held())).collect())
}

fn check_version(hello: &Hello) -> Result<(), Status> {
    let (major, minor) = PROTOCOL;
    if hello.major == major {
        return Ok(());
    }
    let older = if hello.major < major { "agent" } else { "server" };
    let (theirs, ours) = (format!("{}.{}", hello.major, hello.minor), format!("{major}.{minor}"));
    Err(Status::failed_precondition(format!(
        "the agent {} speaks protocol {theirs}, this server {} speaks {ours}; update the {older}",
        hello.version,
        env!("CARGO_PKG_VERSION")
    )))
}

fn bearer<T>(request: &Request<T>) -> Result<String, Status> {
    let value = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let credential = value.and_then(|value| value.strip_prefix("Bearer "));
    credential
        .map(str::to_string)
        .ok_or_else(|| Status::unauthenticated("an agent shows its credential as a bearer token"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("a defect of this server, described in its log")))
}
