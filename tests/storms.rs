//! Storms: very many steps, processes, bytes and sudden deaths. What is counted before is counted again afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::ordinary_user;
use crate::support::{Repo, processes, until};

/// As whom `pace` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Who runs the tests.
    Caller,
    /// An ordinary user; only root can become one.
    Ordinary,
}

impl Who {
    /// All that this host can be.
    fn all() -> Vec<Who> {
        if is_root() { vec![Who::Caller, Who::Ordinary] } else { vec![Who::Caller] }
    }

    fn command(self, repo: &Repo, args: &[&str]) -> Command {
        let tmp = repo.folder.path().join("tmp");
        if !tmp.exists() {
            fs::create_dir(&tmp).expect("a folder");
            // Not at every start: others of the same test may run, and what they have comes and goes.
            if self == Who::Ordinary {
                ordinary_user::hand_over(repo);
            }
        }
        let mut command = match self {
            Who::Caller => repo.command(args),
            Who::Ordinary => ordinary_user::command(repo, args),
        };
        command.stdin(Stdio::null()).env("TMPDIR", tmp);
        command
    }

    /// Limits that this user's `pace` can hold.
    fn limits(self, mut limits: Value) -> Value {
        if !(self == Who::Caller && is_root()) {
            limits["enforce"] = "best_effort".into();
        }
        limits
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A `pace` that runs, with all that it says.
struct Storm {
    child: Child,
    out: JoinHandle<String>,
    err: JoinHandle<String>,
}

/// How it ended.
struct Ended {
    code: Option<i32>,
    text: String,
}

impl Storm {
    fn start(mut command: Command) -> Storm {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pace starts");
        let out = text_of(child.stdout.take().expect("piped"));
        let err = text_of(child.stderr.take().expect("piped"));
        Storm { child, out, err }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended just now.
        let _ = kill_process(pid(self.child.id()), signal);
    }

    fn wait(mut self) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(240);
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                None => {
                    self.signal(Signal::KILL);
                    panic!("pace did not end: {}", self.out.join().expect("read"));
                }
            }
        };
        let text = self.out.join().expect("read") + &self.err.join().expect("read") + &status.to_string();
        Ended { code: status.code(), text }
    }
}

fn text_of(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("readable");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).expect("not 0")
}

/// What there is of the runs in one folder, told by the folder's name and not by numbers of the whole machine: others
/// use it, too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// That see a mount of the folder or have it in their command line, with their names.
    processes: Vec<String>,
    /// Of the host, in which the folder or a network namespace of such a process lies.
    mounts: Vec<String>,
    /// Of any `pace` that was started.
    groups: Vec<PathBuf>,
    /// In the cache's scratch and the folder for temporary files.
    scratch: Vec<PathBuf>,
}

impl Left {
    fn of(repo: &Repo, paces: &BTreeSet<u32>) -> Left {
        let name = repo.folder.path().file_name().expect("a name").to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let mut scratch = entries(&repo.cache().join("scratch"));
        scratch.extend(entries(&repo.folder.path().join("tmp")));
        Left {
            processes: inhabitants(&name).into_iter().map(|(id, name)| format!("{id} {name}")).collect(),
            mounts: mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect(),
            groups: groups(paces),
            scratch,
        }
    }
}

/// Processes that see a mount from the folder of this name.
fn inhabitants(name: &str) -> Vec<(u32, String)> {
    let is_in = |path: &Path| {
        let read = |file: &str| String::from_utf8_lossy(&fs::read(path.join(file)).unwrap_or_default()).into_owned();
        read("mountinfo").contains(name) || read("cmdline").contains(name)
    };
    let told = |path: PathBuf| {
        let id = path.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        is_in(&path).then(|| (id, stat.split(' ').take(3).collect::<Vec<_>>().join(" ")))
    };
    entries(Path::new("/proc")).into_iter().filter_map(told).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Control groups that these `pace` made, at any depth where one may be.
fn groups(paces: &BTreeSet<u32>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = open.pop() {
        for path in entries(&dir).into_iter().filter(|path| path.is_dir()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let owner = name.strip_prefix("paceline-").and_then(|rest| rest.split('-').next()?.parse().ok());
            match owner {
                Some(owner) if paces.contains(&owner) => found.push(path),
                _ if depth < 5 => open.push((path, depth + 1)),
                _ => {}
            }
        }
    }
    found
}

/// Network namespaces of these processes.
fn networks(ids: &[u32]) -> BTreeSet<PathBuf> {
    ids.iter().filter_map(|id| fs::read_link(format!("/proc/{id}/ns/net")).ok()).collect()
}

/// The most memory that a process ever had, in MiB; 0 when it is gone.
fn peak_mib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0u64) / 1024
}

