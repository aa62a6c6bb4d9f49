//! System calls as the kernel has them: a value or an error number.
//!
//! Everything here may be called between `clone` and `exec` of a many-threaded process: no allocation, no lock, no
//! thread-local beyond `errno`.

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

/// An error number of the kernel.
pub type Errno = c_int;

/// A descriptor that closes itself.
#[derive(Debug)]
pub struct Fd(pub c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number is ours; closing has no other effect.
        unsafe { libc::close(self.0) };
    }
}

/// `mount_setattr`: cannot be written.
pub const ATTR_READ_ONLY: u64 = 0x1;
/// `mount_setattr`: set-user-id bits mean nothing.
pub const ATTR_NOSUID: u64 = 0x2;
/// `mount_setattr`: device nodes cannot be opened.
pub const ATTR_NODEV: u64 = 0x4;
/// `mount_setattr`: nothing can be executed.
pub const ATTR_NOEXEC: u64 = 0x8;

const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const AT_RECURSIVE: c_uint = 0x8000;
const AT_EMPTY_PATH: c_uint = libc::AT_EMPTY_PATH as c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;
const FSOPEN_CLOEXEC: c_uint = 1;
const FSMOUNT_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const RESOLVE_IN_ROOT: u64 = 0x10;
/// `libc` has it in a type that is too small.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const EMPTY: *const c_char = c"".as_ptr();

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// The kernel's `struct open_how`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn errno() -> Errno {
    // SAFETY: glibc and musl return a valid pointer to this thread's errno.
    unsafe { *libc::__errno_location() }
}

pub fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn check_fd(result: c_long) -> Result<Fd, Errno> {
    check(result).map(|fd| Fd(fd as c_int))
}

fn check_int(result: c_int) -> Result<(), Errno> {
    check(c_long::from(result)).map(|_| ())
}

/// A detached copy of the mounts at and below `path`.
pub fn copy_mounts(dir: c_int, path: &CStr) -> Result<Fd, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    // SAFETY: the path is NUL-terminated; the kernel only reads it.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// The same of what is called `name` in a directory, itself and not what it may point to.
pub fn copy_mount_of(dir: c_int, name: &CStr) -> Result<Fd, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW as c_uint;
    // SAFETY: the name is NUL-terminated; the kernel only reads it.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, dir, name.as_ptr(), flags) })
}

