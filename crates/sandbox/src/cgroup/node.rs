//! One group: its directory in every tree.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::dir::Dir;
use super::tree::{Controller, Tree, Version};
use super::{GroupError, GroupUsage, usage};

/// Name and directories of a group. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub struct Node {
    trees: Arc<[Tree]>,
    /// One for each tree.
    dirs: Vec<Dir>,
    /// What was seen of kernels that keep no peak themselves.
    memory_seen: AtomicU64,
    pids_seen: AtomicU64,
}

/// Where a process is born.
#[derive(Debug, Default)]
pub struct Birth {
    /// Version 2: the directory for `clone3`.
    pub into: Option<OwnedFd>,
    /// Version 1: the `tasks` files that the new process writes itself into.
    pub tasks: Vec<OwnedFd>,
}

/// How often the kernel is asked again to remove a group that it still counts the dead of, 0.2 ms and longer apart.
const REMOVALS_MAX: u32 = 12;
/// Rounds of killing where the kernel cannot kill a group at once. Each ends all that a former one saw.
const KILLS_MAX: u32 = 1000;

impl Node {
    /// Makes it in every tree, below `parent` or at the top. What was made is removed again if one fails.
    pub fn make(trees: &Arc<[Tree]>, parent: Option<&Node>, name: &str) -> Result<Node, GroupError> {
        let mut node = Node {
            trees: trees.clone(),
            dirs: Vec::with_capacity(trees.len()),
            memory_seen: AtomicU64::new(0),
            pids_seen: AtomicU64::new(0),
        };
        for (index, tree) in trees.iter().enumerate() {
            let above = parent.map_or(&tree.home, |parent| &parent.dirs[index]);
            let made = above.make(name);
            node.dirs.push(made.map_err(|source| GroupError::Make { path: above.path().join(name), source })?);
        }
        Ok(node)
    }

    /// All trees.
    pub fn trees(&self) -> &Arc<[Tree]> {
        &self.trees
    }

    /// Its directories with their trees.
    pub fn places(&self) -> impl Iterator<Item = (&Tree, &Dir)> {
        self.trees.iter().zip(&self.dirs)
    }

    /// The directory in the tree that has this controller.
    pub fn place(&self, controller: Controller) -> Option<(&Tree, &Dir)> {
        self.places().find(|(tree, _)| tree.controllers.contains(&controller))
    }

    /// Where it lies on the host and where its inhabitants look for it.
    pub fn paths(&self) -> Vec<(PathBuf, PathBuf)> {
        self.places().map(|(tree, dir)| (dir.path().to_owned(), tree.mount.clone())).collect()
    }

    /// Descriptors for being born in it.
    pub fn birth(&self) -> io::Result<Birth> {
        let mut birth = Birth::default();
        for (tree, dir) in self.places() {
            match tree.version {
                Version::V2 => birth.into = Some(dir.fd().try_clone_to_owned()?),
                Version::V1 => birth.tasks.push(dir.writer("tasks")?),
            }
        }
        Ok(birth)
    }

    /// Lets children of it have the controllers; version 2 asks for that.
    pub fn hand_down(&self) -> Result<(), GroupError> {
        for (tree, dir) in self.places().filter(|(tree, _)| tree.version == Version::V2) {
            let wanted = tree.handed_down();
            if wanted.is_empty() {
                continue;
            }
            dir.write("cgroup.subtree_control", &wanted).map_err(|source| GroupError::Set {
                what: "controllers",
                path: dir.path().into(),
                source,
            })?;
        }
        Ok(())
    }

    /// Without memory all of it ends, not just the largest process: a step with a hole in it says nothing true. Version 1
    /// cannot, and there the count of killed processes tells.
    pub fn die_together(&self) {
        if let Some((Tree { version: Version::V2, .. }, dir)) = self.place(Controller::Memory) {
            // Kernels before 4.19 have no such file.
            let _ = dir.write("memory.oom.group", "1");
        }
    }

    /// What it and all below it used so far.
    pub fn usage(&self) -> GroupUsage {
        let mut usage = usage::read(self);
        usage.memory_peak = usage.memory_peak.max(self.memory_seen.fetch_max(usage.memory_peak, Ordering::Relaxed));
        let pids = u64::from(usage.pids_peak);
        usage.pids_peak =
            u32::try_from(pids.max(self.pids_seen.fetch_max(pids, Ordering::Relaxed))).unwrap_or(u32::MAX);
        usage
    }

    /// Stops everything in it, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), GroupError> {
        let Some((tree, dir)) = self.place(Controller::Freezer) else {
            return Err(GroupError::Invalid("this host has no control group that can be stopped".into()));
        };
        let done = match (tree.version, frozen) {
            (Version::V2, frozen) => dir.write("cgroup.freeze", if frozen { "1" } else { "0" }),
            (Version::V1, true) => dir.write("freezer.state", "FROZEN"),
            (Version::V1, false) => dir.write("freezer.state", "THAWED"),
        };
        done.map_err(|source| GroupError::Set { what: "freeze", path: dir.path().into(), source })
    }

    /// Kills everything in it and below it.
    pub fn kill(&self) {
        let mut places = self.places();
        if places.any(|(tree, dir)| tree.version == Version::V2 && dir.write("cgroup.kill", "1").is_ok()) {
            return;
        }
        // A version 1 freezer keeps even SIGKILL waiting.
        if let Some((Tree { version: Version::V1, .. }, dir)) = self.place(Controller::Freezer) {
            let _ = dir.write("freezer.state", "THAWED");
        }
        let fence = self.place(Controller::Pids).map(|(_, dir)| dir);
        if let Some(dir) = self.place(Controller::Pids).or_else(|| self.places().next()).map(|(_, dir)| dir) {
            kill_all(dir, fence);
        }
    }

    /// Removes it from every tree.
    fn remove(&self) {
        for (_, dir) in self.places() {
            remove_patiently(dir);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.dirs.iter().any(|dir| fs::remove_dir(dir.path()).is_err()) {
            // Somebody is in it still, or below. The next `Groups::open` of anybody removes what stays even so.
            self.kill();
            self.remove();
        }
    }
}

/// Kills group by group from below until nobody is seen. No new process can be made meanwhile where `fence` can say so.
pub fn kill_all(dir: &Dir, fence: Option<&Dir>) {
    let limit = fence.and_then(|fence| fence.read("pids.max").ok());
    if let Some(fence) = fence {
        let _ = fence.write("pids.max", "0");
    }
    for _ in 0..KILLS_MAX {
        let processes = processes_below(dir, 0);
        if processes.is_empty() {
            break;
        }
        for pid in processes {
            let _ = crate::sys::kill(pid, libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    if let (Some(fence), Some(limit)) = (fence, limit) {
        let _ = fence.write("pids.max", limit.trim());
    }
}

/// All processes of a group and those below. Not deeper than any that we make.
fn processes_below(dir: &Dir, depth: u32) -> Vec<i32> {
    let mut all = dir.processes();
    if depth < 4 {
        for below in dir.names().iter().filter_map(|name| dir.below(name).ok()) {
            all.extend(processes_below(&below, depth + 1));
        }
    }
    // A process of another pid namespace than ours shows as 0, and killing 0 would be us.
    all.retain(|pid| *pid > 0);
    all
}

/// The dead are counted for a moment after they were reaped.
pub fn remove_patiently(dir: &Dir) -> bool {
    for round in 0..REMOVALS_MAX {
        match fs::remove_dir(dir.path()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_micros(200 << (round / 2)));
            }
            done => return done.is_ok(),
        }
    }
    false
}
