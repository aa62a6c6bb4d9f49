//! What callers may do, and what they are told of it.

use std::path::Path;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use cache::Config;
use cache::access::{Rights, Scope, Secret, Token, Tokens};
use cache::config::DeniedWrites;
use tonic::{Code, IntoRequest, Status};

use crate::world::{World, blob_name, digest, parts, plain, upload_name, with_token};

/// A cache of the instance `main` with a token of each kind, and their secrets.
async fn guarded(denied_writes: DeniedWrites) -> (World, [String; 4]) {
    let mut secrets = Vec::new();
    let world = World::with(|config: &mut Config| {
        let path = config.data.parent().unwrap().join("tokens.toml");
        let kinds = [("read", Rights::Read, None), ("content", Rights::Content, None), ("write", Rights::Write, None)];
        for (name, rights, expires) in kinds.into_iter().chain([("expired", Rights::Write, Some(1))]) {
            secrets.push(add_token(&path, name, rights, expires));
        }
        config.tokens_file = Some(path);
        config.instances = Some(["main".to_owned()].into());
        config.denied_writes = denied_writes;
    })
    .await;
    (world, secrets.try_into().unwrap())
}

fn add_token(path: &Path, name: &str, rights: Rights, expires: Option<u64>) -> String {
    let secret = Secret::generate().unwrap();
    let token = Token {
        name: name.into(),
        sha256: secret.sha256(),
        instance: Some("main".into()),
        scope: Scope::Main,
        rights,
        created: 0,
        expires,
    };
    Tokens::edit(path, |tokens| tokens.add(token)).unwrap();
    secret.reveal().to_owned()
}

impl World {
    async fn batch(&self, token: &str) -> Option<Code> {
        let request = api::BatchUpdateBlobsRequest {
            instance_name: "main".into(),
            requests: vec![plain(b"blob")],
            ..Default::default()
        };
        code(self.cas().batch_update_blobs(with_token(request, token)).await)
    }

    async fn write_as(&self, token: &str) -> Option<Code> {
        let requests = parts(&format!("main/{}", upload_name(&digest(b"x"))), b"x", 1, 0, true);
        code(self.bytes().write(with_token(tokio_stream::iter(requests), token)).await)
    }

    async fn result_as(&self, token: &str) -> Option<Code> {
        let request = api::UpdateActionResultRequest {
            instance_name: "main".into(),
            action_digest: Some(digest(b"action")),
            action_result: Some(api::ActionResult { exit_code: 1, ..Default::default() }),
            ..Default::default()
        };
        code(self.actions().update_action_result(with_token(request, token)).await)
    }

    async fn find_as(&self, instance: &str, token: Option<&str>) -> Option<Code> {
        let request = api::FindMissingBlobsRequest { instance_name: instance.into(), ..Default::default() };
        let request = token.map_or_else(|| request.clone().into_request(), |token| with_token(request.clone(), token));
        code(self.cas().find_missing_blobs(request).await)
    }

    async fn update_enabled(&self, token: &str) -> bool {
        let request = api::GetCapabilitiesRequest { instance_name: "main".into() };
        let answer = self.capabilities().get_capabilities(with_token(request, token)).await.unwrap().into_inner();
        answer.cache_capabilities.unwrap().action_cache_update_capabilities.unwrap().update_enabled
    }
}

fn code<T>(answer: Result<T, Status>) -> Option<Code> {
    answer.err().map(|status| status.code())
}

