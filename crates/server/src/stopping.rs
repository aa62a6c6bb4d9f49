//! How threads of the server hear that it ends.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether the server ends. Cheap to clone.
#[derive(Clone, Debug, Default)]
// Threads wait for it and are woken by it: a channel has one receiver, and there are several.
pub struct Stopping(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// Grows with each [`Stopping::wake`].
    woken: u64,
}

impl Stopping {
    /// Waits so long, or until the server ends, or somebody wakes who waits. Whether to go on.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let (lock, bell) = &*self.0;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = state.woken;
        while !state.stopped && state.woken == woken {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.stopped
    }

    /// There is something to do for those who wait.
    pub fn wake(&self) {
        self.change(|state| state.woken += 1);
    }

    /// Whether the server ends.
    pub fn is_stopping(&self) -> bool {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// The server ends.
    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (lock, bell) = &*self.0;
        change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        bell.notify_all();
    }
}
