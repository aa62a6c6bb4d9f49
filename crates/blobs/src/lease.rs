//! One byte for each record: how often it was asked for lately, and since when it is leased.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lease epochs that a byte tells apart; those before are long over.
const EPOCHS: u64 = 62;
/// In place of an epoch.
const NONE: u8 = 62;
/// The byte of a record that nobody was told of.
pub(crate) const NO_LEASE: u8 = NONE;
/// Epochs of one lease.
const SPAN: u64 = 16;
/// The byte of a record that is about to go: it is not there any more.
const DOOMED: u8 = 0xFF;
const FREQUENCY_MAX: u8 = 3;
const PAGE: usize = 4096;
const PAGES: usize = 256;

/// Records of one segment.
pub(crate) const RECORDS_MAX: u32 = (PAGE * PAGES) as u32;

/// Milliseconds since 1970-01-01 UTC.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What time it is for leases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Of one epoch; 0 when there are no leases.
    pub unit_ms: u64,
}

impl Clock {
    pub(crate) fn new(lease: Duration) -> Clock {
        if lease.is_zero() {
            return Clock { unit_ms: 0 };
        }
        // Not less than 0.1 s, so that a round of epochs takes longer than the sweeper needs to come by.
        Clock { unit_ms: (lease.as_millis() as u64).div_ceil(SPAN).max(100) }
    }

    fn epoch(self, now_ms: u64) -> u8 {
        match self.unit_ms {
            0 => NONE,
            unit => (now_ms / unit % EPOCHS) as u8,
        }
    }

    /// At what time what was leased at `now_ms` is leased no more, and what was swept by then stays so.
    pub(crate) fn sweep_ms(self) -> u64 {
        self.unit_ms * (EPOCHS - SPAN - 6)
    }

    /// A byte of a record that was just written or asked for, so many times.
    pub(crate) fn fresh(self, now_ms: u64) -> u8 {
        self.epoch(now_ms)
    }

    pub(crate) fn leased(self, byte: u8, now_ms: u64) -> bool {
        let epoch = byte & 0x3F;
        if epoch >= NONE || self.unit_ms == 0 {
            return false;
        }
        (now_ms / self.unit_ms + EPOCHS - u64::from(epoch)) % EPOCHS <= SPAN
    }
}

/// How often a record was asked for, 0 to 3.
pub(crate) fn frequency(byte: u8) -> u8 {
    byte >> 6
}

/// The same lease, another frequency.
pub(crate) fn with_frequency(byte: u8, frequency: u8) -> u8 {
    byte & 0x3F | frequency << 6
}

/// The same frequency, the lease of another byte.
pub(crate) fn with_lease(byte: u8, of: u8) -> u8 {
    byte & 0xC0 | of & 0x3F
}

/// The same frequency, no lease.
pub(crate) fn without_lease(byte: u8) -> u8 {
    byte & 0xC0 | NONE
}

/// The bytes of all records of a segment, by their ordinals. Pages are made as they are needed.
#[derive(Debug)]
pub(crate) struct Slots {
    pages: Box<[OnceLock<Box<[AtomicU8]>>]>,
}

impl Slots {
    pub(crate) fn new() -> Slots {
        Slots { pages: (0..PAGES).map(|_| OnceLock::new()).collect() }
    }

    /// The byte; `None` before the first one of its page was set.
    fn slot(&self, ordinal: u32) -> Option<&AtomicU8> {
        let page = self.pages.get(ordinal as usize / PAGE)?.get()?;
        page.get(ordinal as usize % PAGE)
    }

    pub(crate) fn set(&self, ordinal: u32, byte: u8) {
        if let Some(page) = self.pages.get(ordinal as usize / PAGE) {
            let page = page.get_or_init(|| (0..PAGE).map(|_| AtomicU8::new(NONE)).collect());
            page[ordinal as usize % PAGE].store(byte, Ordering::Relaxed);
        }
    }

    pub(crate) fn byte(&self, ordinal: u32) -> u8 {
        self.slot(ordinal).map_or(NONE, |slot| slot.load(Ordering::Relaxed))
    }

    pub(crate) fn is_doomed(&self, ordinal: u32) -> bool {
        self.byte(ordinal) == DOOMED
    }

