//! How fast the store is on this machine: `cargo run --release -p paceline-blobs --example store_bench [FOLDER]`.
//!
//! Every number is the best of several rounds, as the machine is rarely ours alone; writes are durable.

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

const BATCH: usize = 1000;
const BATCHES: usize = 200;
const ROUNDS: usize = 3;
const STREAM: usize = 64 << 20;
const SKETCHED: u64 = 10_000_000;

fn main() -> Outcome {
    let mut arguments = env::args_os().skip(1);
    let dir = arguments.next().map_or_else(|| env::temp_dir().join("store_bench"), PathBuf::from);
    if arguments.next().is_some() {
        return opened(&dir);
    }
    if dir.exists() {
        return Err(format!("{} exists; name a folder that does not", dir.display()).into());
    }
    fs::create_dir_all(&dir)?;
    let ran = small(&dir.join("small"))
        .and_then(|()| stream(&dir.join("stream")))
        .and_then(|()| large_index(&dir.join("sketch")));
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

fn small(dir: &Path) -> Outcome {
    let blobs = Blobs::open(dir, options())?;
    let mut best = [Duration::MAX; 2];
    let mut keys = Vec::new();
    for round in 0..ROUNDS * 2 {
        let make = |n: usize| noise((round * BATCH * BATCHES + n) as u64, 1024);
        let all: Vec<(Key, Bytes)> =
            (0..BATCH * BATCHES / 2).map(make).map(|bytes| (Function::Sha256.key_of(&bytes), bytes)).collect();
        keys.extend(all.iter().map(|(key, _)| *key));
        // Odd rounds with two writers.
        let began = Instant::now();
        let writers = 1 + round % 2;
        std::thread::scope(|scope| {
            for part in all.chunks(all.len() / writers) {
                let blobs = &blobs;
                scope.spawn(move || part.chunks(BATCH).all(|batch| blobs.put_many(batch).iter().all(Result::is_ok)));
            }
        });
        best[round % 2] = best[round % 2].min(began.elapsed());
    }
    for (writers, best) in best.iter().enumerate() {
        let what = format!("put_many, 1 KiB x {BATCH} a batch, durable, {} writer(s)", writers + 1);
        show(&what, (BATCH * BATCHES / 2) as f64 / best.as_secs_f64(), "blobs/s");
    }
    let present: Vec<Key> = keys.iter().step_by(keys.len() / 100_000).take(100_000).copied().collect();
    show("missing, 100,000 present keys", rate(100_000, || assert!(blobs.missing(&present).is_empty())), "keys/s");
    let absent: Vec<Key> = (1 << 40..).take(100_000).map(sketch::key).collect();
    show("missing, 100,000 absent keys", rate(100_000, || assert_eq!(blobs.missing(&absent).len(), 100_000)), "keys/s");
    let some: Vec<Key> = keys.iter().step_by(7).take(40_000).copied().collect();
    let get = || some.iter().for_each(|key| drop(black_box(blobs.get(key, 1024).expect("it was put"))));
    show("get, 1 KiB, one thread", rate(some.len(), get), "blobs/s");
    let hot = &some[..5_000];
    let get = || hot.iter().for_each(|key| drop(black_box(blobs.get(key, 1024).expect("it was put"))));
    show("get, 1 KiB, one thread, hot", rate(hot.len(), get), "blobs/s");
    Ok(())
}

fn rate(count: usize, mut act: impl FnMut()) -> f64 {
    let took = (0..ROUNDS).map(|_| timed(&mut act)).min().unwrap_or_default();
    count as f64 / took.as_secs_f64()
}

fn timed(mut act: impl FnMut()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

fn stream(dir: &Path) -> Outcome {
    let blobs = Blobs::open(dir, options())?;
    for function in Function::ALL {
        let mut best = [Duration::MAX; 2];
        for round in 0..ROUNDS as u64 + 2 {
            let bytes = noise(round << 32, STREAM);
            let key = function.key_of(&bytes);
            let began = Instant::now();
            let mut writer = blobs.writer(key)?;
            bytes.chunks(1 << 20).try_for_each(|part| writer.write(part))?;
            writer.finish()?;
            best[0] = best[0].min(began.elapsed());
            let began = Instant::now();
            let read: usize = blobs.reader(&key, 0, None)?.map(|part| part.map_or(0, |part| part.len())).sum();
            assert_eq!(read, STREAM);
            best[1] = best[1].min(began.elapsed());
        }
        for (what, best) in ["write", "read"].iter().zip(best) {
            let what = format!("stream {what}, 64 MiB of noise, {}", function.word());
            show(&what, STREAM as f64 / 1e6 / best.as_secs_f64(), "MB/s");
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
    show(
        "missing, 100,000 of 10,000,000 present",
        rate(keys.len(), || assert!(blobs.missing(&keys).is_empty())),
        "keys/s",
    );
    show("memory of the process after that", resident(), "MiB");
    Ok(())
}

fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
