//! The log: one line of JSON for each request, written by a thread of its own so that a slow disk slows no request.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use http::{Request, Response, header};
use hyper::body::Frame;
use serde_json::json;

use super::ServeError;
use crate::Service;

/// Lines that may wait for the disk. Beyond that they are counted, and the count is the next line.
const LINES_MAX: usize = 4096;

/// The log.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    /// Begins to write to a file, at its end; `-` is standard output.
    pub(super) fn open(path: &Path) -> Result<Journal, ServeError> {
        let refused = |source| ServeError::Log { path: path.to_owned(), source };
        let out: Box<dyn Write + Send> = match path == Path::new("-") {
            true => Box::new(std::io::stdout()),
            false => Box::new(OpenOptions::new().create(true).append(true).open(path).map_err(refused)?),
        };
        let (lines, taken) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let journal = Journal { lines, lost: lost.clone() };
        let write = move || write_all(out, &taken, &lost);
        std::thread::Builder::new().name("cache log".into()).spawn(write).map_err(ServeError::Threads)?;
        Ok(journal)
    }

    /// Begins a line. Queries and headers are left out: they have secrets.
    pub(super) fn entry(&self, request: &Request<Body>, peer: Arc<str>, service: &Service) -> Entry {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Entry {
            journal: self.clone(),
            peer,
            who: service.gatekeeper.name(authorization, crate::service::now()),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            protocol: format!("{:?}", request.version()),
            began: Instant::now(),
            status: 0,
            grpc: None,
            bytes: 0,
        }
    }

    fn write(&self, line: String) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(mut out: Box<dyn Write + Send>, lines: &Receiver<String>, lost: &AtomicU64) {
    for line in lines {
        let lost = lost.swap(0, Ordering::Relaxed);
        let lost = if lost > 0 { format!("{}\n", json!({ "lines_lost": lost })) } else { String::new() };
        // A log that cannot be written stops nobody's build.
        let _ = out.write_all(format!("{lost}{line}\n").as_bytes()).and_then(|()| out.flush());
    }
}

/// One request. Written when its answer has gone, or nobody waits for it any more.
pub(super) struct Entry {
    journal: Journal,
    peer: Arc<str>,
    who: Option<String>,
    method: String,
    path: String,
    protocol: String,
    began: Instant,
    status: u16,
    grpc: Option<String>,
    bytes: u64,
}

impl Entry {
    /// Follows the answer to its end.
    pub(super) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.status = response.status().as_u16();
        self.grpc = text(response.headers().get("grpc-status"));
        response.map(|body| Body::new(Followed { body, entry: self }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let line = json!({
            "time": jiff::Timestamp::now().to_string(),
            "peer": &*self.peer,
            "who": self.who,
            "protocol": self.protocol,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "grpc_status": self.grpc,
            "bytes": self.bytes,
            "ms": self.began.elapsed().as_micros() as f64 / 1000.0,
        });
        self.journal.write(line.to_string());
    }
}

struct Followed {
    body: Body,
    entry: Entry,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(trailers) = frame.trailers_ref() {
                this.entry.grpc = text(trailers.get("grpc-status"));
            }
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

fn text(value: Option<&http::HeaderValue>) -> Option<String> {
    value.and_then(|value| value.to_str().ok()).map(str::to_owned)
}
