//! What is asked of a store, and what it answers.

use std::time::Duration;

use model::{ArtifactRef, NodeIx, ProjectId, RunOutcome, Timestamp};

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

/// An artifact of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The instance that made it.
    pub node: NodeIx,
    /// Name, version, files.
    pub artifact: ArtifactRef,
}

/// How long an instance took when it was executed last and succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Name of the instance: `test[go=1.23]`.
    pub step: String,
    /// How long, to the millisecond.
    pub took: Duration,
    /// When it ended.
    pub at: Timestamp,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the log that there ever were.
    pub entries: u64,
    /// Runs that have not ended.
    pub active_runs: u64,
    /// Deliveries that nobody has settled.
    pub open_deliveries: u64,
    /// Errands that are not done.
    pub errands: u64,
}

/// What reading the whole log showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// The first entry that is not what it was, with what is wrong: edited, removed, reordered.
    pub broken: Option<(u64, String)>,
    /// SHA-256 of the whole log in hexadecimal digits, up to the last entry that was read. Kept elsewhere it proves later that
    /// nothing before it was changed, not even by somebody who wrote all hashes anew.
    pub head: String,
}
