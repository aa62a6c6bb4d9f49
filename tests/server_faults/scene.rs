//! A server and its agents as processes, with a repository to build and a token to ask with.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::{Scope, Token, User};
use model::Timestamp;
use serde_json::{Value, json};
use server::records::Project;
use store::{Batch, Change, Expect, Location, Store};

/// Nothing here depends on how fast it is; this ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Lines that each run prints.
pub const LINES: usize = 40;

/// Two steps; the second sees what the first wrote. Never from the cache: each run is to be executed.
pub const PIPELINE: &str = r#"
name: demo
on: { push: {}, manual: {} }
steps:
  - id: build
    cmd: |
      for i in $(seq 1 40); do echo "line $i of $PACE_RUN_ID"; done
      echo "$PACE_RUN_ID" > out.txt
    cache: never
  - id: test
    depends_on: [build]
    cmd: |
      test "$(cat out.txt)" = "$PACE_RUN_ID"
    cache: never
    retry: { attempts: 20, on: [any], backoff: { initial: 100ms, max: 500ms } }
defaults:
  retry: { attempts: 20, on: [any], backoff: { initial: 100ms, max: 500ms } }
"#;

/// A folder with all of it.
pub struct Scene {
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub token: String,
    pub database: Location,
    http: ureq::Agent,
}

/// A process that is killed when it is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([&format!("-{signal}"), &self.0.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }
}

