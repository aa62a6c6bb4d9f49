//! A store that only counts, over traces that are made up, side by side with the least recently used.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::testing::Random;

/// One request after another: a key and the size of its blob.
type Trace = Vec<(u64, u64)>;

/// What a policy did with a trace.
struct Score {
    misses: f64,
    /// Bytes copied from segment to segment, of the bytes written.
    copied: f64,
}

struct Segments {
    policy: Policy,
    records: HashMap<u64, Record>,
    segments: HashMap<u64, Vec<u64>>,
    open: HashMap<Queue, (u64, u64)>,
    next: u64,
    bytes: u64,
    bytes_max: u64,
    written: u64,
    copied: u64,
}

struct Record {
    size: u64,
    frequency: u8,
}

impl Segments {
    fn new(bytes_max: u64) -> Segments {
        Segments {
            policy: Policy::new(bytes_max),
            records: HashMap::new(),
            segments: HashMap::new(),
            open: HashMap::new(),
            next: 0,
            bytes: 0,
            bytes_max,
            written: 0,
            copied: 0,
        }
    }

    /// Whether it was there; it is afterwards.
    fn ask(&mut self, key: u64, size: u64) -> bool {
        if let Some(record) = self.records.get_mut(&key) {
            record.frequency = (record.frequency + 1).min(3);
            return true;
        }
        let queue = self.policy.queue_for(spread(key));
        self.written += size;
        self.write(queue, key, size, 0);
        while let Some(victim) = self.policy.victim(self.bytes, self.bytes_max, |_| true) {
            self.empty(victim);
        }
        false
    }

    fn write(&mut self, queue: Queue, key: u64, size: u64, frequency: u8) {
        let (segment, filled) = *self.open.entry(queue).or_insert_with(|| {
            self.next += 1;
            self.policy.opened(queue, self.next);
            (self.next, 0)
        });
        self.records.insert(key, Record { size, frequency });
        self.segments.entry(segment).or_default().push(key);
        self.policy.grew(queue, segment, size);
        self.bytes += size;
        self.open.insert(queue, (segment, filled + size));
        if filled + size > self.bytes_max / 64 {
            self.policy.sealed(queue, segment);
            self.open.remove(&queue);
        }
    }

    fn empty(&mut self, victim: Victim) {
        for key in self.segments.remove(&victim.segment).unwrap() {
            let Record { size, frequency, .. } = self.records[&key];
            self.bytes -= size;
            let (queue, frequency) = match Policy::fate(victim.queue, frequency, false) {
                Fate::Drop => {
                    self.records.remove(&key);
                    self.policy.dropped(spread(key));
                    continue;
                }
                Fate::Promote => (Queue::Main, 0),
                Fate::Again => (victim.queue, frequency - 1),
            };
            self.copied += size;
            self.write(queue, key, size, frequency);
        }
        self.policy.removed(victim.queue, victim.segment);
        assert_eq!(self.policy.bytes(Queue::Small) + self.policy.bytes(Queue::Main), self.bytes);
    }
}

/// Keys are hashes in a store.
fn spread(key: u64) -> u64 {
    Random::new(key).next()
}

fn s3_fifo(trace: &Trace, bytes_max: u64) -> Score {
    let mut store = Segments::new(bytes_max);
    let misses = trace.iter().filter(|(key, size)| !store.ask(*key, *size)).count();
    Score { misses: misses as f64 / trace.len() as f64, copied: store.copied as f64 / store.written as f64 }
}

/// Exact to the blob, which a store of segments could not be.
fn least_recently_used(trace: &Trace, bytes_max: u64) -> f64 {
    let (mut last, mut order, mut bytes, mut misses) = (HashMap::new(), BTreeMap::new(), 0, 0);
    for (now, (key, size)) in trace.iter().enumerate() {
        match last.insert(*key, now) {
            Some(before) => drop(order.remove(&before)),
            None => (misses, bytes) = (misses + 1, bytes + size),
        }
        order.insert(now, (*key, *size));
        while bytes > bytes_max {
            let (_, (key, size)) = order.pop_first().unwrap();
            last.remove(&key);
            bytes -= size;
        }
    }
    f64::from(misses) / trace.len() as f64
}

