//! What is asked of a store, and what it answers.

use model::{ProjectId, RunOutcome, Timestamp};

/// Something with its place in an order; also the cursor that the next page begins after.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequenced<T> {
    /// The place.
    pub sequence: u64,
    /// The thing.
    pub value: T,
}

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this branch.
    pub branch: Option<String>,
    /// Of this commit.
    pub commit: Option<String>,
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// Those that have not ended.
    pub active: bool,
    /// Those that ended so.
    pub outcome: Option<RunOutcome>,
    /// Older than this cursor.
    pub before: Option<u64>,
    /// At most so many; 0 is 50, and never more than 500.
    pub max: usize,
}

/// Part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Length of the whole log now.
    pub length: u64,
}

/// A delivery without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its id.
    pub id: String,
    /// The project.
    pub project: ProjectId,
    /// When it came.
    pub at: Timestamp,
    /// Who speaks.
    pub source: String,
    /// What became of it, and when.
    pub settled: Option<(Timestamp, String)>,
}

/// Who changed what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What, in the past.
    pub act: String,
    /// Kind of the record, or empty.
    pub kind: String,
    /// The record's key, or what it was about.
    pub key: String,
}

/// What reading the whole log showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// The first entry that is not what it was, with what is wrong: edited, removed, reordered.
    pub broken: Option<(u64, String)>,
}
