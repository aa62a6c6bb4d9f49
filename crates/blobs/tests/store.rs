//! What a store promises to who writes and reads.

#![allow(clippy::unwrap_used)]

mod world;

use blobs::{Blobs, Durability, Entry, EntryId, Error, Function, Key, Options};
use bytes::Bytes;

use world::*;

#[test]
fn what_was_put_is_there_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [1, 100, 4096, 70_000, 2 << 20, (2 << 20) + 1, 9_000_000];
    let mut kept: Vec<(Key, Bytes)> = Vec::new();
    for (seed, size) in sizes.into_iter().enumerate() {
        for function in Function::ALL {
            let bytes = if seed % 2 == 0 { noise(seed as u64, size) } else { vec![seed as u8; size].into() };
            kept.push((function.key_of(&bytes), bytes));
        }
    }
    let keys: Vec<Key> = kept.iter().map(|(key, _)| *key).collect();
    let mut blobs = open(dir.path());
    assert_eq!(blobs.missing(&keys).len(), keys.len());
    blobs.put_many(&kept).into_iter().for_each(Result::unwrap);
    let before = blobs.stats();
    for _ in 0..2 {
        assert_eq!(blobs.missing(&keys), [0; 0]);
        for (key, bytes) in &kept {
            assert_eq!(blobs.get(key, usize::MAX).unwrap(), bytes, "{key}");
            assert_eq!(whole(&blobs, key, 0, None), &bytes[..], "{key}");
            assert_eq!(blobs.find(key.function, key.hash), Some(*key));
        }
        drop(blobs);
        blobs = open(dir.path());
        let now = blobs.stats();
        assert_eq!((now.blobs, now.blob_bytes, now.entries), (before.blobs, before.blob_bytes, before.entries));
    }
}

#[test]
fn any_part_of_a_large_blob_is_read_from_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = noise(1, 5_000_000);
    let key = put(&blobs, &bytes);
    for offset in [0, 1, 131_072, 2_500_000, 4_999_999, 5_000_000] {
        for limit in [None, Some(0), Some(1), Some(700_000), Some(u64::MAX)] {
            let end = limit.map_or(5_000_000, |limit: u64| limit.saturating_add(offset).min(5_000_000));
            assert_eq!(whole(&blobs, &key, offset, limit), &bytes[offset as usize..end as usize], "{offset} {limit:?}");
        }
    }
    assert!(matches!(blobs.reader(&key, 5_000_001, None), Err(Error::OutOfRange { offset: 5_000_001, .. })));
}

#[test]
fn files_that_are_nearly_the_same_share_their_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = noise(1, 20 << 20);
    let mut other = bytes.to_vec();
    other.splice(10 << 20..10 << 20, *b"a line more");
    put(&blobs, &bytes);
    let before = blobs.stats().disk_bytes;
    let other = put(&blobs, &other.into());
    assert!(blobs.stats().disk_bytes - before < 5 << 20);
    let chunks = blobs.chunks(&other).unwrap();
    assert!(chunks.len() > 10);
    assert_eq!(chunks.iter().map(|chunk| chunk.size).sum::<u64>(), other.size);
    assert!(blobs.missing(&chunks).is_empty());
    let together: Vec<u8> = chunks.iter().flat_map(|chunk| blobs.get(chunk, usize::MAX).unwrap()).collect();
    assert_eq!(Function::Sha256.key_of(&together), other);
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    for size in [10, 3 << 20] {
        let right = noise(1, size);
        let key = Function::Sha256.key_of(&right);
        let mut wrong = right.to_vec();
        wrong[5] ^= 1;
        for bytes in [Bytes::from(wrong.clone()), right.slice(..size - 1), [&right[..], b"x"].concat().into()] {
            let put = blobs.put_many(&[(key, bytes.clone())]).remove(0);
            assert!(matches!(put, Err(Error::WrongBytes { expected, .. }) if expected == key), "{put:?}");
            let mut writer = blobs.writer(key).unwrap();
            let streamed = bytes.chunks(1 << 20).try_for_each(|part| writer.write(part)).and_then(|()| writer.finish());
            assert!(matches!(streamed, Err(Error::WrongBytes { expected, .. }) if expected == key));
        }
        assert_eq!(blobs.missing(&[key]), [0]);
        assert!(matches!(blobs.get(&key, usize::MAX), Err(Error::Missing(_))));
        assert!(blobs.reader(&key, 0, None).is_err());
    }
}

