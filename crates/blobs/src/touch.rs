//! How often a blob was asked for and until when somebody may rely on it, in one byte.

use std::time::Duration;

const FREQUENCY_MAX: u8 = 3;
/// Epochs that can be told apart; the 64th value says that there is no lease.
const EPOCHS: u64 = 63;
const NO_LEASE: u8 = 63;

/// A lease lasts so many epochs. One more is lost to not knowing when in its epoch it was taken, so 16 make leases at
/// most a sixteenth longer than asked for; and 63 leave 47 to sweep the expired ones away.
pub const LEASE_EPOCHS: u8 = 16;

/// How long an epoch is for leases of at least `lease`. At least a millisecond.
pub fn epoch_length(lease: Duration) -> Duration {
    (lease / u32::from(LEASE_EPOCHS)).max(Duration::from_millis(1))
}

/// Two bits of frequency, six of the epoch of the last touch.
///
/// Epochs wrap around: [`Touch::settled`] must be applied to every record between [`LEASE_EPOCHS`] and 63 epochs after
/// its touch, or an old lease looks like a new one for a while. Nothing worse than keeping too much comes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch(pub u8);

impl Touch {
    /// Never asked for, no lease.
    pub const NONE: Touch = Touch(NO_LEASE);

    /// Written in this epoch: leased, never asked for.
    pub fn new(now_epoch: u64) -> Touch {
        Touch::of(0, (now_epoch % EPOCHS) as u8)
    }
    /// Asked for in this epoch: leased, and once more often, up to 3.
    #[must_use]
    pub fn touch(self, now_epoch: u64) -> Touch {
        Touch::of((self.frequency() + 1).min(FREQUENCY_MAX), (now_epoch % EPOCHS) as u8)
    }
    /// Somebody was told that it is there, which is not yet to ask for it: leased.
    #[must_use]
    pub fn lease(self, now_epoch: u64) -> Touch {
        Touch::of(self.frequency(), (now_epoch % EPOCHS) as u8)
    }
    /// How often it was asked for: 0 to 3.
    pub fn frequency(self) -> u8 {
        self.0 >> 6
    }
    /// The same lease, the frequency as given (at most 3).
    #[must_use]
    pub fn with_frequency(self, frequency: u8) -> Touch {
        Touch::of(frequency.min(FREQUENCY_MAX), self.stamp())
    }
    /// Whether the last touch was at most `lease_epochs` ago.
    pub fn is_leased(self, now_epoch: u64, lease_epochs: u8) -> bool {
        self.stamp() != NO_LEASE && self.age(now_epoch) <= u64::from(lease_epochs)
    }
    /// The same, without its lease if that has expired.
    #[must_use]
    pub fn settled(self, now_epoch: u64, lease_epochs: u8) -> Touch {
        if self.is_leased(now_epoch, lease_epochs) { self } else { Touch::of(self.frequency(), NO_LEASE) }
    }

    fn of(frequency: u8, stamp: u8) -> Touch {
        Touch(frequency << 6 | stamp)
    }
    fn stamp(self) -> u8 {
        self.0 & 0x3f
    }
    /// Epochs since the last touch, if that was less than [`EPOCHS`] ago.
    fn age(self, now_epoch: u64) -> u64 {
        (now_epoch % EPOCHS + EPOCHS - u64::from(self.stamp())) % EPOCHS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_for_its_epochs_and_no_longer_whatever_the_epoch_it_began_in() {
        for (start, lease) in (0..200).flat_map(|start| [0, 1, 16, 47, 61].map(|lease| (start, lease))) {
            for (age, frequency) in (0..EPOCHS).flat_map(|age| [0, 1, 2, 3].map(|frequency| (age, frequency))) {
                let touch = Touch::new(start).with_frequency(frequency);
                let leased = touch.is_leased(start + age, lease);
                assert_eq!(leased, age <= u64::from(lease), "from {start}, {age} later, lease {lease}");
                assert_eq!(touch.frequency(), frequency);
            }
        }
    }

    #[test]
    fn every_byte_settles_to_its_lease_or_to_none_for_good() {
        for (byte, now) in (0..=u8::MAX).flat_map(|byte| (0..130).map(move |now| (byte, now))) {
            let (touch, settled) = (Touch(byte), Touch(byte).settled(now, LEASE_EPOCHS));
            assert_eq!(settled.frequency(), touch.frequency());
            assert_eq!(settled.is_leased(now, LEASE_EPOCHS), touch.is_leased(now, LEASE_EPOCHS));
            if !settled.is_leased(now, LEASE_EPOCHS) {
                assert!((0..200).all(|later| !settled.is_leased(later, LEASE_EPOCHS)));
            }
        }
    }

    #[test]
    fn frequency_stops_at_three_and_a_lease_does_not_count() {
        let mut touch = Touch::new(0);
        let mut seen = Vec::new();
        for epoch in 60..66 {
            seen.push(touch.frequency());
            touch = touch.touch(epoch);
            assert!(touch.is_leased(epoch, 0));
        }
        assert_eq!(seen, [0, 1, 2, 3, 3, 3]);
        assert_eq!(touch.lease(70).frequency(), 3);
        assert!(touch.lease(70).is_leased(70, 0));
        assert!(!Touch::NONE.is_leased(63, 61) && !Touch::NONE.is_leased(0, 61));
    }

    #[test]
    fn sixteen_epochs_and_the_rest_of_one_are_never_less_than_the_lease() {
        let lease = Duration::from_secs(2 * 3600);
        assert_eq!(epoch_length(lease), Duration::from_secs(450));
        assert!(epoch_length(Duration::ZERO) > Duration::ZERO);
    }
}
