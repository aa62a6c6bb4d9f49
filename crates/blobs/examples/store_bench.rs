//! How fast the store is on this machine: `cargo run --release -p paceline-blobs --example store_bench [FOLDER
//! [small | stream | index]]`.
//!
//! Every number is the best of several rounds, as the machine is rarely ours alone; writes are durable. Beside it is what
//! one core could do at most by the processor time that all rounds took, which the load of others hardly changes.

use std::env;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blobs::{Blobs, Function, Key, Options, sketch};
use bytes::Bytes;

type Outcome = Result<(), Box<dyn Error>>;
type Part = fn(&Path) -> Outcome;

const BATCH: usize = 1000;
const BATCHES: usize = 200;
const ROUNDS: usize = 3;
const STREAM: usize = 64 << 20;
const SKETCHED: u64 = 10_000_000;

fn main() -> Outcome {
    let mut arguments = env::args_os().skip(1);
    let dir = arguments.next().map_or_else(|| env::temp_dir().join("store_bench"), PathBuf::from);
    let only = arguments.next();
    let only = only.as_ref().and_then(|only| only.to_str());
    if only == Some("opened") {
        return opened(&dir);
    }
    if dir.exists() {
        return Err(format!("{} exists; name a folder that does not", dir.display()).into());
    }
    fs::create_dir_all(&dir)?;
    let parts: [(&str, Part); 3] = [("small", small), ("stream", stream), ("index", large_index)];
    let mut wanted = parts.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let ran = wanted.try_for_each(|(name, part)| part(&dir.join(name)));
    fs::remove_dir_all(&dir)?;
    ran
}

fn options() -> Options {
    Options { bytes_max: 50 << 30, ..Options::default() }
}

fn noise(seed: u64, count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn show(what: &str, number: f64, unit: &str) {
    println!("{what:<58} {number:>12.1} {unit}");
}

/// Rounds of one act.
struct Rounds {
    best: Duration,
    processor: Duration,
    count: u32,
}

impl Rounds {
    fn new() -> Rounds {
        Rounds { best: Duration::MAX, processor: Duration::ZERO, count: 0 }
    }

    fn time<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let (began, before) = (Instant::now(), processor());
        let done = act();
        self.best = self.best.min(began.elapsed());
        self.processor += processor() - before;
        self.count += 1;
        done
    }

    fn show(&self, what: &str, amount: f64, unit: &str) {
        let one_core = amount * f64::from(self.count) / self.processor.as_secs_f64().max(0.01);
        println!("{what:<58} {:>12.1} {unit:<8} {one_core:>12.1} a core", amount / self.best.as_secs_f64());
    }
}

/// Processor time of this process, to the hundredth of a second.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    Duration::from_millis(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

fn small(dir: &Path) -> Outcome {
    let blobs = Blobs::open(dir, options())?;
    let mut rounds = [Rounds::new(), Rounds::new()];
    let mut keys = Vec::new();
    for round in 0..ROUNDS * 2 {
        let make = |n: usize| noise((round * BATCH * BATCHES + n) as u64, 1024);
        let all: Vec<(Key, Bytes)> =
            (0..BATCH * BATCHES / 2).map(make).map(|bytes| (Function::Sha256.key_of(&bytes), bytes)).collect();
        keys.extend(all.iter().map(|(key, _)| *key));
        // Odd rounds with two writers.
        let writers = 1 + round % 2;
        rounds[round % 2].time(|| {
            std::thread::scope(|scope| {
                for part in all.chunks(all.len() / writers) {
                    let blobs = &blobs;
                    scope
                        .spawn(move || part.chunks(BATCH).all(|batch| blobs.put_many(batch).iter().all(Result::is_ok)));
                }
            });
        });
    }
    for (writers, rounds) in rounds.iter().enumerate() {
        let what = format!("put_many, 1 KiB x {BATCH} a batch, durable, {} writer(s)", writers + 1);
        rounds.show(&what, (BATCH * BATCHES / 2) as f64, "blobs/s");
    }
    let present: Vec<Key> = keys.iter().step_by(keys.len() / 100_000).take(100_000).copied().collect();
    rate("missing, 100,000 present keys", 100_000, "keys/s", || assert!(blobs.missing(&present).is_empty()));
    let absent: Vec<Key> = (1 << 40..).take(100_000).map(sketch::key).collect();
    rate("missing, 100,000 absent keys", 100_000, "keys/s", || assert_eq!(blobs.missing(&absent).len(), 100_000));
    let some: Vec<Key> = keys.iter().step_by(7).take(40_000).copied().collect();
    let get = || some.iter().for_each(|key| drop(black_box(blobs.get(key, 1024).expect("it was put"))));
    rate("get, 1 KiB, one thread", some.len(), "blobs/s", get);
    let hot = &some[..5_000];
    let get = || hot.iter().for_each(|key| drop(black_box(blobs.get(key, 1024).expect("it was put"))));
    rate("get, 1 KiB, one thread, hot", hot.len(), "blobs/s", get);
    Ok(())
}

fn rate(what: &str, count: usize, unit: &str, mut act: impl FnMut()) {
    let mut rounds = Rounds::new();
    (0..2 * ROUNDS).for_each(|_| rounds.time(&mut act));
    rounds.show(what, count as f64, unit);
}

fn stream(dir: &Path) -> Outcome {
    let blobs = Blobs::open(dir, options())?;
    for function in Function::ALL {
        let (mut writes, mut reads) = (Rounds::new(), Rounds::new());
        for round in 0..ROUNDS as u64 + 2 {
            let bytes = noise(round << 32, STREAM);
            let key = function.key_of(&bytes);
            let mut writer = blobs.writer(key)?;
            writes.time(|| {
                bytes.chunks(1 << 20).try_for_each(|part| writer.write(part))?;
                writer.finish()
            })?;
            let reader = blobs.reader(&key, 0, None)?;
            let read: usize = reads.time(|| reader.map(|part| part.map_or(0, |part| part.len())).sum());
            assert_eq!(read, STREAM);
        }
        for (what, rounds) in [("write", writes), ("read", reads)] {
            let what = format!("stream {what}, 64 MiB of noise, {}", function.word());
            rounds.show(&what, STREAM as f64 / 1e6, "MB/s");
        }
    }
    Ok(())
}

fn large_index(dir: &Path) -> Outcome {
    sketch::draw(dir, SKETCHED)?;
    Blobs::open(dir, options())?.flush()?;
    // In a process of its own, whose memory nothing else has grown.
    let status = Command::new(env::current_exe()?).arg(dir).arg("opened").status()?;
    if status.success() { Ok(()) } else { Err("the second process failed".into()) }
}

/// What a process sees that opens the sketched store.
fn opened(dir: &Path) -> Outcome {
    let keys: Vec<Key> = (0..100_000).map(|n| sketch::key(n * (SKETCHED / 100_000))).collect();
    let first = &keys[..1];
    let before = resident();
    let began = Instant::now();
    let blobs = Blobs::open(dir, options())?;
    assert!(blobs.missing(first).is_empty());
    show("open and first answer, 10,000,000 blobs", began.elapsed().as_secs_f64() * 1e3, "ms");
    show("memory of the process after that", resident(), "MiB");
    show("  of which before", before, "MiB");
    rate("missing, 100,000 of 10,000,000 present", keys.len(), "keys/s", || assert!(blobs.missing(&keys).is_empty()));
    show("memory of the process after that", resident(), "MiB");
    Ok(())
}

fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
