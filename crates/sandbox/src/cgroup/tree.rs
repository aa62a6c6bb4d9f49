//! The trees of control groups that this host has, and the place in each that we make groups in.

use std::fs;
use std::path::{Path, PathBuf};

use super::dir::Dir;
use super::{abilities, node, settle};

/// Version 2 is one tree for all controllers, version 1 a tree for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What a tree can do for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Cpu,
    /// Counts processor time.
    CpuTime,
    Pids,
    Io,
    Freezer,
}

/// One tree with our place in it.
#[derive(Debug)]
pub struct Tree {
    pub version: Version,
    pub controllers: Vec<Controller>,
    /// Where it is mounted; inside a sandbox its group appears there.
    pub mount: PathBuf,
    /// Where we may make groups.
    base: Dir,
    /// Our own group there, held by a lock that ends with us.
    pub home: Dir,
    name: String,
}

/// Groups of ours begin so: what nobody holds any more may be removed by any of us.
pub const PREFIX: &str = "paceline-";
/// Where a delegated group's own processes sit, because a version 2 group with controllers for others has none itself.
pub const LEAF: &str = "paceline-leaf";

impl Tree {
    /// The controllers of version 2 as `subtree_control` wants them.
    pub fn handed_down(&self) -> String {
        let word = |controller: &Controller| match controller {
            Controller::Memory => Some("+memory"),
            Controller::Cpu => Some("+cpu"),
            Controller::Pids => Some("+pids"),
            Controller::Io => Some("+io"),
            Controller::CpuTime | Controller::Freezer => None,
        };
        self.controllers.iter().filter_map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What cannot be removed is not held any more either, and the next of us removes it.
        let _ = self.base.remove(&self.name);
    }
}

/// A mounted tree as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Of version 1 `memory`, `cpu`, ...; of version 2 nothing.
    pub controllers: Vec<String>,
    pub version: Version,
    /// Which of its groups is seen at the mount point.
    pub root: PathBuf,
    pub mount: PathBuf,
}

