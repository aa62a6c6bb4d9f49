//! What actions gave, as long as all of it is there.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message as _;
use tonic::{Code, Request};

use crate::world::{World, digest, noise};

fn output(path: &str, blob: &[u8]) -> api::OutputFile {
    api::OutputFile { path: path.into(), digest: Some(digest(blob)), ..Default::default() }
}

fn result(files: &[(&str, &[u8])]) -> api::ActionResult {
    api::ActionResult {
        output_files: files.iter().map(|(path, blob)| output(path, blob)).collect(),
        ..Default::default()
    }
}

impl World {
    async fn update(
        &self,
        instance: &str,
        action: &[u8],
        result: api::ActionResult,
    ) -> Result<api::ActionResult, Code> {
        let request = api::UpdateActionResultRequest {
            instance_name: instance.into(),
            action_digest: Some(digest(action)),
            action_result: Some(result),
            ..Default::default()
        };
        self.actions().update_action_result(request).await.map(|answer| answer.into_inner()).map_err(|told| told.code())
    }

    async fn look_up(&self, instance: &str, action: &[u8]) -> Result<api::ActionResult, Code> {
        self.ask(api::GetActionResultRequest { instance_name: instance.into(), ..wanted(action) }).await
    }

    async fn ask(&self, request: api::GetActionResultRequest) -> Result<api::ActionResult, Code> {
        self.actions().get_action_result(request).await.map(|answer| answer.into_inner()).map_err(|told| told.code())
    }
}

fn wanted(action: &[u8]) -> api::GetActionResultRequest {
    api::GetActionResultRequest { action_digest: Some(digest(action)), ..Default::default() }
}

#[tokio::test]
async fn a_result_is_found_while_everything_it_names_is_there() {
    let world = World::new().await;
    world.has(&[b"one", b"two", b"out", b"err"]).await;
    let result = api::ActionResult {
        stdout_digest: Some(digest(b"out")),
        stderr_digest: Some(digest(b"err")),
        exit_code: 3,
        execution_metadata: Some(api::ExecutedActionMetadata { worker: "w".into(), ..Default::default() }),
        ..result(&[("a", b"one"), ("b", b"two"), ("empty", b"")])
    };
    for gone in [b"one", b"two", b"out", b"err"] {
        assert_eq!(world.update("", b"action", result.clone()).await.as_ref(), Ok(&result));
        assert_eq!(world.look_up("", b"action").await.as_ref(), Ok(&result));
        world.forgets(&digest(gone));
        assert_eq!(world.look_up("", b"action").await, Err(Code::NotFound));
        world.has(&[gone]).await;
        assert_eq!(world.look_up("", b"action").await.as_ref(), Ok(&result), "it is whole again");
    }
    assert_eq!(world.look_up("", b"another action").await, Err(Code::NotFound));
}