/// Sets attributes on a mount, and with `recursive` on all below it, and makes them private. Only ever adds
/// restrictions, so the flags that a more privileged namespace locked are never touched.
pub fn restrict_mount(mount: c_int, set: u64, recursive: bool) -> Result<(), Errno> {
    let attr = MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` is the kernel's layout and its size is passed along.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount, EMPTY, flags, &raw const attr, size_of::<MountAttr>()) };
    check(done).map(|_| ())
}

/// Shows a detached mount's owners through the maps of a user namespace.
pub fn map_mount(mount: c_int, users: c_int) -> Result<(), Errno> {
    const ATTR_IDMAP: u64 = 0x0010_0000;
    let attr = MountAttr { set: ATTR_IDMAP, clear: 0, propagation: 0, userns: users as u64 };
    let size = size_of::<MountAttr>();
    // SAFETY: `attr` is the kernel's layout and its size is passed along.
    let done = unsafe { libc::syscall(libc::SYS_mount_setattr, mount, EMPTY, AT_EMPTY_PATH, &raw const attr, size) };
    check(done).map(|_| ())
}

/// The same descriptor with a number that is not below `least`.
pub fn duplicate_above(fd: c_int, least: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: only numbers change hands, and the new one is ours.
    unsafe {
        check(c_long::from(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least))).map(|fd| OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// Puts a detached mount at the place that `target` is open at.
pub fn attach(mount: c_int, target: c_int) -> Result<(), Errno> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are static and empty.
    check(unsafe { libc::syscall(libc::SYS_move_mount, mount, EMPTY, target, EMPTY, flags) }).map(|_| ())
}

/// Puts a detached mount at what is called `name` in a directory, itself and not what it may point to.
pub fn attach_at(mount: c_int, dir: c_int, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated.
    let done =
        unsafe { libc::syscall(libc::SYS_move_mount, mount, EMPTY, dir, name.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH) };
    check(done).map(|_| ())
}

/// A new, detached mount of a file system that needs no device.
pub fn new_mount<'a>(
    kind: &CStr,
    options: impl Iterator<Item = (&'a CStr, &'a CStr)>,
    attributes: u64,
) -> Result<Fd, Errno> {
    // SAFETY: all strings are NUL-terminated and only read.
    unsafe {
        let fs = check_fd(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC))?;
        for (key, value) in options {
            let (key, value) = (key.as_ptr(), value.as_ptr());
            check(libc::syscall(libc::SYS_fsconfig, fs.0, FSCONFIG_SET_STRING, key, value, 0))?;
        }
        let null: *const c_void = std::ptr::null();
        check(libc::syscall(libc::SYS_fsconfig, fs.0, FSCONFIG_CMD_CREATE, null, null, 0))?;
        check_fd(libc::syscall(libc::SYS_fsmount, fs.0, FSMOUNT_CLOEXEC, attributes as c_uint))
    }
}

/// The classic `mount`.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) -> Result<(), Errno> {
    // SAFETY: all strings are NUL-terminated and only read.
    check_int(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast::<c_void>())
    })
}

pub fn pivot_root_here() -> Result<(), Errno> {
    let here = c".".as_ptr();
    // SAFETY: both paths are static.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) }).map(|_| ())
}

pub fn detach_here() -> Result<(), Errno> {
    // SAFETY: the path is static.
    check_int(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })
}

pub fn open(path: &CStr, flags: c_int) -> Result<Fd, Errno> {
    // SAFETY: the path is NUL-terminated; no mode is needed without O_CREAT.
    check_fd(c_long::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))
}

/// Opens a path as a process would see it whose root is `root`: symbolic links and `..` stay inside.
pub fn open_in_root(root: c_int, path: &CStr) -> Result<Fd, Errno> {
    let how = OpenHow { flags: (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, resolve: RESOLVE_IN_ROOT };
    loop {
        // SAFETY: `how` is the kernel's layout and its size is passed along.
        let fd = unsafe { libc::syscall(libc::SYS_openat2, root, path.as_ptr(), &raw const how, size_of::<OpenHow>()) };
        match check_fd(fd) {
            // Somebody renamed or mounted while `..` was resolved: the kernel asks us to try again.
            Err(libc::EAGAIN) => continue,
            result => return result,
        }
    }
}

/// A new socket.
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> Result<Fd, Errno> {
    // SAFETY: only numbers change hands.
    check_fd(c_long::from(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }))
}

pub fn make_dir(dir: c_int, name: &CStr, mode: libc::mode_t) -> Result<(), Errno> {
    // SAFETY: the name is NUL-terminated.
    check_int(unsafe { libc::mkdirat(dir, name.as_ptr(), mode) })
}

pub fn make_file(dir: c_int, name: &CStr, mode: libc::mode_t) -> Result<(), Errno> {
    // SAFETY: the name is NUL-terminated.
    check_int(unsafe { libc::mknodat(dir, name.as_ptr(), libc::S_IFREG | mode, 0) })
}

pub fn make_link(target: &CStr, dir: c_int, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both are NUL-terminated.
    check_int(unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) })
}

pub fn unlink(dir: c_int, name: &CStr, flags: c_int) -> Result<(), Errno> {
    // SAFETY: the name is NUL-terminated.
    check_int(unsafe { libc::unlinkat(dir, name.as_ptr(), flags) })
}

pub fn is_dir(fd: c_int) -> Result<bool, Errno> {
    // SAFETY: an all-zero `stat` is valid and the kernel fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    check_int(unsafe { libc::fstat(fd, &raw mut stat) })?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

pub fn change_dir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is NUL-terminated.
    check_int(unsafe { libc::chdir(path.as_ptr()) })
}

pub fn change_dir_to(fd: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::fchdir(fd) })
}

/// Writes all of `text` with one `write`, as files in `/proc` want it.
pub fn write_file(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let file = open(path, libc::O_WRONLY)?;
    let bytes = text.to_bytes();
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::write(file.0, bytes.as_ptr().cast::<c_void>(), bytes.len()) } as c_long).map(|_| ())
}

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    group: u64,
}

/// `clone` as `fork` does it, without an exit signal, straight to the kernel, and born in a version 2 control group when
/// one is open at `group`. 0 in the child.
///
/// # Safety
/// `flags` do not have CLONE_VM. The child does only what may be done between `fork` and `exec` and never returns.
pub unsafe fn clone_copy(flags: c_int, pidfd: *mut c_int, group: Option<c_int>) -> c_long {
    let null: *mut c_void = std::ptr::null_mut();
    // Older kernels and some filters know `clone` only.
    let Some(group) = group else {
        // SAFETY: the caller promises what this needs; `pidfd` is the caller's to be filled.
        return unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), null, pidfd, null, null) };
    };
    let flags = u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP;
    let args = CloneArgs { flags, pidfd: pidfd as u64, group: group as u64, ..CloneArgs::default() };
    // SAFETY: as above; `args` has the kernel's layout and its size is passed along.
    unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) }
}

/// `prctl` with numbers only.
pub fn prctl(option: c_int, a: c_ulong, b: c_ulong) -> Result<(), Errno> {
    let zero: c_ulong = 0;
    // SAFETY: the options used here take numbers.
    check_int(unsafe { libc::prctl(option, a, b, zero, zero) })
}

/// Has exactly these capabilities, of those it had, as permitted, effective and not inheritable ones.
pub fn set_capabilities(set: u64) -> Result<(), Errno> {
    let (low, high) = (set as u32, (set >> 32) as u32);
    // `struct __user_cap_header_struct` of version 3 and two `struct __user_cap_data_struct`: effective, permitted,
    // inheritable.
    let (header, data) = ([0x2008_0522u32, 0], [low, low, 0, high, high, 0]);
    // SAFETY: both arrays have the kernel's layout.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(|_| ())
}

/// Sets a limit, soft and hard; at most what the hard one is.
pub fn limit(resource: c_uint, value: u64) -> Result<(), Errno> {
    change_limit(resource, |hard| (value.min(hard), value.min(hard)))
}

/// Sets a soft limit; at most what the hard one is, which stays.
pub fn soft_limit(resource: c_uint, value: u64) -> Result<(), Errno> {
    change_limit(resource, |hard| (value.min(hard), hard))
}

/// `wanted` makes the soft and the hard limit of the hard one.
fn change_limit(resource: c_uint, wanted: impl FnOnce(u64) -> (u64, u64)) -> Result<(), Errno> {
    let null: *const libc::rlimit64 = std::ptr::null();
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills `now`, and reads `limit`, which both live on this stack.
    unsafe {
        check(libc::syscall(libc::SYS_prlimit64, 0, resource, null, &raw mut now))?;
        let (soft, hard) = wanted(now.rlim_max);
        let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
        check(libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, null)).map(|_| ())
    }
}

/// Blocks every signal of this thread, those of the C library too, and returns what was blocked before.
pub fn block_signals() -> u64 {
    set_signal_mask(u64::MAX)
}

/// Blocks exactly these signals and returns what was blocked before. Past the C library, which keeps two for itself.
pub fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: the kernel's signal set is 8 bytes on the architectures we build for; it cannot fail with these arguments.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut old, size_of::<u64>());
    }
    old
}

/// Lets every signal do what it does by default, also those that the caller ignores (Rust ignores SIGPIPE). Those for
/// real time are left out: nobody ignores them, and handlers end with `exec` anyway.
pub fn default_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer, mask. All zero is SIG_DFL.
    let default = [0u64; 4];
    for signal in 1..=31 {
        let null: *const c_void = std::ptr::null();
        // SAFETY: the array has the kernel's layout; SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), null, size_of::<u64>());
        }
    }
}

pub fn kill(pid: c_int, signal: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check_int(unsafe { libc::kill(pid, signal) })
}

/// Ends this process without running anything of the parent's.
pub fn exit(code: c_int) -> ! {
    // SAFETY: runs no handler and no destructor.
    unsafe { libc::_exit(code) }
}

pub fn set_umask(mask: libc::mode_t) {
    // SAFETY: only a number changes hands; it cannot fail.
    unsafe { libc::umask(mask) };
}
