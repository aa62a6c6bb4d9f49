//! Keys of caches that are asked for by the beginning of their name: ordered, on the disk, bounded.
//!
//! A store's entries are found by a hash. GitHub's caches and our own are also found by a prefix, the newest first, so
//! their keys stand here, each with the hash of its entry. The file is a journal: a line a change, each with a checksum,
//! so that a line that was being written when the power went is known and dropped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::{Error, Function};
use serde::{Deserialize, Serialize};

/// Keys in all spaces together; the one that was not used for longest goes first. About 300 bytes of memory each.
pub const KEYS_MAX: usize = 100_000;
/// Length of a key in bytes, as GitHub has it.
pub const KEY_BYTES_MAX: usize = 512;
/// Keys that one look-up by prefix gives: the entry of the newest may have been evicted, and of the next one too.
const FOUND_MAX: usize = 64;
/// A use is written down when the one before was so long ago, in seconds: trimming needs no more precision.
const USE_SECONDS: u64 = 3600;
/// Changes that the journal holds beside the living keys before it is written anew.
const SLACK: usize = 4096;

/// A key and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The whole key.
    pub key: String,
    /// The hash in its entry's name.
    pub hash: [u8; 32],
    /// When it was set: seconds since 1970-01-01 UTC.
    pub written: u64,
    /// Larger than that of every key set before.
    pub number: u64,
}

/// The keys of one data folder.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    keys_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: BTreeMap<(String, String), Value>,
    journal: File,
    /// Lines in the journal.
    lines: usize,
    /// Given to the next key that is set.
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    hash: [u8; 32],
    written: u64,
    used: u64,
    number: u64,
}

/// A line of the journal.
#[derive(Debug, Deserialize, Serialize)]
enum Change {
    #[serde(rename = "set")]
    Set { space: String, key: String, hash: String, written: u64, used: u64, number: u64 },
    #[serde(rename = "use")]
    Use { space: String, key: String, at: u64 },
    #[serde(rename = "drop")]
    Drop { space: String, key: String },
}

