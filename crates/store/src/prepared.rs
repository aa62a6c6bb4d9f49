//! A batch as the writer wants it: everything that costs time and needs no store was done by the caller's thread.

use model::{ProjectId, RunEvent, RunId, RunSummary, Timestamp};

use crate::batch::{Batch, Change, Delivery, Errand, Expect, LogId, Settled};
use crate::entry::{ChangeSaid, Does, Hash, Packed, kind_of, sha256};
use crate::{LogChunk, ProjectFact, StoreError};

/// A part of a log reads and unpacks at least one piece: small enough for a page, large enough to compress well.
const LOG_PIECE_BYTES: usize = 128 << 10;

/// A name: of a run, a project, a record, a delivery, an errand. Databases keep an index of them.
const NAME_BYTES_MAX: usize = 2048;
/// What became of a delivery, in a sentence.
const OUTCOME_BYTES_MAX: usize = 4096;
/// What of a branch, a pipeline's name or an artifact's name is looked up by.
const INDEXED_BYTES_MAX: usize = 500;

#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    pub facts: Vec<Said>,
    pub changes: Vec<Told>,
    pub deliveries: Vec<Came>,
    pub settled: Vec<Settled>,
    pub pieces: Vec<Piece>,
    pub errands: Vec<Errand>,
    pub errands_done: Vec<String>,
    /// About how many bytes it holds: what one commit takes is bounded.
    pub weight: usize,
}

/// A fact.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub at: u64,
    pub project: ProjectId,
    pub run: RunId,
    pub kind: String,
    pub payload: Packed,
    pub digest: Hash,
    pub fact: model::Fact,
    /// For a run that is asked for.
    pub first: Option<RunSummary>,
}

/// A change.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub at: u64,
    pub kind: String,
    pub key: String,
    pub does: Does,
    pub expect: Expect,
    /// JSON of the record.
    pub body: String,
    pub payload: Packed,
    pub digest: Hash,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub id: String,
    pub project: ProjectId,
    pub at: Timestamp,
    pub source: String,
    /// JSON.
    pub headers: String,
    pub body: Packed,
}

/// A piece of a log, at most [`LOG_PIECE_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub log: LogId,
    pub offset: u64,
    pub packed: Packed,
}

impl Prepared {
    pub(crate) fn new(batch: Batch) -> Result<Prepared, StoreError> {
        let mut prepared = Prepared {
            facts: batch.facts.into_iter().map(said).collect::<Result<_, _>>()?,
            changes: batch.changes.into_iter().map(told).collect::<Result<_, _>>()?,
            deliveries: batch.deliveries.into_iter().map(came).collect::<Result<_, _>>()?,
            settled: batch.settled.into_iter().map(settled).collect::<Result<_, _>>()?,
            pieces: batch.logs.into_iter().flat_map(pieces).collect(),
            errands: batch.errands.into_iter().map(errand).collect::<Result<_, _>>()?,
            errands_done: batch.errands_done,
            weight: 0,
        };
        prepared.weight = prepared.facts.iter().map(|fact| fact.payload.bytes.len()).sum::<usize>()
            + prepared.changes.iter().map(|change| change.payload.bytes.len()).sum::<usize>()
            + prepared.deliveries.iter().map(|delivery| delivery.body.bytes.len()).sum::<usize>()
            + prepared.pieces.iter().map(|piece| piece.packed.bytes.len()).sum::<usize>();
        Ok(prepared)
    }

    /// Only whoever leads may append these.
    pub(crate) fn needs_leader(&self) -> bool {
        !self.facts.is_empty() || !self.pieces.is_empty()
    }
}