#[test]
fn a_batch_may_have_a_blob_twice_and_a_wrong_one_among_right_ones() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let (a, b) = (noise(1, 1000), noise(2, 3_000_000));
    let (a, b) = ((Function::Sha256.key_of(&a), a), (Function::Blake3.key_of(&b), b));
    let wrong = (a.0, noise(3, 1000));
    let put = blobs.put_many(&[a.clone(), b.clone(), wrong, a.clone(), b.clone()]);
    assert_eq!(put.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true, true]);
    assert!(blobs.missing(&[a.0, b.0]).is_empty());
    let c = keyed(noise(4, 1000));
    let put = blobs.put_many(&[(c.0, noise(5, 1000)), c.clone()]);
    assert!(put[0].is_err() && put[1].is_ok());
    assert!(blobs.missing(&[c.0]).is_empty(), "the wrong one does not take the place of the right one");
}

#[test]
fn the_blob_of_no_bytes_is_always_there() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    for function in Function::ALL {
        let empty = function.key_of(&[]);
        assert!(blobs.missing(&[empty]).is_empty());
        assert_eq!(blobs.get(&empty, 0).unwrap(), "");
        assert_eq!(blobs.reader(&empty, 0, None).unwrap().count(), 0);
        assert_eq!(blobs.chunks(&empty).unwrap(), [empty]);
        put(&blobs, &Bytes::new());
        blobs.writer(empty).unwrap().finish().unwrap();
        blobs.splice(&empty, &[]).unwrap();
        assert_eq!(blobs.find(function, empty.hash), Some(empty));
    }
    assert_eq!(blobs.stats().blobs, 0);
}

#[test]
fn many_writers_of_the_same_blobs_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let large = noise(77, 6 << 20);
    let small: Vec<_> =
        (0..200).map(|seed| noise(seed, 500)).map(|bytes| (Function::Sha256.key_of(&bytes), bytes)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                small.chunks(10).for_each(|batch| blobs.put_many(batch).into_iter().for_each(Result::unwrap));
                let mut writer = blobs.writer(Function::Sha256.key_of(&large)).unwrap();
                large.chunks(100_000).for_each(|part| writer.write(part).unwrap());
                assert_eq!(writer.written(), 6 << 20);
                writer.finish().unwrap();
            });
        }
    });
    let chunks = blobs.chunks(&Function::Sha256.key_of(&large)).unwrap().len() as u64;
    assert_eq!(blobs.stats().blobs, 200 + 1 + chunks);
    assert_eq!(whole(&blobs, &Function::Sha256.key_of(&large), 0, None), large);
}

#[test]
fn an_upload_that_is_given_up_leaves_its_chunks_for_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = noise(1, 12 << 20);
    let key = Function::Sha256.key_of(&bytes);
    let mut writer = blobs.writer(key).unwrap();
    writer.write(&bytes[..11 << 20]).unwrap();
    drop(writer);
    assert_eq!(blobs.missing(&[key]), [0]);
    let before = blobs.stats().disk_bytes;
    assert!(before > 8 << 20);
    put(&blobs, &bytes);
    assert!(blobs.stats().disk_bytes - before < 5 << 20);
}