    /// Leases a record and counts that it was asked for. `false` when it is about to go, and so not there.
    pub(crate) fn touch(&self, ordinal: u32, clock: Clock, now_ms: u64) -> bool {
        let epoch = clock.epoch(now_ms);
        let Some(slot) = self.slot(ordinal) else {
            self.set(ordinal, epoch | 1 << 6);
            return true;
        };
        let touched = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |byte| {
            let next = (frequency(byte) + 1).min(FREQUENCY_MAX) << 6 | epoch;
            (byte != DOOMED && byte != next).then_some(next)
        });
        touched.is_ok() || touched != Err(DOOMED)
    }

    /// Takes a record out, unless somebody leased it or asked for it since `seen`.
    pub(crate) fn doom(&self, ordinal: u32, seen: u8) -> bool {
        if self.slot(ordinal).is_none() {
            self.set(ordinal, NONE);
        }
        let Some(slot) = self.slot(ordinal) else { return false };
        slot.compare_exchange(seen, DOOMED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A record that a newer one took the place of has no lease any more.
    pub(crate) fn release(&self, ordinal: u32) {
        self.set(ordinal, NONE);
    }

    /// Takes a record out, whoever leased it.
    pub(crate) fn kill(&self, ordinal: u32) {
        self.set(ordinal, DOOMED);
    }

    /// Forgets leases that are over, before their epochs come round again.
    pub(crate) fn sweep(&self, clock: Clock, now_ms: u64) {
        for slot in self.pages.iter().filter_map(OnceLock::get).flatten() {
            let byte = slot.load(Ordering::Relaxed);
            if byte & 0x3F < NONE && !clock.leased(byte, now_ms) {
                // A touch in between wins.
                let _ = slot.compare_exchange(byte, without_lease(byte), Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// How many of the first `count` records are leased.
    pub(crate) fn leased(&self, count: u32, clock: Clock, now_ms: u64) -> u32 {
        (0..count).filter(|ordinal| clock.leased(self.byte(*ordinal), now_ms)).count() as u32
    }

    /// Bytes that were kept over a restart.
    pub(crate) fn load(&self, bytes: &[u8]) {
        for (page, bytes) in self.pages.iter().zip(bytes.chunks(PAGE)) {
            let rest = std::iter::repeat_n(NONE, PAGE - bytes.len());
            let _ = page.set(bytes.iter().copied().chain(rest).map(AtomicU8::new).collect());
        }
    }

    /// The first `count` bytes, to be kept over a restart.
    pub(crate) fn save(&self, count: u32) -> Vec<u8> {
        (0..count).map(|ordinal| self.byte(ordinal)).map(|byte| if byte == DOOMED { NONE } else { byte }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_at_least_as_long_as_it_is() {
        let clock = Clock::new(Duration::from_secs(160));
        for start in (0..2_000_000).step_by(777) {
            let byte = clock.fresh(start);
            assert!(clock.leased(byte, start + 160_000), "from {start}");
            assert!(!clock.leased(byte, start + 190_000), "from {start}");
        }
        assert!(!Clock::new(Duration::ZERO).leased(Clock::new(Duration::ZERO).fresh(5), 5));
    }

    #[test]
    fn what_is_doomed_cannot_be_leased_and_what_is_leased_cannot_be_doomed() {
        let clock = Clock::new(Duration::from_secs(160));
        let slots = Slots::new();
        slots.set(5, NONE);
        assert!(slots.touch(5, clock, 1000));
        assert!(!slots.doom(5, NONE));
        assert!(slots.doom(5, slots.byte(5)));
        assert!(!slots.touch(5, clock, 1000));
        assert!(slots.doom(9000, NONE), "a page that was never written has no leases");
    }

    #[test]
    fn a_swept_lease_does_not_come_back_when_epochs_come_round() {
        let clock = Clock::new(Duration::from_secs(16));
        let slots = Slots::new();
        slots.touch(0, clock, 0);
        slots.touch(0, clock, 0);
        slots.sweep(clock, 17_000);
        assert_eq!(slots.leased(1, clock, 62_000), 0);
        assert_eq!(frequency(slots.byte(0)), 2);
    }
}
