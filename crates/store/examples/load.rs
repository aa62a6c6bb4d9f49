//! How many facts a second become durable, and how long each writer waits: `load [--seconds S] [--postgres URL] [--folder DIR]`.
//!
//! Writers append single leases, then sixteen at a time; the disk's own flush time stands beside. One JSON object.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/contract/facts.rs"]
#[allow(dead_code)]
mod facts;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use facts::*;
use serde_json::{Value, json};
use store::{Epoch, Location, Store};

/// How many write at the same time.
const WRITERS: [u64; 4] = [1, 16, 64, 256];

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut seconds, mut postgres, mut folder) = (3.0, None, std::env::temp_dir());
    while let Some(arg) = args.next() {
        let value = args.next().expect("each option has a value");
        match arg.as_str() {
            "--seconds" => seconds = value.parse().unwrap(),
            "--postgres" => postgres = Some(value),
            "--folder" => folder = PathBuf::from(value),
            other => panic!("{other} is no option"),
        }
    }
    let span = Duration::from_secs_f64(seconds);
    let here = tempfile::Builder::new().prefix("pace-load").tempdir_in(&folder).unwrap();
    let mut stores = vec![("sqlite", Location::Sqlite(here.path().join("store.db")))];
    stores.extend(postgres.map(|url| ("postgresql", Location::Postgres(url))));
    let measured: Vec<Value> = stores.iter().map(|(name, location)| store(name, location, span)).collect();
    println!("{:#}", json!({ "fdatasync": fdatasync(here.path()), "stores": measured }));
}

/// The disk's own flush, of a file that grows.
fn fdatasync(folder: &Path) -> Value {
    let mut file = File::create(folder.join("flush")).unwrap();
    let mut took = Vec::new();
    for _ in 0..300 {
        file.write_all(&[1; 4096]).unwrap();
        let since = Instant::now();
        file.sync_data().unwrap();
        took.push(since.elapsed());
    }
    latencies(took)
}

fn store(name: &str, location: &Location, span: Duration) -> Value {
    let since = Instant::now();
    let store = Store::open(location).unwrap();
    let opened = since.elapsed();
    let epoch = store.lead("load").unwrap().expect("nobody else leads");
    let mut rounds = Vec::new();
    for leases in [1, 16] {
        for writers in WRITERS {
            rounds.push(round(&store, epoch, writers, leases, span));
        }
    }
    let since = Instant::now();
    let verified = store.verify(&mut |_| {}).unwrap();
    assert_eq!(verified.broken, None);
    let a_second = verified.entries as f64 / since.elapsed().as_secs_f64();
    json!({
        "store": name, "open_ms": ms(opened), "rounds": rounds, "entries": verified.entries,
        "verified_a_second": a_second.round(),
    })
}

/// Writers that append leases of runs of their own.
fn round(store: &Store, epoch: Epoch, writers: u64, leases: u64, span: Duration) -> Value {
    let base = store.last_sequence().unwrap();
    let runs: Vec<String> = (0..writers).map(|writer| format!("{base}-{writer}")).collect();
    for run in &runs {
        store.append(Some(epoch), facts([asked("web", run, 1).fact()])).unwrap();
    }
    let since = Instant::now();
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let writers: Vec<_> =
            runs.iter().map(|run| scope.spawn(move || write(store, epoch, run, leases, since + span))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let seconds = since.elapsed().as_secs_f64();
    let appends = took.len() as f64;
    json!({
        "writers": writers, "leases_an_append": leases, "appends_a_second": (appends / seconds).round(),
        "events_a_second": (appends * leases as f64 / seconds).round(), "append": latencies(took),
    })
}

fn write(store: &Store, epoch: Epoch, run: &str, leases: u64, until: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut fence = 0;
    while Instant::now() < until {
        let batch = facts((0..leases).map(|lease| leased("web", run, 0, fence + lease)));
        fence += leases;
        let since = Instant::now();
        store.append(Some(epoch), batch).unwrap();
        took.push(since.elapsed());
    }
    took
}

fn latencies(mut took: Vec<Duration>) -> Value {
    took.sort_unstable();
    let at = |share: f64| ms(took[((took.len() - 1) as f64 * share) as usize]);
    json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) })
}

fn ms(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}