/// Whether only its parent has not asked yet how it ended.
fn has_ended(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

const PACE_MIB_MAX: u64 = 64;

#[test]
fn two_hundred_steps_at_once_leave_nothing() {
    for (who, mark) in Who::all().into_iter().zip(["sleep 86401.25", "sleep 86402.25"]) {
        let resources = who.limits(json!({ "memory": "64MiB", "cpu": 1, "pids": 20 }));
        let step = |n| json!({ "id": format!("s{n}"), "cmd": format!("{mark} || echo woken"), "resources": resources });
        let steps: Vec<Value> = (0..200).map(step).collect();
        let repo = Repo::new(&json!({ "name": "many", "steps": steps }).to_string());
        let before = Left::of(&repo, &BTreeSet::new());
        let storm = Storm::start(who.command(&repo, &["run", "--jobs", "200", "--output", "plain"]));
        let id = storm.child.id();
        // Nobody sleeps that long: that all 200 are there at once is no matter of time.
        until("all 200 run", || processes(mark).len() == 200 || has_ended(id));
        let sleepers = processes(mark);
        let (networks, peak) = (networks(&sleepers).len(), peak_mib(id));
        for id in &sleepers {
            kill_process(pid(*id), Signal::TERM).expect("it sleeps");
        }
        let ended = storm.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        assert_eq!(ended.text.matches("| woken").count(), 200, "{}", ended.text);
        assert_eq!(networks, 200, "each has a network of its own");
        assert_eq!(Left::of(&repo, &[id].into()), before);
        println!("200 steps at once ({who:?}): pace used {peak} MiB");
    }
}

/// A thousand processes in two generations and as many sessions, which no signal but SIGKILL ends.
fn tree(mark: &str) -> String {
    format!(
        "trap '' TERM INT HUP; \
         for i in $(seq 25); do (for j in $(seq 39); do setsid {mark} & done; echo row $i; wait) & done; wait"
    )
}

#[test]
fn a_tree_of_a_thousand_processes_is_gone_with_the_second_ctrl_c() {
    for (who, mark) in Who::all().into_iter().zip(["sleep 86403.25", "sleep 86404.25"]) {
        let resources = who.limits(json!({ "pids": 2000 }));
        let steps = json!([{ "id": "s", "cmd": tree(mark), "resources": resources }]);
        let repo = Repo::new(&json!({ "name": "tree", "steps": steps }).to_string());
        let storm = Storm::start(who.command(&repo, &["run", "--output", "plain"]));
        let id = storm.child.id();
        until("the tree has grown", || processes(mark).len() >= 975 || has_ended(id));
        let all: Vec<Pid> = processes(mark).into_iter().map(pid).collect();
        storm.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(300));
        // Two of one kind that come together are one.
        storm.signal(Signal::TERM);
        let asked = Instant::now();
        until("all are gone", || all.iter().all(|pid| test_kill_process(*pid).is_err()));
        let took = asked.elapsed();
        let ended = storm.wait();
        assert_eq!(ended.code, Some(12), "{}", ended.text);
        assert_eq!(Left::of(&repo, &[id].into()), Left::default());
        println!("{} processes ({who:?}) gone {took:?} after the second Ctrl-C", all.len());
    }
}

#[test]
fn a_tree_of_a_thousand_processes_is_gone_after_its_timeout() {
    std::thread::scope(|scope| {
        for (who, mark) in Who::all().into_iter().zip(["sleep 86405.25", "sleep 86406.25"]) {
            scope.spawn(move || a_tree_times_out(who, mark));
        }
    });
}

