//! The desk's time: it never goes back, and a wall clock that jumps moves it slowly, so that no lease runs out by that.

use std::time::Instant;

use model::Timestamp;

use crate::clock::now as wall;

/// A tenth of the time that passes is put on or taken off until the wall clock is met.
const SLEW: i128 = 10;

/// The desk's time.
#[derive(Debug)]
pub(super) struct Clock {
    told: Timestamp,
    at: Instant,
}

impl Clock {
    /// Begins with the wall clock.
    pub(super) fn new() -> Clock {
        Clock { told: wall(), at: Instant::now() }
    }

    /// Now.
    pub(super) fn now(&mut self) -> Timestamp {
        let at = Instant::now();
        let passed = at.duration_since(self.at).as_micros();
        self.told = slewed(self.told, u64::try_from(passed).unwrap_or(u64::MAX), wall());
        self.at = at;
        self.told
    }
}

fn slewed(told: Timestamp, passed: u64, wall: Timestamp) -> Timestamp {
    let straight = i128::from(told.0) + i128::from(passed);
    let most = i128::from(passed) / SLEW;
    let moved = straight + (i128::from(wall.0) - straight).clamp(-most, most);
    Timestamp(u64::try_from(moved).unwrap_or(told.0).max(told.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_an_hour_moves_the_desk_by_a_tenth_of_what_passed() {
        let (told, second, hour) = (Timestamp(10_000_000_000), 1_000_000, 3_600_000_000);
        assert_eq!(slewed(told, second, Timestamp(told.0 + second)), Timestamp(told.0 + 1_000_000));
        assert_eq!(slewed(told, second, Timestamp(told.0 + hour)), Timestamp(told.0 + 1_100_000));
        assert_eq!(slewed(told, second, Timestamp(told.0 - hour)), Timestamp(told.0 + 900_000));
    }
}
