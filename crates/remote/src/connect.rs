//! The connection, what the server says it can do, and the questions that are one request.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use model::Digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::codegen::{BoxFuture, http};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::breaker::Breaker;
use crate::counted::{Counted, Counters, Meter, add};
use crate::{Error, Options};

/// What a server that names no bound takes in one message, less its frame: the default of gRPC is 4 MiB.
const BATCH_BYTES_DEFAULT: u64 = (4 << 20) - (64 << 10);
/// What one batch of ours holds at most: the next one is under way meanwhile.
const BATCH_BYTES_MAX: u64 = 2 << 20;
/// A smaller bound than this is taken for this: one request a digest would never end.
const BATCH_BYTES_MIN: u64 = 16 << 10;
/// An answer: a batch of a server that bounds nothing, or the result of an action with many files.
pub(crate) const MESSAGE_BYTES_MAX: usize = 20 << 20;
/// Digests in one `FindMissingBlobs`: 80 bytes each, well below any bound of a message.
const FIND_MAX: usize = 10_000;
/// HTTP/2 windows of a stream and of the connection in bytes.
const WINDOW_BYTES: u32 = 4 << 20;

/// What the server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content that one batch holds at most.
    pub batch_bytes: u64,
    /// Streams may be compressed with zstd.
    pub zstd: bool,
    /// Batches may be compressed with zstd.
    pub zstd_batches: bool,
    /// We may write action results.
    pub may_update: bool,
}

/// A shared cache, seen from here. Cheap to clone; used from any number of threads.
#[derive(Clone)]
pub struct Remote {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    line: Arc<OnceLock<Result<Line, Error>>>,
    limits: Mutex<Option<Result<Limits, Error>>>,
    pub(crate) breaker: Breaker,
    pub(crate) counters: Arc<Counters>,
    closed: watch::Sender<bool>,
    invocation: Mutex<String>,
}

/// The thread that keeps the connection.
struct Line {
    runtime: Option<tokio::runtime::Runtime>,
    channel: Channel,
}

impl Drop for Line {
    fn drop(&mut self) {
        // Not a wait: what still runs there concerns nobody any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    /// A cache that is not asked yet: nothing is started or connected.
    pub fn new(options: Options) -> Remote {
        let invocation = Mutex::new(options.invocation.clone());
        Remote {
            inner: Arc::new(Inner {
                options,
                line: Arc::default(),
                limits: Mutex::default(),
                breaker: Breaker::default(),
                counters: Arc::default(),
                closed: watch::Sender::new(false),
                invocation,
            }),
        }
    }

    /// Another instance of the same server, asked over the same connection. What fails there is counted by itself.
    pub fn at_instance(&self, instance: &str) -> Remote {
        let mut options = self.inner.options.clone();
        options.address.instance = instance.trim_matches('/').to_string();
        let mut other = Remote::new(options);
        if let Some(inner) = Arc::get_mut(&mut other.inner) {
            inner.line = self.inner.line.clone();
            inner.counters = self.inner.counters.clone();
        }
        other
    }

    /// How it is asked.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Tells the server from now on that it is this run that asks.
    pub fn set_invocation(&self, run: &str) {
        *lock(&self.inner.invocation) = run.to_string();
    }

    /// What the server says of itself; asked once.
    ///
    /// # Errors
    /// It does not answer, refuses us, or does not know SHA-256.
    pub fn limits(&self) -> Result<Limits, Error> {
        self.block(self.limits_now())
    }

    /// Which of the blobs are not there. The others stay for a while.
    ///
    /// # Errors
    /// It does not answer or refuses us.
    pub fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        self.block(async {
            self.limits_now().await?;
            let mut missing = Vec::new();
            for part in digests.chunks(FIND_MAX) {
                missing.extend(self.missing_of(part).await?);
            }
            Ok(missing)
        })
    }

    /// The encoded `ActionResult` of an action, perhaps with its log and the file `inline` in it; `None` when there is none.
    ///
    /// # Errors
    /// It does not answer or refuses us.
    pub fn action(&self, digest: &Digest, inline: Option<&str>) -> Result<Option<Bytes>, Error> {
        self.block(async {
            self.limits_now().await?;
            self.action_now(digest, inline).await
        })
    }

    /// As [`Remote::action`] for many at once, in their order.
    pub fn actions(&self, digests: &[Digest], inline: Option<&str>) -> Vec<Result<Option<Bytes>, Error>> {
        self.block(async {
            if let Err(error) = self.limits_now().await {
                return vec![Err(error); digests.len()];
            }
            use futures_util::StreamExt;
            let asked = digests.iter().map(|digest| self.action_now(digest, inline));
            futures_util::stream::iter(asked).buffered(64).collect().await
        })
    }

