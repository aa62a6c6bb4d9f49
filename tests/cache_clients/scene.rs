//! A served cache, the tools that speak to it, and commands that may not hang.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
const PACE: &str = env!("CARGO_BIN_EXE_pace");
/// Longer than any of these builds takes on a busy machine; a hang fails instead of stopping the suite.
const DEADLINE: Duration = Duration::from_secs(300);

/// Where a tool is; `None` where it cannot be installed, which is a failure in CI only.
pub fn tool(name: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
    let installed = Command::new(script).arg(name).stdin(Stdio::null()).output().expect("dev/tools.sh starts");
    if installed.status.success() {
        let path = String::from_utf8(installed.stdout).expect("a path is text");
        return Some(PathBuf::from(path.trim()));
    }
    let why = String::from_utf8_lossy(&installed.stderr).into_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} cannot be installed: {why}");
    eprintln!("{name} cannot be installed, so this tests nothing: {why}");
    None
}

/// What a command said, both streams.
pub struct Said {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it printed.
    pub text: String,
}

impl Said {
    /// Asserts that it succeeded.
    #[track_caller]
    pub fn fine(self) -> Said {
        assert!(self.ok, "it failed:\n{}", self.text);
        self
    }
    /// Asserts that it said so.
    #[track_caller]
    pub fn says(self, text: &str) -> Said {
        assert!(self.text.contains(text), "no `{text}` in:\n{}", self.text);
        self
    }
}

/// Runs a command to its end, which must come.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    let out = tempfile::NamedTempFile::new().expect("a file");
    let started = command.stdin(Stdio::null()).stdout(append(&out)).stderr(append(&out)).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let until = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?} hangs:\n{}", read(out.path()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    Said { ok: status.success(), text: read(out.path()) }
}

fn append(file: &tempfile::NamedTempFile) -> Stdio {
    fs::OpenOptions::new().append(true).open(file.path()).expect("the file").into()
}

/// A file as text, whatever is in it.
pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Writes a file, with the folders above it.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    fs::write(path, text).expect("a file");
}

/// A cache that is being served. Dropped, it ends.
pub struct Server {
    /// Everything of it.
    pub folder: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
    child: Child,
}

impl Server {
    /// Serves an empty cache.
    pub fn start(args: &[&str]) -> Server {
        Server::start_in(tempfile::tempdir().expect("a folder"), args)
    }

    /// Serves what is in a folder.
    pub fn start_in(folder: tempfile::TempDir, args: &[&str]) -> Server {
        let mut child = pace(folder.path())
            .args(["cache", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .arg("--log")
            .arg(folder.path().join("log"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("pace starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut told = String::new();
        let port = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("it serves nothing: {told}{}", read(&folder.path().join("stderr")));
            };
            match line.split(" on 127.0.0.1:").nth(1) {
                Some(port) => break port.trim().parse().expect("a port"),
                None => told.push_str(&line),
            }
        };
        std::thread::spawn(move || {
            let mut rest = lines;
            while let Some(Ok(_)) = rest.next() {}
        });
        Server { folder, port, child }
    }

    /// As gRPC clients write it.
    pub fn grpc(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.port)
    }
    /// As HTTP clients write it.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets go of everything that may go down to so many bytes.
    pub fn evict(&self, size: &str) {
        run(pace(self.folder.path()).args(["cache", "gc", "--url", &self.http(), "--max-size", size])).fine();
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        read(&self.folder.path().join("log")).lines().filter(|line| line.contains(method)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut told = String::new();
            let _ =
                fs::File::open(self.folder.path().join("stderr")).and_then(|mut file| file.read_to_string(&mut told));
            eprintln!("--- the server said\n{told}");
        }
    }
}

/// `pace` with a cache and a state of its own.
pub fn pace(folder: &Path) -> Command {
    let mut command = Command::new(PACE);
    command.env("PACE_CACHE_DIR", folder.join("cache")).env("PACE_STATE_DIR", folder.join("state"));
    for name in ["PACE_CACHE_TOKENS", "PACE_CACHE_URL", "PACE_OUTPUT"] {
        command.env_remove(name);
    }
    command
}

/// Makes a token in a file of tokens; its secret.
pub fn token(folder: &Path, name: &str, rights: &str) -> String {
    let file = folder.join("tokens");
    let args = ["cache", "token", "new", "--name", name, "--rights", rights, "--tokens"];
    let made = pace(folder).args(args).arg(file).output().expect("pace starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("text").trim().to_owned()
}