impl Keys {
    /// Opens or makes the table in a data folder. What was being written when its process died is dropped.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(data: &Path) -> Result<Keys, Error> {
        Keys::bounded(data, KEYS_MAX)
    }

    fn bounded(data: &Path, keys_max: usize) -> Result<Keys, Error> {
        let path = data.join("keys");
        let open = || {
            fs::create_dir_all(data)?;
            let mut journal = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            let (table, lines, whole) = load(&mut journal)?;
            journal.set_len(whole)?;
            let number = table.values().map(|value| value.number + 1).max().unwrap_or(0);
            Ok(Inner { table, journal, lines, number })
        };
        let inner = open().map_err(|source| Error::Io { act: "open", path: path.clone(), source })?;
        let keys = Keys { path, keys_max, inner: Mutex::new(inner) };
        keys.settle(&mut keys.lock())?;
        Ok(keys)
    }

    /// Gives a key a hash, whatever it had before. It is on the disk when this returns.
    ///
    /// # Errors
    /// The key is too long, or the file system refuses.
    pub fn set(&self, space: &str, key: &str, hash: [u8; 32], now: u64) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            let (size, max) = (key.len() as u64, KEY_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: "the key of a cache".into(), size, max, unit: "bytes" });
        }
        let mut inner = self.lock();
        let value = Value { hash, written: now, used: now, number: inner.number };
        self.write(&mut inner, &set(space, key, &value), true)?;
        inner.number += 1;
        inner.table.insert((space.into(), key.into()), value);
        self.settle(&mut inner)
    }

    /// A key, exactly.
    pub fn exact(&self, space: &str, key: &str) -> Option<Found> {
        let inner = self.lock();
        let (name, value) = inner.table.get_key_value(&(space.to_string(), key.to_string()))?;
        Some(found(name, value))
    }

    /// The keys that begin with `prefix`, the newest first, at most 64.
    pub fn with_prefix(&self, space: &str, prefix: &str) -> Vec<Found> {
        let inner = self.lock();
        let from = (space.to_string(), prefix.to_string());
        let is_below = |name: &(String, String)| name.0 == space && name.1.starts_with(prefix);
        let mut all: Vec<_> = inner.table.range(from..).take_while(|(name, _)| is_below(name)).collect();
        all.sort_unstable_by_key(|(_, value)| std::cmp::Reverse(value.number));
        all.into_iter().take(FOUND_MAX).map(|(name, value)| found(name, value)).collect()
    }

    /// Notes that a key was of use.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn touch(&self, space: &str, key: &str, now: u64) -> Result<(), Error> {
        let mut inner = self.lock();
        let name = (space.to_string(), key.to_string());
        match inner.table.get_mut(&name) {
            Some(value) if value.used + USE_SECONDS <= now => value.used = now,
            _ => return Ok(()),
        }
        // Not flushed: an old time of use costs nothing but a worse choice when keys are trimmed.
        self.write(&mut inner, &Change::Use { space: name.0, key: name.1, at: now }, false)
    }

    /// Forgets a key; nothing happens when there is none.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, space: &str, key: &str) -> Result<(), Error> {
        let mut inner = self.lock();
        let name = (space.to_string(), key.to_string());
        match inner.table.remove(&name) {
            Some(_) => self.write(&mut inner, &Change::Drop { space: name.0, key: name.1 }, false),
            None => Ok(()),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.lock().table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, inner: &mut Inner, change: &Change, flush: bool) -> Result<(), Error> {
        let wrote = inner.journal.write_all(line(change).as_bytes()).and_then(|()| match flush {
            true => inner.journal.sync_data(),
            false => Ok(()),
        });
        inner.lines += 1;
        wrote.map_err(|source| Error::Io { act: "write", path: self.path.clone(), source })
    }

    /// Trims the table to its bound and the journal to the table.
    fn settle(&self, inner: &mut Inner) -> Result<(), Error> {
        if inner.table.len() > self.keys_max {
            // A tenth more than needed, so that it is not done again for the next key.
            let spare = inner.table.len() - self.keys_max + self.keys_max / 10;
            let mut by_use: Vec<_> =
                inner.table.iter().map(|(name, value)| ((value.used, value.number), name.clone())).collect();
            let last = by_use.len() - 1;
            by_use.select_nth_unstable(spare.min(last));
            for (_, name) in &by_use[..spare] {
                inner.table.remove(name);
            }
        } else if inner.lines <= 2 * inner.table.len() + SLACK {
            return Ok(());
        }
        self.rewrite(inner).map_err(|source| Error::Io { act: "rewrite", path: self.path.clone(), source })
    }

    fn rewrite(&self, inner: &mut Inner) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = io::BufWriter::new(File::create(&new)?);
        for ((space, key), value) in &inner.table {
            file.write_all(line(&set(space, key, value)).as_bytes())?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        inner.journal = OpenOptions::new().append(true).open(&self.path)?;
        inner.lines = inner.table.len();
        Ok(())
    }
}

fn found(name: &(String, String), value: &Value) -> Found {
    Found { key: name.1.clone(), hash: value.hash, written: value.written, number: value.number }
}

fn set(space: &str, key: &str, value: &Value) -> Change {
    let hash = blobs::Key { function: Function::Sha256, hash: value.hash, size: 0 }.hex();
    let Value { written, used, number, .. } = *value;
    Change::Set { space: space.into(), key: key.into(), hash, written, used, number }
}

/// A change as a line: a checksum, and JSON, which has no line break within.
fn line(change: &Change) -> String {
    // Texts and numbers always are JSON.
    let json = serde_json::to_string(change).unwrap_or_default();
    format!("{} {json}\n", checksum(&json))
}

fn checksum(json: &str) -> String {
    Function::Sha256.key_of(json.as_bytes()).hex()[..16].to_string()
}

/// The table, the number of lines, and the bytes up to the end of the last whole one.
type Loaded = (BTreeMap<(String, String), Value>, usize, u64);

fn load(journal: &mut File) -> io::Result<Loaded> {
    let (mut table, mut lines, mut whole) = (BTreeMap::new(), 0, 0);
    let mut reader = BufReader::new(journal);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let Some(change) = parse(&bytes) else { break };
        apply(&mut table, change);
        whole += bytes.len() as u64;
        lines += 1;
        bytes.clear();
    }
    Ok((table, lines, whole))
}

fn parse(line: &[u8]) -> Option<Change> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    (sum == checksum(json)).then(|| serde_json::from_str(json).ok())?
}

