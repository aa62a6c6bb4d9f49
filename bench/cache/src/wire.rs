//! gRPC without protobuf on the way: requests are encoded before the clock runs, answers are looked at as bytes, so that the
//! load costs as little as it can beside the server that it measures.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::drive::Failed;

/// A client's connection.
pub(crate) type Client = tonic::client::Grpc<Channel>;

/// Messages as bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 << 10, 64 << 10)
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let all = from.remaining();
        Ok(Some(from.copy_to_bytes(all)))
    }
}

/// Opens connections, each of its own.
pub(crate) async fn connect(target: &str, count: usize) -> Result<Vec<Client>, Failed> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let endpoint = Endpoint::from_shared(format!("http://{target}"))?
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(256 << 10)
            .tcp_nodelay(true);
        let client = Client::new(endpoint.connect().await?);
        clients.push(client.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20));
    }
    Ok(clients)
}

/// One message there, one back.
pub(crate) async fn unary(client: &mut Client, path: &'static str, request: Bytes) -> Result<Bytes, Failed> {
    client.ready().await?;
    let answer = client.unary(Request::new(request), PathAndQuery::from_static(path), Raw).await?;
    Ok(answer.into_inner())
}

/// Many messages there, one back.
pub(crate) async fn upload(client: &mut Client, path: &'static str, requests: Vec<Bytes>) -> Result<Bytes, Failed> {
    client.ready().await?;
    let requests = Request::new(stream::iter(requests));
    let answer = client.client_streaming(requests, PathAndQuery::from_static(path), Raw).await?;
    Ok(answer.into_inner())
}

/// One message there, many back; `seen` is shown each.
pub(crate) async fn download(
    client: &mut Client,
    path: &'static str,
    request: Bytes,
    mut seen: impl FnMut(Bytes),
) -> Result<(), Failed> {
    client.ready().await?;
    let answer = client.server_streaming(Request::new(request), PathAndQuery::from_static(path), Raw).await?;
    let mut messages = answer.into_inner();
    while let Some(message) = messages.message().await? {
        seen(message);
    }
    Ok(())
}
