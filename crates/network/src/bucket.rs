//! A rate in bytes a second, shared by all connections of a step.

use std::time::{Duration, Instant};

/// What may be sent at once after a pause: a tenth of a second's worth, but never less than one full read.
const BURST_BYTES_MIN: u64 = 16 << 10;

/// A token bucket; a token is a byte.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u64,
    burst: u64,
    tokens: u64,
    filled: Instant,
}

/// What a bucket answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// So many bytes may pass; at least one.
    Now(usize),
    /// None may, before this time has passed.
    After(Duration),
}

impl Bucket {
    /// A full bucket. A rate of 0 counts as 1.
    pub(crate) fn new(rate: u64, now: Instant) -> Bucket {
        let rate = rate.max(1);
        let burst = (rate / 10).max(BURST_BYTES_MIN);
        Bucket { rate, burst, tokens: burst, filled: now }
    }

    /// Takes up to `wanted` tokens.
    pub(crate) fn take(&mut self, wanted: usize, now: Instant) -> Grant {
        self.fill(now);
        // Waiting for single bytes would wake up a thousand times for one packet.
        let worth_it = self.burst.min(4096).min(wanted.max(1) as u64);
        if self.tokens < worth_it {
            let missing = u128::from(worth_it - self.tokens);
            let nanos = (missing * 1_000_000_000).div_ceil(u128::from(self.rate));
            return Grant::After(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        let granted = self.tokens.min(wanted as u64);
        self.tokens -= granted;
        Grant::Now(usize::try_from(granted).unwrap_or(wanted))
    }

    /// Gives back what was granted and not used.
    pub(crate) fn give_back(&mut self, unused: usize) {
        self.tokens = (self.tokens + unused as u64).min(self.burst);
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_nanos();
        let new = u64::try_from(since * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX);
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(self.burst);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_ten_seconds_no_more_passes_than_the_rate_and_one_burst() {
        let start = Instant::now();
        let (mut bucket, mut now, mut passed) = (Bucket::new(1_000_000, start), start, 0);
        while now < start + Duration::from_secs(10) {
            match bucket.take(65_536, now) {
                Grant::Now(bytes) => passed += bytes,
                Grant::After(wait) => now += wait,
            }
        }
        assert!((9_900_000..=10_200_000).contains(&passed), "{passed}");
    }

    #[test]
    fn what_is_given_back_passes_later() {
        let now = Instant::now();
        let mut bucket = Bucket::new(160_000, now);
        assert_eq!(bucket.take(1 << 20, now), Grant::Now(16_384));
        assert!(matches!(bucket.take(100, now), Grant::After(_)));
        bucket.give_back(100);
        assert_eq!(bucket.take(100, now), Grant::Now(100));
    }

    #[test]
    fn a_tiny_rate_still_makes_progress() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, start);
        assert!(matches!(bucket.take(usize::MAX, start), Grant::Now(16_384)));
        let Grant::After(wait) = bucket.take(10, start) else { panic!("the bucket is empty") };
        assert_eq!(bucket.take(10, start + wait), Grant::Now(10));
    }
}
