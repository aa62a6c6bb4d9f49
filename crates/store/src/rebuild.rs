//! The read models from zero: the log is read from its beginning, and what it says is folded as if it happened now.

use std::collections::BTreeMap;

use model::{Fact, ProjectId, RunEvent, RunId, RunSummary, Timestamp};

use crate::StoreError;
use crate::cell::{Param, Row, int, parse};
use crate::entry::{ChangeSaid, Does};
use crate::ledger::{Head, Rows, plan_of, project_fact};
use crate::read::Reader;
use crate::step::Step;

/// Entries that are folded at once.
const PAGE: i64 = 1000;

/// Where the fold stands.
pub(crate) struct Fold<'a> {
    reader: &'a Reader,
    /// Runs that have not ended.
    heads: BTreeMap<u64, Head>,
    cleared: bool,
    /// The last entry that was folded.
    pub entries: u64,
}

/// An entry that still says something.
struct Entry {
    sequence: u64,
    at: Timestamp,
    run: Option<(u64, ProjectId, RunId)>,
    says: Vec<u8>,
}

impl<'a> Fold<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Fold<'a> {
        Fold { reader, heads: BTreeMap::new(), cleared: false, entries: 0 }
    }

    /// The next step of rebuilding.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, StoreError> {
        if !std::mem::replace(&mut self.cleared, true) {
            return Ok(Some(Step::Clear));
        }
        let page = self.page()?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut rows = Rows::default();
        for row in page {
            if let Some(entry) = self.read(row)? {
                self.take(entry, &mut rows)?;
            }
        }
        Ok(Some(Step::Models(rows)))
    }

    fn page(&self) -> Result<Vec<Row>, StoreError> {
        let sql = "SELECT e.sequence, e.at, e.run, k.project, k.run, e.encoding, e.length, e.payload
                   FROM entries e LEFT JOIN run_keys k ON k.key = e.run
                   WHERE e.sequence > ?1 ORDER BY e.sequence LIMIT ?2";
        self.reader.query(sql, &[Param::Int(int(self.entries)), Param::Int(PAGE)])
    }

    fn read(&mut self, mut row: Row) -> Result<Option<Entry>, StoreError> {
        let (sequence, at) = (row.int()?, Timestamp(row.int()?));
        self.entries = sequence;
        let (key, project, run) = (row.maybe_int()?, row.maybe_text()?, row.maybe_text()?);
        let run =
            key.map(|key| (key, ProjectId::new(project.unwrap_or_default()), RunId::new(run.unwrap_or_default())));
        Ok(row.packed()?.open()?.map(|says| Entry { sequence, at, run, says }))
    }

    fn take(&mut self, entry: Entry, rows: &mut Rows) -> Result<(), StoreError> {
        let Entry { sequence, at, run, says } = entry;
        let Some((key, project, run)) = run else {
            let said: ChangeSaid = parse(&says)?;
            let record = (said.kind, said.key);
            match said.does {
                Does::Note => None,
                Does::Remove => rows.records.insert(record, None),
                Does::Put => rows.records.insert(record, Some((sequence, said.body.unwrap_or_default().to_string()))),
            };
            return Ok(());
        };
        let event: RunEvent = parse(&says)?;
        let fact = Fact { at, run, event };
        if let Some(summary) = RunSummary::first(&project, &fact) {
            rows.runs.insert(key, summary.clone());
            self.heads.insert(key, Head { key, facts: 0, summary: Some(summary), plan: plan_of(&fact) });
        } else if !self.heads.contains_key(&key) {
            let head = self.head_before(key, sequence, &project, &fact.run)?;
            self.heads.insert(key, head);
        }
        if let Some(head) = self.heads.get_mut(&key) {
            project_fact(head, &project, &fact, rows);
            if head.summary.as_ref().is_some_and(|summary| summary.ended.is_some()) {
                self.heads.remove(&key);
            }
        }
        Ok(())
    }

    /// A run that had ended, for the rare fact that comes after.
    fn head_before(&self, key: u64, before: u64, project: &ProjectId, run: &RunId) -> Result<Head, StoreError> {
        let mut head = Head { key, facts: 0, summary: None, plan: None };
        let sql = "SELECT at, encoding, length, payload FROM entries WHERE run = ?1 AND sequence < ?2
                   ORDER BY run_sequence";
        for mut row in self.reader.query(sql, &[Param::Int(int(key)), Param::Int(int(before))])? {
            let at = Timestamp(row.int()?);
            let Some(says) = row.packed()?.open()? else { continue };
            let fact = Fact { at, run: run.clone(), event: parse(&says)? };
            head.plan = head.plan.or_else(|| plan_of(&fact));
            head.summary = head.summary.or_else(|| RunSummary::first(project, &fact));
            if let Some(summary) = &mut head.summary {
                summary.fold(&fact);
            }
        }
        Ok(head)
    }
}
