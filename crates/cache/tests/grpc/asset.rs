//! Content by where it came from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bazel_remote_apis::build::bazel::remote::asset::v1 as api;
use bazel_remote_apis::build::bazel::remote::execution::v2 as exec;
use bazel_remote_apis::google::protobuf::Timestamp;
use prost::Message as _;
use tonic::Code;

use crate::world::{World, digest};

fn qualifier(name: &str, value: &str) -> api::Qualifier {
    api::Qualifier { name: name.into(), value: value.into() }
}

impl World {
    async fn asset(&self, request: api::FetchBlobRequest) -> Result<exec::Digest, i32> {
        let answer = self.fetch().fetch_blob(request).await.unwrap().into_inner();
        let code = answer.status.unwrap().code;
        if code == 0 { Ok(answer.blob_digest.unwrap()) } else { Err(code) }
    }
}

fn pushed(uri: &str, blob: &[u8]) -> api::PushBlobRequest {
    api::PushBlobRequest { uris: vec![uri.into()], blob_digest: Some(digest(blob)), ..Default::default() }
}

fn wanted(uri: &str) -> api::FetchBlobRequest {
    api::FetchBlobRequest { uris: vec![uri.into()], ..Default::default() }
}

const GONE: Result<exec::Digest, i32> = Err(Code::NotFound as i32);

#[tokio::test]
async fn a_blob_is_fetched_by_any_of_its_places_and_its_qualifiers_in_any_order() {
    let world = World::new().await;
    world.has(&[b"blob"]).await;
    let (a, b) = (qualifier("a", "1"), qualifier("b", "2"));
    let request = api::PushBlobRequest {
        uris: vec!["urn:one".into(), "urn:two".into()],
        qualifiers: vec![a.clone(), b.clone()],
        ..pushed("", b"blob")
    };
    world.push().push_blob(request).await.unwrap();
    let request = |uris: &[&str], qualifiers: &[&api::Qualifier]| api::FetchBlobRequest {
        uris: uris.iter().map(ToString::to_string).collect(),
        qualifiers: qualifiers.iter().map(|qualifier| (*qualifier).clone()).collect(),
        ..Default::default()
    };
    assert_eq!(world.asset(request(&["urn:two"], &[&b, &a])).await, Ok(digest(b"blob")));
    assert_eq!(world.asset(request(&["urn:none", "urn:one"], &[&a, &b])).await, Ok(digest(b"blob")));
    assert_eq!(world.asset(request(&["urn:one"], &[&a])).await, GONE);
    assert_eq!(world.asset(request(&["urn:none"], &[&a, &b])).await, GONE);
    for bad in [request(&[], &[]), request(&["urn:one"], &[&a, &a])] {
        assert_eq!(world.fetch().fetch_blob(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let directory = api::FetchDirectoryRequest { uris: vec!["urn:one".into()], ..Default::default() };
    let answer = world.fetch().fetch_directory(directory).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code, Code::NotFound as i32, "it is a blob there");
}

#[tokio::test]
async fn an_asset_ends_when_it_expires_is_too_old_or_loses_a_blob() {
    let world = World::new().await;
    world.has(&[b"blob", b"reference"]).await;
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    world.push().push_blob(api::PushBlobRequest { expire_at: at(1), ..pushed("urn:over", b"blob") }).await.unwrap();
    assert_eq!(world.asset(wanted("urn:over")).await, GONE);
    let future = at(4_000_000_000);
    let request = api::PushBlobRequest {
        expire_at: future,
        references_blobs: vec![digest(b"reference")],
        ..pushed("urn:blob", b"blob")
    };
    world.push().push_blob(request).await.unwrap();
    assert_eq!(world.asset(wanted("urn:blob")).await, Ok(digest(b"blob")));
    let newer = api::FetchBlobRequest { oldest_content_accepted: future, ..wanted("urn:blob") };
    assert_eq!(world.asset(newer).await, GONE);
    world.forgets(&digest(b"reference"));
    assert_eq!(world.asset(wanted("urn:blob")).await, GONE);
    let absent = world.push().push_blob(pushed("urn:x", b"absent")).await;
    assert_eq!(absent.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_directory_is_whole_or_not_fetched() {
    let world = World::new().await;
    let file = exec::FileNode { name: "f".into(), digest: Some(digest(b"file")), ..Default::default() };
    let root = exec::Directory { files: vec![file], ..Default::default() }.encode_to_vec();
    world.has(&[&root]).await;
    let push = || api::PushDirectoryRequest {
        uris: vec!["urn:dir".into()],
        root_directory_digest: Some(digest(&root)),
        ..Default::default()
    };
    assert_eq!(world.push().push_directory(push()).await.unwrap_err().code(), Code::FailedPrecondition);
    world.has(&[b"file"]).await;
    world.push().push_directory(push()).await.unwrap();
    let fetch = async || {
        let request = api::FetchDirectoryRequest { uris: vec!["urn:dir".into()], ..Default::default() };
        world.fetch().fetch_directory(request).await.unwrap().into_inner()
    };
    assert_eq!(fetch().await.root_directory_digest, Some(digest(&root)));
    world.forgets(&digest(b"file"));
    assert_eq!(fetch().await.status.unwrap().code, Code::NotFound as i32);
}

#[tokio::test]
async fn a_checksum_finds_what_is_there_and_nothing_is_downloaded() {
    let world = World::new().await;
    world.has(&[b"blob"]).await;
    let checksum = |blob: &[u8]| {
        let hash = blobs::Function::Sha256.key_of(blob).hash;
        qualifier("checksum.sri", &format!("sha256-{}", STANDARD.encode(hash)))
    };
    let by = |blob: &[u8]| api::FetchBlobRequest {
        qualifiers: vec![checksum(blob)],
        // A server that would go there itself answers something else than `NOT_FOUND`.
        ..wanted("http://127.0.0.1:9/file.tar.gz")
    };
    assert_eq!(world.asset(by(b"blob")).await, Ok(digest(b"blob")));
    assert_eq!(world.asset(by(b"absent")).await, GONE);
}
