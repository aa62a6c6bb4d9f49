//! Mounts and roots: every way to change what is where.

use std::fs;
use std::io;

use crate::files::{open_to_write, read};
use crate::kernel::{call, call_for_fd, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

const EPERM: &str = "refused EPERM";

pub const ATTACKS: &[Attack] = &[
    attack("mount", "mounts a file system", Wall::Filter, EPERM, |_| {
        let _ = fs::create_dir("here");
        let args = [text(c"tmpfs"), text(c"here"), text(c"tmpfs"), 0, 0];
        Outcome::of(call(libc::SYS_mount, &args), "it is mounted")
    }),
    attack("bind-mount", "binds a folder over another", Wall::Filter, EPERM, |_| {
        let _ = fs::create_dir("here");
        mount(c"/proc", c"here", libc::MS_BIND | libc::MS_REC)
    }),
    attack("mount-proc", "mounts a /proc without covers", Wall::Filter, EPERM, |_| {
        let _ = fs::create_dir("here");
        let args = [text(c"proc"), text(c"here"), text(c"proc"), 0, 0];
        Outcome::of(call(libc::SYS_mount, &args), "it is mounted")
    }),
    attack("mount-cgroup", "mounts the control groups", Wall::Filter, EPERM, |_| {
        let _ = fs::create_dir("here");
        let args = [text(c"cgroup"), text(c"here"), text(c"cgroup2"), 0, 0];
        Outcome::of(call(libc::SYS_mount, &args), "it is mounted")
    })
    .bare(Bare::Depends),
    attack("remount-writable", "remounts /usr writable", Wall::Filter, EPERM, |_| {
        mount(c"none", c"/usr", libc::MS_REMOUNT | libc::MS_BIND)
    })
    .bare(Bare::Depends),
    attack("change-propagation", "lets its mounts reach the host", Wall::Filter, EPERM, |_| {
        mount(c"none", c"/", libc::MS_REC | libc::MS_SHARED)
    }),
    attack("unmount-cover", "takes the cover from /proc/kcore", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_umount2, &[text(c"/proc/kcore"), libc::MNT_DETACH as usize]), "it is uncovered")
    })
    .bare(Bare::Depends),
    attack("pivot-root", "makes another folder the root", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_pivot_root, &[text(c"."), text(c".")]), "the root is another")
    })
    .bare(Bare::Depends),
    attack("chroot", "goes to another root, the first half of leaving one", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_chroot, &[text(c"/")]), "the root is another")
    }),
    attack("mount-by-descriptor", "mounts with each call of the new mount interface", Wall::Filter, EPERM, |_| {
        let cwd = libc::AT_FDCWD as usize;
        let gone = |result: io::Result<std::os::fd::OwnedFd>| Outcome::of(result, "it gave a descriptor");
        let mut attributes = [0u64; 4];
        Outcome::all([
            ("fsopen", gone(call_for_fd(libc::SYS_fsopen, &[text(c"tmpfs"), 0]))),
            ("fspick", gone(call_for_fd(libc::SYS_fspick, &[cwd, text(c"/"), 0]))),
            ("open_tree", gone(call_for_fd(libc::SYS_open_tree, &[cwd, text(c"/"), 1]))),
            ("fsmount", gone(call_for_fd(libc::SYS_fsmount, &[usize::MAX, 0, 0]))),
            ("fsconfig", Outcome::of(call(libc::SYS_fsconfig, &[usize::MAX, 6, 0, 0, 0]), "it was configured")),
            ("move_mount", Outcome::of(call(libc::SYS_move_mount, &[cwd, text(c"/"), cwd, text(c"."), 0]), "it moved")),
            (
                "mount_setattr",
                Outcome::of(
                    call(libc::SYS_mount_setattr, &[cwd, text(c"/usr"), 0, memory(&mut attributes), 32]),
                    "it was set",
                ),
            ),
        ])
    }),
    attack(
        "core-pattern",
        "names a program that the kernel runs for core dumps",
        Wall::ReadOnly,
        "refused EROFS",
        |_| open_to_write("/proc/sys/kernel/core_pattern"),
    )
    .as_user("refused EACCES"),
    attack(
        "modprobe-path",
        "names a program that the kernel runs to load modules",
        Wall::ReadOnly,
        "refused EROFS",
        |_| open_to_write("/proc/sys/kernel/modprobe"),
    )
    .as_user("refused EACCES")
    .lacking("refused ENOENT")
    .bare(Bare::Depends),
    attack("binfmt", "registers an interpreter for all programs of the host", Wall::ReadOnly, "refused ENOENT", |_| {
        open_to_write("/proc/sys/fs/binfmt_misc/register")
    })
    .bare(Bare::Depends),
    attack("sysctl", "changes how the kernel overcommits memory", Wall::ReadOnly, "refused EROFS", |_| {
        open_to_write("/proc/sys/vm/overcommit_memory")
    })
    .as_user("refused EACCES"),
    attack("drop-caches", "empties the host's page cache", Wall::ReadOnly, "refused EROFS", |_| {
        open_to_write("/proc/sys/vm/drop_caches")
    })
    .as_user("refused EACCES"),
    attack("sysrq", "restarts the machine by /proc/sysrq-trigger", Wall::ReadOnly, "refused EROFS", |_| {
        open_to_write("/proc/sysrq-trigger")
    })
    .as_user("refused EACCES")
    .lacking("refused ENOENT")
    .bare(Bare::Depends),
    attack("kernel-memory", "reads the kernel's memory from /proc/kcore", Wall::Hidden, "refused EACCES", |_| {
        read("/proc/kcore")
    })
    .lacking("refused ENOENT")
    .bare(Bare::Depends),
    attack("kernel-keys", "lists all keys of its user in /proc/keys", Wall::Hidden, "refused EACCES", |_| {
        read("/proc/keys")
    }),
    attack("uevent-helper", "names a program that the kernel runs for devices", Wall::View, "refused ENOENT", |_| {
        open_to_write("/sys/kernel/uevent_helper")
    })
    .bare(Bare::Depends),
    attack(
        "kernel-symbols",
        "learns where the kernel lies from /proc/kallsyms",
        Wall::Capabilities,
        "harmless: found 0 addresses",
        |_| {
            let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
            let known =
                symbols.lines().filter(|line| !line.starts_with("0000000000000000") && !line.is_empty()).count();
            crate::files::found(known, "addresses")
        },
    )
    .bare(Bare::Depends),
];

fn mount(from: &std::ffi::CStr, to: &std::ffi::CStr, flags: u64) -> Outcome {
    let args = [text(from), text(to), 0, flags as usize, 0];
    Outcome::of(call(libc::SYS_mount, &args), "it is mounted")
}
