//! `ActionCache`: `GetActionResult`, `UpdateActionResult`, and that a result is never given without what it names.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message;
use tonic::{Code, Status};

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same, same_bytes};
use crate::server::FRAME_BYTES;
use crate::tree::directory;

checks! { "action-cache":
    Must an_unknown_action_is_not_found
        "NOT_FOUND: the requested result is not in the cache"
    Must a_result_comes_back
        "retrieves a cached execution result"
    Must every_field_of_a_result_comes_back
        "the server may modify a result only to an equivalent one"
    Should the_update_answers_with_the_result
        "the server answers with the result, which it may have modified to an equivalent one"
    Should the_latest_result_counts
        "a result may be replaced, which is how poisoned ones are got rid of"
    Must a_failed_action_may_be_stored
        "exit_code is a part of the result"
    Must an_empty_output_needs_no_upload
        "servers behave as though empty blobs are always available"
    Should a_result_is_not_given_without_its_file
        "blobs that a result references should be available when it is returned"
    Should a_result_is_not_given_without_its_stdout
        "blobs that a result references should be available when it is returned"
    Should a_result_is_not_given_without_its_tree
        "blobs that a result references should be available when it is returned"
    Should a_result_is_not_given_without_a_file_in_its_tree
        "blobs that a result references should be available when it is returned"
    Should a_result_is_not_given_without_a_file_deep_in_its_tree
        "blobs that a result references should be available when it is returned"
    Must a_result_with_a_whole_tree_is_given
        "retrieves a cached execution result"
    Should a_result_with_a_tree_that_is_none_is_not_given
        "tree_digest is the digest of an encoded Tree message"
    Should a_result_with_root_directories_is_given_when_they_are_there
        "root_directory_digest is the digest of the encoded root directory; clients may fetch either form"
    Should a_result_is_given_again_when_its_file_is_there_again
        "a result is cached as long as what it references is available"
    Must inlined_content_is_the_content
        "inline_stdout, inline_stderr and inline_output_files are hints that a server may follow"
    Must what_is_too_large_is_not_inlined
        "inlining must be left out if the answer would exceed the size of messages"
    Should nothing_is_inlined_unasked
        "content should not be inlined unless the client asks"
    Should a_result_with_ten_thousand_outputs_comes_back
        "no limit is set on the outputs of a result but the size of a message"
    Should an_action_without_a_hash_is_refused
        "INVALID_ARGUMENT: one or more arguments are invalid"
    Should an_update_without_a_result_is_refused
        "INVALID_ARGUMENT: one or more arguments are invalid"
    Should an_output_with_a_broken_digest_is_refused
        "INVALID_ARGUMENT: one or more arguments are invalid"
    Must results_of_two_actions_are_kept_apart
        "a result is addressed by the digest of its action"
    Must the_blob_of_an_action_is_not_its_result
        "the action cache addresses results by the digest of the action, unlike the content storage"
}

async fn an_unknown_action_is_not_found(server: &Server) -> Verdict {
    refused(get(server, &server.absent(100)).await, &[Code::NotFound])
}

async fn a_result_comes_back(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (action, result) = (new_action(server).await?, plain_result(server).await?);
    comes_back(server, &action, result).await
}

async fn every_field_of_a_result_comes_back(server: &Server) -> Verdict {
    server.needs_updates()?;
    let link = |path: &str| api::OutputSymlink { path: path.into(), target: "../there".into(), ..Default::default() };
    let stderr = server.store(&server.bytes(50)).await?;
    let result = api::ActionResult {
        output_symlinks: vec![link("link")],
        exit_code: 0,
        stderr_digest: Some(stderr),
        execution_metadata: Some(api::ExecutedActionMetadata { worker: "worker 7".into(), ..Default::default() }),
        ..plain_result(server).await?
    };
    comes_back(server, &new_action(server).await?, result).await
}

async fn the_update_answers_with_the_result(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (action, result) = (new_action(server).await?, plain_result(server).await?);
    let answer = update(server, &action, result.clone()).await?;
    same("the answer's files", answer.output_files, result.output_files)
}

async fn the_latest_result_counts(server: &Server) -> Verdict {
    server.needs_updates()?;
    let action = new_action(server).await?;
    for _ in 0..3 {
        comes_back(server, &action, plain_result(server).await?).await?;
    }
    Ok(())
}

