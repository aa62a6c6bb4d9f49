//! Process 1 of the sandbox: carries out the plan, starts the command, and reports.
//!
//! It is a copy of one thread of a many-threaded process, so nothing here allocates, locks or panics: strings and arrays
//! were made before, buffers are on the stack. It is a copy and not a shared address space (no `CLONE_VM`), because it
//! lives as long as the sandbox and must not see, hold or change the parent's memory meanwhile. The price is copied
//! page tables, which counts only for a parent of hundreds of MiB; that parent will want a small helper to spawn from.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use libc::{c_char, c_int, c_long, c_ulong, c_void};

use crate::landlock::Rules;
use crate::launch::Launch;
use crate::mount::{self, Ground, PartErrno};
use crate::plan::Op;
use crate::reap;
use crate::seccomp::Filter;
use crate::sys::{self, Errno};

/// The descriptor on which process 1 talks with its parent. 0, 1 and 2 are the command's.
pub const CONTROL: c_int = 3;

/// What process 1 tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An operation of the set-up or (`in_command`) of the command failed.
    Failed { in_command: bool, op: u32, part: u32, errno: Errno },
    /// The program is being executed.
    Started,
    /// It ended, with a wait status.
    Ended { status: c_int },
}

/// Bytes of a [`Report`] on the wire.
pub const REPORT_BYTES: usize = 20;

impl Report {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; REPORT_BYTES] {
        let words: [u32; 5] = match self {
            Report::Failed { in_command, op, part, errno } => [1, u32::from(in_command), op, part, errno as u32],
            Report::Started => [2, 0, 0, 0, 0],
            Report::Ended { status } => [3, status as u32, 0, 0, 0],
        };
        let mut bytes = [0; REPORT_BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// As it was sent; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Report> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at * 4..)?.first_chunk::<4>()?));
        match word(0)? {
            1 => Some(Report::Failed {
                in_command: word(1)? != 0,
                op: word(2)?,
                part: word(3)?,
                errno: word(4)? as Errno,
            }),
            2 => Some(Report::Started),
            3 => Some(Report::Ended { status: word(1)? as c_int }),
            _ => None,
        }
    }

    /// Sends it to the parent. Nobody to tell is no reason to stop.
    pub fn send(self) {
        self.send_on(CONTROL);
    }

    fn send_on(self, control: c_int) {
        let bytes = self.to_bytes();
        // SAFETY: pointer and length are of one array.
        unsafe { libc::send(control, bytes.as_ptr().cast::<c_void>(), bytes.len(), libc::MSG_NOSIGNAL) };
    }
}

/// In place of an operation's number: entering the control group failed.
pub const JOIN_GROUP: u32 = u32::MAX;

/// The life of process 1.
pub fn first_process(launch: &Launch, stdio: [c_int; 3], control: c_int) -> ! {
    if let Err(errno) = join_group(launch) {
        Report::Failed { in_command: false, op: JOIN_GROUP, part: 0, errno }.send_on(control);
        sys::exit(1);
    }
    if let Err(errno) = take_descriptors(stdio, control, &launch.layers) {
        // The control descriptor may not be in its place yet: the parent sees an end without a report.
        sys::exit(errno);
    }
    sys::default_signals();
    if let Some(arguments) = launch.arguments {
        arguments.forget();
    }
    // Modes are exactly what the plan says; the command gets the usual mask.
    sys::set_umask(0);
    let ground = run(&launch.setup, launch);
    let mut start = Start { launch, ground, failed: None };
    let started = start_command(&mut start);
    let Start { ground, failed, .. } = start;
    drop(ground);
    match started {
        Err(errno) => fail(Report::Failed { in_command: true, op: 0, part: 0, errno }),
        Ok(command) => match failed {
            Some(report) => fail(report),
            None => reap::until_the_end(command, launch.isolated),
        },
    }
}

fn fail(report: Report) -> ! {
    report.send();
    sys::exit(1)
}

/// Version 1 groups are entered by ourselves, before anything else: a thread that moves itself need not wait until every
/// processor has passed a quiet point, which takes milliseconds, and if we fail nobody is left in the group.
fn join_group(launch: &Launch) -> Result<(), Errno> {
    let Some(birth) = &launch.birth else { return Ok(()) };
    for tasks in &birth.tasks {
        // SAFETY: one byte that is static.
        sys::check(unsafe { libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast::<c_void>(), 1) } as c_long)?;
    }
    if launch.isolated {
        // SAFETY: only a number changes hands.
        sys::check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }))?;
    }
    Ok(())
}

/// Where the kernel finds a process's arguments. Process 1 is a copy of the caller: its step would read the caller's
/// command line in `/proc/1/cmdline`, which is open to everybody.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    start: usize,
    end: usize,
}

