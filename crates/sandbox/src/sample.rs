//! What a tree of processes has in memory right now, for hosts without control groups.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More than that is not looked at: what counts is known long before.
const PROCESSES_MAX: usize = 50_000;
/// Descriptors that are looked at, of all processes together.
const DESCRIPTORS_MAX: u32 = 20_000;

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
    /// in part. Memory files that are open are among them; files on tmpfs that nobody has mapped are not.
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
        let (mut mapped, mut files) = (0u64, MemoryFiles { seen: BTreeSet::new(), bytes: 0, left: DESCRIPTORS_MAX });
        let mut open = vec![self.pid];
        let mut seen = 0;
        while let Some(pid) = open.pop() {
            let place = PathBuf::from(format!("/proc/{pid}"));
            sample.processes = sample.processes.saturating_add(look_at_threads(&place, &mut open));
            let (own, shared) = memory(&place);
            sample.memory = sample.memory.saturating_add(own);
            mapped = mapped.saturating_add(shared);
            files.count(&place);
            seen += 1;
            if seen >= PROCESSES_MAX {
                break;
            }
        }
        // What is mapped of a memory file is the same memory: only the larger is sure.
        sample.memory = sample.memory.saturating_add(mapped.max(files.bytes));
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

/// Memory that has no name and is not mapped, but held open: `memfd_create`.
struct MemoryFiles {
    seen: BTreeSet<u64>,
    bytes: u64,
    left: u32,
}

impl MemoryFiles {
    /// Those that this process has open and nobody before it.
    fn count(&mut self, place: &Path) {
        for entry in fs::read_dir(place.join("fd")).into_iter().flatten().flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let path = entry.path();
            if !fs::read_link(&path).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"/memfd:")) {
                continue;
            }
            let Ok(meta) = fs::metadata(&path) else { continue };
            // A file of this name that somebody made has a link; all memory files are on one file system.
            if meta.nlink() == 0 && self.seen.insert(meta.ino()) {
                self.bytes = self.bytes.saturating_add(meta.blocks().saturating_mul(512));
            }
        }
    }
}

/// Its share of what it has in memory, and of what of that is shared memory: a page that three have counts a third for
/// each. Where we may not see that (the sandbox's own first process, which is small), all of it is its own.
fn memory(place: &Path) -> (u64, u64) {
    let share = || {
        let text = fs::read_to_string(place.join("smaps_rollup")).ok()?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let (all, shared) = (bytes("Pss:")?, bytes("Pss_Shmem:").unwrap_or(0));
        Some((all.saturating_sub(shared), shared))
    };
    let resident = || {
        let text = fs::read_to_string(place.join("statm")).ok()?;
        let pages = text.split(' ').nth(1)?.parse::<u64>().ok()?;
        Some((pages.checked_mul(rustix::param::page_size() as u64)?, 0))
    };
    share().or_else(resident).unwrap_or((0, 0))
}
