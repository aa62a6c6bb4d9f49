//! The server's side of agents, spoken to as an agent does: over the wire, against a real server with a real repository.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use model::{AttemptEnd, AttemptNo, AttemptResult, AttemptSpec, Capacity, NodeIx, RunId, RunOutcome, Trigger};
use proto::{AgentWord, AgentsClient, Finished, FromAgent, FromServer, Heartbeat, Hello, Lease, Log, ServerWord};
use server::desk::RunWish;
use server::{Config, Server};
use store::LogId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// Nothing here depends on how fast it is; this ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    server: Server,
}

/// A conversation as an agent has it.
struct Fake {
    say: mpsc::UnboundedSender<FromAgent>,
    hear: Streaming<FromServer>,
}

impl Scene {
    fn new(pipeline: &str) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).expect("a folder");
        std::fs::write(repository.join("paceline.yaml"), pipeline).expect("a file");
        git(&repository, &["init", "--quiet", "--initial-branch=main"]);
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "--quiet", "--message=first"]);
        let server = Server::start(Config::local(&folder.path().join("data"))).expect("a server");
        server.add_project("demo", repository.to_str().expect("a path")).expect("a project");
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        Scene { _folder: folder, runtime, server }
    }

    /// Connects as the agent in the server's own process.
    fn connect(&self, held: Vec<Lease>) -> Fake {
        let fake = self.runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.server.address)).expect("an address");
            let mut client = AgentsClient::new(endpoint.connect().await.expect("a connection"));
            let (say, said) = mpsc::unbounded_channel();
            let capacity = Capacity { slots: 2, cpu_milli: 2000, memory: 1 << 30 };
            let capacity = serde_json::to_string(&capacity).expect("JSON");
            let (major, minor) = proto::PROTOCOL;
            let hello = Hello { major, minor, version: "0".into(), capacity, held, ..Hello::default() };
            say.send(FromAgent { word: Some(AgentWord::Hello(hello)) }).expect("a word");
            let credential = self.server.shared.builtin.0.clone();
            // The server leads a moment after it answers.
            let words = UnboundedReceiverStream::new(said);
            client.work(&credential, words).await.map(|hear| Fake { say, hear })
        });
        fake.expect("a conversation")
    }

    fn request(&self, run: &str) -> RunId {
        let wish = RunWish {
            run: RunId::new(run),
            project: "demo".into(),
            pipeline: String::new(),
            trigger: Trigger::default(),
            params: Vec::new(),
            selection: model::Selection::default(),
            by: "user:test".into(),
            priority: 0,
            fork: false,
        };
        let granted = self.runtime.block_on(self.server.shared.desk.run(wish));
        granted.expect("a run").run
    }

    fn wait_for_lead(&self) {
        until("the server leads", || self.server.shared.desk.epoch().is_some());
    }

    fn outcome(&self, run: &RunId) -> RunOutcome {
        let summary = || self.server.shared.store.run(run).expect("the store").expect("the run");
        until("the run ends", || summary().outcome.is_some());
        summary().outcome.expect("an outcome")
    }

    fn log(&self, run: &RunId) -> String {
        let log = LogId { run: run.clone(), node: NodeIx(0), attempt: AttemptNo(1) };
        let part = self.server.shared.store.log(&log, 0, 1 << 20).expect("the store");
        String::from_utf8(part.bytes).expect("text")
    }

    /// The next word that `pick` wants; others are passed over.
    fn next<T>(&self, fake: &mut Fake, pick: impl Fn(ServerWord) -> Option<T>) -> T {
        self.runtime.block_on(async {
            loop {
                let word = tokio::time::timeout(PATIENCE, fake.hear.message()).await.expect("a word in time");
                let word = word.expect("a conversation that goes on").expect("a word").word;
                if let Some(found) = word.and_then(&pick) {
                    return found;
                }
            }
        })
    }

    fn executes(&self, fake: &mut Fake) -> AttemptSpec {
        self.next(fake, |word| match word {
            ServerWord::Execute(execute) => Some(serde_json::from_str(&execute.spec).expect("a spec")),
            _ => None,
        })
    }

    fn log_taken(&self, fake: &mut Fake) -> u64 {
        self.next(fake, |word| match word {
            ServerWord::LogTaken(taken) => Some(taken.length),
            _ => None,
        })
    }
}

impl Fake {
    fn tell(&self, word: AgentWord) {
        self.say.send(FromAgent { word: Some(word) }).expect("a conversation that goes on");
    }

    fn log(&self, lease: &Lease, offset: u64, text: &str) {
        self.tell(AgentWord::Log(Log { lease: Some(lease.clone()), offset, bytes: text.into() }));
    }

    fn finish(&self, lease: &Lease, log_bytes: u64) {
        let result = serde_json::to_string(&AttemptResult::ended(AttemptEnd::Succeeded)).expect("JSON");
        self.tell(AgentWord::Finished(Finished { lease: Some(lease.clone()), result, log_bytes }));
    }
}

