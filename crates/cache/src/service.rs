//! What all handlers share.

use std::time::{SystemTime, UNIX_EPOCH};

use blobs::Blobs;

use crate::Config;
use crate::access::{Access, Denied, Gatekeeper};

/// What all handlers share.
#[derive(Debug)]
pub struct Service {
    /// The store.
    pub blobs: Blobs,
    /// Who may do what.
    pub gatekeeper: Gatekeeper,
}

impl Service {
    /// Opens the store and reads the tokens.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn open(config: &Config) -> Result<Service, blobs::Error> {
        let blobs = Blobs::open(&config.data, config.store.clone())?;
        Ok(Service { blobs, gatekeeper: Gatekeeper::default() })
    }

    /// Lets a caller in by its `authorization` header and the instance it names.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, headers: &::http::HeaderMap, instance: &str) -> Result<Access, Denied> {
        let authorization = headers.get(::http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.gatekeeper.admit(authorization, instance, now())
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Does what blocks where it may.
#[allow(dead_code)]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never aborted, so it panicked: that is a defect, and belongs to the task that asked.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
