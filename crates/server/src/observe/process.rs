//! What the kernel knows of this process.

use std::fs;

/// Pages of Linux on the processors that we run on.
const PAGE_BYTES: u64 = 4096;

/// Memory in bytes, descriptors, CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) memory: u64,
    pub(super) descriptors: u64,
    pub(super) cpu: f64,
}

/// Reads `/proc/self`; what cannot be read is 0.
pub(super) fn look() -> Process {
    let memory = fs::read_to_string("/proc/self/statm").ok();
    let memory = memory.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES;
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    Process { memory, descriptors, cpu: cpu().unwrap_or(0.0) }
}

/// Source: proc(5), `schedstat`: nanoseconds on the CPU, of each thread.
fn cpu() -> Option<f64> {
    let mut nanos = 0u64;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Some(nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_descriptors() {
        let process = look();
        assert!(process.memory > 1 << 20 && process.descriptors >= 3, "{process:?}");
    }
}
