//! One place for everything: the listeners, the protocols on a connection, and the way to the two routers.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::{ServiceExt, service_fn};

use crate::access::GatekeeperError;
use crate::config::Listen;
use crate::meters::{Ending, Protocol};
use crate::{Config, Service};

mod journal;
mod listener;
mod patience;
mod tls;

use journal::Journal;
use listener::{Listener, Stream};
use patience::{IdleBody, Patience};

/// HTTP/2 window of a stream and of a connection in bytes: a large blob must not wait for the client's next word.
const WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 frames in bytes: the default of 16 KiB costs a large stream a third of its speed.
const FRAME_BYTES: u32 = 1 << 20;
/// HTTP/2 streams of one connection at a time.
const STREAMS_MAX: u32 = 1024;
/// Requests that are worked on at a time, of all connections together; further ones wait their turn.
const REQUESTS_MAX: usize = 4096;
/// For the head of a request over HTTP/1, from the end of the last one on: also how long an idle connection stays.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// For the handshake of an encrypted connection.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Why a shared cache cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] blobs::Error),
    /// The tokens cannot be read, or the cache would be open by mistake.
    #[error(transparent)]
    Gatekeeper(#[from] GatekeeperError),
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {listen}: {source}; name another place with --listen")]
    Listen {
        /// Where.
        listen: Listen,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or key does not serve.
    #[error("cannot encrypt with {path}: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The log cannot be written.
    #[error("cannot write the log {path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The cache below this one cannot be used.
    #[error("upstream: {0}")]
    Upstream(String),
    /// The bucket below this one cannot be used.
    #[error(transparent)]
    S3(#[from] crate::s3::S3Error),
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

/// A shared cache that is being served. Dropping it ends it at once; [`Running::stop`] lets requests finish.
#[derive(Debug)]
pub struct Running {
    /// Where it listens first, with the real port; `0.0.0.0:0` when it has only sockets in the file system.
    pub address: SocketAddr,
    /// Everywhere it listens, with the real ports.
    pub listens: Vec<Listen>,
    /// What its handlers share.
    pub service: Arc<Service>,
    runtime: Option<tokio::runtime::Runtime>,
    stop: watch::Sender<bool>,
    ended: Option<tokio::task::JoinHandle<()>>,
}

/// What all connections share.
struct Hall {
    service: Arc<Service>,
    http: axum::Router,
    grpc: axum::Router,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    requests: Semaphore,
    journal: Option<Journal>,
}

/// Binds the addresses, opens the store and answers from now on, in threads of its own. Who comes while the store is
/// being opened waits and is not turned away: clients take a closed port for the end of the build.
///
/// # Errors
/// An address cannot be bound, the store not be opened, or certificate, tokens or log do not serve.
pub fn serve(config: &Config) -> Result<Running, ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cache")
        .build()
        .map_err(ServeError::Threads)?;
    serve_within(config, runtime, |cache, _, _| cache)
}

/// What is served over one port: plain HTTP and gRPC.
#[derive(Debug)]
pub struct Routes {
    /// What is asked over plain HTTP.
    pub http: axum::Router,
    /// What is called over gRPC.
    pub grpc: axum::Router,
}

/// As [`serve`], in a runtime of the caller's choice, and with routes that it makes of the cache's own: for a server that
/// the cache is part of. `routes` is called within the runtime, and hears of what it is served and where.
///
/// # Errors
/// As [`serve`].
pub fn serve_within(
    config: &Config,
    runtime: tokio::runtime::Runtime,
    routes: impl FnOnce(Routes, &Arc<Service>, &[Listen]) -> Routes,
) -> Result<Running, ServeError> {
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let journal = config.log.as_deref().map(Journal::open).transpose()?;
    let bound = config.listen.iter().map(|listen| {
        let _inside = runtime.enter();
        Listener::bind(listen).map_err(|source| ServeError::Listen { listen: listen.clone(), source })
    });
    let listeners = bound.collect::<Result<Vec<_>, _>>()?;
    let listens: Vec<Listen> = listeners.iter().map(Listener::place).collect();
    let service = {
        let _inside = runtime.enter();
        Arc::new(Service::open(config)?)
    };
    let Routes { http, grpc } = {
        let _inside = runtime.enter();
        let http = crate::http::router(service.clone()).merge(crate::admin::router(service.clone()));
        let grpc = crate::grpc::routes(service.clone()).prepare().into_axum_router();
        routes(Routes { http, grpc }, &service, &listens)
    };
    let hall = Arc::new(Hall {
        http,
        grpc,
        service: service.clone(),
        tls,
        connections: Arc::new(Semaphore::new(config.connections_max)),
        requests: Semaphore::new(REQUESTS_MAX),
        journal,
    });
    let (stop, stopped) = watch::channel(false);
    let ended = runtime.spawn(accept_all(listeners, hall, stopped));
    let tcp = listens.iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    });
    let address = tcp.unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    Ok(Running { address, listens, service, runtime: Some(runtime), stop, ended: Some(ended) })
}

