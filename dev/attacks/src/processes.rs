//! Processes: those outside, those of the sandbox's own keeping, and outliving the step.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::files::{open_to_write, read};
use crate::kernel::{Ended, call, call_for_fd, fork, memory, wait};
use crate::{Attack, Bare, Outcome, Wall, World, attack};

const EPERM: &str = "refused EPERM";
const ESRCH: &str = "refused ESRCH";
const EACCES: &str = "refused EACCES";

pub const ATTACKS: &[Attack] = &[
    attack("kill-outside", "kills a process outside", Wall::Pids, ESRCH, |world| {
        Outcome::of(call(libc::SYS_kill, &[pid(world), libc::SIGKILL as usize]), "the signal was sent")
    }),
    attack("kill-thread-outside", "kills it by its thread", Wall::Pids, ESRCH, |world| {
        Outcome::of(call(libc::SYS_tkill, &[pid(world), libc::SIGKILL as usize]), "the signal was sent")
    }),
    attack("pidfd-outside", "opens a process outside by its number", Wall::Pids, ESRCH, |world| {
        Outcome::of(call_for_fd(libc::SYS_pidfd_open, &[pid(world), 0]), "it is open")
    }),
    attack("queue-signal-outside", "queues a signal to a process outside", Wall::Pids, ESRCH, |world| {
        let mut info = [0u64; 16];
        info[0] = libc::SIGUSR1 as u64;
        info[1] = 0xffff_ffff; // SI_QUEUE, as a 32-bit number
        let args = [pid(world), libc::SIGUSR1 as usize, memory(&mut info)];
        Outcome::of(call(libc::SYS_rt_sigqueueinfo, &args), "the signal was sent")
    }),
    attack("owner-signal-outside", "has the kernel signal a process outside", Wall::Pids, ESRCH, |world| {
        let (one, _other) = match std::os::unix::net::UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => return error.into(),
        };
        let args = [one.as_raw_fd() as usize, libc::F_SETOWN as usize, pid(world)];
        Outcome::of(call(libc::SYS_fcntl, &args), "it will be signalled")
    }),
    attack("kill-all", "kills every process that it may", Wall::Pids, "harmless: the step goes on", |world| {
        if !world.caged {
            return Outcome::Untried("it would reach everything".into());
        }
        // This process is spared by the kernel; its shell must be too, or nobody would print.
        let _ = call(libc::SYS_kill, &[usize::MAX, libc::SIGCONT as usize]);
        Outcome::harmless("the step goes on")
    })
    .bare(Bare::NotTried),
    attack("see-outside", "lists the processes of the host", Wall::Pids, "harmless: sees 3 processes", |_| {
        // Process 1, the shell and this one; a sandbox of another make may have one or two more.
        let ids = fs::read_dir("/proc").map(|all| {
            all.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
        });
        ids.map_or_else(Outcome::from, |count| {
            let text = format!("sees {count} processes");
            if count < 6 { Outcome::Harmless(text) } else { Outcome::Escaped(text) }
        })
    }),
    attack("ptrace-outside", "traces a process outside", Wall::Pids, ESRCH, |world| {
        const PTRACE_SEIZE: usize = 0x4206;
        Outcome::of(call(libc::SYS_ptrace, &[PTRACE_SEIZE, pid(world), 0, 0]), "it is traced")
    }),
    attack("ptrace-1", "traces the sandbox's process 1", Wall::Undumpable, EPERM, |_| {
        const PTRACE_SEIZE: usize = 0x4206;
        Outcome::of(call(libc::SYS_ptrace, &[PTRACE_SEIZE, 1, 0, 0]), "it is traced")
    })
    .bare(Bare::NotTried),
    attack("ptrace-own", "traces a process of its own past the call filter", Wall::Filter, EPERM, |_| under_trace())
        .bare(Bare::Depends),
    attack(
        "unkillable",
        "holds a killed process at its end; two that hold each other stay for ever",
        Wall::Filter,
        EPERM,
        |_| hold_at_the_end(),
    ),
    attack("read-memory-outside", "reads the memory of a process outside", Wall::Pids, ESRCH, |world| {
        transfer(libc::SYS_process_vm_readv, pid(world))
    })
    .bare(Bare::Depends),
    attack("write-memory-of-1", "writes the memory of process 1", Wall::Undumpable, EPERM, |_| {
        transfer(libc::SYS_process_vm_writev, 1)
    })
    .bare(Bare::NotTried),
    attack("memory-file-of-1", "opens /proc/1/mem", Wall::Undumpable, EACCES, |_| open_to_write("/proc/1/mem"))
        .bare(Bare::Depends),
    attack("environment-of-1", "reads the environment of process 1", Wall::Undumpable, EACCES, |_| {
        read("/proc/1/environ")
    })
    .bare(Bare::Depends),
    attack("descriptors-of-1", "opens the descriptors of process 1", Wall::Undumpable, EACCES, |_| {
        let mut last = Outcome::Untried("no descriptors".into());
        for number in 0..64 {
            match fs::read_link(format!("/proc/1/fd/{number}")) {
                Ok(path) => return Outcome::escaped(format!("{number} is {}", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => last = error.into(),
            }
        }
        last
    })
    .bare(Bare::Depends),
    attack("overwrite-pace", "overwrites the program of process 1, which is pace", Wall::Undumpable, EACCES, |_| {
        fs::read_link("/proc/1/exe")
            .map_or_else(Outcome::from, |path| Outcome::escaped(format!("it is {}", path.display())))
    })
    .bare(Bare::Depends),
    attack("memory-map-of-1", "learns where the memory of process 1 lies", Wall::Undumpable, EACCES, |_| {
        read("/proc/1/maps")
    })
    .bare(Bare::Depends),
    attack("take-descriptor-of-1", "takes a descriptor out of process 1", Wall::Filter, EPERM, |_| {
        let process = match call_for_fd(libc::SYS_pidfd_open, &[1, 0]) {
            Ok(process) => process,
            Err(error) => return error.into(),
        };
        Outcome::of(call_for_fd(libc::SYS_pidfd_getfd, &[process.as_raw_fd() as usize, 0, 0]), "it has it")
    })
    .bare(Bare::Depends),
    attack("compare-with-1", "compares kernel addresses with process 1", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_kcmp, &[1, std::process::id() as usize, 1, 0, 0]), "they were compared")
    })
    .bare(Bare::Depends),
    attack("kill-1", "kills process 1, which watches over the step", Wall::Pids, EPERM, |world| {
        signal_1(world, libc::SIGKILL)
    })
    .lacking("harmless: process 1 lives")
    .bare(Bare::NotTried),
    attack("stop-1", "stops process 1", Wall::Pids, EPERM, |world| signal_1(world, libc::SIGSTOP))
        .lacking("harmless: process 1 lives")
        .bare(Bare::NotTried),
    attack("terminate-1", "asks process 1 to end", Wall::Pids, EPERM, |world| signal_1(world, libc::SIGTERM))
        .lacking("harmless: process 1 lives")
        .bare(Bare::NotTried),
    attack(
        "slow-down-others",
        "gives all processes of its user the lowest priority",
        Wall::Pids,
        "harmless: only its own have it",
        |world| {
            if !world.caged {
                return Outcome::Untried("it would reach everything of its user".into());
            }
            // Whether the process outside has it is seen from outside.
            const PRIO_USER: usize = 2;
            match call(libc::SYS_setpriority, &[PRIO_USER, 0, 19]) {
                Ok(_) => Outcome::harmless("only its own have it"),
                Err(error) => error.into(),
            }
        },
    )
    .bare(Bare::NotTried),
    attack(
        "sacrifice-1",
        "names process 1 as the first to be killed when memory ends",
        Wall::ReadOnly,
        "harmless: it is the step's own process 1",
        |world| {
            if !world.caged {
                return Outcome::Untried("it would reach the host's first process".into());
            }
            // On a host of root the file is the step's own user's: it harms the step's own process 1 and nobody else.
            match open_to_write("/proc/1/oom_score_adj") {
                Outcome::Escaped(_) => Outcome::harmless("it is the step's own process 1"),
                outcome => outcome,
            }
        },
    )
    .as_user(EACCES)
    .bare(Bare::NotTried),
    attack("move-memory-of-1", "moves the memory of process 1", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_move_pages, &[1, 0, 0, 0, 0, 0]), "it was moved")
    })
    .bare(Bare::Depends),
    attack("shared-memory-outside", "attaches to shared memory of the host", Wall::Ipc, "refused ENOENT", |world| {
        Outcome::of(call(libc::SYS_shmget, &[world.ipc_key as usize, 0, 0]), "it is attached")
    }),
    attack(
        "run-in-real-time",
        "takes the processor for itself with real-time priority",
        Wall::Capabilities,
        EPERM,
        |_| {
            let mut priority = 1i32;
            Outcome::of(
                call(libc::SYS_sched_setscheduler, &[0, libc::SCHED_FIFO as usize, memory(&mut priority)]),
                "it has it",
            )
        },
    )
    .bare(Bare::Depends),
    attack("run-first", "gives itself the highest priority", Wall::Capabilities, "refused EACCES", |_| {
        Outcome::of(call(libc::SYS_setpriority, &[0, 0, -20isize as usize]), "it has it")
    }),
    attack("read-first", "gives itself real-time priority on the disk", Wall::Capabilities, EPERM, |_| {
        Outcome::of(call(libc::SYS_ioprio_set, &[1, 0, 1 << 13]), "it has it")
    }),
    attack("spare-me", "tells the kernel to kill others first when memory ends", Wall::Capabilities, EACCES, |_| {
        Outcome::of(fs::write("/proc/self/oom_score_adj", "-1000"), "it is spared")
    })
    .bare(Bare::Depends),
];

