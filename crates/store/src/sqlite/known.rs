//! What SQLite's tables say about what a group touches.

use model::{RunEvent, RunId};
use rusqlite::{Connection, OptionalExtension};

use super::told;
use crate::StoreError;
use crate::cell::{Row, parse};
use crate::entry::{Encoding, Packed};
use crate::ledger::{Head, Known, Needs};

pub(super) fn load(connection: &Connection, needs: &Needs) -> Result<Known, StoreError> {
    let mut known = Known::default();
    for run in &needs.runs {
        if let Some(mut head) = head(connection, run)? {
            if needs.plans.contains(run) {
                head.plan = plan(connection, head.key)?;
            }
            known.runs.insert(run.clone(), head);
        }
    }
    let mut load = || {
        for record in &needs.records {
            let mut version = connection.prepare_cached("SELECT version FROM records WHERE kind = ?1 AND key = ?2")?;
            if let Some(version) = version.query_row((&record.0, &record.1), |row| row.get::<_, i64>(0)).optional()? {
                known.records.insert(record.clone(), version.unsigned_abs());
            }
        }
        for id in &needs.deliveries {
            if connection.prepare_cached("SELECT 1 FROM deliveries WHERE id = ?1")?.exists([id])? {
                known.deliveries.insert(id.clone());
            }
        }
        for log in &needs.logs {
            let end = "SELECT p.begins + p.length FROM pieces p JOIN run_keys k ON k.key = p.run
                       WHERE k.run = ?1 AND p.node = ?2 AND p.attempt = ?3 ORDER BY p.begins DESC LIMIT 1";
            let log_id = (log.run.as_str(), log.node.0, log.attempt.0);
            let end = connection.prepare_cached(end)?.query_row(log_id, |row| row.get::<_, i64>(0)).optional()?;
            known.lengths.extend(end.map(|end| (log.clone(), end.unsigned_abs())));
        }
        Ok(())
    };
    load().map_err(told)?;
    Ok(known)
}

fn head(connection: &Connection, run: &RunId) -> Result<Option<Head>, StoreError> {
    let sql = "SELECT k.key, (SELECT MAX(run_sequence) FROM entries WHERE run = k.key), r.summary
               FROM run_keys k LEFT JOIN runs r ON r.key = k.key WHERE k.run = ?1";
    let found = super::query(connection, sql, &[crate::cell::text(run.as_str())])?;
    found.into_iter().next().map(read_head).transpose()
}

fn read_head(mut row: Row) -> Result<Head, StoreError> {
    let (key, facts) = (row.int()?, row.int()?);
    let summary = row.maybe_text()?.map(|json| parse(json.as_bytes())).transpose()?;
    Ok(Head { key, facts, summary, plan: None })
}

/// The plan of a run, from the fact that asked for it.
fn plan(connection: &Connection, key: u64) -> Result<Option<std::sync::Arc<model::Plan>>, StoreError> {
    let sql = "SELECT encoding, length, payload FROM entries WHERE sequence = ?1";
    let row = connection.prepare_cached(sql).and_then(|mut statement| {
        statement.query_row([key.cast_signed()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))
    });
    let (encoding, length, bytes) = row.map_err(told)?;
    let packed = Packed { encoding: Encoding::of(encoding.unsigned_abs())?, length: length.unsigned_abs(), bytes };
    let Some(json) = packed.open()? else { return Ok(None) };
    match parse(&json)? {
        RunEvent::Requested { plan } => Ok(Some(plan)),
        _ => Err(StoreError::Damaged(format!("entry {key} should be a request for a run"))),
    }
}
