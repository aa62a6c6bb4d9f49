//! A repository in a temporary folder and the real `pace`, with a cache and a state of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const PACE: &str = env!("CARGO_BIN_EXE_pace");

/// Longer than anything here takes on a busy machine; a hang fails instead of stopping the suite.
const DEADLINE: Duration = Duration::from_secs(240);

/// A repository under Git, committed.
pub struct Repo {
    /// Everything of this test.
    pub folder: tempfile::TempDir,
}

/// How a `pace` ended.
pub struct Ended {
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Asserts the exit code and goes on.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Ended {
        assert_eq!(self.code, Some(wanted), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }
    /// Asserts that standard output holds a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Ended {
        assert!(self.out.contains(text), "no `{text}` in\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }
    /// Asserts that standard output does not hold a text.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Ended {
        assert!(
            !self.out.contains(text) && !self.err.contains(text),
            "`{text}` in\n--- out\n{}\n--- err\n{}",
            self.out,
            self.err
        );
        self
    }
    /// Asserts that standard error holds a text.
    #[track_caller]
    pub fn complains(self, text: &str) -> Ended {
        assert!(self.err.contains(text), "no `{text}` in\n--- err\n{}\n--- out\n{}", self.err, self.out);
        self
    }
    /// The JSON events on standard output.
    #[track_caller]
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`")))
            .collect()
    }
}

impl Repo {
    /// A repository with this pipeline.
    pub fn new(pipeline: &str) -> Repo {
        Repo::with(&[("paceline.yaml", pipeline)])
    }

    /// A repository with these files.
    pub fn with(files: &[(&str, &str)]) -> Repo {
        let repo = Repo { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(repo.root()).expect("the repository");
        for (path, text) in files {
            repo.write(path, text);
        }
        repo.commit();
        repo
    }

    /// A copy of an example of this repository.
    pub fn of_example(name: &str) -> Repo {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let repo = Repo { folder: tempfile::tempdir().expect("a folder") };
        copy(&from, &repo.root());
        repo.commit();
        repo
    }

    /// Its folder.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }
    /// The cache of its `pace`.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }
    /// The state of its `pace`.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }

    /// Commits everything.
    pub fn commit(&self) {
        if !self.root().join(".git").exists() {
            self.git(&["init", "-q", "-b", "main"]);
        }
        self.git(&["add", "-A"]);
        self.git(&[
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.com",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "A change",
        ]);
    }

    /// Runs Git, which must succeed.
    pub fn git(&self, args: &[&str]) -> String {
        let ended = Command::new("git").args(args).current_dir(self.root()).output().expect("git is installed");
        assert!(ended.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8_lossy(&ended.stdout).trim().to_string()
    }

    /// `pace` with these arguments, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PACE);
        command.args(args).current_dir(self.root()).stdin(Stdio::null());
        command.env("PACE_CACHE_DIR", self.cache()).env("PACE_STATE_DIR", self.state());
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "PACE_OUTPUT", "PACE_EXECUTOR"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `pace` to its end.
    pub fn pace(&self, args: &[&str]) -> Ended {
        finish(self.command(args))
    }

    /// Starts `pace` and leaves it running.
    pub fn start(&self, args: &[&str]) -> Live {
        let mut command = self.command(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pace starts");
        Live { child }
    }

    /// Names of the steps that the run executed rather than took from the cache, sorted.
    pub fn executed(&self, args: &[&str]) -> Vec<String> {
        let mut all = vec!["run", "--output", "json"];
        all.extend(args);
        let ended = self.pace(&all).code(0);
        executed(&ended.events())
    }
}

/// Names of the steps whose attempt ended without coming from the cache, sorted.
pub fn executed(events: &[serde_json::Value]) -> Vec<String> {
    let mut names: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "attempt_ended" && event["cached"].is_null())
        .map(|event| event["step"].as_str().expect("a name").to_string())
        .collect();
    names.sort();
    names
}

/// A `pace` that runs.
pub struct Live {
    child: Child,
}

impl Live {
    /// Sends a signal: `INT`, `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "kill -{name}");
    }
    /// Waits for its end without reading a byte of what it says. Its exit code; `None` when it had to be killed.
    pub fn wait_unread(mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        collect(&mut self.child)
    }
}

/// Runs a command to its end.
pub fn finish(mut command: Command) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    collect(&mut child)
}

fn collect(child: &mut Child) -> Ended {
    let out = reader(child.stdout.take().expect("piped"));
    let err = reader(child.stderr.take().expect("piped"));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("pace did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ended { code: status.code(), out: out.join().expect("read"), err: err.join().expect("read") }
}

fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("readable");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Copies a tree of files.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => {
                // Leftovers of somebody's own build are no part of an example.
                if !["target", "node_modules", ".venv", "__pycache__", "dist"]
                    .contains(&entry.file_name().to_string_lossy().as_ref())
                {
                    copy(&entry.path(), &target);
                }
            }
            kind if kind.is_symlink() => {
                std::os::unix::fs::symlink(std::fs::read_link(entry.path()).expect("a link"), target).expect("a link")
            }
            _ => drop(std::fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Processes whose command line holds `mark`.
pub fn processes(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).replace('\0', " ").contains(mark) && id != std::process::id() {
            found.push(id);
        }
    }
    found
}

/// The test needs to be root. Elsewhere it says so and does nothing, unless CI promised that it is.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "this test needs root, and CI=true promises it");
        eprintln!("skipped: this test needs root");
    }
    root
}
