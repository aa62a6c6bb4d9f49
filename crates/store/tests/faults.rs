//! What a store survives: SIGKILL under load, a full disk, a second process, a newer file, a leader that slept, a database
//! whose connections are cut in the middle of everything.
#![allow(clippy::unwrap_used)]

#[path = "contract/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "contract/facts.rs"]
#[allow(dead_code)]
mod facts;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backend::Home;
use facts::*;
use model::{RunId, Timestamp};
use store::{Batch, Change, Epoch, Location, Store, StoreError};

/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(60);

/// Tells a copy of this program what to do.
const ROLE: &str = "PACE_STORE_TEST_LOCATION";

/// Not a test by itself: as a child it leads and appends until it is killed, and prints what was acknowledged.
#[test]
fn child() {
    let Ok(location) = std::env::var(ROLE) else { return };
    let location = match location.strip_prefix("postgres:") {
        Some(_) => Location::Postgres(location),
        None => Location::Sqlite(location.into()),
    };
    let store = Store::open(&location).unwrap();
    let epoch = lead(&store);
    let life = epoch.unwrap().0;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                let run = format!("{life}-{thread}");
                let mut told = store.append(epoch, facts([asked("web", &run, life).fact()]));
                for number in 1u64.. {
                    match told {
                        Ok(_) => println!("\nacknowledged {run} {number}"),
                        Err(StoreError::NotLeader) => {
                            println!("\nnot leader");
                            return;
                        }
                        // What the connection lost was not written: it is told again.
                        Err(StoreError::Unavailable(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                    let mut batch = facts([leased("web", &run, 0, number)]);
                    let line = format!("{number:08}\n");
                    batch.logs = chunk(&run, 0, (number - 1) * 9, line).logs;
                    told = store.append(epoch, batch);
                    while matches!(told, Err(StoreError::Unavailable(_))) {
                        let mut batch = facts([leased("web", &run, 0, number)]);
                        batch.logs = chunk(&run, 0, (number - 1) * 9, format!("{number:08}\n")).logs;
                        told = store.append(epoch, batch);
                    }
                }
            });
        }
    });
}

