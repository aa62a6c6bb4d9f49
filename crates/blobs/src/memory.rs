//! The hot tier: small blobs that are read often, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::Key;
use crate::policy::Ghost;

/// Parts with a lock each, so that threads seldom meet.
const SHARDS: usize = 8;
/// A blob may have one part in so many of all bytes: half of its shard.
const BLOB_PART: usize = 16;
/// What a blob takes besides its bytes: its key twice, its places, the allocation.
const OVERHEAD_BYTES: usize = 192;
/// The small queue has one part in so many of a shard's bytes, as on the disk.
const SMALL_PART: usize = 10;
/// Bytes of a small blob with all it takes, to guess how many went through a shard.
const BLOB_BYTES_AVERAGE: usize = 2 << 10;
const FREQUENCY_MAX: u8 = 3;

/// Blobs in memory, bounded by their bytes, in the order of S3-FIFO. Any number of threads.
#[derive(Debug)]
pub struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    blob_bytes_max: usize,
}

#[derive(Debug)]
struct Shard {
    slots: HashMap<Key, Slot>,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    bytes_max: usize,
    /// Numbers the places given so far.
    places: u64,
}

/// The oldest first, each with the number of its place: a place whose blob has another one by now, or none, is void.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<(Key, u64)>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    bytes: Bytes,
    frequency: u8,
    in_main: bool,
    place: u64,
}

impl Slot {
    fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

impl Memory {
    /// For at most so many bytes, what blobs take besides their content included. 0 keeps nothing.
    pub fn new(bytes_max: usize) -> Memory {
        let shard = || Mutex::new(Shard::new(bytes_max / SHARDS));
        Memory { shards: std::array::from_fn(|_| shard()), blob_bytes_max: bytes_max / BLOB_PART }
    }

    /// A blob, if it is here; it counts as asked for once more.
    pub fn lookup(&self, key: &Key) -> Option<Bytes> {
        let mut shard = self.shard(key);
        let slot = shard.slots.get_mut(key)?;
        slot.frequency = (slot.frequency + 1).min(FREQUENCY_MAX);
        Some(slot.bytes.clone())
    }

    /// Keeps a copy of a blob, and lets others go for it. One of more than a sixteenth of all bytes is not kept.
    pub fn keep(&self, key: &Key, bytes: &Bytes) {
        if bytes.len() + OVERHEAD_BYTES <= self.blob_bytes_max {
            // A copy, as the bytes may be a part of a message that would stay as a whole.
            self.shard(key).keep(*key, Bytes::copy_from_slice(bytes));
        }
    }

    /// Lets a blob go: it is no longer in the store, or was damaged there.
    pub fn forget(&self, key: &Key) {
        self.shard(key).forget(key);
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(lock).map(|shard| shard.bytes()).sum()
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[key.hash[31] as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefix(key: &Key) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| key.hash[at]))
}

impl Shard {
    fn new(bytes_max: usize) -> Shard {
        let ghost = Ghost::new((bytes_max / BLOB_BYTES_AVERAGE) as u64);
        Shard { slots: HashMap::new(), small: Queue::default(), main: Queue::default(), ghost, bytes_max, places: 0 }
    }

    fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    fn keep(&mut self, key: Key, bytes: Bytes) {
        if self.slots.contains_key(&key) {
            return;
        }
        let in_main = self.ghost.forget(prefix(&key));
        let slot = Slot { bytes, frequency: 0, in_main, place: 0 };
        while self.bytes() + slot.weight() > self.bytes_max && self.evict_one() {}
        self.place(key, slot);
    }

    fn forget(&mut self, key: &Key) {
        let Some(slot) = self.slots.remove(key) else { return };
        let live = self.slots.len();
        let Shard { slots, small, main, .. } = self;
        let queue = if slot.in_main { main } else { small };
        queue.bytes -= slot.weight();
        // Void places go when they come to the front; this bounds them when none ever does.
        if queue.order.len() > 2 * live + 64 {
            queue.order.retain(|(key, place)| slots.get(key).is_some_and(|slot| slot.place == *place));
        }
    }

    /// Puts a blob at the end of its queue.
    fn place(&mut self, key: Key, mut slot: Slot) {
        self.places += 1;
        slot.place = self.places;
        let queue = if slot.in_main { &mut self.main } else { &mut self.small };
        queue.bytes += slot.weight();
        queue.order.push_back((key, slot.place));
        self.slots.insert(key, slot);
    }

