//! What all handlers share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bazel_remote_apis::build::bazel::remote::execution::v2::RequestMetadata;
use blobs::{Blobs, Entry, Key};
use http::HeaderMap;
use prost::Message as _;
use tokio::runtime::Handle;

use crate::Config;
use crate::access::{Access, Denied, Domain, Gatekeeper};
use crate::config::S3Settings;
use crate::execution::Operations;
use crate::grpc::actions::KIND;
use crate::s3::LowerTier;
use crate::serve::ServeError;
use crate::upstream::Upstream;

/// Length of what a caller says of its run, in bytes: it stands in every record that the run wrote.
const RUN_BYTES_MAX: usize = 64;

/// What all handlers share.
#[derive(Debug)]
pub struct Service {
    /// The store.
    pub blobs: Blobs,
    /// Who may do what.
    pub gatekeeper: Gatekeeper,
    /// What is being executed, where something executes.
    pub(crate) operations: Option<Arc<Operations>>,
    /// What plain HTTP needs beside the store, and the counters of all protocols.
    pub http: crate::http::State,
    /// Another cache below this one.
    pub upstream: Option<Upstream>,
    /// A bucket below this one.
    pub s3: Option<LowerTier>,
}

impl Service {
    /// Opens the store and reads the tokens.
    ///
    /// # Errors
    /// The store cannot be opened, or the tokens cannot be read.
    pub fn open(config: &Config) -> Result<Service, ServeError> {
        let gatekeeper = Gatekeeper::new(config)?;
        let blobs = Blobs::open(&config.data, config.store.clone())?;
        let below = |settings| Upstream::open(settings, &config.data, &blobs).map_err(ServeError::Upstream);
        let upstream = config.upstream.as_ref().map(below).transpose()?;
        let http = crate::http::State::open(&config.data, &config.store)?;
        let s3 = config.s3.as_ref().map(|settings| bucket(settings, &blobs)).transpose()?;
        let operations = config.execution.clone().map(|execution| Arc::new(Operations::new(execution)));
        Ok(Service { blobs, gatekeeper, operations, upstream, s3, http })
    }

    /// The result of an action: from here, or from the cache below. Blocks.
    pub(crate) fn action(&self, domain: &Domain, action: &Key) -> Option<Entry> {
        let here = domain.look_up(KIND, action.hash).iter().find_map(|id| self.blobs.entry(id));
        here.or_else(|| self.upstream.as_ref()?.entry(&self.blobs, domain, action))
    }

    /// Brings blobs that are only in the cache below, if there is one: to be called before they are read. Blocks.
    pub(crate) fn fetch(&self, domain: &Domain, keys: impl IntoIterator<Item = Key>) {
        if let Some(upstream) = &self.upstream {
            upstream.fetch(&self.blobs, domain, &keys.into_iter().collect::<Vec<_>>());
        }
    }

    /// Tells the cache below, if there is one, that these blobs were stored.
    pub(crate) fn stored(&self, domain: &Domain, keys: impl IntoIterator<Item = Key>) {
        if let Some(upstream) = &self.upstream {
            upstream.offer_blobs(domain, keys.into_iter().collect());
        }
    }

    /// Lets a caller in by its `authorization` header and the instance it names.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, headers: &HeaderMap, instance: &str) -> Result<Access, Denied> {
        let mut access = self.gatekeeper.admit(authorization(headers), instance, now())?;
        if let Some(run) = run(headers) {
            access.writer.push_str(" run ");
            access.writer.push_str(&run);
        }
        Ok(access)
    }
}

/// Its work is done by the runtime that this is called in.
fn bucket(settings: &S3Settings, blobs: &Blobs) -> Result<LowerTier, ServeError> {
    let runtime = Handle::try_current().map_err(|error| ServeError::Threads(std::io::Error::other(error)))?;
    Ok(LowerTier::start(settings, blobs, &runtime)?)
}

/// The value of a request's `authorization` header.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// The run that a caller says it is: the invocation that clients of the Remote Execution API tell. It proves nothing.
fn run(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("build.bazel.remote.execution.v2.requestmetadata-bin")?.as_bytes();
    let bytes = STANDARD.decode(value).or_else(|_| STANDARD_NO_PAD.decode(value)).ok()?;
    let run = RequestMetadata::decode(&*bytes).ok()?.tool_invocation_id;
    let is_plain = run.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/".contains(c));
    (!run.is_empty() && run.len() <= RUN_BYTES_MAX && is_plain).then_some(run)
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Does what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never aborted, so it panicked: that is a defect, and belongs to the task that asked.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_its_token_and_the_run_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::open(&Config::local(folder.path())).unwrap();
        let told = |run: &str| {
            let metadata = RequestMetadata { tool_invocation_id: run.into(), ..RequestMetadata::default() };
            let mut headers = HeaderMap::new();
            let value = STANDARD_NO_PAD.encode(metadata.encode_to_vec()).parse().unwrap();
            headers.insert("build.bazel.remote.execution.v2.requestmetadata-bin", value);
            service.admit(&headers, "main").unwrap().writer
        };
        assert_eq!(told("4711-ab"), "anonymous run 4711-ab");
        assert_eq!(told("4711\nab"), "anonymous");
        assert_eq!(told(&"a".repeat(RUN_BYTES_MAX + 1)), "anonymous");
        assert_eq!(service.admit(&HeaderMap::new(), "main").unwrap().writer, "anonymous");
    }
}