#[test]
fn a_splice_makes_a_blob_of_others_and_believes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let parts: Vec<Bytes> =
        [3 << 20, 1 << 20, 500].iter().enumerate().map(|(seed, size)| noise(seed as u64, *size)).collect();
    let keys: Vec<Key> = parts.iter().map(|part| put(&blobs, part)).collect();
    let key = Function::Sha256.key_of(&parts.concat());
    let before = blobs.stats().disk_bytes;
    blobs.splice(&key, &keys).unwrap();
    assert!(blobs.stats().disk_bytes - before < 10_000, "only a list was stored");
    assert_eq!(whole(&blobs, &key, 0, None), parts.concat());
    assert_eq!(blobs.get(&key, usize::MAX).unwrap(), parts.concat());

    let turned = [keys[1], keys[0], keys[2]];
    assert!(matches!(blobs.splice(&Function::Sha256.key_of(b"x"), &keys), Err(Error::WrongBytes { .. })));
    let lie = Key { hash: [1; 32], ..key };
    assert!(matches!(blobs.splice(&lie, &turned), Err(Error::WrongBytes { .. })));
    let absent = Function::Sha256.key_of(b"absent");
    assert!(matches!(blobs.splice(&lie, &[absent]), Err(Error::Missing(missing)) if missing == absent));
    assert_eq!(blobs.missing(&[lie]), [0]);

    let small = Function::Sha256.key_of(&parts[2].repeat(2));
    blobs.splice(&small, &[keys[2], keys[2]]).unwrap();
    assert_eq!(blobs.chunks(&small).unwrap(), [small]);
}

#[test]
fn an_entry_is_there_as_long_as_all_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let needs = vec![put(&blobs, &noise(1, 100)), put(&blobs, &noise(2, 3 << 20))];
    let entry = Entry { value: "result".into(), needs: needs.clone(), writer: "ci".into(), written: 5 };
    blobs.set_entry(&id("a"), entry.clone()).unwrap();
    assert_eq!(blobs.entry(&id("a")), Some(entry.clone()));
    assert_eq!(blobs.entry(&EntryId { space: "other".into(), ..id("a") }), None);
    let absent = Function::Sha256.key_of(b"absent");
    let refused = blobs.set_entry(&id("b"), Entry { needs: vec![absent], ..Entry::default() });
    assert!(matches!(refused, Err(Error::Missing(key)) if key == absent));
    drop(blobs);

    let blobs = open(dir.path());
    assert_eq!(blobs.entry(&id("a")), Some(entry.clone()));
    let chunk = blobs.chunks(&needs[1]).unwrap()[1];
    blobs.remove(&chunk).unwrap();
    assert_eq!(blobs.missing(&needs), [1]);
    assert_eq!(blobs.entry(&id("a")), None);
    put(&blobs, &noise(2, 3 << 20));
    assert_eq!(blobs.entry(&id("a")), Some(entry));
    blobs.remove(&needs[0]).unwrap();
    assert_eq!(blobs.entry(&id("a")), None);
}

#[test]
fn the_newest_entry_counts_and_a_removed_one_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut blobs = open(dir.path());
    for writer in ["one", "two"] {
        for name in ["a", "b", "c"] {
            blobs
                .set_entry(&id(name), Entry { writer: writer.into(), value: name.into(), ..Entry::default() })
                .unwrap();
        }
        blobs.flush().unwrap();
    }
    blobs.remove_entry(&id("b")).unwrap();
    blobs.remove_entry(&id("never there")).unwrap();
    for _ in 0..2 {
        assert_eq!(blobs.entry(&id("a")).unwrap().writer, "two");
        assert_eq!(blobs.entry(&id("b")), None);
        assert_eq!(blobs.stats().entries, 2);
        let mut seen = Vec::new();
        blobs.entries("ma", |id, entry| seen.push((id.clone(), entry.value.clone()))).unwrap();
        seen.sort_by_key(|(_, value)| value.clone());
        assert_eq!(seen, [(id("a"), "a".into()), (id("c"), "c".into())]);
        blobs.entries("other", |_, _| panic!("nothing is there")).unwrap();
        drop(blobs);
        blobs = open(dir.path());
    }
    let purged = blobs.purge(|_, entry| entry.value == "c").unwrap();
    assert_eq!(purged.entries, [id("c")]);
    assert_eq!((blobs.entry(&id("c")), blobs.stats().entries), (None, 1));
}

