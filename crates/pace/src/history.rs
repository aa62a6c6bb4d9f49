//! Runs made here: one numbered folder each, with its events, logs and artifacts.
//!
//! The folder of a live run holds a lock that its process keeps; a run without an end and without a holder was
//! interrupted. Events are appended before anything is done about them, so SIGKILL loses no fact.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use model::RunNumber;
use view::json::Wire;

use crate::exit::Failure;
use crate::folders::Folders;
use crate::project::Project;

/// Runs that are kept; older ones go when a newer one ends.
const RUNS_MAX: usize = 100;
const EVENTS: &str = "events.jsonl";
const LOCK: &str = "lock";

/// The history of one project.
#[derive(Clone, Debug)]
pub struct History {
    /// `<state>/projects/<name>`.
    pub folder: PathBuf,
}

/// A run that goes on in this process.
pub struct LiveRun {
    /// Its number.
    pub number: RunNumber,
    /// Its folder.
    pub folder: PathBuf,
    events: File,
    _lock: File,
}

/// A run that was made here.
#[derive(Clone, Debug)]
pub struct PastRun {
    /// Its number.
    pub number: RunNumber,
    /// Its folder.
    pub folder: PathBuf,
}

impl History {
    /// The project's folder, made if it is new.
    pub fn open(folders: &Folders, project: &Project) -> Result<History, Failure> {
        let folder = folders.state.join("projects").join(project.state_name());
        std::fs::create_dir_all(folder.join("runs")).map_err(|error| cannot("make", &folder, &error))?;
        Ok(History { folder })
    }

    /// Begins a run under the next free number. Two processes never get the same.
    pub fn begin(&self) -> Result<LiveRun, Failure> {
        let mut number = self.numbers().first().copied().unwrap_or(0) + 1;
        let folder = loop {
            let folder = self.folder_of(number);
            match std::fs::create_dir(&folder) {
                Ok(()) => break folder,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(cannot("make", &folder, &error)),
            }
        };
        let file = |name: &str| {
            let path = folder.join(name);
            OpenOptions::new().create(true).append(true).open(&path).map_err(|error| cannot("write", &path, &error))
        };
        let lock = file(LOCK)?;
        lock.lock().map_err(|error| cannot("lock", &folder.join(LOCK), &error))?;
        Ok(LiveRun { number: RunNumber(number), events: file(EVENTS)?, folder, _lock: lock })
    }

    /// All runs, newest first.
    pub fn runs(&self) -> Vec<PastRun> {
        self.numbers()
            .into_iter()
            .map(|number| PastRun { number: RunNumber(number), folder: self.folder_of(number) })
            .collect()
    }

    /// The run of that number, or the last one.
    pub fn find(&self, number: Option<u64>) -> Result<PastRun, Failure> {
        let runs = self.runs();
        match number {
            None => runs
                .into_iter()
                .next()
                .ok_or_else(|| Failure::usage("no run was made here yet").help("`pace run` makes one")),
            Some(wanted) => runs.into_iter().find(|run| run.number.0 == wanted).ok_or_else(|| {
                Failure::usage(format!("there is no run #{wanted} here")).help("`pace runs` lists them")
            }),
        }
    }

    /// Drops the oldest runs beyond [`RUNS_MAX`], unless somebody still makes them.
    pub fn prune(&self) {
        for run in self.runs().into_iter().skip(RUNS_MAX).filter(|run| !run.is_live()) {
            // A folder that cannot be removed today is tried again after the next run.
            let _ = std::fs::remove_dir_all(&run.folder);
        }
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        self.folder.join("runs").join(number.to_string())
    }

    fn numbers(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(self.folder.join("runs")) else { return Vec::new() };
        let mut numbers: Vec<u64> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }
}

impl LiveRun {
    /// Appends events, in one write.
    pub fn append<'a>(&mut self, events: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
        let mut lines = String::new();
        for event in events {
            lines.push_str(event);
            lines.push('\n');
        }
        self.events.write_all(lines.as_bytes()).map_err(|error| cannot("append to", &self.folder.join(EVENTS), &error))
    }
    /// Where the logs of its attempts are.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("logs")
    }
    /// Where its artifacts are.
    pub fn artifact_folder(&self) -> PathBuf {
        self.folder.join("artifacts")
    }
}

impl PastRun {
    /// Its events. A torn last line (the process was killed while it wrote) is left out.
    pub fn events(&self) -> Result<Vec<Wire>, Failure> {
        let path = self.folder.join(EVENTS);
        let bytes = std::fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
        let events = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| view::json::read(std::str::from_utf8(line).ok()?).ok())
            .collect();
        Ok(events)
    }
    /// Its process still lives.
    pub fn is_live(&self) -> bool {
        let Ok(lock) = File::open(self.folder.join(LOCK)) else { return false };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }
    /// Where the logs of its attempts are.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("logs")
    }
}

/// What failed with which file.
pub fn cannot(act: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::infrastructure(format!("cannot {act} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("runs")).expect("a folder");
        let history = History { folder: folder.path().into() };
        (folder, history)
    }

    #[test]
    fn runs_get_numbers_of_their_own() {
        let (_folder, history) = history();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let history = history.clone();
                std::thread::spawn(move || history.begin().map(|run| run.number.0).expect("a run"))
            })
            .collect();
        let mut numbers: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    }

    #[test]
    fn a_run_is_live_while_its_process_holds_it() {
        let (_folder, history) = history();
        let run = history.begin().expect("a run");
        let past = history.find(Some(1)).expect("the run");
        assert!(past.is_live());
        drop(run);
        assert!(!past.is_live());
        assert!(history.find(Some(2)).is_err());
    }
}
