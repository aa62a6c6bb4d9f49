//! The circuit breaker: who fails again and again is left alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// Failures in a row after which a cache is gone.
const FAILURES_MAX: u32 = 3;

/// Whether the cache is asked.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    gone_until: Option<Instant>,
    /// Why it was gone last.
    why: String,
    /// Why it was gone first: what a person is told.
    first: Option<String>,
    closed: bool,
}

impl Breaker {
    /// Whether to ask now.
    ///
    /// # Errors
    /// It is gone, or nobody wants to know any more.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Error> {
        let state = self.lock();
        if state.closed {
            return Err(Error::Gone("the run is over".into()));
        }
        match state.gone_until {
            Some(until) if now < until => Err(Error::Gone(state.why.clone())),
            _ => Ok(()),
        }
    }
    /// It answered.
    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        state.in_a_row = 0;
        state.gone_until = None;
    }
    /// It did not. `for_certain`: trying again at once would be no better.
    pub(crate) fn failed(&self, why: &str, for_certain: bool, now: Instant, rest: Duration) {
        let mut state = self.lock();
        state.in_a_row = if for_certain { FAILURES_MAX } else { state.in_a_row.saturating_add(1) };
        // After a rest one failure is enough: the count stands until something succeeds.
        if state.in_a_row >= FAILURES_MAX {
            state.gone_until = Some(now + rest);
            state.why = why.to_string();
            state.first.get_or_insert_with(|| why.to_string());
        }
    }
    /// Nothing is asked any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }
    /// Why it was gone for the first time.
    pub(crate) fn first(&self) -> Option<String> {
        self.lock().first.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_open_it_and_a_rest_closes_it_for_one_try() {
        let (breaker, start, rest) = (Breaker::default(), Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        breaker.failed("slow", false, at(0), rest);
        breaker.failed("slow", false, at(1), rest);
        assert!(breaker.admit(at(2)).is_ok());
        breaker.answered();
        breaker.failed("slow", false, at(3), rest);
        breaker.failed("slow", false, at(3), rest);
        breaker.failed("slow", false, at(3), rest);
        assert!(matches!(breaker.admit(at(4)), Err(Error::Gone(why)) if why == "slow"));
        assert!(breaker.admit(at(33)).is_ok());
        breaker.failed("again", false, at(33), rest);
        assert!(breaker.admit(at(34)).is_err());
        assert!(breaker.admit(at(63)).is_ok());
        breaker.answered();
        assert!(breaker.admit(at(64)).is_ok());
        assert_eq!(breaker.first().as_deref(), Some("slow"));
    }

    #[test]
    fn who_refuses_a_connection_is_gone_at_once() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed("refused", true, now, Duration::from_secs(30));
        assert!(breaker.admit(now).is_err());
    }
}