#[tokio::test]
async fn a_result_that_names_what_is_not_there_is_refused() {
    let world = World::new().await;
    assert_eq!(world.update("", b"action", result(&[("a", b"absent")])).await, Err(Code::FailedPrecondition));
    let tree = api::ActionResult {
        output_directories: vec![api::OutputDirectory { tree_digest: Some(digest(b"absent")), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(world.update("", b"action", tree).await, Err(Code::FailedPrecondition));
    let no_digest = api::ActionResult { output_files: vec![api::OutputFile::default()], ..Default::default() };
    assert_eq!(world.update("", b"action", no_digest).await, Err(Code::InvalidArgument));
    let request = api::UpdateActionResultRequest { action_digest: Some(digest(b"a")), ..Default::default() };
    assert_eq!(world.actions().update_action_result(request).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(world.ask(api::GetActionResultRequest::default()).await, Err(Code::InvalidArgument));
    let large = api::ActionResult {
        output_symlinks: vec![api::OutputSymlink { path: "p".repeat(5 << 20), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(world.update("", b"action", large).await, Err(Code::InvalidArgument));
    assert_eq!(world.look_up("", b"action").await, Err(Code::NotFound));
}

#[tokio::test]
async fn what_is_the_digest_of_an_action_need_be_neither_an_action_nor_there() {
    let world = World::new().await;
    // moon stores its fingerprint, which is JSON, as the action; other clients store nothing.
    world.has(&[br#"{"command":"x"}"#, b"out"]).await;
    for action in [br#"{"command":"x"}"#.as_slice(), b"not stored"] {
        world.update("main", action, result(&[("a", b"out")])).await.unwrap();
        assert!(world.look_up("main", action).await.is_ok());
    }
}

#[tokio::test]
async fn the_files_of_directories_are_needed_too() {
    let world = World::new().await;
    let file = |blob: &[u8]| api::FileNode { name: "f".into(), digest: Some(digest(blob)), ..Default::default() };
    let child = api::Directory { files: vec![file(b"deep")], ..Default::default() };
    let child_digest = digest(&child.encode_to_vec());
    let root = api::Directory {
        files: vec![file(b"shallow")],
        directories: vec![api::DirectoryNode { name: "d".into(), digest: Some(child_digest.clone()) }],
        ..Default::default()
    };
    let tree = api::Tree { root: Some(root.clone()), children: vec![child.clone()] }.encode_to_vec();
    let (root, child) = (root.encode_to_vec(), child.encode_to_vec());
    world.has(&[b"deep", b"shallow", &tree]).await;
    let directory = |tree_digest, root_directory_digest| api::ActionResult {
        output_directories: vec![api::OutputDirectory { tree_digest, root_directory_digest, ..Default::default() }],
        ..Default::default()
    };
    world.update("", b"tree", directory(Some(digest(&tree)), None)).await.unwrap();
    let by_root = directory(None, Some(digest(&root)));
    assert_eq!(world.update("", b"root", by_root.clone()).await, Err(Code::FailedPrecondition));
    world.has(&[&root, &child]).await;
    world.update("", b"root", by_root).await.unwrap();
    for (blob, by_tree, by_root) in
        [(b"deep".as_slice(), false, false), (b"shallow", false, false), (&tree, false, true), (&child, true, false)]
    {
        world.forgets(&digest(blob));
        assert_eq!(world.look_up("", b"tree").await.is_ok(), by_tree);
        assert_eq!(world.look_up("", b"root").await.is_ok(), by_root);
        world.has(&[blob]).await;
    }
    let not_a_tree = directory(Some(digest(b"deep")), None);
    assert_eq!(world.update("", b"x", not_a_tree).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn small_contents_come_with_the_result_when_they_are_asked_for() {
    let world = World::new().await;
    let large = noise(1, 2 << 20);
    world.has(&[b"out", &large, b"one", b"two"]).await;
    let stored = api::ActionResult {
        stdout_digest: Some(digest(b"out")),
        stderr_digest: Some(digest(&large)),
        ..result(&[("a", b"one"), ("b", b"two"), ("c", &large)])
    };
    world.update("", b"action", stored.clone()).await.unwrap();
    let request = api::GetActionResultRequest {
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["b".into(), "c".into(), "no such file".into()],
        ..wanted(b"action")
    };
    let got = world.ask(request).await.unwrap();
    assert_eq!(got.stdout_raw, b"out");
    assert_eq!(got.stderr_raw, b"", "it is too large");
    let contents: Vec<&[u8]> = got.output_files.iter().map(|file| file.contents.as_slice()).collect();
    assert_eq!(contents, [b"".as_slice(), b"two", b""]);
    assert_eq!(world.look_up("", b"action").await, Ok(stored));
}

#[tokio::test]
async fn many_inlined_files_do_not_make_an_answer_that_nobody_reads() {
    let world = World::new().await;
    let blobs: Vec<Vec<u8>> = (0..10).map(|seed| noise(seed, 900_000)).collect();
    for blob in &blobs {
        world.has(&[blob]).await;
    }
    let paths: Vec<String> = (0..10).map(|at| at.to_string()).collect();
    let files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(blobs.iter().map(Vec::as_slice)).collect();
    world.update("", b"action", result(&files)).await.unwrap();
    let got = world.ask(api::GetActionResultRequest { inline_output_files: paths.clone(), ..wanted(b"action") }).await;
    let inlined = got.unwrap().output_files.iter().filter(|file| !file.contents.is_empty()).count();
    assert_eq!(inlined, 4);
}

#[tokio::test]
async fn contents_that_come_with_a_result_become_blobs() {
    let world = World::new().await;
    let sent = api::ActionResult {
        stdout_raw: b"out".to_vec(),
        output_files: vec![api::OutputFile { contents: b"one".to_vec(), ..output("a", b"one") }],
        ..Default::default()
    };
    world.update("", b"action", sent.clone()).await.unwrap();
    assert_eq!(world.missing(vec![digest(b"out"), digest(b"one")]).await, []);
    let got = world.look_up("", b"action").await.unwrap();
    assert_eq!((got.stdout_raw, got.stdout_digest), (vec![], Some(digest(b"out"))));
    let lie = api::ActionResult { stdout_digest: Some(digest(b"other")), ..sent };
    assert_eq!(world.update("", b"action", lie).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn an_overlay_reads_through_and_writes_to_itself() {
    let world = World::new().await;
    world.has(&[b"main", b"pr"]).await;
    world.update("team/main", b"a", result(&[("f", b"main")])).await.unwrap();
    assert_eq!(world.look_up("team/main/pr/7", b"a").await, Ok(result(&[("f", b"main")])));
    world.update("team/main/pr/7", b"a", result(&[("f", b"pr")])).await.unwrap();
    world.update("team/main/pr/7", b"b", result(&[("f", b"pr")])).await.unwrap();
    assert_eq!(world.look_up("team/main/pr/7", b"a").await, Ok(result(&[("f", b"pr")])));
    assert_eq!(world.look_up("team/main", b"a").await, Ok(result(&[("f", b"main")])));
    for elsewhere in ["team/main", "team/main/pr/8", "", "team", "other"] {
        assert_eq!(world.look_up(elsewhere, b"b").await, Err(Code::NotFound), "{elsewhere}");
    }
    world.forgets(&digest(b"pr"));
    assert_eq!(world.look_up("team/main/pr/7", b"a").await, Ok(result(&[("f", b"main")])), "below is whole");
}

#[tokio::test]
async fn who_wrote_a_result_stands_with_it() {
    let world = World::new().await;
    let metadata = api::RequestMetadata { tool_invocation_id: "run-1".into(), ..Default::default() };
    let mut request = Request::new(api::UpdateActionResultRequest {
        action_digest: Some(digest(b"action")),
        action_result: Some(api::ActionResult { exit_code: 1, ..Default::default() }),
        ..Default::default()
    });
    let value = tonic::metadata::MetadataValue::from_bytes(&metadata.encode_to_vec());
    request.metadata_mut().insert_bin("build.bazel.remote.execution.v2.requestmetadata-bin", value);
    world.actions().update_action_result(request).await.unwrap();
    let mut writers = Vec::new();
    world.running.service.blobs.entries("ac\n", |_, entry| writers.push(entry.writer.clone())).unwrap();
    assert_eq!(writers, ["anonymous run run-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_how_they_ended() {
    let world = World::new().await;
    assert_eq!(world.look_up("", b"unknown").await, Err(Code::NotFound));
    let service = world.running.service.clone();
    let text = service.http.meters.text(&service.blobs.stats());
    let line = r#"pace_cache_requests_total{protocol="grpc",ending="miss"} 1"#;
    assert!(text.lines().any(|told| told == line), "{text}");
}
