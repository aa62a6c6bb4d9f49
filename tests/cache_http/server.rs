//! A real `pace cache serve`, a small HTTP client, and the tools that `dev/tools.sh` installs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server with a folder of its own.
pub struct Server {
    child: Child,
    /// Host and port.
    pub host: String,
    /// Everything of this test; the server's data is in `served`.
    pub folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    pub fn start_with(args: &[&str]) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let (child, host) = serve(folder.path(), args);
        Server { child, host, folder }
    }

    /// Kills it as a power failure would, and starts it on the same data at a new port.
    pub fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        (self.child, self.host) = serve(self.folder.path(), &[]);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// The largest memory that it ever had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends a request without more headers.
    pub fn ask(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask_with(method, path, &[], body)
    }

    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut stream = self.open(method, path, headers, Some(body.len() as u64));
        // A refusal may come before everything was said.
        let _ = stream.write_all(body);
        Answer::read(stream, method)
    }

    /// Sends the head of a request, and leaves the body to the caller.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], size: Option<u64>) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match size {
            Some(size) => head.push_str(&format!("content-length: {size}\r\n\r\n")),
            None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
        }
        stream.write_all(head.as_bytes()).expect("it reads");
        stream
    }

    /// One counter of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.ask("GET", "/metrics", "").code(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(folder: &Path, args: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pace"));
    command.args(["cache", "serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("served")).args(args);
    command.env("PACE_CACHE_DIR", folder).env("PACE_STATE_DIR", folder).env_remove("PACE_CACHE_TOKENS");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a server");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let address = |line: String| line.split_whitespace().find_map(|word| word.parse::<std::net::SocketAddr>().ok());
    let host = lines.find_map(|line| address(line.ok()?)).expect("it says where it listens").to_string();
    std::thread::spawn(move || lines.for_each(drop));
    (child, host)
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection.
    pub fn read(stream: TcpStream, method: &str) -> Answer {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
        let mut body = Vec::new();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let _ = reader.read_to_end(&mut body);
        if chunked && method != "HEAD" {
            body = unchunked(&body);
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer { status: status.unwrap_or_else(|| panic!("no answer but `{head}`")), head, body }
    }

    #[track_caller]
    pub fn code(self, wanted: u16) -> Answer {
        assert_eq!(self.status, wanted, "{}{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&str| line.split(':').next().is_some_and(|is| is.eq_ignore_ascii_case(name));
        self.head.lines().find(is_it).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

/// 64 hexadecimal digits of the SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where `dev/tools.sh` puts a tool. A missing one is a failure where `CI=true`; elsewhere it is said, and the test ends.
pub fn tool(name: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
    let said = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("dev/tools.sh runs");
    let path = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    found(name, said.status.success().then_some(path))
}

/// A program of the system.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    found(name, std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()))
}

fn found(name: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    if path.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} is not installed, and CI=true");
        eprintln!("NOT TESTED: {name} is not installed");
    }
    path
}

/// Runs a client to its end, which must be good.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}");
    said
}

/// Writes a file, with the folders above it.
pub fn write(folder: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

/// How often the work was done: each time adds a line to `count`.
pub fn executed(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("count")).map_or(0, |text| text.lines().count())
}
