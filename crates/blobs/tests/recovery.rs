//! What a store is after power went, files were cut off, or bits flipped.

#![allow(clippy::unwrap_used)]

mod world;

use std::fs;
use std::path::Path;

use blobs::{Blobs, Entry, Error, Function, Key};
use bytes::Bytes;

use world::*;

/// Blobs in a store, and where the log ended after each.
struct Log {
    dir: tempfile::TempDir,
    blobs: Blobs,
    kept: Vec<(Key, Bytes, u64)>,
}

fn log() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let mut kept = Vec::new();
    for (seed, size) in [1, 500, 5000, 64, 300_000, 1000].into_iter().enumerate() {
        let bytes = noise(seed as u64, size);
        kept.push((put(&blobs, &bytes), bytes, segments(dir.path())[0].1));
    }
    Log { dir, blobs, kept }
}

#[test]
fn what_a_crash_left_is_there_from_the_first_question_on() {
    let log = log();
    let needs: Vec<Key> = log.kept.iter().map(|(key, ..)| *key).collect();
    let entry = Entry { needs: needs.clone(), writer: "w".into(), ..Entry::default() };
    log.blobs.set_entry(&id("whole"), entry).unwrap();
    // Several times: whoever flushed behind the scenes would be quick enough now and then.
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        copy(log.dir.path(), dir.path());
        let blobs = open(dir.path());
        assert_eq!(blobs.missing(&needs), Vec::<usize>::new());
        assert!(blobs.entry(&id("whole")).is_some());
    }
}

impl Log {
    /// Opens a copy of which `harm` has done something, and tells which blobs are there; they are right.
    fn after(&self, harm: impl FnOnce(&Path)) -> Vec<bool> {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        harm(dir.path());
        let mut blobs = open(dir.path());
        let mut there = Vec::new();
        for round in 0..2 {
            put(&blobs, &noise(99, 10));
            let keys: Vec<Key> = self.kept.iter().map(|(key, ..)| *key).collect();
            let missing = blobs.missing(&keys);
            there = (0..keys.len()).map(|at| !missing.contains(&at)).collect();
            for (there, (key, bytes, _)) in there.iter().zip(&self.kept) {
                match blobs.get(key, usize::MAX) {
                    Ok(read) => assert!(*there && read == bytes, "{key}"),
                    Err(err) => assert!(!there && matches!(err, Error::Missing(_)), "{key}: {err}"),
                }
            }
            assert_eq!(blobs.stats().blobs, there.iter().filter(|there| **there).count() as u64 + 1, "round {round}");
            drop(blobs);
            blobs = open(dir.path());
        }
        there
    }

    fn interesting_ends(&self) -> Vec<u64> {
        let starts = [0].into_iter().chain(self.kept.iter().map(|(.., end)| *end));
        let near = starts.flat_map(|at| [at, at + 1, at + 2, at + 40, at + 63, at + 64, at + 65, at + 200]);
        let total = self.kept.last().unwrap().2;
        near.chain(self.kept.iter().map(|(.., end)| end - 1)).filter(|at| *at <= total).collect()
    }
}

#[test]
fn a_log_that_was_cut_off_anywhere_has_all_that_was_before() {
    let log = log();
    for end in log.interesting_ends() {
        let there = log.after(|dir| {
            fs::File::options().write(true).open(&segments(dir)[0].0).unwrap().set_len(end).unwrap();
        });
        let before: Vec<bool> = log.kept.iter().map(|(.., at)| *at <= end).collect();
        assert_eq!(there, before, "cut at {end}");
    }
}

#[test]
fn a_log_whose_end_is_zeros_has_all_that_was_before() {
    let log = log();
    for end in log.interesting_ends() {
        let there = log.after(|dir| {
            let path = &segments(dir)[0].0;
            let mut bytes = fs::read(path).unwrap();
            bytes[end as usize..].fill(0);
            fs::write(path, bytes).unwrap();
        });
        // Zeros may be what was there.
        let before: Vec<bool> = log.kept.iter().map(|(.., at)| *at <= end).collect();
        assert!(there.iter().zip(&before).all(|(there, before)| *there || !before), "zeros from {end}");
        assert!(there.iter().zip(&before).filter(|(there, before)| there != before).count() <= 1);
    }
}

#[test]
fn files_that_a_crash_left_over_are_cleared_away() {
    let log = log();
    log.blobs.flush().unwrap();
    let there = log.after(|dir| {
        fs::write(dir.join("manifest.new"), "half").unwrap();
        fs::write(dir.join("leases.new"), "half").unwrap();
        fs::write(dir.join("index/77.run"), "half").unwrap();
    });
    assert_eq!(there, [true; 6]);
}

#[test]
fn a_lost_manifest_or_index_costs_no_blob() {
    let log = log();
    log.blobs.set_entry(&id("a"), Entry::default()).unwrap();
    log.blobs.flush().unwrap();
    let run = || fs::read_dir(log.dir.path().join("index")).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(log.after(|dir| fs::remove_file(dir.join("manifest")).unwrap()), [true; 6]);
    assert_eq!(log.after(|dir| flip(&dir.join("manifest"), 20)), [true; 6]);
    assert_eq!(log.after(|dir| fs::remove_file(dir.join("index").join(run())).unwrap()), [true; 6]);
    assert_eq!(log.after(|dir| fs::write(dir.join("leases"), "rubbish").unwrap()), [true; 6]);
}

#[test]
fn a_lost_segment_takes_its_blobs_along_and_nothing_else() {
    let log = log();
    log.blobs.flush().unwrap();
    assert_eq!(log.after(|dir| fs::remove_file(&segments(dir)[0].0).unwrap()), [false; 6]);
}

