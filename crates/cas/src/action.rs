//! Results by action digest, and what `pace why` and flaky detection remember.
//!
//! A record is a REAPI `ActionResult` whose auxiliary metadata carries what only we understand, sealed with a checksum.
//! It is written after the blobs it names; that order, and [`ActionStore::complete`], is why a hit is whole.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{ArtifactRef, Digest, LayerRef, ReportKind, RunId, RunNumber, Timestamp};
use prost::Message;

use crate::disk::{io_error, open_regular, read_bounded, renew_modified, seal, unseal, with_parent, write_atomically};
use crate::{Layer, LayerKind, Store, StoreError, reapi};

/// What an execution left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRecord {
    /// The run that executed it.
    pub run: RunId,
    /// That run's number.
    pub number: RunNumber,
    /// When it ended.
    pub finished: Timestamp,
    /// Exit code.
    pub exit: i32,
    /// How long it took.
    pub took: Duration,
    /// Values for its dependants.
    pub values: BTreeMap<String, String>,
    /// What it wrote.
    pub layer: Option<LayerRef>,
    /// Its log, as a blob.
    pub log: Option<Digest>,
    /// Kept artifacts.
    pub artifacts: Vec<ArtifactRef>,
    /// Kept reports.
    pub reports: Vec<(ReportKind, Digest)>,
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Peak resident memory of the largest process, in bytes.
    pub memory_peak: u64,
}

/// How often an action ended how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Times it succeeded.
    pub succeeded: u32,
    /// Times it failed.
    pub failed: u32,
}

impl Outcomes {
    /// The same action with different outcomes.
    pub fn is_flaky(self) -> bool {
        self.succeeded > 0 && self.failed > 0
    }
}

/// One record: an artifact of a hundred thousand files, each with a path and a digest.
pub const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Outcomes that are counted for one action; later ones are not remembered.
pub const OUTCOMES_MAX: u64 = 4096;

const RECORD_MAGIC: &[u8; 8] = b"PACEACT1";
const LAST_MAGIC: &[u8; 8] = b"PACELST1";
const RECORD_TYPE: &str = "type.googleapis.com/paceline.v1.Record";

/// Records by action digest, beside the blobs.
#[derive(Clone, Debug)]
pub struct ActionStore {
    root: PathBuf,
}

