//! Rights: programs that would give some, users to become, and taking the sandbox's own locks off.

use std::fs;
use std::process::Command;

use crate::files::found;
use crate::kernel::{Ended, call, call_for_fd, in_child, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

const EPERM: &str = "refused EPERM";

pub const ATTACKS: &[Attack] = &[
    attack(
        "setuid-program",
        "executes a program with the setuid bit",
        Wall::NoNewPrivileges,
        "harmless: it runs as the same user",
        |_| run_as("./setuid-program"),
    ),
    attack(
        "setgid-program",
        "executes a program with the setgid bit",
        Wall::NoNewPrivileges,
        "harmless: it runs as the same group",
        |_| {
            let output = Command::new("./setgid-program").args(["helper", "groups"]).output();
            output.map_or_else(Outcome::from, |output| match String::from_utf8_lossy(&output.stdout).trim() {
                "same" => Outcome::harmless("it runs as the same group"),
                other => Outcome::escaped(format!("it runs as {other}")),
            })
        },
    ),
    attack(
        "own-setuid-program",
        "makes a setuid program and executes it",
        Wall::NoNewPrivileges,
        "harmless: it runs as the same user",
        |_| {
            use std::os::unix::fs::PermissionsExt;
            let made = std::env::current_exe()
                .and_then(|own| fs::copy(own, "own-setuid"))
                .and_then(|_| fs::set_permissions("own-setuid", fs::Permissions::from_mode(0o4755)));
            let outcome = made.map_or_else(Outcome::from, |()| run_as("./own-setuid"));
            let _ = fs::remove_file("own-setuid");
            outcome
        },
    )
    .bare(Bare::Depends),
    attack(
        "file-capabilities",
        "executes a program with capabilities of its own",
        Wall::NoNewPrivileges,
        "harmless: it has no capability",
        |_| {
            let output = Command::new("./capable-program").args(["helper", "capabilities"]).output();
            output.map_or_else(Outcome::from, |output| match String::from_utf8_lossy(&output.stdout).trim() {
                "0000000000000000" => Outcome::harmless("it has no capability"),
                other => Outcome::escaped(format!("it has {other}")),
            })
        },
    )
    .bare(Bare::Depends),
    attack("su", "executes the host's `su`", Wall::NoNewPrivileges, "harmless: it exits with 1", |_| {
        let ended = Command::new("/usr/bin/su")
            .args(["-s", "/bin/sh", "-c", "true", "nobody"])
            .stdin(std::process::Stdio::null())
            .output();
        ended.map_or_else(Outcome::from, |output| match output.status.code() {
            Some(0) => Outcome::escaped("it is nobody"),
            Some(code) => Outcome::Harmless(format!("it exits with {code}")),
            None => Outcome::escaped("it was killed"),
        })
    }),
    attack("become-other-user", "becomes another user", Wall::Capabilities, "refused EINVAL", |_| {
        Outcome::of(call(libc::SYS_setresuid, &[12345, 12345, 12345]), "it is another user")
    }),
    attack("become-other-group", "becomes another group", Wall::Capabilities, "refused EINVAL", |_| {
        Outcome::of(call(libc::SYS_setresgid, &[12345, 12345, 12345]), "it is another group")
    }),
    attack("drop-groups", "drops groups that deny it something", Wall::Capabilities, EPERM, |_| {
        Outcome::of(call(libc::SYS_setgroups, &[0, 0]), "they are dropped")
    }),
    attack("chown", "gives a file to another user", Wall::Capabilities, "refused EINVAL", |_| {
        let made = fs::write("mine", "");
        let outcome = made.map_or_else(Outcome::from, |()| {
            Outcome::of(std::os::unix::fs::chown("mine", Some(12345), Some(12345)), "it belongs to another")
        });
        let _ = fs::remove_file("mine");
        outcome
    }),
    attack("gain-capabilities", "takes all capabilities", Wall::Capabilities, EPERM, |_| {
        let mut header = [0x2008_0522u32, 0];
        let mut all = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
        Outcome::of(call(libc::SYS_capset, &[memory(&mut header), memory(&mut all)]), "it has them")
    })
    .bare(Bare::Depends),
    attack("ambient-capability", "raises an ambient capability", Wall::Capabilities, EPERM, |_| {
        const CAP_SYS_ADMIN: usize = 21;
        prctl(libc::PR_CAP_AMBIENT, &[libc::PR_CAP_AMBIENT_RAISE as usize, CAP_SYS_ADMIN])
    })
    .bare(Bare::Depends),
    attack(
        "bounding-set",
        "finds a capability that a program could still be given",
        Wall::Capabilities,
        "harmless: CapBnd is 0000000000000000",
        |_| status("CapBnd", |value| value == "0000000000000000"),
    ),
    attack("secure-bits", "changes the rules by which root gets capabilities", Wall::Capabilities, EPERM, |_| {
        prctl(libc::PR_SET_SECUREBITS, &[0])
    }),
    attack(
        "undo-no-new-privileges",
        "takes back that it gains no privileges",
        Wall::NoNewPrivileges,
        "refused EINVAL",
        |_| prctl(libc::PR_SET_NO_NEW_PRIVS, &[0]),
    )
    .bare(Bare::Depends),
    attack("undo-filter", "switches the system call filter off", Wall::Filter, "refused EINVAL", |_| {
        prctl(libc::PR_SET_SECCOMP, &[0])
    })
    .bare(Bare::Depends),
    attack(
        "widen-filter",
        "lays a filter that allows everything over it",
        Wall::Filter,
        "harmless: mount is refused all the same",
        |_| {
            let outcome = in_child(|| {
                let mut allow = [0x06u64 | (0x7fff_0000u64 << 32)];
                let mut program = [1u64, memory(&mut allow) as u64];
                let _ = prctl(libc::PR_SET_NO_NEW_PRIVS, &[1]);
                if call(libc::SYS_seccomp, &[1, 0, memory(&mut program)]).is_err() {
                    return 3;
                }
                let mounted = call(
                    libc::SYS_mount,
                    &[text(c"none"), text(c"/"), 0, (libc::MS_REC | libc::MS_PRIVATE) as usize, 0],
                );
                i32::from(mounted.is_ok())
            });
            match outcome {
                Ok(Ended::Code(0)) => Outcome::harmless("mount is refused all the same"),
                Ok(Ended::Code(1)) => Outcome::escaped("mount works"),
                other => Outcome::Untried(format!("{other:?}")),
            }
        },
    ),
    attack(
        "widen-landlock",
        "restricts itself with rules that allow everything",
        Wall::Hidden,
        "harmless: /etc/shadow stays closed",
        |_| {
            let mut rules = [1u64 << 12, 0, 0];
            if let Ok(set) = call_for_fd(libc::SYS_landlock_create_ruleset, &[memory(&mut rules), 8, 0]) {
                use std::os::fd::AsRawFd;
                let _ = call(libc::SYS_landlock_restrict_self, &[set.as_raw_fd() as usize, 0]);
            }
            match fs::File::open("/etc/shadow") {
                Err(_) => Outcome::harmless("/etc/shadow stays closed"),
                Ok(_) => Outcome::escaped("/etc/shadow is open"),
            }
        },
    ),
    attack("int-0x80", "enters the kernel as a 32-bit program, where other numbers hold", Wall::Filter, INT_80, |_| {
        #[cfg(target_arch = "x86_64")]
        return killed(|| i32::from(crate::kernel::pid_by_interrupt() <= 0), "the call was made");
        #[cfg(not(target_arch = "x86_64"))]
        Outcome::Killed(libc::SIGSYS)
    })
    .lacking("killed by SIGSEGV")
    .bare(Bare::Depends),
    attack(
        "x32",
        "enters the kernel with x32 numbers, which filters overlook",
        Wall::Filter,
        "killed by SIGSYS",
        |_| {
            #[cfg(target_arch = "x86_64")]
            return killed(|| i32::from(call(0x4000_0000 + libc::SYS_getpid, &[]).is_err()), "the call was made");
            #[cfg(not(target_arch = "x86_64"))]
            Outcome::Killed(libc::SIGSYS)
        },
    )
    .bare(Bare::Depends),
    attack("unknown-call", "makes a call that the filter was written before", Wall::Filter, "refused ENOSYS", |_| {
        Outcome::of(call(600, &[]), "it was made")
    })
    .bare(Bare::Depends),
    attack(
        "program-in-memory",
        "executes a program that is in no file",
        Wall::NoNewPrivileges,
        "harmless: it has no capability",
        |_| memfd(),
    ),
    attack(
        "load-library",
        "names a library that every program loads",
        Wall::View,
        "harmless: found 0 preloaded libraries",
        |_| {
            // In the file it would reach all programs of the host; in the environment only its own.
            let file = fs::write("/etc/ld.so.preload", "/workspace/evil.so");
            found(usize::from(file.is_ok()), "preloaded libraries")
        },
    )
    .bare(Bare::NotTried),
];

const INT_80: &str = "killed by SIGSYS";

fn prctl(option: i32, args: &[usize]) -> Outcome {
    let mut all = vec![option as usize];
    all.extend(args);
    Outcome::of(call(libc::SYS_prctl, &all), "it was set")
}

/// Runs this program by another name, whose bits would make it another user.
pub fn run_as(path: &str) -> Outcome {
    let output = Command::new(path).args(["helper", "users"]).output();
    output.map_or_else(Outcome::from, |output| match String::from_utf8_lossy(&output.stdout).trim() {
        "same" => Outcome::harmless("it runs as the same user"),
        other => Outcome::escaped(format!("it runs as {other}")),
    })
}

/// A line of this process's status.
pub fn status(name: &str, right: impl Fn(&str) -> bool) -> Outcome {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    match value {
        Some(value) if right(value) => Outcome::Harmless(format!("{name} is {value}")),
        value => Outcome::escaped(format!("{name} is {}", value.unwrap_or("missing"))),
    }
}

fn killed(attack: impl FnOnce() -> i32, what: &str) -> Outcome {
    match in_child(attack) {
        Ok(Ended::Signal(signal, _)) => Outcome::Killed(signal),
        Ok(Ended::Code(0)) => Outcome::escaped(what),
        Ok(Ended::Code(_)) => Outcome::Untried("this kernel has no such entry".into()),
        Err(error) => error.into(),
    }
}

fn memfd() -> Outcome {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let made = call_for_fd(libc::SYS_memfd_create, &[text(c"program"), 0]);
    let program = std::env::current_exe().and_then(fs::read);
    let (Ok(fd), Ok(program)) = (made, program) else { return Outcome::Untried("no memory file".into()) };
    let mut file = fs::File::from(fd);
    if let Err(error) = file.write_all(&program) {
        return error.into();
    }
    let output = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).args(["helper", "capabilities"]).output();
    output.map_or_else(Outcome::from, |output| match String::from_utf8_lossy(&output.stdout).trim() {
        "0000000000000000" => Outcome::harmless("it has no capability"),
        other => Outcome::escaped(format!("it has {other}")),
    })
}
