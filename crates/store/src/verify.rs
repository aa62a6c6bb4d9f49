//! Whether the log is what it was: every hash is computed anew and held against what is written.

use std::collections::BTreeMap;

use crate::StoreError;
use crate::cell::{Param, Row, int, parse};
use crate::entry::{CHANGE, ChangeSaid, Covered, Encoding, Hash, sha256};
use crate::query::Verified;
use crate::read::Reader;
use crate::retention::REMOVED;

/// Entries that are read at once. Short, so that a log is checked while it grows and nobody waits for us.
const PAGE: usize = 1000;

/// What was seen so far.
#[derive(Default)]
struct Walk {
    entries: u64,
    hash: Hash,
    /// Runs of which something was removed, and that were not written down as removed yet: the first such entry, by the begin of
    /// the run's SHA-256.
    removed: BTreeMap<u64, u64>,
}

struct Entry {
    sequence: u64,
    at: u64,
    project: String,
    run: String,
    run_sequence: u64,
    kind: String,
    removed: bool,
    says: Vec<u8>,
    hash: Hash,
}

pub(crate) fn log(reader: &Reader, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
    let mut walk = Walk::default();
    // What comes after this is not looked at: it is being written while we read.
    let Some(mut head) = reader.query("SELECT sequence, hash FROM head", &[])?.into_iter().next() else {
        return Err(StoreError::Damaged("the end of the log is not written down".into()));
    };
    let (last, hash) = (head.int()?, head.hash()?);
    while walk.entries < last {
        let page = page(reader, walk.entries, last)?;
        if page.is_empty() {
            return Ok(walk.broken(walk.entries + 1, "it was removed, and all after it"));
        }
        for row in page {
            let sequence = walk.entries + 1;
            if let Err(wrong) = read(row).and_then(|entry| walk.step(entry)) {
                return match wrong {
                    StoreError::Damaged(why) => Ok(walk.broken(sequence, &why)),
                    other => Err(other),
                };
            }
        }
        progress(walk.entries);
    }
    if walk.hash != hash {
        return Ok(walk.broken(last, "it is not the entry that the log was closed with"));
    }
    if let Some(first) = walk.removed.values().min() {
        return Ok(walk.broken(*first, "what it says was removed, and nobody wrote down why"));
    }
    Ok(Verified { entries: walk.entries, broken: None, head: hex(&walk.hash) })
}

fn page(reader: &Reader, after: u64, last: u64) -> Result<Vec<Row>, StoreError> {
    let sql =
        "SELECT e.sequence, e.at, k.project, k.run, e.run_sequence, e.kind, e.encoding, e.length, e.payload, e.hash
               FROM entries e LEFT JOIN run_keys k ON k.key = e.run
               WHERE e.sequence > ?1 AND e.sequence <= ?2 ORDER BY e.sequence LIMIT ?3";
    reader.query(sql, &[Param::Int(int(after)), Param::Int(int(last)), Param::Int(PAGE as i64)])
}

fn read(mut row: Row) -> Result<Entry, StoreError> {
    let (sequence, at) = (row.int()?, row.int()?);
    let (project, run) = (row.maybe_text()?.unwrap_or_default(), row.maybe_text()?.unwrap_or_default());
    let (run_sequence, kind) = (row.int()?, row.text()?);
    let packed = row.packed()?;
    let removed = packed.encoding == Encoding::Removed;
    let says = if removed { packed.bytes } else { packed.open()?.unwrap_or_default() };
    Ok(Entry { sequence, at, project, run, run_sequence, kind, removed, says, hash: row.hash()? })
}

impl Walk {
    /// Takes an entry, or says what is wrong with it.
    fn step(&mut self, entry: Entry) -> Result<(), StoreError> {
        let damaged = |what: &str| Err(StoreError::Damaged(what.into()));
        if entry.sequence != self.entries + 1 {
            return damaged("it was removed");
        }
        let says = if entry.removed {
            let Ok(digest) = Hash::try_from(entry.says.as_slice()) else {
                return damaged("what it says was removed without a trace");
            };
            self.removed.entry(short(&entry.run)).or_insert(entry.sequence);
            digest
        } else {
            self.learn(&entry)?;
            sha256(&entry.says)
        };
        let Entry { sequence, at, project, run, run_sequence, kind, hash, .. } = entry;
        let covered = Covered { sequence, at, project: &project, run: &run, run_sequence, kind: &kind, says };
        if covered.hash(&self.hash) != hash {
            return damaged("it was edited, or is not in its place");
        }
        self.hash = hash;
        self.entries = sequence;
        Ok(())
    }

    /// Retention writes down what it removes.
    fn learn(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if entry.kind != CHANGE {
            return Ok(());
        }
        let said: ChangeSaid = parse(&entry.says)?;
        if said.act == REMOVED {
            let runs = said.body.as_ref().and_then(|body| body.get("runs")).and_then(serde_json::Value::as_array);
            for run in runs.into_iter().flatten().filter_map(serde_json::Value::as_str) {
                self.removed.remove(&short(run));
            }
        }
        Ok(())
    }

    fn broken(&self, sequence: u64, why: &str) -> Verified {
        Verified { entries: self.entries, broken: Some((sequence, why.into())), head: hex(&self.hash) }
    }
}

/// Short for a run, so that a million of them fit.
fn short(run: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(run.as_bytes());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn hex(hash: &Hash) -> String {
    model::Digest { hash: *hash, size: 0 }.hex()
}