async fn a_failed_action_may_be_stored(server: &Server) -> Verdict {
    server.needs_updates()?;
    let result = api::ActionResult { exit_code: 3, ..plain_result(server).await? };
    let action = new_action(server).await?;
    update(server, &action, result).await?;
    same("exit_code", get(server, &action).await?.exit_code, 3)
}

async fn an_empty_output_needs_no_upload(server: &Server) -> Verdict {
    server.needs_updates()?;
    let mut result = plain_result(server).await?;
    result.output_files.push(file("empty", server.digest(b"")));
    result.stdout_digest = Some(server.digest(b""));
    comes_back(server, &new_action(server).await?, result).await
}

async fn a_result_is_not_given_without_its_file(server: &Server) -> Verdict {
    let mut result = plain_result(server).await?;
    result.output_files.push(file("gone", server.absent(100)));
    is_not_given(server, result).await
}

async fn a_result_is_not_given_without_its_stdout(server: &Server) -> Verdict {
    let stdout_digest = Some(server.absent(100));
    is_not_given(server, api::ActionResult { stdout_digest, ..plain_result(server).await? }).await
}

async fn a_result_is_not_given_without_its_tree(server: &Server) -> Verdict {
    let tree = server.absent(100);
    is_not_given(server, with_tree(plain_result(server).await?, tree)).await
}

async fn a_result_is_not_given_without_a_file_in_its_tree(server: &Server) -> Verdict {
    // The file of a new directory is stored nowhere.
    let root = directory(server, &[]);
    let tree = server.store_message(&api::Tree { root: Some(root), children: vec![] }).await?;
    is_not_given(server, with_tree(plain_result(server).await?, tree)).await
}

async fn a_result_is_not_given_without_a_file_deep_in_its_tree(server: &Server) -> Verdict {
    let mut leaf = directory(server, &[]);
    leaf.files.push(api::FileNode { name: "z".into(), digest: Some(server.absent(9)), ..Default::default() });
    let mut middle = api::Directory { ..directory(server, &[&leaf]) };
    let mut root = api::Directory { ..directory(server, &[&middle]) };
    middle.files.clear();
    root.files.clear();
    root.directories[0].digest = Some(server.digest(&middle.encode_to_vec()));
    let tree = server.store_message(&api::Tree { root: Some(root), children: vec![middle, leaf] }).await?;
    is_not_given(server, with_tree(plain_result(server).await?, tree)).await
}

async fn a_result_with_a_whole_tree_is_given(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (root, children) = whole_tree(server).await?;
    let tree = server.store_message(&api::Tree { root: Some(root), children }).await?;
    let result = with_tree(plain_result(server).await?, tree);
    comes_back(server, &new_action(server).await?, result).await
}

async fn a_result_with_a_tree_that_is_none_is_not_given(server: &Server) -> Verdict {
    let noise = server.store(&[&[0xff; 100], server.bytes(16).as_slice()].concat()).await?;
    is_not_given(server, with_tree(plain_result(server).await?, noise)).await
}

async fn a_result_with_root_directories_is_given_when_they_are_there(server: &Server) -> Verdict {
    server.needs_updates()?;
    server.needs(server.speaks(3), "root_directory_digest (version 2.3)")?;
    let (root, children) = whole_tree(server).await?;
    for one in children.iter().chain([&root]) {
        server.store_message(one).await?;
    }
    let root_directory_digest = Some(server.digest(&root.encode_to_vec()));
    let tree = server.store_message(&api::Tree { root: Some(root), children }).await?;
    let mut result = with_tree(plain_result(server).await?, tree);
    result.output_directories[0].root_directory_digest = root_directory_digest;
    comes_back(server, &new_action(server).await?, result).await
}

async fn a_result_is_given_again_when_its_file_is_there_again(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (digest, bytes) = server.blob(1000);
    let mut result = plain_result(server).await?;
    result.output_files.push(file("late", digest));
    let action = new_action(server).await?;
    // Refusing the result while the file is missing is right, too; then the client says it again.
    let refused = update(server, &action, result.clone()).await.is_err();
    server.store(&bytes).await?;
    if refused {
        update(server, &action, result.clone()).await?;
    }
    same("the files", get(server, &action).await?.output_files, result.output_files)
}

