//! The system call filter: what a program may ask of the kernel.
//!
//! In the spirit of the container default: what a program needs is allowed, what widens the kernel's attack surface or
//! reaches beyond the sandbox is not. The kernel runs a filter once for every system call when it is loaded, so a list that
//! is searched in order costs a millisecond; ours is a binary search over intervals of numbers and costs a twentieth.

use std::sync::OnceLock;

use libc::{c_long, sock_filter};

use crate::sys::{self, Errno};

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It fails with this error number.
    Refuse(i32),
    /// Unless its flags ask for a namespace.
    CloneWithoutNamespaces,
    /// Unless it pushes bytes into a terminal.
    IoctlWithoutInjection,
    /// Local and internet sockets, and the netlink family that lists interfaces.
    UsualSockets,
    /// Only those that change nothing but what a program sees of itself.
    HarmlessPersonality,
    /// Unless it sets a limit of another process: a processor limit of process 1 would end the sandbox.
    OwnLimits,
    /// Unless a tracer wants to hold processes at their end: two that hold each other cannot be killed by anybody.
    MortalTracees,
}

/// A program for the kernel's filter machine.
pub struct Filter(Vec<sock_filter>);

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the sandbox's system call filter knows x86_64 and aarch64 only");

/// Numbers of the x32 ABI start here.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// The last number that this list was made against (`file_setattr`, Linux 6.17; equal on all architectures from 424 on).
/// Later ones fail as on an older kernel, which programs are written for.
const LAST_KNOWN: c_long = 469;
const OPEN_TREE_ATTR: c_long = 467;
/// The oldest way to a raw socket; deprecated, and still there.
const SOCK_PACKET: u32 = 10;

/// The three requests that set how a process is traced. The oldest number still works on x86 and means nothing elsewhere.
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_SETOPTIONS: u32 = 0x4200;
const PTRACE_OLDSETOPTIONS: u32 = 21;
/// The tracee waits for its tracer when it ends, even when it was killed.
const PTRACE_O_TRACEEXIT: u32 = 1 << 6;

/// Refused with EPERM, as the kernel does without the capability.
const REFUSED: &[c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Namespaces within namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes' descriptors and kernel addresses. Tracing them and reading their memory is allowed, as debuggers and
    // leak checkers do: all that can be named are the step's own, and process 1 is closed by being undumpable. The filter
    // sees a call after its tracer has changed it (since Linux 4.8), so tracing is no way around it.
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Keys are not in any namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Large attack surfaces that programs can do without.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    // The machine itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Making a handle (`name_to_handle_at`) is allowed: tools tell mounts apart by it, and it opens nothing.
    libc::SYS_open_by_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_nfsservctl,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS__sysctl, libc::SYS_uselib, libc::SYS_sysfs];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

fn verdict(call: c_long) -> Verdict {
    match call {
        _ if call > LAST_KNOWN => Verdict::Refuse(libc::ENOSYS),
        _ if REFUSED.contains(&call) || REFUSED_HERE.contains(&call) => Verdict::Refuse(libc::EPERM),
        // Its flags are behind a pointer where no filter can look; the C library falls back to `clone`.
        libc::SYS_clone3 => Verdict::Refuse(libc::ENOSYS),
        libc::SYS_clone => Verdict::CloneWithoutNamespaces,
        libc::SYS_ioctl => Verdict::IoctlWithoutInjection,
        libc::SYS_socket | libc::SYS_socketpair => Verdict::UsualSockets,
        libc::SYS_personality => Verdict::HarmlessPersonality,
        libc::SYS_prlimit64 => Verdict::OwnLimits,
        libc::SYS_ptrace => Verdict::MortalTracees,
        _ => Verdict::Allow,
    }
}

impl Filter {
    /// The one filter, made at the first use.
    pub fn usual() -> &'static Filter {
        static FILTER: OnceLock<Filter> = OnceLock::new();
        FILTER.get_or_init(|| Filter(program()))
    }

    /// Loads it for this process, for good. Allowed without privileges once no new ones can be gained.
    pub fn install(&self) -> Result<(), Errno> {
        const SECCOMP_SET_MODE_FILTER: u32 = 1;
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, whose pointer and length are of one vector.
        sys::check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
            .map(|_| ())
    }
}

