//! The machine itself: its keys, clock, modules, name, and the parts of the kernel that were attacked most.

use crate::kernel::{call, call_for_fd, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

const EPERM: &str = "refused EPERM";

pub const ATTACKS: &[Attack] = &[
    attack("read-keyring", "opens the keyring of its user, which is in no namespace", Wall::Filter, EPERM, |_| {
        const GET_ID: usize = 0;
        const USER_KEYRING: usize = -4isize as usize;
        Outcome::of(call(libc::SYS_keyctl, &[GET_ID, USER_KEYRING, 1]), "it has it")
    }),
    attack("add-key", "lays a key down for other steps", Wall::Filter, EPERM, |_| {
        const PROCESS_KEYRING: usize = -2isize as usize;
        Outcome::of(
            call(libc::SYS_add_key, &[text(c"user"), text(c"attacked"), text(c"x"), 1, PROCESS_KEYRING]),
            "it is there",
        )
    }),
    attack("request-key", "has the kernel ask a program of the host for a key", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_request_key, &[text(c"user"), text(c"nothing"), 0, 0]), "it was asked")
    })
    .bare(Bare::Depends),
    attack("bpf", "loads a program into the kernel", Wall::Filter, EPERM, |_| {
        const MAP_CREATE: usize = 0;
        let mut map = [2u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        Outcome::of(call_for_fd(libc::SYS_bpf, &[MAP_CREATE, memory(&mut map), 48]), "it made a map")
    }),
    attack("perf", "watches the processor's counters", Wall::Filter, EPERM, |_| {
        let mut attributes = [0u32; 32];
        attributes[0] = 1;
        attributes[1] = 128;
        let args = [memory(&mut attributes), 0, usize::MAX, usize::MAX, 0];
        Outcome::of(call_for_fd(libc::SYS_perf_event_open, &args), "it watches")
    }),
    attack("io-uring", "makes calls through a ring that no filter sees", Wall::Filter, EPERM, |_| {
        let mut parameters = [0u64; 15];
        Outcome::of(call_for_fd(libc::SYS_io_uring_setup, &[4, memory(&mut parameters)]), "it has a ring")
    }),
    attack("userfaultfd", "holds the kernel in the middle of a copy", Wall::Filter, EPERM, |_| {
        Outcome::of(call_for_fd(libc::SYS_userfaultfd, &[0]), "it can")
    }),
    attack("load-module", "loads a kernel module", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_init_module, &[0, 0, text(c"")]), "it is loaded")
    })
    .bare(Bare::Depends),
    attack("load-module-file", "loads a kernel module from a file", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_finit_module, &[usize::MAX, text(c""), 0]), "it is loaded")
    })
    .bare(Bare::Depends),
    attack("remove-module", "removes a kernel module", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_delete_module, &[text(c"attacked"), 0x800]), "it is gone")
    })
    .bare(Bare::Depends),
    attack("kexec", "starts another kernel", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_kexec_load, &[0, 0, 0, 0]), "it may")
    })
    .bare(Bare::Depends),
    attack("reboot", "restarts the machine", Wall::Filter, EPERM, |_| {
        // Without its magic numbers the call does nothing anywhere, and the kernel says EINVAL only to those who may.
        reaches(call(libc::SYS_reboot, &[0, 0, 0, 0]), libc::EINVAL)
    }),
    attack("set-time", "sets the machine's clock", Wall::Filter, EPERM, |_| {
        // No time and no zone: the kernel checks the right and changes nothing.
        Outcome::of(call(libc::SYS_settimeofday, &[0, 0]), "it may")
    }),
    attack("set-clock", "sets a clock by its number", Wall::Filter, EPERM, |_| {
        let mut state = NUDGE;
        Outcome::of(call(libc::SYS_clock_adjtime, &[0, memory(&mut state)]), "it may")
    }),
    attack("adjust-clock", "makes the machine's clock run faster", Wall::Filter, EPERM, |_| {
        let mut state = NUDGE;
        Outcome::of(call(libc::SYS_adjtimex, &[memory(&mut state)]), "it may")
    }),
    attack("swap-on", "gives the machine swap memory of its own making", Wall::Filter, EPERM, |_| {
        reaches(call(libc::SYS_swapon, &[text(c"/nowhere"), 0]), libc::ENOENT)
    })
    .bare(Bare::Depends),
    attack("process-accounting", "has the kernel write down every process", Wall::Filter, EPERM, |_| {
        reaches(call(libc::SYS_acct, &[text(c"/nowhere")]), libc::ENOENT)
    })
    .bare(Bare::Depends),
    attack("disk-quota", "changes disk quotas", Wall::Filter, EPERM, |_| {
        const QUOTA_ON: usize = 0x80_0002 << 8;
        reaches(call(libc::SYS_quotactl, &[QUOTA_ON, text(c"/dev/null"), 0, text(c"/nowhere")]), libc::ENOTBLK)
    })
    .bare(Bare::Depends),
    attack("kernel-log", "reads the kernel's messages", Wall::Filter, EPERM, |_| {
        let mut bytes = [0u8; 64];
        Outcome::of(call(libc::SYS_syslog, &[3, memory(&mut bytes), 64]), "it read them")
    }),
    attack("set-host-name", "renames the machine", Wall::Filter, EPERM, |_| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut name = name.trim().as_bytes().to_vec();
        let length = name.len();
        Outcome::of(call(libc::SYS_sethostname, &[memory(name.as_mut_slice()), length]), "it may")
    }),
    attack("personality", "makes all its memory executable", Wall::Filter, EPERM, |_| {
        const READ_IMPLIES_EXEC: usize = 0x40_0000;
        Outcome::of(call(libc::SYS_personality, &[READ_IMPLIES_EXEC]), "it is")
    }),
    #[cfg(target_arch = "x86_64")]
    attack("input-output-ports", "talks to hardware through ports", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_ioperm, &[0x80, 1, 1]), "it may")
    })
    .bare(Bare::Depends),
    attack("hang-up-terminal", "hangs up the terminal of everyone", Wall::Filter, EPERM, |world| {
        if !world.caged {
            return Outcome::Untried("it would reach the terminal".into());
        }
        Outcome::of(call(libc::SYS_vhangup, &[]), "it is hung up")
    })
    .bare(Bare::NotTried),
];

/// `struct timex` that moves the clock by nothing (`ADJ_OFFSET_SINGLESHOT`), for which the kernel wants the right to move it.
const NUDGE: [u64; 26] = {
    let mut state = [0; 26];
    state[0] = 0x8001;
    state
};

/// A call with arguments that cannot do harm: the error that only those get who may make it is an escape.
fn reaches(result: std::io::Result<usize>, errno: i32) -> Outcome {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Outcome::escaped("it may"),
        result => Outcome::of(result, "it may"),
    }
}
