//! What a group used, read from wherever this host keeps it.

use std::time::Duration;

use super::dir::{Dir, keyed};
use super::node::Node;
use super::tree::{Controller, Version};

/// What a group and all below it used so far. What the host does not count is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Time on processors, of the living and the dead.
    pub cpu: Duration,
    /// Time it wanted to run and was not let by its processor limit.
    pub throttled: Duration,
    /// Most memory at one time, in bytes. On kernels without a counter the most that was seen when somebody asked.
    pub memory_peak: u64,
    /// Most processes and threads at one time; on kernels without a counter as above.
    pub pids_peak: u32,
    /// Bytes read from disks.
    pub io_read: u64,
    /// Bytes written to disks so far; what waits in the page cache is not yet among them.
    pub io_written: u64,
    /// Processes killed because its memory limit, or the one above, was reached.
    pub oom_kills: u64,
    /// How often a new process was refused by its pids limit.
    pub pids_refused: u64,
}

/// Reads all counters.
pub fn read(node: &Node) -> GroupUsage {
    let mut usage = GroupUsage::default();
    for (tree, dir) in node.places() {
        for controller in &tree.controllers {
            match (controller, tree.version) {
                (Controller::Memory, Version::V2) => memory_v2(dir, &mut usage),
                (Controller::Memory, Version::V1) => memory_v1(dir, &mut usage),
                (Controller::Cpu, Version::V2) => {}
                (Controller::Cpu, Version::V1) => {
                    usage.throttled = Duration::from_nanos(dir.keyed("cpu.stat", "throttled_time").unwrap_or(0));
                }
                (Controller::CpuTime, Version::V2) => cpu_v2(dir, &mut usage),
                (Controller::CpuTime, Version::V1) => {
                    usage.cpu = Duration::from_nanos(dir.number("cpuacct.usage").unwrap_or(0));
                }
                (Controller::Pids, _) => pids(dir, &mut usage),
                (Controller::Io, Version::V2) => io_v2(&dir.read("io.stat").unwrap_or_default(), &mut usage),
                (Controller::Io, Version::V1) => io_v1(dir, &mut usage),
                (Controller::Freezer, _) => {}
            }
        }
    }
    usage
}

fn memory_v2(dir: &Dir, usage: &mut GroupUsage) {
    usage.memory_peak = dir.number("memory.peak").or_else(|| dir.number("memory.current")).unwrap_or(0);
    usage.oom_kills = dir.keyed("memory.events", "oom_kill").unwrap_or(0);
}

fn memory_v1(dir: &Dir, usage: &mut GroupUsage) {
    usage.memory_peak = dir.number("memory.max_usage_in_bytes").unwrap_or(0);
    usage.oom_kills = dir.keyed("memory.oom_control", "oom_kill").unwrap_or(0);
}

/// There in every version 2 group; the throttled time only with the controller.
fn cpu_v2(dir: &Dir, usage: &mut GroupUsage) {
    let text = dir.read("cpu.stat").unwrap_or_default();
    usage.cpu = Duration::from_micros(keyed(&text, "usage_usec").unwrap_or(0));
    if let Some(throttled) = keyed(&text, "throttled_usec") {
        usage.throttled = Duration::from_micros(throttled);
    }
}

fn pids(dir: &Dir, usage: &mut GroupUsage) {
    let peak = dir.number("pids.peak").or_else(|| dir.number("pids.current")).unwrap_or(0);
    usage.pids_peak = u32::try_from(peak).unwrap_or(u32::MAX);
    usage.pids_refused = dir.keyed("pids.events", "max").unwrap_or(0);
}

/// `8:0 rbytes=1 wbytes=2 rios=3 ...`, one line for each disk.
fn io_v2(text: &str, usage: &mut GroupUsage) {
    let sum = |key: &str| {
        let values = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (usage.io_read, usage.io_written) = (sum("rbytes="), sum("wbytes="));
}

fn io_v1(dir: &Dir, usage: &mut GroupUsage) {
    let recursive = dir.read("blkio.throttle.io_service_bytes_recursive");
    io_v1_text(&recursive.or_else(|_| dir.read("blkio.throttle.io_service_bytes")).unwrap_or_default(), usage);
}

/// `8:0 Read 1`, `8:0 Write 2`, ..., one line for each kind and disk.
fn io_v1_text(text: &str, usage: &mut GroupUsage) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, kind, bytes] = words[..] else { continue };
        let bytes = bytes.parse().unwrap_or(0);
        match kind {
            "Read" => usage.io_read = usage.io_read.saturating_add(bytes),
            "Write" => usage.io_written = usage.io_written.saturating_add(bytes),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_disks_are_summed() {
        let mut usage = GroupUsage::default();
        io_v2("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n259:0 rbytes=5 wbytes=1 rios=1\n", &mut usage);
        assert_eq!((usage.io_read, usage.io_written), (15, 21));
        let mut usage = GroupUsage::default();
        io_v1_text("254:0 Read 7\n254:0 Write 8\n254:0 Sync 0\n8:0 Read 1\n8:0 Total 1\nTotal 16\n", &mut usage);
        assert_eq!((usage.io_read, usage.io_written), (8, 8));
    }
}
