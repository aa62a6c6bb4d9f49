//! What a group of batches makes of the tables: decided here, once, for both backends, before a single row is written.
//!
//! A backend says what is known already ([`Known`]), the ledger decides which batches stand and which rows follow from them
//! ([`Rows`]), the backend writes those. A batch that is refused has touched nothing, so its neighbours do not feel it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{AttemptEnd, AttemptResult, Fact, NodeIx, Plan, ProjectId, RunEvent, RunId, RunSummary};

use crate::batch::{Errand, Expect, LogId, Receipt, Settled};
use crate::entry::{CHANGE, Covered, Does, Hash, Packed};
use crate::prepared::{Came, Piece, Prepared, Said, Told, indexed};
use crate::{Epoch, StoreError};

/// Runs whose ends are remembered between commits. Each costs some hundred bytes beside a plan that the desk holds, too.
const HEADS_MAX: usize = 20_000;

/// The end of the log, and of the logs of those runs that grow.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub sequence: u64,
    pub hash: Hash,
    /// Who leads; 0 is nobody.
    pub epoch: u64,
    heads: BTreeMap<RunId, Head>,
}

/// The end of one run's log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Global number of the fact that asked for it: its short name in all tables.
    pub key: u64,
    /// Facts it has.
    pub facts: u64,
    /// `None` once retention removed it.
    pub summary: Option<RunSummary>,
    pub plan: Option<Arc<Plan>>,
}

/// What must be known before a group can be decided.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub runs: BTreeSet<RunId>,
    /// Runs whose plan is needed: a step ended.
    pub plans: BTreeSet<RunId>,
    pub records: BTreeSet<(String, String)>,
    pub deliveries: BTreeSet<String>,
    pub logs: BTreeSet<LogId>,
}

/// What the tables say about it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Those that exist.
    pub runs: BTreeMap<RunId, Head>,
    /// Versions of those that exist.
    pub records: BTreeMap<(String, String), u64>,
    /// Those that came already.
    pub deliveries: BTreeSet<String>,
    /// Lengths of those that have any.
    pub lengths: BTreeMap<LogId, u64>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub entries: Vec<EntryRow>,
    /// Runs that are new, by key.
    pub keys: Vec<RunKey>,
    /// Lines of runs as they are now, by key.
    pub runs: BTreeMap<u64, RunSummary>,
    /// Records as they are now: version and JSON, or gone.
    pub records: BTreeMap<(String, String), Option<(u64, String)>>,
    pub deliveries: Vec<Came>,
    pub settled: Vec<Settled>,
    /// Pieces of logs, by the key of their run.
    pub pieces: Vec<(u64, Piece)>,
    /// Errands as they are now, or done.
    pub errands: BTreeMap<String, Option<Errand>>,
    /// Artifacts by run, instance and name: version, and the rest as JSON.
    pub artifacts: BTreeMap<(u64, u32, String), (Option<String>, String)>,
    /// Milliseconds by project and instance name, and when that was.
    pub timings: BTreeMap<(ProjectId, Arc<str>), (u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct EntryRow {
    pub sequence: u64,
    pub at: u64,
    /// Key of the run and number within it.
    pub run: Option<(u64, u64)>,
    pub kind: String,
    pub payload: Packed,
    pub hash: Hash,
}

#[derive(Debug)]
pub(crate) struct RunKey {
    pub key: u64,
    pub run: RunId,
    pub project: ProjectId,
    pub number: u64,
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.deliveries.is_empty()
            && self.settled.is_empty()
            && self.pieces.is_empty()
            && self.errands.is_empty()
    }
}

impl Needs {
    /// What `batches` touch, but for what the ledger remembers.
    pub(crate) fn of<'a>(ledger: &Ledger, batches: impl Iterator<Item = &'a Prepared>) -> Needs {
        let mut needs = Needs::default();
        for batch in batches {
            for fact in &batch.facts {
                let head = ledger.heads.get(&fact.run);
                if head.is_none() {
                    needs.runs.insert(fact.run.clone());
                }
                if head.is_none_or(|head| head.plan.is_none()) && teaches(&fact.fact).is_some() {
                    needs.runs.insert(fact.run.clone());
                    needs.plans.insert(fact.run.clone());
                }
            }
            for piece in &batch.pieces {
                if !ledger.heads.contains_key(&piece.log.run) {
                    needs.runs.insert(piece.log.run.clone());
                }
                needs.logs.insert(piece.log.clone());
            }
            let records = batch.changes.iter().filter(|change| change.does != Does::Note);
            needs.records.extend(records.map(|change| (change.kind.clone(), change.key.clone())));
            needs.deliveries.extend(batch.deliveries.iter().map(|delivery| delivery.id.clone()));
        }
        needs
    }
}

