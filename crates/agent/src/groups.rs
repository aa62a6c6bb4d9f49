//! Control groups of an agent: one for each tenant, in it one for each attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use sandbox::Ability;
use sandbox::cgroup::{Abilities, GroupError, Groups, Limits, NoGroups, Tenant};

use crate::run::lock;

/// The groups that this agent made.
#[derive(Debug, Default)]
pub(crate) struct OwnGroups {
    opened: OnceLock<Result<Groups, NoGroups>>,
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
    quotas: Mutex<HashMap<String, Limits>>,
}

impl OwnGroups {
    fn opened(&self) -> &Result<Groups, NoGroups> {
        self.opened.get_or_init(Groups::open)
    }

    /// Whether a limit is held here; else why not, and what to do.
    pub(crate) fn can(&self, which: fn(&Abilities) -> &Ability) -> Result<(), (String, String)> {
        match self.opened() {
            Err(none) => Err((none.why.clone(), none.advice.clone())),
            Ok(groups) => match which(groups.abilities()) {
                Ability::Yes => Ok(()),
                Ability::BestEffort { how, advice } => Err((format!("only by best effort: {how}"), advice.clone())),
                Ability::No { why, advice } => Err((why.clone(), advice.clone())),
            },
        }
    }

    /// The group of a tenant, made at its first attempt; `None` where no groups can be made.
    pub(crate) fn tenant(&self, name: &str, quota: &Limits) -> Option<Result<Arc<Tenant>, GroupError>> {
        let groups = self.opened().as_ref().ok()?;
        let mut tenants = lock(&self.tenants);
        if let Some(tenant) = tenants.get(name) {
            return Some(Ok(tenant.clone()));
        }
        let own = lock(&self.quotas).get(name).copied();
        let quota = own.unwrap_or_else(|| holdable(groups.abilities(), quota));
        let made = groups.tenant(&group_name(name), &quota);
        if let Ok(tenant) = &made {
            tenants.insert(name.to_string(), tenant.clone());
        }
        Some(made)
    }

    /// Sets what all attempts of a tenant may use together, now and later.
    pub(crate) fn set_quota(&self, name: &str, quota: Limits) -> Result<(), GroupError> {
        if let Some(tenant) = lock(&self.tenants).get(name) {
            tenant.set_limits(&quota)?;
        }
        lock(&self.quotas).insert(name.to_string(), quota);
        Ok(())
    }
}

/// The general quota is a guard that nobody asked for: what the host cannot hold of it is left out.
fn holdable(abilities: &Abilities, quota: &Limits) -> Limits {
    let can = |ability: &Ability| *ability == Ability::Yes;
    Limits {
        memory: quota.memory.filter(|_| can(&abilities.memory)),
        cpu_milli: quota.cpu_milli.filter(|_| can(&abilities.cpu)),
        pids: quota.pids.filter(|_| can(&abilities.pids)),
        io_weight: quota.io_weight.filter(|_| can(&abilities.io)),
    }
}

/// What all attempts on this machine may use together so that the rest of it, `pace` among it, goes on: all but a
/// twentieth of the memory, and half of the process ids. Nothing where the kernel does not say how much there is.
pub fn machine_quota() -> Limits {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let pids =
        std::fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse::<u32>().ok());
    Limits {
        memory: kib.map(|kib: u64| kib.saturating_mul(1024) / 20 * 19),
        pids: pids.map(|pids| (pids / 2).max(1)),
        ..Limits::default()
    }
}

/// A group's name has letters, digits, `-` and `_` only; different tenants get different ones.
fn group_name(tenant: &str) -> String {
    let plain: String = tenant.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    format!("tenant-{plain}-{}", cas::Store::digest_of(tenant.as_bytes()).short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_whose_names_look_alike_have_groups_of_their_own() {
        let (one, other) = (group_name("team/a"), group_name("team-a"));
        assert_ne!(one, other);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{one}");
    }
}