/// Every mounted tree, each once.
pub fn mounted() -> Vec<Mounted> {
    mounted_of(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// `31 23 0:28 /root /mount/point rw,... - cgroup source rw,memory`
fn mounted_of(text: &str) -> Vec<Mounted> {
    let mut all: Vec<Mounted> = Vec::new();
    for line in text.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let place: Vec<&str> = place.split(' ').collect();
        let kind: Vec<&str> = kind.split(' ').collect();
        let (&[_, _, _, root, mount, ..], &[kind, _, options, ..]) = (&place[..], &kind[..]) else { continue };
        let (version, controllers) = match kind {
            "cgroup2" => (Version::V2, Vec::new()),
            "cgroup" => (Version::V1, options.split(',').map(str::to_owned).collect()),
            _ => continue,
        };
        let one = Mounted { controllers, version, root: root.into(), mount: mount.into() };
        if !all.iter().any(|other| other.version == one.version && other.controllers == one.controllers) {
            all.push(one);
        }
    }
    all
}

impl Mounted {
    /// The group that we are in, as a path below the mount point. `None` when it is not seen there.
    pub fn own(&self) -> Option<PathBuf> {
        self.own_of(&fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// `4:memory:/user/1` or `0::/user/1`
    fn own_of(&self, text: &str) -> Option<PathBuf> {
        let path = text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let ours = match self.version {
                Version::V2 => names.is_empty(),
                Version::V1 => names.split(',').any(|name| self.controllers.iter().any(|own| own == name)),
            };
            ours.then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        // In a group outside of our namespace.
        (!below.starts_with("..")).then(|| self.mount.join(below))
    }
}

/// What a version 1 tree is to us; nothing for `devices`, `cpuset`, ...
fn controllers_v1(names: &[String], beside_v2: bool) -> Vec<Controller> {
    let known = [
        ("memory", Controller::Memory),
        ("cpu", Controller::Cpu),
        ("pids", Controller::Pids),
        ("blkio", Controller::Io),
        ("cpuacct", Controller::CpuTime),
        ("freezer", Controller::Freezer),
    ];
    let has = |name: &str| names.iter().any(|own| own == name);
    let all = known.into_iter().filter(|(name, _)| has(name)).map(|(_, controller)| controller);
    // A version 2 tree counts time, stops and kills without any controller, and better.
    let better = |one: &Controller| beside_v2 && matches!(one, Controller::CpuTime | Controller::Freezer);
    // Where no scheduler looks at weights it is of no use: this kernel counts bytes only under a rule that slows down.
    let idle = |one: &Controller| *one == Controller::Io && !abilities::some_disk_has_bfq();
    all.filter(|one| !better(one) && !idle(one)).collect()
}

/// Our place in a mounted tree. `Ok(None)` when it has nothing for us; an error is why we may not have one.
pub fn open(mounted: &Mounted, beside_v2: bool) -> Result<Option<Tree>, String> {
    let (base, mut controllers) = match mounted.version {
        Version::V2 => settle::base(mounted)?,
        Version::V1 => (base_v1(mounted)?, controllers_v1(&mounted.controllers, beside_v2)),
    };
    if controllers.is_empty() {
        return Ok(None);
    }
    remove_abandoned(&base);
    let (home, name) = make_home(&base).map_err(|error| refusal(&base, &error))?;
    // What the kernel did not give after all.
    controllers.retain(|one| match (mounted.version, one) {
        (Version::V2, Controller::Memory) => home.has("memory.max"),
        (Version::V2, Controller::Cpu) => home.has("cpu.max"),
        (Version::V2, Controller::Io) => home.has("io.stat"),
        (_, Controller::Pids) => home.has("pids.max"),
        (Version::V2, Controller::Freezer) => home.has("cgroup.freeze"),
        (Version::V1, Controller::Cpu) => home.has("cpu.cfs_quota_us"),
        _ => true,
    });
    let tree = Tree { version: mounted.version, controllers, mount: mounted.mount.clone(), base, home, name };
    let wanted = tree.handed_down();
    if tree.version == Version::V2 && !wanted.is_empty() {
        let done = tree.home.write("cgroup.subtree_control", &wanted);
        done.map_err(|error| format!("cannot hand `{wanted}` down in {}: {error}", tree.home.path().display()))?;
    }
    Ok(Some(tree))
}

fn refusal(base: &Dir, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            format!("this user may not make control groups in {}", base.path().display())
        }
        Some(libc::EROFS) => format!("{} is mounted read-only", base.path().display()),
        _ => format!("cannot make a control group in {}: {error}", base.path().display()),
    }
}

/// The group that we are in: its limits go on to hold for all that we start.
fn base_v1(mounted: &Mounted) -> Result<Dir, String> {
    let path = mounted.own().unwrap_or_else(|| mounted.mount.clone());
    let dir = Dir::open(path.clone()).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    Ok(dir)
}

/// A new group that is held by us.
fn make_home(base: &Dir) -> std::io::Result<(Dir, String)> {
    let stem = format!("{PREFIX}{}-{}", std::process::id(), start_time());
    let mut count = 0;
    loop {
        let name = if count == 0 { stem.clone() } else { format!("{stem}-{count}") };
        count += 1;
        match base.make(&name) {
            // Between making and holding another of us may have taken it for an abandoned one and removed it.
            Ok(home) if home.hold() && home.has("cgroup.procs") => return Ok((home, name)),
            Ok(_) => {}
            // Made by this very process before, and still in use.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if count > 1000 {
            return Err(std::io::Error::other("a thousand names are taken"));
        }
    }
}

/// Clock ticks since boot: with it a process id is never the same twice.
fn start_time() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(19).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Removes what nobody holds any more: groups of processes that were killed. What still runs in their tenants is killed,
/// as it should have been with them. A lock tells more than a process id, which means nothing to another container.
fn remove_abandoned(base: &Dir) {
    for name in base.names().into_iter().filter(|name| name.starts_with(PREFIX) && name != LEAF) {
        let Ok(home) = base.below(&name) else { continue };
        if home.hold() {
            remove_below(&home, 0);
            let _ = base.remove(&name);
        }
    }
}

fn remove_below(dir: &Dir, depth: u32) {
    for name in dir.names() {
        let Ok(below) = dir.below(&name) else { continue };
        if dir.remove(&name).is_ok() {
            continue;
        }
        if below.write("cgroup.kill", "1").is_err() {
            node::kill_all(&below, None);
        }
        if depth < 4 {
            remove_below(&below, depth + 1);
        }
        node::remove_patiently(&below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
        42 31 0:32 / /elsewhere rw,relatime - cgroup cgroup rw,memory\n";

    #[test]
    fn trees_are_found_where_they_are_mounted_and_each_once() {
        let mounts: Vec<String> = mounted_of(HYBRID).iter().map(|one| one.mount.display().to_string()).collect();
        let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"];
        assert_eq!(mounts[..3], expected);
        assert_eq!(mounts[3..], ["/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn our_group_is_seen_below_the_mount_point_also_from_a_container() {
        let all = mounted_of(HYBRID);
        let own = |index: usize, text: &str| all[index].own_of(text).map(|path| path.display().to_string());
        let text = "9:memory:/docker/7/a\n3:cpu,cpuacct:/b\n0::/user.slice/c\n";
        assert_eq!(own(0, text).as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/b"));
        assert_eq!(own(1, text).as_deref(), Some("/sys/fs/cgroup/memory/a"));
        assert_eq!(own(3, text).as_deref(), Some("/sys/fs/cgroup/unified/user.slice/c"));
        assert_eq!(own(1, "9:memory:/elsewhere\n"), None, "a group that is not mounted here");
        assert_eq!(own(3, "0::/../other\n"), None, "a group outside of our namespace");
    }

    #[test]
    fn beside_version_2_only_the_controllers_that_it_lacks_are_taken_from_version_1() {
        let names = ["cpu".to_owned(), "cpuacct".to_owned()];
        assert_eq!(controllers_v1(&names, true), [Controller::Cpu]);
        assert_eq!(controllers_v1(&names, false), [Controller::Cpu, Controller::CpuTime]);
        assert_eq!(controllers_v1(&["devices".to_owned()], false), []);
    }
}
