//! Results as they travel to and from a shared cache: a standard `ActionResult` that names every blob it stands on, so
//! that any server of the API can see whether it is complete, and what is believed of one that comes back.

use std::collections::HashSet;

use model::limits::{LOG_BYTES_MAX, VALUES_BYTES_MAX, VALUES_MAX};
use model::{ArtifactRef, Digest};
use prost::Message;

use crate::action::{from_message, named_blobs, to_message};
use crate::layer::{LAYER_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::tree::check_path;
use crate::{ActionRecord, Layer, LayerKind, Store, Tree, reapi};

/// Where the layer's manifest stands among the output files; servers may be asked to send it along.
pub const MANIFEST_PATH: &str = ".paceline/layer";
/// A result with more bytes is not shared: servers take four million bytes in one message.
pub const RESULT_BYTES_MAX: usize = 3 << 20;
/// A layer whose `Tree` has more bytes is not shared: servers bound what they walk.
pub const TREE_BYTES_MAX: usize = 64 << 20;
/// A log of empty lines only is fourteen times as long on the disk as it counts.
const LOG_FILE_BYTES_MAX: u64 = LOG_BYTES_MAX.saturating_mul(16);
/// Files of one artifact, as the agent bounds them.
const ARTIFACT_FILES_MAX: usize = 100_000;
/// Artifacts, and reports: far more than a pipeline can ask for.
const ITEMS_MAX: usize = 1000;
/// Length of a run's id.
const RUN_BYTES_MAX: usize = 128;

/// Length of a named cache's key.
const KEY_BYTES_MAX: usize = 4096;
const CACHE_TYPE: &str = "type.googleapis.com/paceline.v1.NamedCache";

/// A result for a shared cache.
#[derive(Clone, Debug)]
pub struct SharedResult {
    /// The encoded `ActionResult`.
    pub result: Vec<u8>,
    /// The encoded `Tree` of the layer.
    pub tree: Option<Vec<u8>>,
    /// What it stands on beside the tree; all of it in the store.
    pub blobs: Vec<Digest>,
}

/// A result that came from a shared cache.
#[derive(Clone, Debug)]
pub struct Received {
    /// What it says, within our bounds.
    pub record: ActionRecord,
    /// Blobs that came along, not verified.
    pub along: Vec<Vec<u8>>,
}

/// A record as a shared cache takes it.
///
/// # Errors
/// A clause: why it is not shared.
pub fn share(record: &ActionRecord, store: &Store) -> Result<SharedResult, &'static str> {
    let blobs = named_blobs(record, store).ok_or("its layer is not here any more")?;
    let mut message = to_message(record);
    let file = |path: String, digest: &Digest, is_executable| reapi::OutputFile {
        path,
        digest: Some(digest.into()),
        is_executable,
        contents: Vec::new(),
    };
    let mut tree = None;
    if let Some(layer) = &record.layer {
        message.output_files.push(file(MANIFEST_PATH.into(), &layer.digest, false));
        tree = tree_of(&Layer::load(&layer.digest, store).map_err(|_| "its layer is not here any more")?);
    }
    for (kind, digest) in &record.reports {
        message.output_files.push(file(format!(".paceline/reports/{}", kind.word()), digest, false));
    }
    for (at, artifact) in record.artifacts.iter().enumerate() {
        for (below, digest, executable) in &artifact.files {
            let path = format!(".paceline/artifacts/{at}/{}", if below.is_empty() { "file" } else { below });
            message.output_files.push(file(path, digest, *executable));
        }
    }
    if let Some(tree) = &tree {
        if tree.len() > TREE_BYTES_MAX {
            return Err("it wrote too many files; name what is needed in `outputs`");
        }
        let tree_digest = Some((&Store::digest_of(tree)).into());
        message.output_directories.push(reapi::OutputDirectory { path: String::new(), tree_digest });
    }
    let result = reapi::encode(&message);
    match result.len() <= RESULT_BYTES_MAX {
        true => Ok(SharedResult { result, tree, blobs }),
        false => Err("its artifacts have too many files; pack them"),
    }
}

