//! Execution of actions for remote clients: who waits for which, and at most so many at a time. What executes them is
//! not known here.

mod fault;
mod operations;
mod results;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Key};

pub use fault::Fault;
pub(crate) use operations::{Operation, Operations, Order, Progress};
pub(crate) use results::recall;

/// Executes actions. A trait, because what fits in here is a stranger to this crate: a cache that executes nothing must
/// not weigh what a sandbox weighs.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Executes an action on this thread, until it ends or `work.stop` is wanted. Its outputs are in the store then.
    ///
    /// # Errors
    /// It was not executed to its end. An exit code is none.
    fn execute(&self, blobs: &Blobs, work: &Work) -> Result<api::ActionResult, Fault>;
}

/// What executes actions, and how many at a time.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What executes them.
    pub executor: Arc<dyn Executor>,
    /// At a time; the others wait.
    pub jobs: NonZeroUsize,
}

/// An action that is to be executed.
#[derive(Clone, Debug)]
pub struct Work {
    /// The blob that is the `Action`.
    pub action: Key,
    /// Since when it waits.
    pub queued: SystemTime,
    /// To be looked at now and then.
    pub stop: Stop,
}

/// Says that nobody waits for an action any more.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stop it.
    pub fn want(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether it is to stop.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