impl ActionStore {
    /// Opens or makes it below `root`, the same folder as the [`Store`]'s.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(root: &Path) -> Result<ActionStore, StoreError> {
        for folder in ["actions", "last", "outcomes", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("make folder", &path))?;
        }
        Ok(ActionStore { root: root.to_path_buf() })
    }
    /// The record of an action, marked as used. A damaged one is removed and absent.
    pub fn lookup(&self, action: &Digest) -> Option<ActionRecord> {
        let path = self.record_path(action);
        let (file, meta) = open_regular(&path).ok()?;
        let record = read_record(&path);
        match record {
            Some(_) => renew_modified(&file, &meta),
            None => self.remove(action),
        }
        record
    }
    /// Keeps a record. The blobs it names must be in the store already.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn record(&self, action: &Digest, record: &ActionRecord) -> Result<(), StoreError> {
        let sealed = seal(RECORD_MAGIC, &reapi::encode(&to_message(record)));
        write_atomically(&self.root.join("tmp"), &self.record_path(action), &sealed)
    }
    /// Forgets a record.
    pub fn remove(&self, action: &Digest) {
        let _ = fs::remove_file(self.record_path(action));
    }
    /// Whether every blob that a record names is in the store (its layer's files included).
    pub fn complete(&self, record: &ActionRecord, store: &Store) -> bool {
        named_blobs(record, store).is_some_and(|blobs| blobs.iter().all(|blob| store.has(blob)))
    }
    /// The last action of a step.
    pub fn last(&self, pipeline: &str, step: &str) -> Option<Digest> {
        read_last(&self.last_path(pipeline, step))
    }
    /// Remembers the last action of a step.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_last(&self, pipeline: &str, step: &str, action: &Digest) -> Result<(), StoreError> {
        let mut body = action.hash.to_vec();
        body.extend(action.size.to_le_bytes());
        write_atomically(&self.root.join("tmp"), &self.last_path(pipeline, step), &seal(LAST_MAGIC, &body))
    }
    /// How often an action ended how.
    pub fn outcomes(&self, action: &Digest) -> Outcomes {
        let bytes = read_bounded(&self.outcomes_path(action), OUTCOMES_MAX * 2).unwrap_or_default();
        let count = |letter| bytes.iter().filter(|byte| **byte == letter).count() as u32;
        Outcomes { succeeded: count(b's'), failed: count(b'f') }
    }
    /// Counts an outcome; returns all of them, this one included.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn note_outcome(&self, action: &Digest, succeeded: bool) -> Result<Outcomes, StoreError> {
        let path = self.outcomes_path(action);
        let mut outcomes = self.outcomes(action);
        let (letter, count) = if succeeded { (b"s", &mut outcomes.succeeded) } else { (b"f", &mut outcomes.failed) };
        *count += 1;
        if u64::from(outcomes.succeeded + outcomes.failed) <= OUTCOMES_MAX {
            // One appended byte: nothing to tear, and two processes at once lose nothing.
            with_parent(&path, || OpenOptions::new().append(true).create(true).open(&path))
                .and_then(|mut file| file.write_all(letter))
                .map_err(io_error("write", &path))?;
        }
        Ok(outcomes)
    }

    fn record_path(&self, action: &Digest) -> PathBuf {
        self.spread("actions", &action.hex())
    }

    fn outcomes_path(&self, action: &Digest) -> PathBuf {
        self.spread("outcomes", &action.hex())
    }

    fn last_path(&self, pipeline: &str, step: &str) -> PathBuf {
        self.spread("last", &Store::digest_of(format!("{pipeline}\0{step}").as_bytes()).hex())
    }

    fn spread(&self, folder: &str, hex: &str) -> PathBuf {
        self.root.join(folder).join(&hex[..2]).join(hex)
    }
}

/// The record in a file; `None` if it is absent or damaged.
pub(crate) fn read_record(path: &Path) -> Option<ActionRecord> {
    let sealed = read_bounded(path, RECORD_BYTES_MAX)?;
    from_message(reapi::decode(unseal(RECORD_MAGIC, &sealed)?).ok()?)
}

/// The action in a file that [`ActionStore::set_last`] wrote.
pub(crate) fn read_last(path: &Path) -> Option<Digest> {
    let sealed = read_bounded(path, 128)?;
    let (hash, size) = unseal(LAST_MAGIC, &sealed)?.split_at_checked(32)?;
    Some(Digest { hash: hash.try_into().ok()?, size: u64::from_le_bytes(size.try_into().ok()?) })
}

/// All blobs a record names; `None` if its layer's manifest cannot be read.
pub(crate) fn named_blobs(record: &ActionRecord, store: &Store) -> Option<Vec<Digest>> {
    let mut blobs: Vec<Digest> = record.log.into_iter().collect();
    blobs.extend(record.reports.iter().map(|(_, digest)| *digest));
    blobs.extend(record.artifacts.iter().flat_map(|artifact| artifact.files.iter().map(|(_, digest, _)| *digest)));
    if let Some(layer) = &record.layer {
        blobs.push(layer.digest);
        for entry in Layer::load(&layer.digest, store).ok()?.entries {
            if let LayerKind::File { digest, .. } = entry.kind {
                blobs.push(digest);
            }
        }
    }
    Some(blobs)
}