impl Ledger {
    pub(crate) fn new(sequence: u64, hash: Hash, epoch: u64) -> Ledger {
        Ledger { sequence, hash, epoch, heads: BTreeMap::new() }
    }

    /// Decides a group, in order: what is written, and what each is told once that is durable. If writing fails, forget the
    /// ledger and make a new one from the tables.
    pub(crate) fn settle(
        &mut self,
        group: Vec<(Option<Epoch>, Prepared)>,
        mut known: Known,
    ) -> (Rows, Vec<Result<Receipt, StoreError>>) {
        self.heads.append(&mut known.runs);
        let mut rows = Rows::default();
        let answers = group
            .into_iter()
            .map(|(epoch, batch)| {
                self.check(epoch, &batch, &known)?;
                self.enter(batch, &mut known, &mut rows)
            })
            .collect();
        self.forget();
        (rows, answers)
    }

    /// Everything for which a batch can be refused, without touching anything.
    fn check(&self, epoch: Option<Epoch>, batch: &Prepared, known: &Known) -> Result<(), StoreError> {
        match epoch {
            Some(epoch) if epoch.0 != self.epoch || epoch.0 == 0 => return Err(StoreError::NotLeader),
            None if batch.needs_leader() => return Err(StoreError::NotLeader),
            _ => {}
        }
        let asked = self.check_runs(&batch.facts)?;
        self.check_records(batch, known)?;
        let mut ends: BTreeMap<&LogId, u64> = BTreeMap::new();
        for piece in &batch.pieces {
            let there = self.heads.get(&piece.log.run).is_some_and(|head| head.summary.is_some());
            if !there && !asked.contains(&piece.log.run) {
                return Err(no_run(&piece.log.run));
            }
            let end = ends.entry(&piece.log).or_insert_with(|| known.lengths.get(&piece.log).copied().unwrap_or(0));
            if piece.offset > *end {
                return Err(StoreError::Gap { have: *end, got: piece.offset });
            }
            *end = (*end).max(piece.end());
        }
        Ok(())
    }

