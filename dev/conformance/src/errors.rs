//! What goes wrong is told by codes that clients act on, and concerns nobody else.

use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::Server;
use crate::check::{Failure, Verdict, checks, holds, refused, same};
use crate::server::{parts, upload};

checks! { "errors":
    Must without_its_token_a_caller_is_refused
        "UNAUTHENTICATED or PERMISSION_DENIED for who may not do this"
    Must with_a_wrong_token_a_caller_is_refused
        "UNAUTHENTICATED or PERMISSION_DENIED for who may not do this"
    Must a_method_that_does_not_exist_is_unimplemented
        "UNIMPLEMENTED for methods that a server does not have"
    Should a_message_that_is_too_large_leaves_the_connection_alive
        "RESOURCE_EXHAUSTED when a message is larger than a server takes"
    Must a_client_that_leaves_in_the_middle_harms_nobody
        "calls are independent of each other"
    Must a_slow_reader_holds_up_nobody
        "calls are independent of each other"
    Must many_calls_at_once_are_answered
        "calls are independent of each other"
    Should a_request_that_is_no_message_is_refused
        "INTERNAL or INVALID_ARGUMENT for bytes that do not decode"
}

async fn without_its_token_a_caller_is_refused(server: &Server) -> Verdict {
    server.needs(server.token.is_some(), "tokens (none was given with --token)")?;
    let stranger = server.token(None);
    refused(stranger.missing(&[]).await, &[Code::Unauthenticated, Code::PermissionDenied])
}

async fn with_a_wrong_token_a_caller_is_refused(server: &Server) -> Verdict {
    server.needs(server.token.is_some(), "tokens (none was given with --token)")?;
    let stranger = server.token(Some("not-the-token"));
    refused(stranger.missing(&[]).await, &[Code::Unauthenticated, Code::PermissionDenied])
}

async fn a_method_that_does_not_exist_is_unimplemented(server: &Server) -> Verdict {
    let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/NoSuchMethod";
    refused(raw(server, path, api::GetCapabilitiesRequest::default()).await, &[Code::Unimplemented])
}

async fn a_message_that_is_too_large_leaves_the_connection_alive(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(80 << 20);
    // Whether so much is taken is the server's choice.
    let _ = server.batch_update(vec![upload(digest, bytes)]).await;
    same("the answer afterwards", server.missing(&[]).await?, vec![])
}

async fn a_client_that_leaves_in_the_middle_harms_nobody(server: &Server) -> Verdict {
    let content = server.bytes(20 << 20);
    let stored = server.store(&content).await?;
    for _ in 0..8 {
        let (digest, bytes) = server.blob(2 << 20);
        let mut half = parts(&server.write_name(&digest), &bytes, 1 << 16);
        half.truncate(16);
        let wait = Duration::from_millis(50);
        let _ = tokio::time::timeout(wait, server.write_and_wait(half)).await;
        let _ = tokio::time::timeout(Duration::from_millis(5), server.fetch(&stored)).await;
    }
    crate::check::same_bytes("the blob", &server.fetch(&stored).await?, &content)
}

async fn a_slow_reader_holds_up_nobody(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(20 << 20)).await?;
    let request = bazel_remote_apis::google::bytestream::ReadRequest {
        resource_name: server.read_name(&stored),
        ..Default::default()
    };
    // Four readers that take one message and then nothing more. Each has a connection of its own: what they leave unread
    // would fill the window of a common one, which is the client's doing and not the server's.
    let mut idle = Vec::new();
    for _ in 0..4 {
        let reader = Server::connect(&server.target()).await.map_err(Failure::Wrong)?;
        let mut parts = reader.byte_stream().read(request.clone()).await?.into_inner();
        parts.message().await?;
        idle.push((reader, parts));
    }
    let asked = tokio::time::timeout(Duration::from_secs(20), server.missing(&[stored])).await;
    drop(idle);
    match asked {
        Ok(missing) => same("the missing", missing?, vec![]),
        Err(_) => holds(false, "a question waited for readers of something else"),
    }
}

async fn many_calls_at_once_are_answered(server: &Server) -> Verdict {
    let digests: Vec<api::Digest> = (0..50).map(|at| server.absent(100 + at)).collect();
    let calls = (0..200).map(|_| server.missing(&digests));
    for missing in futures_util::future::join_all(calls).await {
        same("the number of missing blobs", missing?.len(), 50)?;
    }
    Ok(())
}

async fn a_request_that_is_no_message_is_refused(server: &Server) -> Verdict {
    // The instance's name is a string in one message and a number in no message: bytes that are not UTF-8 do not decode.
    let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
    let noise = Noise { instance_name: vec![0xff, 0xfe] };
    let codes = [Code::Internal, Code::InvalidArgument, Code::Unknown];
    refused(raw(server, path, noise).await, &codes)
}

/// What looks like a request and has bytes for a name.
#[derive(Clone, PartialEq, prost::Message)]
struct Noise {
    #[prost(bytes = "vec", tag = "1")]
    instance_name: Vec<u8>,
}

async fn raw<M: prost::Message + 'static>(
    server: &Server,
    path: &'static str,
    message: M,
) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(server.transport());
    grpc.ready().await.map_err(|why| tonic::Status::unavailable(why.to_string()))?;
    let codec = tonic_prost::ProstCodec::<M, api::FindMissingBlobsResponse>::default();
    let request = tonic::Request::new(message);
    grpc.unary(request, PathAndQuery::from_static(path), codec).await.map(|_| ())
}
