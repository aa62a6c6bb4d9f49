//! How long a client may keep a connection or a request waiting.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Until a connection has said enough to tell HTTP/1 from HTTP/2.
const FIRST_TIME: Duration = Duration::from_secs(20);
/// The shortest request of HTTP/1 is longer than that, and so is the greeting of HTTP/2.
const FIRST_BYTES: usize = 16;
/// For a peer to take any of what was sent to it.
const STALL_TIME: Duration = Duration::from_secs(120);
/// For the next part of a request's body.
const BODY_TIME: Duration = Duration::from_secs(120);

/// A connection that ends when its peer says nothing at first or takes nothing later. Silence between requests is up to
/// the protocols: HTTP/1 waits for the next head so long, HTTP/2 asks whether anybody is there.
pub(super) struct Patience<S> {
    stream: S,
    seen: usize,
    first: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S) -> Patience<S> {
        Patience { stream, seen: 0, first: Some(Box::pin(sleep(FIRST_TIME))), stalled: None }
    }

    /// Counts a write that waits, and forgets about it when it moved.
    fn moved<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(first) = &mut this.first else { return polled };
        this.seen += buf.filled().len() - before;
        if this.seen >= FIRST_BYTES {
            this.first = None;
            return polled;
        }
        match polled {
            Poll::Pending => first.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.moved(cx, polled)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.moved(cx, polled)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.moved(cx, polled)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.moved(cx, polled)
    }
}

/// A request's body that ends with an error when its next part does not come.
pub(super) struct IdleBody {
    body: hyper::body::Incoming,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl IdleBody {
    pub(super) fn wrap(body: hyper::body::Incoming) -> Body {
        match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(IdleBody { body, waiting: None }),
        }
    }
}

impl HttpBody for IdleBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep(BODY_TIME)));
        let late = || format!("the next part of the body did not come within {} seconds", BODY_TIME.as_secs());
        waiting.as_mut().poll(cx).map(|()| Some(Err(late().into())))
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
