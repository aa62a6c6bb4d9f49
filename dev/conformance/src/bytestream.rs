//! `ByteStream` with plain blobs: `Read`, `Write`, `QueryWriteStatus`.

use bazel_remote_apis::google::bytestream as bs;
use tonic::Code;

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same, same_bytes};
use crate::data::resized;
use crate::server::{FRAME_BYTES, parts};

checks! { "bytestream":
    Must a_blob_is_written_in_one_message
        "committed_size is the number of bytes that were processed"
    Must a_blob_is_written_in_many_messages
        "each write_offset is the first one and the sizes of all data before together"
    Must a_blob_of_eight_mebibytes_comes_back
        "for large content the client must use these methods"
    Must the_empty_blob_may_be_written
        "clients may, and need not, upload empty blobs"
    Must messages_may_be_empty
        "the client may leave data empty to say that it is still there"
    Must a_name_repeated_in_later_messages_is_fine
        "resource_name may be set on later messages, and must then match the first"
    Must another_name_in_a_later_message_is_refused
        "resource_name may be set on later messages, and must then match the first"
    Must a_write_without_a_name_is_refused
        "resource_name must be set on the first message"
    Must a_wrong_offset_is_refused
        "an incorrect write_offset will cause an error"
    Must a_first_offset_beyond_what_is_committed_is_refused
        "the first write_offset must be what QueryWriteStatus would tell"
    Must a_wrong_digest_is_refused
        "INVALID_ARGUMENT if the client completes the upload but the digest does not match"
    Must too_few_bytes_are_refused
        "INVALID_ARGUMENT if the client completes the upload but the digest does not match"
    Must too_many_bytes_are_refused
        "INVALID_ARGUMENT if the client completes the upload but the digest does not match"
    Must what_was_refused_can_be_written_right
        "a failed upload must not stand in the way of a good one"
    Must a_write_that_was_not_finished_is_not_a_blob
        "the resource is not complete before finish_write was sent"
    Must a_second_write_ends_with_the_full_size
        "when another client has completed the upload, committed_size is the full size"
    Must a_second_write_ends_at_once
        "when another client has completed the upload, the request ends immediately, whatever was transmitted"
    Must two_writers_of_a_blob_both_succeed
        "uploads of the same data may occur concurrently"
    Must one_uuid_serves_several_blobs
        "clients may reuse a uuid for different blobs"
    Must what_follows_the_size_in_a_name_is_ignored
        "optional metadata may follow the size"
    Should a_name_that_says_nothing_is_refused
        "names have the forms that the service gives"
    Should a_write_to_the_name_of_a_read_is_refused
        "uploads have `uploads/{uuid}/` in their names"
    Should a_finished_write_is_complete
        "complete is true once finish_write was processed"
    Must an_unknown_write_is_not_found_or_empty
        "NOT_FOUND if the resource does not exist"
    Should an_interrupted_write_can_be_resumed
        "after an error the client asks for committed_size and goes on from there"
    Must a_resumed_write_is_verified_as_a_whole
        "INVALID_ARGUMENT if the client completes the upload but the digest does not match"
    Must a_read_gives_the_blob
        "the bytes are returned in a sequence of responses"
    Must a_read_starts_at_its_offset
        "read_offset is the first byte to return"
    Must a_read_ends_at_its_limit
        "read_limit is the most bytes to return; zero is no limit; fewer only at the end"
    Must a_read_at_the_end_gives_nothing
        "an offset that is greater than the size is an error; one that equals it is not"
    Must an_offset_beyond_the_end_is_out_of_range
        "a read_offset that is negative or greater than the size causes OUT_OF_RANGE"
    Must a_negative_offset_is_out_of_range
        "a read_offset that is negative or greater than the size causes OUT_OF_RANGE"
    Must a_negative_limit_is_refused
        "a negative read_limit causes an error"
    Must a_blob_that_is_not_there_is_not_found
        "NOT_FOUND for a resource that does not exist"
    Must a_wrong_size_names_nothing
        "the size is an integral part of the digest"
    Must the_empty_blob_can_be_read
        "servers behave as though empty blobs are always available"
    Should a_name_that_is_no_blob_is_refused
        "names have the forms that the service gives"
    Must the_messages_of_a_read_fit
        "messages of gRPC are limited to 4 MiB unless both sides say otherwise"
    Must headers_of_the_protocol_are_no_trouble
        "requests may come with the name and the request's metadata in headers"
}

async fn a_blob_is_written_in_one_message(server: &Server) -> Verdict {
    round_trip(server, 100_000, 100_000).await
}

async fn a_blob_is_written_in_many_messages(server: &Server) -> Verdict {
    round_trip(server, 100_003, 1000).await
}

