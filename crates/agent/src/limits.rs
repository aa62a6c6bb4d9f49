//! The limits of one attempt: what the host can hold and how, what is watched from outside, and what was used.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::{AttemptEnd, Bytes, Cause, LimitHit, Resources, Usage};
use sandbox::cgroup::{self, Group, GroupError, GroupUsage};
use sandbox::{Ability, Rlimits, Sampler, TmpSize};

use crate::Shared;
use crate::halt::{Halt, trouble};

/// Time between two looks at what is watched from outside.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looking at large folders takes longer; it may take this part of the time.
const LOOK_SHARE: u32 = 20;
/// A file or folder without content takes this much of a disk, so that many empty ones are no way around the limit.
const ENTRY_BYTES: u64 = 4096;
/// Files and folders in `/tmp` and the other places in memory: as many as fit into the memory, but at least and at most so
/// many.
const TMP_FILES_MIN: u64 = 16 << 10;
const TMP_FILES_MAX: u64 = 1_000_000;
/// When so little of the disk is left, the steps that fill it are stopped.
const DISK_RESERVE: u64 = 512 << 20;
/// When so few more files fit on the disk.
const FILES_RESERVE: u64 = 10_000;
/// What wrote less than this is not what fills the disk.
const FILLER_BYTES: u64 = 128 << 20;

/// What holds an attempt's limits.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) group: Option<Arc<Group>>,
    pub(crate) rlimits: Rlimits,
    pub(crate) tmp: TmpSize,
    resources: Resources,
    /// Memory is watched by sampling, because no group holds it.
    sampled: bool,
}

impl Hold {
    /// No limits at all: what a shell or the process executor gets.
    pub(crate) fn none() -> Hold {
        Hold {
            group: None,
            rlimits: Rlimits::default(),
            tmp: TmpSize::default(),
            resources: Resources::default(),
            sampled: false,
        }
    }

    /// Makes the group of an attempt.
    ///
    /// # Errors
    /// The host cannot hold a limit and the step does not say `enforce: best_effort`; the kernel refuses.
    pub(crate) fn take(agent: &Shared, tenant: &str, resources: &Resources) -> Result<Hold, Halt> {
        refuse(agent, resources)?;
        let group = match agent.tenant(tenant) {
            Some(tenant) => {
                let name = format!("attempt-{}", agent.made.fetch_add(1, Ordering::Relaxed));
                let made = tenant.and_then(|tenant| tenant.group(&name, &group_limits(agent, resources)));
                Some(Arc::new(made.map_err(|error| group_trouble(&error))?))
            }
            None => None,
        };
        let can = |which: fn(&cgroup::Abilities) -> &Ability| agent.can(which).is_ok();
        Ok(Hold {
            rlimits: Rlimits {
                open_files: resources.open_files.map(u64::from),
                open_files_soft: agent.config.open_files_soft,
                file_size: resources.file_size.map(|size| size.0),
                processes: resources.pids.filter(|_| !can(|a| &a.pids)).map(u64::from),
            },
            tmp: tmp_size(resources),
            sampled: resources.memory.is_some() && !can(|a| &a.memory),
            resources: *resources,
            group,
        })
    }

    /// What an attempt used: as its group counted, else as its processes tell.
    pub(crate) fn usage(&self, processes: sandbox::Usage, watch: &LimitWatch) -> (Usage, GroupUsage) {
        let counted = self.group.as_ref().map(|group| group.usage()).unwrap_or_default();
        let usage = Usage {
            cpu: if counted.cpu.is_zero() { processes.cpu } else { counted.cpu },
            throttled: counted.throttled,
            memory_peak: match counted.memory_peak.max(watch.memory_peak) {
                0 => processes.memory_peak,
                peak => peak,
            },
            pids_peak: counted.pids_peak.max(watch.pids_peak),
            // Version 1 counts them only where a scheduler looks at weights.
            io_read: counted.io_read.max(processes.io_read),
            io_written: counted.io_written.max(processes.io_written),
        };
        (usage, counted)
    }

    /// A failure whose reason is a limit is named so.
    pub(crate) fn name(&self, end: AttemptEnd, counted: &GroupUsage) -> AttemptEnd {
        const FILE_TOO_LARGE: i32 = 25; // SIGXFSZ
        let limit = match &end {
            AttemptEnd::Failed(Cause::Exit(_) | Cause::Signal(_)) if counted.oom_kills > 0 => {
                Some(LimitHit::Memory(self.resources.memory))
            }
            AttemptEnd::Failed(Cause::Exit(_) | Cause::Signal(_)) if counted.pids_refused > 0 => {
                self.resources.pids.map(LimitHit::Pids)
            }
            AttemptEnd::Failed(Cause::Signal(FILE_TOO_LARGE)) => self.resources.file_size.map(LimitHit::FileSize),
            // The shell's word for a program that was ended by that signal.
            AttemptEnd::Failed(Cause::Exit(code)) if *code == 128 + FILE_TOO_LARGE => {
                self.resources.file_size.map(LimitHit::FileSize)
            }
            _ => None,
        };
        limit.map_or(end, |limit| AttemptEnd::Failed(Cause::Limit(limit)))
    }

