//! `pace server` as a process: a push with real git becomes a green run, and nothing that ends it loses anything.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::{Scope, Token, User};
use model::Timestamp;
use serde_json::{Value, json};
use store::{Batch, Change, Expect, Location, Store};

/// Nothing here depends on how fast it is; this ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, its folder, and somebody who may do everything.
struct Scene {
    folder: tempfile::TempDir,
    token: String,
    url: String,
    server: Option<Child>,
    http: ureq::Agent,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build()
            .into();
        let token = somebody(folder.path());
        let mut scene = Scene { folder, token, url: String::new(), server: None, http };
        scene.start("127.0.0.1:0");
        scene
    }

    /// Starts it and reads where it listens from what it prints.
    fn start(&mut self, listen: &str) {
        let state = |name: &str| self.folder.path().join(name);
        let log = std::fs::File::options().create(true).append(true).open(state("server.log")).expect("a log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pace"))
            .args(["server", "--listen", listen, "--project", "web", "--agent-slots", "2", "--data"])
            .arg(state("data"))
            .env("XDG_STATE_HOME", state("state"))
            .env("XDG_CACHE_HOME", state("cache"))
            .env_remove("PACE_CACHE_DIR")
            .env_remove("PACE_STATE_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut said = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let url = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(url.starts_with("http://"), "it says where it listens: {line}\n{}", self.log());
        self.url = url;
        self.server = Some(child);
    }

    fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("it can be killed");
        server.wait().expect("it ends");
    }

    /// A repository with a pipeline, ready to be pushed.
    fn repository(&self, pipeline: &str) -> PathBuf {
        let folder = self.folder.path().join("repository");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("paceline.yaml"), pipeline).expect("a file");
        git(&folder, &["init", "--quiet", "--initial-branch=main"]);
        self.commit(&folder, "first");
        folder
    }

    fn commit(&self, folder: &Path, message: &str) {
        git(folder, &["add", "."]);
        git(folder, &["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    fn push(&self, folder: &Path) {
        let address = format!("{}/git/web", self.url.replace("http://", &format!("http://anna:{}@", self.token)));
        git(folder, &["push", "--quiet", &address, "main"]);
    }

    fn get(&self, path: &str) -> String {
        let asked =
            self.http.get(format!("{}{path}", self.url)).header("authorization", format!("Bearer {}", self.token));
        let answer = asked.call().ok().and_then(|mut answer| answer.body_mut().read_to_string().ok());
        answer.unwrap_or_default()
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let mut answer = request.content_type("application/json").send(body.to_string()).expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a text");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
    }

    fn run(&self, number: u64) -> Value {
        serde_json::from_str(&self.get(&format!("/api/v1/projects/web/runs/{number}"))).unwrap_or_default()
    }

    #[track_caller]
    fn reaches(&self, number: u64, state: &str) -> Value {
        self.until(&format!("run {number} is {state}"), || self.run(number)["run"]["state"] == state);
        self.run(number)
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "waited in vain until {what}: {:#}\n{}", self.run(1), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended already.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// An administrator with a token, made before the server starts.
fn somebody(folder: &Path) -> String {
    std::fs::create_dir_all(folder.join("data")).expect("a folder");
    let store = Store::open(&Location::Sqlite(folder.join("data/paceline.db"))).expect("a store");
    let now = Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros() as u64);
    let user = User { name: "anna".into(), admin: true, ..User::default() };
    let (token, minted) = Token::mint("anna", "test", [Scope::Admin].into(), 7, now);
    let changes = vec![
        Change::put(now, "test", "user.created", &user, Expect::Any),
        Change::put(now, "test", "token.created", &token, Expect::Any),
    ];
    store.append(None, Batch { changes, ..Batch::default() }).expect("a beginning");
    minted.text
}

fn git(folder: &Path, words: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com"])
        .args(words)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git");
    assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

const GREEN: &str = "
name: ci
on: { push: {}, manual: {} }
steps:
  - id: build
    cmd: |
      for i in $(seq 1 20); do echo \"line $i\"; done
      echo made > out.txt
    cache: never
  - id: test
    depends_on: [build]
    cmd: cat out.txt
    cache: never
";

const WAITS: &str = "
name: ci
on: { push: {}, manual: {} }
steps:
  - id: wait
    cmd: |
      echo begun
      sleep 3
      echo over
    cache: never
  - id: after
    depends_on: [wait]
    cmd: echo done
    cache: never
";

#[test]
fn a_push_becomes_a_green_run_with_its_whole_log_and_is_done_again_on_demand() {
    let scene = Scene::new();
    let repository = scene.repository(GREEN);
    scene.push(&repository);
    let run = scene.reaches(1, "success");
    let id = run["run"]["id"].as_str().expect("an id").to_owned();
    let wanted: String = (1..=20).map(|line| format!("line {line}\n")).collect();
    assert_eq!(scene.get(&format!("/api/v1/runs/{id}/steps/build/log")), wanted);
    assert_eq!(scene.get(&format!("/api/v1/runs/{id}/steps/test/log")), "made\n");
    let (status, again) = scene.post(&format!("/api/v1/runs/{id}/rerun"), &json!({ "what": "all" }));
    assert_eq!(status, 201, "{again}");
    scene.reaches(2, "success");
}

#[test]
fn a_run_is_cancelled_where_it_stands() {
    let scene = Scene::new();
    let repository = scene.repository(&WAITS.replace("sleep 3", "sleep 600"));
    scene.push(&repository);
    scene.until("the step runs", || scene.run(1)["steps"][0]["state"] == "running");
    let id = scene.run(1)["run"]["id"].as_str().expect("an id").to_owned();
    let (status, said) = scene.post(&format!("/api/v1/runs/{id}/cancel"), &json!({}));
    assert_eq!(status, 202, "{said}");
    scene.reaches(1, "cancelled");
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_run_goes_on_with_it() {
    let mut scene = Scene::new();
    let repository = scene.repository(WAITS);
    scene.push(&repository);
    scene.until("the step runs", || scene.run(1)["steps"][0]["state"] == "running");
    let listen = scene.url.trim_start_matches("http://").to_owned();
    scene.kill();
    scene.start(&listen);
    scene.reaches(1, "success");
    scene.commit(&repository, "second");
    scene.push(&repository);
    scene.reaches(2, "success");
    scene.kill();
    let store = Store::open(&Location::Sqlite(scene.folder.path().join("data/paceline.db"))).expect("the store");
    assert_eq!(store.verify(&mut |_| {}).expect("a verdict").broken, None, "the log's chain is whole");
}

#[test]
fn a_pipeline_that_is_not_valid_says_so_where_deliveries_are_listed() {
    let scene = Scene::new();
    let repository =
        scene.repository("name: ci\non: { push: {} }\nsteps:\n  - id: a\n    cmd: x\n    depends_on: [nobody]\n");
    scene.push(&repository);
    let deliveries = || scene.get("/api/v1/projects/web/deliveries");
    scene.until("the delivery is settled", || deliveries().contains("no valid pipeline"));
    assert!(deliveries().contains("nobody"), "{}", deliveries());
}
