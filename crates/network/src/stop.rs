//! Waiting for sockets, and for the end of the step at the same time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Dropping it ends all waiting on its [`Stop`].
#[derive(Debug)]
pub(crate) struct Stopper(#[expect(dead_code, reason = "closing it is all it does")] OwnedFd);

/// Every wait of a gate goes through here, so that none outlives it.
#[derive(Debug)]
pub(crate) struct Stop(OwnedFd);

/// The gate is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What is waited for: this on that.
pub(crate) type Want<'f> = (BorrowedFd<'f>, PollFlags);

impl Stop {
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new() -> io::Result<(Stopper, Stop)> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((Stopper(writer), Stop(reader)))
    }

    /// Waits until one of these is ready, or the time is over. What is ready stands at the place of its wish; an error
    /// on a socket counts as ready, because the next call on it will tell.
    pub(crate) fn wait(&self, wants: &[Want<'_>], timeout: Option<Duration>) -> Result<Vec<bool>, Stopped> {
        let mut fds = Vec::with_capacity(wants.len() + 1);
        fds.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::empty()));
        fds.extend(wants.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        // A duration that does not fit is as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) if !fds[0].revents().is_empty() => Err(Stopped),
            Ok(_) => Ok(fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect()),
            // Interrupted: the caller looks again.
            Err(_) => Ok(vec![false; wants.len()]),
        }
    }

    /// Waits for this one. `false` when the time is over.
    pub(crate) fn ready(&self, fd: impl AsFd, flags: PollFlags, timeout: Duration) -> Result<bool, Stopped> {
        Ok(self.wait(&[(fd.as_fd(), flags)], Some(timeout))?[0])
    }
}
