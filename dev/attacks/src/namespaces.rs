//! Namespaces within namespaces and control groups: rights that a new one would give, and leaving one's own.

use std::fs;

use crate::files::{found, open_to_write};
use crate::kernel::{Ended, call, call_for_fd, in_child, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

const EPERM: &str = "refused EPERM";
const NAMESPACES: [(&str, i32); 7] = [
    ("user", libc::CLONE_NEWUSER),
    ("mount", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

pub const ATTACKS: &[Attack] = &[
    attack("unshare-user", "makes a user namespace, where it would be root", Wall::Filter, EPERM, |_| {
        Outcome::of(call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as usize]), "it has one")
    }),
    attack("unshare-each", "makes a namespace of each kind", Wall::Filter, EPERM, |_| {
        Outcome::all(
            NAMESPACES.map(|(name, flag)| (name, Outcome::of(call(libc::SYS_unshare, &[flag as usize]), "it has one"))),
        )
    }),
    attack("clone-user", "starts a process in a new user namespace", Wall::Filter, EPERM, |_| {
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
        match call(libc::SYS_clone, &[flags, 0, 0, 0, 0]) {
            Ok(0) => std::process::exit(0),
            result => Outcome::of(result, "it started"),
        }
    }),
    attack("clone3-user", "starts it with flags that no filter can see", Wall::Filter, "refused ENOSYS", |_| {
        let mut arguments = [0u64; 11];
        arguments[0] = libc::CLONE_NEWUSER as u64;
        arguments[4] = libc::SIGCHLD as u64;
        match call(libc::SYS_clone3, &[memory(&mut arguments), 88]) {
            Ok(0) => std::process::exit(0),
            result => Outcome::of(result, "it started"),
        }
    }),
    attack("join-namespaces-of-1", "joins the namespaces of process 1", Wall::Undumpable, "refused EACCES", |_| {
        let cwd = libc::AT_FDCWD as usize;
        match call_for_fd(libc::SYS_openat, &[cwd, text(c"/proc/1/ns/mnt"), 0]) {
            Ok(_) => Outcome::escaped("it is open"),
            Err(error) => error.into(),
        }
    })
    .bare(Bare::Depends),
    attack("setns", "joins a namespace by a descriptor", Wall::Filter, EPERM, |_| {
        let cwd = libc::AT_FDCWD as usize;
        match call_for_fd(libc::SYS_openat, &[cwd, text(c"/proc/self/ns/uts"), 0]) {
            Ok(fd) => {
                use std::os::fd::AsRawFd;
                Outcome::of(call(libc::SYS_setns, &[fd.as_raw_fd() as usize, 0]), "it joined")
            }
            Err(error) => error.into(),
        }
    }),
    attack("map-more-users", "maps another user into its namespace", Wall::Capabilities, EPERM, |_| {
        Outcome::of(fs::write("/proc/self/uid_map", "0 0 1\n"), "it is mapped")
    })
    .bare(Bare::Depends),
    attack("allow-setgroups", "allows itself to drop groups", Wall::Capabilities, "refused EACCES", |_| {
        Outcome::of(fs::write("/proc/self/setgroups", "allow"), "it may")
    })
    .bare(Bare::Depends),
    attack("leave-cgroup", "moves to another control group", Wall::View, "harmless: found 0 groups to move to", |_| {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"];
        let open = roots.iter().filter(|root| {
            let files = ["cgroup.procs", "tasks"].map(|name| open_to_write(format!("{root}/{name}")));
            files.iter().any(|outcome| matches!(outcome, Outcome::Escaped(_)))
        });
        found(open.count(), "groups to move to")
    }),
    attack(
        "release-agent",
        "names a program that the host runs when a group is empty",
        Wall::View,
        "refused ENOENT",
        |_| open_to_write("/sys/fs/cgroup/memory/release_agent"),
    )
    .bare(Bare::Depends),
    attack("cgroup-names", "learns the host's control groups", Wall::View, "harmless: every group is called /", |_| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let other = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|path| *path != "/");
        match other {
            None => Outcome::harmless("every group is called /"),
            Some(path) => Outcome::escaped(format!("there is {path}")),
        }
    })
    .bare(Bare::Depends),
    attack("time-namespace", "goes to another time with a time namespace", Wall::Filter, EPERM, |_| {
        const CLONE_NEWTIME: usize = 0x80;
        match in_child(|| {
            call(libc::SYS_unshare, &[CLONE_NEWTIME]).map_or_else(|e| e.raw_os_error().unwrap_or(255), |_| 0)
        }) {
            Ok(Ended::Code(0)) => Outcome::escaped("it has one"),
            Ok(Ended::Code(errno)) => Outcome::Refused(errno),
            Ok(Ended::Signal(signal, _)) => Outcome::Killed(signal),
            Err(error) => error.into(),
        }
    }),
];