/// Reads what a shared cache answered. Nobody vouches for it, so that everything in it is bounded, and every path in it
/// stays where it is put.
///
/// # Errors
/// A clause: what is wrong with it.
pub fn receive(bytes: &[u8]) -> Result<Received, &'static str> {
    let mut message: reapi::ActionResult = reapi::decode(bytes).map_err(|_| "it cannot be decoded")?;
    let mut along = vec![std::mem::take(&mut message.stdout_raw)];
    along.extend(message.output_files.iter_mut().map(|file| std::mem::take(&mut file.contents)));
    along.retain(|blob| !blob.is_empty());
    let record = from_message(message).ok_or("it is none of ours")?;
    check(&record)?;
    Ok(Received { record, along })
}

/// Whether a manifest that came from a shared cache is within the bounds of a layer.
///
/// # Errors
/// A clause: what is wrong with it.
pub fn check_layer(layer: &Layer) -> Result<(), &'static str> {
    let mut bytes = 0u64;
    for entry in &layer.entries {
        if let LayerKind::File { digest, .. } = &entry.kind {
            bytes = bytes.saturating_add(digest.size);
        }
    }
    if bytes > LAYER_BYTES_MAX { Err("its files are larger than those of any layer") } else { Ok(()) }
}

/// What names a named cache there: an action that nobody executes, one for each scope and key.
#[derive(Clone, Debug)]
pub struct CacheName {
    /// Its digest: where the snapshot is looked up.
    pub digest: Digest,
    /// The encoded `Action` and `Command`: servers may want to read them.
    pub messages: [Vec<u8>; 2],
}

impl CacheName {
    /// The name of `key`, a key or a fallback, among the caches of `scope`.
    pub fn new(scope: &str, key: &str) -> CacheName {
        let command = reapi::Command { arguments: vec!["paceline-named-cache".into()], ..reapi::Command::default() };
        let command = reapi::encode(&command);
        let action = reapi::Action {
            command_digest: Some((&Store::digest_of(&command)).into()),
            input_root_digest: Some((&Tree::empty().digest()).into()),
            salt: format!("paceline-cache-1\n{}\n{scope}\n{key}", scope.len()).into_bytes(),
            ..reapi::Action::default()
        };
        let action = reapi::encode(&action);
        CacheName { digest: Store::digest_of(&action), messages: [action, command] }
    }
}

#[derive(Clone, PartialEq, Message)]
struct CacheMessage {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    manifest: Option<reapi::Digest>,
}

/// A snapshot of the named cache `key` as a shared cache takes it; its files are what the layer names.
///
/// # Errors
/// A clause: why it is not shared.
pub fn share_cache(key: &str, layer: &Layer) -> Result<(SharedResult, Vec<u8>), &'static str> {
    let manifest = layer.encode();
    let digest = Store::digest_of(&manifest);
    let tree = tree_of(layer);
    if tree.as_ref().is_some_and(|tree| tree.len() > TREE_BYTES_MAX) {
        return Err("it has too many files");
    }
    let ours = CacheMessage { key: key.into(), manifest: Some((&digest).into()) };
    let directory = |tree: &Vec<u8>| reapi::OutputDirectory {
        path: String::new(),
        tree_digest: Some((&Store::digest_of(tree)).into()),
    };
    let message = reapi::ActionResult {
        output_files: vec![reapi::OutputFile {
            path: MANIFEST_PATH.into(),
            digest: Some((&digest).into()),
            ..reapi::OutputFile::default()
        }],
        output_directories: tree.iter().map(directory).collect(),
        execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: "pace".into(),
            worker_completed_timestamp: None,
            auxiliary_metadata: vec![reapi::Any { type_url: CACHE_TYPE.into(), value: reapi::encode(&ours) }],
        }),
        ..reapi::ActionResult::default()
    };
    Ok((SharedResult { result: reapi::encode(&message), tree, blobs: vec![digest] }, manifest))
}

/// The key of a snapshot that a shared cache answered, and its manifest.
///
/// # Errors
/// A clause: what is wrong with it.
pub fn receive_cache(bytes: &[u8]) -> Result<(String, Digest), &'static str> {
    let message: reapi::ActionResult = reapi::decode(bytes).map_err(|_| "it cannot be decoded")?;
    let auxiliary = message.execution_metadata.unwrap_or_default().auxiliary_metadata;
    let ours = auxiliary.into_iter().find(|any| any.type_url == CACHE_TYPE).ok_or("it is none of ours")?;
    let ours: CacheMessage = reapi::decode(&ours.value).map_err(|_| "it cannot be decoded")?;
    let manifest = ours.manifest.and_then(|digest| digest.value()).ok_or("it has no manifest")?;
    if manifest.size > MANIFEST_BYTES_MAX as u64 {
        return Err("its manifest is too large");
    }
    match ours.key.len() <= KEY_BYTES_MAX && !ours.key.contains(char::is_control) {
        true => Ok((ours.key, manifest)),
        false => Err("its key is none"),
    }
}

