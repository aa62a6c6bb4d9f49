//! How often somebody may try to sign in.

use std::collections::HashMap;
use std::time::Duration;

use model::Timestamp;

/// Wrong tries before waiting begins.
const FREE: u32 = 5;
/// The first wait; each further wrong try doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Names and addresses that are remembered; beyond that the oldest are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// How often somebody may try to sign in: by name and by address, so that neither one name nor one machine can be tried at
/// speed. In memory: after a restart everybody begins anew.
#[derive(Debug, Default)]
pub struct SignInLimit {
    tries: HashMap<String, Tries>,
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    last: Timestamp,
}

/// Too many tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong tries; try again in {} s", wait.as_secs().max(1))]
pub struct TooManyTries {
    /// How long to wait.
    pub wait: Duration,
}

impl SignInLimit {
    /// Whether anybody of these (a name, an address) has to wait.
    ///
    /// # Errors
    /// How long.
    pub fn check(&self, keys: &[&str], now: Timestamp) -> Result<(), TooManyTries> {
        let wait = keys.iter().filter_map(|key| self.tries.get(*key)).map(|tries| tries.wait(now)).max();
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(TooManyTries { wait }),
            None => Ok(()),
        }
    }

    /// A wrong try.
    pub fn failed(&mut self, keys: &[&str], now: Timestamp) {
        self.forget(now);
        for key in keys {
            let tries = self.tries.entry((*key).to_owned()).or_insert(Tries { wrong: 0, last: now });
            *tries = Tries { wrong: tries.wrong.saturating_add(1), last: now };
        }
    }

    /// A right one: its name begins anew; the address does not, or one's own account would open the others'.
    pub fn passed(&mut self, name: &str) {
        self.tries.remove(name);
    }

    fn forget(&mut self, now: Timestamp) {
        if self.tries.len() < REMEMBERED_MAX {
            return;
        }
        self.tries.retain(|_, tries| now.since(tries.last) < WAIT_MAX);
        while self.tries.len() >= REMEMBERED_MAX {
            let oldest =
                self.tries.iter().min_by_key(|(_, tries)| (tries.wrong, tries.last)).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.tries.remove(&oldest);
        }
    }
}

impl Tries {
    fn wait(self, now: Timestamp) -> Duration {
        let over = self.wrong.saturating_sub(FREE);
        if self.wrong < FREE {
            return Duration::ZERO;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << over.min(16)).min(WAIT_MAX);
        wait.saturating_sub(now.since(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn waits_double_until_a_quarter_of_an_hour() {
        let mut limit = SignInLimit::default();
        for _ in 0..FREE {
            assert_eq!(limit.check(&["anna", "::1"], at(0)), Ok(()));
            limit.failed(&["anna", "::1"], at(0));
        }
        assert_eq!(limit.check(&["anna"], at(0)), Err(TooManyTries { wait: Duration::from_secs(2) }));
        assert_eq!(limit.check(&["bo", "::1"], at(1)), Err(TooManyTries { wait: Duration::from_secs(1) }));
        assert_eq!(limit.check(&["anna"], at(2)), Ok(()));
        limit.failed(&["anna"], at(2));
        assert_eq!(limit.check(&["anna"], at(2)), Err(TooManyTries { wait: Duration::from_secs(4) }));
        (0..40).for_each(|_| limit.failed(&["anna"], at(3)));
        assert_eq!(limit.check(&["anna"], at(3)), Err(TooManyTries { wait: WAIT_MAX }));
        limit.passed("anna");
        assert_eq!(limit.check(&["anna"], at(3)), Ok(()));
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory_and_frees_nobody_who_waits() {
        let mut limit = SignInLimit::default();
        (0..9).for_each(|_| limit.failed(&["anna"], at(0)));
        for name in 0..2 * REMEMBERED_MAX {
            limit.failed(&[&name.to_string()], at(0));
            if name == REMEMBERED_MAX {
                break;
            }
        }
        assert!(limit.tries.len() <= REMEMBERED_MAX);
        assert!(limit.check(&["anna"], at(0)).is_err());
    }
}