fn lease_of(spec: &AttemptSpec) -> Lease {
    Lease { run: spec.run.to_string(), node: spec.node.0, attempt: u32::from(spec.attempt.0), fence: spec.fence.0 }
}

fn git(folder: &Path, words: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com"])
        .args(words)
        .current_dir(folder)
        .status();
    assert!(done.expect("git").success(), "git {words:?}");
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const ONE: &str = "name: demo\nsteps:\n  - id: build\n    cmd: echo hello\n";

#[test]
fn an_attempt_goes_to_an_agent_and_its_log_and_result_come_back() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let mut agent = scene.connect(Vec::new());
    let run = scene.request("run_1");
    let spec = scene.executes(&mut agent);
    let lease = lease_of(&spec);
    agent.log(&lease, 0, "1 hello\n");
    assert_eq!(scene.log_taken(&mut agent), 8);
    agent.finish(&lease, 8);
    let taken = scene.next(&mut agent, |word| match word {
        ServerWord::ResultTaken(lease) => Some(lease),
        _ => None,
    });
    assert_eq!(taken, lease);
    assert_eq!(scene.outcome(&run), RunOutcome::Succeeded);
    assert_eq!(scene.log(&run), "1 hello\n");
}

#[test]
fn a_result_waits_for_the_part_of_the_log_that_is_missing() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let mut agent = scene.connect(Vec::new());
    let run = scene.request("run_1");
    let lease = lease_of(&scene.executes(&mut agent));
    agent.log(&lease, 0, "1 a\n");
    assert_eq!(scene.log_taken(&mut agent), 4);
    agent.finish(&lease, 8);
    assert_eq!(scene.log_taken(&mut agent), 4, "it is told where the log ends");
    assert!(scene.server.shared.store.run(&run).expect("the store").expect("the run").outcome.is_none());
    // Told twice, with an overlap: no line is there twice.
    agent.log(&lease, 0, "1 a\n2 b\n");
    agent.log(&lease, 4, "2 b\n");
    agent.finish(&lease, 8);
    assert_eq!(scene.outcome(&run), RunOutcome::Succeeded);
    assert_eq!(scene.log(&run), "1 a\n2 b\n");
}

#[test]
fn a_log_that_begins_too_late_is_told_where_the_store_is() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let mut agent = scene.connect(Vec::new());
    let run = scene.request("run_1");
    let lease = lease_of(&scene.executes(&mut agent));
    agent.log(&lease, 100, "9 late\n");
    assert_eq!(scene.log_taken(&mut agent), 0);
    assert_eq!(scene.log(&run), "");
}

#[test]
fn nobody_writes_into_the_log_of_an_attempt_that_is_not_theirs() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let mut agent = scene.connect(Vec::new());
    let run = scene.request("run_1");
    let lease = lease_of(&scene.executes(&mut agent));
    for wrong in [
        Lease { fence: lease.fence + 1, ..lease.clone() },
        Lease { run: "run_of_others".into(), ..lease.clone() },
        Lease { attempt: 70_000, ..lease.clone() },
    ] {
        agent.log(&wrong, 0, "1 forged\n");
    }
    agent.log(&lease, 0, "1 true\n");
    assert_eq!(scene.log_taken(&mut agent), 7);
    assert_eq!(scene.log(&run), "1 true\n");
}

#[test]
fn an_agent_that_comes_back_goes_on_where_it_was() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let mut first = scene.connect(Vec::new());
    let run = scene.request("run_1");
    let lease = lease_of(&scene.executes(&mut first));
    first.log(&lease, 0, "1 before\n");
    assert_eq!(scene.log_taken(&mut first), 9);
    drop(first);
    until("the agent is gone", || scene.server.shared.hub.agents().is_empty());
    let mut second = scene.connect(vec![lease.clone()]);
    second.tell(AgentWord::Heartbeat(Heartbeat { held: vec![lease.clone()] }));
    second.log(&lease, 9, "2 after\n");
    assert_eq!(scene.log_taken(&mut second), 17);
    second.finish(&lease, 17);
    assert_eq!(scene.outcome(&run), RunOutcome::Succeeded);
    assert_eq!(scene.log(&run), "1 before\n2 after\n");
}

#[test]
fn a_credential_that_nobody_gave_is_refused() {
    let scene = Scene::new(ONE);
    scene.wait_for_lead();
    let refused = scene.runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", scene.server.address)).expect("an address");
        let mut client = AgentsClient::new(endpoint.connect().await.expect("a connection"));
        let (_say, said) = mpsc::unbounded_channel::<FromAgent>();
        client.work("pace_agent_local_0123", UnboundedReceiverStream::new(said)).await
    });
    assert_eq!(refused.expect_err("a refusal").code(), tonic::Code::Unauthenticated);
}
