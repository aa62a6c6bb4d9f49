//! Start-to-exit of a program, plain and isolated: minimum and median wall clock, and processor time of everything
//! together, interleaved.
//!
//! `latency ROUNDS WANTED PEERS`: WANTED picks what it names, PEERS is a file with other programs to measure beside
//! (see `peers`). With `HEAP_MIB=N` the driver itself holds so much memory. With `SAMPLES=1` all samples are printed, a
//! line for each measured thing. `latency once PROGRAM` starts one sandbox and ends, for comparison with tools that are
//! processes themselves.

mod peers;
mod raw;
mod scene;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use peers::Starter;
use sandbox::Spec;
use scene::{GroupKind, Kind, NetworkKind, Scene};

const ROUNDS: usize = 200;

/// A thing to be measured.
enum What {
    Plain(PathBuf),
    Raw(PathBuf),
    Sandbox(PathBuf, Kind),
    Peer(Starter),
}

struct Row {
    name: String,
    every: usize,
    what: What,
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
    failed: Option<String>,
}

/// What a step gets, but for the control group, which stages below name.
const FULL: Kind =
    Kind { image: false, network: NetworkKind::Pooled, group: GroupKind::Measured, furnished: true, on_disk: false };
const BARE: Kind = Kind { network: NetworkKind::Fresh, group: GroupKind::None, furnished: false, ..FULL };

const KINDS: [(&str, Kind); 9] = [
    ("sandbox", BARE),
    ("sandbox, host network", Kind { network: NetworkKind::Host, ..BARE }),
    ("everything", FULL),
    ("everything, group made ahead", Kind { group: GroupKind::Ahead, ..FULL }),
    ("everything, network not made ahead", Kind { network: NetworkKind::Fresh, ..FULL }),
    ("everything, folders on disk", Kind { on_disk: true, ..FULL }),
    ("everything, image", Kind { image: true, ..FULL }),
    ("everything, image, network not made ahead", Kind { image: true, network: NetworkKind::Fresh, ..FULL }),
    ("everything, image, folders on disk", Kind { image: true, on_disk: true, ..FULL }),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [once, program] = &args[..]
        && once == "once"
    {
        return run_once(Path::new(program));
    }
    let rounds = args.first().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let wanted = args.get(1).cloned().unwrap_or_default();
    peers::adopt_orphans();
    let heap = std::env::var("HEAP_MIB").ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    // Written to, or it would not be there.
    let _heap = std::hint::black_box(vec![1u8; heap << 20]);
    let mut scene = Scene::new();
    let mut rows = rows(&scene.exit0, args.get(2));
    rows.retain(|row| row.name.contains(&wanted));
    for round in 0..rounds {
        for row in rows.iter_mut().filter(|row| row.failed.is_none() && round % row.every == 0) {
            measure(&mut scene, row);
        }
    }
    if std::env::var_os("SAMPLES").is_some() { print_samples(&rows) } else { print_table(rows) }
}

fn run_once(program: &Path) {
    let mut scene = Scene::new();
    // The program that only exits lies elsewhere for everybody.
    let exit0 = scene.exit0.clone();
    let program = if program.ends_with("exit0") { &exit0 } else { program };
    let spec = scene.spec(program, FULL);
    sandboxed(&scene, spec, FULL);
}

fn rows(exit0: &Path, peers: Option<&String>) -> Vec<Row> {
    let programs = [("static exit(0)", exit0.to_owned()), ("/bin/true", PathBuf::from("/bin/true"))];
    let row = |name, every, what| Row { name, every, what, wall: Vec::new(), cpu: Vec::new(), failed: None };
    let mut rows = Vec::new();
    for (name, path) in &programs {
        rows.push(row(format!("plain, {name}"), 1, What::Plain(path.clone())));
        rows.push(row(format!("raw namespaces, {name}"), 1, What::Raw(path.clone())));
        for (kind, what) in KINDS {
            rows.push(row(format!("{kind}, {name}"), 1, What::Sandbox(path.clone(), what)));
        }
    }
    let peers = peers.map(|path| peers::read(path)).unwrap_or_default();
    rows.extend(peers.into_iter().map(|peer| row(peer.name, peer.every.max(1), What::Peer(peer.starter))));
    rows
}

fn measure(scene: &mut Scene, row: &mut Row) {
    let prepared = match &row.what {
        What::Sandbox(path, kind) => Some((scene.spec(path, *kind), *kind)),
        _ => None,
    };
    let before = processor_time();
    let took = match (&row.what, prepared) {
        (What::Sandbox(..), Some((spec, kind))) => Ok(sandboxed(scene, spec, kind)),
        (What::Raw(path), _) => Ok(raw::namespaces(path)),
        (What::Peer(starter), _) => {
            let took = starter.once();
            peers::wait_for_orphans();
            took
        }
        (What::Plain(path) | What::Sandbox(path, _), _) => Ok(plain(path)),
    };
    match took {
        Ok(took) => {
            row.wall.push(took);
            row.cpu.push(processor_time() - before);
        }
        Err(why) => row.failed = Some(why),
    }
}

fn sandboxed(scene: &Scene, mut spec: Spec, kind: Kind) -> Duration {
    let start = Instant::now();
    if kind.group == GroupKind::Measured {
        scene.enter_group(&mut spec);
    }
    let mut child = spec.spawn().expect("this host can sandbox");
    child.wait().expect("nobody else waits");
    if kind.group == GroupKind::Ahead {
        return start.elapsed();
    }
    // With it goes the group.
    drop(child);
    start.elapsed()
}

fn plain(program: &Path) -> Duration {
    let start = Instant::now();
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program exists");
    start.elapsed()
}

/// Of this process and all that it has waited for.
fn processor_time() -> Duration {
    let of = |who| {
        // SAFETY: `usage` is plain data that the kernel fills.
        #[allow(unsafe_code)]
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        let time = |value: libc::timeval| {
            Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
        };
        time(usage.ru_utime) + time(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// Name, why it failed, microseconds of wall clock, microseconds of processor time; tabs between.
fn print_samples(rows: &[Row]) {
    let list = |times: &[Duration]| {
        let words: Vec<String> = times.iter().map(|time| time.as_micros().to_string()).collect();
        words.join(",")
    };
    for row in rows {
        println!("{}\t{}\t{}\t{}", row.name, row.failed.as_deref().unwrap_or(""), list(&row.wall), list(&row.cpu));
    }
}

fn print_table(rows: Vec<Row>) {
    println!("{:<58} {:>8} {:>8} {:>8}   microseconds", "start to exit", "min", "p50", "cpu p50");
    for mut row in rows {
        if let Some(why) = row.failed {
            println!("{:<58} {why}", row.name);
            continue;
        }
        row.wall.sort_unstable();
        row.cpu.sort_unstable();
        let middle = row.wall.len() / 2;
        let [min, median, cpu] = [row.wall[0], row.wall[middle], row.cpu[middle]].map(|time| time.as_micros());
        println!("{:<58} {min:>8} {median:>8} {cpu:>8}", row.name);
    }
}
