//! What this host can enforce, tried and not assumed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cgroup::{Abilities, Groups, NoGroups};
use crate::{Exit, HostView, Net, NetSockets, Overlay, Root, Sockets, SpawnError, Spec, remove_tree};

/// What this host can do for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its kernel: `6.18.44`.
    pub kernel: String,
    /// A whole sandbox starts and ends here. If not, nothing of the rest matters.
    pub sandbox: Ability,
    /// User namespaces can be made.
    pub user_namespaces: Ability,
    /// An overlay can be mounted inside with its upper directory in the scratch folder.
    pub overlay: Ability,
    /// The same with its upper on a tmpfs.
    pub overlay_tmpfs: Ability,
    /// System call filters.
    pub seccomp: Ability,
    /// How control groups are laid out.
    pub cgroups: CgroupLayout,
    /// Limits can be set with them by this user.
    pub limits: Ability,
    /// How each limit of a step is held.
    pub held: Held,
    /// A second lock on files, signals and sockets.
    pub landlock: Ability,
    /// Which of its versions the kernel has; 0 is none.
    pub landlock_abi: u32,
    /// Network namespaces of our own, in which lists of allowed hosts work.
    pub networks: Ability,
    /// A packet filter inside of them, for ports other than 80 and 443.
    pub packet_filter: Ability,
}

/// How each limit of a step is held on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `resources.memory`.
    pub memory: Ability,
    /// `resources.cpu`.
    pub cpu: Ability,
    /// `resources.pids`.
    pub pids: Ability,
    /// `resources.io_weight`.
    pub io: Ability,
    /// `resources.open_files`.
    pub open_files: Ability,
    /// `resources.file_size`.
    pub file_size: Ability,
    /// `resources.disk`.
    pub disk: Ability,
}

/// Whether something works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It works.
    Yes,
    /// It is not held for certain, but what can be done is done.
    BestEffort {
        /// How.
        how: String,
        /// What to do to have it for certain; empty when there is nothing.
        advice: String,
    },
    /// It does not.
    No {
        /// Why not.
        why: String,
        /// What to do about it.
        advice: String,
    },
}

/// How control groups are laid out on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupLayout {
    /// One tree, version 2.
    V2,
    /// Controllers in version 1, beside them a version 2 tree.
    Hybrid,
    /// Version 1 only.
    V1,
    /// None mounted.
    None,
}

/// The oldest kernel with everything that we lean on: `mount_setattr` (5.12) and overlays in user namespaces (5.11).
const KERNEL_MIN: (u32, u32) = (5, 12);
/// A folder that is a tmpfs on nearly every host.
const TMPFS: &str = "/dev/shm";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Tries out what this host can do, in at most a second. `scratch` is an existing folder on the file system where layers
/// will be written; what is made in it is removed again.
pub fn probe(scratch: &Path) -> Host {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let plain = start(Vec::new());
    let groups = Groups::open();
    let abilities = groups.as_ref().map(|groups| groups.abilities().clone()).map_err(Clone::clone);
    let (networks, packet_filter) = networks();
    let landlock_abi = landlock_abi();
    Host {
        sandbox: sandbox(&kernel, &plain),
        user_namespaces: user_namespaces(&plain),
        overlay: overlay(scratch),
        overlay_tmpfs: overlay(Path::new(TMPFS)),
        seccomp: seccomp(),
        cgroups: cgroup_layout(),
        limits: limits(&abilities),
        held: held(&abilities, &kernel),
        landlock: landlock(landlock_abi),
        landlock_abi,
        networks,
        packet_filter,
        kernel,
    }
}

impl Ability {
    pub(crate) fn no(why: impl Into<String>, advice: impl Into<String>) -> Ability {
        Ability::No { why: why.into(), advice: advice.into() }
    }
}

/// Starts `true` in a sandbox with the system directories of this host.
fn start(overlays: Vec<Overlay>) -> Result<Exit, SpawnError> {
    let spec = Spec {
        env: vec![("PATH".into(), "/usr/bin:/bin:/run/current-system/sw/bin".into())],
        overlays,
        hostname: "probe".into(),
        ..Spec::new(vec![OsString::from("true")], Root::Host(tools()))
    };
    let waiting = |source| SpawnError::Setup { what: "wait for the sandbox's end".into(), source };
    spec.spawn()?.wait().map(|(exit, _)| exit).map_err(waiting)
}