    /// Moves on the queue that has too much; `false` when both are empty.
    fn evict_one(&mut self) -> bool {
        let from_small = self.small.bytes > self.bytes_max / SMALL_PART || self.main.bytes == 0;
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let Some((key, place)) = queue.order.pop_front() else { return false };
        if self.slots.get(&key).is_none_or(|slot| slot.place != place) {
            return true;
        }
        let Some(mut slot) = self.slots.remove(&key) else { return true };
        queue.bytes -= slot.weight();
        if slot.in_main && slot.frequency > 0 {
            slot.frequency -= 1;
            self.place(key, slot);
        } else if !slot.in_main && slot.frequency > 1 {
            (slot.in_main, slot.frequency) = (true, 0);
            self.place(key, slot);
        } else if !slot.in_main {
            self.ghost.remember(prefix(&key));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;
    use crate::testing::Random;

    fn blob(number: u64, size: usize) -> (Key, Bytes) {
        let bytes = Bytes::from(Random::new(number).bytes(size));
        (Function::Sha256.key_of(&bytes), bytes)
    }

    #[test]
    fn what_is_kept_is_found_until_it_is_forgotten() {
        let memory = Memory::new(1 << 20);
        let (key, bytes) = blob(1, 1000);
        assert_eq!(memory.lookup(&key), None);
        memory.keep(&key, &bytes);
        memory.keep(&key, &bytes);
        assert_eq!(memory.lookup(&key), Some(bytes));
        assert_eq!(memory.bytes(), 1000 + OVERHEAD_BYTES);
        memory.forget(&key);
        memory.forget(&key);
        assert_eq!((memory.lookup(&key), memory.bytes()), (None, 0));
    }

    #[test]
    fn it_never_takes_more_than_it_may() {
        let memory = Memory::new(1 << 20);
        let mut random = Random::new(9);
        for number in 0..20_000 {
            let (key, bytes) = blob(number % 3_000, random.below(9_000) as usize);
            memory.keep(&key, &bytes);
            if random.below(3) == 0 {
                memory.lookup(&key);
            }
            if random.below(5) == 0 {
                memory.forget(&key);
            }
            assert!(memory.bytes() <= 1 << 20);
        }
        assert!(memory.bytes() > 900 << 10, "it is used: {}", memory.bytes());
    }

    #[test]
    fn a_large_blob_is_not_kept() {
        let memory = Memory::new(1 << 20);
        let (key, bytes) = blob(1, (1 << 20) / 16);
        memory.keep(&key, &bytes);
        assert_eq!((memory.lookup(&key), memory.bytes()), (None, 0));
        let none = Memory::new(0);
        let (key, bytes) = blob(2, 0);
        none.keep(&key, &bytes);
        assert_eq!(none.bytes(), 0);
    }

    #[test]
    fn a_kept_part_of_a_message_does_not_keep_the_message() {
        let memory = Memory::new(1 << 20);
        let message = Bytes::from(vec![7; 4 << 20]);
        let part = message.slice(..100);
        let key = Function::Sha256.key_of(&part);
        memory.keep(&key, &part);
        drop(part);
        assert!(message.is_unique());
    }

    #[test]
    fn what_is_read_often_outlasts_a_stream_that_is_read_once() {
        let memory = Memory::new(1 << 20);
        let hot: Vec<_> = (0..100).map(|number| blob(number, 1000)).collect();
        for round in 0..200 {
            for (key, bytes) in &hot {
                if memory.lookup(key).is_none() {
                    assert!(round < 5, "gone in round {round}");
                    memory.keep(key, bytes);
                }
            }
            for number in 0..500 {
                let (key, bytes) = blob(1_000_000 + round * 500 + number, 1000);
                memory.keep(&key, &bytes);
            }
        }
    }

    #[test]
    fn keeping_and_forgetting_for_ever_takes_no_memory() {
        let memory = Memory::new(1 << 20);
        let (key, bytes) = blob(1, 100);
        for _ in 0..10_000 {
            memory.keep(&key, &bytes);
            memory.forget(&key);
        }
        let places: usize = memory.shards.iter().map(lock).map(|shard| shard.small.order.len()).sum();
        assert!(places <= 65, "{places} void places");
    }

    #[test]
    fn threads_find_what_threads_keep() {
        let memory = Memory::new(4 << 20);
        let blobs: Vec<_> = (0..500).map(|number| blob(number, 500)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (key, bytes) in blobs.iter().cycle().take(5_000) {
                        match memory.lookup(key) {
                            Some(found) => assert_eq!(found, bytes),
                            None => memory.keep(key, bytes),
                        }
                    }
                });
            }
        });
        assert_eq!(memory.bytes(), 500 * (500 + OVERHEAD_BYTES));
    }
}
