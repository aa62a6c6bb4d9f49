//! Interoperation: what the protocol leaves open and real clients depend on. Each one was seen to fail between real programs.

use crate::Server;
use crate::action_cache::{file, get, plain_result, update};
use crate::check::{Verdict, checks, holds, same, same_bytes};
use crate::server::{FRAME_BYTES, parts};
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;

checks! { "traps":
    Should old_bazel_is_welcome
        "Bazel before 5 gives up unless low_api_version is 2.0"
    Should an_action_may_be_anything
        "moon's action digest is that of its own JSON: the blob of an action need not be an Action"
    Should an_action_need_not_be_there
        "clients that are caches only do not all upload the action itself"
    Should names_may_begin_with_a_slash
        "moon with an empty instance sends `/uploads/...` and `/blobs/...`"
    Should the_empty_instance_is_served
        "clients that are told nothing send the empty instance"
    Should an_instance_may_have_several_segments
        "the syntax of instance names is the server's, clients must not assume that it is one segment"
    Should results_are_not_inlined_beyond_a_message
        "clients keep to 4 MiB, and fail for ever on a result that is larger"
    Should batches_of_a_limit_can_be_read_by_everybody
        "a batch that may be written must be readable in a message of 4 MiB"
    Should updates_are_offered
        "Bazel stops when it is told to upload and update_enabled is false"
    Should what_was_found_stays_for_a_while
        "clients that were told that a blob is there do not upload it again"
}

async fn old_bazel_is_welcome(server: &Server) -> Verdict {
    let low = server.capabilities.low_api_version.clone().unwrap_or_default();
    same("low_api_version", (low.major, low.minor), (2, 0))
}

async fn an_action_may_be_anything(server: &Server) -> Verdict {
    server.needs_updates()?;
    let json = format!("{{\"fingerprint\": \"{}\"}}", server.uuid());
    let action = server.store(json.as_bytes()).await?;
    let result = plain_result(server).await?;
    update(server, &action, result.clone()).await?;
    same("the files", get(server, &action).await?.output_files, result.output_files)
}

async fn an_action_need_not_be_there(server: &Server) -> Verdict {
    server.needs_updates()?;
    let (action, result) = (server.absent(140), plain_result(server).await?);
    update(server, &action, result.clone()).await?;
    same("the files", get(server, &action).await?.output_files, result.output_files)
}

async fn names_may_begin_with_a_slash(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let name = format!("/{}", server.write_name(&digest));
    same("committed_size", server.write(parts(&name, &bytes, 1000)).await?, 1000)?;
    same_bytes("the blob", &server.read(&format!("/{}", server.read_name(&digest)), 0, 0).await?, &bytes)
}

async fn the_empty_instance_is_served(server: &Server) -> Verdict {
    round_trip(&server.instance("")).await
}

async fn an_instance_may_have_several_segments(server: &Server) -> Verdict {
    let instance = if server.instance.is_empty() { "team/main".to_owned() } else { format!("{}/sub", server.instance) };
    round_trip(&server.instance(&instance)).await
}

async fn results_are_not_inlined_beyond_a_message(server: &Server) -> Verdict {
    server.needs_updates()?;
    let mut files = Vec::new();
    for at in 0..60 {
        files.push(file(&format!("out/{at}"), server.store(&server.bytes(100_000)).await?));
    }
    let action = crate::action_cache::new_action(server).await?;
    let paths = files.iter().map(|file| file.path.clone()).collect();
    update(server, &action, api::ActionResult { output_files: files, ..Default::default() }).await?;
    let request = api::GetActionResultRequest {
        instance_name: server.instance.clone(),
        action_digest: Some(action),
        inline_output_files: paths,
        digest_function: server.function(),
        ..Default::default()
    };
    let answer = server.action_cache().get_action_result(request).await?.into_inner();
    same("the number of files", answer.output_files.len(), 60)
}

async fn batches_of_a_limit_can_be_read_by_everybody(server: &Server) -> Verdict {
    let limit = usize::try_from(server.cache().max_batch_total_size_bytes).unwrap_or_default();
    server.needs(limit != 0 && limit < FRAME_BYTES, "a limit of batches that fits a message")?;
    let contents: Vec<Vec<u8>> = (0..8).map(|_| server.bytes(limit / 8)).collect();
    let mut digests = Vec::new();
    for content in &contents {
        digests.push(server.store(content).await?);
    }
    let answers = server.batch_read(&digests, &[]).await?;
    let so = answers.iter().all(|answer| answer.data.len() == limit / 8);
    holds(answers.len() == 8 && so, "not all came back in one answer")
}

async fn updates_are_offered(server: &Server) -> Verdict {
    let told = server.cache().action_cache_update_capabilities.is_some_and(|update| update.update_enabled);
    holds(told, "update_enabled is false")
}

async fn what_was_found_stays_for_a_while(server: &Server) -> Verdict {
    let content = server.bytes(10_000);
    let digest = server.store(&content).await?;
    holds(server.has(&digest).await?, "it is missing right after its upload")?;
    for _ in 0..20 {
        server.store(&server.bytes(1 << 20)).await?;
    }
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn round_trip(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    server.write(parts(&server.write_name(&digest), &bytes, 500)).await?;
    holds(server.has(&digest).await?, "it is missing after its upload")?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}
