//! Scenes: a server that does what the test says, and agents that dial it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache::access::{Ask, Rights, Scope, Token};
use cache::{Routes, Running};
use link::Link;
use model::{
    AttemptNo, AttemptResult, AttemptSpec, CacheMode, CommandSpec, Fence, NodeIx, Resources, RunId, RunNumber, Work,
};
use proto::{
    AgentWord, Agents, AgentsServer, Begin, Execute, FromAgent, FromServer, Hello, Known, Lease, LogTaken, Registered,
    Registration, Renewed, RunBrief, ServerWord, Welcome,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// For what must happen at last, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(60);
const CREDENTIAL: &str = "the-credential";

/// What the server heard, and from which connection.
#[derive(Debug)]
pub enum Heard {
    Hello(u64, Hello),
    Word(AgentWord),
}

/// A server whose words are the test's.
pub struct Desk {
    heard: Mutex<Sender<Heard>>,
    sessions: Mutex<BTreeMap<u64, UnboundedSender<Result<FromServer, Status>>>>,
    logs: Mutex<BTreeMap<(String, u32, u64), Vec<u8>>>,
    count: Mutex<u64>,
    lease_ms: Mutex<u32>,
    void: Mutex<Vec<Lease>>,
    /// Tokens that are good once.
    tokens: Mutex<Vec<String>>,
    /// Heartbeats are answered.
    pub answers: AtomicBool,
    /// Log is kept, and not only counted.
    pub keeps_logs: AtomicBool,
    counted: Mutex<u64>,
    /// Log is acknowledged.
    pub takes_logs: AtomicBool,
}

impl Agents for Desk {
    type Words = UnboundedReceiverStream<Result<FromServer, Status>>;

    async fn work(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::Words>, Status> {
        let bearer = format!("Bearer {CREDENTIAL}");
        if request.metadata().get("authorization").is_none_or(|value| value != bearer.as_str()) {
            return Err(Status::unauthenticated("this credential is not known"));
        }
        let mut words = request.into_inner();
        let Some(Ok(FromAgent { word: Some(AgentWord::Hello(hello)) })) = words.next().await else {
            return Err(Status::invalid_argument("the first word is a Hello"));
        };
        let number = {
            let mut count = self.count.lock().expect("lock");
            *count += 1;
            *count
        };
        let (say, said) = unbounded_channel();
        let welcome = Welcome {
            agent: "a1".into(),
            heartbeat_ms: 100,
            lease_ms: *self.lease_ms.lock().expect("lock"),
            void: self.void.lock().expect("lock").clone(),
            version_key: vec![7; 32],
            ..Welcome::default()
        };
        say.send(Ok(FromServer { word: Some(ServerWord::Welcome(welcome)) })).expect("said");
        self.sessions.lock().expect("lock").insert(number, say);
        self.tell(Heard::Hello(number, hello));
        let desk = DESKS.lock().expect("lock").iter().find(|desk| std::ptr::eq(&***desk, self)).cloned();
        tokio::spawn(async move {
            let Some(desk) = desk else { return };
            while let Some(Ok(FromAgent { word: Some(word) })) = words.next().await {
                desk.hear(number, word);
            }
            desk.sessions.lock().expect("lock").remove(&number);
        });
        Ok(Response::new(UnboundedReceiverStream::new(said)))
    }

    async fn register(&self, request: Request<Registration>) -> Result<Response<Registered>, Status> {
        let asked = request.into_inner();
        let mut tokens = self.tokens.lock().expect("lock");
        let at = tokens.iter().position(|token| *token == asked.token);
        let at = at.ok_or_else(|| Status::unauthenticated("this token was used before"))?;
        tokens.remove(at);
        Ok(Response::new(Registered { agent: asked.name, credential: CREDENTIAL.into() }))
    }
}

/// Conversations outlive the call that began them.
static DESKS: Mutex<Vec<Arc<Desk>>> = Mutex::new(Vec::new());

impl Desk {
    fn tell(&self, heard: Heard) {
        let _ = self.heard.lock().expect("lock").send(heard);
    }

    fn hear(&self, number: u64, word: AgentWord) {
        match &word {
            AgentWord::Heartbeat(_) if self.answers.load(Ordering::SeqCst) => {
                self.say(number, ServerWord::Renewed(Renewed {}));
            }
            AgentWord::Log(log) if !self.keeps_logs.load(Ordering::SeqCst) => {
                let mut counted = self.counted.lock().expect("lock");
                *counted = log.offset + log.bytes.len() as u64;
                let length = *counted;
                self.say(number, ServerWord::LogTaken(LogTaken { lease: log.lease.clone(), length }));
                // The test is not told: it would have to hear it all.
                return;
            }
            AgentWord::Log(log) => {
                let lease = log.lease.clone().expect("whose");
                let mut logs = self.logs.lock().expect("lock");
                let kept = logs.entry((lease.run.clone(), lease.node, lease.fence)).or_default();
                let offset = log.offset as usize;
                assert!(offset <= kept.len(), "a piece is missing: {offset} after {}", kept.len());
                let new = log.bytes.get(kept.len() - offset..).unwrap_or_default();
                kept.extend_from_slice(new);
                let length = kept.len() as u64;
                drop(logs);
                if self.takes_logs.load(Ordering::SeqCst) {
                    self.say(number, ServerWord::LogTaken(LogTaken { lease: Some(lease), length }));
                }
            }
            _ => {}
        }
        self.tell(Heard::Word(word));
    }

    fn say(&self, number: u64, word: ServerWord) {
        if let Some(say) = self.sessions.lock().expect("lock").get(&number) {
            let _ = say.send(Ok(FromServer { word: Some(word) }));
        }
    }
}

/// A repository with a commit, a server, and agents.
pub struct World {
    pub dir: TempDir,
    pub desk: Arc<Desk>,
    pub commit: String,
    pub session: u64,
    running: Running,
    heard: Receiver<Heard>,
    fences: u64,
}

/// An attempt that ended, as the server heard it.
#[derive(Debug)]
pub struct Ended {
    pub lease: Lease,
    pub result: AttemptResult,
    pub log_bytes: u64,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().expect("a folder");
        let commit = repository(&dir.path().join("repo"));
        let (tell, heard) = channel();
        let desk = Arc::new(Desk {
            heard: Mutex::new(tell),
            sessions: Mutex::default(),
            logs: Mutex::default(),
            count: Mutex::default(),
            lease_ms: Mutex::new(60_000),
            void: Mutex::default(),
            tokens: Mutex::new(vec!["once".into()]),
            answers: AtomicBool::new(true),
            takes_logs: AtomicBool::new(true),
            keeps_logs: AtomicBool::new(true),
            counted: Mutex::default(),
        });
        DESKS.lock().expect("lock").push(desk.clone());
        let mut config = cache::Config::local(&dir.path().join("server"));
        config.ask = Some(Ask::new(|_| {
            let (name, sha256) = ("agent".to_string(), [0; 32]);
            let (scope, rights) = (Scope::Main, Rights::Write);
            Some(Arc::new(Token { name, sha256, instance: None, scope, rights, created: 0, expires: None }))
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let agents = AgentsServer::new(desk.clone());
        let running = cache::serve_within(&config, runtime.expect("threads"), |cache, _, _| Routes {
            http: cache.http,
            grpc: cache.grpc.route_service("/paceline.Agents/{*method}", agents),
        });
        World { dir, desk, commit, session: 0, running: running.expect("a server"), heard, fences: 0 }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn set_lease(&self, time: Duration) {
        *self.desk.lease_ms.lock().expect("lock") = time.as_millis() as u32;
    }

    pub fn set_void(&self, lease: &Lease) {
        *self.desk.void.lock().expect("lock") = vec![lease.clone()];
    }

    /// An agent in folders of this name. What git would fetch is there already.
    pub fn agent(&mut self, name: &str) -> Link {
        let link = link::start(self.config(name)).expect("an agent");
        self.session = self.hello().0;
        link
    }

    /// Lays what git would fetch where the agent has it.
    pub fn seed(&self, name: &str) {
        let mirror = self.path(name).join("cache/commits/git/web");
        if !mirror.exists() {
            fs::create_dir_all(mirror.parent().expect("above")).expect("folder");
            git(self.dir.path(), &["clone", "-q", "--bare", "repo", mirror.to_str().expect("UTF-8")]);
        }
    }

    pub fn config(&self, name: &str) -> link::Config {
        self.seed(name);
        config_at(&self.url(), &self.path(name))
    }

    /// An agent in a process of its own, in folders of this name.
    pub fn process(&mut self, name: &str) -> Process {
        self.seed(name);
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "an_agent_in_a_process_of_its_own", "--nocapture"]);
        command.env(ASKED, format!("{} {}", self.url(), self.path(name).display()));
        let child = command.stdout(std::process::Stdio::null()).spawn().expect("started");
        self.session = self.hello().0;
        Process(child)
    }

    /// Says something to the agent that dialled last.
    pub fn say(&self, word: ServerWord) {
        self.desk.say(self.session, word);
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        self.desk.sessions.lock().expect("lock").remove(&self.session);
    }

    pub fn brief(&self) -> RunBrief {
        RunBrief {
            project: "web".into(),
            number: 1,
            commit: self.commit.clone(),
            key: "web/ci".into(),
            tenant: "web".into(),
            cache_scope: "web".into(),
            cache_instance: "web".into(),
            cache_writes: true,
        }
    }

    pub fn begin(&self, run: &str) {
        let brief = serde_json::to_string(&self.brief()).expect("JSON");
        self.say(ServerWord::Begin(Begin { run: run.into(), brief }));
    }

    pub fn execute(&mut self, run: &str, node: u32, script: &str) -> Lease {
        self.execute_as(run, node, script, |_| {}, &[])
    }

    pub fn execute_as(
        &mut self,
        run: &str,
        node: u32,
        script: &str,
        change: impl FnOnce(&mut AttemptSpec),
        known: &[Known],
    ) -> Lease {
        self.fences += 1;
        let mut command = CommandSpec::new(script);
        command.cache = CacheMode::Never;
        let mut spec = AttemptSpec {
            run: RunId::new(run),
            number: RunNumber(1),
            node: NodeIx(node),
            name: format!("step-{node}").into(),
            attempt: AttemptNo(1),
            fence: Fence(self.fences),
            needs: Vec::new(),
            work: Work::Command(Arc::new(command)),
            timeout_total: Duration::from_secs(600),
            timeout_idle: None,
            resources: Resources::default(),
        };
        change(&mut spec);
        self.say(ServerWord::Execute(Execute {
            spec: serde_json::to_string(&spec).expect("JSON"),
            secrets: [("KEY".to_string(), "hunter2-hunter2".to_string())].into(),
            known: serde_json::to_string(known).expect("JSON"),
        }));
        Lease { run: run.into(), node, attempt: 1, fence: self.fences }
    }

    /// The next thing that the server hears and that this takes.
    pub fn hears<T>(&self, mut take: impl FnMut(Heard) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left).expect("the server hears it in time");
            if let Some(taken) = take(heard) {
                return taken;
            }
        }
    }

    pub fn hello(&mut self) -> (u64, Hello) {
        let (session, hello) = self.hears(|heard| match heard {
            Heard::Hello(session, hello) => Some((session, hello)),
            _ => None,
        });
        self.session = session;
        (session, hello)
    }

    pub fn finished(&self) -> Ended {
        self.hears(|heard| match heard {
            Heard::Word(AgentWord::Finished(finished)) => Some(Ended {
                lease: finished.lease.expect("whose"),
                result: serde_json::from_str(&finished.result).expect("a result"),
                log_bytes: finished.log_bytes,
            }),
            _ => None,
        })
    }

    /// As [`World::finished`], and the server says that it has it.
    pub fn takes(&self) -> Ended {
        let ended = self.finished();
        self.say(ServerWord::ResultTaken(ended.lease.clone()));
        ended
    }

    /// Waits until the log of a lease has this in it.
    pub fn log_has(&self, lease: &Lease, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.log(lease).contains(text) {
            assert!(Instant::now() < end, "the log has `{text}` in time: {}", self.log(lease));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The texts of a log, without their times.
    pub fn log(&self, lease: &Lease) -> String {
        let logs = self.desk.logs.lock().expect("lock");
        let bytes = logs.get(&(lease.run.clone(), lease.node, lease.fence)).cloned().unwrap_or_default();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|line| format!("{}\n", line.split_once(' ').map_or(line, |(_, text)| text))).collect()
    }

    pub fn log_length(&self, lease: &Lease) -> u64 {
        let logs = self.desk.logs.lock().expect("lock");
        logs.get(&(lease.run.clone(), lease.node, lease.fence)).map_or(0, |log| log.len() as u64)
    }
}

/// The variable that says which agent this process is to be.
const ASKED: &str = "PACE_TEST_AGENT";

/// Server and folder, in a process that is to be an agent.
pub fn asked_to_be_an_agent() -> Option<(String, PathBuf)> {
    let asked = std::env::var(ASKED).ok()?;
    let (url, folder) = asked.split_once(' ').expect("two words");
    Some((url.to_string(), folder.into()))
}

/// An agent's process; killed at the end.
pub struct Process(std::process::Child);

impl Process {
    /// SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }

    /// The most that it ever had in memory, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent that is known to the server already.
pub fn config_at(url: &str, folder: &std::path::Path) -> link::Config {
    let caller_env = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"]
        .into_iter()
        .filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?)))
        .collect();
    let execution = agent::Config {
        cache_dir: folder.join("cache"),
        state_dir: folder.join("state"),
        slots: 2,
        executor: executor(),
        caller_env,
        secrets: BTreeMap::new(),
        quota: Default::default(),
        full_network: Default::default(),
        images: image::Options::new(folder),
        open_files_soft: None,
        shared: None,
        whole_logs: true,
        keep_failed: false,
    };
    let name = folder.file_name().expect("a name").to_string_lossy();
    let (token, credential) = (Some("once".into()), Some(CREDENTIAL.into()));
    link::Config { token, credential, ..link::Config::new(url, &name, execution) }
}

/// Sandboxes where they can be had: what is tested here is not isolation.
fn executor() -> agent::Executor {
    static EXECUTOR: std::sync::OnceLock<agent::Executor> = std::sync::OnceLock::new();
    *EXECUTOR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        match sandbox::probe(dir.path()).sandbox {
            sandbox::Ability::No { .. } => agent::Executor::Process,
            _ => agent::Executor::Sandbox,
        }
    })
}

fn repository(root: &std::path::Path) -> String {
    fs::create_dir(root).expect("folder");
    fs::write(root.join("hello"), "hello of the commit\n").expect("file");
    fs::write(root.join("kept.log"), "tracked though ignored\n").expect("file");
    git(root, &["init", "-q", "-b", "main"]);
    git(root, &["add", "."]);
    fs::write(root.join(".gitignore"), "*.log\n").expect("file");
    git(root, &["add", ".gitignore"]);
    git(root, &["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "first"]);
    git(root, &["rev-parse", "HEAD"]).trim().to_string()
}

pub fn git(root: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().expect("git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