#[tokio::test]
async fn each_token_may_do_what_it_says_and_capabilities_tell_so() {
    let (world, [read, content, write, expired]) = guarded(DeniedWrites::Refuse).await;
    for (token, may_content, may_results) in [(&read, false, false), (&content, true, false), (&write, true, true)] {
        let refused = |may: bool| (!may).then_some(Code::PermissionDenied);
        assert_eq!(world.batch(token).await, refused(may_content));
        assert_eq!(world.write_as(token).await, refused(may_content));
        assert_eq!(world.result_as(token).await, refused(may_results));
        assert_eq!(world.update_enabled(token).await, may_results);
        assert_eq!(world.find_as("main", Some(token)).await, None);
        assert!(world.find_as("other", Some(token)).await.is_some(), "another instance");
    }
    assert_eq!(world.find_as("main", Some(&expired)).await, Some(Code::Unauthenticated));
    assert_eq!(world.find_as("main", Some("rubbish")).await, Some(Code::Unauthenticated));
    assert_eq!(world.find_as("main", None).await, Some(Code::Unauthenticated));
    assert_eq!(world.write_as(&expired).await, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn an_unknown_instance_is_a_wrong_argument() {
    let world = World::with(|config| config.instances = Some(["main".to_owned()].into())).await;
    assert_eq!(world.find_as("other", None).await, Some(Code::InvalidArgument));
    assert_eq!(world.find_as("", None).await, Some(Code::InvalidArgument));
    assert_eq!(world.find_as("/main/", None).await, None);
    assert_eq!(world.read(&format!("other/{}", blob_name(&digest(b""))), 0, 0).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn writes_that_are_dropped_look_done_and_leave_nothing() {
    let (world, [read, content, write, _]) = guarded(DeniedWrites::Drop).await;
    assert!(world.update_enabled(&read).await, "Bazel would stop otherwise");
    assert_eq!((world.batch(&read).await, world.write_as(&read).await), (None, None));
    assert_eq!((world.result_as(&read).await, world.result_as(&content).await), (None, None));
    let request = api::FindMissingBlobsRequest {
        instance_name: "main".into(),
        blob_digests: vec![digest(b"blob"), digest(b"x")],
        ..Default::default()
    };
    let missing = world.cas().find_missing_blobs(with_token(request, &write)).await.unwrap().into_inner();
    assert_eq!(missing.missing_blob_digests.len(), 2);
    let request = api::GetActionResultRequest {
        instance_name: "main".into(),
        action_digest: Some(digest(b"action")),
        ..Default::default()
    };
    assert_eq!(code(world.actions().get_action_result(with_token(request, &write)).await), Some(Code::NotFound));
}

#[tokio::test]
async fn capabilities_are_what_the_oldest_and_newest_clients_look_for() {
    let world = World::new().await;
    let told =
        world.capabilities().get_capabilities(api::GetCapabilitiesRequest::default()).await.unwrap().into_inner();
    let (low, high) = (told.low_api_version.unwrap(), told.high_api_version.unwrap());
    assert_eq!((low.major, low.minor, high.major), (2, 0, 2), "Bazel 2 and 4 speak 2.0 and stop below it");
    let cache = told.cache_capabilities.unwrap();
    assert_eq!(cache.digest_functions, [1, 9]);
    assert!((1 << 20..4 << 20).contains(&cache.max_batch_total_size_bytes), "0 makes clients send more than is read");
    assert_eq!((cache.supported_compressors, cache.supported_batch_update_compressors), (vec![1], vec![1]));
    assert!(cache.split_blob_support && cache.splice_blob_support);
    assert_eq!(cache.fast_cdc_2020_params.unwrap().avg_chunk_size_bytes, 512 << 10);
}

#[tokio::test]
async fn health_is_told_to_anybody() {
    use tonic::codec::Streaming;
    #[derive(Clone, PartialEq, prost::Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Number {
        #[prost(int32, tag = "1")]
        number: i32,
    }
    let world = World::new().await;
    let mut grpc = tonic::client::Grpc::new(world.channel.clone());
    let name = |text: &str| Text { text: text.into() };
    let path = |method: &str| format!("/grpc.health.v1.Health/{method}").parse::<http::uri::PathAndQuery>().unwrap();
    for (service, answer) in [("", Ok(1)), ("google.bytestream.ByteStream", Ok(1)), ("x", Err(Code::NotFound))] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Text, Number>::default();
        let told = grpc.unary(name(service).into_request(), path("Check"), codec).await;
        assert_eq!(told.map(|told| told.into_inner().number).map_err(|told| told.code()), answer, "{service}");
    }
    for (service, answer) in [("", 1), ("x", 3)] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<Text, Number>::default();
        let told = grpc.server_streaming(name(service).into_request(), path("Watch"), codec).await.unwrap();
        let mut told: Streaming<Number> = told.into_inner();
        assert_eq!(told.message().await.unwrap().unwrap().number, answer);
    }
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Text, Number>::default();
    let told = grpc.unary(name("").into_request(), path("NoSuchMethod"), codec).await;
    assert_eq!(told.unwrap_err().code(), Code::Unimplemented);
}