async fn inlined_content_is_the_content(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (out, err, content) = (server.text(300), server.text(400), server.bytes(500));
    let stored = [server.store(&out).await?, server.store(&err).await?, server.store(&content).await?];
    let [stdout, stderr, output] = stored;
    let result = api::ActionResult {
        output_files: vec![file("inlined", output)],
        stdout_digest: Some(stdout),
        stderr_digest: Some(stderr),
        ..Default::default()
    };
    let action = new_action(server).await?;
    update(server, &action, result.clone()).await?;
    let request = api::GetActionResultRequest {
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["inlined".into(), "no such file".into()],
        ..request(server, &action)
    };
    let answer = server.action_cache().get_action_result(request).await?.into_inner();
    either("stdout", &answer.stdout_raw, &out, answer.stdout_digest == result.stdout_digest)?;
    either("stderr", &answer.stderr_raw, &err, answer.stderr_digest == result.stderr_digest)?;
    let seen = answer.output_files.first().cloned().unwrap_or_default();
    either("the file", &seen.contents, &content, seen.digest == result.output_files[0].digest)
}

async fn what_is_too_large_is_not_inlined(server: &Server) -> Verdict {
    server.needs_updates()?;
    let stdout = server.store(&server.bytes(FRAME_BYTES + 1)).await?;
    let result = api::ActionResult { stdout_digest: Some(stdout.clone()), ..plain_result(server).await? };
    let action = new_action(server).await?;
    update(server, &action, result).await?;
    let request = api::GetActionResultRequest { inline_stdout: true, ..request(server, &action) };
    let answer = server.action_cache().get_action_result(request).await?.into_inner();
    same("stdout_digest", answer.stdout_digest, Some(stdout))
}

async fn nothing_is_inlined_unasked(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (action, result) = (new_action(server).await?, plain_result(server).await?);
    update(server, &action, result).await?;
    let answer = get(server, &action).await?;
    let inlined = answer.output_files.iter().any(|file| !file.contents.is_empty());
    holds(answer.stdout_raw.is_empty() && !inlined, "content is in the answer that nobody asked for")
}

async fn a_result_with_ten_thousand_outputs_comes_back(server: &Server) -> Verdict {
    server.needs_updates()?;
    let digest = server.store(&server.bytes(10)).await?;
    let output_files = (0..10_000).map(|at| file(&format!("out/{at:05}"), digest.clone())).collect();
    let result = api::ActionResult { output_files, ..Default::default() };
    comes_back(server, &new_action(server).await?, result).await
}

async fn an_action_without_a_hash_is_refused(server: &Server) -> Verdict {
    for hash in ["", "abc", "../../../etc/passwd"] {
        let digest = api::Digest { hash: hash.into(), size_bytes: 10 };
        refused(get(server, &digest).await, &[Code::InvalidArgument, Code::NotFound])?;
        refused(update(server, &digest, api::ActionResult::default()).await, &[Code::InvalidArgument])?;
    }
    Ok(())
}

async fn an_update_without_a_result_is_refused(server: &Server) -> Verdict {
    server.needs_updates()?;
    let request = api::UpdateActionResultRequest {
        instance_name: server.instance.clone(),
        action_digest: Some(new_action(server).await?),
        digest_function: server.function(),
        ..Default::default()
    };
    refused(server.action_cache().update_action_result(request).await, &[Code::InvalidArgument])
}

async fn an_output_with_a_broken_digest_is_refused(server: &Server) -> Verdict {
    server.needs_updates()?;
    let broken = api::Digest { hash: "no hash".into(), size_bytes: 10 };
    let result = api::ActionResult { output_files: vec![file("out", broken)], ..Default::default() };
    let codes = [Code::InvalidArgument, Code::FailedPrecondition];
    refused(update(server, &new_action(server).await?, result).await, &codes)
}

async fn results_of_two_actions_are_kept_apart(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (first, second) = (new_action(server).await?, new_action(server).await?);
    update(server, &first, api::ActionResult { exit_code: 0, ..plain_result(server).await? }).await?;
    refused(get(server, &second).await, &[Code::NotFound])
}

async fn the_blob_of_an_action_is_not_its_result(server: &Server) -> Verdict {
    refused(get(server, &new_action(server).await?).await, &[Code::NotFound])
}

