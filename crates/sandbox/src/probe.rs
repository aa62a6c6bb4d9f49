//! What this host can enforce, tried and not assumed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Exit, HostView, Overlay, Root, SpawnError, Spec, remove_tree};

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
    let cgroups = cgroup_layout();
    Host {
        sandbox: sandbox(&kernel, &plain),
        user_namespaces: user_namespaces(&plain),
        overlay: overlay(scratch),
        overlay_tmpfs: overlay(Path::new(TMPFS)),
        seccomp: seccomp(),
        limits: limits(cgroups),
        cgroups,
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

/// The group that we are in, or with version 1 the root of the memory controller, can be written.
fn limits(layout: CgroupLayout) -> Ability {
    let place = match layout {
        CgroupLayout::None => {
            return Ability::no("no control groups are mounted", "mount cgroup2 at /sys/fs/cgroup to set limits");
        }
        CgroupLayout::V2 => own_group().unwrap_or_else(|| CGROUPS.into()),
        CgroupLayout::V1 | CgroupLayout::Hybrid => Path::new(CGROUPS).join("memory"),
    };
    if is_writable(&place) {
        return Ability::Yes;
    }
    Ability::no(
        format!("this user may not make control groups in {}", place.display()),
        "run as root, or delegate a group: `systemd-run --user --scope -p Delegate=yes pace ...`",
    )
}

/// `0::/user.slice/...` in `/proc/self/cgroup`.
fn own_group() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(CGROUPS).join(path))
}

pub(crate) fn is_writable(path: &Path) -> bool {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    // SAFETY: the path is NUL-terminated and only read.
    path.is_ok_and(|path| unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0)
}