#[test]
fn a_flipped_bit_is_never_served() {
    let log = log();
    let total = log.kept.last().unwrap().2;
    for flushed in [false, true] {
        if flushed {
            log.blobs.flush().unwrap();
        }
        for at in (0..total).step_by(9973).chain(log.kept.iter().map(|(.., end)| end - 1)) {
            let dir = tempfile::tempdir().unwrap();
            copy(log.dir.path(), dir.path());
            flip(&segments(dir.path())[0].0, at);
            let blobs = open(dir.path());
            for (key, bytes, end) in &log.kept {
                match blobs.get(key, usize::MAX) {
                    Ok(read) => assert_eq!(read, bytes),
                    Err(Error::Damaged(damaged)) => assert!(flushed && damaged == *key && at < *end),
                    Err(Error::Missing(_)) => assert!(!flushed && at < *end),
                    Err(err) => panic!("{err}"),
                }
            }
            let keys: Vec<Key> = log.kept.iter().map(|(key, ..)| *key).collect();
            if flushed {
                assert_eq!(blobs.stats().damaged, 1);
                assert_eq!(blobs.missing(&keys).len(), 1, "it can be uploaded again");
            }
            for (_, bytes, _) in &log.kept {
                put(&blobs, bytes);
            }
            assert!(blobs.missing(&keys).is_empty());
        }
    }
}

#[test]
fn a_damaged_chunk_damages_the_blob_and_an_upload_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = noise(1, 8 << 20);
    let key = put(&blobs, &bytes);
    drop(blobs);
    flip(&segments(dir.path())[0].0, 3 << 20);
    let blobs = open(dir.path());
    assert!(
        blobs.reader(&key, 0, None).unwrap().any(|part| matches!(part, Err(Error::Damaged(damaged)) if damaged == key))
    );
    assert_eq!(blobs.missing(&[key]), [0]);
    put(&blobs, &bytes);
    assert!(whole(&blobs, &key, 0, None) == bytes);
}

#[test]
fn a_scrub_finds_every_flipped_bit_and_drops_what_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let keys: Vec<Key> = (0..40).map(|seed| put(&blobs, &noise(seed, 3000))).collect();
    for (n, pair) in keys.chunks(2).enumerate() {
        blobs.set_entry(&id(&n.to_string()), Entry { needs: pair.to_vec(), ..Entry::default() }).unwrap();
    }
    drop(blobs);
    let blobs = open(dir.path());
    let mut told = Vec::new();
    let clean = blobs.verify(|done, total| told.push((done, total))).unwrap();
    assert_eq!((clean.blobs, clean.entries, clean.damaged.len(), clean.entries_dropped), (40, 20, 0, 0));
    let (last, total) = *told.last().unwrap();
    assert!(last == total && told.is_sorted());
    drop(blobs);

    // In a body, in a header, in the length of a record, in an entry.
    let record = 3064;
    let path = &segments(dir.path())[0].0;
    for at in [record * 3 + 1000, record * 8 + 20, record * 20 + 5, record * 40 + 70] {
        flip(path, at);
    }
    let blobs = open(dir.path());
    let found = blobs.verify(|_, _| {}).unwrap();
    let mut damaged = [keys[3], keys[8], keys[20]];
    damaged.sort_unstable();
    assert_eq!((found.damaged.len(), found.entries_dropped), (3, 4));
    assert!(found.damaged.contains(&keys[3]) && found.damaged.contains(&keys[20]));
    assert_eq!(blobs.missing(&keys), [3, 8, 20]);
    assert_eq!(blobs.entry(&id("0")), None);
    assert!(blobs.entry(&id("2")).is_some());
    assert_eq!((blobs.stats().entries, blobs.stats().blobs, blobs.stats().damaged), (16, 37, 3));
    let again = blobs.verify(|_, _| {}).unwrap();
    assert_eq!((again.blobs, again.entries, again.damaged.len(), again.entries_dropped), (37, 16, 0, 0));
}

#[test]
fn a_scrub_heals_from_a_second_record_if_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let key = put(&blobs, &noise(1, 3000));
    blobs.remove(&key).unwrap();
    put(&blobs, &noise(1, 3000));
    drop(blobs);
    flip(&segments(dir.path())[0].0, 3064 + 80 + 1000);
    let blobs = open(dir.path());
    assert_eq!(blobs.verify(|_, _| {}).unwrap().damaged, []);
    assert_eq!(blobs.get(&key, 3000).unwrap(), noise(1, 3000));
}

#[test]
fn a_record_inside_of_a_blob_is_never_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let victim = Function::Sha256.key_of(b"never stored");
    // A whole record as the store writes it, of a blob that says to be another.
    let other = tempfile::tempdir().unwrap();
    put(&open(other.path()), &noise(5, 12));
    let record = fs::read(&segments(other.path())[0].0).unwrap();
    let mut forged = record.clone();
    forged.extend(noise(6, 100));
    let forged = Bytes::from(forged);
    let key = put(&blobs, &forged);
    let after = put(&blobs, &noise(7, 100));
    drop(blobs);
    flip(&segments(dir.path())[0].0, 10);
    let blobs = open(dir.path());
    assert_eq!(blobs.verify(|_, _| {}).unwrap().damaged.len(), 1);
    assert_eq!(blobs.missing(&[key, after, Function::Sha256.key_of(&noise(5, 12)), victim]), [0, 2, 3]);
    fs::remove_file(dir.path().join("manifest")).ok();
    drop(blobs);
    fs::remove_file(dir.path().join("manifest")).unwrap();
    let blobs = open(dir.path());
    blobs.flush().unwrap();
    assert!(blobs.missing(&[Function::Sha256.key_of(&noise(5, 12))]) == [0]);
}