/// Uploads a new action with its command.
pub(crate) async fn new_action(server: &Server) -> Result<api::Digest, Status> {
    let command = api::Command { arguments: vec!["true".into()], ..Default::default() };
    let action = api::Action {
        command_digest: Some(server.store_message(&command).await?),
        input_root_digest: Some(server.digest(b"")),
        salt: server.bytes(16),
        ..Default::default()
    };
    server.store_message(&action).await
}

/// A result with two files and standard output, all of which are stored.
pub(crate) async fn plain_result(server: &Server) -> Result<api::ActionResult, Status> {
    let contents = [server.bytes(1000), server.bytes(20), server.bytes(30)];
    let mut digests = server.store_all(&contents).await?.into_iter();
    let mut next = || digests.next().unwrap_or_default();
    Ok(api::ActionResult {
        output_files: vec![file("bin/program", next()), api::OutputFile { is_executable: true, ..file("a", next()) }],
        stdout_digest: Some(next()),
        ..Default::default()
    })
}

pub(crate) async fn update(
    server: &Server,
    action: &api::Digest,
    result: api::ActionResult,
) -> Result<api::ActionResult, Status> {
    let request = api::UpdateActionResultRequest {
        instance_name: server.instance.clone(),
        action_digest: Some(action.clone()),
        action_result: Some(result),
        digest_function: server.function(),
        ..Default::default()
    };
    Ok(server.action_cache().update_action_result(request).await?.into_inner())
}

pub(crate) async fn get(server: &Server, action: &api::Digest) -> Result<api::ActionResult, Status> {
    Ok(server.action_cache().get_action_result(request(server, action)).await?.into_inner())
}

fn request(server: &Server, action: &api::Digest) -> api::GetActionResultRequest {
    api::GetActionResultRequest {
        instance_name: server.instance.clone(),
        action_digest: Some(action.clone()),
        digest_function: server.function(),
        ..Default::default()
    }
}

pub(crate) fn file(path: &str, digest: api::Digest) -> api::OutputFile {
    api::OutputFile { path: path.into(), digest: Some(digest), ..Default::default() }
}

fn with_tree(mut result: api::ActionResult, tree: api::Digest) -> api::ActionResult {
    result.output_directories.push(api::OutputDirectory {
        path: "directory".into(),
        tree_digest: Some(tree),
        ..Default::default()
    });
    result
}

/// A directory with a file that is stored and one below it that is as well; the directories are not stored.
async fn whole_tree(server: &Server) -> Result<(api::Directory, Vec<api::Directory>), Status> {
    let mut leaf = directory(server, &[]);
    leaf.files[0].digest = Some(server.store(&server.bytes(10)).await?);
    let mut root = directory(server, &[&leaf]);
    root.files[0].digest = Some(server.digest(b""));
    Ok((root, vec![leaf]))
}

/// Stores the result and expects it back, but for what the server may add: who made it and when, and inlined content.
async fn comes_back(server: &Server, action: &api::Digest, result: api::ActionResult) -> Verdict {
    update(server, action, result.clone()).await?;
    let seen = get(server, action).await?;
    let worker = |result: &api::ActionResult| {
        result.execution_metadata.as_ref().map(|metadata| metadata.worker.clone()).unwrap_or_default()
    };
    if !worker(&result).is_empty() {
        same("the worker", worker(&seen), worker(&result))?;
    }
    let bare = |result: api::ActionResult| api::ActionResult {
        execution_metadata: None,
        stdout_raw: vec![],
        stderr_raw: vec![],
        ..result
    };
    holds(bare(seen.clone()) == bare(result), format!("another result came back: {seen:.300?}"))
}

/// The update is refused, or the result is not found.
async fn is_not_given(server: &Server, result: api::ActionResult) -> Verdict {
    server.needs_updates()?;
    let action = new_action(server).await?;
    match update(server, &action, result).await {
        Ok(_) => refused(get(server, &action).await, &[Code::NotFound]),
        Err(status) => {
            let codes = [Code::FailedPrecondition, Code::InvalidArgument, Code::NotFound];
            refused::<()>(Err(status), &codes)
        }
    }
}

/// Content is inlined as it is, or its digest is there to fetch it by.
fn either(what: &str, inlined: &[u8], content: &[u8], by_digest: bool) -> Verdict {
    match inlined.is_empty() {
        true => holds(by_digest, format!("{what} is neither inlined nor named")),
        false => same_bytes(what, inlined, content),
    }
}
