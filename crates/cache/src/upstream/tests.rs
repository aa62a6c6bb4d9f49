//! Scenes of two caches, one below the other.

use std::time::Duration;

use super::*;
use crate::config::{Anonymous, UpstreamRights};
use crate::{Config, Running, serve};

const DEADLINE: Duration = Duration::from_secs(60);

/// A cache of its own, perhaps with another below it.
struct Desk {
    running: Running,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn new(change: impl FnOnce(&mut Config)) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::local(&folder.path().join("data"));
        change(&mut config);
        Desk { running: serve(&config).unwrap(), _folder: folder }
    }
    fn above(url: String, rights: UpstreamRights) -> Desk {
        Desk::new(|config| {
            config.upstream = Some(UpstreamSettings { url, rights, ..UpstreamSettings::default() });
        })
    }
    fn url(&self) -> String {
        format!("grpc://{}", self.running.address)
    }
    fn blobs(&self) -> &Blobs {
        &self.running.service.blobs
    }
    fn upstream(&self) -> &Upstream {
        self.running.service.upstream.as_ref().unwrap()
    }
    /// What a client of this desk sees.
    fn client(&self, instance: &str) -> Remote {
        let address = Address::parse(&format!("{}/{instance}", self.url())).unwrap();
        Remote::new(remote::Options { connect: DEADLINE, look_up: DEADLINE, ..remote::Options::new(address) })
    }
}

fn blob(text: &str) -> (model::Digest, Blob) {
    let bytes = Bytes::from(text.to_owned());
    let key = Function::Sha256.key_of(&bytes);
    (digest_of(&key), Blob { digest: digest_of(&key), content: remote::Content::Bytes(bytes) })
}

use remote::Blob;

fn wire(digest: &model::Digest) -> Option<api::Digest> {
    Some(api::Digest { hash: digest.hex(), size_bytes: digest.size as i64 })
}

/// A result with a file, and a tree with a file; written by a client of `desk`.
fn build(desk: &Desk, instance: &str) -> (model::Digest, Vec<model::Digest>) {
    let (file, file_blob) = blob("file");
    let (leaf, leaf_blob) = blob("leaf");
    let node = api::FileNode { name: "leaf".into(), digest: wire(&leaf), ..api::FileNode::default() };
    let root = api::Directory { files: vec![node], ..api::Directory::default() };
    let tree = api::Tree { root: Some(root), ..api::Tree::default() }.encode_to_vec();
    let tree = Bytes::from(tree);
    let tree_digest = digest_of(&Function::Sha256.key_of(&tree));
    let tree_blob = Blob { digest: tree_digest, content: remote::Content::Bytes(tree) };
    let result = api::ActionResult {
        output_files: vec![api::OutputFile { path: "f".into(), digest: wire(&file), ..api::OutputFile::default() }],
        output_directories: vec![api::OutputDirectory {
            path: "d".into(),
            tree_digest: wire(&tree_digest),
            ..api::OutputDirectory::default()
        }],
        ..api::ActionResult::default()
    };
    let client = desk.client(instance);
    client.upload(&[file_blob, leaf_blob, tree_blob]).unwrap();
    let (action, _) = blob("action");
    client.set_action(&action, &result.encode_to_vec()).unwrap();
    (action, vec![file, leaf, tree_digest])
}

fn sent(desk: &Desk) {
    let deadline = Instant::now() + DEADLINE;
    while desk.upstream().stats().queued > 0 {
        assert!(Instant::now() < deadline, "{:?}", desk.upstream().stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_below_is_found_with_all_it_needs_and_is_here_from_then_on() {
    let below = Desk::new(|_| {});
    let (action, blobs) = build(&below, "main");
    let above = Desk::above(below.url(), UpstreamRights::Read);
    let client = above.client("main");
    assert!(client.action(&action, None).unwrap().is_some());
    let keys: Vec<Key> = blobs.into_iter().map(Key::from).collect();
    assert_eq!(above.blobs().missing(&keys), [0; 0]);
    let stats = above.upstream().stats();
    assert_eq!((stats.hits, stats.blobs_fetched), (1, 3));
    drop(below);
    assert!(client.action(&action, None).unwrap().is_some(), "it did not stay");
    assert!(above.client("other").action(&action, None).unwrap().is_none(), "it is in another instance, too");
}

#[test]
fn a_blob_that_is_only_below_is_read_through() {
    let below = Desk::new(|_| {});
    let (digest, blob) = blob("deep");
    below.client("").upload(&[blob]).unwrap();
    let above = Desk::above(below.url(), UpstreamRights::Read);
    let client = above.client("");
    assert_eq!(client.missing(&[digest]).unwrap(), [digest], "FindMissing asks elsewhere");
    let mut read = Vec::new();
    client.read(&digest, &mut read).unwrap();
    assert_eq!(read, b"deep");
    assert_eq!(client.missing(&[digest]).unwrap(), []);
}

#[test]
fn a_result_below_whose_blobs_are_gone_is_no_result() {
    let below = Desk::new(|_| {});
    let (action, blobs) = build(&below, "main");
    let above = Desk::above(below.url(), UpstreamRights::Read);
    below.blobs().remove(&Key::from(blobs[1])).unwrap();
    assert!(above.client("main").action(&action, None).unwrap().is_none());
    assert_eq!(above.upstream().stats().misses, 1);
}

#[test]
fn what_is_written_here_goes_there_as_far_as_that_is_wished() {
    for (rights, content, results) in [
        (UpstreamRights::Read, false, false),
        (UpstreamRights::Content, true, false),
        (UpstreamRights::Write, true, true),
    ] {
        let below = Desk::new(|_| {});
        let above = Desk::above(below.url(), rights);
        let (action, blobs) = build(&above, "main");
        sent(&above);
        let missing = below.client("main").missing(&blobs).unwrap();
        assert_eq!(missing.is_empty(), content, "{rights:?}");
        assert_eq!(below.client("main").action(&action, None).unwrap().is_some(), results, "{rights:?}");
    }
}

#[test]
fn an_upstream_that_allows_no_writes_costs_a_count_and_no_build() {
    let below = Desk::new(|config| config.anonymous = Some(Anonymous::Rights(Rights::Read)));
    let above = Desk::above(below.url(), UpstreamRights::Write);
    let (action, _) = build(&above, "main");
    sent(&above);
    assert!(above.upstream().stats().not_sent > 0);
    assert!(above.client("main").action(&action, None).unwrap().is_some());
}

#[test]
fn a_dead_upstream_leaves_a_cache_that_works() {
    let below = Desk::new(|_| {});
    let url = below.url();
    drop(below);
    let above = Desk::above(url, UpstreamRights::Write);
    let client = above.client("main");
    let (other, _) = blob("another action");
    assert!(client.action(&other, None).unwrap().is_none());
    let (action, _) = build(&above, "main");
    assert!(client.action(&action, None).unwrap().is_some());
    sent(&above);
    let stats = above.upstream().stats();
    assert!(stats.failures > 0 && stats.not_sent > 0, "{stats:?}");
}
