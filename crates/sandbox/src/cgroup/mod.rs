//! Control groups: limits that hold, for a tenant and for each of its attempts.
//!
//! `<base>/paceline-<pid>-<start time>/<tenant>/<attempt>` in every tree that this host has. Version 2, version 1 and
//! both at once look the same from outside; what is missing is said by [`Abilities`].

mod abilities;
mod dir;
mod limits;
mod node;
mod settle;
mod tree;
mod usage;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::Ability;

pub use limits::{CPU_MILLI_MIN, IO_WEIGHT_MAX, Limits, MEMORY_MIN, PIDS_MIN};
pub use usage::GroupUsage;

pub(crate) use node::Birth;

use node::Node;
use tree::{Controller, Mounted, Tree, Version};

/// Where this process may make groups. Opened once for an agent.
#[derive(Debug)]
pub struct Groups {
    trees: Arc<[Tree]>,
    abilities: Abilities,
}

/// What groups can do on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// [`Limits::memory`].
    pub memory: Ability,
    /// [`Limits::cpu_milli`].
    pub cpu: Ability,
    /// [`Limits::pids`].
    pub pids: Ability,
    /// [`Limits::io_weight`].
    pub io: Ability,
    /// All of a group is killed at once. Without it [`Group::kill`] goes on until nobody is left.
    pub kill: Ability,
    /// [`Group::freeze`].
    pub freeze: Ability,
}

/// No control group can be made here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {advice}")]
pub struct NoGroups {
    /// Why not.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

/// Why a group could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// What was asked for makes no sense here. A sentence.
    #[error("{0}")]
    Invalid(String),
    /// This host cannot enforce such a limit.
    #[error("this host cannot limit {what}: {why}; {advice}")]
    NotHere {
        /// `memory`, `cpu`, `pids`, `io`.
        what: &'static str,
        /// Why not.
        why: String,
        /// What to do about it.
        advice: String,
    },
    /// The kernel makes no such group.
    #[error("cannot make the control group {}: {source}", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel takes no such value.
    #[error("cannot set {what} of the control group {}: {source}", path.display())]
    Set {
        /// What was to be set.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Groups {
    /// Looks for places where groups can be made, and makes our own. In a version 2 tree that may move this process into
    /// a leaf of its group. What killed processes of `pace` left behind is removed.
    ///
    /// # Errors
    /// Says why no group can be made here at all, and what to do about it.
    pub fn open() -> Result<Groups, NoGroups> {
        Groups::open_in(&tree::mounted())
    }

    fn open_in(mounted: &[Mounted]) -> Result<Groups, NoGroups> {
        let mut refused = Vec::new();
        let mut trees: Vec<Tree> = Vec::new();
        // Version 2 first: what it has is not taken from version 1.
        for version in [Version::V2, Version::V1] {
            for one in mounted.iter().filter(|one| one.version == version) {
                let beside_v2 = trees.iter().any(|tree| tree.version == Version::V2);
                match tree::open(one, beside_v2) {
                    Ok(tree) => trees.extend(tree),
                    Err(why) => refused.push((one.clone(), why)),
                }
            }
        }
        let abilities = abilities::of(&trees, mounted, &refused);
        if trees.is_empty() {
            return Err(abilities::none(mounted, &refused));
        }
        Ok(Groups { trees: trees.into(), abilities })
    }

    /// What they can do here.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Makes the group of a tenant. `name` is of letters, digits, `-` and `_`, and not in use.
    ///
    /// # Errors
    /// Says which limit or name cannot be, or what the kernel refused. Nothing is left behind.
    pub fn tenant(&self, name: &str, limits: &Limits) -> Result<Arc<Tenant>, GroupError> {
        check_name(name)?;
        self.abilities.check(limits)?;
        let node = Node::make(&self.trees, None, name)?;
        node.hand_down()?;
        limits::apply(&node, &Limits::default(), limits)?;
        let (limits, groups) = (Mutex::new(*limits), Mutex::default());
        Ok(Arc::new(Tenant { node, abilities: self.abilities.clone(), limits, groups }))
    }
}

/// A group around all that one tenant runs, so that none can starve another. Dropped, it is removed.
#[derive(Debug)]
pub struct Tenant {
    node: Node,
    abilities: Abilities,
    limits: Mutex<Limits>,
    /// Version 1 wants to hear about the groups inside before their parent's processor limit is lowered.
    groups: Mutex<Vec<Weak<Shared>>>,
}

impl Tenant {
    /// Changes what all its groups together may use, while they run.
    ///
    /// # Errors
    /// As [`Groups::tenant`]. Memory that is in use already may be beyond what version 1 lets one set.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), GroupError> {
        self.abilities.check(limits)?;
        let mut current = lock(&self.limits);
        let mut groups = lock(&self.groups);
        groups.retain(|group| group.strong_count() > 0);
        let groups: Vec<Arc<Shared>> = groups.iter().filter_map(Weak::upgrade).collect();
        let least = Limits { cpu_milli: smaller(current.cpu_milli, limits.cpu_milli), ..*limits };
        groups.iter().try_for_each(|group| group.fit(&least))?;
        limits::apply(&self.node, &current, limits)?;
        *current = *limits;
        groups.iter().try_for_each(|group| group.fit(limits))
    }

    /// Makes a group in it. `name` is of letters, digits, `-` and `_`, and not in use.
    ///
    /// # Errors
    /// As [`Groups::tenant`].
    pub fn group(self: &Arc<Self>, name: &str, limits: &Limits) -> Result<Group, GroupError> {
        check_name(name)?;
        self.abilities.check(limits)?;
        let tenants = lock(&self.limits);
        let node = Node::make(self.node.trees(), Some(&self.node), name)?;
        node.die_together();
        let shared = Arc::new(Shared { node, wanted: Mutex::new(*limits), written: Mutex::default() });
        shared.fit(&tenants)?;
        let mut groups = lock(&self.groups);
        groups.retain(|group| group.strong_count() > 0);
        groups.push(Arc::downgrade(&shared));
        drop(groups);
        Ok(Group { shared, tenant: self.clone() })
    }