#[test]
fn entries_that_are_too_large_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let long = EntryId { space: "x".repeat(1025), hash: [0; 32] };
    let cases = [
        (long, Entry::default()),
        (id("a"), Entry { writer: "x".repeat(5000), ..Entry::default() }),
        (id("a"), Entry { value: vec![0; (16 << 20) + 1].into(), ..Entry::default() }),
        (id("a"), Entry { needs: vec![Function::Sha256.key_of(&[]); (1 << 20) + 1], ..Entry::default() }),
    ];
    for (id, entry) in cases {
        assert!(matches!(blobs.set_entry(&id, entry), Err(Error::TooLarge { .. })));
    }
    let most = Entry {
        value: vec![7; 16 << 20].into(),
        needs: vec![Function::Sha256.key_of(&[]); 1 << 20],
        ..Entry::default()
    };
    blobs.set_entry(&id("most"), most.clone()).unwrap();
    assert!(blobs.entry(&id("most")) == Some(most));
    assert!(matches!(
        blobs.writer(Key { size: 1 << 48, ..Function::Sha256.key_of(b"x") }),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn a_removed_blob_is_gone_from_memory_too_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let key = put(&blobs, &noise(1, 100));
    blobs.get(&key, 100).unwrap();
    assert!(matches!(blobs.get(&key, 99), Err(Error::TooLarge { size: 100, max: 99, .. })));
    blobs.remove(&key).unwrap();
    assert!(matches!(blobs.get(&key, 100), Err(Error::Missing(_))));
    assert_eq!(blobs.stats().blobs, 0);
    put(&blobs, &noise(1, 100));
    assert_eq!(blobs.get(&key, 100).unwrap(), noise(1, 100));
    assert_eq!(blobs.stats().blobs, 1);
}

#[test]
fn one_process_has_a_folder_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    assert!(matches!(Blobs::open(dir.path(), options()), Err(Error::InUse { .. })));
    let writer = blobs.writer(Function::Sha256.key_of(b"x")).unwrap();
    drop(blobs);
    assert!(matches!(Blobs::open(dir.path(), options()), Err(Error::InUse { .. })), "a writer holds it");
    drop(writer);
    open(dir.path());
}

#[test]
fn many_blobs_go_through_files_of_the_index_and_are_all_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Process, ..options() };
    let blobs = Blobs::open(dir.path(), options.clone()).unwrap();
    let kept: Vec<(Key, Bytes)> = (0..20_000u64)
        .map(|n| Bytes::copy_from_slice(&n.to_le_bytes()))
        .map(|bytes| (Function::Sha256.key_of(&bytes), bytes))
        .collect();
    for (nth, batch) in kept.chunks(500).enumerate() {
        blobs.put_many(batch).into_iter().for_each(Result::unwrap);
        if nth % 3 == 0 {
            blobs.flush().unwrap();
        }
    }
    let mut keys: Vec<Key> = kept.iter().map(|(key, _)| *key).collect();
    keys.push(Function::Sha256.key_of(b"absent"));
    assert_eq!(blobs.missing(&keys), [20_000]);
    assert_eq!(blobs.stats().blobs, 20_000);
    drop(blobs);
    let blobs = Blobs::open(dir.path(), options).unwrap();
    assert_eq!(blobs.missing(&keys), [20_000]);
    assert!(kept.iter().step_by(97).all(|(key, bytes)| blobs.get(key, 8).unwrap() == bytes));
    assert_eq!(blobs.stats().blobs, 20_000);
}
