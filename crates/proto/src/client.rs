//! The agent's side of the calls.

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{IntoStreamingRequest, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{FromAgent, FromServer, MESSAGE_BYTES_MAX, REGISTER_PATH, Registered, Registration, WORK_PATH};

/// Calls a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentsClient {
    grpc: Grpc<Channel>,
}

impl AgentsClient {
    /// Calls over this connection.
    pub fn new(channel: Channel) -> AgentsClient {
        let grpc = Grpc::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        AgentsClient { grpc }
    }

    /// Begins a conversation: `words` are what the agent says, the answer is what the server says.
    ///
    /// # Errors
    /// The server cannot be reached, refuses the credential (`UNAUTHENTICATED`), or the credential cannot stand in a header
    /// (`INVALID_ARGUMENT`).
    pub async fn work<S>(&mut self, credential: &str, words: S) -> Result<Streaming<FromServer>, Status>
    where
        S: Stream<Item = FromAgent> + Send + 'static,
    {
        let mut request = words.into_streaming_request();
        request.metadata_mut().insert("authorization", bearer(credential)?);
        self.ready().await?;
        let answer = self.grpc.streaming(request, PathAndQuery::from_static(WORK_PATH), ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    /// Changes a single-use token into a credential.
    ///
    /// # Errors
    /// The server cannot be reached or does not take the token.
    pub async fn register(&mut self, question: Registration) -> Result<Registered, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(REGISTER_PATH);
        let answer = self.grpc.unary(Request::new(question), path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))
    }
}

fn bearer(credential: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {credential}")
        .parse()
        .map_err(|_| Status::invalid_argument("the credential has signs in it that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}
