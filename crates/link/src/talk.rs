//! The conversation with the server: one task that connects, says what the book holds, and does what it hears. For ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::Secret;
use model::{AttemptSpec, RunId};
use proto::{
    AgentWord, AgentsClient, Draining, Execute, FromAgent, FromServer, Heartbeat, Hello, PROTOCOL, ServerWord, Welcome,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status as Answer, Streaming};

use crate::lease::Lease;
use crate::patience::{Patience, chance};
use crate::runs::Job;
use crate::{Station, Status, credential, host, lock};

/// Words that wait for the connection. More stand in the book.
const WORDS_MAX: usize = 8;
/// How long output is gathered before it is said.
const GATHER: Duration = Duration::from_millis(50);
/// How long the server may take to answer the first word.
const WELCOME_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether leases ran out.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A run that the server does not speak of for so long after a reconnect has ended meanwhile.
const UNHEARD_OF_MAX: Duration = Duration::from_secs(15 * 60);
/// Bounds on what a server may want.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Why a conversation ended.
enum End {
    /// The connection is gone.
    Lost(String),
    /// The server does not want us.
    Refused(String),
    /// We are closing.
    Closed,
}

/// Talks until everything is closed.
pub(crate) fn forever(runtime: Runtime, station: &Arc<Station>) {
    runtime.block_on(async {
        let mut patience = Patience::default();
        let mut hold = Hold::default();
        while !station.is_closing() {
            let end = tokio::select! {
                end = converse(station, &mut patience, &mut hold) => end,
                () = closed(station) => End::Closed,
            };
            let nap = match end {
                End::Closed => break,
                End::Lost(why) => {
                    station.set_status(Status::Connecting(why));
                    patience.next(chance())
                }
                End::Refused(why) => {
                    station.set_status(Status::Refused(why));
                    Patience::refused(chance())
                }
            };
            rest(station, nap, &mut hold).await;
        }
    });
    // A commit that is being fetched concerns nobody any more.
    runtime.shutdown_background();
}

/// Waits until everything is to be closed.
async fn closed(station: &Station) {
    while !station.is_closing() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = station.closed.notified() => {}
        }
    }
}

/// Waits, and looks meanwhile whether leases run out.
async fn rest(station: &Arc<Station>, nap: Duration, hold: &mut Hold) {
    let end = tokio::time::Instant::now() + nap;
    while !station.is_closing() && tokio::time::Instant::now() < end {
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = station.closed.notified() => {}
        }
        hold.look(station);
    }
}

/// How long our leases are good for without the server.
#[derive(Debug, Default)]
struct Hold {
    /// When that was sent which renewed them last.
    renewed: Option<Instant>,
    /// For how long that is good; nothing: for ever.
    good_for: Duration,
    /// Heartbeats that are not answered.
    unanswered: VecDeque<Instant>,
    /// This server answers heartbeats; one that does not is trusted as long as the connection stands.
    answers: bool,
}

impl Hold {
    /// Stops what runs when its leases ran out: by now others may run it.
    fn look(&mut self, station: &Arc<Station>) {
        let (Some(since), good_for) = (self.renewed, self.good_for) else { return };
        if good_for.is_zero() || since.elapsed() < good_for {
            return;
        }
        let running = station.book.running();
        if !running.is_empty() {
            let time = model::units::show_duration(good_for);
            tracing::warn!("no word from {} for {time}: {} attempts are stopped", station.config.server, running.len());
            station.lose(&running, &format!("the agent had no word from the server for {time} and stopped the step"));
        }
        self.renewed = None;
    }

    fn sent(&mut self) {
        self.unanswered.push_back(Instant::now());
    }

    fn answered(&mut self) {
        self.answers = true;
        self.renewed = self.unanswered.pop_front().or(self.renewed);
    }

    fn stands(&mut self) {
        if !self.answers {
            self.renewed = Some(Instant::now());
        }
    }
}

/// One connection, from the first word to its end.
async fn converse(station: &Arc<Station>, patience: &mut Patience, hold: &mut Hold) -> End {
    let labels = match labels(station).await {
        Ok(labels) => labels,
        Err(why) => return End::Lost(why),
    };
    let secret = lock(&station.credential).as_ref().map(|known| known.secret.clone());
    let options = match station.config.options(secret.as_deref().unwrap_or_default()) {
        Ok(options) => options,
        Err(error) => return End::Refused(error.to_string()),
    };
    let mut client = match remote::connection(&options) {
        Ok(channel) => AgentsClient::new(channel),
        Err(error) => return End::Refused(error.to_string()),
    };
    let secret = match secret {
        Some(secret) => secret,
        None => match register(station, &labels.0, &mut client).await {
            Ok(secret) => secret,
            Err(end) => return end,
        },
    };
    let (say, words) = channel(WORDS_MAX);
    let begun = Instant::now();
    let held = station.book.held();
    // The channel is empty: there is room for the first word.
    let _ = say.try_send(word(AgentWord::Hello(hello(station, labels, &held))));
    let answers = tokio::time::timeout(WELCOME_MAX, client.work(&secret, ReceiverStream::new(words))).await;
    let mut answers = match answers {
        Ok(Ok(answers)) => answers,
        Ok(Err(status)) => return refused_or_lost(station, &status),
        Err(_) => return End::Lost("it does not answer".into()),
    };
    let welcome = match tokio::time::timeout(WELCOME_MAX, answers.message()).await {
        Ok(Ok(Some(FromServer { word: Some(ServerWord::Welcome(welcome)) }))) => welcome,
        Ok(Ok(_)) => return End::Refused("its first word is no welcome; is it a server of this version?".into()),
        Ok(Err(status)) => return refused_or_lost(station, &status),
        Err(_) => return End::Lost("it does not answer the first word".into()),
    };
    patience.renew();
    greet(station, &welcome, begun, hold);
    talk(station, &welcome, say, answers, hold).await
}

