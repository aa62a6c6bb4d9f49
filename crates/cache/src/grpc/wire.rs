//! How calls get on and off the wire: the shapes of a call, and the messages whose bytes are too many to be copied.
//!
//! The generated code holds payloads in `Vec<u8>` and hashes in `String`: one copy and one allocation for each of them.
//! The messages here have the same fields in `Bytes`, which share the buffer that was received.

use std::future::Future;

use axum::routing::{MethodRouter, any};
use bazel_remote_apis::google::rpc;
use bytes::{BufMut, Bytes};
use http::{HeaderValue, header::HeaderName};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, skip_field};
use tokio_stream::Stream;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Largest message that is read, in bytes: more than is advertised, so that nobody fails by a few bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Largest message that is sent, in bytes: below the 4 MiB that clients accept by default.
pub(crate) const ANSWER_BYTES_MAX: usize = (4 << 20) - 1024;

/// One request, one answer.
pub(crate) fn unary<T, Q, A, F, W>(state: &T, method: F) -> MethodRouter
where
    T: Clone + Send + Sync + 'static,
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    F: Fn(T, Request<Q>) -> W + Copy + Send + Sync + 'static,
    W: Future<Output = Result<A, Status>> + Send + 'static,
{
    let state = state.clone();
    any(async move |request: http::Request<axum::body::Body>| {
        let call = tower::service_fn(move |request| {
            let answer = method(state.clone(), request);
            async { answer.await.map(Response::new) }
        });
        too_large_is_invalid(grpc::<A, Q>().unary(call, request).await)
    })
}

/// One request, many answers.
pub(crate) fn answers<T, Q, A, S, F, W>(state: &T, method: F) -> MethodRouter
where
    T: Clone + Send + Sync + 'static,
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: Fn(T, Request<Q>) -> W + Copy + Send + Sync + 'static,
    W: Future<Output = Result<S, Status>> + Send + 'static,
{
    let state = state.clone();
    any(async move |request: http::Request<axum::body::Body>| {
        let call = tower::service_fn(move |request| {
            let answer = method(state.clone(), request);
            async { answer.await.map(Response::new) }
        });
        grpc::<A, Q>().server_streaming(call, request).await
    })
}

/// Many requests, one answer.
pub(crate) fn requests<T, Q, A, F, W>(state: &T, method: F) -> MethodRouter
where
    T: Clone + Send + Sync + 'static,
    Q: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    F: Fn(T, Request<Streaming<Q>>) -> W + Copy + Send + Sync + 'static,
    W: Future<Output = Result<A, Status>> + Send + 'static,
{
    let state = state.clone();
    any(async move |request: http::Request<axum::body::Body>| {
        let call = tower::service_fn(move |request| {
            let answer = method(state.clone(), request);
            async { answer.await.map(Response::new) }
        });
        grpc::<A, Q>().client_streaming(call, request).await
    })
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: prost::Message + 'static,
    Q: prost::Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// The protocol wants `INVALID_ARGUMENT` for a batch that is too large; the decoder, which is the only one that answers
/// `OUT_OF_RANGE` to a single request, does not know that.
fn too_large_is_invalid(mut answer: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let status = HeaderName::from_static("grpc-status");
    let number = |code: Code| HeaderValue::from(code as i32);
    if answer.headers().get(&status) == Some(&number(Code::OutOfRange)) {
        answer.headers_mut().insert(status, number(Code::InvalidArgument));
    }
    answer
}

/// A digest whose hash is not looked at yet.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Digest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) hash: Bytes,
    #[prost(int64, tag = "2")]
    pub(crate) size_bytes: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FindMissingBlobsRequest {
    #[prost(string, tag = "1")]
    pub(crate) instance_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) blob_digests: Vec<Digest>,
    #[prost(int32, tag = "3")]
    pub(crate) digest_function: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FindMissingBlobsResponse {
    #[prost(message, repeated, tag = "2")]
    pub(crate) missing_blob_digests: Vec<Digest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchUpdateBlobsRequest {
    #[prost(string, tag = "1")]
    pub(crate) instance_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) requests: Vec<BlobUpdate>,
    #[prost(int32, tag = "5")]
    pub(crate) digest_function: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobUpdate {
    #[prost(message, required, tag = "1")]
    pub(crate) digest: Digest,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: Bytes,
    #[prost(int32, tag = "3")]
    pub(crate) compressor: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchUpdateBlobsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) responses: Vec<BlobUpdated>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobUpdated {
    #[prost(message, required, tag = "1")]
    pub(crate) digest: Digest,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<rpc::Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchReadBlobsRequest {
    #[prost(string, tag = "1")]
    pub(crate) instance_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) digests: Vec<Digest>,
    #[prost(int32, repeated, tag = "3")]
    pub(crate) acceptable_compressors: Vec<i32>,
    #[prost(int32, tag = "4")]
    pub(crate) digest_function: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchReadBlobsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) responses: Vec<BlobRead>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobRead {
    #[prost(message, required, tag = "1")]
    pub(crate) digest: Digest,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(crate) status: Option<rpc::Status>,
    #[prost(int32, tag = "4")]
    pub(crate) compressor: i32,
}

/// Directories as they are stored: nothing of them is lost, whatever fields a newer client put there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetTreeResponse {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) directories: Vec<Bytes>,
    #[prost(string, tag = "2")]
    pub(crate) next_page_token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteRequest {
    #[prost(string, tag = "1")]
    pub(crate) resource_name: String,
    #[prost(int64, tag = "2")]
    pub(crate) write_offset: i64,
    #[prost(bool, tag = "3")]
    pub(crate) finish_write: bool,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadResponse {
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) data: Bytes,
}

/// An answer that was encoded when it was stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Encoded(pub(crate) Bytes);

impl prost::Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl bytes::Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }
    fn encoded_len(&self) -> usize {
        self.0.len()
    }
    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}
