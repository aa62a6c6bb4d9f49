//! What a server's process and its children use, from /proc.

use std::fs;

/// Memory and processor time of a process and its children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, in user and in kernel mode.
    pub(crate) cpu: f64,
    /// Bytes that are in memory now.
    pub(crate) rss: u64,
}

/// Clock ticks a second: the kernel tells user programs 100 on every architecture.
const TICKS: f64 = 100.0;
/// Bytes of a page on the architectures that this runs on.
const PAGE: u64 = 4096;

/// What a process and its children use now; nothing for one that is gone.
pub(crate) fn usage(pid: u32) -> Usage {
    let own = own(pid).unwrap_or_default();
    children(pid).into_iter().map(usage).fold(own, |a, b| Usage { cpu: a.cpu + b.cpu, rss: a.rss + b.rss })
}

fn own(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the fields after it are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Usage { cpu: (number(11)? + number(12)?) as f64 / TICKS, rss: number(21)? * PAGE })
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let all: Vec<String> = tasks.map(of).collect();
    all.iter().flat_map(|line| line.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}