/// Labels, and what the host can enforce. Found out once.
async fn labels(station: &Arc<Station>) -> Result<(Vec<String>, String), String> {
    let folder = station.config.execution.cache_dir.clone();
    if let Some(known) = station.host.get() {
        return Ok(known.clone());
    }
    let probed = station.helpers.spawn_blocking(move || host::probe(&folder)).await;
    let host = probed.map_err(|error| format!("cannot find out what the host can do: {error}"))?;
    let found = (host::labels(&station.config.labels, &host), host::sentence(&host));
    Ok(station.host.get_or_init(|| found).clone())
}

async fn register(station: &Station, labels: &[String], client: &mut AgentsClient) -> Result<String, End> {
    let Some(token) = &station.config.token else {
        return Err(End::Refused("there is no credential for it here: make a token on the server and give it".into()));
    };
    let registered = credential::register(&station.config, token, labels.to_vec(), client).await;
    let credential = registered.map_err(|status| refused_or_lost(station, &status))?;
    let secret = credential.secret.clone();
    tracing::info!("registered at {} as `{}`", station.config.server, credential.agent);
    *lock(&station.credential) = Some(credential);
    Ok(secret)
}

fn refused_or_lost(station: &Station, status: &Answer) -> End {
    let said: String = status.message().chars().filter(|c| !c.is_control()).take(300).collect();
    match status.code() {
        Code::Unauthenticated => {
            // A new token may be at hand, for an agent that was removed and is added again.
            if station.config.token.is_some() && station.config.credential.is_none() {
                *lock(&station.credential) = None;
            }
            End::Refused(said)
        }
        Code::PermissionDenied | Code::AlreadyExists | Code::FailedPrecondition | Code::Unimplemented => {
            End::Refused(said)
        }
        _ => End::Lost(why(status, said)),
    }
}

fn why(status: &Answer, said: String) -> String {
    let mut why = said;
    let mut cause = std::error::Error::source(status);
    while let Some(below) = cause {
        why = below.to_string();
        cause = below.source();
    }
    if why.is_empty() { format!("{:?}", status.code()) } else { why }
}

fn hello(station: &Station, (labels, host): (Vec<String>, String), held: &[Lease]) -> Hello {
    let capacity = host::capacity(station.config.execution.slots);
    Hello {
        major: PROTOCOL.0,
        minor: PROTOCOL.1,
        version: env!("CARGO_PKG_VERSION").into(),
        capacity: serde_json::to_string(&capacity).unwrap_or_default(),
        labels,
        held: held.iter().map(Lease::to_wire).collect(),
        host,
    }
}

fn word(word: AgentWord) -> FromAgent {
    FromAgent { word: Some(word) }
}

/// What the welcome changes.
fn greet(station: &Arc<Station>, welcome: &Welcome, begun: Instant, hold: &mut Hold) {
    station.forget_ways();
    station.runs.connected();
    if let Ok(key) = welcome.version_key.as_slice().try_into() {
        station.agent.set_version_key(key);
    }
    let void: Vec<Lease> = welcome.void.iter().filter_map(Lease::from_wire).collect();
    station.lose(&void, "the server gave the step to another agent");
    station.book.begin_anew();
    let good_for = Duration::from_millis(u64::from(welcome.lease_ms));
    *hold = Hold { renewed: Some(begun), good_for, ..Hold::default() };
    station.set_status(Status::Connected(welcome.agent.clone()));
    station.look_whether_drained();
}

/// Says and hears until the connection ends.
async fn talk(
    station: &Arc<Station>,
    welcome: &Welcome,
    say: Sender<FromAgent>,
    mut answers: Streaming<FromServer>,
    hold: &mut Hold,
) -> End {
    let wanted = Duration::from_millis(u64::from(welcome.heartbeat_ms)).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + wanted, wanted);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut sweep = std::pin::pin!(tokio::time::sleep(UNHEARD_OF_MAX));
    let mut swept = false;
    let mut mouth = Mouth { beat: false, drain_said: false, flushed: Instant::now(), full: false };
    loop {
        let gathered = tokio::time::Instant::from_std(mouth.flushed + GATHER);
        tokio::select! {
            heard = answers.message() => match heard {
                Ok(Some(FromServer { word })) => hear(station, word, hold),
                Ok(None) => return End::Lost("it ended the conversation".into()),
                Err(status) => return refused_or_lost(station, &status),
            },
            () = station.wake.notified() => {}
            _ = heartbeat.tick() => mouth.beat = true,
            _ = look.tick() => {}
            () = &mut sweep, if !swept => {
                swept = true;
                station.end_unheard_of();
            }
            () = tokio::time::sleep_until(gathered), if station.book.has_fresh() => {}
            room = say.reserve(), if mouth.full => if room.is_err() {
                return End::Lost("the connection is gone".into());
            },
        }
        if station.is_closing() {
            return End::Closed;
        }
        hold.stands();
        hold.look(station);
        if !mouth.speak(station, &say, hold) {
            return End::Lost("the connection is gone".into());
        }
    }
}