/// Never 0, which is this process's own group.
fn pid(world: &World) -> usize {
    match world.victim {
        0 => i32::MAX as usize,
        pid => pid as usize,
    }
}

fn transfer(number: libc::c_long, pid: usize) -> Outcome {
    let mut byte = [0u8];
    let mut here = [memory(&mut byte), 1];
    let mut there = [0x1000usize, 1];
    Outcome::of(call(number, &[pid, memory(&mut here), 1, memory(&mut there), 1, 0]), "its memory was reached")
}

/// A tracer may put another call in the place of the one that its tracee makes.
fn under_trace() -> Outcome {
    const SYSCALL: usize = 24;
    const CONT: usize = 7;
    const PEEKUSER: usize = 3;
    const POKEUSER: usize = 6;
    // Where x86 keeps the number of the call.
    const NUMBER: usize = 15 * 8;
    if cfg!(not(target_arch = "x86_64")) {
        return Outcome::Refused(libc::EPERM);
    }
    let tracee = fork(|| {
        let _ = call(libc::SYS_ptrace, &[0, 0, 0, 0]);
        let _ = call(libc::SYS_kill, &[std::process::id() as usize, libc::SIGSTOP as usize]);
        let made = call(libc::SYS_getpid, &[libc::CLONE_NEWUTS as usize]);
        made.map_or_else(|error| error.raw_os_error().unwrap_or(1), |_| 0)
    });
    let Ok(tracee) = tracee else { return Outcome::Untried("no process".into()) };
    let ask = |request, at, data| call(libc::SYS_ptrace, &[request, tracee as usize, at, data]);
    for _ in 0..8 {
        let mut number = 0usize;
        let stopped = wait(tracee).and_then(|_| ask(PEEKUSER, NUMBER, memory(&mut number)));
        if stopped.is_ok() && number == libc::SYS_getpid as usize {
            let _ = ask(POKEUSER, NUMBER, libc::SYS_unshare as usize).and_then(|_| ask(CONT, 0, 0));
            return match wait(tracee) {
                Ok(Ended::Code(0)) => Outcome::escaped("it has a namespace"),
                Ok(Ended::Code(errno)) => Outcome::Refused(errno),
                other => Outcome::Untried(format!("{other:?}")),
            };
        }
        if let Err(error) = stopped.and_then(|_| ask(SYSCALL, 0, 0)) {
            return error.into();
        }
    }
    Outcome::Untried("it made no call".into())
}

