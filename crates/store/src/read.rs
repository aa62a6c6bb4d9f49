//! Questions and their answers, written once for both backends: `?1` is a parameter.

use model::{Fact, ProjectId, RunEvent, RunId, RunNumber, RunSummary, Timestamp};

use crate::batch::{Delivery, Errand, LogId, ProjectFact};
use crate::cell::{Param, Row, int, parse, text};
use crate::entry::ChangeSaid;
use crate::prepared::indexed;
use crate::query::{Artifact, Audited, Counts, DeliveryRow, LogPart, RunQuery, Sequenced, Timing};
use crate::record::{Kept, Record};
use crate::{Epoch, StoreError, postgres, sqlite};

/// Runs of one page.
const RUNS_MAX: usize = 500;
/// What of a log is read at once, at most.
const LOG_PART_BYTES_MAX: usize = 16 << 20;
/// Pieces that are read at once for a part of a log: a step that writes a line at a time makes small ones.
const PIECES_MAX: i64 = 256;

/// Open deliveries of one project that are handed out at a time.
const OF_ONE_PROJECT_MAX: usize = 20;

/// Where is read from.
#[derive(Debug)]
pub(crate) enum Reader {
    Sqlite(sqlite::Reading),
    Postgres(postgres::Reading),
}

impl Reader {
    pub(crate) fn query(&self, sql: &str, params: &[Param]) -> Result<Vec<Row>, StoreError> {
        match self {
            Reader::Sqlite(sqlite) => sqlite.query(sql, params),
            Reader::Postgres(postgres) => postgres.query(sql, params),
        }
    }

    fn one(&self, sql: &str, params: &[Param]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    pub(crate) fn facts_of(&self, run: &RunId) -> Result<Vec<Fact>, StoreError> {
        let sql = "SELECT e.at, e.encoding, e.length, e.payload FROM entries e JOIN run_keys k ON k.key = e.run
                   WHERE k.run = ?1 ORDER BY e.run_sequence";
        let rows = self.query(sql, &[text(run.as_str())])?;
        let facts = rows.into_iter().map(|mut row| fact(run.clone(), &mut row));
        facts.filter_map(Result::transpose).collect()
    }

    pub(crate) fn facts_of_after(&self, run: &RunId, after: u64, max: usize) -> Result<Vec<Fact>, StoreError> {
        let sql = "SELECT e.at, e.encoding, e.length, e.payload FROM entries e JOIN run_keys k ON k.key = e.run
                   WHERE k.run = ?1 AND e.run_sequence > ?2 ORDER BY e.run_sequence LIMIT ?3";
        let rows = self.query(sql, &[text(run.as_str()), Param::Int(int(after)), limit(max)])?;
        let facts = rows.into_iter().map(|mut row| fact(run.clone(), &mut row));
        facts.filter_map(Result::transpose).collect()
    }

    pub(crate) fn facts_after(&self, sequence: u64, max: usize) -> Result<Vec<Sequenced<ProjectFact>>, StoreError> {
        let sql = "SELECT e.sequence, k.project, k.run, e.at, e.encoding, e.length, e.payload
                   FROM entries e JOIN run_keys k ON k.key = e.run
                   WHERE e.sequence > ?1 AND e.encoding < 2 ORDER BY e.sequence LIMIT ?2";
        let rows = self.query(sql, &[Param::Int(int(sequence)), limit(max)])?;
        let facts = rows.into_iter().map(|mut row| {
            let sequence = row.int()?;
            let (project, run) = (ProjectId::new(row.text()?), RunId::new(row.text()?));
            let fact = fact(run, &mut row)?;
            Ok(fact.map(|fact| Sequenced { sequence, value: ProjectFact { project, fact } }))
        });
        facts.filter_map(Result::transpose).collect()
    }

    pub(crate) fn last_sequence(&self) -> Result<u64, StoreError> {
        self.one("SELECT sequence FROM head", &[])?.map_or(Ok(0), |mut row| row.int())
    }

    pub(crate) fn active_runs(&self) -> Result<Vec<RunSummary>, StoreError> {
        let rows = self.query("SELECT summary FROM runs WHERE ended IS NULL ORDER BY key", &[])?;
        rows.into_iter().map(|mut row| row.json()).collect()
    }

    pub(crate) fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        let sql = "SELECT r.summary FROM runs r JOIN run_keys k ON k.key = r.key WHERE k.run = ?1";
        self.one(sql, &[text(run.as_str())])?.map(|mut row| row.json()).transpose()
    }

