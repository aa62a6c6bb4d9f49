//! Other programs that start something isolated, measured in the same rounds.
//!
//! A file lists them, one a line: name, every how many rounds, a mount namespace to be started in or `-`, then program
//! and arguments; tabs between.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// One of them.
pub struct Peer {
    pub name: String,
    pub every: usize,
    pub starter: Starter,
}

/// Starts a command from the caller's thread, or from a thread that lives in another mount namespace.
pub enum Starter {
    Here(Vec<String>),
    Elsewhere(Sender<()>, Receiver<Started>),
}

type Started = Result<Duration, String>;

/// The peers of a file.
pub fn read(path: &str) -> Vec<Peer> {
    let text = std::fs::read_to_string(path).expect("the list of peers is readable");
    text.lines().map(|line| peer(line).expect("name, every, namespace, program")).collect()
}

fn peer(line: &str) -> Option<Peer> {
    let mut words = line.split('\t').map(str::to_owned);
    let (name, every, namespace) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let argv: Vec<String> = words.collect();
    let starter = if namespace == "-" { Starter::Here(argv) } else { elsewhere(namespace, argv) };
    Some(Peer { name, every, starter })
}

/// A thread may enter a mount namespace when it shares its working directory with no other.
fn elsewhere(namespace: String, argv: Vec<String>) -> Starter {
    let (go, asked) = channel();
    let (done, heard) = channel();
    std::thread::spawn(move || {
        let file = File::open(namespace).expect("the namespace exists");
        // SAFETY: both concern this thread alone; no memory and no descriptor changes.
        #[allow(unsafe_code)]
        let entered =
            unsafe { libc::unshare(libc::CLONE_FS) == 0 && libc::setns(file.as_raw_fd(), libc::CLONE_NEWNS) == 0 };
        assert!(entered, "this needs to be root");
        while asked.recv().is_ok() {
            let _ = done.send(start(&argv));
        }
    });
    Starter::Elsewhere(go, heard)
}

impl Starter {
    /// Start to exit.
    pub fn once(&self) -> Started {
        match self {
            Starter::Here(argv) => start(argv),
            Starter::Elsewhere(go, heard) => {
                go.send(()).expect("the thread lives");
                heard.recv().expect("the thread lives")
            }
        }
    }
}

fn start(argv: &[String]) -> Started {
    let begin = Instant::now();
    let status = command(argv).status().map_err(|error| format!("{}: {error}", argv[0]))?;
    let took = begin.elapsed();
    // Why is found out after the clock has stopped.
    if status.success() { Ok(took) } else { Err(why(argv, status)) }
}

/// Makes us the parent of those whose own parent ends before them: what they used counts too.
pub fn adopt_orphans() {
    // SAFETY: only a number changes hands.
    #[allow(unsafe_code)]
    let done = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    assert_eq!(done, 0, "every kernel has it");
}

/// Waits until none is left: bubblewrap leaves its first process behind, podman a monitor.
pub fn wait_for_orphans() {
    let deadline = Instant::now() + Duration::from_secs(10);
    // SAFETY: the status is not asked for.
    #[allow(unsafe_code)]
    let next = || unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    loop {
        match next() {
            pid if pid > 0 => {}
            0 if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(200)),
            _ => return,
        }
    }
}

fn command(argv: &[String]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn why(argv: &[String], status: ExitStatus) -> String {
    let said = command(argv).stderr(Stdio::piped()).output().map(|output| output.stderr).unwrap_or_default();
    format!("{status}: {}", String::from_utf8_lossy(&said).trim().replace(['\n', '\t'], " "))
}