fn apply(table: &mut BTreeMap<(String, String), Value>, change: Change) {
    match change {
        Change::Set { space, key, hash, written, used, number } => {
            if let Some(named) = blobs::Key::from_hex(Function::Sha256, &hash, 0) {
                table.insert((space, key), Value { hash: named.hash, written, used, number });
            }
        }
        Change::Use { space, key, at } => {
            if let Some(value) = table.get_mut(&(space, key)) {
                value.used = at;
            }
        }
        Change::Drop { space, key } => {
            table.remove(&(space, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: Vec<Found>) -> Vec<String> {
        found.into_iter().map(|found| found.key).collect()
    }

    #[test]
    fn keys_are_found_by_their_beginning_the_newest_first_and_only_in_their_space() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        for (at, key) in ["linux-b", "linux-a", "mac-a", "linux-c"].into_iter().enumerate() {
            keys.set("main", key, [at as u8; 32], 7).unwrap();
        }
        keys.set("other", "linux-z", [9; 32], 7).unwrap();
        assert_eq!(names(keys.with_prefix("main", "linux-")), ["linux-c", "linux-a", "linux-b"]);
        assert_eq!(names(keys.with_prefix("main", "")), ["linux-c", "mac-a", "linux-a", "linux-b"]);
        assert_eq!(names(keys.with_prefix("main", "linux-z")), [""; 0]);
        assert_eq!(keys.exact("main", "mac-a").map(|found| found.hash), Some([2; 32]));
        assert_eq!(keys.exact("main", "mac-"), None);
        keys.set("main", "linux-b", [5; 32], 8).unwrap();
        keys.remove("main", "linux-a").unwrap();
        assert_eq!(names(keys.with_prefix("main", "linux-")), ["linux-b", "linux-c"]);
        assert!(keys.set("main", &"k".repeat(KEY_BYTES_MAX + 1), [0; 32], 7).is_err());
    }

    #[test]
    fn a_journal_cut_at_any_byte_opens_with_every_key_before_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = Keys::open(folder.path()).unwrap();
        let mut ends = Vec::new();
        for at in 0..8u8 {
            keys.set("main", &format!("key-{at}"), [at; 32], 7).unwrap();
            ends.push(fs::metadata(&path).unwrap().len());
        }
        drop(keys);
        let whole = fs::read(&path).unwrap();
        for cut in (0..=whole.len()).rev().step_by(7) {
            fs::write(&path, &whole[..cut]).unwrap();
            let keys = Keys::open(folder.path()).unwrap();
            let there = ends.iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(keys.len(), there, "cut at {cut}");
            // What is written next is not behind a torn line.
            keys.set("main", "after", [99; 32], 8).unwrap();
            drop(keys);
            assert_eq!(Keys::open(folder.path()).unwrap().len(), there + 1, "cut at {cut}");
        }
        let mut flipped = whole.clone();
        flipped[30] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(Keys::open(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn what_was_not_used_for_longest_goes_and_the_journal_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::bounded(folder.path(), 20).unwrap();
        keys.set("main", "old-but-used", [0; 32], 0).unwrap();
        keys.touch("main", "old-but-used", 1_000_000).unwrap();
        for at in 0..20 {
            keys.set("main", &format!("key-{at:02}"), [1; 32], at).unwrap();
        }
        assert!(keys.exact("main", "old-but-used").is_some());
        assert!(keys.exact("main", "key-00").is_none());
        assert!(keys.exact("main", "key-19").is_some());
        for _ in 0..2 * SLACK {
            keys.remove("main", "key-19").unwrap();
            let mut inner = keys.lock();
            let value = Value { hash: [1; 32], written: 1, used: 1, number: 99 };
            keys.write(&mut inner, &set("main", "key-19", &value), false).unwrap();
            inner.table.insert(("main".into(), "key-19".into()), value);
            keys.settle(&mut inner).unwrap();
        }
        assert!(keys.lock().lines <= 2 * 20 + SLACK + 1);
        let count = keys.len();
        drop(keys);
        let keys = Keys::bounded(folder.path(), 20).unwrap();
        assert_eq!(keys.len(), count);
        assert!(keys.exact("main", "old-but-used").is_some(), "uses survive");
    }
}
