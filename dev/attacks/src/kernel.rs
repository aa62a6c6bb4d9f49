//! System calls by number, as an attacker makes them. A wrong pointer ends the attack program and nothing else.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{c_int, c_long};

/// Makes a system call with up to six arguments.
pub fn call(number: c_long, args: &[usize]) -> io::Result<usize> {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: whatever the caller passed: the worst is that this process ends, which is all it is made for.
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A call that returns a descriptor, closed when it is dropped.
pub fn call_for_fd(number: c_long, args: &[usize]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us.
    call(number, args).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// A string as an argument.
pub fn text(text: &CStr) -> usize {
    text.as_ptr() as usize
}

/// Memory as an argument, to read or to write.
pub fn memory<T: ?Sized>(value: &mut T) -> usize {
    std::ptr::from_mut(value).cast::<u8>() as usize
}

/// How a child of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal; whether a core was written.
    Signal(i32, bool),
}

/// Runs `what` in a child and tells how it ended. The program has one thread, so the child may do anything.
pub fn in_child(what: impl FnOnce() -> i32) -> io::Result<Ended> {
    let child = fork(what)?;
    wait(child)
}

/// Starts `what` in a child.
pub fn fork(what: impl FnOnce() -> i32) -> io::Result<c_int> {
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = what();
            // SAFETY: ends this process.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}

/// Waits for a child.
pub fn wait(child: c_int) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: the kernel writes one number.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if libc::WIFSIGNALED(status) {
        return Ok(Ended::Signal(libc::WTERMSIG(status), libc::WCOREDUMP(status)));
    }
    Ok(Ended::Code(libc::WEXITSTATUS(status)))
}

/// Real and effective user.
pub fn users() -> (u32, u32) {
    // SAFETY: both always succeed.
    unsafe { (libc::getuid(), libc::geteuid()) }
}

/// Asks for this process's number through the gate of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub fn pid_by_interrupt() -> c_long {
    let result: i64;
    // SAFETY: `getpid` (20 in the 32-bit table) reads and writes no memory.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20i64 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

/// The name of an error number.
pub fn errno_name(errno: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::EMLINK, "EMLINK"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENODATA, "ENODATA"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::EDQUOT, "EDQUOT"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == errno);
    known.map_or_else(|| format!("error {errno}"), |(_, name)| (*name).to_string())
}

/// The name of a signal.
pub fn signal_name(signal: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::SIGSYS, "SIGSYS"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGTERM, "SIGTERM"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_string())
}
