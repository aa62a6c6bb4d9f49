//! The same seven namespaces with nothing in them: what the kernel alone takes.

use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

struct Exec {
    path: CString,
    argv: [*const libc::c_char; 2],
    env: [*const libc::c_char; 1],
}

extern "C" fn execute(exec: *mut c_void) -> i32 {
    // SAFETY: it is the `Exec` of `namespaces`, whose frame waits for us.
    #[allow(unsafe_code)]
    unsafe {
        let exec = &*exec.cast::<Exec>();
        libc::execve(exec.path.as_ptr(), exec.argv.as_ptr(), exec.env.as_ptr());
        libc::_exit(127)
    }
}

/// Start to exit of a program in namespaces of its own.
pub fn namespaces(program: &Path) -> Duration {
    let path = CString::new(program.as_os_str().as_bytes()).expect("a path");
    let mut exec = Exec { argv: [path.as_ptr(), std::ptr::null()], path, env: [std::ptr::null()] };
    let mut stack = vec![0u128; 4096];
    let begin = Instant::now();
    let flags = NAMESPACES | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child lives on `stack` until it has executed the program, and CLONE_VFORK has us wait for that.
    #[allow(unsafe_code)]
    let status = unsafe {
        let pid = libc::clone(execute, stack.as_mut_ptr_range().end.cast(), flags, (&raw mut exec).cast());
        let mut status = 0;
        assert!(pid > 0 && libc::waitpid(pid, &raw mut status, 0) == pid, "this host has namespaces");
        status
    };
    assert_eq!(status, 0, "the program ends well");
    begin.elapsed()
}
