//! A host with servers, in a network namespace of its own, and steps behind a gate.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use model::Traffic;
use network::{Allow, CONNECTIONS_MAX, Gate, Policy};
use sandbox::{Bind, Exit, HostView, Network, Root, Spec};

/// Set where the test runs again inside of its own namespace: the folder of the scene.
const INSIDE: &str = "NETWORK_TEST_HOST";
/// An address of the host that is not its loopback; from a block for documentation.
pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Names that the host's resolver knows.
const NAMES: &str = "127.0.0.1 localhost\n203.0.113.1 a.example.com b.example.com git.example.com deep.below.example.org\n\
                     127.0.0.1 rebound.example.com\n169.254.169.254 cloud.example.com\n203.0.113.1 moved.example.com\n";

/// Runs the test of this name in a host of its own: as whoever runs it, and, if that is root, as an ordinary user too.
pub fn on_a_host(test: &str, scene: impl FnOnce(&Host)) {
    if let Some(dir) = std::env::var_os(INSIDE) {
        return scene(&Host::furnish(Path::new(&dir)));
    }
    if !again(test, &["unshare", "--user", "--map-root-user", "--net", "--mount"]) {
        return;
    }
    if is_root() {
        again(test, &["unshare", "--net", "--mount"]);
    }
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
        && std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").expect("we run")) == 0
}

/// Whether namespaces work here. Under CI they must, unless we are in a sandbox already.
fn again(test: &str, unshare: &[&str]) -> bool {
    let works = Command::new(unshare[0]).args(&unshare[1..]).arg("true").output().is_ok_and(|ran| ran.status.success());
    if !works {
        let is = |name: &str| std::env::var(name).is_ok_and(|value| value == "true");
        assert!(!is("CI") || is("PACE"), "{unshare:?} does not work here");
        eprintln!("not tested: {unshare:?} does not work here");
        return false;
    }
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let ran = Command::new("timeout")
        .args(["-k", "5", "120"])
        .args(unshare)
        .arg(std::env::current_exe().expect("we run"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, dir.path())
        .status();
    assert!(ran.expect("timeout is there").success(), "it failed on a host made by {unshare:?}");
    true
}

/// The host that the scene plays on.
pub struct Host {
    dir: PathBuf,
}

/// A step that ran.
pub struct Ended {
    pub exit: Exit,
    pub output: String,
}

impl Host {
    fn furnish(dir: &Path) -> Host {
        let host = Host { dir: dir.to_path_buf() };
        for words in [&["link", "set", "lo", "up"][..], &["addr", "add", "203.0.113.1/24", "dev", "lo"]] {
            assert!(Command::new("ip").args(words).status().expect("iproute2").success());
        }
        host.covers("/etc/hosts", NAMES);
        host.covers("/etc/nsswitch.conf", "hosts: files\n");
        host
    }

    /// Puts this text over a file of the host.
    fn covers(&self, path: &str, text: &str) {
        let own = self.file(&path.replace('/', "_"), text);
        let mounted = Command::new("mount").arg("--bind").arg(own).arg(path).status();
        assert!(mounted.expect("mount").success());
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("the scene's folder is writable");
        path
    }

    /// A server on the host that answers every connection in this way, for as long as the test runs. Gives its port.
    pub fn serves(&self, at: Ipv4Addr, port: u16, answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
        let listener = TcpListener::bind(SocketAddrV4::new(at, port)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, Ok(stream)) = (Arc::clone(&answer), stream) else { continue };
                thread::spawn(move || answer(stream));
            }
        });
        port
    }

    /// A server that says all it hears, after a greeting; and what it heard.
    pub fn echoes(&self, at: Ipv4Addr, port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let port = self.serves(at, port, move |mut stream| {
            let _ = stream.write_all(b"hello ");
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            hearing.lock().expect("whole").push(String::from_utf8_lossy(&all).into_owned());
            let _ = stream.write_all(&all);
        });
        (port, heard)
    }

    /// A web server that answers every request with this text.
    pub fn answers_http(&self, at: Ipv4Addr, port: u16, text: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let port = self.serves(at, port, move |mut stream| {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            hearing.lock().expect("whole").push(String::from_utf8_lossy(&head).into_owned());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        });
        (port, heard)
    }

    /// Runs a Python program in a step that may reach these, and says what went over its gate.
    pub fn step(&self, allow: Allow, program: &str) -> (Ended, Traffic) {
        self.step_with(policy(allow), program)
    }

    pub fn step_with(&self, policy: Policy, program: &str) -> (Ended, Traffic) {
        let (net, gate) = network::open(policy).expect("a gate");
        assert!(gate.everywhere(), "this kernel cannot redirect");
        self.behind(Arc::new(net), gate, program)
    }

    /// Runs it behind this gate.
    pub fn behind(&self, net: Arc<sandbox::Net>, gate: Gate, program: &str) -> (Ended, Traffic) {
        let ended = self.runs(net, &gate, &["/usr/bin/python3", "-c", &format!("{PYTHON}\n{program}")]);
        (ended, gate.finish())
    }

    /// Runs a Python program in a step that is routed.
    pub fn runs_routed(&self, net: Arc<sandbox::Net>, routed: &network::Routed, program: &str) -> Ended {
        let argv = ["/usr/bin/python3", "-c", &format!("{PYTHON}\n{program}")];
        self.spawns(net, &argv, (routed.resolv_conf(), network::hosts_file([])), Vec::new())
    }

    pub fn runs(&self, net: Arc<sandbox::Net>, gate: &Gate, argv: &[&str]) -> Ended {
        self.spawns(net, argv, (gate.resolv_conf(), network::hosts_file(["db"])), gate.environment())
    }

    fn spawns(
        &self,
        net: Arc<sandbox::Net>,
        argv: &[&str],
        files: (String, String),
        env: Vec<(String, String)>,
    ) -> Ended {
        let detected = sandbox::host_view::detect(&Default::default());
        let view = HostView { private: vec!["/run".into(), "/var/tmp".into()], ..detected.view };
        let mut step = Spec::new(argv.iter().map(Into::into).collect(), Root::Host(view));
        step.env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/tmp".into())];
        step.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        for (at, text) in [
            ("/etc/resolv.conf", files.0),
            ("/etc/hosts", files.1),
            ("/etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
        ] {
            let from = self.file(&format!("step{}", at.replace('/', "_")), &text);
            step.binds.push(Bind { from, to: at.into(), writable: false });
        }
        step.binds.push(Bind { from: self.dir.clone(), to: "/run/scene".into(), writable: true });
        step.network = Network::Shared(net);
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        step.stdout = Some(writer.try_clone().expect("a descriptor").into());
        step.stderr = Some(writer.into());
        let mut child = step.spawn().unwrap_or_else(|error| panic!("{error}"));
        let output = all(&mut reader);
        let (exit, _) = child.wait().expect("a child");
        Ended { exit, output }
    }
}

