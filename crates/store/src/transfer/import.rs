//! Reading an export into an empty store. The chain is checked as it comes.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use model::{AttemptNo, NodeIx, ProjectId, RunId, Timestamp};

use super::{DeliveryLine, EntryLine, Line, VERSION, hash};
use crate::StoreError;
use crate::batch::{LogId, Settled};
use crate::entry::{Covered, Encoding, Hash, sha256};
use crate::ledger::{EntryRow, Rows, RunKey};
use crate::prepared::{Came, Piece};
use crate::step::Step;

/// Lines of one step.
const PAGE: usize = 500;
/// Pieces of logs of one step: each may be 128 KiB.
const PIECES: usize = 50;
/// A line holds one entry, delivery or piece of a log; the largest is a delivery, and those are bounded where they come in.
const LINE_BYTES_MAX: u64 = 512 << 20;

/// An export that is read.
pub(crate) struct Import<R> {
    input: R,
    pub lines: u64,
    /// The end of the log so far.
    sequence: u64,
    hash: Hash,
    epoch: u64,
    /// Keys of runs by id: pieces name their run so.
    keys: HashMap<String, u64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Lines,
    End,
    Over,
}

impl<R: BufRead> Import<R> {
    pub(crate) fn new(input: R) -> Import<R> {
        let (hash, keys) = (Hash::default(), HashMap::new());
        Import { input, lines: 0, sequence: 0, hash, epoch: 0, keys, stage: Stage::Lines }
    }

    /// The next step of importing.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, StoreError> {
        match self.stage {
            Stage::Lines => {
                let rows = self.page()?;
                Ok(Some(Step::All(rows)))
            }
            Stage::End => {
                self.stage = Stage::Over;
                Ok(Some(Step::End { sequence: self.sequence, hash: self.hash, epoch: self.epoch }))
            }
            Stage::Over => Ok(None),
        }
    }

    fn page(&mut self) -> Result<Rows, StoreError> {
        let mut rows = Rows::default();
        for _ in 0..PAGE {
            let line = self.line()?;
            if let Line::End { lines } = line {
                if lines + 1 != self.lines {
                    return Err(self.wrong("lines are missing before it"));
                }
                self.stage = Stage::End;
                break;
            }
            self.take(line, &mut rows)?;
            if rows.pieces.len() >= PIECES {
                break;
            }
        }
        Ok(rows)
    }

    fn line(&mut self) -> Result<Line, StoreError> {
        let mut line = Vec::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        self.lines += 1;
        read.map_err(|error| self.wrong(&format!("it cannot be read: {error}")))?;
        if line.last() != Some(&b'\n') {
            return Err(self.wrong("it is cut off here"));
        }
        let line = serde_json::from_slice(&line).map_err(|error| self.wrong(&format!("it makes no sense: {error}")))?;
        match (self.lines, &line) {
            (1, Line::PacelineStore { version: VERSION, .. }) => Ok(line),
            (1, Line::PacelineStore { .. }) => Err(self.wrong("it was written by a newer version of pace")),
            (1, _) => Err(self.wrong("it is no export of a store")),
            _ => Ok(line),
        }
    }

    fn take(&mut self, line: Line, rows: &mut Rows) -> Result<(), StoreError> {
        match line {
            Line::PacelineStore { epoch, .. } => self.epoch = epoch,
            Line::Entry(entry) => self.take_entry(*entry, rows)?,
            Line::Delivery(delivery) => self.take_delivery(*delivery, rows)?,
            Line::Log { run, node, attempt, offset, output } => {
                let Some(key) = self.keys.get(&run) else { return Err(self.wrong("its run is not in the log")) };
                let Some(packed) = output.packed() else { return Err(self.wrong("its output makes no sense")) };
                let log = LogId { run: RunId::new(run), node: NodeIx(node), attempt: AttemptNo(attempt) };
                rows.pieces.push((*key, Piece { log, offset, packed }));
            }
            Line::Errand(errand) => drop(rows.errands.insert(errand.id.clone(), Some(errand))),
            Line::End { .. } => {}
        }
        Ok(())
    }

    fn take_entry(&mut self, line: EntryLine, rows: &mut Rows) -> Result<(), StoreError> {
        let EntryLine { sequence, at, run, kind, says, hash: said } = line;
        let Some(payload) = says.packed() else { return Err(self.wrong("what it says makes no sense")) };
        let digest = match payload.encoding {
            Encoding::Removed => Hash::try_from(payload.bytes.as_slice()).unwrap_or_default(),
            _ => sha256(&payload.clone().open()?.unwrap_or_default()),
        };
        let (project, id, run_sequence) =
            run.as_ref().map_or(("", "", 0), |run| (run.project.as_str(), run.run.as_str(), run.sequence));
        let covered = Covered { sequence, at, project, run: id, run_sequence, kind: &kind, says: digest };
        let computed = covered.hash(&self.hash);
        if sequence != self.sequence + 1 || hash(&said) != Some(computed) {
            return Err(self.wrong("the entry was edited, or is not in its place"));
        }
        (self.sequence, self.hash) = (sequence, computed);
        if let Some(run) = run.as_ref().filter(|run| run.sequence == 1) {
            if run.key != sequence {
                return Err(self.wrong("the key of its run is not its number"));
            }
            self.keys.insert(run.run.clone(), run.key);
            let (id, project) = (RunId::new(run.run.as_str()), ProjectId::new(run.project.as_str()));
            rows.keys.push(RunKey { key: run.key, run: id, project, number: run.number });
        }
        let run = run.map(|run| (run.key, run.sequence));
        rows.entries.push(EntryRow { sequence, at, run, kind, payload, hash: computed });
        Ok(())
    }

    fn take_delivery(&mut self, line: DeliveryLine, rows: &mut Rows) -> Result<(), StoreError> {
        let DeliveryLine { id, project, at, source, headers, body, settled } = line;
        let Some(body) = body.packed() else { return Err(self.wrong("its body makes no sense")) };
        let headers = serde_json::to_string(&headers).unwrap_or_default();
        rows.settled.extend(settled.map(|(at, outcome)| Settled { id: id.clone(), at: Timestamp(at), outcome }));
        let project = ProjectId::new(project);
        rows.deliveries.push(Came { id, project, at: Timestamp(at), source, headers, body });
        Ok(())
    }

    fn wrong(&self, what: &str) -> StoreError {
        StoreError::Damaged(format!("line {} of the export: {what}", self.lines))
    }
}
