//! `concurrency` between `pace` processes on one machine: a lock file a group, held for as long as its run.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use model::{ConcurrencyPolicy, RunNumber};
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::folders::Folders;
use crate::history::cannot;
use crate::screen::Screen;
use crate::signals::Stops;

/// How often a waiting run looks whether its group is free.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The right to run in a group.
pub struct GroupLock {
    file: File,
}

impl Drop for GroupLock {
    /// The next holder is not to be taken for this one: by then its process may be anybody's.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl GroupLock {
    /// Takes the group, or waits for it, or cancels who holds it. `None`: the user stopped waiting.
    pub fn take(
        folders: &Folders,
        group: &str,
        policy: ConcurrencyPolicy,
        number: RunNumber,
        screen: &mut Screen,
        stops: &Stops,
    ) -> Result<Option<GroupLock>, Failure> {
        let folder = folders.state.join("groups");
        std::fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, &error))?;
        let path = folder.join(cas::Store::digest_of(group.as_bytes()).short());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| cannot("write", &path, &error))?;
        let mut said = None;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(cannot("lock", &path, &error)),
            }
            let holder = Holder::read(&mut file);
            if said != Some(holder) {
                said = Some(holder);
                holder.met(group, policy, screen);
            }
            if stops.count() > 0 {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let note = format!("{} {}\n", number.0, std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(note.as_bytes()))
            .map_err(|error| cannot("write", &path, &error))?;
        Ok(Some(GroupLock { file }))
    }
}

/// Who holds a group: its run and process, as far as it has said.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    run: u64,
    process: i32,
}

impl Holder {
    fn read(file: &mut File) -> Holder {
        let mut text = String::new();
        // Unreadable is unknown: the lock itself still says that somebody is there.
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(64).read_to_string(&mut text));
        let mut numbers = text.split_whitespace();
        let run = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Holder { run, process: numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0) }
    }

    /// Says it, and under `cancel-running` asks it to stop.
    fn met(self, group: &str, policy: ConcurrencyPolicy, screen: &mut Screen) {
        let Holder { run, process } = self;
        match policy {
            // Those that wait here are processes of people: whoever started one may stop it.
            ConcurrencyPolicy::Queue | ConcurrencyPolicy::CancelQueued => screen
                .warning(&format!("waits for concurrency group `{group}`, held by run #{run} (process {process})")),
            ConcurrencyPolicy::CancelRunning => {
                screen.warning(&format!("cancels run #{run} (process {process}) of concurrency group `{group}`"));
                if let Some(process) = Pid::from_raw(process) {
                    // It may have ended by itself in this moment; then the lock is free in the next.
                    let _ = kill_process(process, Signal::TERM);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Color;

    #[test]
    fn who_let_a_group_go_is_not_asked_to_stop() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = Folders { cache: folder.path().join("cache"), state: folder.path().join("state") };
        let take = || {
            let mut screen = Screen::new(None, Color::Never);
            let (queue, stops) = (ConcurrencyPolicy::Queue, Stops::default());
            GroupLock::take(&folders, "g", queue, RunNumber(7), &mut screen, &stops).expect("a group").expect("taken")
        };
        let mut lock = take();
        assert_eq!(Holder::read(&mut lock.file).run, 7);
        drop(lock);
        let mut entries = std::fs::read_dir(folders.state.join("groups")).expect("groups");
        let path = entries.next().expect("a group").expect("its file").path();
        assert_eq!(std::fs::read_to_string(path).expect("its note"), "");
    }
}