fn all(reader: &mut PipeReader) -> String {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a pipe");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn policy(allow: Allow) -> Policy {
    Policy { allow, rate: None, connections_max: CONNECTIONS_MAX }
}

/// A list.
pub fn only(entries: &[&str]) -> Allow {
    Allow::Hosts(entries.iter().map(|entry| entry.parse().expect("an entry")).collect())
}

/// Refusals as lines.
pub fn refused(traffic: &Traffic) -> Vec<String> {
    traffic.refused.iter().map(|refusal| format!("{}: {} ({})", refusal.what, refusal.why, refusal.count)).collect()
}

/// Reached hosts as lines.
pub fn reached(traffic: &Traffic) -> Vec<String> {
    let line = |host: &model::HostTraffic| {
        format!("{}:{} {}x sent {} received {}", host.host, host.port, host.connections, host.sent, host.received)
    };
    traffic.hosts.iter().map(line).collect()
}

/// What the programs of steps are made of.
const PYTHON: &str = r#"
import socket, ssl, struct, sys, time
socket.setdefaulttimeout(20)

def talk(host, port, text=b""):
    "Connects, says it, is done, hears the rest."
    try:
        with socket.create_connection((host, port)) as s:
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode(errors="replace")
    except socket.gaierror as e:
        return "no such name" if e.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else f"name: {e}"
    except OSError as e:
        return type(e).__name__

def lookup(name):
    try:
        return socket.gethostbyname(name)
    except socket.gaierror as e:
        return "no such name" if e.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else f"name: {e}"

def tls(host, port, name):
    "The error of a TLS handshake that asks for this server."
    context = ssl._create_unverified_context()
    try:
        with socket.create_connection((host, port)) as s, context.wrap_socket(s, server_hostname=name):
            return "shaken"
    except ssl.SSLError as e:
        return e.reason or str(e)
    except OSError as e:
        return type(e).__name__

def ask(name, kind, server="127.0.0.1", tcp=False):
    "Asks a name server. Answer code, number of answers."
    q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack(">HH", kind, 1)
    if tcp:
        s = socket.create_connection((server, 53))
        s.sendall(struct.pack(">H", len(q)) + q)
        a = s.recv(2000)[2:]
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.sendto(q, (server, 53))
        a = s.recv(2000)
    return a[3] & 15, a[7]
"#;
