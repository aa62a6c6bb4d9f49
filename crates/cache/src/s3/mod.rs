//! The tier below the store in a bucket: copies of its segments go there behind everybody's back, and pieces of them
//! come back when somebody asks for what is here no more.
//!
//! The segments on the local disk that have no copy yet are the queue, so it is never full and forgets nothing; no
//! answer of the cache waits for it. What the bucket has is known here (see [`blobs::Tier`]), so the bucket is asked only
//! for what it is known to have, and when it is gone, that is a miss.

mod bucket;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blobs::{Blobs, Fetch, Outgoing, Piece, Tier, TierStats};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::bucket::Bucket;
use crate::config::S3Settings;
use crate::meters::exposition;
use crate::service::blocking;

/// Between two looks for segments without a copy.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a copy that failed, the first time and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Between two looks at which copies are still there: a rule of the bucket may remove old ones.
const LIST_EVERY: Duration = Duration::from_secs(3600);
/// What a piece may be late before it is not waited for: the deadline has passed on the other side, too.
const GRACE: Duration = Duration::from_secs(1);

/// Why there is no tier below.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// A variable that holds a key is not set.
    #[error("[s3] {setting} names the variable {variable}, which is not set; set it or remove the line")]
    NoKey {
        /// Which line.
        setting: &'static str,
        /// The variable.
        variable: String,
    },
    /// The settings are no bucket.
    #[error("[s3] cannot use bucket {bucket}: {source}")]
    Settings {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        source: object_store::Error,
    },
    /// The store cannot keep what it knows of it.
    #[error(transparent)]
    Store(#[from] blobs::Error),
}

/// What went to the bucket since the start, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Stats {
    /// What the store knows of it.
    pub tier: TierStats,
    /// Segments copied.
    pub uploaded: u64,
    /// Bytes of these.
    pub uploaded_bytes: u64,
    /// Copies that failed; each is tried again.
    pub failed: u64,
    /// Why the last one failed, until one goes well.
    pub last_error: Option<String>,
}

impl S3Stats {
    /// As text for Prometheus.
    pub fn text(&self) -> String {
        exposition(
            "s3_",
            &[
                ("waiting_segments", "gauge", self.tier.waiting),
                ("waiting_bytes", "gauge", self.tier.waiting_bytes),
                ("copies", "gauge", self.tier.copies),
                ("copied_bytes", "gauge", self.tier.copied_bytes),
                ("uploaded_segments_total", "counter", self.uploaded),
                ("uploaded_bytes_total", "counter", self.uploaded_bytes),
                ("failures_total", "counter", self.failed),
                ("recalled_total", "counter", self.tier.recalled),
                ("unreachable_total", "counter", self.tier.unreachable),
                ("overtaken_segments_total", "counter", self.tier.overtaken),
            ],
        )
    }
}

