//! What an agent says while it works, and the bound on what it has said and nobody has read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use model::{AttemptNo, AttemptResult, Fence, NodeIx, RunId, Timestamp};

/// Bytes of log lines that may wait for their reader. A reader that is slower than a step slows the step down, as a
/// pipe would, instead of filling the memory.
const UNREAD_BYTES_MAX: u64 = 8 << 20;
/// What a line costs beside its text.
const LINE_OVERHEAD: u64 = 128;

/// What an agent says.
#[derive(Debug)]
pub enum Report {
    /// A line of output.
    Line(LogLine),
    /// An attempt ended. The last word about it.
    Finished {
        /// The run.
        run: RunId,
        /// The instance.
        node: NodeIx,
        /// The try.
        attempt: AttemptNo,
        /// Its lease.
        fence: Fence,
        /// How it ended.
        result: Arc<AttemptResult>,
    },
}

/// A line of output: valid UTF-8, secrets masked, without its line end. While it lives it counts as unread.
#[derive(Debug)]
pub struct LogLine {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub node: NodeIx,
    /// The try.
    pub attempt: AttemptNo,
    /// When its end was read.
    pub at: Timestamp,
    /// The text; may hold terminal escapes.
    pub text: String,
    _unread: Unread,
}

/// Counts a line as unread for as long as it exists.
#[derive(Debug)]
struct Unread {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The way to the reader of reports.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// `None`: what is executed again behind the scenes is not heard.
    to: Option<Sender<Report>>,
    unread: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new(to: Sender<Report>) -> Feed {
        Feed { to: Some(to), unread: Arc::new(AtomicU64::new(0)) }
    }

    pub(crate) fn muted() -> Feed {
        Feed { to: None, unread: Arc::default() }
    }

    /// Whether the reader keeps up.
    pub(crate) fn has_room(&self) -> bool {
        self.unread.load(Ordering::Relaxed) < UNREAD_BYTES_MAX
    }

    pub(crate) fn line(&self, run: &RunId, node: NodeIx, attempt: AttemptNo, at: Timestamp, text: String) {
        let Some(to) = &self.to else { return };
        let bytes = text.len() as u64 + LINE_OVERHEAD;
        self.unread.fetch_add(bytes, Ordering::Relaxed);
        let unread = Unread { bytes, all: self.unread.clone() };
        // A reader that went away wants no more lines; the attempt goes on to its end.
        let _ = to.send(Report::Line(LogLine { run: run.clone(), node, attempt, at, text, _unread: unread }));
    }

    pub(crate) fn finished(&self, run: RunId, node: NodeIx, attempt: AttemptNo, fence: Fence, result: AttemptResult) {
        if let Some(to) = &self.to {
            let _ = to.send(Report::Finished { run, node, attempt, fence, result: Arc::new(result) });
        }
    }
}