    /// Writes an encoded `ActionResult`. The blobs it names must be there.
    ///
    /// # Errors
    /// It does not answer, refuses us, or the bytes are no `ActionResult`.
    pub fn set_action(&self, digest: &Digest, result: &[u8]) -> Result<(), Error> {
        self.block(async {
            self.limits_now().await?;
            self.set_action_now(digest, result).await
        })
    }

    /// As [`Remote::set_action`] for many at once.
    ///
    /// # Errors
    /// As [`Remote::set_action`], of the first that failed; the others were tried, too.
    pub fn set_actions(&self, results: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        use futures_util::StreamExt;
        self.block(async {
            self.limits_now().await?;
            let written = results.iter().map(|(digest, result)| self.set_action_now(digest, result));
            let written: Vec<Result<(), Error>> = futures_util::stream::iter(written).buffered(16).collect().await;
            written.into_iter().collect()
        })
    }

    /// What was asked and moved so far.
    pub fn counted(&self) -> Counted {
        self.inner.counters.now()
    }

    /// Bytes in both directions so far: when this stands still, nothing moves.
    pub fn moved(&self) -> u64 {
        self.inner.counters.moved()
    }

    /// Why the cache was given up for the first time, if it was.
    pub fn trouble(&self) -> Option<String> {
        self.inner.breaker.first()
    }

    /// Ends all that is under way; every call from now on fails at once.
    pub fn close(&self) {
        self.inner.breaker.close();
        self.inner.closed.send_replace(true);
    }

    pub(crate) async fn limits_now(&self) -> Result<Limits, Error> {
        if let Some(known) = self.limits_known() {
            return known;
        }
        let asked = self.ask_limits().await;
        match &asked {
            Ok(_) => *lock(&self.inner.limits) = Some(asked.clone()),
            // Neither time nor another try makes it understand us.
            Err(error @ (Error::Refused { .. } | Error::Wrong { .. } | Error::Unusable(_))) => {
                self.give_up(&error.to_string());
                *lock(&self.inner.limits) = Some(asked.clone());
            }
            Err(Error::Unavailable { .. }) => {
                self.give_up(&asked.as_ref().map_or_else(Error::to_string, |_| String::new()))
            }
            Err(_) => {}
        }
        asked
    }

    fn limits_known(&self) -> Option<Result<Limits, Error>> {
        lock(&self.inner.limits).clone()
    }

    fn give_up(&self, why: &str) {
        self.inner.breaker.failed(why, true, Instant::now(), self.inner.options.rest);
    }

    async fn ask_limits(&self) -> Result<Limits, Error> {
        const ACT: &str = "ask what it can do";
        let message = api::GetCapabilitiesRequest { instance_name: self.instance() };
        let channel = self.channel()?;
        let mut client =
            api::capabilities_client::CapabilitiesClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let patience = self.inner.options.connect.max(self.inner.options.look_up);
        let answer = self.ask(ACT, patience, client.get_capabilities(self.request(message))).await?;
        let cache = answer
            .into_inner()
            .cache_capabilities
            .ok_or_else(|| Error::Wrong { act: ACT, what: "that it is no cache".into() })?;
        let sha256 = i32::from(api::digest_function::Value::Sha256);
        if !cache.digest_functions.is_empty() && !cache.digest_functions.contains(&sha256) {
            return Err(Error::Wrong { act: ACT, what: "that it does not know SHA-256".into() });
        }
        Ok(limits_of(&cache))
    }

    async fn missing_of(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        const ACT: &str = "ask which blobs are there";
        let message = api::FindMissingBlobsRequest {
            instance_name: self.instance(),
            blob_digests: digests.iter().map(wire).collect(),
            digest_function: api::digest_function::Value::Sha256.into(),
        };
        let mut client = self.content()?;
        let patience = self.inner.options.look_up + Duration::from_millis(digests.len() as u64);
        let answer = self.ask(ACT, patience, client.find_missing_blobs(self.request(message))).await?;
        let asked: std::collections::HashSet<&Digest> = digests.iter().collect();
        let missing = answer.into_inner().missing_blob_digests;
        // What we did not ask for is none of our business.
        Ok(missing.iter().filter_map(read_digest).filter(|digest| asked.contains(digest)).collect())
    }