#[derive(Clone, PartialEq, Message)]
struct RecordMessage {
    #[prost(string, tag = "1")]
    run: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(uint64, tag = "3")]
    took_us: u64,
    #[prost(btree_map = "string, string", tag = "4")]
    values: BTreeMap<String, String>,
    #[prost(message, optional, tag = "5")]
    layer: Option<LayerMessage>,
    #[prost(message, repeated, tag = "6")]
    artifacts: Vec<ArtifactMessage>,
    #[prost(message, repeated, tag = "7")]
    reports: Vec<ReportMessage>,
    #[prost(uint64, tag = "8")]
    cpu_us: u64,
    #[prost(uint64, tag = "9")]
    memory_peak: u64,
    #[prost(uint64, tag = "10")]
    finished_us: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LayerMessage {
    #[prost(message, optional, tag = "1")]
    manifest: Option<reapi::Digest>,
    #[prost(uint32, tag = "2")]
    files: u32,
    #[prost(uint64, tag = "3")]
    bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ArtifactMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    version: Option<String>,
    #[prost(string, tag = "3")]
    path: String,
    #[prost(message, repeated, tag = "4")]
    files: Vec<reapi::OutputFile>,
}

#[derive(Clone, PartialEq, Message)]
struct ReportMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "2")]
    digest: Option<reapi::Digest>,
}

pub(crate) fn to_message(record: &ActionRecord) -> reapi::ActionResult {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let ours = RecordMessage {
        run: record.run.to_string(),
        number: record.number.0,
        took_us: micros(record.took),
        values: record.values.clone(),
        layer: record.layer.map(|layer| LayerMessage {
            manifest: Some((&layer.digest).into()),
            files: layer.files,
            bytes: layer.bytes,
        }),
        artifacts: record.artifacts.iter().map(artifact_message).collect(),
        reports: record
            .reports
            .iter()
            .map(|(kind, digest)| ReportMessage { kind: kind.word().to_string(), digest: Some(digest.into()) })
            .collect(),
        cpu_us: micros(record.cpu),
        memory_peak: record.memory_peak,
        finished_us: record.finished.0,
    };
    reapi::ActionResult {
        exit_code: record.exit,
        stdout_digest: record.log.as_ref().map(Into::into),
        execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: "pace".to_string(),
            worker_completed_timestamp: Some(reapi::Timestamp {
                seconds: (record.finished.0 / 1_000_000) as i64,
                nanos: (record.finished.0 % 1_000_000 * 1000) as i32,
            }),
            auxiliary_metadata: vec![reapi::Any { type_url: RECORD_TYPE.to_string(), value: reapi::encode(&ours) }],
        }),
        ..reapi::ActionResult::default()
    }
}

fn artifact_message(artifact: &ArtifactRef) -> ArtifactMessage {
    let file = |(path, digest, executable): &(String, Digest, bool)| reapi::OutputFile {
        path: path.clone(),
        digest: Some(digest.into()),
        is_executable: *executable,
        contents: Vec::new(),
    };
    ArtifactMessage {
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        path: artifact.path.clone(),
        files: artifact.files.iter().map(file).collect(),
    }
}

pub(crate) fn from_message(result: reapi::ActionResult) -> Option<ActionRecord> {
    let auxiliary = result.execution_metadata?.auxiliary_metadata;
    let ours = auxiliary.into_iter().find(|any| any.type_url == RECORD_TYPE)?;
    let ours: RecordMessage = reapi::decode(&ours.value).ok()?;
    let layer = match ours.layer {
        Some(layer) => Some(LayerRef { digest: layer.manifest?.value()?, files: layer.files, bytes: layer.bytes }),
        None => None,
    };
    let log = match result.stdout_digest {
        Some(digest) => Some(digest.value()?),
        None => None,
    };
    let report = |report: ReportMessage| {
        let kind = ReportKind::ALL.into_iter().find(|(word, _)| *word == report.kind)?.1;
        Some((kind, report.digest?.value()?))
    };
    Some(ActionRecord {
        run: RunId::new(ours.run),
        number: RunNumber(ours.number),
        finished: Timestamp(ours.finished_us),
        exit: result.exit_code,
        took: Duration::from_micros(ours.took_us),
        values: ours.values,
        layer,
        log,
        artifacts: ours.artifacts.into_iter().map(artifact_from).collect::<Option<_>>()?,
        reports: ours.reports.into_iter().map(report).collect::<Option<_>>()?,
        cpu: Duration::from_micros(ours.cpu_us),
        memory_peak: ours.memory_peak,
    })
}