/// 1 KiB to 64 KiB, the same for a key always, small ones more often.
fn size(key: u64) -> u64 {
    1024 << (spread(key) % 7)
}

/// Keys 0 to `keys` in the proportions of Zipf's law.
fn zipf(keys: usize, exponent: f64) -> impl FnMut(&mut Random) -> u64 {
    let mut sums = Vec::with_capacity(keys);
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += (rank as f64).powf(-exponent);
        sums.push(sum);
    }
    move |random| sums.partition_point(|at| *at < random.unit() * sum) as u64
}

fn sized(keys: impl Iterator<Item = u64>) -> Trace {
    keys.map(|key| (key, size(key))).collect()
}

const KEYS: usize = 6_000;
const REQUESTS: usize = 60_000;
/// A tenth of what [`KEYS`] keys take.
const ROOM: u64 = KEYS as u64 * 18_578 / 10;

/// Misses of the policy and of the least recently used, and the policy's copying.
fn compare(trace: &Trace) -> (f64, f64, f64) {
    let (ours, lru) = (s3_fifo(trace, ROOM), least_recently_used(trace, ROOM));
    (ours.misses, lru, ours.copied)
}

/// Keys that nobody asks for twice.
fn fresh() -> impl FnMut() -> u64 {
    let mut last = 1 << 32;
    move || {
        last += 1;
        last
    }
}

#[test]
fn on_zipf_it_misses_less_than_the_least_recently_used() {
    for exponent in [0.6, 0.8, 1.0, 1.2] {
        let mut random = Random::new(1);
        let mut pick = zipf(KEYS, exponent);
        let (ours, lru, copied) = compare(&sized((0..REQUESTS).map(|_| pick(&mut random))));
        assert!(ours <= lru, "zipf {exponent}: {ours} of requests miss, {lru} with the least recently used");
        assert!(copied < 4.0, "zipf {exponent}: {copied} bytes are copied for one written");
    }
}

#[test]
fn blobs_asked_for_once_leave_the_others_alone() {
    for part in [2, 4] {
        let (mut random, mut fresh) = (Random::new(2), fresh());
        let mut pick = zipf(KEYS, 0.9);
        let keys = (0..REQUESTS).map(|_| if random.below(part) == 0 { fresh() } else { pick(&mut random) });
        let (ours, lru, _) = compare(&sized(keys));
        assert!(ours < lru - 0.08, "one of {part} once only: {ours} miss, {lru} with the least recently used");
    }
}

#[test]
fn a_scan_as_large_as_the_store_does_not_empty_it() {
    let (mut random, mut fresh) = (Random::new(3), fresh());
    let mut pick = zipf(KEYS, 0.9);
    let keys = (0..REQUESTS).map(|nth| if nth % 10_000 < 7_000 { pick(&mut random) } else { fresh() });
    let (ours, lru, _) = compare(&sized(keys));
    assert!(ours < lru - 0.03, "{ours} miss, {lru} with the least recently used");
}

#[test]
fn builds_that_share_most_and_write_their_own_find_what_they_share() {
    // 400 keys that all ask for, a fifth of them new ones every ten builds, and 300 of each build's own.
    let keys = (0..150u64).flat_map(|build| {
        let shared = (0..400).map(move |at| if at % 5 == 0 { (build / 10 + 1) << 20 | at } else { at });
        shared.chain((0..300).map(move |at| (build + 1) << 40 | at))
    });
    let (ours, lru, copied) = compare(&sized(keys));
    // 3 of 7 cannot be found.
    assert!(ours < 0.48 && lru > ours + 0.2, "{ours} miss, {lru} with the least recently used");
    assert!(copied < 0.5, "{copied} bytes are copied for one written");
}

#[test]
fn a_loop_that_fits_stays_and_one_that_does_not_is_no_worse_than_ever() {
    let around = |tenths: u64| sized((0..REQUESTS as u64).map(|nth| nth % (KEYS as u64 * tenths / 100)));
    let (ours, lru, copied) = compare(&around(9));
    assert!(ours <= lru && ours < 0.02 && copied == 0.0, "{ours} miss, {lru}; {copied} copied");
    for tenths in [12, 20] {
        let (ours, lru, _) = compare(&around(tenths));
        assert!(ours <= lru, "{tenths}: {ours} miss, {lru} with the least recently used");
    }
}