/// The tier at work. Dropping it stops the copying; what waits then is copied after the next start.
#[derive(Debug)]
pub struct LowerTier {
    shared: Arc<Shared>,
    copying: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    tier: Tier,
    bucket: Arc<Bucket>,
    uploaded: AtomicU64,
    uploaded_bytes: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl LowerTier {
    /// Puts a bucket below a store, and begins to copy. Does not wait for the bucket: it may be gone just now.
    ///
    /// # Errors
    /// The settings are no bucket, a key is missing, or the store has a tier already.
    pub fn start(settings: &S3Settings, blobs: &Blobs, runtime: &Handle) -> Result<LowerTier, S3Error> {
        let bucket = Arc::new(Bucket::new(settings)?);
        let tier = Tier::attach(blobs, fetch(bucket.clone(), runtime.clone()))?;
        let shared = Arc::new(Shared {
            tier,
            bucket,
            uploaded: AtomicU64::new(0),
            uploaded_bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::new(None),
        });
        let copying = runtime.spawn(shared.clone().work());
        Ok(LowerTier { shared, copying })
    }

    /// How it goes.
    pub fn stats(&self) -> S3Stats {
        let shared = &self.shared;
        S3Stats {
            tier: shared.tier.stats(),
            uploaded: shared.uploaded.load(Relaxed),
            uploaded_bytes: shared.uploaded_bytes.load(Relaxed),
            failed: shared.failed.load(Relaxed),
            last_error: shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for LowerTier {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// Asks the bucket from a thread that may block; the threads of the runtime do the work.
fn fetch(bucket: Arc<Bucket>, runtime: Handle) -> Fetch {
    Box::new(move |pieces, deadline| {
        let (answer, answered) = sync_channel(1);
        let (bucket, wanted) = (bucket.clone(), pieces.to_vec());
        runtime.spawn(async move { answer.send(bucket.pieces(&wanted, deadline).await) });
        let patience = deadline.saturating_duration_since(Instant::now()) + GRACE;
        let failed = |err: RecvTimeoutError| match err {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut,
            // The cache is being stopped.
            RecvTimeoutError::Disconnected => io::ErrorKind::ConnectionAborted,
        };
        let none = |kind: io::ErrorKind| pieces.iter().map(|_: &Piece| Err(io::Error::from(kind))).collect();
        answered.recv_timeout(patience).map_err(failed).unwrap_or_else(none)
    })
}

impl Shared {
    async fn work(self: Arc<Shared>) {
        let mut listed: Option<Instant> = None;
        let mut pause = RETRY;
        loop {
            if listed.is_none_or(|at| at.elapsed() >= LIST_EVERY) && self.note(self.compare().await) {
                listed = Some(Instant::now());
            }
            let copied = match self.next_copy().await {
                Ok(None) => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Ok(Some(outgoing)) => self.copy(outgoing).await,
                Err(err) => Err(err),
            };
            pause = match self.note(copied) {
                true => RETRY,
                false => {
                    sleep(pause).await;
                    (pause * 2).min(RETRY_MAX)
                }
            };
        }
    }

    /// Remembers how it went. Whether it went well.
    fn note(&self, done: Result<(), String>) -> bool {
        self.failed.fetch_add(u64::from(done.is_err()), Relaxed);
        let well = done.is_ok();
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = done.err();
        well
    }

    async fn next_copy(self: &Arc<Shared>) -> Result<Option<Outgoing>, String> {
        let shared = self.clone();
        blocking(move || shared.tier.next_copy()).await.map_err(|err| err.to_string())
    }

    /// First the copy, then its index: what has an index is whole.
    async fn copy(self: &Arc<Shared>, outgoing: Outgoing) -> Result<(), String> {
        let bytes = outgoing.bytes();
        let outgoing = Arc::new(outgoing);
        self.bucket.put_copy(&outgoing).await?;
        let index = outgoing.clone();
        let index: Bytes = blocking(move || index.index()).await.map_err(|err| err.to_string())?;
        self.bucket.put_index(outgoing.copy(), index).await?;
        let outgoing = Arc::into_inner(outgoing).ok_or("a copy is still being read")?;
        let shared = self.clone();
        blocking(move || shared.tier.copied(outgoing)).await.map_err(|err| err.to_string())?;
        self.uploaded.fetch_add(1, Relaxed);
        self.uploaded_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Forgets copies that are gone; a store that knows of none learns of all there are, since its disk may be new.
    async fn compare(self: &Arc<Shared>) -> Result<(), String> {
        let there = self.bucket.list().await?;
        let known = self.tier.copies();
        // All of them gone at once looks like another bucket, and costs nothing but a miss each.
        if !there.is_empty() {
            for copy in known.iter().filter(|copy| !there.contains_key(copy)) {
                let (shared, copy) = (self.clone(), copy.clone());
                blocking(move || shared.tier.forget(&copy)).await.map_err(|err| err.to_string())?;
            }
        }
        if known.is_empty() {
            for (copy, bytes) in there {
                let index = self.bucket.index(&copy).await?;
                let shared = self.clone();
                blocking(move || shared.tier.adopt(copy, bytes, &index)).await.map_err(|err| err.to_string())?;
            }
        }
        Ok(())
    }
}