fn artifact_from(message: ArtifactMessage) -> Option<ArtifactRef> {
    let file = |file: reapi::OutputFile| Some((file.path, file.digest?.value()?, file.is_executable));
    Some(ArtifactRef {
        name: message.name,
        version: message.version,
        path: message.path,
        files: message.files.into_iter().map(file).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerEntry;

    fn world() -> (tempfile::TempDir, Store, ActionStore) {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let actions = ActionStore::open(dir.path()).expect("actions");
        (dir, store, actions)
    }

    fn record(store: &Store) -> ActionRecord {
        let digest = store.put(b"file").expect("put");
        let kind = LayerKind::File { digest, executable: false, mtime_ns: 7 };
        let layer = Layer { entries: vec![LayerEntry { path: "f".into(), kind }] };
        ActionRecord {
            run: RunId::from("r1"),
            number: RunNumber(12),
            finished: Timestamp(1_700_000_000_123_456),
            exit: 0,
            took: Duration::from_micros(1_234_567),
            values: BTreeMap::from([("key".into(), "value".into())]),
            layer: Some(layer.put(store).expect("put")),
            log: Some(store.put(b"log").expect("put")),
            artifacts: vec![ArtifactRef {
                name: "app".into(),
                version: Some("1".into()),
                path: "dist".into(),
                files: vec![("a".into(), store.put(b"artifact").expect("put"), true)],
            }],
            reports: vec![(ReportKind::Junit, store.put(b"<xml/>").expect("put"))],
            cpu: Duration::from_millis(5),
            memory_peak: 1 << 20,
        }
    }

    fn action() -> Digest {
        Store::digest_of(b"action")
    }

    #[test]
    fn a_record_comes_back_whole() {
        let (_dir, store, actions) = world();
        assert_eq!(actions.lookup(&action()), None);
        let record = record(&store);
        actions.record(&action(), &record).expect("record");
        assert_eq!(actions.lookup(&action()), Some(record.clone()));
        assert!(actions.complete(&record, &store));
    }

    #[test]
    fn a_record_without_one_of_its_blobs_is_not_complete() {
        for lost in [&b"file"[..], b"log", b"artifact", b"<xml/>"] {
            let (_dir, store, actions) = world();
            let record = record(&store);
            let hex = Store::digest_of(lost).hex();
            fs::remove_file(store.root().join("cas").join(&hex[..2]).join(hex)).expect("remove");
            assert!(!actions.complete(&record, &store), "{:?}", std::str::from_utf8(lost));
        }
    }

    #[test]
    fn a_damaged_record_is_absent_and_removed() {
        let (_dir, store, actions) = world();
        actions.record(&action(), &record(&store)).expect("record");
        let path = actions.record_path(&action());
        let whole = fs::read(&path).expect("record");
        for at in [0, 9, 41, whole.len() - 1] {
            let mut torn = whole.clone();
            torn[at] ^= 0x10;
            fs::write(&path, torn).expect("damage");
            assert_eq!(actions.lookup(&action()), None, "byte {at}");
            assert!(!path.exists());
        }
        fs::write(&path, &whole[..20]).expect("tear");
        assert_eq!(actions.lookup(&action()), None);
    }

    #[test]
    fn the_last_action_of_a_step_is_remembered() {
        let (_dir, _store, actions) = world();
        assert_eq!(actions.last("p", "build"), None);
        actions.set_last("p", "build", &action()).expect("set");
        actions.set_last("p", "build", &Store::digest_of(b"newer")).expect("set");
        assert_eq!(actions.last("p", "build"), Some(Store::digest_of(b"newer")));
        assert_eq!(actions.last("p", "test"), None);
    }

    #[test]
    fn the_same_action_with_two_outcomes_is_flaky() {
        let (_dir, _store, actions) = world();
        assert_eq!(actions.note_outcome(&action(), false).expect("note"), Outcomes { succeeded: 0, failed: 1 });
        assert!(!actions.outcomes(&action()).is_flaky());
        assert!(actions.note_outcome(&action(), true).expect("note").is_flaky());
        assert_eq!(actions.outcomes(&action()), Outcomes { succeeded: 1, failed: 1 });
    }
}