fn check(record: &ActionRecord) -> Result<(), &'static str> {
    let run = record.run.as_str();
    if run.len() > RUN_BYTES_MAX || !run.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the id of its run is none");
    }
    if record.exit != 0 {
        return Err("it is that of a failure");
    }
    if record.layer.is_some_and(|layer| layer.digest.size > MANIFEST_BYTES_MAX as u64) {
        return Err("its manifest is too large");
    }
    if record.log.is_some_and(|log| log.size > LOG_FILE_BYTES_MAX) {
        return Err("its log is too large");
    }
    let value_bytes: usize = record.values.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let is_value = |(key, value): (&String, &String)| is_key(key) && !value.contains(['\n', '\r', '\0']);
    if record.values.len() > VALUES_MAX || value_bytes > VALUES_BYTES_MAX || !record.values.iter().all(is_value) {
        return Err("its values are none");
    }
    if record.artifacts.len() > ITEMS_MAX || record.reports.len() > ITEMS_MAX {
        return Err("it has too many artifacts or reports");
    }
    record.artifacts.iter().try_for_each(check_artifact)
}

fn is_key(key: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(is_plain)
}

fn check_artifact(artifact: &ArtifactRef) -> Result<(), &'static str> {
    if artifact.files.len() > ARTIFACT_FILES_MAX {
        return Err("an artifact has too many files");
    }
    let is_inside = |path: &str| path.is_empty() || check_path(path).is_ok();
    match is_inside(&artifact.path) && artifact.files.iter().all(|(below, _, _)| is_inside(below)) {
        true => Ok(()),
        false => Err("an artifact has a path that leads out of it"),
    }
}