async fn a_blob_of_eight_mebibytes_comes_back(server: &Server) -> Verdict {
    round_trip(server, 8 << 20, 1 << 20).await
}

async fn the_empty_blob_may_be_written(server: &Server) -> Verdict {
    let name = server.write_name(&server.digest(b""));
    same("committed_size", server.write(parts(&name, b"", 1)).await?, 0)
}

async fn messages_may_be_empty(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let mut messages = parts(&server.write_name(&digest), &bytes, 500);
    messages.insert(1, bs::WriteRequest { write_offset: 500, ..bs::WriteRequest::default() });
    messages.insert(0, bs::WriteRequest { data: vec![], finish_write: false, ..messages[0].clone() });
    same("committed_size", server.write(messages).await?, 1000)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn a_name_repeated_in_later_messages_is_fine(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let name = server.write_name(&digest);
    let mut messages = parts(&name, &bytes, 100);
    messages.iter_mut().for_each(|message| message.resource_name.clone_from(&name));
    same("committed_size", server.write(messages).await?, 1000)
}

async fn another_name_in_a_later_message_is_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let mut messages = parts(&server.write_name(&digest), &bytes, 500);
    messages[1].resource_name = server.write_name(&server.absent(1000));
    is_refused(server, messages).await
}

async fn a_write_without_a_name_is_refused(server: &Server) -> Verdict {
    is_refused(server, parts("", &server.bytes(10), 10)).await
}

async fn a_wrong_offset_is_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let mut messages = parts(&server.write_name(&digest), &bytes, 500);
    messages[1].write_offset = 400;
    is_refused(server, messages).await
}

async fn a_first_offset_beyond_what_is_committed_is_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let mut messages = parts(&server.write_name(&digest), &bytes, 1000);
    messages[0].write_offset = 10;
    is_refused(server, messages).await?;
    holds(!server.has(&digest).await?, "it is told to be present")
}

async fn a_wrong_digest_is_refused(server: &Server) -> Verdict {
    let wrong = server.absent(100_000);
    let messages = parts(&server.write_name(&wrong), &server.bytes(100_000), 10_000);
    refused(server.write(messages).await, &[Code::InvalidArgument])?;
    holds(!server.has(&wrong).await?, "it is told to be present")
}

async fn too_few_bytes_are_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let messages = parts(&server.write_name(&digest), &bytes[..999], 500);
    refused(server.write(messages).await, &[Code::InvalidArgument])?;
    holds(!server.has(&digest).await?, "it is told to be present")
}

async fn too_many_bytes_are_refused(server: &Server) -> Verdict {
    let (digest, mut bytes) = server.blob(1000);
    bytes.extend(server.bytes(1000));
    let messages = parts(&server.write_name(&digest), &bytes, 500);
    refused(server.write(messages).await, &[Code::InvalidArgument])
}

async fn what_was_refused_can_be_written_right(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let name = server.write_name(&digest);
    is_refused(server, parts(&name, &server.bytes(1000), 500)).await?;
    same("committed_size", server.write(parts(&name, &bytes, 500)).await?, 1000)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn a_write_that_was_not_finished_is_not_a_blob(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let mut messages = parts(&server.write_name(&digest), &bytes, 500);
    messages.truncate(1);
    // Whether such a write is answered or refused is the server's choice.
    let _ = server.write(messages).await;
    holds(!server.has(&digest).await?, "half of it was written, and it is told to be present")
}

async fn a_second_write_ends_with_the_full_size(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    for _ in 0..2 {
        same("committed_size", server.write(parts(&server.write_name(&digest), &bytes, 100)).await?, 1000)?;
    }
    Ok(())
}

async fn a_second_write_ends_at_once(server: &Server) -> Verdict {
    let content = server.bytes(2 << 20);
    let digest = server.store(&content).await?;
    let mut messages = parts(&server.write_name(&digest), &content, 1000);
    messages.truncate(1);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(15), server.write_and_wait(messages)).await;
    match ended {
        Ok(committed) => same("committed_size", committed?, 2 << 20),
        Err(_) => holds(false, "it waits for the rest of what it has"),
    }
}