    /// Runs that the batch itself asks for.
    fn check_runs<'a>(&self, facts: &'a [Said]) -> Result<BTreeSet<&'a RunId>, StoreError> {
        let mut asked = BTreeSet::new();
        for fact in facts {
            let head = self.heads.get(&fact.run);
            if fact.first.is_some() {
                if head.is_some() || !asked.insert(&fact.run) {
                    return Err(StoreError::Illegal(format!("run `{}` was asked for already", fact.run)));
                }
            } else if !asked.contains(&fact.run) && head.is_none_or(|head| head.summary.is_none()) {
                return Err(no_run(&fact.run));
            }
        }
        Ok(asked)
    }

    fn check_records(&self, batch: &Prepared, known: &Known) -> Result<(), StoreError> {
        let mut now: BTreeMap<(&str, &str), Option<u64>> = BTreeMap::new();
        let before = self.sequence + batch.facts.len() as u64;
        for (change, sequence) in batch.changes.iter().zip(before + 1..) {
            if change.does == Does::Note {
                continue;
            }
            let version = now
                .entry((&change.kind, &change.key))
                .or_insert_with(|| known.records.get(&(change.kind.clone(), change.key.clone())).copied());
            let as_expected = match change.expect {
                Expect::Any | Expect::Nothing => true,
                Expect::Absent => version.is_none(),
                Expect::Version(expected) => *version == Some(expected),
            };
            if !as_expected {
                return Err(StoreError::Conflict { kind: change.kind.clone(), key: change.key.clone() });
            }
            *version = (change.does == Does::Put).then_some(sequence);
        }
        Ok(())
    }

    /// Writes a batch that was checked into the rows.
    fn enter(&mut self, batch: Prepared, known: &mut Known, rows: &mut Rows) -> Result<Receipt, StoreError> {
        let entries = !batch.facts.is_empty() || !batch.changes.is_empty();
        for fact in batch.facts {
            self.enter_fact(fact, rows);
        }
        let versions = batch.changes.into_iter().map(|change| self.enter_change(change, known, rows)).collect();
        let mut fresh = Vec::with_capacity(batch.deliveries.len());
        for delivery in batch.deliveries {
            let new = known.deliveries.insert(delivery.id.clone());
            fresh.push(new);
            if new {
                rows.deliveries.push(delivery);
            }
        }
        rows.settled.extend(batch.settled);
        for piece in batch.pieces {
            let end = known.lengths.entry(piece.log.clone()).or_insert(0);
            let key = self.heads.get(&piece.log.run).map_or(0, |head| head.key);
            if let Some(rest) = piece.behind(*end)? {
                *end = rest.end();
                rows.pieces.push((key, rest));
            }
        }
        rows.errands.extend(batch.errands.into_iter().map(|errand| (errand.id.clone(), Some(errand))));
        rows.errands.extend(batch.errands_done.into_iter().map(|id| (id, None)));
        Ok(Receipt { sequence: if entries { self.sequence } else { 0 }, fresh, versions })
    }

    fn enter_fact(&mut self, said: Said, rows: &mut Rows) {
        let Said { at, project, run, kind, payload, digest, fact, first } = said;
        self.sequence += 1;
        let sequence = self.sequence;
        if let Some(summary) = first {
            let number = summary.number.0;
            rows.keys.push(RunKey { key: sequence, run: run.clone(), project: project.clone(), number });
            rows.runs.insert(sequence, summary.clone());
            let plan = plan_of(&fact);
            self.heads.insert(run.clone(), Head { key: sequence, facts: 0, summary: Some(summary), plan });
        }
        let Some(head) = self.heads.get_mut(&run) else { return };
        head.facts += 1;
        // The project is the run's, whatever the fact came with: the chain is read back with it.
        let project = head.summary.as_ref().map_or(&project, |summary| &summary.project).clone();
        let run_sequence = head.facts;
        self.hash = Covered {
            sequence,
            at,
            project: project.as_str(),
            run: run.as_str(),
            run_sequence,
            kind: &kind,
            says: digest,
        }
        .hash(&self.hash);
        project_fact(head, &project, &fact, rows);
        rows.entries.push(EntryRow {
            sequence,
            at,
            run: Some((head.key, run_sequence)),
            kind,
            payload,
            hash: self.hash,
        });
    }

    fn enter_change(&mut self, told: Told, known: &mut Known, rows: &mut Rows) -> u64 {
        let Told { at, kind, key, does, body, payload, digest, .. } = told;
        self.sequence += 1;
        let sequence = self.sequence;
        self.hash = Covered { sequence, at, project: "", run: "", run_sequence: 0, kind: CHANGE, says: digest }
            .hash(&self.hash);
        rows.entries.push(EntryRow { sequence, at, run: None, kind: CHANGE.into(), payload, hash: self.hash });
        let record = (kind, key);
        match does {
            Does::Note => 0,
            Does::Put => {
                known.records.insert(record.clone(), sequence);
                rows.records.insert(record, Some((sequence, body)));
                sequence
            }
            Does::Remove => {
                known.records.remove(&record);
                rows.records.insert(record, None);
                0
            }
        }
    }

    /// Ended runs hardly grow any more; they are looked up when they do.
    fn forget(&mut self) {
        self.heads.retain(|_, head| head.summary.as_ref().is_some_and(|summary| summary.ended.is_none()));
        if self.heads.len() > HEADS_MAX {
            self.heads.clear();
        }
    }
}

/// What the read models make of a fact: live and when they are rebuilt alike.
pub(crate) fn project_fact(head: &mut Head, project: &ProjectId, fact: &Fact, rows: &mut Rows) {
    if let Some(summary) = &mut head.summary
        && summary.fold(fact)
    {
        rows.runs.insert(head.key, summary.clone());
    }
    let Some((node, result)) = teaches(fact) else { return };
    for artifact in &result.artifacts {
        let rest = serde_json::to_string(artifact).unwrap_or_default();
        let version = artifact.version.as_deref().map(indexed);
        rows.artifacts.insert((head.key, node.0, indexed(&artifact.name)), (version, rest));
    }
    let executed = result.end == AttemptEnd::Succeeded && result.cached.is_none();
    if executed && let Some(planned) = head.plan.as_ref().and_then(|plan| plan.nodes.get(node.at())) {
        let took = u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX);
        let step = indexed(&planned.name).into();
        rows.timings.insert((project.clone(), step), (took, fact.at.0.min(i64::MAX as u64)));
    }
}

/// The plan, if the fact is the one that brings it.
pub(crate) fn plan_of(fact: &Fact) -> Option<Arc<Plan>> {
    match &fact.event {
        RunEvent::Requested { plan } => Some(plan.clone()),
        _ => None,
    }
}

/// A result from which artifacts or timings are learned.
fn teaches(fact: &Fact) -> Option<(NodeIx, &AttemptResult)> {
    match &fact.event {
        RunEvent::AttemptEnded { node, result, .. } => Some((*node, result)),
        _ => None,
    }
}

fn no_run(run: &RunId) -> StoreError {
    StoreError::Illegal(format!("there is no run `{run}`"))
}
