//! Rows into PostgreSQL's tables, many a statement, inside the transaction that the caller began.

use tokio_postgres::Error;

use super::Session;
use crate::cell::int;
use crate::ledger::{Ledger, Rows};
use crate::prepared::indexed;
use crate::step::Removal;

/// The end of the log, a sign of life if we lead, and that we were here.
pub(super) async fn head(session: &mut Session, ledger: &Ledger, id: &str, commits: u64) -> Result<(), Error> {
    let sql = "WITH told AS (INSERT INTO writers VALUES ($3, $4, clock_timestamp())
               ON CONFLICT (id) DO UPDATE SET commits = $4, at = clock_timestamp())
               UPDATE head SET sequence = $1, hash = $2, leads_until = CASE WHEN holder = $3
               THEN clock_timestamp() + make_interval(secs => 3.5) ELSE leads_until END WHERE one = 1";
    session.execute(sql, &[&int(ledger.sequence), &&ledger.hash[..], &id, &int(commits)]).await.map(drop)
}

pub(super) async fn rows(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    log(session, rows).await?;
    read_models(session, rows).await?;
    deliveries(session, rows).await?;
    pieces(session, rows).await?;
    errands(session, rows).await
}

async fn log(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    if !rows.keys.is_empty() {
        let keys: Vec<i64> = rows.keys.iter().map(|new| int(new.key)).collect();
        let runs: Vec<&str> = rows.keys.iter().map(|new| new.run.as_str()).collect();
        let projects: Vec<&str> = rows.keys.iter().map(|new| new.project.as_str()).collect();
        let numbers: Vec<i64> = rows.keys.iter().map(|new| int(new.number)).collect();
        let sql = "INSERT INTO run_keys (key, run, project, number)
                   SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])";
        session.execute(sql, &[&keys, &runs, &projects, &numbers]).await?;
    }
    if rows.entries.is_empty() {
        return Ok(());
    }
    let entries = &rows.entries;
    let sequences: Vec<i64> = entries.iter().map(|entry| int(entry.sequence)).collect();
    let ats: Vec<i64> = entries.iter().map(|entry| int(entry.at)).collect();
    let runs: Vec<Option<i64>> = entries.iter().map(|entry| entry.run.map(|(run, _)| int(run))).collect();
    let numbers: Vec<i64> = entries.iter().map(|entry| entry.run.map_or(0, |(_, number)| int(number))).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    let encodings: Vec<i64> = entries.iter().map(|entry| int(entry.payload.encoding.number())).collect();
    let lengths: Vec<i64> = entries.iter().map(|entry| int(entry.payload.length)).collect();
    let payloads: Vec<&[u8]> = entries.iter().map(|entry| &entry.payload.bytes[..]).collect();
    let hashes: Vec<&[u8]> = entries.iter().map(|entry| &entry.hash[..]).collect();
    let sql = "INSERT INTO entries (sequence, at, run, run_sequence, kind, encoding, length, payload, hash)
               SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
               $7::bigint[], $8::bytea[], $9::bytea[])";
    let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [&sequences, &ats, &runs, &numbers, &kinds, &encodings, &lengths, &payloads, &hashes];
    session.execute(sql, &columns).await.map(drop)
}

/// What can be made anew from the log.
pub(super) async fn read_models(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    runs(session, rows).await?;
    records(session, rows).await?;
    if !rows.artifacts.is_empty() {
        let runs: Vec<i64> = rows.artifacts.keys().map(|(run, ..)| int(*run)).collect();
        let nodes: Vec<i64> = rows.artifacts.keys().map(|(_, node, _)| (*node).into()).collect();
        let names: Vec<&str> = rows.artifacts.keys().map(|(.., name)| name.as_str()).collect();
        let versions: Vec<Option<&str>> = rows.artifacts.values().map(|(version, _)| version.as_deref()).collect();
        let bodies: Vec<&str> = rows.artifacts.values().map(|(_, body)| body.as_str()).collect();
        let sql = "INSERT INTO artifacts (run, node, name, version, body)
                   SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])
                   ON CONFLICT (run, node, name) DO UPDATE SET version = excluded.version, body = excluded.body";
        session.execute(sql, &[&runs, &nodes, &names, &versions, &bodies]).await?;
    }
    if !rows.timings.is_empty() {
        let projects: Vec<&str> = rows.timings.keys().map(|(project, _)| project.as_str()).collect();
        let steps: Vec<&str> = rows.timings.keys().map(|(_, step)| &**step).collect();
        let took: Vec<i64> = rows.timings.values().map(|(took, _)| int(*took)).collect();
        let ats: Vec<i64> = rows.timings.values().map(|(_, at)| int(*at)).collect();
        let sql = "INSERT INTO timings (project, step, took, at)
                   SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
                   ON CONFLICT (project, step) DO UPDATE SET took = excluded.took, at = excluded.at";
        session.execute(sql, &[&projects, &steps, &took, &ats]).await?;
    }
    Ok(())
}

