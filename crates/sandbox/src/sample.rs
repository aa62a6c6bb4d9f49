//! What a tree of processes has in memory right now, for hosts without control groups.

use std::fs;
use std::path::{Path, PathBuf};

/// More than that is not looked at: what counts is known long before.
const PROCESSES_MAX: usize = 50_000;

/// Looks at a process and all its descendants again and again. Between two looks anything may happen, so this is best
/// effort: it sees steps that grow, not steps that jump.
#[derive(Clone, Debug)]
pub struct Sampler {
    pid: i32,
}

/// A tree of processes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes in memory; pages that several have are counted once in all, those that others outside of the tree have too
    /// in part. Files on tmpfs that nobody has mapped are not among them.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
}

impl Sampler {
    /// For the tree below this process, itself included. In a sandbox that is everything: orphans become children of its
    /// first process.
    pub fn new(pid: i32) -> Sampler {
        Sampler { pid }
    }

    /// Looks once. What has just ended is not counted; a tree that is gone is empty.
    pub fn sample(&mut self) -> Sample {
        let mut sample = Sample::default();
        let mut open = vec![self.pid];
        let mut seen = 0;
        while let Some(pid) = open.pop() {
            let place = PathBuf::from(format!("/proc/{pid}"));
            sample.processes = sample.processes.saturating_add(look_at_threads(&place, &mut open));
            sample.memory = sample.memory.saturating_add(memory(&place));
            seen += 1;
            if seen >= PROCESSES_MAX {
                break;
            }
        }
        sample
    }
}

/// Number of its threads; their children are added to `open`.
fn look_at_threads(place: &Path, open: &mut Vec<i32>) -> u32 {
    let Ok(threads) = fs::read_dir(place.join("task")) else { return 0 };
    let mut count = 0;
    for thread in threads.filter_map(Result::ok) {
        count += 1;
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        open.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
    }
    count
}

/// Its share of what it has in memory: a page that three have counts a third for each. Where we may not see that (the
/// sandbox's own first process, which is small), all of it.
fn memory(place: &Path) -> u64 {
    let share = || {
        let text = fs::read_to_string(place.join("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let resident = || {
        let text = fs::read_to_string(place.join("statm")).ok()?;
        let pages = text.split(' ').nth(1)?.parse::<u64>().ok()?;
        pages.checked_mul(rustix::param::page_size() as u64)
    };
    share().or_else(resident).unwrap_or(0)
}
