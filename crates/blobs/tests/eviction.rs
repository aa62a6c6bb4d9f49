//! What stays and what goes when there is no room.

#![allow(clippy::unwrap_used)]

mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use blobs::{Blobs, Durability, Entry, Error, Key, Options};
use bytes::Bytes;

use world::*;

fn small(dir: &Path, bytes_max: u64, lease: Duration) -> Blobs {
    let durability = Durability::Process;
    Blobs::open(dir, Options { bytes_max, lease, durability, age_max: None, memory_bytes: 0 }).unwrap()
}

const MIB: u64 = 1 << 20;

#[test]
fn a_store_stays_within_its_bound_and_keeps_what_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 16 * MIB, Duration::ZERO);
    let liked: Vec<Key> = (0..20).map(|seed| put(&blobs, &noise(seed, 10_000))).collect();
    for seed in 100..8_000 {
        put(&blobs, &noise(seed, 10_000));
        if seed % 50 == 0 {
            let all_there = liked.iter().all(|key| blobs.get(key, 10_000).is_ok());
            assert!(all_there, "after {seed}");
            assert!(blobs.stats().disk_bytes <= 16 * MIB, "{} bytes", blobs.stats().disk_bytes);
        }
    }
    let stats = blobs.stats();
    assert!(stats.evicted > 6_000 && stats.blobs < 1_680, "{stats:?}");
    assert!(stats.disk_bytes > 12 * MIB, "no more goes than has to");
    let verified = blobs.verify(|_, _| {}).unwrap();
    assert!(verified.damaged.is_empty());
    drop(blobs);
    let blobs = small(dir.path(), 16 * MIB, Duration::ZERO);
    // So much that nothing goes on behind while it is counted.
    blobs.collect(Some(14 * MIB), None).unwrap();
    let verified = blobs.verify(|_, _| {}).unwrap();
    assert_eq!(blobs.stats().blobs, verified.blobs);
    assert!(liked.iter().all(|key| blobs.get(key, 10_000).is_ok()));
}

#[test]
fn what_is_leased_stays_and_a_store_of_nothing_else_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 8 * MIB, Duration::from_secs(3600));
    let mut kept = Vec::new();
    let full = loop {
        let (key, bytes) = keyed(noise(kept.len() as u64, 50_000));
        match blobs.put_many(&[(key, bytes)]).remove(0) {
            Ok(()) => kept.push(key),
            Err(err) => break err,
        }
    };
    assert!(matches!(full, Error::Full { bytes_max } if bytes_max == 8 * MIB), "{full}");
    assert!(kept.len() > 120, "{}", kept.len());
    assert!(blobs.missing(&kept).is_empty());
    assert!(blobs.stats().disk_bytes <= 8 * MIB);
    let stats = blobs.collect(Some(0), Some(Duration::ZERO)).unwrap();
    assert_eq!((stats.blobs, stats.evicted), (kept.len() as u64, 0));
    drop(blobs);

    let blobs = small(dir.path(), 8 * MIB, Duration::from_secs(3600));
    assert_eq!(blobs.collect(Some(0), None).unwrap().evicted, 0, "leases survive a restart");
    blobs.remove(&kept[0]).unwrap();
    blobs.remove(&kept[1]).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    put(&blobs, &noise(99_999, 50_000));
    assert!(blobs.missing(&kept[2..]).is_empty(), "room was made of what was removed");
}

#[test]
fn a_lease_that_is_over_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let lease = Duration::from_secs(2);
    let blobs = small(dir.path(), 64 * MIB, lease);
    let began = Instant::now();
    let key = put(&blobs, &noise(1, 1000));
    let held = blobs.collect(Some(0), None).unwrap().blobs;
    assert!(held == 1 || began.elapsed() >= lease, "it went before its lease was over");
    while blobs.collect(Some(0), None).unwrap().blobs > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "its lease is never over");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(blobs.missing(&[key]), [0]);
}