impl Piece {
    /// What is left of it behind `have`; `None` if nothing is.
    pub(crate) fn behind(self, have: u64) -> Result<Option<Piece>, StoreError> {
        if self.offset >= have {
            return Ok(Some(self));
        }
        if self.end() <= have {
            return Ok(None);
        }
        let cut = usize::try_from(have - self.offset).unwrap_or(usize::MAX);
        let bytes = self.packed.open()?.unwrap_or_default();
        let rest = bytes.get(cut..).unwrap_or_default().to_vec();
        Ok(Some(Piece { log: self.log, offset: have, packed: Packed::new(rest) }))
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.packed.length)
    }
}

fn said(fact: ProjectFact) -> Result<Said, StoreError> {
    let ProjectFact { project, fact } = fact;
    named("project", project.as_str())?;
    named("run", fact.run.as_str())?;
    let json = json(&fact.event)?;
    let first = match &fact.event {
        RunEvent::Requested { .. } => RunSummary::first(&project, &fact),
        _ => None,
    };
    let (at, run, kind, digest) = (time(fact.at), fact.run.clone(), kind_of(&json).to_owned(), sha256(&json));
    Ok(Said { at, project, run, kind, payload: Packed::new(json), digest, fact, first })
}

fn told(change: Change) -> Result<Told, StoreError> {
    let does = match (&change.expect, &change.body) {
        (Expect::Nothing, _) => Does::Note,
        (_, Some(_)) => Does::Put,
        (_, None) => Does::Remove,
    };
    let Change { at, by, act, kind, key, body, expect } = change;
    named("record", &kind)?;
    named("record", &key)?;
    let record = match (does, &body) {
        (Does::Put, Some(body)) => body.to_string(),
        _ => String::new(),
    };
    let said = json(&ChangeSaid { by, act, kind: kind.clone(), key: key.clone(), does, body })?;
    let digest = sha256(&said);
    Ok(Told { at: time(at), kind, key, does, expect, body: record, payload: Packed::new(said), digest })
}

fn came(delivery: Delivery) -> Result<Came, StoreError> {
    let Delivery { id, project, at, source, headers, body } = delivery;
    named("delivery", &id)?;
    named("project", project.as_str())?;
    named("source of a delivery", &source)?;
    let headers = String::from_utf8(json(&headers)?).unwrap_or_default();
    Ok(Came { id, project, at, source, headers, body: Packed::new(body) })
}

fn settled(mut settled: Settled) -> Result<Settled, StoreError> {
    named("delivery", &settled.id)?;
    settled.outcome = cut(&settled.outcome, OUTCOME_BYTES_MAX).replace('\0', "\u{fffd}");
    Ok(settled)
}

fn errand(errand: Errand) -> Result<Errand, StoreError> {
    named("errand", &errand.id)?;
    named("kind of an errand", &errand.kind)?;
    Ok(errand)
}

fn pieces(chunk: LogChunk) -> Vec<Piece> {
    let LogChunk { log, offset, bytes } = chunk;
    let mut at = offset;
    let mut pieces = Vec::with_capacity(bytes.len().div_ceil(LOG_PIECE_BYTES));
    for part in bytes.chunks(LOG_PIECE_BYTES) {
        pieces.push(Piece { log: log.clone(), offset: at, packed: Packed::new(part.to_vec()) });
        at = at.saturating_add(part.len() as u64);
    }
    pieces
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Illegal(format!("this cannot be written as JSON: {error}")))
}

/// Refuses what a database would not take as a name.
fn named(what: &str, name: &str) -> Result<(), StoreError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(StoreError::Illegal(format!("the name of a {what} is longer than {NAME_BYTES_MAX} bytes")));
    }
    if name.contains('\0') {
        return Err(StoreError::Illegal(format!("the name of a {what} has a zero byte in it")));
    }
    Ok(())
}

/// What of a text stands in an index: databases bound what an index takes, and take no zero bytes.
pub(crate) fn indexed(text: &str) -> String {
    cut(text, INDEXED_BYTES_MAX).replace('\0', "")
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Databases count to 2^63.
fn time(at: Timestamp) -> u64 {
    at.0.min(i64::MAX as u64)
}