// Offsets in `struct seccomp_data`: number, architecture, instruction pointer, six arguments (low half first).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn line(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `then` lines if it holds, else `otherwise`.
fn test(code: u16, k: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: then, jf: otherwise, k }
}

fn refuse(errno: i32) -> sock_filter {
    line(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn program() -> Vec<sock_filter> {
    let mut lines = vec![line(LOAD, ARCHITECTURE), test(IF_EQUAL, ARCH, 1, 0), line(RETURN, KILL), line(LOAD, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    lines.extend([test(IF_AT_LEAST, X32, 0, 1), line(RETURN, KILL)]);
    lines.extend(search(&intervals()));
    lines
}

/// Where the verdict changes: the first number of each interval.
fn intervals() -> Vec<(u32, Verdict)> {
    let mut intervals: Vec<(u32, Verdict)> = Vec::new();
    for call in 0..=LAST_KNOWN + 1 {
        let verdict = verdict(call);
        if intervals.last().is_none_or(|(_, last)| *last != verdict) {
            intervals.push((call as u32, verdict));
        }
    }
    intervals
}

/// A binary search that ends in what each interval's verdict does.
fn search(intervals: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let [(_, verdict)] = intervals else {
        let (low, high) = intervals.split_at(intervals.len() / 2);
        let first_high = high.first().map_or(0, |(call, _)| *call);
        let (low, high) = (search(low), search(high));
        // A conditional jump reaches 255 lines, an unconditional one all of them.
        let mut lines = match u8::try_from(low.len()) {
            Ok(over_low) => vec![test(IF_AT_LEAST, first_high, over_low, 0)],
            Err(_) => vec![test(IF_AT_LEAST, first_high, 0, 1), line(JUMP, low.len() as u32)],
        };
        lines.extend(low);
        lines.extend(high);
        return lines;
    };
    carry_out(*verdict)
}

fn carry_out(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![line(RETURN, ALLOW)],
        Verdict::Refuse(errno) => vec![refuse(errno)],
        Verdict::CloneWithoutNamespaces => {
            let namespaces = libc::CLONE_NEWNS
                | libc::CLONE_NEWCGROUP
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUSER
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET;
            vec![
                line(LOAD, argument(0)),
                test(IF_ANY_BIT, namespaces as u32, 0, 1),
                refuse(libc::EPERM),
                line(RETURN, ALLOW),
            ]
        }
        // The kernel looks at the lower half of the command only, and so do we.
        Verdict::IoctlWithoutInjection => vec![
            line(LOAD, argument(1)),
            test(IF_EQUAL, libc::TIOCSTI as u32, 1, 0),
            test(IF_EQUAL, libc::TIOCLINUX as u32, 0, 1),
            refuse(libc::EPERM),
            line(RETURN, ALLOW),
        ],
        Verdict::UsualSockets => usual_sockets(),
        // Linux, 32-bit Linux, either claiming to be 2.6, and asking. Address randomisation may be switched off: it weakens
        // nobody but the program, and sanitizers and debuggers do it.
        Verdict::HarmlessPersonality => vec![
            line(LOAD, argument(0)),
            test(IF_EQUAL, u32::MAX, 3, 0),
            line(MASK, !(0x8 | 0x2_0000 | 0x4_0000)),
            test(IF_EQUAL, 0, 1, 0),
            refuse(libc::EPERM),
            line(RETURN, ALLOW),
        ],
        Verdict::OwnLimits => vec![
            line(LOAD, argument(0)),
            test(IF_EQUAL, 0, 5, 0),
            // The new limit: a pointer, so both halves count.
            line(LOAD, argument(2)),
            test(IF_EQUAL, 0, 0, 2),
            line(LOAD, argument(2) + 4),
            test(IF_EQUAL, 0, 1, 0),
            refuse(libc::EPERM),
            line(RETURN, ALLOW),
        ],
        Verdict::MortalTracees => vec![
            line(LOAD, argument(0)),
            test(IF_EQUAL, PTRACE_SEIZE, 2, 0),
            test(IF_EQUAL, PTRACE_SETOPTIONS, 1, 0),
            test(IF_EQUAL, PTRACE_OLDSETOPTIONS, 0, 3),
            line(LOAD, argument(3)),
            test(IF_ANY_BIT, PTRACE_O_TRACEEXIT, 0, 1),
            refuse(libc::EPERM),
            line(RETURN, ALLOW),
        ],
    }
}

/// Anything else fails as if the kernel had no such family, which programs expect. Raw sockets are refused although the
/// kernel would too without a capability. Of netlink, only what lists interfaces and routes (every name look-up does).
fn usual_sockets() -> Vec<sock_filter> {
    let family = |family: i32, then, otherwise| test(IF_EQUAL, family as u32, then, otherwise);
    vec![
        line(LOAD, argument(0)),
        family(libc::AF_UNIX, 11, 0),
        family(libc::AF_INET, 4, 0),
        family(libc::AF_INET6, 3, 0),
        family(libc::AF_NETLINK, 0, 9),
        line(LOAD, argument(2)),
        test(IF_EQUAL, libc::NETLINK_ROUTE as u32, 6, 7),
        // Internet: the lower four bits of the type are the type.
        line(LOAD, argument(1)),
        line(MASK, 0xf),
        test(IF_EQUAL, libc::SOCK_RAW as u32, 2, 0),
        test(IF_EQUAL, SOCK_PACKET, 1, 0),
        line(RETURN, ALLOW),
        refuse(libc::EPERM),
        line(RETURN, ALLOW),
        refuse(libc::EAFNOSUPPORT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's filter machine, as far as the program uses it.
    fn decide(arch: u32, call: c_long, arguments: [u64; 4]) -> u32 {
        let program = program();
        let (mut at, mut value) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let jump = |holds: bool| 1 + usize::from(if holds { jt } else { jf });
            at += match code {
                LOAD => {
                    value = match k {
                        NUMBER => call as u32,
                        ARCHITECTURE => arch,
                        offset if offset % 8 == 0 => arguments[(offset as usize - 16) / 8] as u32,
                        offset => (arguments[(offset as usize - 16) / 8] >> 32) as u32,
                    };
                    1
                }
                MASK => {
                    value &= k;
                    1
                }
                JUMP => 1 + k as usize,
                IF_EQUAL => jump(value == k),
                IF_AT_LEAST => jump(value >= k),
                IF_ANY_BIT => jump(value & k != 0),
                RETURN => return k,
                code => panic!("line {at} has the code {code}"),
            };
        }
    }

    fn call<const N: usize>(call: c_long, arguments: [u64; N]) -> u32 {
        let mut all = [0; 4];
        all[..N].copy_from_slice(&arguments);
        decide(ARCH, call, all)
    }

    fn refused(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    #[test]
    fn every_number_gets_the_verdict_of_the_table() {
        for number in 0..600 {
            let expected = match verdict(number) {
                Verdict::Allow => ALLOW,
                Verdict::Refuse(errno) => refused(errno),
                _ => continue,
            };
            assert_eq!(call(number, [0; 3]), expected, "system call {number}");
        }
    }

    #[test]
    fn unknown_calls_do_not_exist() {
        assert_eq!(call(LAST_KNOWN + 1, [0; 3]), refused(libc::ENOSYS));
        assert_eq!(call(0x3fff_ffff, [0; 3]), refused(libc::ENOSYS));
    }

    #[test]
    fn other_architectures_die() {
        assert_eq!(decide(0x4000_0003, libc::SYS_read, [0; 4]), KILL);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(call(c_long::from(X32) + libc::SYS_read, [0; 3]), KILL);
    }

    #[test]
    fn threads_and_processes_start_but_namespaces_do_not() {
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SETTLS;
        assert_eq!(call(libc::SYS_clone, [thread as u64, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_clone, [(libc::SIGCHLD | libc::CLONE_NEWUSER) as u64, 0, 0]), refused(libc::EPERM));
        assert_eq!(call(libc::SYS_clone3, [0; 3]), refused(libc::ENOSYS));
    }

    #[test]
    fn a_step_may_trace_but_nobody_is_held_at_the_end() {
        let ptrace = |request: u32, data: u32| call(libc::SYS_ptrace, [u64::from(request), 7, 0, u64::from(data)]);
        const EXITKILL_AND_EXEC: u32 = 1 << 20 | 1 << 4;
        for request in [PTRACE_SEIZE, PTRACE_SETOPTIONS, PTRACE_OLDSETOPTIONS] {
            assert_eq!(ptrace(request, EXITKILL_AND_EXEC), ALLOW);
            assert_eq!(ptrace(request, EXITKILL_AND_EXEC | PTRACE_O_TRACEEXIT), refused(libc::EPERM));
        }
        assert_eq!(ptrace(libc::PTRACE_TRACEME, u32::MAX), ALLOW);
        assert_eq!(ptrace(libc::PTRACE_POKEDATA, u32::MAX), ALLOW);
    }

    #[test]
    fn nothing_is_typed_into_a_terminal() {
        assert_eq!(call(libc::SYS_ioctl, [0, libc::TIOCSTI, 0]), refused(libc::EPERM));
        assert_eq!(call(libc::SYS_ioctl, [0, 1 << 32 | libc::TIOCSTI, 0]), refused(libc::EPERM));
        assert_eq!(call(libc::SYS_ioctl, [0, libc::TIOCLINUX, 0]), refused(libc::EPERM));
        assert_eq!(call(libc::SYS_ioctl, [0, libc::TCGETS, 0]), ALLOW);
    }

    #[test]
    fn only_usual_sockets_can_be_made() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            call(libc::SYS_socket, [family as u64, kind as u64, protocol as u64])
        };
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), ALLOW);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0), ALLOW);
        assert_eq!(socket(libc::AF_INET6, libc::SOCK_DGRAM, 0), ALLOW);
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE), ALLOW);
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT), refused(libc::EAFNOSUPPORT));
        assert_eq!(socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1), refused(libc::EPERM));
        assert_eq!(socket(libc::AF_INET, SOCK_PACKET as i32, 0), refused(libc::EPERM));
        assert_eq!(socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0), refused(libc::EAFNOSUPPORT));
        assert_eq!(socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0), refused(libc::EAFNOSUPPORT));
    }

    #[test]
    fn a_program_may_ask_for_its_personality_but_not_change_what_it_may_do() {
        assert_eq!(call(libc::SYS_personality, [u64::from(u32::MAX), 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_personality, [0, 0, 0]), ALLOW);
        assert_eq!(call(libc::SYS_personality, [0x4_0000, 0, 0]), ALLOW);
        const READ_IMPLIES_EXEC: u64 = 0x40_0000;
        assert_eq!(call(libc::SYS_personality, [READ_IMPLIES_EXEC, 0, 0]), refused(libc::EPERM));
    }

    #[test]
    fn a_process_limits_itself_and_asks_about_others() {
        let pointers = [0x1000, 0x7fff_0000_0000, 0xffff_ffff_0000_0000];
        for pointer in pointers {
            assert_eq!(call(libc::SYS_prlimit64, [0, 0, pointer]), ALLOW);
            assert_eq!(call(libc::SYS_prlimit64, [1, 0, pointer]), refused(libc::EPERM));
            assert_eq!(call(libc::SYS_prlimit64, [1 << 32 | 7, 0, pointer]), refused(libc::EPERM));
        }
        assert_eq!(call(libc::SYS_prlimit64, [1, 0, 0]), ALLOW);
    }

    #[test]
    fn it_is_short_enough_to_load_in_a_moment() {
        assert!(program().len() < 220, "{} lines", program().len());
    }
}