    pub(crate) fn run_numbered(
        &self,
        project: &ProjectId,
        number: RunNumber,
    ) -> Result<Option<RunSummary>, StoreError> {
        let sql = "SELECT r.summary FROM run_keys k JOIN runs r ON r.key = k.key
                   WHERE k.project = ?1 AND k.number = ?2 ORDER BY k.key DESC LIMIT 1";
        let params = [text(project.as_str()), Param::Int(int(number.0))];
        self.one(sql, &params)?.map(|mut row| row.json()).transpose()
    }

    pub(crate) fn runs(&self, query: &RunQuery) -> Result<Vec<Sequenced<RunSummary>>, StoreError> {
        let (sql, params) = list_of_runs(query);
        let rows = self.query(&sql, &params)?;
        rows.into_iter().map(|mut row| Ok(Sequenced { sequence: row.int()?, value: row.json()? })).collect()
    }

    pub(crate) fn last_number(&self, project: &ProjectId) -> Result<RunNumber, StoreError> {
        let sql = "SELECT MAX(number) FROM run_keys WHERE project = ?1";
        let number = self.one(sql, &[text(project.as_str())])?.map_or(Ok(None), |mut row| row.maybe_int())?;
        Ok(RunNumber(number.unwrap_or(0)))
    }

    pub(crate) fn open_deliveries(&self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        // A project whose repository cannot be reached for a day must not hide those of the others.
        let sql = format!(
            "SELECT {DELIVERY} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY project ORDER BY sequence) AS place
             FROM deliveries WHERE settled IS NULL) AS open WHERE place <= {OF_ONE_PROJECT_MAX}
             ORDER BY sequence LIMIT ?1"
        );
        self.query(&sql, &[limit(max)])?.into_iter().map(|mut row| delivery(&mut row)).collect()
    }

    pub(crate) fn delivery(&self, id: &str) -> Result<Option<(Delivery, DeliveryRow)>, StoreError> {
        let sql = format!("SELECT {DELIVERY}, settled, outcome FROM deliveries WHERE id = ?1");
        let Some(mut row) = self.one(&sql, &[text(id)])? else { return Ok(None) };
        let delivery = delivery(&mut row)?;
        let settled = settled(&mut row)?;
        let Delivery { id, project, at, source, .. } = delivery.clone();
        Ok(Some((delivery, DeliveryRow { id, project, at, source, settled })))
    }

    pub(crate) fn deliveries(
        &self,
        project: Option<&ProjectId>,
        before: Option<u64>,
        max: usize,
    ) -> Result<Vec<Sequenced<DeliveryRow>>, StoreError> {
        let mut params = vec![Param::Int(before.map_or(i64::MAX, int)), limit(max)];
        params.extend(project.map(|project| text(project.as_str())));
        let of = if project.is_some() { "AND project = ?3" } else { "" };
        let sql = format!(
            "SELECT sequence, id, project, at, source, settled, outcome FROM deliveries
             WHERE sequence < ?1 {of} ORDER BY sequence DESC LIMIT ?2"
        );
        let rows = self.query(&sql, &params)?.into_iter().map(|mut row| {
            let sequence = row.int()?;
            let (id, project) = (row.text()?, ProjectId::new(row.text()?));
            let (at, source) = (Timestamp(row.int()?), row.text()?);
            let value = DeliveryRow { id, project, at, source, settled: settled(&mut row)? };
            Ok(Sequenced { sequence, value })
        });
        rows.collect()
    }

    pub(crate) fn log(&self, log: &LogId, offset: u64, max: usize) -> Result<LogPart, StoreError> {
        let Some(mut row) = self.one("SELECT key FROM run_keys WHERE run = ?1", &[text(log.run.as_str())])? else {
            return Ok(LogPart::default());
        };
        let whose = [row.int()?, u64::from(log.node.0), u64::from(log.attempt.0)].map(|part| Param::Int(int(part)));
        let end = "SELECT begins + length FROM pieces WHERE run = ?1 AND node = ?2 AND attempt = ?3
                   ORDER BY begins DESC LIMIT 1";
        let length = self.one(end, &whose)?.map_or(Ok(0), |mut row| row.int())?;
        let wanted =
            usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX).min(max).min(LOG_PART_BYTES_MAX);
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < wanted {
            let before = bytes.len();
            self.log_pieces(&whose, offset + bytes.len() as u64, wanted, &mut bytes)?;
            if bytes.len() == before {
                return Err(StoreError::Damaged(format!("the log of {} has a hole at byte {offset}", log.run)));
            }
        }
        Ok(LogPart { bytes, length })
    }

    /// Some pieces from `offset` on, until `bytes` has as many as are wanted.
    fn log_pieces(
        &self,
        whose: &[Param; 3],
        offset: u64,
        wanted: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let sql = "SELECT begins, encoding, length, bytes FROM pieces
                   WHERE run = ?1 AND node = ?2 AND attempt = ?3 AND begins >= COALESCE((SELECT MAX(begins) FROM pieces
                   WHERE run = ?1 AND node = ?2 AND attempt = ?3 AND begins <= ?4), 0) ORDER BY begins LIMIT ?5";
        let [run, node, attempt] = whose.clone();
        // The whole of a small part in one question, and never much more than is wanted of a large one.
        let pieces = int((wanted - bytes.len()) as u64 / 4096 + 2).min(PIECES_MAX);
        let mut at = offset;
        for mut row in self.query(sql, &[run, node, attempt, Param::Int(int(offset)), Param::Int(pieces)])? {
            let begins = row.int()?;
            let piece = row.packed()?.open()?.unwrap_or_default();
            let skip = usize::try_from(at.saturating_sub(begins)).unwrap_or(usize::MAX);
            if begins > at || skip >= piece.len() {
                return Ok(());
            }
            let take = (piece.len() - skip).min(wanted - bytes.len());
            bytes.extend_from_slice(&piece[skip..skip + take]);
            at += take as u64;
            if bytes.len() >= wanted {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(crate) fn errands_due(&self, now: Timestamp, max: usize) -> Result<Vec<Errand>, StoreError> {
        let sql = "SELECT id, kind, due, tries, body FROM errands WHERE due <= ?1 ORDER BY due, id LIMIT ?2";
        let rows = self.query(sql, &[Param::Int(int(now.0)), limit(max)])?.into_iter().map(|mut row| {
            let (id, kind, due) = (row.text()?, row.text()?, Timestamp(row.int()?));
            let tries = u32::try_from(row.int()?).unwrap_or(u32::MAX);
            Ok(Errand { id, kind, due, tries, body: row.json()? })
        });
        rows.collect()
    }

    pub(crate) fn record<T: Record>(&self, key: &str) -> Result<Option<Kept<T>>, StoreError> {
        let sql = "SELECT version, body FROM records WHERE kind = ?1 AND key = ?2";
        self.one(sql, &[text(T::KIND), text(key)])?.map(kept).transpose()
    }

    pub(crate) fn records<T: Record>(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Kept<T>>, StoreError> {
        let sql = "SELECT version, body FROM records
                   WHERE kind = ?1 AND key >= ?2 AND key > ?3 AND key < ?4 ORDER BY key LIMIT ?5";
        // The last character there is ends every text that begins with the prefix.
        let end = format!("{prefix}{}", char::MAX);
        let rows = self.query(sql, &[text(T::KIND), text(prefix), text(after), text(&end), limit(max)])?;
        rows.into_iter().map(kept).collect()
    }

    pub(crate) fn audit(&self, before: Option<u64>, max: usize) -> Result<Vec<Sequenced<Audited>>, StoreError> {
        let sql = "SELECT sequence, at, encoding, length, payload FROM entries
                   WHERE run IS NULL AND sequence < ?1 ORDER BY sequence DESC LIMIT ?2";
        let rows = self.query(sql, &[Param::Int(before.map_or(i64::MAX, int)), limit(max)])?;
        let acts = rows.into_iter().map(|mut row| {
            let (sequence, at) = (row.int()?, Timestamp(row.int()?));
            let said: ChangeSaid = parse(&row.packed()?.open()?.unwrap_or_default())?;
            let ChangeSaid { by, act, kind, key, .. } = said;
            Ok(Sequenced { sequence, value: Audited { at, by, act, kind, key } })
        });
        acts.collect()
    }

    pub(crate) fn artifacts_of(&self, run: &RunId) -> Result<Vec<Artifact>, StoreError> {
        let sql = "SELECT a.node, a.body FROM artifacts a JOIN run_keys k ON k.key = a.run
                   WHERE k.run = ?1 ORDER BY a.node, a.name";
        let rows = self.query(sql, &[text(run.as_str())])?.into_iter().map(|mut row| {
            let node = model::NodeIx(u32::try_from(row.int()?).unwrap_or(u32::MAX));
            Ok(Artifact { node, artifact: row.json()? })
        });
        rows.collect()
    }

    pub(crate) fn timings(&self, project: &ProjectId) -> Result<Vec<Timing>, StoreError> {
        let sql = "SELECT step, took, at FROM timings WHERE project = ?1 ORDER BY at DESC LIMIT 10000";
        let rows = self.query(sql, &[text(project.as_str())])?.into_iter().map(|mut row| {
            let (step, took) = (row.text()?, std::time::Duration::from_millis(row.int()?));
            Ok(Timing { step, took, at: Timestamp(row.int()?) })
        });
        rows.collect()
    }

    /// One process has a file of SQLite, so nobody else can lead there.
    pub(crate) fn is_newest(&self, epoch: Epoch) -> Result<bool, StoreError> {
        match self {
            Reader::Sqlite(_) => Ok(true),
            Reader::Postgres(_) => match self.one("SELECT epoch FROM head WHERE one = 1", &[])? {
                Some(mut row) => Ok(row.int()? == epoch.0),
                None => Ok(false),
            },
        }
    }

    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT (SELECT sequence FROM head), (SELECT COUNT(*) FROM runs WHERE ended IS NULL),
                   (SELECT COUNT(*) FROM deliveries WHERE settled IS NULL), (SELECT COUNT(*) FROM errands)";
        let Some(mut row) = self.one(sql, &[])? else { return Ok(Counts::default()) };
        Ok(Counts { entries: row.int()?, active_runs: row.int()?, open_deliveries: row.int()?, errands: row.int()? })
    }
}

fn list_of_runs(query: &RunQuery) -> (String, Vec<Param>) {
    let mut params = Vec::new();
    let mut conditions = Vec::new();
    let mut narrow = |column: &str, param: Param| {
        params.push(param);
        conditions.push(format!("{column} ?{}", params.len()));
    };
    let RunQuery { project, branch, commit, pipeline, active, outcome, before, max } = query;
    project.iter().for_each(|project| narrow("project =", text(project.as_str())));
    branch.iter().for_each(|branch| narrow("branch =", Param::Text(indexed(branch))));
    commit
        .iter()
        .filter(|commit| !commit.is_empty())
        .for_each(|commit| narrow("revision <> '' AND revision =", Param::Text(indexed(commit))));
    pipeline.iter().for_each(|pipeline| narrow("pipeline =", Param::Text(indexed(pipeline))));
    outcome.iter().for_each(|outcome| narrow("outcome =", text(outcome.word())));
    before.iter().for_each(|before| narrow("key <", Param::Int(int(*before))));
    if *active {
        conditions.push("ended IS NULL".into());
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let max = if *max == 0 { 50 } else { (*max).min(RUNS_MAX) };
    let sql = format!("SELECT key, summary FROM runs {conditions} ORDER BY key DESC LIMIT {max}");
    (sql, params)
}

const DELIVERY: &str = "id, project, at, source, headers, encoding, length, body";

/// Columns as in [`DELIVERY`].
fn delivery(row: &mut Row) -> Result<Delivery, StoreError> {
    let (id, project, at, source) = (row.text()?, ProjectId::new(row.text()?), Timestamp(row.int()?), row.text()?);
    let headers = row.json()?;
    let body = row.packed()?.open()?.unwrap_or_default();
    Ok(Delivery { id, project, at, source, headers, body })
}

fn settled(row: &mut Row) -> Result<Option<(Timestamp, String)>, StoreError> {
    let (at, outcome) = (row.maybe_int()?, row.maybe_text()?);
    Ok(at.map(|at| (Timestamp(at), outcome.unwrap_or_default())))
}

/// Columns `at`, `encoding`, `length`, `payload`. `None` if retention removed what it says.
fn fact(run: RunId, row: &mut Row) -> Result<Option<Fact>, StoreError> {
    let at = Timestamp(row.int()?);
    let Some(json) = row.packed()?.open()? else { return Ok(None) };
    let event: RunEvent = parse(&json)?;
    Ok(Some(Fact { at, run, event }))
}

fn kept<T: Record>(mut row: Row) -> Result<Kept<T>, StoreError> {
    let version = row.int()?;
    Ok(Kept { version, value: row.json()? })
}

fn limit(max: usize) -> Param {
    Param::Int(int(max as u64))
}

#[cfg(test)]
mod tests {
    use model::RunOutcome;

    use super::*;

    /// With a million runs a list that reads them all, or sorts them, takes seconds.
    #[test]
    fn every_list_of_runs_is_answered_from_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        drop(sqlite::Writing::open(&path).unwrap());
        let reader = Reader::Sqlite(sqlite::Reading::new(&path));
        let all = RunQuery::default();
        let narrowed = [
            RunQuery { branch: Some("main".into()), ..all.clone() },
            RunQuery { pipeline: Some("ci".into()), ..all.clone() },
            RunQuery { outcome: Some(RunOutcome::Failed), ..all.clone() },
            RunQuery { commit: Some("c".into()), ..all.clone() },
            RunQuery { active: true, ..all.clone() },
        ];
        let of_project = |query: &RunQuery| RunQuery { project: Some(ProjectId::new("web")), ..query.clone() };
        let mut queries: Vec<_> = narrowed.iter().map(of_project).collect();
        queries.extend(narrowed[2..].iter().cloned());
        queries.push(of_project(&all));
        for query in queries {
            for before in [None, Some(7)] {
                let (sql, params) = list_of_runs(&RunQuery { before, ..query.clone() });
                let steps = reader.query(&format!("EXPLAIN QUERY PLAN {sql}"), &params).unwrap();
                let plan: Vec<_> = steps.into_iter().map(|step| format!("{step:?}")).collect();
                let plan = plan.join("\n");
                assert!(!plan.contains("TEMP B-TREE"), "{query:?} sorts:\n{plan}");
                assert!(plan.contains("USING INDEX runs_"), "{query:?} reads all:\n{plan}");
            }
        }
    }
}