impl Running {
    /// Takes no more connections, lets running requests finish and what was written go to the cache below within `grace`,
    /// and writes the store's state down. Whether all requests did finish.
    pub fn stop(mut self, grace: Duration) -> bool {
        let began = std::time::Instant::now();
        let _ = self.stop.send(true);
        let mut finished = true;
        if let (Some(runtime), Some(ended)) = (self.runtime.take(), self.ended.take()) {
            finished = runtime.block_on(async { tokio::time::timeout(grace, ended).await }).is_ok();
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        if let Some(upstream) = &self.service.upstream {
            upstream.finish(grace.saturating_sub(began.elapsed()));
        }
        if let Err(error) = self.service.blobs.flush() {
            crate::complain(&format!("the next start takes longer: {error}"));
        }
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed within another runtime; elsewhere the folder is free once this returns.
            match tokio::runtime::Handle::try_current() {
                Ok(_) => runtime.shutdown_background(),
                Err(_) => runtime.shutdown_timeout(Duration::from_secs(5)),
            }
        }
    }
}

async fn accept_all(listeners: Vec<Listener>, hall: Arc<Hall>, stopped: watch::Receiver<bool>) {
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, hall.clone(), stopped.clone()));
    }
    while accepting.join_next().await.is_some() {}
}

async fn accept(listener: Listener, hall: Arc<Hall>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        // First room, then the connection: what waits does so in the kernel's queue and costs nothing here.
        let next = async {
            let permit = hall.connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, or the peer has gone already: the next one may do better.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (hall, stopped) = (hall.clone(), stopped.clone());
        connections.spawn(async move {
            welcome(stream, peer, hall, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Encrypts where that is asked for. What goes wrong on a connection concerns its client alone, and that one knows.
async fn welcome(stream: Stream, peer: String, hall: Arc<Hall>, stopped: watch::Receiver<bool>) {
    match (stream, hall.tls.clone()) {
        (Stream::Tcp(stream), Some(tls)) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
                converse(stream, peer, hall, stopped).await;
            }
        }
        (Stream::Tcp(stream), None) => converse(stream, peer, hall, stopped).await,
        (Stream::Unix(stream), _) => converse(stream, peer, hall, stopped).await,
    }
}

async fn converse<S>(stream: S, peer: String, hall: Arc<Hall>, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer: Arc<str> = peer.into();
    let routed = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (hall, peer) = (hall.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(request.map(IdleBody::wrap), peer, &hall).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(Patience::new(stream)), TowerToHyperService::new(routed));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Where a request comes from, `address:port`, for routes beside the cache's own.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<str>);

impl Peer {
    /// Without the port.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
    }
}

/// One request: its turn, its router, and a line about it.
async fn answer(mut request: Request<Body>, peer: Arc<str>, hall: &Hall) -> Response<Body> {
    // Never closed, so it never fails.
    let _turn = hall.requests.acquire().await;
    let (is_grpc, began) = (is_grpc(&request), Instant::now());
    request.extensions_mut().insert(Peer(peer.clone()));
    let entry = hall.journal.as_ref().map(|journal| journal.entry(&request, peer, &hall.service));
    let router = if is_grpc { hall.grpc.clone() } else { hall.http.clone() };
    let response = match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(_) => broken(is_grpc),
    };
    if is_grpc {
        hall.service.http.meters.answered(Protocol::Grpc, Ending::of_grpc(response.headers()), began.elapsed());
    }
    match entry {
        Some(entry) => entry.follow(response),
        None => response,
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A defect of ours: the request ends, the others go on. The panic itself was told on standard error.
fn broken(is_grpc: bool) -> Response<Body> {
    const SORRY: &str = "a defect of this cache, described in its log";
    let mut response = Response::new(Body::empty());
    if is_grpc {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("13"));
        headers.insert("grpc-message", HeaderValue::from_static(SORRY));
    } else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        *response.body_mut() = Body::from(format!("{SORRY}\n"));
    }
    response
}

#[cfg(test)]
mod tests;
