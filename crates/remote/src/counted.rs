//! What was asked and moved.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was asked of the shared cache and moved to and from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Action results that were there.
    pub hits: u64,
    /// Action results that were not.
    pub misses: u64,
    /// Bytes sent, as they went over the wire.
    pub bytes_up: u64,
    /// Bytes received, as they came over the wire.
    pub bytes_down: u64,
    /// Blobs that were uploaded.
    pub blobs_up: u64,
    /// Blobs that were downloaded.
    pub blobs_down: u64,
    /// Requests that failed or came too late.
    pub failures: u64,
    /// Time that callers waited, all of them together.
    pub waited: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    pub(crate) blobs_up: AtomicU64,
    pub(crate) blobs_down: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) waited_us: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn now(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            hits: read(&self.hits),
            misses: read(&self.misses),
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
            blobs_up: read(&self.blobs_up),
            blobs_down: read(&self.blobs_down),
            failures: read(&self.failures),
            waited: Duration::from_micros(read(&self.waited_us)),
        }
    }

    /// Bytes in both directions: what says whether something moves.
    pub(crate) fn moved(&self) -> u64 {
        self.bytes_up.load(Ordering::Relaxed).wrapping_add(self.bytes_down.load(Ordering::Relaxed))
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Meter<T> {
    pub(crate) inner: T,
    pub(crate) counters: Arc<Counters>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Meter<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        add(&self.counters.bytes_down, (buf.filled().len() - before) as u64);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Meter<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            add(&self.counters.bytes_up, *written as u64);
        }
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            add(&self.counters.bytes_up, *written as u64);
        }
        polled
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
