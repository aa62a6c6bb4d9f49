//! What a host says of itself: its capacity, its labels, and what it can enforce.

use std::path::Path;

use model::Capacity;
use sandbox::Ability;

/// What the host has for this many attempts at once.
pub(crate) fn capacity(slots: usize) -> Capacity {
    let slots = u32::try_from(slots.max(1)).unwrap_or(u32::MAX);
    let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    Capacity { slots, cpu_milli: cpus.max(slots).saturating_mul(1000), memory: memory() }
}

/// `MemTotal`; unknown is no bound.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

/// The labels of this host and those that were given, each once: `linux`, `x86_64`, the host's name, and `sandbox` and
/// `limits` where steps can be isolated and limited.
pub(crate) fn labels(given: &[String], host: &sandbox::Host) -> Vec<String> {
    let mut labels = vec![std::env::consts::OS.to_string(), std::env::consts::ARCH.to_string()];
    labels.push(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string());
    let able = |ability: &Ability| !matches!(ability, Ability::No { .. });
    labels.extend(able(&host.sandbox).then(|| "sandbox".to_string()));
    labels.extend(able(&host.limits).then(|| "limits".to_string()));
    labels.extend(given.iter().cloned());
    labels.sort();
    labels.dedup();
    labels.retain(|label| !label.is_empty());
    labels
}

/// Tries out what the host can enforce.
pub(crate) fn probe(cache_dir: &Path) -> sandbox::Host {
    sandbox::probe(cache_dir)
}

/// What it can enforce, for people.
pub(crate) fn sentence(host: &sandbox::Host) -> String {
    let said = |what: &str, ability: &Ability| match ability {
        Ability::Yes => format!("{what}: yes"),
        Ability::BestEffort { how, .. } => format!("{what}: {how}"),
        Ability::No { why, .. } => format!("{what}: no, {why}"),
    };
    let parts = [
        format!("kernel {}", host.kernel),
        said("sandbox", &host.sandbox),
        said("networks", &host.networks),
        said("limits", &host.limits),
    ];
    parts.join("; ")
}