/// Waits until nobody else leads.
fn lead(store: &Store) -> Option<Epoch> {
    let since = Instant::now();
    loop {
        match store.lead("child") {
            Ok(Some(epoch)) => return Some(epoch),
            Ok(None) | Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(since.elapsed() < DEADLINE, "somebody else leads for too long");
        std::thread::yield_now();
    }
}

struct Appender {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Appender {
    fn start(home: &Home) -> Appender {
        let location = match &home.location {
            Location::Sqlite(path) => path.display().to_string(),
            Location::Postgres(url) => url.clone(),
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, location);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Appender { child, lines }
    }

    /// The next line that says something; `None` at the end.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // Half a line was cut off by the kill.
            if line.ends_with('\n') && (line.starts_with("acknowledged") || line.starts_with("not leader")) {
                return Some(line.trim().to_owned());
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Kills it after so many acknowledgements. Returns the last of each run, as `(run, facts)`.
    fn killed_after(mut self, acknowledged: usize) -> Vec<(String, u64)> {
        let mut last = std::collections::BTreeMap::new();
        let note = |line: String, last: &mut std::collections::BTreeMap<String, u64>| {
            let mut words = line.split(' ').skip(1);
            let (run, number) = (words.next().unwrap().to_owned(), words.next().unwrap().parse().unwrap());
            last.insert(run, number);
        };
        for _ in 0..acknowledged {
            note(self.line().expect("it goes on until it is killed"), &mut last);
        }
        self.child.kill().unwrap();
        while let Some(line) = self.line() {
            note(line, &mut last);
        }
        self.child.wait().unwrap();
        last.into_iter().collect()
    }
}

fn nothing_is_lost_by_kills(home: &Home, kills: usize) {
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        // Other moments each time: during the first commit, a checkpoint, a page of the log.
        acknowledged.extend(Appender::start(home).killed_after(1 + kill * 37 % 400));
    }
    let store = home.open();
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
    let mut lost = 0;
    for (run, facts) in &acknowledged {
        let kept = store.facts_of(&RunId::new(run.as_str())).unwrap().len() as u64;
        lost += facts.saturating_sub(kept);
        // Fact and log are one batch: neither is there without the other.
        assert_eq!(store.log(&log_id(run, 0), 0, 0).unwrap().length, (kept - 1) * 9, "log of {run}");
    }
    eprintln!("{kills} kills, {} facts, {lost} lost", store.last_sequence().unwrap());
    assert_eq!(lost, 0);
}

#[test]
fn nothing_acknowledged_is_lost_when_sqlite_s_process_is_killed() {
    nothing_is_lost_by_kills(&Home::sqlite(), 50);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_leader_on_postgresql_is_killed() {
    if let Some(home) = Home::postgres() {
        nothing_is_lost_by_kills(&home, 15);
    }
}

#[test]
fn a_leader_that_slept_past_its_term_writes_no_more() {
    let Some(home) = Home::postgres() else { return };
    let mut sleeper = Appender::start(&home);
    for _ in 0..50 {
        sleeper.line().unwrap();
    }
    let store = home.open();
    assert_eq!(store.lead("too early").unwrap(), None, "it gives signs of life");
    sleeper.signal("-STOP");
    let since = Instant::now();
    let epoch = lead(&store);
    eprintln!("a sleeping leader was followed after {:?}", since.elapsed());
    store.append(epoch, facts([asked("web", "mine", 1).fact()])).unwrap();
    let before = store.last_sequence().unwrap();
    sleeper.signal("-CONT");
    while sleeper.line().expect("it is told before it ends") != "not leader" {}
    sleeper.child.kill().unwrap();
    sleeper.child.wait().unwrap();
    assert_eq!(store.last_sequence().unwrap(), before);
    store.append(epoch, facts([started("web", "mine", 2)])).unwrap();
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

#[test]
fn a_commit_whose_answer_was_lost_is_told_as_it_was() {
    let Some(home) = Home::postgres() else { return };
    let store = home.open();
    let epoch = lead(&store);
    store.append(epoch, facts([asked("web", "r", 1).fact()])).unwrap();
    let (told, cut) = (AtomicU64::new(0), AtomicBool::new(false));
    let rounds = 400;
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, told) = (&store, &told);
            scope.spawn(move || {
                for round in 0..rounds {
                    let since = Instant::now();
                    // Each fact has its own number: one that was done twice would show.
                    while store.append(epoch, facts([leased("web", "r", 0, thread * rounds + round)])).is_err() {
                        assert!(since.elapsed() < DEADLINE);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    told.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (home, cut) = (&home, &cut);
        let cutter = scope.spawn(move || {
            let mut cuts = 0;
            while !cut.load(Ordering::Relaxed) {
                let gone = home.sql(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
                cuts += gone.parse::<u64>().unwrap();
            }
            cuts
        });
        let since = Instant::now();
        while told.load(Ordering::Relaxed) < 4 * rounds {
            assert!(since.elapsed() < 3 * DEADLINE, "{} of {}", told.load(Ordering::Relaxed), 4 * rounds);
            std::thread::sleep(Duration::from_millis(5));
        }
        cut.store(true, Ordering::Relaxed);
        eprintln!("{} connections cut", cutter.join().unwrap());
    });
    let kept = store.facts_of(&RunId::new("r")).unwrap();
    assert_eq!(kept.len() as u64, 1 + 4 * rounds, "each fact once: {} told", told.load(Ordering::Relaxed));
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

#[test]
fn two_replicas_write_changes_into_one_chain() {
    let Some(home) = Home::postgres() else { return };
    let (one, two) = (home.open(), home.open());
    let epoch = lead(&one);
    assert_eq!(two.lead("two").unwrap(), None);
    std::thread::scope(|scope| {
        for (name, store) in [("one", &one), ("two", &two)] {
            scope.spawn(move || {
                for number in 0..200 {
                    let changes = vec![Change::note(Timestamp(1), name, "counted", &number.to_string())];
                    store.append(None, Batch { changes, ..Batch::default() }).unwrap();
                }
            });
        }
        scope.spawn(|| {
            one.append(epoch, facts([asked("web", "r", 1).fact()])).unwrap();
            for fence in 0..200 {
                one.append(epoch, facts([leased("web", "r", 0, fence)])).unwrap();
            }
        });
    });
    assert_eq!(two.append(epoch, facts([started("web", "r", 1)])), Err(StoreError::NotLeader));
    assert_eq!(two.last_sequence().unwrap(), 601);
    assert_eq!(two.verify(&mut |_| {}).unwrap().broken, None);
    drop(one);
    let epoch = lead(&two);
    two.append(epoch, facts([started("web", "r", 1)])).unwrap();
}

#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let disk = SmallDisk::new();
    let Some(disk) = disk else { return };
    let home = Location::Sqlite(disk.folder.join("store.db"));
    let store = Store::open(&home).unwrap();
    let epoch = lead(&store);
    store.append(epoch, facts([asked("web", "r", 1).fact()])).unwrap();
    let mut kept = 0u64;
    // Bytes that do not compress.
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    let full = loop {
        let bytes: Vec<u8> = (0..60_000)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        match store.append(epoch, chunk("r", 0, kept, bytes)) {
            Ok(_) => kept += 60_000,
            Err(error) => break error,
        }
        assert!(kept < 64 << 20, "the disk is not small");
    };
    assert!(matches!(full, StoreError::Full(_)), "{full}");
    assert_eq!(store.log(&log_id("r", 0), 0, 0).unwrap().length, kept);
    std::fs::remove_file(disk.folder.join("ballast")).unwrap();
    store.append(epoch, chunk("r", 0, kept, vec![7; 60_000])).unwrap();
    store.append(epoch, facts([started("web", "r", 2)])).unwrap();
    drop(store);
    let store = Store::open(&home).unwrap();
    assert_eq!(store.log(&log_id("r", 0), 0, 0).unwrap().length, kept + 60_000);
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

/// A file system of 16 MiB, a quarter of it taken by a file that can be removed.
struct SmallDisk {
    folder: PathBuf,
    _home: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Option<SmallDisk> {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("disk");
        std::fs::create_dir(&folder).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&folder).output();
        if !mount.is_ok_and(|mount| mount.status.success()) {
            eprintln!("not tested: only root mounts a small disk");
            return None;
        }
        std::fs::write(folder.join("ballast"), vec![1; 4 << 20]).unwrap();
        Some(SmallDisk { folder, _home: home })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

#[test]
fn a_second_process_is_told_who_has_the_file() {
    let home = Home::sqlite();
    let _first = home.open();
    let refused = Store::open(&home.location).unwrap_err().to_string();
    assert!(refused.contains("another process has"), "{refused}");
    assert!(refused.contains("stop it, or give this one a folder of its own"), "{refused}");
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    for home in [Some(Home::sqlite()), Home::postgres()].into_iter().flatten() {
        drop(home.open());
        match home.location {
            Location::Sqlite(_) => home.sql("PRAGMA user_version = 99"),
            Location::Postgres(_) => home.sql("INSERT INTO migrations SELECT n, 'x' FROM generate_series(2, 99) n"),
        };
        let refused = Store::open(&home.location).unwrap_err().to_string();
        assert!(refused.contains("written by a newer version of pace (tables 99, this one knows 1)"), "{refused}");
    }
}

#[test]
fn tables_that_were_made_otherwise_are_refused() {
    for home in [Some(Home::sqlite()), Home::postgres()].into_iter().flatten() {
        drop(home.open());
        home.sql("UPDATE migrations SET checksum = (SELECT hash FROM head)");
        let refused = Store::open(&home.location).unwrap_err().to_string();
        assert!(refused.contains("migration 1 of the tables is not the one that we know"), "{refused}");
    }
    let other = Home::sqlite();
    other.sql("CREATE TABLE theirs (x)");
    let refused = Store::open(&other.location).unwrap_err().to_string();
    assert!(refused.contains("is a database of something else"), "{refused}");
    let noise = Home::sqlite();
    std::fs::write(noise.file("store.db"), vec![b'x'; 5000]).unwrap();
    assert!(matches!(Store::open(&noise.location), Err(StoreError::Damaged(_))));
}