async fn two_writers_of_a_blob_both_succeed(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(500_000);
    let write = || server.write(parts(&server.write_name(&digest), &bytes, 10_000));
    let (first, second) = tokio::join!(write(), write());
    same("committed sizes", (first?, second?), (500_000, 500_000))?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn one_uuid_serves_several_blobs(server: &Server) -> Verdict {
    let uuid = server.uuid();
    for len in [1000, 1001] {
        let (digest, bytes) = server.blob(len);
        let name = server.write_name(&digest);
        let own = name.split("uploads/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let messages = parts(&name.replace(own, &uuid), &bytes, 500);
        same("committed_size", server.write(messages).await?, len as i64)?;
        same_bytes("the blob", &server.fetch(&digest).await?, &bytes)?;
    }
    Ok(())
}

async fn what_follows_the_size_in_a_name_is_ignored(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let name = format!("{}/some/file.txt", server.write_name(&digest));
    same("committed_size", server.write(parts(&name, &bytes, 500)).await?, 1000)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn a_name_that_says_nothing_is_refused(server: &Server) -> Verdict {
    let digest = server.absent(10);
    let (prefix, uuid, hash) = (server.prefix(), server.uuid(), &digest.hash);
    for name in [
        format!("{prefix}uploads/{uuid}/blobs/{hash}"),
        format!("{prefix}uploads/{uuid}/blobs/{hash}/ten"),
        format!("{prefix}uploads/{uuid}/blobs/{hash}/-1"),
        format!("{prefix}uploads/{uuid}/blobs/{hash}/99999999999999999999"),
        format!("{prefix}uploads/{uuid}/blobs/nonsense/10"),
        format!("{prefix}uploads/{uuid}/blobs/../../{hash}/10"),
        "nonsense".to_owned(),
    ] {
        refused(server.write(parts(&name, &[0; 10], 10)).await, &[Code::InvalidArgument, Code::NotFound])
            .map_err(|failure| named(&name, failure))?;
    }
    Ok(())
}

async fn a_write_to_the_name_of_a_read_is_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(10);
    is_refused(server, parts(&server.read_name(&digest), &bytes, 10)).await
}

async fn a_finished_write_is_complete(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let name = server.write_name(&digest);
    server.write(parts(&name, &bytes, 500)).await?;
    same("the status", server.write_status(&name).await?, (1000, true))
}

async fn an_unknown_write_is_not_found_or_empty(server: &Server) -> Verdict {
    match server.write_status(&server.write_name(&server.absent(1000))).await {
        Ok(status) => same("the status", status, (0, false)),
        Err(status) => refused::<()>(Err(status), &[Code::NotFound]),
    }
}

async fn an_interrupted_write_can_be_resumed(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1 << 20);
    let name = server.write_name(&digest);
    let committed = interrupted(server, &name, &bytes).await?;
    let rest = rest_of(&name, &bytes, committed);
    same("committed_size", server.write(rest).await?, 1 << 20)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn a_resumed_write_is_verified_as_a_whole(server: &Server) -> Verdict {
    let (digest, mut bytes) = server.blob(1 << 20);
    let name = server.write_name(&digest);
    let committed = interrupted(server, &name, &bytes).await?;
    *bytes.last_mut().expect("it has a mebibyte") ^= 1;
    refused(server.write(rest_of(&name, &bytes, committed)).await, &[Code::InvalidArgument])?;
    holds(!server.has(&digest).await?, "it is told to be present")
}

async fn a_read_gives_the_blob(server: &Server) -> Verdict {
    for len in [1, 1000, 65_536, 3_000_001] {
        let content = server.bytes(len);
        let digest = server.store(&content).await?;
        same_bytes("the blob", &server.fetch(&digest).await?, &content)?;
    }
    Ok(())
}

async fn a_read_starts_at_its_offset(server: &Server) -> Verdict {
    let content = server.bytes(3_000_001);
    let name = server.read_name(&server.store(&content).await?);
    for offset in [1, 65_537, 2_999_999] {
        same_bytes("the rest", &server.read(&name, offset as i64, 0).await?, &content[offset..])?;
    }
    Ok(())
}

async fn a_read_ends_at_its_limit(server: &Server) -> Verdict {
    let content = server.bytes(3_000_001);
    let name = server.read_name(&server.store(&content).await?);
    same_bytes("the part", &server.read(&name, 0, 1000).await?, &content[..1000])?;
    same_bytes("the part", &server.read(&name, 65_500, 1_100_000).await?, &content[65_500..1_165_500])?;
    same_bytes("the part", &server.read(&name, 2_999_999, 1000).await?, &content[2_999_999..])
}

async fn a_read_at_the_end_gives_nothing(server: &Server) -> Verdict {
    let name = server.read_name(&server.store(&server.bytes(1000)).await?);
    same_bytes("the rest", &server.read(&name, 1000, 0).await?, b"")
}

async fn an_offset_beyond_the_end_is_out_of_range(server: &Server) -> Verdict {
    let name = server.read_name(&server.store(&server.bytes(1000)).await?);
    refused(server.read(&name, 1001, 0).await, &[Code::OutOfRange])
}

async fn a_negative_offset_is_out_of_range(server: &Server) -> Verdict {
    let name = server.read_name(&server.store(&server.bytes(1000)).await?);
    refused(server.read(&name, -1, 0).await, &[Code::OutOfRange])
}

async fn a_negative_limit_is_refused(server: &Server) -> Verdict {
    let name = server.read_name(&server.store(&server.bytes(1000)).await?);
    refused(server.read(&name, 0, -1).await, &[Code::InvalidArgument, Code::OutOfRange])
}

async fn a_blob_that_is_not_there_is_not_found(server: &Server) -> Verdict {
    for len in [10, 10_000_000] {
        refused(server.fetch(&server.absent(len)).await, &[Code::NotFound])?;
    }
    Ok(())
}

async fn a_wrong_size_names_nothing(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(1000)).await?;
    for by in [-1, 1] {
        let codes = [Code::NotFound, Code::InvalidArgument];
        refused(server.fetch(&resized(&stored, by)).await, &codes)?;
    }
    Ok(())
}

async fn the_empty_blob_can_be_read(server: &Server) -> Verdict {
    same_bytes("the blob", &server.fetch(&server.digest(b"")).await?, b"")
}

async fn a_name_that_is_no_blob_is_refused(server: &Server) -> Verdict {
    let prefix = server.prefix();
    let hash = server.absent(10).hash;
    for name in [
        String::new(),
        "nonsense".to_owned(),
        format!("{prefix}blobs/{hash}"),
        format!("{prefix}blobs/{hash}/ten"),
        format!("{prefix}blobs/{hash}/-1"),
        format!("{prefix}blobs/../{hash}/10"),
    ] {
        refused(server.read(&name, 0, 0).await, &[Code::InvalidArgument, Code::NotFound])
            .map_err(|failure| named(&name, failure))?;
    }
    Ok(())
}

async fn the_messages_of_a_read_fit(server: &Server) -> Verdict {
    let content = server.bytes(9 << 20);
    let name = server.read_name(&server.store(&content).await?);
    let request = bs::ReadRequest { resource_name: name, ..bs::ReadRequest::default() };
    // A client that allows more, so that a message which is too large is seen and not refused by our own library.
    let mut client = server.byte_stream().max_decoding_message_size(64 << 20);
    let mut parts = client.read(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(part) = parts.message().await? {
        bytes += part.data.len();
        holds(part.data.len() + 64 < FRAME_BYTES, format!("a message has {} bytes", part.data.len()))?;
    }
    same("the length of the blob", bytes, content.len())
}

async fn headers_of_the_protocol_are_no_trouble(server: &Server) -> Verdict {
    let content = server.bytes(1000);
    let name = server.read_name(&server.store(&content).await?);
    let mut request = tonic::Request::new(bs::ReadRequest { resource_name: name.clone(), ..Default::default() });
    let headers = request.metadata_mut();
    if let Ok(name) = name.parse() {
        headers.insert("build.bazel.remote.execution.v2.resource-name", name);
    }
    let metadata = tonic::metadata::MetadataValue::from_bytes(b"\x0a\x07\x0a\x05bazel");
    headers.insert_bin("build.bazel.remote.execution.v2.requestmetadata-bin", metadata);
    let mut parts = server.byte_stream().read(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await? {
        bytes.extend_from_slice(&part.data);
    }
    same_bytes("the blob", &bytes, &content)
}

async fn round_trip(server: &Server, len: usize, part: usize) -> Verdict {
    let (digest, bytes) = server.blob(len);
    let committed = server.write(parts(&server.write_name(&digest), &bytes, part)).await?;
    same("committed_size", committed, len as i64)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)
}

async fn is_refused(server: &Server, messages: Vec<bs::WriteRequest>) -> Verdict {
    let answer = server.write(messages).await;
    holds(answer.is_err(), format!("was accepted with committed_size {answer:?}"))
}

/// Writes about a half, breaks off, and asks how much of it is there.
async fn interrupted(server: &Server, name: &str, bytes: &[u8]) -> Result<i64, crate::check::Failure> {
    let mut messages = parts(name, bytes, 64 << 10);
    messages.truncate(messages.len() / 2);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), server.write_and_wait(messages)).await;
    // The server hears of the end when it does; until then it may say that the write is somebody's.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (committed, complete) = server.write_status(name).await?;
    let so = !complete && committed > 0 && committed <= bytes.len() as i64 / 2;
    holds(so, format!("the status of a write broken off half-way is {committed} bytes, complete: {complete}"))?;
    Ok(committed)
}

fn rest_of(name: &str, bytes: &[u8], committed: i64) -> Vec<bs::WriteRequest> {
    let mut rest = parts(name, &bytes[committed as usize..], 64 << 10);
    rest.iter_mut().for_each(|message| message.write_offset += committed);
    rest
}

fn named(name: &str, failure: crate::check::Failure) -> crate::check::Failure {
    match failure {
        crate::check::Failure::Wrong(seen) => crate::check::Failure::Wrong(format!("`{name}`: {seen}")),
        other => other,
    }
}
