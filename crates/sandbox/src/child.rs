//! A started process and everything below it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use libc::{c_int, c_void};

use crate::cgroup::Group;
use crate::inside::Report;
use crate::{Exit, Usage, launch, reap};

/// Any word does: it is awaited once, before others are listened to.
const GO_ON: u8 = b'G';

/// A started process tree. Dropping it kills and reaps all of it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedFd,
    isolated: bool,
    ended: Option<(Exit, Usage)>,
    /// Its control group goes when it has gone, not before: an inhabited one cannot.
    group: Option<Arc<Group>>,
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, control: OwnedFd, isolated: bool) -> Child {
        Child { pid, pidfd, control, isolated, ended: None, group: None }
    }

    /// The process id, on the host, of the tree's first process. It is not reused before [`Child::wait`] was called.
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
        loop {
            if let Some(ended) = self.collect(0)? {
                return Ok(ended);
            }
        }
    }

    /// Like [`Child::wait`], but `None` when it is not over yet.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<(Exit, Usage)>> {
        self.collect(libc::WNOHANG)
    }

    /// Sends SIGTERM to every process of the tree; without a sandbox, to the command's process group.
    pub fn terminate(&self) {
        self.ask(reap::TERMINATE);
    }

    /// Sends SIGKILL to every process of the tree; in a sandbox none can escape. Does not wait.
    pub fn kill(&self) {
        if self.ended.is_some() {
            return;
        }
        if self.isolated {
            self.kill_first();
        } else {
            // Its first process must survive to kill the others.
            self.ask(reap::KILL);
        }
    }

    /// Killing process 1 of a pid namespace makes the kernel kill all others.
    fn kill_first(&self) {
        let info: *const c_void = std::ptr::null();
        // SAFETY: the descriptor names our child and no other, even when it is long gone.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, info, 0);
        }
    }

    /// Nobody listens any more when it has ended, and then there is nothing to do.
    fn ask(&self, what: u8) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: one byte that lives on this stack.
        unsafe { libc::send(self.control.as_raw_fd(), (&raw const what).cast::<c_void>(), 1, flags) };
    }

    /// Keeps the group at least as long as the processes in it.
    pub(crate) fn inhabit(&mut self, group: Option<Arc<Group>>) {
        self.group = group;
    }

    /// Tells process 1 that what it waits for is done.
    pub(crate) fn go_on(&self) {
        self.ask(GO_ON);
    }

    /// What process 1 says next; `None` when it has ended without another word.
    pub(crate) fn next_report(&mut self) -> Option<Report> {
        self.receive(0)
    }

    fn receive(&self, flags: c_int) -> Option<Report> {
        let mut buffer = launch::report_buffer();
        loop {
            let place = buffer.as_mut_ptr().cast::<c_void>();
            // SAFETY: pointer and length are of one array.
            let read = unsafe { libc::recv(self.control.as_raw_fd(), place, buffer.len(), flags) };
            if read < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Report::from_bytes(buffer.get(..usize::try_from(read).ok()?)?);
        }
    }

    fn collect(&mut self, flags: c_int) -> io::Result<Option<(Exit, Usage)>> {
        if self.ended.is_none() {
            self.ended = reap_first(self.pidfd.as_raw_fd(), flags)?.map(|usage| (self.exit(), usage));
        }
        Ok(self.ended)
    }

    /// Process 1 has ended, so what it had to say is in the socket. If it did not, it was killed.
    fn exit(&self) -> Exit {
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Some(Report::Ended { status }) if libc::WIFSIGNALED(status) => {
                    return Exit::Signal(libc::WTERMSIG(status));
                }
                Some(Report::Ended { status }) => return Exit::Code(libc::WEXITSTATUS(status)),
                Some(_) => {}
                None => return Exit::Signal(libc::SIGKILL),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        // There is nobody to tell; the only error is that somebody else reaped it.
        let _ = self.wait();
    }
}

/// Reaps process 1; `None` when it still runs. Its usage includes that of everything it reaped, which in a pid namespace
/// is everything, because the kernel reaps the rest on its behalf.
fn reap_first(pidfd: c_int, flags: c_int) -> io::Result<Option<Usage>> {
    // SAFETY: both are plain data that the kernel fills; all zero is valid.
    let (mut info, mut usage) = unsafe { (std::mem::zeroed::<libc::siginfo_t>(), std::mem::zeroed::<libc::rusage>()) };
    let options = libc::WEXITED | libc::__WALL | flags;
    loop {
        // SAFETY: as above. Straight to the kernel, because the C library's `waitid` has no usage.
        let result =
            unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, pidfd, &raw mut info, options, &raw mut usage) };
        if result == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Somebody waited for all children of the process. It is over; what it used is unknown.
            Some(libc::ECHILD) => return Ok(Some(Usage::default())),
            _ => return Err(error),
        }
    }
    // SAFETY: `waitid` filled it, or left it zero when nothing has ended.
    let pid = unsafe { info.si_pid() };
    Ok((pid != 0).then(|| Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        memory_peak: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
        // In the kernel's sectors.
        io_read: u64::try_from(usage.ru_inblock).unwrap_or(0).saturating_mul(512),
        io_written: u64::try_from(usage.ru_oublock).unwrap_or(0).saturating_mul(512),
    }))
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    let micros = u64::try_from(value.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