impl Arguments {
    /// What process 1 is called instead.
    const NAME: &[u8] = b"sandbox";

    /// Of this program; asked once, they do not move.
    pub fn ours() -> Option<Arguments> {
        static OURS: OnceLock<Option<Arguments>> = OnceLock::new();
        *OURS.get_or_init(|| {
            let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
            // The name in brackets may have spaces. After it, the start and the end of the arguments are fields 46 and 47.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
            let mut next = || fields.next()?.parse().ok();
            Some(Arguments { start: next()?, end: next()? }).filter(|found| 0 < found.start && found.start < found.end)
        })
    }

    /// Overwrites this process's copy of them.
    fn forget(self) {
        let room = self.end - self.start;
        let name = Arguments::NAME.len().min(room - 1);
        // SAFETY: the kernel put the arguments there, on the first thread's stack, writable, and nothing here reads them;
        // it is this process's own copy. The last byte is NUL, so that the kernel does not look beyond.
        unsafe {
            let start = self.start as *mut u8;
            start.write_bytes(0, room);
            start.copy_from_nonoverlapping(Arguments::NAME.as_ptr(), name);
        }
    }
}

/// Puts the command's stdio at 0, 1, 2 and the control socket at 3, and closes everything else: what other threads of the
/// parent had open is none of our business.
/// But the layers of an image stay where they are, which is above 9.
fn take_descriptors(stdio: [c_int; 3], control: c_int, layers: &[OwnedFd]) -> Result<(), Errno> {
    let mut high = [0; 4];
    let wanted = [stdio[0], stdio[1], stdio[2], control];
    for (high, fd) in high.iter_mut().zip(wanted) {
        // SAFETY: only numbers change hands. Above 9, so that no place is overwritten before it was moved.
        *high = sys::check(c_long::from(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10) }))? as c_int;
    }
    for (place, high) in high.into_iter().enumerate() {
        let flags = if place as c_int == CONTROL { libc::O_CLOEXEC } else { 0 };
        // SAFETY: only numbers change hands.
        sys::check(c_long::from(unsafe { libc::dup3(high, place as c_int, flags) }))?;
    }
    let mut from = CONTROL + 1;
    loop {
        let next = layers.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd >= from).min();
        let to = next.map_or(u32::MAX, |next| next as u32 - 1);
        if from as u32 <= to {
            // SAFETY: closes descriptors of this process only; its table is a copy.
            sys::check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) })?;
        }
        match next {
            Some(next) => from = next + 1,
            None => return Ok(()),
        }
    }
}

/// Carries out the operations; the first failure is reported and ends the process.
fn run<'a>(ops: &'a [Op], launch: &'a Launch) -> Ground<'a> {
    let mut ground = Ground::default();
    for (index, op) in ops.iter().enumerate() {
        if let Err((part, errno)) = perform(op, launch, &mut ground) {
            fail(Report::Failed { in_command: false, op: index as u32, part, errno });
        }
    }
    ground
}

fn perform<'a>(op: &'a Op, launch: &Launch, ground: &mut Ground<'a>) -> Result<(), PartErrno> {
    match op {
        Op::MapIds { uid, gid } => whole(map_ids(uid, gid)),
        Op::AwaitIds => whole(await_ids()),
        Op::Groups(groups) => whole(set_groups(groups)),
        Op::Loopback => whole(loopback_up()),
        Op::Hostname(name) => whole(set_hostname(name)),
        Op::WorkDir(path) => whole(sys::change_dir(path)),
        Op::NoNewPrivileges => whole(sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)),
        Op::DropCapabilities { keep } => whole(drop_capabilities(*keep)),
        Op::Narrow { keep } => whole(sys::set_capabilities(*keep)),
        Op::Limit { resource, value } => whole(sys::limit(*resource, *value)),
        Op::OpenFilesSoft(value) => whole(sys::soft_limit(libc::RLIMIT_NOFILE, *value)),
        Op::Undumpable => whole(sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)),
        Op::Adopt => whole(sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)),
        Op::Session { terminal } => whole(new_session(*terminal)),
        Op::Confine => whole(ground.rules.as_ref().map_or(Ok(()), Rules::hold)),
        Op::Filter => whole(launch.filter.map_or(Ok(()), Filter::install)),
        Op::Execute => whole(execute(launch)),
        mount => mount::perform(mount, ground),
    }
}

fn whole(result: Result<(), Errno>) -> Result<(), PartErrno> {
    result.map_err(|errno| (0, errno))
}

/// The kernel lets us map ourselves, and nobody else, when changing groups is given up first.
pub fn map_ids(uid: &CStr, gid: &CStr) -> Result<(), Errno> {
    sys::write_file(c"/proc/self/setgroups", c"deny")?;
    sys::write_file(c"/proc/self/uid_map", uid)?;
    sys::write_file(c"/proc/self/gid_map", gid)
}