    /// What has to be watched from outside while it runs; `dirs` are where it writes on disk.
    pub(crate) fn watch(&self, dirs: Vec<PathBuf>) -> LimitWatch {
        LimitWatch {
            resources: self.resources,
            sampler: None,
            sampled: self.sampled,
            dirs,
            next: Instant::now() + LOOK_EVERY,
            memory_peak: 0,
            pids_peak: 0,
        }
    }
}

/// Refuses what this host cannot hold.
fn refuse(agent: &Shared, resources: &Resources) -> Result<(), Cause> {
    if resources.best_effort {
        return Ok(());
    }
    let bounded_by_user = !rustix::process::geteuid().is_root();
    type Which = fn(&cgroup::Abilities) -> &Ability;
    let asked: [(&str, bool, Which); 4] = [
        ("memory", resources.memory.is_some(), |a| &a.memory),
        ("cpu", resources.cpu_milli.is_some(), |a| &a.cpu),
        // An ordinary user's processes are counted for each user namespace by the kernel.
        ("pids", resources.pids.is_some() && !bounded_by_user, |a| &a.pids),
        ("io_weight", resources.io_weight.is_some(), |a| &a.io),
    ];
    for (word, is_asked, which) in asked {
        if let (true, Err((why, advice))) = (is_asked, agent.can(which)) {
            return Err(Cause::Refused(format!(
                "this host cannot hold the limit `resources.{word}`: {why}; {advice}; or write \
                 `resources: {{ enforce: best_effort }}` to run without it"
            )));
        }
    }
    Ok(())
}

/// The kernel's memory for a file without content is counted nowhere where there are no control groups.
fn tmp_size(resources: &Resources) -> TmpSize {
    let bytes = resources.memory.map(|size| size.0);
    let inodes = bytes.map_or(TMP_FILES_MAX, |bytes| (bytes / ENTRY_BYTES).clamp(TMP_FILES_MIN, TMP_FILES_MAX));
    TmpSize { bytes, inodes: Some(inodes) }
}

/// A limit that makes no sense is the pipeline's; the rest is the host's.
fn group_trouble(error: &GroupError) -> Halt {
    match error {
        GroupError::Invalid(_) | GroupError::NotHere { .. } => Cause::Refused(error.to_string()).into(),
        GroupError::Make { .. } | GroupError::Set { .. } => trouble(error),
    }
}

/// With `best_effort` what the host cannot hold is left out.
fn group_limits(agent: &Shared, resources: &Resources) -> cgroup::Limits {
    let can = |which: fn(&cgroup::Abilities) -> &Ability| agent.can(which).is_ok();
    cgroup::Limits {
        memory: resources.memory.map(|size| size.0).filter(|_| can(|a| &a.memory)),
        cpu_milli: resources.cpu_milli.filter(|_| can(|a| &a.cpu)),
        pids: resources.pids.filter(|_| can(|a| &a.pids)),
        io_weight: resources.io_weight.filter(|_| can(|a| &a.io)),
    }
}

/// Watches what the kernel does not hold: disk, output, and memory without control groups.
#[derive(Debug)]
pub(crate) struct LimitWatch {
    resources: Resources,
    sampler: Option<Sampler>,
    sampled: bool,
    dirs: Vec<PathBuf>,
    next: Instant,
    memory_peak: u64,
    pids_peak: u32,
}

