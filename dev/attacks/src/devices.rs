//! Devices: nodes of the host's disks and memory, made or found, and the terminal.

use std::fs;
use std::os::fd::AsRawFd;

use crate::files::read;
use crate::kernel::{call, call_for_fd, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

pub const ATTACKS: &[Attack] = &[
    attack("make-memory-device", "makes a node of the machine's memory", Wall::Capabilities, "refused EPERM", |_| {
        node(libc::S_IFCHR, 1, 1)
    }),
    attack("make-disk-device", "makes a node of the first disk", Wall::Capabilities, "refused EPERM", |_| {
        node(libc::S_IFBLK, 254, 0)
    }),
    attack("open-memory", "opens /dev/mem", Wall::View, "refused ENOENT", |_| read("/dev/mem")).bare(Bare::Depends),
    attack("open-kernel-log", "reads the kernel's messages from /dev/kmsg", Wall::View, "refused ENOENT", |_| {
        read("/dev/kmsg")
    })
    .bare(Bare::Depends),
    attack("open-kvm", "opens the kernel's virtual machines", Wall::View, "refused ENOENT", |_| {
        Outcome::of(fs::metadata("/dev/kvm"), "it is there")
    })
    .bare(Bare::Depends),
    attack("open-fuse", "opens the door to file systems of its own", Wall::View, "refused ENOENT", |_| {
        Outcome::of(fs::metadata("/dev/fuse"), "it is there")
    })
    .bare(Bare::Depends),
    attack(
        "device-list",
        "looks for device nodes beside the harmless ones",
        Wall::View,
        "harmless: found 0 other nodes",
        |_| {
            const USUAL: &[&str] = &[
                "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout",
                "stderr",
            ];
            let others = fs::read_dir("/dev").map(|all| {
                let names = all.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                names.filter(|name| !USUAL.contains(&name.as_str())).count()
            });
            others.map_or_else(Outcome::from, |count| crate::files::found(count, "other nodes"))
        },
    ),
    attack("type-into-terminal", "types a command into a terminal with TIOCSTI", Wall::Filter, "refused EPERM", |_| {
        with_terminal(|terminal| {
            let mut letter = *b"x";
            call(libc::SYS_ioctl, &[terminal, libc::TIOCSTI as usize, memory(&mut letter)])
        })
    })
    .bare(Bare::Depends),
    attack(
        "type-with-high-bits",
        "hides TIOCSTI behind bits that the kernel drops",
        Wall::Filter,
        "refused EPERM",
        |_| {
            with_terminal(|terminal| {
                let mut letter = *b"x";
                call(libc::SYS_ioctl, &[terminal, (1 << 40) | libc::TIOCSTI as usize, memory(&mut letter)])
            })
        },
    )
    .bare(Bare::Depends),
    attack("paste-into-console", "pastes into the console with TIOCLINUX", Wall::Filter, "refused EPERM", |_| {
        with_terminal(|terminal| {
            let mut paste = *b"\x03";
            call(libc::SYS_ioctl, &[terminal, libc::TIOCLINUX as usize, memory(&mut paste)])
        })
    })
    .bare(Bare::Depends),
    attack("take-terminal", "takes the terminal from which pace was started", Wall::Pids, "refused ENXIO", |_| {
        Outcome::of(fs::OpenOptions::new().read(true).write(true).open("/dev/tty"), "it is open")
    })
    .bare(Bare::Depends),
];

fn node(kind: u32, major: u32, minor: u32) -> Outcome {
    let path = c"node";
    let args = [libc::AT_FDCWD as usize, text(path), (kind | 0o600) as usize, libc::makedev(major, minor) as usize];
    let outcome = Outcome::of(call(libc::SYS_mknodat, &args), "it was made");
    let _ = fs::remove_file("node");
    outcome
}

/// Gives the attack a terminal of its own, as `pace shell` would.
fn with_terminal(attack: impl Fn(usize) -> std::io::Result<usize>) -> Outcome {
    let open = |path| call_for_fd(libc::SYS_openat, &[libc::AT_FDCWD as usize, text(path), libc::O_RDWR as usize]);
    let master = match open(c"/dev/ptmx") {
        Ok(master) => master,
        Err(error) => return Outcome::Untried(format!("no terminal: {error}")),
    };
    let mut unlocked = 0i32;
    let unlock = [master.as_raw_fd() as usize, libc::TIOCSPTLCK as usize, memory(&mut unlocked)];
    let peer = [master.as_raw_fd() as usize, libc::TIOCGPTPEER as usize, (libc::O_RDWR | libc::O_NOCTTY) as usize];
    let terminal = call(libc::SYS_ioctl, &unlock).and_then(|_| call_for_fd(libc::SYS_ioctl, &peer));
    match terminal {
        Ok(terminal) => Outcome::of(attack(terminal.as_raw_fd() as usize), "a letter was typed"),
        Err(error) => Outcome::Untried(format!("no terminal: {error}")),
    }
}