/// What `true` needs, and no more: a probe must not fail because of an odd folder.
fn tools() -> HostView {
    let mut view = HostView::default();
    for path in ["/usr", "/bin", "/lib", "/lib64", "/nix", "/run/current-system"].map(PathBuf::from) {
        match fs::read_link(&path) {
            Ok(to) => view.links.push((path, to)),
            Err(_) if path.exists() => view.show.push(path),
            Err(_) => {}
        }
    }
    view
}

fn sandbox(kernel: &str, started: &Result<Exit, SpawnError>) -> Ability {
    if version(kernel).is_some_and(|version| version < KERNEL_MIN) {
        let (major, minor) = KERNEL_MIN;
        let why = format!("the kernel is {kernel}, and the sandbox needs {major}.{minor}");
        return Ability::no(why, "install a newer kernel, or use `--executor process`, which isolates nothing");
    }
    match started {
        Ok(Exit::Code(0)) => Ability::Yes,
        Ok(exit) => Ability::no(
            format!("`true` ended with {exit:?} in a sandbox"),
            "this should not happen: report it with this output",
        ),
        Err(SpawnError::Forbidden { why, advice, .. }) => Ability::no(why, advice),
        Err(error) => {
            Ability::no(error.to_string(), "if this is a container, start it with less protection of /proc and mounts")
        }
    }
}

fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn user_namespaces(started: &Result<Exit, SpawnError>) -> Ability {
    match started {
        Err(SpawnError::Forbidden { why, advice, .. }) => Ability::no(why, advice),
        _ => Ability::Yes,
    }
}

/// Mounts one with its upper directory below `scratch`.
fn overlay(scratch: &Path) -> Ability {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = scratch.join(format!(".pace-probe-{}-{count}", std::process::id()));
    let tried = try_overlay(&dir);
    // What is left is empty and named after us; the next prune takes it.
    let _ = remove_tree(&dir);
    match tried {
        Ok(Exit::Code(0)) => Ability::Yes,
        Ok(exit) => Ability::no(
            format!("`true` ended with {exit:?} beside an overlay"),
            "this should not happen: report it with this output",
        ),
        Err(SpawnError::Forbidden { why, advice, .. }) => Ability::no(why, advice),
        Err(error) => Ability::no(
            error.to_string(),
            format!("use a folder on ext4, xfs or btrfs instead of {}; tmpfs needs Linux 6.6", scratch.display()),
        ),
    }
}

fn try_overlay(dir: &Path) -> Result<Exit, SpawnError> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| dir.join(name));
    for dir in [&lower, &upper, &work] {
        fs::create_dir_all(dir)
            .map_err(|source| SpawnError::Setup { what: format!("make the folder {}", dir.display()), source })?;
    }
    start(vec![Overlay { at: "/workspace".into(), lower: vec![lower], upper, work }])
}

