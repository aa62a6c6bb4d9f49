//! Words go through a real connection.

use std::sync::Arc;
use std::time::Duration;

use proto::{
    AgentWord, Agents, AgentsClient, AgentsServer, FromAgent, FromServer, Heartbeat, Hello, Log, LogTaken,
    MESSAGE_BYTES_MAX, Registered, Registration, ServerWord, Welcome,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use tonic::{Code, Request, Response, Status, Streaming};

/// Answers a hello by a welcome and each log by how far it is.
struct Echo;

impl Agents for Echo {
    type Words = ReceiverStream<Result<FromServer, Status>>;

    async fn work(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::Words>, Status> {
        if request.metadata().get("authorization").is_none_or(|value| value != "Bearer known") {
            return Err(Status::unauthenticated("nobody knows this credential"));
        }
        let mut words = request.into_inner();
        let (answers, answered) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Ok(FromAgent { word })) = words.next().await {
                let answer = match word {
                    Some(AgentWord::Hello(hello)) => {
                        ServerWord::Welcome(Welcome { agent: hello.version, ..Welcome::default() })
                    }
                    Some(AgentWord::Log(log)) => {
                        ServerWord::LogTaken(LogTaken { lease: log.lease, length: log.offset + log.bytes.len() as u64 })
                    }
                    _ => continue,
                };
                if answers.send(Ok(FromServer { word: Some(answer) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answered)))
    }

    async fn register(&self, request: Request<Registration>) -> Result<Response<Registered>, Status> {
        let asked = request.into_inner();
        match asked.token.as_str() {
            "once" => Ok(Response::new(Registered { agent: asked.name, credential: "known".into() })),
            _ => Err(Status::unauthenticated("the token was used before")),
        }
    }
}

async fn client() -> AgentsClient {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = incoming.local_addr().expect("bound");
    tokio::spawn(Server::builder().add_service(AgentsServer::new(Arc::new(Echo))).serve_with_incoming(incoming));
    let channel: Channel =
        Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("connected");
    AgentsClient::new(channel)
}

fn say(word: AgentWord) -> FromAgent {
    FromAgent { word: Some(word) }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
}

#[tokio::test]
async fn words_go_both_ways_while_the_connection_stands() {
    let mut client = client().await;
    let (said, words) = mpsc::channel(4);
    let mut answers = within(client.work("known", ReceiverStream::new(words))).await.expect("a conversation");
    said.send(say(AgentWord::Hello(Hello { version: "0.1".into(), ..Hello::default() }))).await.expect("said");
    let welcome = within(answers.message()).await.expect("no error").expect("a word");
    assert!(matches!(welcome.word, Some(ServerWord::Welcome(Welcome { agent, .. })) if agent == "0.1"));
    said.send(say(AgentWord::Heartbeat(Heartbeat::default()))).await.expect("said");
    let log = Log { offset: 10, bytes: vec![b'x'; proto::LOG_BYTES_MAX], ..Log::default() };
    said.send(say(AgentWord::Log(log))).await.expect("said");
    let taken = within(answers.message()).await.expect("no error").expect("a word");
    assert!(matches!(taken.word, Some(ServerWord::LogTaken(LogTaken { length: 262_154, .. }))));
    drop(said);
    assert!(within(answers.message()).await.expect("no error").is_none(), "it ends when the agent has nothing to say");
}

#[tokio::test]
async fn who_is_not_known_hears_so() {
    let mut client = client().await;
    let error = within(client.work("stranger", tokio_stream::pending())).await.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated);
    let error = within(client.work("two\nlines", tokio_stream::pending())).await.expect_err("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_token_becomes_a_credential_once() {
    let mut client = client().await;
    let ask = |token: &str| Registration { token: token.into(), name: "a1".into(), labels: vec!["linux".into()] };
    let registered = within(client.register(ask("once"))).await.expect("registered");
    assert_eq!((registered.agent.as_str(), registered.credential.as_str()), ("a1", "known"));
    let error = within(client.register(ask("twice"))).await.expect_err("refused");
    assert_eq!(error.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_before_it_leaves() {
    let mut client = client().await;
    let name = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let large = Registration { token: "once".into(), name, ..Registration::default() };
    within(client.register(large)).await.expect_err("refused");
    let small = Registration { token: "once".into(), ..Registration::default() };
    within(client.register(small)).await.expect("the connection stands all the same");
}

#[test]
fn a_word_of_tomorrow_is_passed_over() {
    use prost::Message;
    // Field 15 of the envelope, and a known word with a field 99 of its own.
    let unknown = [0x7a, 3, 1, 2, 3];
    assert_eq!(FromServer::decode(&unknown[..]).expect("it is read"), FromServer { word: None });
    let mut hello = Hello { major: 1, version: "9".into(), ..Hello::default() }.encode_to_vec();
    hello.extend([0x98, 0x06, 42]);
    assert_eq!(Hello::decode(&hello[..]).expect("it is read").version, "9");
}
