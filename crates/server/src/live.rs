//! What just happened, for those who watch: pages, `pace logs -f`, metrics, traces, notices.

use std::sync::Arc;

use store::{LogId, ProjectFact, Sequenced};
use tokio::sync::broadcast;

/// Things that may wait for a watcher before it is told that it missed some.
const WAITING_MAX: usize = 4096;

/// Something that is durable now. A watcher that missed some reads the store from where it was.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A fact.
    Fact(Arc<Sequenced<ProjectFact>>),
    /// A log grew.
    Log {
        /// Which.
        log: LogId,
        /// Its length now.
        length: u64,
    },
    /// An agent came, went or changed.
    Agents,
}

/// The way to those who watch.
#[derive(Clone, Debug)]
pub struct Live(broadcast::Sender<Happened>);

impl Default for Live {
    fn default() -> Live {
        Live(broadcast::channel(WAITING_MAX).0)
    }
}

impl Live {
    /// Tells everybody. Nobody waits for a slow watcher.
    pub fn tell(&self, happened: Happened) {
        // No watcher is no failure.
        let _ = self.0.send(happened);
    }

    /// From now on.
    pub fn watch(&self) -> broadcast::Receiver<Happened> {
        self.0.subscribe()
    }
}
