//! Retention: what old runs leave behind goes, and the log stays one that can be checked.
//!
//! An entry of a removed run keeps its place, its time and its hash; what it says is replaced by the SHA-256 of it. Which runs
//! were removed is an entry of the log itself, so that nobody can remove one quietly.

use model::{ProjectId, Timestamp};

use crate::batch::{Batch, Change, Expect};
use crate::cell::{Param, int, text};
use crate::entry::{Encoding, sha256};
use crate::read::Reader;
use crate::step::{Removal, Step};
use crate::{Epoch, Store, StoreError};

/// The act under which removed runs are written down.
pub(crate) const REMOVED: &str = "runs.removed";
/// Runs of one transaction: others wait for as long as it takes.
const RUNS_MAX: i64 = 50;
/// Deliveries of one transaction.
const DELIVERIES_MAX: i64 = 500;

pub(crate) fn remove(
    store: &Store,
    epoch: Option<Epoch>,
    project: &ProjectId,
    before: Timestamp,
    now: Timestamp,
    by: &str,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    let reader = &store.reader;
    loop {
        let runs = old_runs(reader, project, before)?;
        if runs.is_empty() {
            break;
        }
        let names: Vec<&str> = runs.iter().map(|(_, run)| run.as_str()).collect();
        let mut note = Change::note(now, by, REMOVED, project.as_str());
        note.expect = Expect::Nothing;
        note.body = Some(serde_json::json!({ "before": before.0, "runs": names }));
        store.append(epoch, Batch { changes: vec![note], ..Batch::default() })?;
        let mut removal = Removal::default();
        for (run, _) in &runs {
            removal.runs.push(*run);
            entries(reader, *run, &mut removal)?;
        }
        removed += removal.runs.len() as u64;
        carry_out(store, removal)?;
    }
    loop {
        let deliveries = old_deliveries(reader, project, before)?;
        if deliveries.is_empty() {
            return Ok(removed);
        }
        carry_out(store, Removal { deliveries, ..Removal::default() })?;
    }
}

fn carry_out(store: &Store, removal: Removal) -> Result<(), StoreError> {
    let mut step = Some(Step::Remove(removal));
    store.writer()?.call(move |backend| backend.transact(&mut || Ok(step.take())))
}

fn old_runs(reader: &Reader, project: &ProjectId, before: Timestamp) -> Result<Vec<(u64, String)>, StoreError> {
    let sql = "SELECT r.key, k.run FROM runs r JOIN run_keys k ON k.key = r.key
               WHERE r.project = ?1 AND r.ended IS NOT NULL AND r.ended < ?2 ORDER BY r.ended LIMIT ?3";
    let params = [text(project.as_str()), Param::Int(int(before.0)), Param::Int(RUNS_MAX)];
    reader.query(sql, &params)?.into_iter().map(|mut row| Ok((row.int()?, row.text()?))).collect()
}

fn entries(reader: &Reader, run: u64, removal: &mut Removal) -> Result<(), StoreError> {
    let sql = "SELECT sequence, encoding, length, payload FROM entries WHERE run = ?1 ORDER BY run_sequence";
    for mut row in reader.query(sql, &[Param::Int(int(run))])? {
        let (sequence, says) = (row.int()?, row.packed()?);
        if says.encoding != Encoding::Removed {
            removal.entries.push((sequence, sha256(&says.open()?.unwrap_or_default())));
        }
    }
    Ok(())
}

fn old_deliveries(reader: &Reader, project: &ProjectId, before: Timestamp) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT sequence FROM deliveries
               WHERE project = ?1 AND at < ?2 AND settled IS NOT NULL AND length > 0 ORDER BY at LIMIT ?3";
    let params = [text(project.as_str()), Param::Int(int(before.0)), Param::Int(DELIVERIES_MAX)];
    reader.query(sql, &params)?.into_iter().map(|mut row| row.int()).collect()
}