#[test]
fn nothing_goes_while_there_is_room() {
    let mut policy = Policy::new(1 << 30);
    policy.opened(Queue::Small, 1);
    policy.grew(Queue::Small, 1, 100);
    policy.sealed(Queue::Small, 1);
    assert_eq!(policy.victim(100, 100, |_| true), None);
    assert_eq!(policy.victim(101, 100, |_| true), Some(Victim { queue: Queue::Small, segment: 1 }));
}

#[test]
fn the_small_queue_gives_when_it_has_more_than_its_tenth_and_the_main_one_otherwise() {
    let mut policy = Policy::new(1 << 30);
    for (queue, segment, bytes) in [(Queue::Main, 1, 500), (Queue::Small, 2, 90), (Queue::Small, 3, 0)] {
        policy.opened(queue, segment);
        policy.grew(queue, segment, bytes);
        policy.sealed(queue, segment);
    }
    assert_eq!(policy.victim(1001, 1000, |_| true), Some(Victim { queue: Queue::Main, segment: 1 }));
    policy.grew(Queue::Small, 3, 20);
    assert_eq!(policy.victim(1001, 1000, |_| true), Some(Victim { queue: Queue::Small, segment: 2 }));
    // Its oldest is not ripe: the next of the same queue, then the other queue's.
    assert_eq!(policy.victim(1001, 1000, |at| at.segment != 2), Some(Victim { queue: Queue::Small, segment: 3 }));
    assert_eq!(policy.victim(1001, 1000, |at| at.queue == Queue::Main).map(|at| at.segment), Some(1));
    policy.removed(Queue::Small, 2);
    policy.removed(Queue::Small, 2);
    assert_eq!((policy.bytes(Queue::Small), policy.bytes(Queue::Main)), (20, 500));
}

#[test]
fn a_segment_that_is_written_to_does_not_go() {
    let mut policy = Policy::new(1 << 30);
    policy.opened(Queue::Small, 1);
    policy.grew(Queue::Small, 1, 1_000);
    assert_eq!(policy.victim(1_000, 10, |_| true), None);
}

#[test]
fn a_lease_and_being_asked_for_save_a_record() {
    use {Fate::*, Queue::*};
    let fates = |queue, leased| [0, 1, 2, 3].map(|frequency| Policy::fate(queue, frequency, leased));
    assert_eq!(fates(Small, false), [Drop, Drop, Promote, Promote]);
    assert_eq!(fates(Main, false), [Drop, Again, Again, Again]);
    assert_eq!(fates(Small, true), [Promote; 4]);
    assert_eq!(fates(Main, true), [Again; 4]);
}

#[test]
fn who_comes_back_soon_goes_to_the_main_queue_once() {
    let mut policy = Policy::new(0);
    policy.dropped(7);
    policy.dropped(7);
    assert_eq!(policy.queue_for(8), Queue::Small);
    assert_eq!(policy.queue_for(7), Queue::Main);
    assert_eq!(policy.queue_for(7), Queue::Small);
}

#[test]
fn as_many_keys_are_remembered_as_the_store_holds_and_no_more() {
    let mut policy = Policy::new(10_000 * BLOB_BYTES_AVERAGE);
    (0..100_000).for_each(|key| policy.dropped(spread(key)));
    let mut known =
        |keys: std::ops::Range<u64>| keys.filter(|key| policy.queue_for(spread(*key)) == Queue::Main).count();
    let (newest, older, oldest) = (known(95_000..100_000), known(90_000..95_000), known(0..75_000));
    assert!(newest > 4_700, "{newest} of the newest 5000");
    assert!((1_000..4_900).contains(&older), "{older} of the 5000 before");
    assert!(oldest < 100, "{oldest} of the oldest 75000");
}

#[test]
fn what_is_remembered_takes_at_most_four_mebibytes() {
    let ghost = Ghost::new(u64::MAX);
    assert_eq!(ghost.buckets.len() * size_of::<[u32; BUCKET]>(), 4 << 20);
}