/// What is to be said beside what the book holds.
struct Mouth {
    beat: bool,
    drain_said: bool,
    flushed: Instant,
    full: bool,
}

impl Mouth {
    fn is_flushed(&self, gather: Duration) -> bool {
        self.flushed.elapsed() >= gather
    }

    /// Says what there is room for. `false`: nobody hears it.
    fn speak(&mut self, station: &Station, say: &Sender<FromAgent>, hold: &mut Hold) -> bool {
        let flush = self.is_flushed(GATHER);
        if flush && station.book.has_fresh() {
            self.flushed = Instant::now();
        }
        loop {
            let permit = match say.try_reserve() {
                Ok(permit) => permit,
                Err(tokio::sync::mpsc::error::TrySendError::Full(())) => {
                    self.full = true;
                    return true;
                }
                Err(tokio::sync::mpsc::error::TrySendError::Closed(())) => return false,
            };
            self.full = false;
            let next = self.next(station, hold).or_else(|| station.book.next_word(flush));
            let Some(next) = next else { break };
            permit.send(word(next));
        }
        true
    }

    fn next(&mut self, station: &Station, hold: &mut Hold) -> Option<AgentWord> {
        if std::mem::take(&mut self.beat) {
            hold.sent();
            let held = station.book.held().iter().map(Lease::to_wire).collect();
            return Some(AgentWord::Heartbeat(Heartbeat { held }));
        }
        let why = lock(&station.draining).clone().filter(|_| !self.drain_said)?;
        self.drain_said = true;
        Some(AgentWord::Draining(Draining { why }))
    }
}

/// Does what the server says. A word that is not known is passed over.
fn hear(station: &Arc<Station>, word: Option<ServerWord>, hold: &mut Hold) {
    match word {
        Some(ServerWord::Begin(begin)) => match serde_json::from_str(&begin.brief) {
            Ok(brief) => station.runs.begin(RunId::new(begin.run), brief),
            Err(error) => tracing::error!("what the server says of run {} cannot be read: {error}", begin.run),
        },
        Some(ServerWord::Execute(execute)) => take(station, execute),
        Some(ServerWord::Stop(stop)) => {
            if let Some(lease) = stop.lease.as_ref().and_then(Lease::from_wire) {
                station.stop(&lease, stop.force);
            }
        }
        Some(ServerWord::End(end)) => station.end_run(RunId::new(end.run)),
        Some(ServerWord::LogTaken(taken)) => {
            if let Some(lease) = taken.lease.as_ref().and_then(Lease::from_wire) {
                station.book.log_taken(&lease, taken.length);
            }
        }
        Some(ServerWord::ResultTaken(lease)) => {
            if let Some(lease) = Lease::from_wire(&lease) {
                acknowledged(station, &lease);
            }
        }
        Some(ServerWord::Drain(drain)) => station.drain(&drain.why),
        Some(ServerWord::Renewed(_)) => hold.answered(),
        Some(ServerWord::Welcome(_)) | None => {}
    }
}

/// The server has a result, or wants none: then what still runs of it is stopped.
fn acknowledged(station: &Arc<Station>, lease: &Lease) {
    if station.book.running().contains(lease) {
        station.stop(lease, true);
        station.runs.ended(lease);
    }
    station.book.result_taken(lease);
    station.look_whether_drained();
}

/// Takes a lease, and executes its attempt.
fn take(station: &Arc<Station>, execute: Execute) {
    let spec: AttemptSpec = match serde_json::from_str(&execute.spec) {
        Ok(spec) => spec,
        // Without a lease there is nothing to answer; it runs out.
        Err(error) => return tracing::error!("an attempt that the server sends cannot be read: {error}"),
    };
    let lease = Lease::of(&spec);
    match station.book.take(&lease) {
        Ok(true) => {}
        // Said twice; it is under way.
        Ok(false) => return,
        Err(why) => return station.fail(&lease, &why),
    }
    let known = match execute.known.is_empty() {
        true => Ok(Vec::new()),
        false => serde_json::from_str(&execute.known),
    };
    let secrets: BTreeMap<String, Secret> =
        execute.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    match known {
        Ok(known) => station.execute(Job { spec: Arc::new(spec), secrets, known }),
        Err(error) => {
            let why =
                format!("what other agents executed cannot be read: {error}; is this agent older than the server?");
            station.fail(&lease, &why);
        }
    }
}
