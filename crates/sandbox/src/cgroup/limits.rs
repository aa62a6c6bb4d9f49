//! Limits as numbers, and how each version of control groups wants them written.

use std::io;

use super::dir::Dir;
use super::tree::{Controller, Tree, Version};
use super::{GroupError, node::Node};

/// What a group may use. `None` is no limit of its own; that of its tenant still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, page cache and what lies on tmpfs included; at least [`MEMORY_MIN`]. There is no swap beyond it.
    pub memory: Option<u64>,
    /// Thousandths of one processor; at least [`CPU_MILLI_MIN`].
    pub cpu_milli: Option<u32>,
    /// Processes and threads, the sandbox's own first process included; at least [`PIDS_MIN`].
    pub pids: Option<u32>,
    /// Share of the disk against other groups, 1 to 10,000; what has none has 100.
    pub io_weight: Option<u16>,
}

/// With less a shell does not start in a sandbox, and the failure would look like a fault of the step.
pub const MEMORY_MIN: u64 = 4 << 20;
/// A hundredth of a processor: the kernel's shortest slice, 1 ms, in each [`PERIOD_US`].
pub const CPU_MILLI_MIN: u32 = 10;
/// The sandbox's first process, the command, one child of it, and one that is on its way out.
pub const PIDS_MIN: u32 = 4;
/// Weights that the kernel knows.
pub const IO_WEIGHT_MAX: u16 = 10_000;

/// The kernel's default period. A shorter one throttles more evenly and costs more.
const PERIOD_US: u64 = 100_000;

impl Limits {
    /// What cannot be meant, as a sentence.
    pub fn check(&self) -> Result<(), GroupError> {
        let problem = if self.memory.is_some_and(|bytes| bytes < MEMORY_MIN) {
            format!(
                "a memory limit of {} bytes is too small: no shell starts with less than 4MiB",
                self.memory.unwrap_or(0)
            )
        } else if self.cpu_milli.is_some_and(|milli| milli < CPU_MILLI_MIN) {
            format!(
                "a limit of {} thousandths of a processor is too small: the least is {CPU_MILLI_MIN}",
                self.cpu_milli.unwrap_or(0)
            )
        } else if self.pids.is_some_and(|pids| pids < PIDS_MIN) {
            format!(
                "a limit of {} processes is too small: the sandbox itself and a shell need {PIDS_MIN}",
                self.pids.unwrap_or(0)
            )
        } else if self.io_weight.is_some_and(|weight| weight == 0 || weight > IO_WEIGHT_MAX) {
            format!("an io weight of {} does not exist: it is 1 to {IO_WEIGHT_MAX}", self.io_weight.unwrap_or(0))
        } else {
            return Ok(());
        };
        Err(GroupError::Invalid(problem))
    }
}

/// Brings what a node has from `old` to `new`; files whose limit does not change are not touched.
pub fn apply(node: &Node, old: &Limits, new: &Limits) -> Result<(), GroupError> {
    for (tree, dir) in node.places() {
        let has = |controller| tree.controllers.contains(&controller);
        if has(Controller::Memory) && old.memory != new.memory {
            set(dir, "memory", write_memory(tree, dir, new.memory))?;
        }
        if has(Controller::Cpu) && old.cpu_milli != new.cpu_milli {
            set(dir, "cpu", write_cpu(tree, dir, new.cpu_milli))?;
        }
        if has(Controller::Pids) && old.pids != new.pids {
            set(dir, "pids", dir.write("pids.max", &number_or(new.pids.map(u64::from), "max")))?;
        }
        if has(Controller::Io) && old.io_weight != new.io_weight {
            set(dir, "io weight", write_weight(dir, new.io_weight.unwrap_or(100)))?;
        }
    }
    Ok(())
}

fn set(dir: &Dir, what: &'static str, done: io::Result<()>) -> Result<(), GroupError> {
    done.map_err(|source| GroupError::Set { what, path: dir.path().into(), source })
}

fn number_or(number: Option<u64>, none: &str) -> String {
    number.map_or_else(|| none.to_owned(), |number| number.to_string())
}

fn write_memory(tree: &Tree, dir: &Dir, bytes: Option<u64>) -> io::Result<()> {
    if tree.version == Version::V1 {
        return write_memory_v1(dir, &number_or(bytes, "-1"));
    }
    dir.write("memory.max", &number_or(bytes, "max"))?;
    // Where swap is not accounted there is no such file, and mostly no swap either.
    absent_is_fine(dir.write("memory.swap.max", if bytes.is_some() { "0" } else { "max" }))
}

/// Memory with swap must never be less than memory alone, so which one goes first depends on the direction.
fn write_memory_v1(dir: &Dir, bytes: &str) -> io::Result<()> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    match dir.write(MEMORY, bytes) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && dir.has(WITH_SWAP) => {
            dir.write(WITH_SWAP, bytes)?;
            dir.write(MEMORY, bytes)
        }
        done => {
            done?;
            absent_is_fine(dir.write(WITH_SWAP, bytes))
        }
    }
}

fn write_cpu(tree: &Tree, dir: &Dir, milli: Option<u32>) -> io::Result<()> {
    let quota = milli.map(|milli| u64::from(milli) * PERIOD_US / 1000);
    match tree.version {
        Version::V2 => dir.write("cpu.max", &format!("{} {PERIOD_US}", number_or(quota, "max"))),
        // The period is the kernel's default already.
        Version::V1 => dir.write("cpu.cfs_quota_us", &number_or(quota, "-1")),
    }
}

/// The first of the files that this kernel has.
fn write_weight(dir: &Dir, weight: u16) -> io::Result<()> {
    let weight = u64::from(weight);
    // The scale of bfq ends at 1000; the same default, stretched above it, as systemd does.
    let bfq = if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9900 };
    let files = [
        ("io.weight", format!("default {weight}")),
        ("io.bfq.weight", format!("default {bfq}")),
        ("blkio.bfq.weight", bfq.to_string()),
        ("blkio.weight", (weight * 5).clamp(10, 1000).to_string()),
    ];
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for (file, text) in files {
        match dir.write(file, &text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            done => return done,
        }
    }
    Err(last)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_with_which_nothing_could_start_are_refused_with_the_bound() {
        let refused = |limits: Limits| limits.check().map_err(|error| error.to_string()).expect_err("is refused");
        let none = Limits::default();
        assert!(refused(Limits { memory: Some(1 << 20), ..none }).contains("4MiB"));
        assert!(refused(Limits { cpu_milli: Some(9), ..none }).contains("the least is 10"));
        assert!(refused(Limits { pids: Some(3), ..none }).contains("need 4"));
        assert!(refused(Limits { io_weight: Some(0), ..none }).contains("1 to 10000"));
        let least = Limits { memory: Some(MEMORY_MIN), cpu_milli: Some(10), pids: Some(4), io_weight: Some(1) };
        assert!(least.check().is_ok() && none.check().is_ok());
    }
}
