//! The server's side of the calls: what it implements, and how that is put on a port.

use std::future::Future;
use std::sync::Arc;

use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::{Body, BoxFuture, Context, Poll, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::{FromAgent, FromServer, MESSAGE_BYTES_MAX, REGISTER_PATH, Registered, Registration, SERVICE, WORK_PATH};

/// What a server does for agents. Who calls is in the metadata: `authorization: Bearer <credential>`.
pub trait Agents: Send + Sync + 'static {
    /// What it says to one agent. Dropped when the agent is gone.
    type Words: Stream<Item = Result<FromServer, Status>> + Send + 'static;

    /// A conversation that lasts as long as the connection: the first word is a [`crate::Hello`], the answer a
    /// [`crate::Welcome`].
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a credential that is not known (the agent tries again slowly), `UNAVAILABLE` when it is
    /// asked too early or on a replica that does not lead.
    fn work(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> impl Future<Output = Result<Response<Self::Words>, Status>> + Send;

    /// Gives a new agent its credential. No bearer token: the single-use token is in the message.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is not known, used or expired; `ALREADY_EXISTS` for a name that is taken.
    fn register(
        &self,
        request: Request<Registration>,
    ) -> impl Future<Output = Result<Response<Registered>, Status>> + Send;
}

/// [`Agents`] as a service for a router: `Router::route_service("/paceline.Agents/{*method}", AgentsServer::new(..))`.
#[derive(Debug)]
pub struct AgentsServer<T> {
    agents: Arc<T>,
}

impl<T> Clone for AgentsServer<T> {
    fn clone(&self) -> Self {
        AgentsServer { agents: self.agents.clone() }
    }
}

impl<T: Agents> AgentsServer<T> {
    /// The service.
    pub fn new(agents: Arc<T>) -> AgentsServer<T> {
        AgentsServer { agents }
    }
}

impl<T> NamedService for AgentsServer<T> {
    const NAME: &'static str = SERVICE;
}

impl<T, B> Service<http::Request<B>> for AgentsServer<T>
where
    T: Agents,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let agents = self.agents.clone();
        match request.uri().path() {
            WORK_PATH => Box::pin(async move { Ok(grpc().streaming(Work(agents), request).await) }),
            REGISTER_PATH => Box::pin(async move { Ok(grpc().unary(Register(agents), request).await) }),
            _ => Box::pin(async { Ok(Status::unimplemented("there is no such call").into_http()) }),
        }
    }
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: prost::Message + 'static,
    Q: prost::Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

struct Work<T>(Arc<T>);

impl<T: Agents> StreamingService<FromAgent> for Work<T> {
    type Response = FromServer;
    type ResponseStream = T::Words;
    type Future = BoxFuture<Response<T::Words>, Status>;

    fn call(&mut self, request: Request<Streaming<FromAgent>>) -> Self::Future {
        let agents = self.0.clone();
        Box::pin(async move { agents.work(request).await })
    }
}

struct Register<T>(Arc<T>);

impl<T: Agents> UnaryService<Registration> for Register<T> {
    type Response = Registered;
    type Future = BoxFuture<Response<Registered>, Status>;

    fn call(&mut self, request: Request<Registration>) -> Self::Future {
        let agents = self.0.clone();
        Box::pin(async move { agents.register(request).await })
    }
}
