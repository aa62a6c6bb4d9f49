//! A server in a folder of its own, and clients of it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use blobs::{Function, Key};
use model::Digest;
use remote::{Address, Blob, Content, Options, Remote, Token};

/// The binary under test.
pub const PACE: &str = env!("CARGO_BIN_EXE_pace");
/// Longer than anything here takes on a busy machine; a hang fails instead of stopping the suite.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A folder for a store and what belongs to it.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    pub fn arg(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
    /// `pace` with these arguments, in surroundings of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PACE);
        for name in ["PACE_CACHE_TOKEN", "PACE_CACHE_TOKENS", "PACE_CACHE_URL", "PACE_OUTPUT"] {
            command.env_remove(name);
        }
        command.env("PACE_CACHE_DIR", self.path("cache")).env("PACE_STATE_DIR", self.path("state"));
        command.args(args).stdin(Stdio::null());
        command
    }
    /// Runs `pace` to its end.
    pub fn pace(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().expect("pace starts"))
    }
    /// Makes a token and returns its secret.
    pub fn token(&self, args: &[&str]) -> String {
        let tokens = self.arg("tokens.toml");
        let made = self.pace(&[&["cache", "token", "new", "--tokens", &tokens], args].concat());
        assert_eq!(made.code, Some(0), "{}", made.err);
        made.out.trim().to_owned()
    }
    /// A server of the folder `data`, on a free port.
    pub fn serves(&self, args: &[&str]) -> Server {
        let data = self.arg("data");
        let all = [&["cache", "serve", "--listen", "127.0.0.1:0", "--data", &data], args].concat();
        Server::start(self.command(&all))
    }
}

/// How a `pace` ended.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
    /// What it says as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }
    #[track_caller]
    pub fn code(self, wanted: i32) -> Ended {
        assert_eq!(self.code, Some(wanted), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }
    #[track_caller]
    pub fn says(self, text: &str) -> Ended {
        assert!(self.out.contains(text) || self.err.contains(text), "no `{text}` in\n{}\n{}", self.out, self.err);
        self
    }
}

/// A server under way. Killed when dropped.
pub struct Server {
    pub child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
}

impl Server {
    /// Starts a server and waits until it says where it is.
    pub fn start(mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pace starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (say, said) = channel();
        // Also drains what comes later: a full pipe would stop the server.
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(say.send(line))));
        let Ok(line) = said.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            let mut err = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut err);
            panic!("the server does not start: {err}");
        };
        let mut err = child.stderr.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::stderr()));
        let address = line.rsplit(" on ").next().expect("an address").split(" and ").next().expect("one").to_owned();
        Server { child, address }
    }
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// A client that names an instance and perhaps shows a token.
    pub fn client(&self, instance: &str, token: Option<&str>) -> Remote {
        self.client_with(instance, token, "grpc", None)
    }
    pub fn client_with(&self, instance: &str, token: Option<&str>, scheme: &str, ca: Option<&Path>) -> Remote {
        let address = Address::parse(&format!("{scheme}://{}/{instance}", self.address)).expect("an address");
        let mut options = Options::new(address);
        options.token = token.map(|token| Token::new(token).expect("a token"));
        options.ca = ca.map(Path::to_owned);
        options.connect = Duration::from_secs(20);
        options.look_up = Duration::from_secs(20);
        Remote::new(options)
    }
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it lives");
    }
    /// Waits for its end.
    pub fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.ends(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that compress badly and differ with the seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

pub fn digest(bytes: &[u8]) -> Digest {
    let key: Key = Function::Sha256.key_of(bytes);
    Digest { hash: key.hash, size: key.size }
}

pub fn blob(bytes: Vec<u8>) -> Blob {
    Blob { digest: digest(&bytes), content: Content::Bytes(bytes.into()) }
}

/// An encoded `ActionResult` with these output files.
pub fn result(files: &[Digest]) -> Vec<u8> {
    // Field by field, as the protocol has them: files (2) of path (1) and digest (2) of hash (1) and size (2).
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        field.extend(varint(bytes.len() as u64));
        field.extend_from_slice(bytes);
        field
    };
    let file = |digest: &Digest| {
        let mut inner = field(1, digest.hex().as_bytes());
        inner.push(2 << 3);
        inner.extend(varint(digest.size));
        [field(1, digest.hex().as_bytes()), field(2, &inner)].concat()
    };
    files.iter().flat_map(|digest| field(2, &file(digest))).collect()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