fn a_tree_times_out(who: Who, mark: &str) {
    let resources = who.limits(json!({ "pids": 2000 }));
    // It goes silent when it has grown.
    let step = json!({ "id": "s", "cmd": tree(mark), "resources": resources, "timeout": { "idle": "5s" } });
    let repo = Repo::new(&json!({ "name": "tree", "steps": [step] }).to_string());
    let storm = Storm::start(who.command(&repo, &["run", "--output", "plain"]));
    let id = storm.child.id();
    until("the tree has grown", || processes(mark).len() >= 975 || has_ended(id));
    let ended = storm.wait();
    assert_eq!(ended.code, Some(10), "{}", ended.text);
    assert_eq!(ended.text.matches("| row").count(), 25, "{}", ended.text);
    assert_eq!(Left::of(&repo, &[id].into()), Left::default());
}

/// What a step prints here: a debug build masks and counts slower, and has the same memory.
const FLOOD_BYTES: u64 = if cfg!(debug_assertions) { 96 << 20 } else { 1 << 30 };

/// `model::limits::LOG_BYTES_MAX`: what comes after it is counted and dropped, and the log says so.
const LOG_BYTES_MAX: u64 = 256 << 20;

#[test]
fn a_step_that_prints_a_gibibyte_does_not_fill_the_memory() {
    // The second reader is slower than any step writes.
    for nap in [Duration::ZERO, Duration::from_millis(if cfg!(debug_assertions) { 40 } else { 5 })] {
        let cmd = format!("yes $(seq 100 | tr '\\n' ' ') | head -c {FLOOD_BYTES}; echo; echo end");
        let steps = json!([{ "id": "s", "cmd": cmd, "cache": "never" }]);
        let repo = Repo::new(&json!({ "name": "flood", "steps": steps }).to_string());
        let mut command = repo.command(&["run", "--output", "plain"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("pace starts");
        let (mut out, mut chunk) = (child.stdout.take().expect("piped"), vec![0; 1 << 20]);
        let (mut seen, mut peak, mut last) = (0, 0, Vec::new());
        loop {
            peak = peak.max(peak_mib(child.id()));
            let length = out.read(&mut chunk).expect("readable");
            if length == 0 {
                break;
            }
            seen += length as u64;
            last = chunk[..length].to_vec();
            std::thread::sleep(nap);
        }
        assert!(child.wait().expect("a child").success(), "{}", String::from_utf8_lossy(&last));
        assert!(seen > FLOOD_BYTES.min(LOG_BYTES_MAX), "what a log takes was passed on: {seen}");
        assert!((1..=PACE_MIB_MAX).contains(&peak), "pace used {peak} MiB with a nap of {nap:?}");
        println!("{FLOOD_BYTES} bytes, reader naps {nap:?}: pace used {peak} MiB");
    }
}

/// How many runs are killed; a thousand are one command away (see bench/README.md).
fn storm_runs() -> usize {
    std::env::var("PACE_STORM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// Some of everything that holds something of the machine: groups, networks, services, an image, caches, daemons.
fn weather(who: Who, mark: &str) -> String {
    let limits = who.limits(json!({ "memory": "256MiB", "cpu": 1, "pids": 100 }));
    let steps = json!([
        { "id": "limited", "cmd": "head -c 3000000 /dev/urandom > big; mkdir d; touch d/$$; sleep 0.2",
          "resources": limits },
        { "id": "daemon", "cmd": format!("(trap '' TERM; setsid {mark} &) > /dev/null 2>&1; sleep 0.1; echo x > x"),
          "caches": [{ "path": "~/.cache/tool", "key": "tool" }] },
        { "id": "served", "cmd": "sleep 0.2", "resources": limits,
          "services": [{ "id": "web", "cmd": format!("trap '' TERM; {mark} & wait"),
                         "ready": { "cmd": "test -e paceline.yaml" } }] },
        { "id": "gated", "cmd": "sleep 0.2; exit 3", "network": ["example.com:443"], "allow_failure": true },
        { "id": "imaged", "cmd": "echo y > /y; sleep 0.2; echo made > made", "image": "oci:image:v1" },
        { "id": "last", "depends_on": ["limited", "daemon", "imaged"], "cmd": "ls d made x; sleep 0.1" },
    ]);
    json!({ "name": "weather", "steps": steps }).to_string()
}

/// A generator of Marsaglia's: chance is an argument, and a seed that failed can be had again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One run that is killed at a moment between its start and somewhat after its end. Returns its process id.
fn struck(repo: &Repo, who: Who, chance: &mut Chance) -> (u32, &'static str) {
    let args: &[&str] = match chance.below(3) {
        0 => &["run", "--output", "plain"],
        _ => &["run", "--output", "plain", "--no-cache", "--jobs", "6"],
    };
    let fate = chance.below(8);
    let storm = Storm::start(who.command(repo, args));
    let id = storm.child.id();
    std::thread::sleep(Duration::from_micros(chance.below(1_500_000)));
    let name = match fate {
        0..=3 => "SIGKILL",
        4 | 5 => "SIGTERM",
        6 => "SIGINT",
        _ => "left alone",
    };
    match fate {
        0..=3 => storm.signal(Signal::KILL),
        4 | 5 => storm.signal(Signal::TERM),
        6 => storm.signal(Signal::INT),
        _ => {}
    }
    // What ignores SIGTERM is given seconds; the second asks for force.
    if (4..=6).contains(&fate) {
        std::thread::sleep(Duration::from_millis(chance.below(400)));
        storm.signal(Signal::TERM);
    }
    let ended = storm.wait();
    assert!(matches!(ended.code, None | Some(0 | 12)), "{name}: {:?}\n{}", ended.code, ended.text);
    (id, name)
}

#[test]
fn runs_that_are_killed_at_any_moment_leave_nothing_after_the_next() {
    for (who, mark) in Who::all().into_iter().zip(["sleep 86407.25", "sleep 86408.25"]) {
        let repo = Repo::new(&weather(who, mark));
        image(&repo);
        let prepared = Storm::start(who.command(&repo, &["run", "--output", "plain"])).wait();
        assert_eq!(prepared.code, Some(0), "{}", prepared.text);
        let (begun, runs) = (Instant::now(), storm_runs());
        let paces = strike(&repo, who, runs);
        let took = begun.elapsed();
        until("no process is left", || processes(mark).is_empty());
        let stale = Left::of(&repo, &paces);
        assert_eq!(stale.processes, [""; 0], "a killed pace takes its steps along");
        let clean = Storm::start(who.command(&repo, &["run", "--no-cache", "--output", "plain"]));
        let id = clean.child.id();
        let clean = clean.wait();
        assert_eq!(clean.code, Some(0), "{}", clean.text);
        let paces: BTreeSet<u32> = paces.into_iter().chain([id]).collect();
        assert_eq!(Left::of(&repo, &paces), Left::default(), "the next run sweeps");
        let verified = Storm::start(who.command(&repo, &["cache", "verify"])).wait();
        assert!(verified.code == Some(0) && verified.text.contains("damaged blobs      0"), "{}", verified.text);
        println!(
            "{runs} runs ({who:?}) in {took:?}; until the next one they left {} folders and {} groups",
            stale.scratch.len(),
            stale.groups.len()
        );
    }
}

/// Runs side by side on one cache, each killed; returns the ids that their `pace` had.
fn strike(repo: &Repo, who: Who, runs: usize) -> BTreeSet<u32> {
    let (done, paces) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let seed = std::env::var("PACE_STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    std::thread::scope(|scope| {
        for worker in 1..=if runs > 100 { 8 } else { 4 } {
            let (done, paces) = (&done, &paces);
            scope.spawn(move || {
                let mut chance = Chance(seed * worker);
                while done.fetch_add(1, Ordering::Relaxed) < runs {
                    let (id, _) = struck(repo, who, &mut chance);
                    paces.lock().expect("no worker failed").insert(id);
                }
            });
        }
    });
    paces.into_inner().expect("no worker failed")
}

/// An image with a shell: the host's static busybox, or the shell with its libraries.
fn image(repo: &Repo) {
    let root = repo.folder.path().join("rootfs");
    let script = format!(
        "mkdir -p {0}/bin && cd {0} && \
         if [ -x /bin/busybox ] && ! ldd /bin/busybox > /dev/null 2>&1; then \
           cp /bin/busybox bin/ && for tool in sh sleep; do ln -s busybox bin/$tool; done; \
         else for tool in sh sleep; do \
           cp -L /bin/$tool bin/ && for lib in $(ldd /bin/$tool | grep -o '/[^ ]*'); do \
             mkdir -p .$(dirname $lib) && cp -L $lib .$lib; done; done; fi",
        root.display()
    );
    let made = Command::new("sh").args(["-ec", &script]).status().expect("sh");
    assert!(made.success(), "{script}");
    let add = format!("{}:/", root.display());
    repo.pace(&["image", "build", "--base", "scratch", "--add", &add, "--to", "oci:image:v1"]).code(0);
}
