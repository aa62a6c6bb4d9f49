//! What PostgreSQL's tables say about what a group touches: one question a kind, and none for what is not touched.

use std::sync::Arc;

use model::{AttemptNo, NodeIx, Plan, RunEvent, RunId};

use super::{Session, row};
use crate::StoreError;
use crate::batch::LogId;
use crate::cell::{int, parse};
use crate::ledger::{Head, Known, Needs};

pub(super) async fn load(session: &mut Session, needs: &Needs) -> Result<Known, StoreError> {
    let mut known = Known::default();
    if !needs.runs.is_empty() {
        runs(session, needs, &mut known).await?;
    }
    if !needs.records.is_empty() {
        let sql = "SELECT kind, key, version FROM records
                   WHERE (kind, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        let (kinds, keys): (Vec<&str>, Vec<&str>) =
            needs.records.iter().map(|(kind, key)| (kind.as_str(), key.as_str())).unzip();
        for found in session.query(sql, &[&kinds, &keys]).await? {
            known.records.insert((found.get(0), found.get(1)), found.get::<_, i64>(2).unsigned_abs());
        }
    }
    if !needs.deliveries.is_empty() {
        let ids: Vec<&str> = needs.deliveries.iter().map(String::as_str).collect();
        let found = session.query("SELECT id FROM deliveries WHERE id = ANY($1)", &[&ids]).await?;
        known.deliveries.extend(found.iter().map(|row| row.get::<_, String>(0)));
    }
    if !needs.logs.is_empty() {
        lengths(session, needs, &mut known).await?;
    }
    Ok(known)
}

async fn runs(session: &mut Session, needs: &Needs, known: &mut Known) -> Result<(), StoreError> {
    let ids: Vec<&str> = needs.runs.iter().map(RunId::as_str).collect();
    let sql = "SELECT k.run, k.key, (SELECT MAX(run_sequence) FROM entries WHERE run = k.key), r.summary
               FROM run_keys k LEFT JOIN runs r ON r.key = k.key WHERE k.run = ANY($1)";
    for found in session.query(sql, &[&ids]).await? {
        let mut found = row(&found)?;
        let (run, key, facts) = (RunId::new(found.text()?), found.int()?, found.int()?);
        let summary = found.maybe_text()?.map(|json| parse(json.as_bytes())).transpose()?;
        let plan = if needs.plans.contains(&run) { plan(session, key).await? } else { None };
        known.runs.insert(run, Head { key, facts, summary, plan });
    }
    Ok(())
}

/// The plan of a run, from the fact that asked for it.
async fn plan(session: &mut Session, key: u64) -> Result<Option<Arc<Plan>>, StoreError> {
    let sql = "SELECT encoding, length, payload FROM entries WHERE sequence = $1";
    let Some(found) = session.query(sql, &[&int(key)]).await?.into_iter().next() else { return Ok(None) };
    let Some(json) = row(&found)?.packed()?.open()? else { return Ok(None) };
    match parse(&json)? {
        RunEvent::Requested { plan } => Ok(Some(plan)),
        _ => Err(StoreError::Damaged(format!("entry {key} should be a request for a run"))),
    }
}

async fn lengths(session: &mut Session, needs: &Needs, known: &mut Known) -> Result<(), StoreError> {
    let runs: Vec<&str> = needs.logs.iter().map(|log| log.run.as_str()).collect();
    let nodes: Vec<i64> = needs.logs.iter().map(|log| log.node.0.into()).collect();
    let attempts: Vec<i64> = needs.logs.iter().map(|log| log.attempt.0.into()).collect();
    let sql = "SELECT w.run, w.node, w.attempt, p.ends
               FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w (run, node, attempt)
               JOIN run_keys k ON k.run = w.run
               CROSS JOIN LATERAL (SELECT begins + length AS ends FROM pieces WHERE run = k.key AND node = w.node
               AND attempt = w.attempt ORDER BY begins DESC LIMIT 1) p";
    for found in session.query(sql, &[&runs, &nodes, &attempts]).await? {
        let mut found = row(&found)?;
        let (run, node, attempt) = (RunId::new(found.text()?), found.int()?, found.int()?);
        let node = NodeIx(u32::try_from(node).unwrap_or(u32::MAX));
        let attempt = AttemptNo(u16::try_from(attempt).unwrap_or(u16::MAX));
        known.lengths.insert(LogId { run, node, attempt }, found.int()?);
    }
    Ok(())
}
