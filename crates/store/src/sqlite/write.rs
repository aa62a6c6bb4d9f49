//! Rows into SQLite's tables, inside the transaction that the caller began.

use rusqlite::{Connection, Result};

use crate::cell::int;
use crate::ledger::{EntryRow, Rows};
use crate::prepared::indexed;
use crate::step::Removal;

pub(super) fn rows(connection: &Connection, rows: &Rows) -> Result<()> {
    log(connection, rows)?;
    read_models(connection, rows)?;
    beside(connection, rows)
}

fn log(connection: &Connection, rows: &Rows) -> Result<()> {
    for new in &rows.keys {
        let sql = "INSERT INTO run_keys (key, run, project, number) VALUES (?1, ?2, ?3, ?4)";
        let row = (int(new.key), new.run.as_str(), new.project.as_str(), int(new.number));
        connection.prepare_cached(sql)?.execute(row)?;
    }
    let sql = "INSERT INTO entries (sequence, at, run, run_sequence, kind, encoding, length, payload, hash)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut insert = connection.prepare_cached(sql)?;
    for entry in &rows.entries {
        let EntryRow { sequence, at, run, kind, payload, hash } = entry;
        let (run, run_sequence) = run.map_or((None, 0), |(run, sequence)| (Some(int(run)), int(sequence)));
        let (encoding, length) = (int(payload.encoding.number()), int(payload.length));
        insert.execute((int(*sequence), int(*at), run, run_sequence, kind, encoding, length, &payload.bytes, hash))?;
    }
    Ok(())
}

/// What can be made anew from the log.
pub(super) fn read_models(connection: &Connection, rows: &Rows) -> Result<()> {
    for (key, run) in &rows.runs {
        let sql = "INSERT INTO runs (key, project, pipeline, branch, revision, ended, outcome, summary)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                   ON CONFLICT (key) DO UPDATE SET ended = ?6, outcome = ?7, summary = ?8";
        let (ended, outcome) = (run.ended.map(|at| int(at.0)), run.outcome.map(|outcome| outcome.word()));
        let summary = serde_json::to_string(run).unwrap_or_default();
        let [pipeline, branch, commit] = [&run.pipeline, &run.branch, &run.commit].map(|text| indexed(text));
        let row = (int(*key), run.project.as_str(), pipeline, branch, commit, ended, outcome, summary);
        connection.prepare_cached(sql)?.execute(row)?;
    }
    for ((kind, key), record) in &rows.records {
        match record {
            Some((version, body)) => {
                let sql = "INSERT OR REPLACE INTO records (kind, key, version, body) VALUES (?1, ?2, ?3, ?4)";
                connection.prepare_cached(sql)?.execute((kind, key, int(*version), body))?;
            }
            None => {
                connection.prepare_cached("DELETE FROM records WHERE kind = ?1 AND key = ?2")?.execute((kind, key))?;
            }
        }
    }
    for ((run, node, name), (version, body)) in &rows.artifacts {
        let sql = "INSERT OR REPLACE INTO artifacts (run, node, name, version, body) VALUES (?1, ?2, ?3, ?4, ?5)";
        connection.prepare_cached(sql)?.execute((int(*run), node, name, version, body))?;
    }
    for ((project, step), (took, at)) in &rows.timings {
        let sql = "INSERT OR REPLACE INTO timings (project, step, took, at) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute((project.as_str(), &**step, int(*took), int(*at)))?;
    }
    Ok(())
}

fn beside(connection: &Connection, rows: &Rows) -> Result<()> {
    for came in &rows.deliveries {
        let sql = "INSERT INTO deliveries (id, project, at, source, headers, encoding, length, body)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (encoding, length) = (int(came.body.encoding.number()), int(came.body.length));
        let (project, at) = (came.project.as_str(), int(came.at.0));
        let row = (&came.id, project, at, &came.source, &came.headers, encoding, length, &came.body.bytes);
        connection.prepare_cached(sql)?.execute(row)?;
    }
    for settled in &rows.settled {
        let sql = "UPDATE deliveries SET settled = ?2, outcome = ?3 WHERE id = ?1 AND settled IS NULL";
        connection.prepare_cached(sql)?.execute((&settled.id, int(settled.at.0), &settled.outcome))?;
    }
    for (run, piece) in &rows.pieces {
        let sql = "INSERT INTO pieces (run, node, attempt, begins, length, encoding, bytes)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (log, packed) = (&piece.log, &piece.packed);
        let (begins, length, encoding) = (int(piece.offset), int(packed.length), int(packed.encoding.number()));
        let row = (int(*run), log.node.0, log.attempt.0, begins, length, encoding, &packed.bytes);
        connection.prepare_cached(sql)?.execute(row)?;
    }
    for (id, errand) in &rows.errands {
        match errand {
            Some(errand) => {
                let sql = "INSERT OR REPLACE INTO errands (id, kind, due, tries, body) VALUES (?1, ?2, ?3, ?4, ?5)";
                let row = (id, &errand.kind, int(errand.due.0), errand.tries, errand.body.to_string());
                connection.prepare_cached(sql)?.execute(row)?;
            }
            None => {
                connection.prepare_cached("DELETE FROM errands WHERE id = ?1")?.execute([id])?;
            }
        }
    }
    Ok(())
}

/// Empties what can be made anew from the log, but for timings: what those came from retention may have removed.
pub(super) fn clear(connection: &Connection) -> Result<()> {
    connection.execute_batch("DELETE FROM runs; DELETE FROM records; DELETE FROM artifacts")
}

pub(super) fn remove(connection: &Connection, removal: &Removal) -> Result<()> {
    for run in &removal.runs {
        for (table, column) in [("runs", "key"), ("pieces", "run"), ("artifacts", "run")] {
            let sql = format!("DELETE FROM {table} WHERE {column} = ?1");
            connection.prepare_cached(&sql)?.execute([int(*run)])?;
        }
    }
    for (sequence, digest) in &removal.entries {
        let sql = "UPDATE entries SET encoding = 2, length = 0, payload = ?2 WHERE sequence = ?1";
        connection.prepare_cached(sql)?.execute((int(*sequence), digest))?;
    }
    for sequence in &removal.deliveries {
        let sql = "UPDATE deliveries SET headers = '[]', encoding = 0, length = 0, body = x'' WHERE sequence = ?1";
        connection.prepare_cached(sql)?.execute([int(*sequence)])?;
    }
    Ok(())
}