async fn runs(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    if rows.runs.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = rows.runs.keys().map(|key| int(*key)).collect();
    let projects: Vec<&str> = rows.runs.values().map(|run| run.project.as_str()).collect();
    let pipelines: Vec<String> = rows.runs.values().map(|run| indexed(&run.pipeline)).collect();
    let branches: Vec<String> = rows.runs.values().map(|run| indexed(&run.branch)).collect();
    let revisions: Vec<String> = rows.runs.values().map(|run| indexed(&run.commit)).collect();
    let ended: Vec<Option<i64>> = rows.runs.values().map(|run| run.ended.map(|at| int(at.0))).collect();
    let outcomes: Vec<Option<&str>> = rows.runs.values().map(|run| run.outcome.map(|outcome| outcome.word())).collect();
    let summaries: Vec<String> = rows.runs.values().map(|run| serde_json::to_string(run).unwrap_or_default()).collect();
    let sql = "INSERT INTO runs (key, project, pipeline, branch, revision, ended, outcome, summary)
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
               $7::text[], $8::text[])
               ON CONFLICT (key) DO UPDATE SET ended = excluded.ended, outcome = excluded.outcome,
               summary = excluded.summary";
    let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&keys, &projects, &pipelines, &branches, &revisions, &ended, &outcomes, &summaries];
    session.execute(sql, &columns).await.map(drop)
}

async fn records(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    let gone = rows.records.iter().filter(|(_, record)| record.is_none());
    let (kinds, keys): (Vec<&str>, Vec<&str>) = gone.map(|((kind, key), _)| (kind.as_str(), key.as_str())).unzip();
    if !kinds.is_empty() {
        let sql = "DELETE FROM records WHERE (kind, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        session.execute(sql, &[&kinds, &keys]).await?;
    }
    let put: Vec<_> = rows.records.iter().filter_map(|(id, record)| Some((id, record.as_ref()?))).collect();
    if put.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = put.iter().map(|((kind, _), _)| kind.as_str()).collect();
    let keys: Vec<&str> = put.iter().map(|((_, key), _)| key.as_str()).collect();
    let versions: Vec<i64> = put.iter().map(|(_, (version, _))| int(*version)).collect();
    let bodies: Vec<&str> = put.iter().map(|(_, (_, body))| body.as_str()).collect();
    let sql = "INSERT INTO records (kind, key, version, body)
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
               ON CONFLICT (kind, key) DO UPDATE SET version = excluded.version, body = excluded.body";
    session.execute(sql, &[&kinds, &keys, &versions, &bodies]).await.map(drop)
}

async fn deliveries(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    for came in &rows.deliveries {
        let sql = "INSERT INTO deliveries (id, project, at, source, headers, encoding, length, body)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let (encoding, length) = (int(came.body.encoding.number()), int(came.body.length));
        let (project, at) = (came.project.as_str(), int(came.at.0));
        let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [&came.id, &project, &at, &came.source, &came.headers, &encoding, &length, &came.body.bytes];
        session.execute(sql, &columns).await?;
    }
    for settled in &rows.settled {
        let sql = "UPDATE deliveries SET settled = $2, outcome = $3 WHERE id = $1 AND settled IS NULL";
        session.execute(sql, &[&settled.id, &int(settled.at.0), &settled.outcome]).await?;
    }
    Ok(())
}