fn hold_at_the_end() -> Outcome {
    const SEIZE: usize = 0x4206;
    const SETOPTIONS: usize = 0x4200;
    const OLDSETOPTIONS: usize = 21;
    const TRACEEXIT: usize = 1 << 6;
    let tracee = fork(|| {
        let _ = call(libc::SYS_pause, &[]);
        0
    });
    let Ok(tracee) = tracee else { return Outcome::Untried("no process".into()) };
    let ask =
        |request| Outcome::of(call(libc::SYS_ptrace, &[request, tracee as usize, 0, TRACEEXIT]), "it can hold it");
    let all = [("seize", SEIZE), ("options", SETOPTIONS), ("old options", OLDSETOPTIONS)];
    let outcome = Outcome::all(all.into_iter().map(|(name, request)| (name, ask(request))));
    let _ = call(libc::SYS_kill, &[tracee as usize, libc::SIGKILL as usize]);
    outcome
}

fn signal_1(world: &World, signal: i32) -> Outcome {
    if !world.caged {
        return Outcome::Untried("it would reach the host's first process".into());
    }
    let sent: io::Result<usize> = call(libc::SYS_kill, &[1, signal as usize]);
    if let Err(error) = sent {
        return error.into();
    }
    let status = fs::read_to_string("/proc/1/status").unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or("gone");
    match state.chars().next() {
        Some('S' | 'R') => Outcome::harmless("process 1 lives"),
        _ => Outcome::escaped(format!("process 1 is {state}")),
    }
}
