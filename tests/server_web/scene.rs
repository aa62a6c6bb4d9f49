//! A real server, perhaps an agent of its own, and a browser that plays a scene.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const PACE: &str = env!("CARGO_BIN_EXE_pace");
/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with a repository, and a browser to be.
pub struct Scene {
    folder: tempfile::TempDir,
    modules: PathBuf,
    own_agent: bool,
    server: Option<Process>,
    agent: Option<Process>,
    url: String,
    link: String,
}

impl Scene {
    /// A server with an agent in its process, and a repository with this pipeline. `None` where there is no browser.
    pub fn begin(pipeline: &str) -> Option<Scene> {
        Scene::new(pipeline, false)
    }

    /// The agent is a process of its own, and outlives the server.
    pub fn begin_with_own_agent(pipeline: &str) -> Option<Scene> {
        Scene::new(pipeline, true)
    }

    fn new(pipeline: &str, own_agent: bool) -> Option<Scene> {
        let modules = playwright()?;
        let folder = tempfile::tempdir().expect("a folder");
        repository(&folder.path().join("repository"), pipeline);
        let (url, link) = (String::new(), String::new());
        let mut scene = Scene { folder, modules, own_agent, server: None, agent: None, url, link };
        scene.start("127.0.0.1:0");
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self, listen: &str) {
        let mut command = Command::new(PACE);
        command.args(["server", "--listen", listen, "--data"]).arg(self.path("data"));
        if self.own_agent {
            command.arg("--no-agent");
        } else {
            command.args(["--agent-slots", "2"]);
        }
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.path("server.log"));
        command.stdout(Stdio::piped()).stderr(errors.expect("a file"));
        let mut child = self.clean(command).spawn().expect("pace starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        self.server = Some(Process(child));
        let url = self.said(&lines, " on ");
        if self.url.is_empty() {
            self.url = url;
            // It stands in a line of its own.
            self.link = format!("http://{}", self.said(&lines, "http://"));
        }
        // What it says later must not block it.
        std::thread::spawn(move || lines.iter().for_each(drop));
    }

    /// What the server says after this.
    fn said(&self, lines: &Receiver<String>, start: &str) -> String {
        loop {
            let line = lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no `{start}`:\n{}", self.told()));
            if let Some((_, rest)) = line.split_once(start) {
                return rest.to_owned();
            }
        }
    }

    fn clean(&self, mut command: Command) -> Command {
        for (name, folder) in [("PACE_CACHE_DIR", "cache"), ("PACE_STATE_DIR", "state"), ("HOME", "home")] {
            let path = self.path(folder);
            std::fs::create_dir_all(&path).expect("a folder");
            command.env(name, path);
        }
        command.env_remove("CI");
        command
    }

    fn told(&self) -> String {
        let told = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("--- server\n{}\n--- agent\n{}", told("server.log"), told("agent.log"))
    }

    /// Has the browser play a scene, and does what it asks for on the way.
    pub fn plays(&mut self, scene: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/server_web/browser.js");
        let mut command = Command::new("node");
        command.arg(script).args([scene, &self.url, &self.link]).arg(self.path("repository")).arg(pictures());
        command.env("NODE_PATH", &self.modules).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut browser = command.spawn().expect("node starts");
        let mut answers = browser.stdin.take().expect("piped");
        let lines = lines_of(browser.stdout.take().expect("piped"));
        let errors = lines_of(browser.stderr.take().expect("piped"));
        let mut browser = Process(browser);
        loop {
            let line = match lines.recv_timeout(DEADLINE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the browser says nothing any more\n{}", self.told()),
            };
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("ASK", "kill") => self.server = None,
                ("ASK", "start") => {
                    let listen = self.url.trim_start_matches("http://").to_owned();
                    self.start(&listen);
                }
                ("ASK", ask) if ask.starts_with("agent ") => self.start_agent(&ask["agent ".len()..]),
                _ => {
                    println!("{line}");
                    continue;
                }
            }
            writeln!(answers, "done").expect("the browser listens");
        }
        let ended = browser.0.try_wait().ok().flatten().or_else(|| browser.0.wait().ok());
        let errors: Vec<String> = errors.try_iter().collect();
        assert!(ended.is_some_and(|ended| ended.success()), "{}\n{}", errors.join("\n"), self.told());
    }

    fn start_agent(&mut self, token: &str) {
        let mut command = Command::new(PACE);
        command.args(["agent", "--server", &self.url, "--token", token, "--name", "builder", "--slots", "2"]);
        let errors = std::fs::File::create(self.path("agent.log")).expect("a file");
        command.stdout(Stdio::null()).stderr(errors);
        self.agent = Some(Process(self.clean(command).spawn().expect("pace starts")));
    }
}

fn lines_of(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn repository(folder: &Path, pipeline: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("paceline.yaml"), pipeline).expect("written");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com", "-c", "init.defaultBranch=main"]);
        let done = command.args(args).current_dir(folder).output().expect("git starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "A checkout that ships <script>alert(1)</script>"]);
}

fn pictures() -> PathBuf {
    let target = Path::new(PACE).parent().and_then(Path::parent).expect("a target folder");
    let folder = target.join("pages");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Where the browser's driver is. A missing one is a failure where `CI=true`; elsewhere it is said, and the test ends.
fn playwright() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
    let said = Command::new(script).arg("playwright").stderr(Stdio::inherit()).output().expect("dev/tools.sh runs");
    if said.status.success() {
        return Some(String::from_utf8_lossy(&said.stdout).trim().into());
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "no browser: dev/tools.sh playwright failed");
    println!("not tested: there is no browser here");
    None
}