#[test]
fn an_entry_never_outlives_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 8 * MIB, Duration::ZERO);
    for round in 0..600u64 {
        let needs: Vec<Key> = (0..5).map(|n| put(&blobs, &noise(round * 5 + n, 10_000))).collect();
        // What it needs may have gone already: nothing is leased here.
        let _ = blobs.set_entry(&id(&round.to_string()), Entry { needs, ..Entry::default() });
        for old in (0..round).step_by(37) {
            if let Some(entry) = blobs.entry(&id(&old.to_string())) {
                let there = entry.needs.iter().map(|need| blobs.get(need, 10_000)).filter(Result::is_ok).count();
                assert!(there == 5 || blobs.entry(&id(&old.to_string())).is_none());
            }
        }
    }
    assert!(blobs.stats().entries < 400);
    drop(blobs);
    let blobs = small(dir.path(), 8 * MIB, Duration::ZERO);
    // So much that nothing goes on behind while it is counted.
    blobs.collect(Some(6 * MIB), None).unwrap();
    let verified = blobs.verify(|_, _| {}).unwrap();
    assert_eq!(
        (blobs.stats().blobs, blobs.stats().entries),
        (verified.blobs, verified.entries - verified.entries_dropped)
    );
}

#[test]
fn what_is_too_old_goes_though_there_is_room() {
    // Once more when the machine stood still between asking and collecting: then all of it was too old.
    assert!((0..20).any(|_| asked_for_in_time()), "a second passes between two calls");
}

/// Whether the machine was quick enough to see that what was asked for stays.
fn asked_for_in_time() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 64 * MIB, Duration::ZERO);
    let keys: Vec<Key> = (0..10).map(|seed| put(&blobs, &noise(seed, 1000))).collect();
    let large = put(&blobs, &noise(50, 5_000_000));
    assert_eq!(blobs.collect(None, Some(Duration::from_secs(3600))).unwrap().evicted, 0);
    std::thread::sleep(Duration::from_millis(1200));
    let asked = Instant::now();
    blobs.get(&keys[3], 1000).unwrap();
    let after = blobs.collect(None, Some(Duration::from_millis(1000))).unwrap();
    if asked.elapsed() >= Duration::from_millis(1000) {
        return false;
    }
    assert_eq!(after.blobs, 1);
    assert_eq!(blobs.missing(&[keys[0], keys[3], large]), [0, 2]);
    let after = blobs.collect(None, Some(Duration::ZERO)).unwrap();
    assert_eq!(after.blobs, 0);
    assert!(after.disk_bytes < 300_000, "{after:?}");
    true
}

#[test]
fn a_reader_reads_on_when_its_blob_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 64 * MIB, Duration::ZERO);
    let bytes = noise(1, 12 << 20);
    let key = put(&blobs, &bytes);
    let mut reader = blobs.reader(&key, 0, None).unwrap();
    let first = reader.next().unwrap().unwrap();
    for _ in 0..4 {
        blobs.collect(Some(0), None).unwrap();
    }
    assert_eq!(blobs.missing(&[key]), [0]);
    let rest: Vec<u8> = reader.flat_map(|part| part.unwrap()).collect();
    assert!([&first[..], &rest].concat() == bytes);
}

#[test]
fn what_was_written_over_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 4 * MIB, Duration::from_secs(3600));
    for round in 0..500u64 {
        let entry = Entry { value: noise(round, 100_000), ..Entry::default() };
        blobs.set_entry(&id("the same"), entry).unwrap();
    }
    assert_eq!(blobs.entry(&id("the same")).unwrap().value, noise(499, 100_000));
    assert!(blobs.stats().disk_bytes <= 4 * MIB && blobs.stats().entries == 1);
}

#[test]
fn writers_and_readers_go_on_while_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = small(dir.path(), 8 * MIB, Duration::ZERO);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let blobs = &blobs;
            scope.spawn(move || {
                for n in 0..1500 {
                    let bytes: Bytes = noise(thread << 32 | n, 5_000);
                    let key = put(blobs, &bytes);
                    match blobs.get(&key, 5_000) {
                        Ok(read) => assert_eq!(read, bytes),
                        Err(err) => assert!(matches!(err, Error::Missing(_)), "{err}"),
                    }
                }
            });
        }
    });
    assert!(blobs.verify(|_, _| {}).unwrap().damaged.is_empty());
    assert!(blobs.stats().disk_bytes <= 8 * MIB);
}
