//! What a store does on a file system that is full.
//!
//! The test starts itself once more in a mount namespace, where a small file system is its own.

#![allow(clippy::unwrap_used)]

mod world;

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use blobs::{Blobs, Error, Key, Options};

use world::*;

const DIR: &str = "BLOBS_SMALL_DISK";

/// Runs `scene` in a folder of 24 MiB; nothing when this machine has no user namespaces.
fn on_a_small_disk(test: &str, scene: fn(&Path)) {
    if let Ok(dir) = env::var(DIR) {
        return scene(Path::new(&dir));
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    if !unshare("mount -t tmpfs tmpfs /mnt").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=24m tmpfs $BLOBS_SMALL_DISK && exec \"$EXE\" --exact \"$TEST\" --nocapture";
    let status = unshare(script)
        .env(DIR, dir.path())
        .env("EXE", env::current_exe().unwrap())
        .env("TEST", test)
        .status()
        .unwrap();
    assert!(status.success());
}

fn store(dir: &Path, lease: Duration) -> Blobs {
    Blobs::open(&dir.join("store"), Options { bytes_max: 256 << 20, lease, memory_bytes: 0, ..Options::default() })
        .unwrap()
}

/// Puts blobs until one is refused.
fn fill(blobs: &Blobs, from: u64) -> (Vec<Key>, Error) {
    let mut kept = Vec::new();
    for seed in from.. {
        let (key, bytes) = keyed(noise(seed, 70_000));
        match blobs.put_many(&[(key, bytes)]).remove(0) {
            Ok(()) => kept.push(key),
            Err(err) => return (kept, err),
        }
    }
    unreachable!("a disk is full some day");
}

#[test]
fn a_full_disk_costs_no_blob_and_when_there_is_room_writes_go_on() {
    on_a_small_disk("a_full_disk_costs_no_blob_and_when_there_is_room_writes_go_on", |dir| {
        fs::write(dir.join("others"), vec![0; 4 << 20]).unwrap();
        let mut blobs = store(dir, Duration::from_secs(3600));
        let (kept, err) = fill(&blobs, 0);
        assert!(matches!(&err, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{err}");
        assert!(kept.len() > 200, "{}", kept.len());
        for _ in 0..2 {
            assert!(blobs.missing(&kept).is_empty());
            assert!(kept.iter().all(|key| blobs.get(key, 70_000).is_ok()));
            drop(blobs);
            blobs = store(dir, Duration::from_secs(3600));
            let _ = blobs.flush();
        }
        fs::remove_file(dir.join("others")).unwrap();
        let (more, _) = fill(&blobs, 10_000);
        assert!(more.len() > 30, "{}", more.len());
        drop(blobs);
        let blobs = store(dir, Duration::from_secs(3600));
        let verified = blobs.verify(|_, _| {}).unwrap();
        assert_eq!((verified.damaged.len(), verified.blobs), (0, (kept.len() + more.len()) as u64));
    });
}

#[test]
fn a_full_disk_is_relieved_of_what_nobody_leased() {
    on_a_small_disk("a_full_disk_is_relieved_of_what_nobody_leased", |dir| {
        let blobs = store(dir, Duration::ZERO);
        let (kept, _) = fill(&blobs, 0);
        let (mut seed, began) = (1_000_000, Instant::now());
        // Twice what the disk can hold.
        for _ in 0..2 * kept.len() {
            while blobs.put_many(&[keyed(noise(seed, 70_000))]).remove(0).is_err() {
                assert!(began.elapsed() < Duration::from_secs(60), "no room is made");
                std::thread::sleep(Duration::from_millis(5));
            }
            seed += 1;
        }
        assert!(blobs.verify(|_, _| {}).unwrap().damaged.is_empty());
        assert!(blobs.stats().evicted as usize > kept.len() / 2);
    });
}
