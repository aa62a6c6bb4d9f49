//! The journal: which leases were taken, and which results are not acknowledged. Lines of JSON that are only ever appended.
//!
//! A line stands in the file before the server is told of what it says, so a killed process loses nothing; the disk is asked
//! to keep it only when the server has not answered for a while ([`Journal::sync`]): what the server has needs no keeping.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lease::Lease;

/// An empty journal is cut to nothing when its file is longer than this.
const IDLE_BYTES_MAX: u64 = 1 << 20;
/// A line: the largest result, with escapes.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// The lease was taken.
    Taken(Lease),
    /// Its attempt ended.
    Ended { lease: Lease, result: String, log_bytes: u64 },
    /// The server has it.
    Gone(Lease),
}

/// What a journal says of a lease.
#[derive(Debug, PartialEq)]
pub(crate) enum Left {
    /// It was taken, and no end is known.
    Taken,
    /// Its result, as JSON, with the length of its log.
    Ended { result: String, log_bytes: u64 },
}

/// The file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    live: u64,
}

impl Journal {
    /// Opens or makes it. What was left behind is handed back, and the file holds just that.
    ///
    /// # Errors
    /// The file cannot be read or written. A sentence.
    pub(crate) fn open(path: &Path) -> Result<(Journal, BTreeMap<Lease, Left>), String> {
        let left = match File::open(path) {
            Ok(file) => read(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let wrong = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        let draft = path.with_extension("new");
        let mut file = File::create(&draft).map_err(wrong)?;
        let mut length = 0;
        for (lease, left) in &left {
            let line = match left {
                Left::Taken => Line::Taken(lease.clone()),
                Left::Ended { result, log_bytes } => {
                    Line::Ended { lease: lease.clone(), result: result.clone(), log_bytes: *log_bytes }
                }
            };
            let bytes = bytes_of(&line);
            file.write_all(&bytes).map_err(wrong)?;
            length += bytes.len() as u64;
        }
        file.sync_all().and_then(|()| std::fs::rename(&draft, path)).map_err(wrong)?;
        let file = OpenOptions::new().append(true).open(path).map_err(wrong)?;
        let live = left.len() as u64;
        Ok((Journal { path: path.to_path_buf(), file, length, live }, left))
    }

    /// # Errors
    /// The disk refuses. A sentence.
    pub(crate) fn taken(&mut self, lease: &Lease) -> Result<(), String> {
        self.live += 1;
        self.append(&Line::Taken(lease.clone()))
    }

    /// # Errors
    /// The disk refuses. A sentence.
    pub(crate) fn ended(&mut self, lease: &Lease, result: &str, log_bytes: u64) -> Result<(), String> {
        self.append(&Line::Ended { lease: lease.clone(), result: result.to_string(), log_bytes })
    }

    /// Forgets a lease that was taken.
    pub(crate) fn gone(&mut self, lease: &Lease) {
        self.live = self.live.saturating_sub(1);
        if self.live == 0 && self.length > IDLE_BYTES_MAX && self.file.set_len(0).is_ok() {
            self.length = 0;
            return;
        }
        // Not written, the result is told once more after a restart, and the server says again that it has it.
        let _ = self.append(&Line::Gone(lease.clone()));
    }

    /// Makes what was written survive the machine, too.
    pub(crate) fn sync(&self) {
        // A disk that cannot do that keeps the promise for killed processes only.
        let _ = self.file.sync_data();
    }

    fn append(&mut self, line: &Line) -> Result<(), String> {
        let bytes = bytes_of(line);
        match self.file.write_all(&bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line would hide those after it.
                let _ = self.file.set_len(self.length);
                Err(format!("cannot write {}: {error}; make room on that disk", self.path.display()))
            }
        }
    }
}

fn bytes_of(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("ids, numbers and texts are always JSON");
    bytes.push(b'\n');
    bytes
}

/// What is left when all lines were read. It ends at the first that is not whole.
fn read(file: File) -> BTreeMap<Lease, Left> {
    let mut left = BTreeMap::new();
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).unwrap_or(0);
        if length == 0 || line.last() != Some(&b'\n') {
            return left;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Taken(lease)) => {
                left.insert(lease, Left::Taken);
            }
            Ok(Line::Ended { lease, result, log_bytes }) => {
                left.insert(lease, Left::Ended { result, log_bytes });
            }
            Ok(Line::Gone(lease)) => {
                left.remove(&lease);
            }
            Err(_) => return left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AttemptNo, Fence, NodeIx, RunId};

    fn lease(fence: u64) -> Lease {
        Lease { run: RunId::from("run_1"), node: NodeIx(3), attempt: AttemptNo(1), fence: Fence(fence) }
    }

    #[test]
    fn a_killed_process_leaves_behind_what_was_not_acknowledged() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let (mut journal, left) = Journal::open(&path).expect("opened");
        assert!(left.is_empty());
        for fence in 1..=3 {
            journal.taken(&lease(fence)).expect("written");
        }
        journal.ended(&lease(2), "{\"a\":\"b\\n\"}", 7).expect("written");
        journal.ended(&lease(3), "{}", 0).expect("written");
        journal.gone(&lease(3));
        drop(journal);
        // The machine stopped in the middle of a line.
        let half = [std::fs::read(&path).expect("journal"), b"{\"Gone\":{\"run\":\"run_1\"".to_vec()].concat();
        std::fs::write(&path, half).expect("written");
        let expected = BTreeMap::from([
            (lease(1), Left::Taken),
            (lease(2), Left::Ended { result: "{\"a\":\"b\\n\"}".into(), log_bytes: 7 }),
        ]);
        for _ in 0..2 {
            let (_, left) = Journal::open(&path).expect("opened");
            assert_eq!(left, expected);
        }
    }

    #[test]
    fn a_journal_does_not_grow_with_what_is_done() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut journal, _) = Journal::open(&dir.path().join("journal")).expect("opened");
        let result = "x".repeat(100_000);
        for fence in 0..100 {
            journal.taken(&lease(fence)).expect("written");
            journal.ended(&lease(fence), &result, 0).expect("written");
            journal.gone(&lease(fence));
        }
        assert!(std::fs::metadata(dir.path().join("journal")).expect("journal").len() < 2 * IDLE_BYTES_MAX);
    }
}
