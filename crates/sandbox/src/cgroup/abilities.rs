//! What control groups can do here, and where they cannot, why and what to do.

use std::fs;

use super::limits::Limits;
use super::tree::{Controller, Mounted, Tree, Version};
use super::{Abilities, GroupError, NoGroups};
use crate::Ability;

/// Trees that exist and in which we have no place, with the reason.
type Refused = [(Mounted, String)];

impl Abilities {
    /// Everything that these limits ask for can be enforced, and they make sense.
    pub fn check(&self, limits: &Limits) -> Result<(), GroupError> {
        limits.check()?;
        let asked = [
            ("memory", limits.memory.is_some(), &self.memory),
            ("cpu", limits.cpu_milli.is_some(), &self.cpu),
            ("pids", limits.pids.is_some(), &self.pids),
            ("io", limits.io_weight.is_some(), &self.io),
        ];
        for (what, is_asked, ability) in asked {
            if let (true, Ability::No { why, advice }) = (is_asked, ability) {
                return Err(GroupError::NotHere { what, why: why.clone(), advice: advice.clone() });
            }
        }
        Ok(())
    }
}

/// What these trees can do.
pub fn of(trees: &[Tree], mounted: &[Mounted], refused: &Refused) -> Abilities {
    let place = |controller| trees.iter().find(|tree| tree.controllers.contains(&controller));
    let limit = |name: &str, controller| match place(controller) {
        Some(_) => Ability::Yes,
        None => missing(name, mounted, refused),
    };
    let kill = trees.iter().any(|tree| tree.version == Version::V2 && tree.home.has("cgroup.kill"));
    Abilities {
        memory: limit("memory", Controller::Memory),
        cpu: limit("cpu", Controller::Cpu),
        pids: limit("pids", Controller::Pids),
        io: weight(trees, mounted, refused),
        kill: if kill {
            Ability::Yes
        } else {
            Ability::no("no group can be killed at once", "use Linux 5.14 or newer with control groups version 2")
        },
        freeze: match place(Controller::Freezer) {
            Some(_) => Ability::Yes,
            None => {
                Ability::no("no group can be stopped", "mount control groups version 2, or the freezer of version 1")
            }
        },
    }
}

/// A weight can be written on nearly every kernel, and acts only where a disk's scheduler looks at it.
fn weight(trees: &[Tree], mounted: &[Mounted], refused: &Refused) -> Ability {
    let files = ["io.weight", "io.bfq.weight", "blkio.bfq.weight", "blkio.weight"];
    let tree = trees.iter().find(|tree| tree.controllers.contains(&Controller::Io));
    let has_file = tree.is_some_and(|tree| files.iter().any(|file| tree.home.has(file)));
    let iocost = fs::read_to_string("/sys/fs/cgroup/io.cost.qos").is_ok_and(|text| text.contains("enable=1"));
    if has_file && (iocost || some_disk_has_bfq()) {
        return Ability::Yes;
    }
    let v1 = |one: &Mounted| one.controllers.iter().any(|name| name == "blkio");
    match missing("io", mounted, refused) {
        // Version 1 has it, and we made nothing of it.
        Ability::No { .. } if has_file || (mounted.iter().any(v1) && !refused.iter().any(|(one, _)| v1(one))) => {
            Ability::BestEffort {
                how: "no disk has a scheduler that looks at weights".into(),
                advice: "choose one: `echo bfq > /sys/block/DISK/queue/scheduler`".into(),
            }
        }
        _ if tree.is_some() => Ability::no(
            "the kernel has no weights for disks",
            "use a kernel with CONFIG_BFQ_GROUP_IOSCHED or CONFIG_BLK_CGROUP_IOCOST",
        ),
        missing => missing,
    }
}

/// A weight of version 1 acts on such disks only.
pub fn some_disk_has_bfq() -> bool {
    let Ok(disks) = fs::read_dir("/sys/block") else { return false };
    let schedulers = disks.filter_map(Result::ok).map(|disk| disk.path().join("queue/scheduler"));
    schedulers.filter_map(|path| fs::read_to_string(path).ok()).any(|text| text.contains("[bfq]"))
}

/// Why there is no such controller.
fn missing(name: &str, mounted: &[Mounted], refused: &Refused) -> Ability {
    let v1_name = if name == "io" { "blkio" } else { name };
    let is_v1 = |one: &Mounted| one.controllers.iter().any(|own| own == v1_name);
    if let Some((_, why)) = refused.iter().find(|(one, _)| is_v1(one)) {
        return Ability::no(why, as_root());
    }
    if let Some((_, why)) = refused.iter().find(|(one, _)| one.version == Version::V2) {
        return Ability::no(why, delegate());
    }
    let kernel_has =
        fs::read_to_string("/proc/cgroups").is_ok_and(|text| text.lines().any(|line| line.starts_with(v1_name)));
    if !kernel_has && fs::metadata("/proc/cgroups").is_ok() {
        let advice = match name {
            "memory" => "boot with `cgroup_enable=memory`, or use a kernel with CONFIG_MEMCG",
            _ => "use a kernel that was built with it",
        };
        return Ability::no(format!("the kernel has no `{name}` controller"), advice);
    }
    if mounted.iter().any(|one| one.version == Version::V2) {
        let why = format!("the control group that we are in has no `{name}` controller");
        return Ability::no(
            why,
            "delegate it: `systemctl edit user@.service` with `Delegate=cpu io memory pids` in `[Service]`, then log in again",
        );
    }
    Ability::no(format!("the `{name}` controller is not mounted"), "mount control groups version 2 at /sys/fs/cgroup")
}

/// Not one group can be made.
pub fn none(mounted: &[Mounted], refused: &Refused) -> NoGroups {
    let unified = mounted.iter().any(|one| one.version == Version::V2)
        && !mounted.iter().any(|one| one.controllers.iter().any(|name| name == "memory" || name == "pids"));
    let first = refused
        .iter()
        .find(|(one, _)| unified || one.controllers.iter().any(|name| name == "memory"))
        .or(refused.first());
    match first {
        Some((_, why)) => NoGroups { why: why.clone(), advice: if unified { delegate() } else { as_root() } },
        None => NoGroups {
            why: "no control groups are mounted".into(),
            advice: "mount them: `mount -t cgroup2 none /sys/fs/cgroup`".into(),
        },
    }
}

fn delegate() -> String {
    "let systemd delegate one: `systemd-run --user --scope -p Delegate=yes pace ...`, or run as root".into()
}

/// Version 1 has no delegation that is safe.
fn as_root() -> String {
    "run as root, or boot with control groups version 2 (`systemd.unified_cgroup_hierarchy=1`)".into()
}
