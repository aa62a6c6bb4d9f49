//! One port for everything: the listener, the protocols on a connection, and the way to the two routers.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::{ServiceExt, service_fn};

use crate::{Config, Service};

/// HTTP/2 window of a stream and of a connection in bytes: a large blob must not wait for the client's next word.
const WINDOW_BYTES: u32 = 8 << 20;
/// HTTP/2 frames in bytes: the default of 16 KiB costs a large stream a third of its speed.
const FRAME_BYTES: u32 = 1 << 20;

/// Why a shared cache cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] blobs::Error),
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

/// A shared cache that is being served. Dropping it ends it at once; [`Running::stop`] lets requests finish.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    /// What its handlers share.
    pub service: Arc<Service>,
    runtime: Option<tokio::runtime::Runtime>,
    stop: watch::Sender<bool>,
    ended: Option<tokio::task::JoinHandle<()>>,
}

/// Opens the store, binds the address and answers from now on, in threads of its own.
///
/// # Errors
/// The store cannot be opened or the address not be bound.
pub fn serve(config: &Config) -> Result<Running, ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cache")
        .build()
        .map_err(ServeError::Threads)?;
    let listen = |source| ServeError::Listen { address: config.listen, source };
    let listener = runtime.block_on(TcpListener::bind(config.listen)).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let service = Arc::new(Service::open(config)?);
    let (stop, stopped) = watch::channel(false);
    let ended = runtime.spawn(accept(listener, service.clone(), stopped));
    Ok(Running { address, service, runtime: Some(runtime), stop, ended: Some(ended) })
}

impl Running {
    /// Takes no more connections, lets running requests finish within `grace`, and writes the store's state down.
    pub fn stop(mut self, grace: std::time::Duration) {
        let _ = self.stop.send(true);
        if let (Some(runtime), Some(ended)) = (self.runtime.take(), self.ended.take()) {
            let _ = runtime.block_on(async { tokio::time::timeout(grace, ended).await });
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        }
        let _ = self.service.blobs.flush();
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let http = crate::http::router(service.clone());
    let grpc = crate::grpc::routes(service).prepare().into_axum_router();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the peer has gone already: the next one may do better.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            },
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        let (http, grpc, stopped) = (http.clone(), grpc.clone(), stopped.clone());
        let routed = service_fn(move |request: Request<hyper::body::Incoming>| {
            route(request.map(Body::new), http.clone(), grpc.clone())
        });
        connections.spawn(converse(TokioIo::new(stream), routed, stopped));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse<S, F>(stream: TokioIo<tokio::net::TcpStream>, routed: S, mut stopped: watch::Receiver<bool>)
where
    S: tower::Service<Request<hyper::body::Incoming>, Response = Response<Body>, Error = Infallible, Future = F>,
    S: Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(1024);
    let connection = builder.serve_connection_with_upgrades(stream, TowerToHyperService::new(routed));
    tokio::pin!(connection);
    loop {
        tokio::select! {
            // What goes wrong on a connection concerns its client alone, and that one knows.
            _ = connection.as_mut() => return,
            _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
        }
    }
}

async fn route(request: Request<Body>, http: axum::Router, grpc: axum::Router) -> Result<Response<Body>, Infallible> {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let router = if is_grpc { grpc } else { http };
    router.oneshot(request).await
}
