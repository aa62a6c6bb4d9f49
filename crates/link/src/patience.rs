//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A server that refuses does not change its mind by being asked often.
const REFUSED: Duration = Duration::from_secs(60);

/// Waits that double, with full jitter: ten thousand agents do not come back at once.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    tries: u32,
}

impl Patience {
    /// It went well.
    pub(crate) fn renew(&mut self) {
        self.tries = 0;
    }

    /// The next wait, between nothing and the bound, by a number of chance.
    pub(crate) fn next(&mut self, chance: u64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        share(bound, chance)
    }

    /// The wait after a refusal: half of the bound at least.
    pub(crate) fn refused(chance: u64) -> Duration {
        REFUSED / 2 + share(REFUSED / 2, chance)
    }
}

fn share(bound: Duration, chance: u64) -> Duration {
    let nanoseconds = bound.as_nanos().saturating_mul(u128::from(chance)) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// A number of chance.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew_when_it_went_well() {
        let mut patience = Patience::default();
        let bounds: Vec<u128> = (0..12).map(|_| patience.next(u64::MAX).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        patience.renew();
        assert_eq!(patience.next(u64::MAX), FIRST);
        assert_eq!(patience.next(0), Duration::ZERO, "the jitter is full");
        assert!(Patience::refused(0) >= Duration::from_secs(30));
    }
}