impl Scene {
    /// On SQLite.
    pub fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Location::Sqlite(folder.path().join("data/paceline.db"));
        Scene::on(folder, database)
    }

    pub fn on(folder: tempfile::TempDir, database: Location) -> Scene {
        let repository = folder.path().join("repository");
        std::fs::create_dir_all(&repository).expect("a folder");
        std::fs::create_dir_all(folder.path().join("data")).expect("a folder");
        std::fs::write(repository.join("paceline.yaml"), PIPELINE).expect("a file");
        git(&repository, &["init", "--quiet", "--initial-branch=main"]);
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "--quiet", "--message=first"]);
        let token = prepare(&database, &repository);
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build()
            .into();
        Scene { folder, port: free_port(), token, database, http }
    }

    /// Starts the server and waits until it leads.
    pub fn serve(&self, arguments: &[&str]) -> Process {
        let process = self.serve_at(self.port, "data", arguments);
        self.until("the server leads", || self.ready(self.port).contains("this server leads"));
        process
    }

    pub fn serve_at(&self, port: u16, data: &str, arguments: &[&str]) -> Process {
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder.path().join(format!("{data}.log")));
        let mut command = self.pace();
        command.args(["server", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(self.folder.path().join(data));
        if let Location::Postgres(url) = &self.database {
            command.args(["--database", url]);
        }
        let child = command.args(arguments).stdout(Stdio::null()).stderr(log.expect("a log")).spawn();
        Process(child.expect("a server"))
    }

    /// Starts an agent in a process of its own.
    pub fn agent(&self, name: &str) -> Process {
        let token = match self.folder.path().join(name).exists() {
            true => String::new(),
            false => self.registration(),
        };
        let place = |part: &str| self.folder.path().join(name).join(part);
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder.path().join(format!("{name}.log")));
        let mut command = self.pace();
        command
            .args(["agent", "--server", &format!("http://127.0.0.1:{}", self.port), "--name", name, "--slots", "4"])
            .env("PACE_STATE_DIR", place("state"))
            .env("PACE_CACHE_DIR", place("cache"))
            .stdout(Stdio::null())
            .stderr(log.expect("a log"));
        if !token.is_empty() {
            command.args(["--token", &token]);
        }
        std::fs::create_dir_all(place("")).expect("a folder");
        Process(command.spawn().expect("an agent"))
    }

    fn registration(&self) -> String {
        let answer = self.post("/api/v1/agent-tokens", "", &json!({})).expect("a token for an agent");
        answer["token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
    }

    fn pace(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pace"));
        command.env_remove("PACE_CACHE_DIR").env_remove("PACE_STATE_DIR").env("NO_COLOR", "1").stdin(Stdio::null());
        command
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
    }

    /// Asks until the server answers, as a client that loses nothing does; `key` makes that harmless.
    pub fn trigger(&self, key: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.post("/api/v1/projects/demo/runs", key, &json!({})) {
                Ok(made) if made["id"].is_string() => return made["id"].as_str().expect("an id").to_owned(),
                Ok(problem) if problem["status"].as_u64().is_some_and(|status| status < 500) => {
                    panic!("no run for {key}: {problem:#}")
                }
                answer => assert!(Instant::now() < end, "no run for {key}: {answer:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn post(&self, path: &str, key: &str, body: &Value) -> Result<Value, String> {
        let request = self.http.post(self.url(path)).header("authorization", format!("Bearer {}", self.token));
        let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
        let sent = request.content_type("application/json").send(body.to_string());
        let mut answer = sent.map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    pub fn get(&self, path: &str) -> Result<String, String> {
        let request = self.http.get(self.url(path)).header("authorization", format!("Bearer {}", self.token));
        let mut answer = request.call().map_err(|error| error.to_string())?;
        answer.body_mut().read_to_string().map_err(|error| error.to_string())
    }

    pub fn run(&self, id: &str) -> Value {
        let text = self.get(&format!("/api/v1/runs/{id}")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn ready(&self, port: u16) -> String {
        let asked = self.http.get(format!("http://127.0.0.1:{port}/readyz")).call();
        asked.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits for all runs to end, and holds each against what it must be: a success, once, with its whole log.
    pub fn all_is_there(&self, runs: &[String]) {
        for run in runs {
            let end = Instant::now() + PATIENCE;
            let mut shape = self.run(run);
            while shape["run"]["ended"] != json!(true) {
                assert!(Instant::now() < end, "{run} does not end: {shape:#}\n{}", self.logs());
                std::thread::sleep(Duration::from_millis(20));
                shape = self.run(run);
            }
            assert_eq!(shape["run"]["state"], json!("success"), "{run}: {shape:#}");
            let log = self.get(&format!("/api/v1/runs/{run}/steps/build/log")).expect("a log");
            let wanted: String = (1..=LINES).map(|line| format!("line {line} of {run}\n")).collect();
            assert_eq!(log, wanted, "the log of {run}, attempts {}", shape["steps"][0]["attempts"]);
        }
    }

    /// The store of a server that does not run: its chain is whole, and each run is there once, numbered without a gap.
    pub fn store_is_whole(&self, runs: usize) {
        let store = Store::open(&self.database).expect("the store");
        let verified = store.verify(&mut |_| {}).expect("a verdict");
        assert_eq!(verified.broken, None);
        let all = store.runs(&store::RunQuery { max: 500, ..store::RunQuery::default() }).expect("runs");
        let mut numbers: Vec<u64> = all.iter().map(|run| run.value.number.0).collect();
        numbers.sort_unstable();
        let wanted: Vec<u64> = (1..=runs as u64).collect();
        assert_eq!(numbers, wanted);
    }

    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            if Instant::now() > end {
                let active = self.get("/api/v1/runs?state=running").unwrap_or_default();
                panic!("waited in vain: {what}\n{active}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last lines that server and agents told.
    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.folder.path()).expect("the folder").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let file = std::fs::File::open(entry.path()).expect("a log");
                let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
                let last = lines.len().saturating_sub(30);
                text.push_str(&format!("== {}\n{}\n", entry.path().display(), lines[last..].join("\n")));
            }
        }
        text
    }
}

/// What an administrator would have made: a project, a user and a token.
fn prepare(database: &Location, repository: &Path) -> String {
    let store = Store::open(database).expect("a store");
    let now = Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros() as u64);
    let user = User { name: "anna".into(), admin: true, ..User::default() };
    let (token, minted) = Token::mint("anna", "test", [Scope::Admin].into(), 7, now);
    let repository = repository.to_str().expect("a path").to_owned();
    let project = Project { name: "demo".into(), repository, ..Project::default() };
    let changes = vec![
        Change::put(now, "test", "user.created", &user, Expect::Any),
        Change::put(now, "test", "token.created", &token, Expect::Any),
        Change::put(now, "test", "project.created", &project, Expect::Any),
    ];
    store.append(None, Batch { changes, ..Batch::default() }).expect("a beginning");
    minted.text
}

pub fn git(folder: &Path, words: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com"])
        .args(words)
        .current_dir(folder)
        .status();
    assert!(done.expect("git").success(), "git {words:?}");
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// How often something is killed: `PACE_KILLS`, or as often as every run of the tests can afford.
pub fn kills(usual: usize) -> usize {
    std::env::var("PACE_KILLS").ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Moments that differ from run to run, and are printed so that one can be had again.
pub struct Moments(u64);

impl Moments {
    pub fn new() -> Moments {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1;
        println!("moments from seed {seed}");
        Moments(seed)
    }

    /// A time below `most`. Source: Marsaglia, "Xorshift RNGs", 2003.
    pub fn below(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}