/// The parent says one word when the maps are written.
fn await_ids() -> Result<(), Errno> {
    let mut word = 0u8;
    // SAFETY: one byte is ours to be filled.
    match sys::check(unsafe { libc::recv(CONTROL, (&raw mut word).cast::<c_void>(), 1, 0) } as c_long)? {
        1 => Ok(()),
        _ => Err(libc::ECANCELED),
    }
}

fn set_groups(groups: &[libc::gid_t]) -> Result<(), Errno> {
    // SAFETY: pointer and length are of one slice. Straight to the kernel: the C library would tell other threads.
    sys::check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(|_| ())
}

/// Brings `lo` up in the network namespace that we are in.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: `ifreq` is plain data; the name is copied into it with its NUL; the kernel reads and fills it.
    unsafe {
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = *byte as c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        sys::check(c_long::from(libc::ioctl(socket.0, libc::SIOCSIFFLAGS as _, &raw const request))).map(|_| ())
    }
}

fn set_hostname(name: &CStr) -> Result<(), Errno> {
    // SAFETY: pointer and length are of one string.
    sys::check(c_long::from(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) })).map(|_| ())
}

/// Out of the bounding set, the ambient set and the three others.
fn drop_capabilities(keep: u64) -> Result<(), Errno> {
    for capability in (0..64).filter(|capability| keep & 1 << capability == 0) {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // Past the last one that this kernel knows.
            Err(libc::EINVAL) if capability > 0 => break,
            result => result?,
        }
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0)?;
    // User 0 gains nothing by executing, unless what it keeps is to survive just that; and none of this can be undone.
    let root = if keep == 0 { SECBIT_NOROOT } else { 0 };
    sys::prctl(libc::PR_SET_SECUREBITS, root | SECBITS_LOCKED, 0)?;
    sys::set_capabilities(keep)
}

const SECBIT_NOROOT: c_ulong = 1;
/// The locks of NOROOT, NO_SETUID_FIXUP and KEEP_CAPS, and NO_CAP_AMBIENT_RAISE with its lock.
const SECBITS_LOCKED: c_ulong = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7;

fn new_session(terminal: bool) -> Result<(), Errno> {
    // SAFETY: only numbers change hands.
    unsafe {
        sys::check(c_long::from(libc::setsid()))?;
        if terminal {
            sys::check(c_long::from(libc::ioctl(0, libc::TIOCSCTTY as _, 0)))?;
        }
    }
    Ok(())
}

/// Becomes the program, or says why none of the candidates could be executed.
fn execute(launch: &Launch) -> Result<(), Errno> {
    sys::set_signal_mask(0);
    let mut worst = libc::ENOENT;
    for candidate in &launch.program.candidates {
        // SAFETY: both arrays end with a null pointer and point to strings that `launch` owns.
        unsafe { libc::execve(candidate.as_ptr(), launch.program.argv.as_ptr(), launch.program.env.as_ptr()) };
        match sys::errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            // As a shell does: look further, but if nothing is found say that one was not permitted.
            libc::EACCES => worst = libc::EACCES,
            errno => return Err(errno),
        }
    }
    Err(worst)
}

/// What process 1 and the command's process share until the program runs.
struct Start<'a> {
    launch: &'a Launch,
    ground: Ground<'a>,
    failed: Option<Report>,
}

/// Starts the command as `vfork` does: it borrows this process's memory until it has become the program, so nothing is
/// copied a second time and a failure is simply written to `start`.
fn start_command(start: &mut Start) -> Result<c_int, Errno> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = start.launch.stack.top();
    // SAFETY: the stack is ours and unused, `start` outlives the call because CLONE_VFORK suspends us until the child has
    // executed or ended.
    let pid = unsafe { libc::clone(command_process, top, flags, (&raw mut *start).cast::<c_void>()) };
    sys::check(c_long::from(pid)).map(|pid| pid as c_int)
}

extern "C" fn command_process(start: *mut c_void) -> c_int {
    // SAFETY: it is the `Start` of `start_command`, which waits for us.
    let start = unsafe { &mut *start.cast::<Start>() };
    sys::set_umask(0o022);
    for (index, op) in start.launch.command.iter().enumerate() {
        if let Err((part, errno)) = perform(op, start.launch, &mut start.ground) {
            start.failed = Some(Report::Failed { in_command: true, op: index as u32, part, errno });
            break;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        for report in [
            Report::Failed { in_command: true, op: 7, part: 18, errno: libc::ENOSPC },
            Report::Started,
            Report::Ended { status: 0x8b },
        ] {
            assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes(b"garbage"), None);
    }
}
