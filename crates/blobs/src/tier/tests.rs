//! A store over a tier that is a map, which can be gone.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::testing::Random;
use crate::{Entry, EntryId, Function, Key, Options};

#[derive(Default)]
struct Cloud {
    copies: Mutex<HashMap<Copy, (Vec<u8>, Bytes)>>,
    gone: AtomicBool,
    fetches: AtomicU64,
}

struct World {
    dir: tempfile::TempDir,
    cloud: Arc<Cloud>,
    tier: Tier,
    blobs: Blobs,
}

fn fetch(cloud: &Arc<Cloud>) -> Fetch {
    let cloud = cloud.clone();
    Box::new(move |pieces, _| {
        cloud.fetches.fetch_add(1, Relaxed);
        let piece = |piece: &Piece| {
            if cloud.gone.load(Relaxed) {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let copies = lock(&cloud.copies);
            let (bytes, _) = copies.get(&piece.copy).ok_or(io::ErrorKind::NotFound)?;
            Ok(Bytes::copy_from_slice(&bytes[piece.offset as usize..][..piece.length as usize]))
        };
        pieces.iter().map(piece).collect()
    })
}

impl World {
    fn new() -> World {
        World::over(Arc::default())
    }
    /// Another machine with the same tier.
    fn over(cloud: Arc<Cloud>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { bytes_max: 24 << 20, lease: Duration::ZERO, memory_bytes: 0, ..Options::default() };
        let blobs = Blobs::open(dir.path(), options).unwrap();
        let tier = Tier::attach(&blobs, fetch(&cloud)).unwrap();
        World { dir, cloud, tier, blobs }
    }
    fn reopened(self) -> World {
        let World { dir, cloud, tier, blobs } = self;
        drop((tier, blobs));
        let options = Options { bytes_max: 24 << 20, lease: Duration::ZERO, memory_bytes: 0, ..Options::default() };
        let blobs = Blobs::open(dir.path(), options).unwrap();
        let tier = Tier::attach(&blobs, fetch(&cloud)).unwrap();
        World { dir, cloud, tier, blobs }
    }
    fn puts(&self, numbers: std::ops::Range<u64>, size: usize) -> Vec<Key> {
        let put = |number| {
            let bytes = Bytes::from(Random::new(number).bytes(size));
            let key = Function::Sha256.key_of(&bytes);
            self.blobs.put_many(&[(key, bytes)]).remove(0).unwrap();
            key
        };
        numbers.map(put).collect()
    }
    /// Copies all sealed segments.
    fn copies(&self) -> u64 {
        let mut count = 0;
        while let Some(outgoing) = self.tier.next_copy().unwrap() {
            self.sends(outgoing);
            count += 1;
        }
        count
    }
    fn sends(&self, outgoing: Outgoing) {
        let bytes = outgoing.read(0, outgoing.bytes() as usize).unwrap().to_vec();
        let copy = outgoing.copy().clone();
        lock(&self.cloud.copies).insert(copy, (bytes, outgoing.index().unwrap()));
        self.tier.copied(outgoing).unwrap();
    }
    fn adopts(&self) {
        let copies: Vec<_> = lock(&self.cloud.copies).iter().map(|(copy, it)| (copy.clone(), it.clone())).collect();
        for (copy, (bytes, index)) in copies {
            self.tier.adopt(copy, bytes.len() as u64, &index).unwrap();
        }
    }
    fn has(&self, key: &Key) -> bool {
        match self.blobs.get(key, 64 << 20) {
            Ok(bytes) => {
                assert_eq!(key.function.key_of(&bytes), *key);
                true
            }
            Err(Error::Missing(_)) => false,
            Err(err) => panic!("{err}"),
        }
    }
    /// Writes until the sealed segments hold all that was written before, and copies them.
    fn seals(&self) {
        self.puts(1 << 40..(1 << 40) + 3, 400 << 10);
        self.copies();
    }
}

fn id(number: u8) -> EntryId {
    EntryId { space: "main".into(), hash: [number; 32] }
}

fn entry(writer: &str, needs: &[Key]) -> Entry {
    Entry { value: "result".into(), needs: needs.to_vec(), writer: writer.into(), written: 5 }
}

#[test]
fn a_store_on_an_empty_disk_finds_what_another_copied() {
    let first = World::new();
    let small = first.puts(0..200, 2_000);
    let large = first.puts(1_000..1_001, 3 << 20);
    first.blobs.set_entry(&id(1), entry("ci", &[small[0], large[0]])).unwrap();
    first.seals();
    let second = World::over(first.cloud.clone());
    assert!(!second.has(&small[0]), "it knows of nothing yet");
    second.adopts();
    assert_eq!(second.blobs.missing(&small).len(), small.len(), "only what is here is said to be here");
    assert_eq!(second.blobs.entry(&id(1)), Some(entry("ci", &[small[0], large[0]])));
    assert!(second.blobs.missing(&[small[0], large[0]]).is_empty(), "an entry comes with all it needs");
    assert!(small.iter().chain(&large).all(|key| second.has(key)));
    assert_eq!(second.blobs.missing(&small), [0usize; 0]);
    assert!(second.tier.stats().recalled > 0);
    let second = second.reopened();
    assert!(small.iter().chain(&large).all(|key| second.has(key)));
}

#[test]
fn what_is_known_of_the_tier_outlives_a_restart() {
    let first = World::new();
    let keys = first.puts(0..50, 2_000);
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    let second = second.reopened();
    let copies = second.tier.stats().copies;
    second.adopts();
    assert_eq!(second.tier.stats().copies, copies, "a copy is adopted once");
    assert!(second.has(&keys[7]));
    let first = first.reopened();
    assert_eq!(first.copies(), 0, "what was copied is not copied again");
}

#[test]
fn nobody_waits_for_a_tier_that_is_gone_and_it_is_used_again_when_it_is_back() {
    let first = World::new();
    let keys = first.puts(0..50, 2_000);
    first.blobs.set_entry(&id(1), entry("ci", &keys[..2])).unwrap();
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    second.cloud.gone.store(true, Relaxed);
    assert!(!second.has(&keys[0]));
    let asked = second.cloud.fetches.load(Relaxed);
    assert!(keys.iter().all(|key| !second.has(key)));
    assert_eq!(second.blobs.entry(&id(1)), None);
    assert_eq!(second.cloud.fetches.load(Relaxed), asked, "it is left alone for a second");
    assert!(second.tier.stats().unreachable >= 50);
    second.cloud.gone.store(false, Relaxed);
    *lock(&second.tier.below.breaker) = Breaker::default();
    assert_eq!(second.blobs.entry(&id(1)), Some(entry("ci", &keys[..2])));
    assert!(keys.iter().all(|key| second.has(key)));
}

#[test]
fn what_came_back_wrong_is_missing_and_not_served() {
    let first = World::new();
    let keys = first.puts(0..50, 2_000);
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    for (bytes, _) in lock(&second.cloud.copies).values_mut() {
        bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
    }
    assert!(keys.iter().all(|key| !second.has(key)));
}

#[test]
fn a_copy_that_is_gone_is_a_miss_and_forgotten_when_that_is_said() {
    let first = World::new();
    let keys = first.puts(0..50, 2_000);
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    lock(&second.cloud.copies).clear();
    assert!(!second.has(&keys[0]));
    assert!(!lock(&second.tier.below.breaker).is_open(Instant::now()), "the tier is there, a copy is not");
    second.tier.copies().iter().for_each(|copy| second.tier.forget(copy).unwrap());
    let asked = second.cloud.fetches.load(Relaxed);
    assert!(!second.has(&keys[0]));
    assert_eq!((second.cloud.fetches.load(Relaxed), second.tier.stats().copies), (asked, 0));
}

#[test]
fn purged_entries_do_not_come_back_from_below() {
    let first = World::new();
    let keys = first.puts(0..3, 2_000);
    first.blobs.set_entry(&id(1), entry("mallory", &keys)).unwrap();
    first.blobs.set_entry(&id(2), entry("ci", &keys)).unwrap();
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    // Only below: a purge cannot see whose it is.
    second.blobs.purge(|_, entry| entry.writer == "mallory").unwrap();
    assert_eq!(second.blobs.entry(&id(1)), None);
    assert!(second.has(&keys[0]), "blobs are what they are, whoever wrote them");
    let second = second.reopened();
    assert_eq!(second.blobs.entry(&id(1)), None);
    // What is written after a purge comes back.
    first.blobs.set_entry(&id(3), entry("ci", &keys)).unwrap();
    first.puts(1 << 41..(1 << 41) + 3, 400 << 10);
    first.copies();
    second.adopts();
    assert_eq!(second.blobs.entry(&id(3)), Some(entry("ci", &keys)));
}

#[test]
fn what_was_removed_by_hand_does_not_come_back_from_below() {
    let first = World::new();
    let keys = first.puts(0..3, 2_000);
    first.blobs.set_entry(&id(1), entry("ci", &keys[1..])).unwrap();
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    second.blobs.remove(&keys[0]).unwrap();
    second.blobs.remove_entry(&id(1)).unwrap();
    let second = second.reopened();
    assert!(!second.has(&keys[0]) && second.has(&keys[1]));
    assert_eq!(second.blobs.entry(&id(1)), None);
}

#[test]
fn an_entry_that_was_overwritten_before_its_segment_was_copied_does_not_come_back_as_it_was() {
    let first = World::new();
    let keys = first.puts(0..3, 2_000);
    first.blobs.set_entry(&id(1), entry("old", &keys)).unwrap();
    first.puts(1 << 40..(1 << 40) + 3, 400 << 10);
    first.blobs.set_entry(&id(1), entry("new", &keys)).unwrap();
    first.copies();
    let second = World::over(first.cloud.clone());
    second.adopts();
    assert_eq!(second.blobs.entry(&id(1)), None, "the new one is in no copy, and the old one in none either");
}

#[test]
fn a_damaged_blob_heals_from_below() {
    let world = World::new();
    let keys = world.puts(0..20, 2_000);
    world.seals();
    let segments = world.dir.path().join("segments");
    for file in fs::read_dir(segments).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    assert!(keys.iter().all(|key| world.has(key)));
}

#[test]
fn many_who_ask_for_one_blob_fetch_it_once() {
    let first = World::new();
    let keys = first.puts(0..20, 2_000);
    first.seals();
    let second = World::over(first.cloud.clone());
    second.adopts();
    std::thread::scope(|scope| {
        (0..16).for_each(|_| drop(scope.spawn(|| assert!(second.has(&keys[3])))));
    });
    assert_eq!(second.cloud.fetches.load(Relaxed), 1);
}

#[test]
fn what_the_disk_had_no_room_for_comes_back_and_is_not_copied_again() {
    let world = World::new();
    let mut keys = Vec::new();
    for round in 0..12 {
        keys.extend(world.puts(round * 1_000..round * 1_000 + 30, 110 << 10));
        world.copies();
    }
    assert!(world.blobs.missing(&keys).len() > 100, "39 MiB are more than there is room for");
    let copies = world.tier.stats().copies;
    for key in &keys {
        assert!(world.has(key), "{:?}", world.tier.stats());
        world.copies();
    }
    let more = world.tier.stats().copies - copies;
    assert!(more <= 2, "{more} more copies, for what was in segments that were not full");
    assert_eq!((world.tier.stats().overtaken, world.tier.stats().unreachable), (0, 0));
}

#[test]
fn a_segment_that_goes_while_it_is_copied_is_not_lost() {
    let world = World::new();
    let keys = world.puts(0..4, 110 << 10);
    let outgoing = world.tier.next_copy().unwrap().unwrap();
    world.blobs.collect(Some(0), None).unwrap();
    assert_eq!(world.blobs.missing(&keys).len(), keys.len());
    assert_eq!(world.tier.stats().overtaken, 1, "the one that was not full; how the copy ends is not known");
    world.sends(outgoing);
    assert_eq!(world.tier.stats().overtaken, 1);
    assert_eq!(keys.iter().filter(|key| world.has(key)).count(), 3);
}

#[test]
fn what_goes_before_it_is_copied_is_told() {
    let world = World::new();
    let keys = world.puts(0..3, 110 << 10);
    world.blobs.collect(Some(0), None).unwrap();
    assert_eq!(world.blobs.missing(&keys).len(), keys.len());
    assert_eq!(world.tier.stats().overtaken, 1, "it was sealed only to be emptied, and nobody saw it wait");
    assert_eq!(world.tier.stats().overtaken, 1, "it is counted once");
}

#[test]
fn a_copy_that_fails_after_its_segment_went_is_told() {
    let world = World::new();
    world.puts(0..4, 110 << 10);
    let outgoing = world.tier.next_copy().unwrap().unwrap();
    world.blobs.collect(Some(0), None).unwrap();
    let before = world.tier.stats().overtaken;
    drop(outgoing);
    assert_eq!(world.tier.stats().overtaken, before + 1);
}

#[test]
fn what_came_back_and_goes_again_is_not_lost() {
    let world = World::new();
    let keys = world.puts(0..3, 110 << 10);
    world.seals();
    world.blobs.collect(Some(0), None).unwrap();
    let before = world.tier.stats().overtaken;
    assert!(keys.iter().all(|key| world.has(key)));
    world.blobs.collect(Some(0), None).unwrap();
    assert_eq!(world.blobs.missing(&keys).len(), keys.len(), "it went, and nobody copied it again");
    assert_eq!(world.tier.stats().overtaken, before);
    assert!(keys.iter().all(|key| world.has(key)));
}

#[test]
fn hundreds_of_copies_stay_few_files() {
    let world = World::new();
    for round in 0..40 {
        world.puts(round * 1_000..round * 1_000 + 4, 110 << 10);
        world.copies();
    }
    assert!(world.tier.stats().copies > 20);
    let runs = lock(&world.tier.below.state).runs.len();
    assert!(runs < 8, "{runs} runs");
    let files = fs::read_dir(world.dir.path().join("below")).unwrap().count();
    assert!(files <= runs + 2, "{files} files");
}

#[test]
fn a_tier_is_attached_once() {
    let world = World::new();
    assert!(Tier::attach(&world.blobs, fetch(&world.cloud)).is_err());
}