impl LimitWatch {
    /// From now on the tree of this process is sampled, where that is needed.
    pub(crate) fn follow(&mut self, pid: i32) {
        self.sampler = self.sampled.then(|| Sampler::new(pid));
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// The limit that the attempt has gone over by now. `printed` is what it has printed.
    pub(crate) fn look(&mut self, printed: u64, now: Instant) -> Option<LimitHit> {
        if let Some(limit) = self.resources.output.filter(|limit| printed > limit.0) {
            return Some(LimitHit::Output(limit));
        }
        if now < self.next {
            return None;
        }
        let hit = self.memory().or_else(|| self.disk());
        let took = now.elapsed();
        self.next = Instant::now() + LOOK_EVERY.max(took * LOOK_SHARE);
        hit
    }

    /// The end of an attempt that was over before anybody looked: what it wrote counts all the same.
    pub(crate) fn judge(&self, end: AttemptEnd) -> AttemptEnd {
        let itself = matches!(end, AttemptEnd::Succeeded | AttemptEnd::Failed(Cause::Exit(_) | Cause::Signal(_)));
        match self.resources.disk {
            Some(limit) if itself && written(&self.dirs, limit.0.saturating_add(1)) > limit.0 => {
                AttemptEnd::Failed(Cause::Limit(LimitHit::Disk(limit)))
            }
            _ => end,
        }
    }

    fn memory(&mut self) -> Option<LimitHit> {
        let sample = self.sampler.as_mut()?.sample();
        self.memory_peak = self.memory_peak.max(sample.memory);
        self.pids_peak = self.pids_peak.max(sample.processes);
        self.resources.memory.filter(|limit| sample.memory > limit.0).map(|limit| LimitHit::Memory(Some(limit)))
    }

    fn disk(&self) -> Option<LimitHit> {
        let left = self.dirs.iter().find_map(|dir| scarce(dir));
        if self.resources.disk.is_none() && left.is_none() {
            return None;
        }
        let enough = self.resources.disk.map_or(FILLER_BYTES, |limit| limit.0);
        let written = written(&self.dirs, enough.saturating_add(1));
        match (self.resources.disk, left) {
            (Some(limit), _) if written > limit.0 => Some(LimitHit::Disk(limit)),
            (_, Some(left)) if written > FILLER_BYTES => Some(LimitHit::HostDisk(Bytes(left))),
            _ => None,
        }
    }
}

/// How much is left on the file system of a folder, when that is too little.
fn scarce(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    // Some file systems do not count files.
    let few_files = disk.f_files > 0 && disk.f_favail < FILES_RESERVE;
    (left < DISK_RESERVE || few_files).then_some(left)
}

/// Bytes on disk below these folders; stops counting at `enough`. What cannot be read is not counted: it was just
/// removed, or it is counted with its folder. Only a path that is too long for the kernel counts as `enough`: nobody
/// needs one but to hide.
fn written(dirs: &[PathBuf], enough: u64) -> u64 {
    let mut bytes: u64 = 0;
    let mut open: Vec<PathBuf> = dirs.to_vec();
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::InvalidFilename => return enough,
            entries => entries,
        };
        for entry in entries.into_iter().flatten().flatten() {
            // Not followed: a link counts as itself.
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(ENTRY_BYTES.max(meta.blocks().saturating_mul(512)));
            if meta.is_dir() {
                open.push(entry.path());
            }
            if bytes >= enough {
                return bytes;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(resources: Resources, dirs: Vec<PathBuf>) -> LimitWatch {
        let hold = Hold { resources, ..Hold::none() };
        let mut watch = hold.watch(dirs);
        watch.next = Instant::now();
        watch
    }

    #[test]
    fn files_without_content_count_too() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..100 {
            fs::write(dir.path().join(number.to_string()), "").expect("a file");
        }
        let limit = Bytes(50 * ENTRY_BYTES);
        let resources = Resources { disk: Some(limit), ..Resources::default() };
        let mut watch = watch(resources, vec![dir.path().to_path_buf()]);
        assert_eq!(watch.look(0, Instant::now()), Some(LimitHit::Disk(limit)));
    }

    #[test]
    fn a_step_that_is_faster_than_a_look_is_judged_at_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("big"), vec![1; 100_000]).expect("a file");
        let resources = Resources { disk: Some(Bytes(50_000)), ..Resources::default() };
        let watch = watch(resources, vec![dir.path().to_path_buf()]);
        let over = AttemptEnd::Failed(Cause::Limit(LimitHit::Disk(Bytes(50_000))));
        assert_eq!(watch.judge(AttemptEnd::Succeeded), over);
        assert_eq!(watch.judge(AttemptEnd::Cancelled), AttemptEnd::Cancelled);
    }

    #[test]
    fn a_hole_in_a_file_is_not_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::File::create(dir.path().join("sparse")).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        let resources = Resources { disk: Some(Bytes(1 << 20)), ..Resources::default() };
        assert_eq!(watch(resources, vec![dir.path().to_path_buf()]).look(0, Instant::now()), None);
    }

    #[test]
    fn output_is_counted_at_every_look() {
        let resources = Resources { output: Some(Bytes(10)), ..Resources::default() };
        let mut watch = watch(resources, Vec::new());
        watch.next = Instant::now() + Duration::from_secs(60);
        assert_eq!(watch.look(10, Instant::now()), None);
        assert_eq!(watch.look(11, Instant::now()), Some(LimitHit::Output(Bytes(10))));
    }

    #[test]
    fn a_failure_is_named_after_the_limit_that_caused_it() {
        let resources =
            Resources { memory: Some(Bytes(1)), pids: Some(7), file_size: Some(Bytes(9)), ..Resources::default() };
        let hold = Hold { resources, ..Hold::none() };
        let name = |cause, counted: GroupUsage| match hold.name(AttemptEnd::Failed(cause), &counted) {
            AttemptEnd::Failed(cause) => cause,
            other => panic!("{other:?}"),
        };
        let oom = GroupUsage { oom_kills: 1, ..GroupUsage::default() };
        let forks = GroupUsage { pids_refused: 3, ..GroupUsage::default() };
        let none = GroupUsage::default();
        assert_eq!(name(Cause::Exit(137), oom), Cause::Limit(LimitHit::Memory(Some(Bytes(1)))));
        assert_eq!(name(Cause::Exit(2), forks), Cause::Limit(LimitHit::Pids(7)));
        assert_eq!(name(Cause::Exit(153), none), Cause::Limit(LimitHit::FileSize(Bytes(9))));
        assert_eq!(name(Cause::Exit(1), none), Cause::Exit(1));
        assert_eq!(hold.name(AttemptEnd::Succeeded, &oom), AttemptEnd::Succeeded);
    }
}