    async fn action_now(&self, digest: &Digest, inline: Option<&str>) -> Result<Option<Bytes>, Error> {
        const ACT: &str = "look a result up";
        let message = api::GetActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(wire(digest)),
            inline_stdout: inline.is_some(),
            inline_output_files: inline.map(String::from).into_iter().collect(),
            digest_function: api::digest_function::Value::Sha256.into(),
            ..api::GetActionResultRequest::default()
        };
        let mut client = self.action_cache()?;
        let answer = self.ask_or_absent(ACT, client.get_action_result(self.request(message))).await?;
        let counters = &self.inner.counters;
        add(if answer.is_some() { &counters.hits } else { &counters.misses }, 1);
        Ok(answer.map(|answer| Bytes::from(prost_encode(&answer.into_inner()))))
    }

    async fn set_action_now(&self, digest: &Digest, result: &[u8]) -> Result<(), Error> {
        let decoded: api::ActionResult =
            prost_decode(result).ok_or_else(|| Error::Unusable("the bytes are no ActionResult".into()))?;
        let message = api::UpdateActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(wire(digest)),
            action_result: Some(decoded),
            results_cache_policy: None,
            digest_function: api::digest_function::Value::Sha256.into(),
        };
        let mut client = self.action_cache()?;
        let asked = client.update_action_result(self.request(message));
        self.ask("write a result", self.inner.options.silence, asked).await.map(|_| ())
    }

    async fn ask_or_absent<T>(
        &self,
        act: &'static str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Option<T>, Error> {
        let absent = async {
            match work.await {
                Ok(answer) => Ok(Some(answer)),
                Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        };
        self.ask(act, self.inner.options.look_up, absent).await
    }

    /// One request: the only place that waits for the server. Remembers how it went.
    pub(crate) async fn ask<T>(
        &self,
        act: &'static str,
        patience: Duration,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        self.inner.breaker.admit(Instant::now())?;
        let mut closed = self.inner.closed.subscribe();
        let ended = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return Err(Error::Gone("the run is over".into())),
            ended = tokio::time::timeout(patience, work) => ended,
        };
        let result = match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Error::of(act, &status)),
            Err(_) => Err(Error::Unavailable { act, why: format!("no answer within {}", shown(patience)) }),
        };
        self.note(&result);
        result
    }

    fn note<T>(&self, result: &Result<T, Error>) {
        match result {
            Err(error @ Error::Unavailable { .. }) => {
                add(&self.inner.counters.failures, 1);
                let said = error.to_string();
                // Nobody listens there: waiting would not change it.
                let for_certain = said.contains("refused") || said.contains("unreachable");
                self.inner.breaker.failed(&said, for_certain, Instant::now(), self.inner.options.rest);
            }
            Err(_) => add(&self.inner.counters.failures, 1),
            Ok(_) => self.inner.breaker.answered(),
        }
    }

    /// Waits here for what happens there.
    pub(crate) fn block<T>(&self, work: impl Future<Output = T>) -> T
    where
        T: OrFailed,
    {
        let line = match self.line() {
            Ok(line) => line,
            Err(error) => return T::failed(error),
        };
        let Some(runtime) = &line.runtime else { return T::failed(Error::Gone("the run is over".into())) };
        let began = Instant::now();
        let done = runtime.block_on(work);
        add(&self.inner.counters.waited_us, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        done
    }

    pub(crate) fn instance(&self) -> String {
        self.inner.options.address.instance.clone()
    }

    pub(crate) fn content(
        &self,
    ) -> Result<api::content_addressable_storage_client::ContentAddressableStorageClient<Channel>, Error> {
        let channel = self.channel()?;
        Ok(api::content_addressable_storage_client::ContentAddressableStorageClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn action_cache(&self) -> Result<api::action_cache_client::ActionCacheClient<Channel>, Error> {
        let channel = self.channel()?;
        Ok(api::action_cache_client::ActionCacheClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn channel(&self) -> Result<Channel, Error> {
        self.line().map(|line| line.channel.clone())
    }

    /// A request with who we are.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let options = &self.inner.options;
        if let Some(header) = options.token.as_ref().and_then(|token| MetadataValue::try_from(token.header()).ok()) {
            request.metadata_mut().insert("authorization", header);
        }
        tell(request.metadata_mut(), &lock(&self.inner.invocation));
        request
    }

    fn line(&self) -> Result<&Line, Error> {
        let line = self.inner.line.get_or_init(|| Line::open(&self.inner.options, &self.inner.counters));
        match line {
            Ok(line) => Ok(line),
            Err(error) => {
                self.give_up(&error.to_string());
                Err(error.clone())
            }
        }
    }
}

/// What a call returns when it could not even be begun.
pub(crate) trait OrFailed {
    /// That.
    fn failed(error: Error) -> Self;
}

impl<T> OrFailed for Result<T, Error> {
    fn failed(error: Error) -> Self {
        Err(error)
    }
}

impl<T> OrFailed for Vec<Result<T, Error>> {
    fn failed(error: Error) -> Self {
        vec![Err(error)]
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.inner.options.address)
    }
}

impl Line {
    fn open(options: &Options, counters: &Arc<Counters>) -> Result<Line, Error> {
        let tls = options.address.tls.then(|| trust(options)).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(16)
            .thread_name("remote")
            .enable_all()
            .build()
            .map_err(|error| Error::Unusable(format!("cannot start the thread that speaks to the cache: {error}")))?;
        let channel = {
            let _inside = runtime.enter();
            channel(options, tls, counters)?
        };
        Ok(Line { runtime: Some(runtime), channel })
    }
}

/// A connection for calls of another service of the same server, made anew by the first call and whenever it was lost. To be
/// called where tokio runs.
///
/// # Errors
/// The address or a certificate cannot be used.
pub fn connection(options: &Options) -> Result<Channel, Error> {
    let tls = options.address.tls.then(|| trust(options)).transpose()?;
    channel(options, tls, &Arc::default())
}

fn channel(
    options: &Options,
    tls: Option<tokio_rustls::TlsConnector>,
    counters: &Arc<Counters>,
) -> Result<Channel, Error> {
    let address = &options.address;
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let origin = |scheme: &str| -> Result<http::Uri, Error> {
        let text = format!("{scheme}://{host}:{}", address.port);
        text.parse().map_err(|error| Error::Unusable(format!("{text} is no address: {error}")))
    };
    // TLS is ours, so that its bytes are counted and its roots are the system's; the library sees a plain connection.
    let endpoint = Endpoint::from(origin("http")?)
        .origin(origin(if address.tls { "https" } else { "http" })?)
        .user_agent(concat!("paceline/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Error::Unusable(error.to_string()))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10));
    let dial = Dial {
        host: address.host.clone(),
        port: address.port,
        patience: options.connect,
        tls,
        counters: counters.clone(),
    };
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| dial.clone().connect())))
}

/// How a connection is made.
#[derive(Clone)]
struct Dial {
    host: String,
    port: u16,
    patience: Duration,
    tls: Option<tokio_rustls::TlsConnector>,
    counters: Arc<Counters>,
}

trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Wire for T {}

impl Dial {
    fn connect(self) -> BoxFuture<TokioIo<Box<dyn Wire>>, std::io::Error> {
        Box::pin(async move {
            let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time");
            tokio::time::timeout(self.patience, self.connect_at_last()).await.map_err(late)?
        })
    }

    async fn connect_at_last(&self) -> std::io::Result<TokioIo<Box<dyn Wire>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let metered = Meter { inner: stream, counters: self.counters.clone() };
        let wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(metered),
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
                Box::new(tls.connect(name, metered).await?)
            }
        };
        Ok(TokioIo::new(wire))
    }
}

