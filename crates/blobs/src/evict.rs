//! Making room: whole segments go, and what of them is leased or liked is copied before.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;

use crate::Error;
use crate::disk::{Disk, cannot, lock};
use crate::index::{Found, Seen};
use crate::lease::{frequency, now_ms, with_frequency};
use crate::log::{Draft, Rule};
use crate::policy::{Fate, Policy, Queue, Victim};
use crate::record::{HEADER_BYTES, Header, Kind};
use crate::segment::{Segment, Step};
use crate::tag::Tag;

/// Bytes of records that are copied at once.
const COPY_BYTES: u64 = 4 << 20;
/// When nothing could go, nobody looks again for so long.
const FULL_FOR_MS: u64 = 100;

/// By what it is judged what of a segment stays. What is leased stays always.
#[derive(Clone, Copy, Debug)]
enum Judge {
    /// By how often it was asked for.
    Room,
    /// All that has a meaning stays: only the dead are to go.
    Dead,
    /// By whether it was asked for since then: milliseconds since 1970.
    Age { since_ms: u64 },
}

/// A record that was copied, and its byte when that was decided.
struct Moved {
    tag: Tag,
    ordinal: u32,
    byte: u8,
}

impl Disk {
    /// Sees to it that so many bytes more have room. Copies may take what is kept free here, for a moment.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let bytes_max = self.options.bytes_max;
        let limit = bytes_max - self.segment_bytes().min(bytes_max);
        let fits = |limit: u64| self.disk_bytes() + bytes <= limit;
        if fits(limit) {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.evicting);
        if !fits(limit) && now_ms() >= self.counts.full_until_ms.load(Relaxed) {
            self.shrink(limit.saturating_sub(bytes))?;
            if !fits(bytes_max) {
                self.counts.full_until_ms.store(now_ms() + FULL_FOR_MS, Relaxed);
            }
        }
        if fits(bytes_max) { Ok(()) } else { Err(Error::Full { bytes_max }) }
    }

    /// Makes room before somebody waits for it; after the file system said that it is full, as much as there is to make.
    pub(crate) fn make_headroom(&self) -> Result<(), Error> {
        let limit = self.options.bytes_max - (3 * self.segment_bytes()).min(self.options.bytes_max);
        let squeezed = self.counts.no_space.swap(false, Relaxed);
        if self.disk_bytes() <= limit && !squeezed {
            return Ok(());
        }
        let _one_at_a_time = lock(&self.evicting);
        let squeezed = squeezed.then(|| self.disk_bytes().saturating_sub(2 * self.segment_bytes()));
        self.shrink(limit.min(squeezed.unwrap_or(u64::MAX)))
    }

    pub(crate) fn collect(&self, bytes_max: Option<u64>, age_max: Option<Duration>) -> Result<(), Error> {
        self.drop_aged(age_max)?;
        let _one_at_a_time = lock(&self.evicting);
        self.shrink(bytes_max.unwrap_or(self.options.bytes_max))
    }

    /// Drops what nobody wrote or asked for in so long. It goes when its segment was last written to so long ago; what
    /// was asked for since stays once more as long.
    pub(crate) fn drop_aged(&self, age_max: Option<Duration>) -> Result<(), Error> {
        let Some(age_max) = age_max else { return Ok(()) };
        let since_ms = now_ms().saturating_sub(age_max.as_millis() as u64);
        let _one_at_a_time = lock(&self.evicting);
        self.seal_if(|segment| segment.written_ms.load(Relaxed) <= since_ms);
        for segment in self.segments().values() {
            let old = segment.sealed.load(Relaxed) && segment.written_ms.load(Relaxed) <= since_ms;
            if old && self.some_may_go(segment) {
                self.empty(segment, Judge::Age { since_ms })?;
            }
        }
        Ok(())
    }

    /// Evicts until there are at most so many bytes, or nothing is left that may go.
    fn shrink(&self, limit: u64) -> Result<(), Error> {
        while self.disk_bytes() > limit && !self.keeper.stopped() {
            let Some((segment, judge)) = self.pick(limit).or_else(|| {
                self.seal_if(|segment| self.some_may_go(segment));
                self.pick(limit)
            }) else {
                break;
            };
            self.empty(&segment, judge)?;
        }
        Ok(())
    }

    /// The segment to empty next.
    fn pick(&self, limit: u64) -> Option<(Arc<Segment>, Judge)> {
        let segments = self.segments();
        let mostly_dead = |segment: &&Arc<Segment>| {
            segment.sealed.load(Relaxed) && segment.tally.dead.load(Relaxed) * 2 > segment.len()
        };
        if let Some(segment) = segments.values().find(mostly_dead) {
            return Some((segment.clone(), Judge::Dead));
        }
        let policy = lock(&self.policy);
        let there = |victim: Victim| segments.get(&(victim.segment as u32));
        let victim = |ripe: &dyn Fn(&Segment) -> bool| {
            policy.victim(self.disk_bytes(), limit, |victim| there(victim).is_some_and(|segment| ripe(segment)))
        };
        // To copy nearly all of a segment for little room is the last resort.
        let victim =
            victim(&|segment| self.much_may_go(segment)).or_else(|| victim(&|segment| self.some_may_go(segment)));
        victim.and_then(there).map(|segment| (segment.clone(), Judge::Room))
    }

    fn much_may_go(&self, segment: &Segment) -> bool {
        let records = segment.records.load(Relaxed);
        let leased = segment.slots.leased(records, self.clock, now_ms());
        u64::from(leased) * 8 <= u64::from(records) * 7
    }

    fn some_may_go(&self, segment: &Segment) -> bool {
        let records = segment.records.load(Relaxed);
        segment.slots.leased(records, self.clock, now_ms()) < records
    }

    fn seal_if(&self, mut wanted: impl FnMut(&Segment) -> bool) {
        let mut log = self.log();
        for queue in [Queue::Small, Queue::Main] {
            if log.active[queue as usize].as_ref().is_some_and(|segment| segment.len() > 0 && wanted(segment)) {
                self.seal(&mut log, queue);
            }
        }
    }

    /// Copies what stays of a segment, and takes it out.
    fn empty(&self, segment: &Segment, judge: Judge) -> Result<(), Error> {
        let failed = cannot("read a segment in", &self.dir);
        let mut scan = segment.scan(0, segment.len());
        let (mut copies, mut copied, mut moved) = (Vec::new(), 0, Vec::new());
        let below = self.below.get().filter(|below| !below.has_copy_of(segment.id));
        let mut loses = false;
        while let Some(step) = scan.next().map_err(&failed)? {
            let (offset, header, record) = match step {
                Step::Record { offset, header, bytes } => (offset, header, bytes),
                Step::Damaged { offset } => {
                    scan.resume(offset).map_err(&failed)?;
                    continue;
                }
            };
            let Some((tag, seen, found)) = self.live(segment, offset, &header, record)? else { continue };
            let Some((queue, frequency, byte)) = self.decide(segment, &header, tag, found, judge) else {
                loses = loses || below.is_some_and(|below| !below.has(tag));
                continue;
            };
            let body = Bytes::copy_from_slice(&record[HEADER_BYTES..]);
            let draft = Draft::new(tag, header, body, Rule::IfAt(found.loc), seen);
            copies.push(Draft { queue, slot: Some(with_frequency(byte, frequency)), ..draft });
            moved.push(Moved { tag, ordinal: found.loc.ordinal, byte });
            copied += header.record_bytes();
            if copied >= COPY_BYTES {
                self.append(&std::mem::take(&mut copies))?;
                copied = 0;
            }
        }
        self.append(&copies)?;
        // Said while the segment is still there: who copies it meanwhile takes it back.
        below.filter(|_| loses).inspect(|below| below.loses(segment.id));
        // It flushes the copies before it says that the segment is gone.
        self.checkpoint(&[segment.id])?;
        self.touch_again(segment, &moved)
    }

    /// What the index says of a record, if that is the newest of its tag.
    fn live(
        &self,
        segment: &Segment,
        offset: u64,
        header: &Header,
        record: &[u8],
    ) -> Result<Option<(Tag, Seen, Found)>, Error> {
        let Some(tag) = Tag::of_record(header, &record[HEADER_BYTES..]) else { return Ok(None) };
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        let newest = |found: &Found| (found.loc.segment, u64::from(found.loc.offset)) == (segment.id, offset);
        let live = |found: &Found| newest(found) && found.loc.kind != Kind::Tombstone;
        Ok(seen.found.filter(live).map(|found| (tag, seen, found)))
    }

    /// Where a record goes, with which frequency, and its byte; `None` when it goes for good.
    fn decide(
        &self,
        segment: &Segment,
        header: &Header,
        tag: Tag,
        found: Found,
        judge: Judge,
    ) -> Option<(Queue, u8, u8)> {
        let ordinal = found.loc.ordinal;
        loop {
            if segment.slots.is_doomed(ordinal) {
                return None;
            }
            let byte = segment.slots.byte(ordinal);
            let (leased, often) = (self.clock.leased(byte, now_ms()), frequency(byte));
            let fate = match judge {
                Judge::Room => Policy::fate(segment.queue, often, leased),
                Judge::Dead => return Some((segment.queue, often, byte)),
                Judge::Age { since_ms } if !leased && (often == 0 || segment.touched_ms.load(Relaxed) <= since_ms) => {
                    Fate::Drop
                }
                Judge::Age { .. } => return Some((segment.queue, 0, byte)),
            };
            match fate {
                Fate::Promote => return Some((Queue::Main, 0, byte)),
                Fate::Again => return Some((segment.queue, often.saturating_sub(1), byte)),
                Fate::Drop if segment.slots.doom(ordinal, byte) => {
                    self.let_go(header, tag);
                    return None;
                }
                // Somebody asked for it in this moment.
                Fate::Drop => {}
            }
        }
    }

    fn let_go(&self, header: &Header, tag: Tag) {
        lock(&self.policy).dropped(tag.high);
        if header.kind != Kind::Entry {
            self.counts.evicted.fetch_add(1, Relaxed);
            self.counts.removals.fetch_add(1, Relaxed);
            self.memory.forget(&header.key());
        }
    }

    /// Who asked for a record while it was copied asked for the copy.
    fn touch_again(&self, segment: &Segment, moved: &[Moved]) -> Result<(), Error> {
        for Moved { tag, .. } in moved.iter().filter(|moved| segment.slots.byte(moved.ordinal) != moved.byte) {
            if let Some(place) = self.find(*tag)? {
                self.touch(&place);
            }
        }
        Ok(())
    }
}