async fn pieces(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    if rows.pieces.is_empty() {
        return Ok(());
    }
    let pieces = &rows.pieces;
    let runs: Vec<i64> = pieces.iter().map(|(run, _)| int(*run)).collect();
    let nodes: Vec<i64> = pieces.iter().map(|(_, piece)| piece.log.node.0.into()).collect();
    let attempts: Vec<i64> = pieces.iter().map(|(_, piece)| piece.log.attempt.0.into()).collect();
    let begins: Vec<i64> = pieces.iter().map(|(_, piece)| int(piece.offset)).collect();
    let lengths: Vec<i64> = pieces.iter().map(|(_, piece)| int(piece.packed.length)).collect();
    let encodings: Vec<i64> = pieces.iter().map(|(_, piece)| int(piece.packed.encoding.number())).collect();
    let bytes: Vec<&[u8]> = pieces.iter().map(|(_, piece)| &piece.packed.bytes[..]).collect();
    let sql = "INSERT INTO pieces (run, node, attempt, begins, length, encoding, bytes)
               SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
               $7::bytea[])";
    session.execute(sql, &[&runs, &nodes, &attempts, &begins, &lengths, &encodings, &bytes]).await.map(drop)
}

async fn errands(session: &mut Session, rows: &Rows) -> Result<(), Error> {
    let done: Vec<&str> =
        rows.errands.iter().filter(|(_, errand)| errand.is_none()).map(|(id, _)| id.as_str()).collect();
    if !done.is_empty() {
        session.execute("DELETE FROM errands WHERE id = ANY($1)", &[&done]).await?;
    }
    let open: Vec<_> = rows.errands.values().flatten().collect();
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = open.iter().map(|errand| errand.id.as_str()).collect();
    let kinds: Vec<&str> = open.iter().map(|errand| errand.kind.as_str()).collect();
    let due: Vec<i64> = open.iter().map(|errand| int(errand.due.0)).collect();
    let tries: Vec<i64> = open.iter().map(|errand| errand.tries.into()).collect();
    let bodies: Vec<String> = open.iter().map(|errand| errand.body.to_string()).collect();
    let sql = "INSERT INTO errands (id, kind, due, tries, body)
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
               ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, due = excluded.due, tries = excluded.tries,
               body = excluded.body";
    session.execute(sql, &[&ids, &kinds, &due, &tries, &bodies]).await.map(drop)
}

/// Empties what can be made anew from the log, but for timings: what those came from retention may have removed.
pub(super) async fn clear(session: &Session) -> Result<(), Error> {
    session.client.batch_execute("DELETE FROM runs; DELETE FROM records; DELETE FROM artifacts").await
}

pub(super) async fn remove(session: &mut Session, removal: &Removal) -> Result<(), Error> {
    let runs: Vec<i64> = removal.runs.iter().map(|run| int(*run)).collect();
    session.execute("DELETE FROM runs WHERE key = ANY($1)", &[&runs]).await?;
    session.execute("DELETE FROM pieces WHERE run = ANY($1)", &[&runs]).await?;
    session.execute("DELETE FROM artifacts WHERE run = ANY($1)", &[&runs]).await?;
    let sequences: Vec<i64> = removal.entries.iter().map(|(sequence, _)| int(*sequence)).collect();
    let digests: Vec<&[u8]> = removal.entries.iter().map(|(_, digest)| &digest[..]).collect();
    let sql = "UPDATE entries SET encoding = 2, length = 0, payload = gone.digest
               FROM unnest($1::bigint[], $2::bytea[]) AS gone (sequence, digest) WHERE entries.sequence = gone.sequence";
    session.execute(sql, &[&sequences, &digests]).await?;
    let deliveries: Vec<i64> = removal.deliveries.iter().map(|sequence| int(*sequence)).collect();
    let sql = "UPDATE deliveries SET headers = '[]', encoding = 0, length = 0, body = '' WHERE sequence = ANY($1)";
    session.execute(sql, &[&deliveries]).await.map(drop)
}