fn trust(options: &Options) -> Result<tokio_rustls::TlsConnector, Error> {
    let unusable = |why: String| Error::Unusable(format!("cannot encrypt the way to the cache: {why}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match &options.ca {
        None => builder.with_platform_verifier().map_err(|error| unusable(error.to_string()))?,
        Some(path) => {
            let bad = |why: String| unusable(format!("{}: {why}", path.display()));
            let mut roots = rustls::RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("there is no certificate in it".into()));
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => identified(builder, certificate, key).map_err(unusable)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

type Trusting = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn identified(builder: Trusting, certificate: &Path, key: &Path) -> Result<rustls::ClientConfig, String> {
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {error}", certificate.display()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    builder.with_client_auth_cert(certificates, secret).map_err(|error| error.to_string())
}

/// What the server may write down beside what we write.
fn tell(metadata: &mut MetadataMap, invocation: &str) {
    let said = api::RequestMetadata {
        tool_details: Some(api::ToolDetails {
            tool_name: "paceline".into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
        }),
        tool_invocation_id: invocation.to_string(),
        ..api::RequestMetadata::default()
    };
    let value = MetadataValue::from_bytes(&prost_encode(&said));
    metadata.insert_bin("build.bazel.remote.execution.v2.requestmetadata-bin", value);
}

fn limits_of(cache: &api::CacheCapabilities) -> Limits {
    let zstd = i32::from(api::compressor::Value::Zstd);
    let offered = match u64::try_from(cache.max_batch_total_size_bytes) {
        Ok(0) | Err(_) => BATCH_BYTES_DEFAULT,
        Ok(bytes) => bytes,
    };
    let update = cache.action_cache_update_capabilities.as_ref();
    Limits {
        batch_bytes: offered.clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX),
        zstd: cache.supported_compressors.contains(&zstd),
        zstd_batches: cache.supported_batch_update_compressors.contains(&zstd),
        may_update: update.is_some_and(|update| update.update_enabled),
    }
}

pub(crate) fn wire(digest: &Digest) -> api::Digest {
    api::Digest { hash: digest.hex(), size_bytes: i64::try_from(digest.size).unwrap_or(i64::MAX) }
}

pub(crate) fn read_digest(digest: &api::Digest) -> Option<Digest> {
    Digest::from_hex(&digest.hash, u64::try_from(digest.size_bytes).ok()?)
}

fn prost_encode(message: &impl tonic_prost::prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

fn prost_decode<M: tonic_prost::prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(time: Duration) -> String {
    model::units::show_duration(time)
}
