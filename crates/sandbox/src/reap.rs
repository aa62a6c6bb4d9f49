//! What process 1 does while the command runs: buries orphans, passes signals on, and ends with the command or the caller.

use libc::{c_int, c_long, c_void};

use crate::inside::{CONTROL, Report};
use crate::sys::{self, Errno, Fd};

/// The parent asks for SIGTERM to everything.
pub const TERMINATE: u8 = b'T';
/// The parent asks for the end of everything.
pub const KILL: u8 = b'K';

/// Waits for the command, tells the parent, and ends. In a pid namespace the kernel then kills what is left.
///
/// The caller's death shows as the end of the control socket. `PR_SET_PDEATHSIG` would be simpler, but it fires when the
/// *thread* that cloned us ends, and callers may well start from a short-lived one.
pub fn until_the_end(command: c_int, isolated: bool) -> ! {
    Report::Started.send();
    // The command's stdio is not ours: if it closes its output, the reader shall see the end.
    // SAFETY: closes descriptors of this process only.
    unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) };
    let code = match watch(command, isolated) {
        Ok(status) => {
            if !isolated {
                sweep(command);
            }
            Report::Ended { status }.send();
            0
        }
        Err(_) => {
            if !isolated {
                sweep(command);
            }
            1
        }
    };
    sys::exit(code)
}

/// The command's wait status; an error when it is to end early.
fn watch(command: c_int, isolated: bool) -> Result<c_int, Errno> {
    let children = child_signals()?;
    loop {
        // Children first: a command that ended before the descriptor existed has left its signal pending anyway.
        if let Some(status) = reap(command)? {
            return Ok(status);
        }
        let asked = wait_for_either(children.0)?;
        match asked {
            Some(TERMINATE) => terminate(command, isolated),
            Some(_) => return Err(libc::EINTR),
            None => {}
        }
    }
}

/// SIGCHLD as a descriptor. Every signal is blocked here since before we were cloned.
fn child_signals() -> Result<Fd, Errno> {
    let mask = 1u64 << (libc::SIGCHLD - 1);
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the kernel's signal set is these 8 bytes.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size_of::<u64>(), flags) };
    sys::check(fd).map(|fd| Fd(fd as c_int))
}

/// Takes away every child that has ended; the command's status when it is among them.
fn reap(command: c_int) -> Result<Option<c_int>, Errno> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours to be filled. Orphans of any clone type come to us, hence __WALL.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) } {
            0 => return Ok(ended),
            pid if pid > 0 && libc::WIFSTOPPED(status) => let_go(pid, libc::WSTOPSIG(status)),
            pid if pid == command => ended = Some(status),
            pid if pid > 0 => {}
            _ => match sys::errno() {
                libc::EINTR => {}
                libc::ECHILD => return Ok(ended),
                errno => return Err(errno),
            },
        }
    }
}

/// A child asked to be traced by its parent, as programs do that want no debugger, and stands still at a signal. It gets
/// the signal and is traced no more; the one that only tells of a new program is not meant for it.
fn let_go(pid: c_int, signal: c_int) {
    let signal = if signal == libc::SIGTRAP { 0 } else { signal };
    // SAFETY: no memory is passed. When it was killed meanwhile there is nothing to do.
    unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_DETACH, pid, 0, signal) };
}

/// Sleeps until a child ended (`None`) or the parent asks for something; its death is [`KILL`].
fn wait_for_either(children: c_int) -> Result<Option<u8>, Errno> {
    let mut wait = [
        libc::pollfd { fd: CONTROL, events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: children, events: libc::POLLIN, revents: 0 },
    ];
    // SAFETY: pointer and length are of one array.
    match sys::check(c_long::from(unsafe { libc::poll(wait.as_mut_ptr(), 2, -1) })) {
        Err(libc::EINTR) => return Ok(None),
        result => result?,
    };
    if wait[1].revents != 0 {
        let mut ignored = [0u8; 128];
        // SAFETY: pointer and length are of one array; a `signalfd_siginfo` is 128 bytes.
        unsafe { libc::read(children, ignored.as_mut_ptr().cast::<c_void>(), ignored.len()) };
    }
    if wait[0].revents == 0 {
        return Ok(None);
    }
    let mut word = 0u8;
    // SAFETY: one byte is ours to be filled.
    match unsafe { libc::recv(CONTROL, (&raw mut word).cast::<c_void>(), 1, libc::MSG_DONTWAIT) } {
        1 => Ok(Some(word)),
        0 => Ok(Some(KILL)),
        _ if matches!(sys::errno(), libc::EAGAIN | libc::EINTR) => Ok(None),
        _ => Ok(Some(KILL)),
    }
}

/// In a pid namespace -1 is everything but us; outside it is the whole machine, so there only the command's group.
fn terminate(command: c_int, isolated: bool) {
    // The group may be gone already.
    let _ = sys::kill(if isolated { -1 } else { -command }, libc::SIGTERM);
}

/// Kills all descendants without the help of a namespace: orphans come to us (we are a subreaper), so killing our children
/// again and again ends the tree. Stops where nothing more can be killed: processes that changed their user.
fn sweep(command: c_int) {
    let _ = sys::kill(-command, libc::SIGKILL);
    loop {
        let killed = kill_children();
        if matches!(killed, Ok(0) | Err(_)) {
            break;
        }
        let mut status = 0;
        // SAFETY: `status` is ours to be filled.
        let reaped = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if reaped < 0 && sys::errno() != libc::EINTR {
            break;
        }
        let _ = reap(command);
    }
    let _ = reap(command);
}

/// How many children were there to be killed.
fn kill_children() -> Result<u32, Errno> {
    let list = sys::open(c"/proc/thread-self/children", libc::O_RDONLY)?;
    let (mut killed, mut pid, mut in_number) = (0, 0, false);
    loop {
        let mut buffer = [0u8; 1024];
        // SAFETY: pointer and length are of one array.
        let read = unsafe { libc::read(list.0, buffer.as_mut_ptr().cast::<c_void>(), buffer.len()) };
        let read = sys::check(read as c_long)? as usize;
        for byte in buffer.iter().take(read) {
            if byte.is_ascii_digit() {
                pid = pid * 10 + c_int::from(byte - b'0');
                in_number = true;
            } else if in_number {
                killed += u32::from(sys::kill(pid, libc::SIGKILL).is_ok());
                (pid, in_number) = (0, false);
            }
        }
        if read == 0 {
            return Ok(killed);
        }
    }
}
