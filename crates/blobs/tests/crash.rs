//! What a store is after SIGKILL at any moment: all that was acknowledged, and nothing that is not whole.
//!
//! The test starts itself once more as the process that is killed. `BLOBS_CRASH_ROUNDS` says how often.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use blobs::{Blobs, Durability, Entry, Error, Key, Options};
use bytes::Bytes;

use world::*;

const DIR: &str = "BLOBS_CRASH_DIR";
const ROUND: &str = "BLOBS_CRASH_ROUND";

/// What a child does is decided by whether its store is large enough for all.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    Enough,
    Scarce,
}

fn crash_options(room: Room) -> Options {
    let (bytes_max, lease) = match room {
        Room::Enough => (4 << 30, Duration::from_secs(3600)),
        Room::Scarce => (6 << 20, Duration::ZERO),
    };
    Options { bytes_max, lease, durability: Durability::Group, age_max: None, memory_bytes: 1 << 20 }
}

fn blob(number: u64) -> (Key, Bytes) {
    let size = match number % 97 {
        0 => 3 << 20,
        1..4 => 200_000,
        rest => 30 * rest as usize,
    };
    keyed(noise(number, size))
}

/// Runs in the child: works until it is killed, and says what was acknowledged.
fn work(dir: &Path, room: Room) {
    let round: u64 = env::var(ROUND).unwrap().parse().unwrap();
    let blobs = open_soon(dir, room);
    let out = Mutex::new(std::io::stdout());
    let say = |line: String| out.lock().unwrap().write_all(line.as_bytes()).unwrap();
    say("\n".into());
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (blobs, say) = (&blobs, &say);
            scope.spawn(move || {
                for step in 0..100_000u64 {
                    let first = (round << 40) | (thread << 32) | (step * 20);
                    let numbers = first..first + 1 + step % 20;
                    let batch: Vec<_> = numbers.clone().map(blob).collect();
                    let put = blobs.put_many(&batch);
                    if put.iter().all(Result::is_ok) {
                        say(format!("B {} {}\n", numbers.start, numbers.end));
                    }
                    let needs = batch.iter().map(|(key, _)| *key).collect();
                    let name = format!("{thread}.{}", step % 7);
                    let value = Bytes::from(format!("{round} {step}"));
                    if blobs.set_entry(&id(&name), Entry { value, needs, ..Entry::default() }).is_ok() {
                        say(format!("E {name} {round} {step}\n"));
                    }
                    match step % 11 {
                        3 => blobs.flush().unwrap(),
                        5 => drop(blobs.collect(Some(3 << 20), None)),
                        7 => drop(blobs.get(&batch[0].0, usize::MAX)),
                        _ => {}
                    }
                }
            });
        }
    });
}

/// A process that the other test starts holds all files of ours for the moment until it is another program.
fn open_soon(dir: &Path, room: Room) -> Blobs {
    loop {
        match Blobs::open(dir, crash_options(room)) {
            Err(Error::InUse { .. }) => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.unwrap(),
        }
    }
}

#[derive(Default)]
struct Told {
    blobs: Vec<u64>,
    entries: HashMap<String, (u64, u64)>,
}

/// Starts a child, kills it after a while, and notes what it said.
fn kill_one(test: &str, dir: &Path, round: u64, told: &mut Told) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let killer = std::thread::spawn(move || {
        // Some are killed while they open the store.
        std::thread::sleep(Duration::from_micros(20_000 + round * 7919 % 180_000));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    for line in lines {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["B", start, end] => told.blobs.extend(start.parse::<u64>().unwrap()..end.parse().unwrap()),
            ["E", name, round, step] => {
                told.entries.insert(name.to_owned(), (round.parse().unwrap(), step.parse().unwrap()));
            }
            _ => {}
        }
    }
    killer.join().unwrap();
}

fn rounds() -> u64 {
    env::var("BLOBS_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

fn version(entry: &Entry) -> (u64, u64) {
    let text = String::from_utf8(entry.value.to_vec()).unwrap();
    let (round, step) = text.split_once(' ').unwrap();
    (round.parse().unwrap(), step.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Ok(dir) = env::var(DIR) {
        return work(Path::new(&dir), Room::Enough);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    for round in 1..=rounds() {
        let before = told.blobs.len();
        kill_one("nothing_acknowledged_is_lost_when_the_process_is_killed", dir.path(), round, &mut told);
        let blobs = open_soon(dir.path(), Room::Enough);
        put(&blobs, &noise(round, 7));
        let kept: Vec<(Key, Bytes)> = told.blobs[before..].iter().map(|number| blob(*number)).collect();
        let keys: Vec<Key> = kept.iter().map(|(key, _)| *key).collect();
        assert_eq!(blobs.missing(&keys), [0; 0], "round {round}");
        assert!(kept.iter().all(|(key, bytes)| blobs.get(key, usize::MAX).unwrap() == bytes), "round {round}");
        for (name, acknowledged) in &told.entries {
            let entry = blobs.entry(&id(name)).unwrap_or_else(|| panic!("round {round}: entry {name} is lost"));
            assert!(version(&entry) >= *acknowledged, "round {round}: entry {name}");
        }
        if round % 10 == 0 {
            let verified = blobs.verify(|_, _| {}).unwrap();
            assert_eq!((verified.damaged.len(), verified.entries_dropped), (0, 0), "round {round}");
            assert_eq!(
                (blobs.stats().blobs, blobs.stats().entries),
                (verified.blobs, verified.entries),
                "round {round}"
            );
        }
    }
    let blobs = open_soon(dir.path(), Room::Enough);
    let keys: Vec<Key> = told.blobs.iter().map(|number| blob(*number).0).collect();
    assert!(keys.len() as u64 > rounds(), "children got to work");
    assert_eq!(blobs.missing(&keys), [0; 0]);
}

#[test]
fn nothing_is_damaged_when_the_process_is_killed_while_it_evicts() {
    if let Ok(dir) = env::var(DIR) {
        return work(Path::new(&dir), Room::Scarce);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    for round in 1..=rounds() {
        kill_one("nothing_is_damaged_when_the_process_is_killed_while_it_evicts", dir.path(), round, &mut told);
        let blobs = open_soon(dir.path(), Room::Scarce);
        for number in &told.blobs[told.blobs.len().saturating_sub(300)..] {
            let (key, bytes) = blob(*number);
            match blobs.get(&key, usize::MAX) {
                Ok(read) => assert!(read == bytes, "round {round}"),
                Err(err) => assert!(matches!(err, Error::Missing(_)), "round {round}: {err}"),
            }
        }
        for name in told.entries.keys() {
            let Some(entry) = blobs.entry(&id(name)) else { continue };
            assert!(entry.needs.iter().all(|need| blobs.get(need, usize::MAX).is_ok()), "round {round}: entry {name}");
        }
        // So much that nothing goes on behind while it is counted.
        blobs.collect(Some(3 << 20), None).unwrap();
        let verified = blobs.verify(|_, _| {}).unwrap();
        assert!(verified.damaged.is_empty(), "round {round}");
        let entries = verified.entries - verified.entries_dropped;
        assert_eq!((blobs.stats().blobs, blobs.stats().entries), (verified.blobs, entries), "round {round}");
    }
    assert!(told.blobs.len() as u64 > rounds(), "children got to work");
}
