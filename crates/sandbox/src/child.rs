//! A started process and everything below it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{Exit, Usage};

/// A started process tree. Dropping it kills and reaps all of it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// The process id, on the host, of the tree's first process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Becomes readable when the whole tree is gone; then [`Child::try_wait`] has the result.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until the command has ended and everything it left behind is gone. May be called again.
    ///
    /// # Errors
    /// Only what the kernel says against waiting.
    pub fn wait(&mut self) -> io::Result<(Exit, Usage)> {
        todo!()
    }

    /// Like [`Child::wait`], but `None` when it is not over yet.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<(Exit, Usage)>> {
        todo!()
    }

    /// Sends SIGTERM to every process of the tree.
    pub fn terminate(&self) {
        todo!()
    }

    /// Sends SIGKILL to every process of the tree; none can escape. Does not wait.
    pub fn kill(&self) {
        todo!()
    }
}