    /// What all its groups used so far, those that are gone too.
    pub fn usage(&self) -> GroupUsage {
        self.node.usage()
    }
}

/// A group for one attempt. Dropped, what is still in it is killed and it is removed.
#[derive(Debug)]
pub struct Group {
    shared: Arc<Shared>,
    // Outlives its groups.
    tenant: Arc<Tenant>,
}

impl Group {
    /// Changes what it may use, while it runs.
    ///
    /// # Errors
    /// As [`Tenant::set_limits`].
    pub fn set_limits(&self, limits: &Limits) -> Result<(), GroupError> {
        self.tenant.abilities.check(limits)?;
        let tenants = lock(&self.tenant.limits);
        *lock(&self.shared.wanted) = *limits;
        self.shared.fit(&tenants)
    }

    /// What it used so far.
    pub fn usage(&self) -> GroupUsage {
        self.shared.node.usage()
    }

    /// Stops everything in it (`true`), or lets it go on.
    ///
    /// # Errors
    /// Where [`Abilities::freeze`] says no.
    pub fn freeze(&self, frozen: bool) -> Result<(), GroupError> {
        self.shared.node.freeze(frozen)
    }

    /// Kills everything in it, also what is frozen. Does not wait for the end where the kernel can do it at once.
    pub fn kill(&self) {
        self.shared.node.kill();
    }

    /// Its directories, and where a program inside looks for them: to be bound read-only, so that runtimes which size
    /// themselves by their limits (Java, Go) see them.
    pub fn paths(&self) -> Vec<(PathBuf, PathBuf)> {
        self.shared.node.paths()
    }

    /// For a process that is to be born in it.
    pub(crate) fn birth(&self) -> io::Result<Birth> {
        self.shared.node.birth()
    }
}

/// What a tenant needs of its groups.
#[derive(Debug)]
struct Shared {
    node: Node,
    wanted: Mutex<Limits>,
    written: Mutex<Limits>,
}

impl Shared {
    /// Writes what is wanted. Version 1 takes no processor limit above the tenant's, which holds anyway.
    fn fit(&self, tenants: &Limits) -> Result<(), GroupError> {
        let wanted = *lock(&self.wanted);
        let mut written = lock(&self.written);
        let v1 = self.node.place(Controller::Cpu).is_some_and(|(tree, _)| tree.version == Version::V1);
        let bounded = wanted.cpu_milli.filter(|_| v1).map(|milli| milli.min(tenants.cpu_milli.unwrap_or(u32::MAX)));
        let new = Limits { cpu_milli: bounded.or(wanted.cpu_milli), ..wanted };
        limits::apply(&self.node, &written, &new)?;
        *written = new;
        Ok(())
    }
}

fn smaller(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A panic elsewhere leaves the numbers as whole as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A dot could make it one of the kernel's own files.
fn check_name(name: &str) -> Result<(), GroupError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.len() <= 200 && name.bytes().all(allowed) {
        return Ok(());
    }
    let name: String = name.chars().take(200).collect();
    Err(GroupError::Invalid(format!(
        "`{}` cannot be the name of a control group: it is 1 to 200 letters, digits, `-` and `_`",
        name.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Exit, HostView, Root, Spec};

    /// As on a host without version 2; nothing where this host has no version 1 or we are not root.
    fn version_1() -> Option<Groups> {
        let mounted: Vec<Mounted> = tree::mounted().into_iter().filter(|one| one.version == Version::V1).collect();
        Groups::open_in(&mounted).ok()
    }

    fn shell(script: &str, group: &Arc<Group>) -> Spec {
        let mut view = HostView { show: vec!["/usr".into()], ..HostView::default() };
        view.links =
            ["bin", "lib", "lib64"].map(|name| (format!("/{name}").into(), format!("usr/{name}").into())).into();
        let argv = ["sh", "-c", script].map(Into::into).into();
        Spec {
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            group: Some(group.clone()),
            ..Spec::new(argv, Root::Host(view))
        }
    }

    fn eventually(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn version_1_alone_counts_stops_and_kills_a_fork_bomb() {
        let Some(groups) = version_1() else { return };
        assert_ne!(groups.abilities.kill, Ability::Yes);
        let tenant = groups.tenant("tests", &Limits::default()).expect("is made");
        let limits = Limits { pids: Some(64), memory: Some(256 << 20), ..Limits::default() };
        let group = Arc::new(tenant.group("one", &limits).expect("is made"));
        // The shell itself makes one process only: one that cannot make another ends.
        let mut child = shell("f() { f | f; }; f & while :; do :; done", &group).spawn().expect("starts");
        eventually("it is at its limit", || group.usage().pids_refused > 0);
        group.freeze(true).expect("stops");
        let before = group.usage().cpu;
        assert!(before > Duration::ZERO);
        group.kill();
        assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(libc::SIGKILL));
        let limit = group.paths().iter().find_map(|(path, _)| std::fs::read_to_string(path.join("pids.max")).ok());
        assert_eq!(limit.as_deref(), Some("64\n"), "the fence around the killing is gone");
    }

    #[test]
    fn where_nothing_is_mounted_the_advice_is_to_mount_something() {
        let none = Groups::open_in(&[]).expect_err("there is nothing").to_string();
        assert!(none.starts_with("no control groups are mounted; mount them"), "{none}");
    }
}
