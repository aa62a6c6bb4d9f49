//! Which segment goes first and what of it stays: S3-FIFO (Yang and others, SOSP 2023) with segments for objects.
//!
//! Two queues of segments. What is written goes to the end of the small one, which has a tenth of the bytes; what was
//! asked for by the time its segment gets to the front moves to the main one; of the rest only a fingerprint stays, and
//! who comes back while that is remembered goes to the main queue at once. The main queue goes round as long as what is
//! in it is asked for. So what is written once and never read, most of what a build makes, passes through a tenth
//! of the store and leaves the rest alone, and reading changes one byte in memory.

use std::collections::VecDeque;

/// The small queue has one part in so many of the bytes.
const SMALL_PART: u64 = 10;
/// A blob of the small queue that was asked for this often stays: once is what the build that wrote it does itself.
const PROMOTED_FROM: u8 = 2;
/// What a blob of a store has on average, to guess from its size how many it holds.
const BLOB_BYTES_AVERAGE: u64 = 16 << 10;

/// Where a segment waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// What is new and has to prove itself.
    Small,
    /// What was asked for again.
    Main,
}

/// What becomes of a record whose segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes too. Tell [`Policy::dropped`].
    Drop,
    /// It is copied to the end of the main queue, its frequency set to 0.
    Promote,
    /// It is copied to the end of the queue it is in, its frequency one less.
    Again,
}

/// The segment to empty next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The queue it is in.
    pub queue: Queue,
    /// Its number.
    pub segment: u64,
}

#[derive(Debug, Default)]
struct Fifo {
    /// The oldest first.
    segments: VecDeque<Segment>,
    bytes: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    sealed: bool,
}

/// The order of the segments of a store, and what is remembered of blobs that went.
#[derive(Debug)]
pub struct Policy {
    small: Fifo,
    main: Fifo,
    ghost: Ghost,
}

impl Policy {
    /// For a store of so many bytes. Takes at most 4 MiB, and what is not used of that is not touched.
    pub fn new(bytes_max: u64) -> Policy {
        let keys = bytes_max / BLOB_BYTES_AVERAGE;
        Policy { small: Fifo::default(), main: Fifo::default(), ghost: Ghost::new(keys) }
    }

    /// A segment is there, at the end of its queue. While it is written to, it is no victim.
    pub fn opened(&mut self, queue: Queue, segment: u64) {
        self.fifo(queue).segments.push_back(Segment { number: segment, bytes: 0, sealed: false });
    }

    /// A segment takes so many bytes more on the disk.
    pub fn grew(&mut self, queue: Queue, segment: u64, bytes: u64) {
        let fifo = self.fifo(queue);
        // The one that is written to is at the end.
        if let Some(segment) = fifo.segments.iter_mut().rev().find(|at| at.number == segment) {
            segment.bytes += bytes;
            fifo.bytes += bytes;
        }
    }

    /// A segment is written to no more.
    pub fn sealed(&mut self, queue: Queue, segment: u64) {
        if let Some(segment) = self.fifo(queue).segments.iter_mut().rev().find(|at| at.number == segment) {
            segment.sealed = true;
        }
    }

    /// A segment is gone.
    pub fn removed(&mut self, queue: Queue, segment: u64) {
        let fifo = self.fifo(queue);
        if let Some(at) = fifo.segments.iter().position(|at| at.number == segment) {
            fifo.bytes -= fifo.segments.remove(at).map_or(0, |segment| segment.bytes);
        }
    }

    /// Bytes of a queue.
    #[cfg(test)]
    pub fn bytes(&self, queue: Queue) -> u64 {
        match queue {
            Queue::Small => self.small.bytes,
            Queue::Main => self.main.bytes,
        }
    }

    /// The segment to empty next when `bytes_now` is more than `bytes_max`: the oldest of the small queue if that has
    /// more than its part, else the oldest of the main queue; of the other queue if there is none. `ripe` may refuse a
    /// segment, for example because it is so new that leases hold all of it; then the next one is asked for. `None`
    /// when all is well or nothing is left.
    pub fn victim(&self, bytes_now: u64, bytes_max: u64, ripe: impl Fn(Victim) -> bool) -> Option<Victim> {
        if bytes_now <= bytes_max {
            return None;
        }
        let order = match self.small.bytes > bytes_max / SMALL_PART {
            true => [(Queue::Small, &self.small), (Queue::Main, &self.main)],
            false => [(Queue::Main, &self.main), (Queue::Small, &self.small)],
        };
        let sealed = |(queue, fifo): (Queue, &'_ Fifo)| {
            let sealed = fifo.segments.iter().filter(|segment| segment.sealed);
            sealed.map(|segment| Victim { queue, segment: segment.number }).find(|victim| ripe(*victim))
        };
        order.into_iter().find_map(sealed)
    }

    /// What becomes of a record in a segment of `queue` that goes, by how often it was asked for since it was written
    /// there (at most 3) and whether somebody was told that it is there.
    pub fn fate(queue: Queue, frequency: u8, leased: bool) -> Fate {
        match queue {
            // Its lease outlived a whole small queue: it is not to come by every few segments.
            Queue::Small if leased || frequency >= PROMOTED_FROM => Fate::Promote,
            Queue::Main if leased || frequency > 0 => Fate::Again,
            Queue::Small | Queue::Main => Fate::Drop,
        }
    }

    /// The record of this key went. `prefix` is any 8 bytes of its hash, always the same ones.
    pub fn dropped(&mut self, prefix: u64) {
        self.ghost.remember(prefix);
    }

    /// Where a new blob is written: in the main queue if it went not long ago.
    pub fn queue_for(&mut self, prefix: u64) -> Queue {
        if self.ghost.forget(prefix) { Queue::Main } else { Queue::Small }
    }

    fn fifo(&mut self, queue: Queue) -> &mut Fifo {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }
}

/// Fingerprints of keys in buckets of [`BUCKET`], each a queue of its own: an entry stays for about as many more as
/// there is room for in all. 32 bits each, of which 0 is none; one in half a billion is taken for another.
#[derive(Debug)]
pub(crate) struct Ghost {
    buckets: Vec<[u32; BUCKET]>,
}

const BUCKET: usize = 8;
const GHOST_KEYS_MIN: u64 = 1 << 8;
const GHOST_KEYS_MAX: u64 = 1 << 20;

impl Ghost {
    /// For about so many keys, within 256 and 1 Mi.
    pub(crate) fn new(keys: u64) -> Ghost {
        let keys = keys.clamp(GHOST_KEYS_MIN, GHOST_KEYS_MAX);
        Ghost { buckets: vec![[0; BUCKET]; keys as usize / BUCKET] }
    }

    pub(crate) fn remember(&mut self, prefix: u64) {
        self.forget(prefix);
        let (bucket, fingerprint) = self.place(prefix);
        bucket.copy_within(..BUCKET - 1, 1);
        bucket[0] = fingerprint;
    }

    /// Whether it was remembered.
    pub(crate) fn forget(&mut self, prefix: u64) -> bool {
        let (bucket, fingerprint) = self.place(prefix);
        let found = bucket.iter_mut().find(|at| **at == fingerprint);
        found.map(|at| *at = 0).is_some()
    }

    fn place(&mut self, prefix: u64) -> (&mut [u32; BUCKET], u32) {
        let bucket = (prefix >> 32) % self.buckets.len() as u64;
        (&mut self.buckets[bucket as usize], (prefix as u32).max(1))
    }
}

#[cfg(test)]
mod tests;