fn seccomp() -> Ability {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") && actions.contains("kill_process") => Ability::Yes,
        _ => Ability::no("the kernel was built without system call filters", "use a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

fn cgroup_layout() -> CgroupLayout {
    let has = |name: &str| Path::new(CGROUPS).join(name).exists();
    match (has("cgroup.controllers"), has("unified/cgroup.controllers"), has("memory") || has("pids") || has("cpu")) {
        (true, ..) => CgroupLayout::V2,
        (false, true, true) => CgroupLayout::Hybrid,
        (false, _, true) => CgroupLayout::V1,
        _ => CgroupLayout::None,
    }
}

/// At least memory or processes can be limited by groups.
fn limits(abilities: &Result<Abilities, NoGroups>) -> Ability {
    match abilities {
        Err(none) => Ability::no(&none.why, &none.advice),
        Ok(all) if [&all.memory, &all.pids, &all.cpu].contains(&&Ability::Yes) => Ability::Yes,
        Ok(all) => all.memory.clone(),
    }
}

fn held(abilities: &Result<Abilities, NoGroups>, kernel: &str) -> Held {
    let by_group = |which: fn(&Abilities) -> &Ability| match abilities {
        Ok(all) => which(all).clone(),
        Err(none) => Ability::no(&none.why, &none.advice),
    };
    Held {
        memory: or(by_group(|all| &all.memory), |advice| Ability::BestEffort {
            how: "twice a second it is looked what the step's processes have, and a step with too much is ended".into(),
            advice,
        }),
        cpu: by_group(|all| &all.cpu),
        pids: or_rlimit(by_group(|all| &all.pids), kernel),
        io: by_group(|all| &all.io),
        open_files: Ability::Yes,
        file_size: Ability::Yes,
        disk: Ability::BestEffort {
            how: "twice a second it is looked how much the step wrote, and a step with too much is ended".into(),
            advice: String::new(),
        },
    }
}

/// Another way where groups cannot do it; it gets their advice.
fn or(ability: Ability, otherwise: impl Fn(String) -> Ability) -> Ability {
    match ability {
        Ability::No { advice, .. } => otherwise(advice),
        ability => ability,
    }
}

/// Since 5.14 the kernel counts an ordinary user's processes for each user namespace. It never counts root's.
fn or_rlimit(ability: Ability, kernel: &str) -> Ability {
    const COUNTED_INSIDE: (u32, u32) = (5, 14);
    // SAFETY: always succeeds.
    let ordinary = unsafe { libc::geteuid() } != 0;
    match ability {
        Ability::No { .. } if ordinary && version(kernel).is_some_and(|version| version >= COUNTED_INSIDE) => {
            Ability::Yes
        }
        ability => ability,
    }
}

fn landlock_abi() -> u32 {
    const CREATE_RULESET_VERSION: u32 = 1;
    let null: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag no memory is read.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0, CREATE_RULESET_VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// What each version brought that we use: changes of directories in 2, truncation in 3, signals and sockets in 6.
fn landlock(abi: u32) -> Ability {
    match abi {
        0 => Ability::no(
            "the kernel has no landlock, or it is switched off",
            "boot with `lsm=landlock,...`; without it the mounts alone hold",
        ),
        1 => Ability::no(
            "the kernel's landlock is too old (version 1)",
            "use Linux 5.19 or newer; without it the mounts alone hold",
        ),
        2..6 => Ability::BestEffort {
            how: format!("version {abi} confines files; signals and abstract sockets are confined by namespaces alone"),
            advice: "use Linux 6.12 or newer".into(),
        },
        _ => Ability::Yes,
    }
}

fn networks() -> (Ability, Ability) {
    let sockets = Sockets { netlink: true, ..Sockets::default() };
    match Net::new(sockets) {
        Ok((_, NetSockets { netfilter: Some(_), .. })) => (Ability::Yes, Ability::Yes),
        Ok(_) => {
            let advice = "load it: `modprobe nf_tables`; allowed hosts work on ports 80 and 443 all the same";
            (Ability::Yes, Ability::no("the kernel has no packet filter (nf_tables)", advice))
        }
        Err(SpawnError::Forbidden { why, advice, .. }) => (Ability::no(&why, &advice), Ability::no(&why, &advice)),
        Err(error) => {
            let no = Ability::no(error.to_string(), "this should not happen: report it with this output");
            (no.clone(), no)
        }
    }
}

pub(crate) fn is_writable(path: &Path) -> bool {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    // SAFETY: the path is NUL-terminated and only read.
    path.is_ok_and(|path| unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(ability: &Ability) -> &str {
        match ability {
            Ability::Yes => "",
            Ability::BestEffort { advice, .. } | Ability::No { advice, .. } => advice,
        }
    }

    #[test]
    fn without_groups_memory_is_watched_and_the_processor_is_not_limited_and_both_say_what_to_do() {
        let none = NoGroups { why: "no groups".into(), advice: "make some".into() };
        let held = held(&Err(none), "6.1.0");
        assert!(matches!(held.memory, Ability::BestEffort { .. }), "{:?}", held.memory);
        assert_eq!(held.cpu, Ability::no("no groups", "make some"));
        assert_eq!(advice(&held.memory), "make some");
        assert_eq!((&held.open_files, &held.file_size), (&Ability::Yes, &Ability::Yes));
    }

    #[test]
    fn processes_of_an_ordinary_user_are_limited_without_groups_since_linux_5_14() {
        let no = || Ability::no("no groups", "make some");
        // SAFETY: always succeeds.
        let root = unsafe { libc::geteuid() } == 0;
        assert_eq!(or_rlimit(no(), "5.13.1"), no());
        assert_eq!(or_rlimit(no(), "5.14"), if root { no() } else { Ability::Yes });
    }

    #[test]
    fn each_landlock_says_what_it_confines() {
        assert!(matches!(landlock(0), Ability::No { .. }) && matches!(landlock(1), Ability::No { .. }));
        assert!(matches!(landlock(2), Ability::BestEffort { .. }) && matches!(landlock(5), Ability::BestEffort { .. }));
        assert_eq!((landlock(6), landlock(7)), (Ability::Yes, Ability::Yes));
    }
}
