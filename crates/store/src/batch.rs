//! What is appended together.

use model::{AttemptNo, Fact, NodeIx, ProjectId, RunId, Timestamp};

use crate::Record;

/// What is appended together: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Facts of runs, in order.
    pub facts: Vec<ProjectFact>,
    /// Changes of records, each a fact of the audit.
    pub changes: Vec<Change>,
    /// Deliveries that came in. One whose id is there already is left out.
    pub deliveries: Vec<Delivery>,
    /// Deliveries that were dealt with.
    pub settled: Vec<Settled>,
    /// Output of steps.
    pub logs: Vec<LogChunk>,
    /// Things to do outside. One whose id is there already replaces it.
    pub errands: Vec<Errand>,
    /// Ids of errands that are done.
    pub errands_done: Vec<String>,
}

/// A fact and whose it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProjectFact {
    /// The project.
    pub project: ProjectId,
    /// The fact.
    pub fact: Fact,
}

/// A change of a record by somebody. It is in the log for ever, so a body must hold no secret in the clear.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who: `user:anna`, `token:ci`, `server`.
    pub by: String,
    /// What, in the past: `token.created`, `run.cancelled`.
    pub act: String,
    /// [`Record::KIND`].
    pub kind: String,
    /// The record's key. For an act without a record (a sign-in) whatever it was about.
    pub key: String,
    /// The new body; `None` removes it. Ignored with [`Expect::Nothing`].
    pub body: Option<serde_json::Value>,
    /// As what the record must be found.
    pub expect: Expect,
}

/// As what a record must be found for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// However it is.
    Any,
    /// It is not there.
    Absent,
    /// It is there in this version.
    Version(u64),
    /// No record is meant: the change is only written down for the audit.
    Nothing,
}

impl Change {
    /// A record's new body.
    pub fn put<T: Record>(at: Timestamp, by: &str, act: &str, record: &T, expect: Expect) -> Change {
        let body = serde_json::to_value(record).unwrap_or_default();
        Change { at, by: by.into(), act: act.into(), kind: T::KIND.into(), key: record.key(), body: Some(body), expect }
    }

    /// A record's end.
    pub fn remove<T: Record>(at: Timestamp, by: &str, act: &str, key: &str, expect: Expect) -> Change {
        Change { at, by: by.into(), act: act.into(), kind: T::KIND.into(), key: key.into(), body: None, expect }
    }

    /// Something that was done and is to be remembered, without a record.
    pub fn note(at: Timestamp, by: &str, act: &str, about: &str) -> Change {
        let (kind, key) = (String::new(), about.into());
        Change { at, by: by.into(), act: act.into(), kind, key, body: None, expect: Expect::Nothing }
    }
}

/// Something that came from outside and must not be lost: a webhook as it came.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Delivery {
    /// Unique for ever: `<project>/<forge>/<the forge's delivery id>`.
    pub id: String,
    /// The project.
    pub project: ProjectId,
    /// When it came.
    pub at: Timestamp,
    /// Who speaks: `github`, `gitlab`, `gitea`, `bitbucket`, `generic`, `git`.
    pub source: String,
    /// The headers that mean something, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Vec<u8>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// A sentence: which runs it started, or why none.
    pub outcome: String,
}

/// The log of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub node: NodeIx,
    /// The try.
    pub attempt: AttemptNo,
}

/// Part of a log: lines `<unix milliseconds> <text>`, each with its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// The log.
    pub log: LogId,
    /// Where in it the bytes begin. What is there already is left out, so sending twice does no harm.
    pub offset: u64,
    /// The bytes, whole lines.
    pub bytes: Vec<u8>,
}

/// Something to do outside, with retries: a status for a forge, a notification.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Errand {
    /// Unique: what it is about, so that a later one about the same replaces it.
    pub id: String,
    /// `status`, `notice`.
    pub kind: String,
    /// Not before.
    pub due: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// What there is to do.
    pub body: serde_json::Value,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Global number of the batch's last fact or change; 0 if it had none.
    pub sequence: u64,
    /// For each delivery: it was new.
    pub fresh: Vec<bool>,
    /// For each change: the record's version now; 0 for one that is gone or was none.
    pub versions: Vec<u64>,
}