/// The `Tree` message of what a layer adds, and `None` if that is nothing.
fn tree_of(layer: &Layer) -> Option<Vec<u8>> {
    const ROOT: u8 = 1 << 3 | 2;
    const CHILD: u8 = 2 << 3 | 2;
    let tree = Tree::empty().overlay(layer);
    if tree.is_empty() {
        return None;
    }
    let (mut bytes, mut seen) = (Vec::new(), HashSet::new());
    tree.directories(&mut |digest, message| {
        let is_new = seen.insert(digest);
        if is_new {
            bytes.push(if bytes.is_empty() { ROOT } else { CHILD });
            crate::tree::put_varint(&mut bytes, message.len() as u64);
            bytes.extend_from_slice(message);
        }
        is_new
    });
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use model::{ReportKind, RunId, RunNumber, Timestamp};

    use super::*;
    use crate::LayerEntry;

    fn world() -> (tempfile::TempDir, Store, ActionRecord) {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let file = |path: &str, text: &str| LayerEntry {
            path: path.into(),
            kind: LayerKind::File { digest: store.put(text.as_bytes()).expect("put"), executable: false, mtime_ns: 7 },
        };
        let gone = LayerEntry { path: "gone".into(), kind: LayerKind::Whiteout };
        let dir_of = |path: &str| LayerEntry { path: path.into(), kind: LayerKind::Dir };
        let layer = Layer { entries: vec![dir_of("a"), file("a/f", "one"), dir_of("b"), file("b/f", "one"), gone] };
        let record = ActionRecord {
            run: RunId::from("r1"),
            number: RunNumber(12),
            finished: Timestamp(1_700_000_000_123_456),
            exit: 0,
            took: Duration::from_micros(1_234_567),
            values: BTreeMap::from([("key".into(), "value".into())]),
            layer: Some(layer.put(&store).expect("put")),
            log: Some(store.put(b"log").expect("put")),
            artifacts: vec![ArtifactRef {
                name: "app".into(),
                version: None,
                path: "dist".into(),
                files: vec![("a".into(), store.put(b"artifact").expect("put"), true)],
            }],
            reports: vec![(ReportKind::Junit, store.put(b"<xml/>").expect("put"))],
            cpu: Duration::from_secs(1),
            memory_peak: 7,
        };
        (dir, store, record)
    }

    #[test]
    fn what_comes_back_is_what_was_shared_and_names_every_blob() {
        let (_dir, store, record) = world();
        let shared = share(&record, &store).expect("shared");
        assert_eq!(receive(&shared.result).expect("received").record, record);
        assert!(shared.blobs.iter().all(|blob| store.has(blob)));
        let message: reapi::ActionResult = reapi::decode(&shared.result).expect("a result");
        let named: Vec<&str> = message.output_files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(named, [MANIFEST_PATH, ".paceline/reports/junit", ".paceline/artifacts/0/a"]);
        let tree = shared.tree.expect("a tree");
        let named = message.output_directories[0].tree_digest.as_ref().and_then(reapi::Digest::value);
        assert_eq!(named, Some(Store::digest_of(&tree)));
    }

    #[test]
    fn a_tree_has_its_root_first_and_each_directory_once() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct TreeMessage {
            #[prost(message, optional, tag = "1")]
            root: Option<reapi::Directory>,
            #[prost(message, repeated, tag = "2")]
            children: Vec<reapi::Directory>,
        }
        let (_dir, store, record) = world();
        let tree: TreeMessage =
            reapi::decode(&share(&record, &store).expect("shared").tree.expect("a tree")).expect("tree");
        let root = tree.root.expect("a root");
        assert_eq!(root.directories.len(), 2);
        assert_eq!(tree.children.len(), 1, "a and b are the same directory");
        assert_eq!(tree.children[0].files[0].name, "f");
    }

    #[test]
    fn a_cache_is_found_by_scope_and_key_and_by_nothing_else() {
        let names = [("a", "b"), ("a", "c"), ("b", "b"), ("a\nb", ""), ("a", "\nb")];
        let digests: HashSet<Digest> = names.iter().map(|(scope, key)| CacheName::new(scope, key).digest).collect();
        assert_eq!(digests.len(), names.len());
        let (_dir, store, record) = world();
        let layer = Layer::load(&record.layer.expect("layer").digest, &store).expect("layer");
        let (shared, manifest) = share_cache("go-1", &layer).expect("shared");
        assert_eq!(receive_cache(&shared.result), Ok(("go-1".into(), Store::digest_of(&manifest))));
        assert!(receive_cache(&share_cache("a\x1b[2J", &layer).expect("shared").0.result).is_err());
        assert!(receive_cache(&share(&record, &store).expect("shared").result).is_err());
    }

    #[test]
    fn a_result_that_would_lead_out_or_is_out_of_bounds_is_not_believed() {
        let (_dir, store, good) = world();
        let refused = |change: &dyn Fn(&mut ActionRecord)| {
            let mut record = good.clone();
            change(&mut record);
            receive(&reapi::encode(&to_message(&record))).err()
        };
        assert_eq!(refused(&|_| {}), None);
        for path in ["../../etc/passwd", "/etc/passwd", "a//b", "a/./b", "a\0b"] {
            assert!(refused(&|record| record.artifacts[0].files[0].0 = path.into()).is_some(), "{path}");
            assert!(refused(&|record| record.artifacts[0].path = path.into()).is_some(), "{path}");
        }
        assert!(refused(&|record| record.exit = 1).is_some());
        assert!(refused(&|record| record.run = RunId::from("\x1b[2J")).is_some());
        assert!(refused(&|record| record.values = [("a b".into(), "x".into())].into()).is_some());
        assert!(refused(&|record| record.values = [("a".into(), "x\ny".into())].into()).is_some());
        assert!(refused(&|record| record.log = Some(Digest { hash: [1; 32], size: u64::MAX / 2 })).is_some());
        let huge = Digest { hash: [1; 32], size: 1 << 40 };
        assert!(refused(&|record| record.layer.as_mut().expect("layer").digest = huge).is_some());
        assert!(receive(b"\xff\xff").is_err() && receive(b"").is_err());
        let file = LayerKind::File { digest: huge, executable: false, mtime_ns: 0 };
        assert!(check_layer(&Layer { entries: vec![LayerEntry { path: "f".into(), kind: file }] }).is_err());
        drop(store);
    }
}
