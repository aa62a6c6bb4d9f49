//! `Execution`: actions that are carried out here, told by a stream of how far they are.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bazel_remote_apis::build::bazel::remote::execution::v2::{self as api, execution_stage::Value as Stage};
use bazel_remote_apis::google::longrunning as long;
use bazel_remote_apis::google::protobuf::Any;
use blobs::Key;
use futures_util::future::Either;
use futures_util::stream::{self, Stream};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::{digests, status, wire};
use crate::Service;
use crate::access::Access;
use crate::execution::{Fault, Operation, Operations, Order, Progress, recall};
use crate::service::blocking;

/// An `Action` names two digests and some words.
const ACTION_BYTES_MAX: usize = 1 << 20;
/// How often a client hears that nothing has changed: what is between us takes a silent connection for a dead one.
const REPEAT_EVERY: Duration = Duration::from_secs(20);

/// Adds the methods, where something executes.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    if service.operations.is_none() {
        return router;
    }
    router
        .route("/build.bazel.remote.execution.v2.Execution/Execute", wire::answers(service, execute))
        .route("/build.bazel.remote.execution.v2.Execution/WaitExecution", wire::answers(service, wait))
}

/// What this caller is told of it.
pub(super) fn capabilities(service: &Service, access: &Access) -> Option<api::ExecutionCapabilities> {
    service.operations.as_ref()?;
    Some(api::ExecutionCapabilities {
        digest_function: digests::function_value(blobs::Function::Sha256),
        digest_functions: blobs::Function::ALL.map(digests::function_value).into(),
        exec_enabled: may_execute(access).is_ok(),
        ..api::ExecutionCapabilities::default()
    })
}

async fn execute(
    service: Arc<Service>,
    request: Request<api::ExecuteRequest>,
) -> Result<impl Stream<Item = Result<long::Operation, Status>>, Status> {
    let operations = operations(&service)?;
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    may_execute(&access)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    let action = digests::required(function, request.action_digest.as_ref(), "action_digest")?;
    if !request.skip_cache_lookup {
        let (service, domain) = (service.clone(), access.domain.clone());
        if let Some(result) = blocking(move || recall(&service, &domain, &action)).await {
            let response = api::ExecuteResponse { result: Some(result), cached_result: true, ..Default::default() };
            let done = shown("operations/cached", &action, &Progress::Done(Arc::new(response)));
            return Ok(Either::Left(stream::iter([Ok(done)])));
        }
    }
    let blobs = service.blobs.clone();
    let uncached = blocking(move || do_not_cache(&blobs, &action)).await.map_err(Fault::into_status)?;
    let order = Order { domain: access.domain, action, uncached };
    let (operation, progress) = operations.enter(&service, order)?;
    Ok(Either::Right(updates(&operation, progress)))
}

async fn wait(
    service: Arc<Service>,
    request: Request<api::WaitExecutionRequest>,
) -> Result<impl Stream<Item = Result<long::Operation, Status>>, Status> {
    let operations = operations(&service)?;
    let name = &request.get_ref().name;
    let unknown = || Status::not_found("this operation is not known (any more); call Execute again");
    let (operation, progress) = operations.find(name).ok_or_else(unknown)?;
    // Who may not execute there is not told that it exists.
    let access = service.admit(request.metadata().as_ref(), &operation.domain.to_string()).map_err(|_| unknown())?;
    if access.domain != operation.domain || may_execute(&access).is_err() {
        return Err(unknown());
    }
    Ok(updates(&operation, progress))
}

fn operations(service: &Service) -> Result<&Arc<Operations>, Status> {
    let none = || Status::unimplemented("this server executes nothing; start it with `pace cache serve --execute`");
    service.operations.as_ref().ok_or_else(none)
}

/// Who may upload content may have it executed: what comes out is what the action gives, whoever asked for it.
fn may_execute(access: &Access) -> Result<(), Status> {
    match access.may_write_content().map_err(status::denied)? {
        true => Ok(()),
        false => Err(Status::permission_denied(format!("`{}` may not execute actions", access.writer))),
    }
}

fn do_not_cache(blobs: &blobs::Blobs, action: &Key) -> Result<bool, Fault> {
    let bytes = match blobs.get(action, ACTION_BYTES_MAX) {
        Err(error @ blobs::Error::TooLarge { .. }) => return Err(Fault::Invalid(error.to_string())),
        bytes => bytes?,
    };
    let read = api::Action::decode(bytes);
    read.map(|read| read.do_not_cache)
        .map_err(|error| Fault::Invalid(format!("blob {action} is not an Action: {error}")))
}

/// The operation as it is now, at every change, and now and then; the last one is its end.
fn updates(
    operation: &Operation,
    progress: watch::Receiver<Progress>,
) -> impl Stream<Item = Result<long::Operation, Status>> + use<> {
    let (name, action) = (operation.name.clone(), operation.action);
    stream::unfold(Some((progress, true)), move |state| {
        let name = name.clone();
        async move {
            let (mut progress, first) = state?;
            if !first && let Ok(Err(_)) = tokio::time::timeout(REPEAT_EVERY, progress.changed()).await {
                return Some((Err(Status::unavailable("the server is being stopped; call Execute again")), None));
            }
            let now = progress.borrow_and_update().clone();
            let next = (!matches!(now, Progress::Done(_))).then_some((progress, false));
            Some((Ok(shown(&name, &action, &now)), next))
        }
    })
}

fn shown(name: &str, action: &Key, progress: &Progress) -> long::Operation {
    let (stage, response) = match progress {
        Progress::Queued => (Stage::Queued, None),
        Progress::Executing => (Stage::Executing, None),
        Progress::Done(response) => (Stage::Completed, Some(response)),
    };
    let metadata = api::ExecuteOperationMetadata {
        stage: stage.into(),
        action_digest: Some(digests::digest(action)),
        digest_function: digests::function_value(action.function),
        ..api::ExecuteOperationMetadata::default()
    };
    let any = |name: &str, value: Vec<u8>| Any {
        type_url: format!("type.googleapis.com/build.bazel.remote.execution.v2.{name}"),
        value,
    };
    long::Operation {
        name: name.into(),
        metadata: Some(any("ExecuteOperationMetadata", metadata.encode_to_vec())),
        done: response.is_some(),
        result: response
            .map(|response| long::operation::Result::Response(any("ExecuteResponse", response.encode_to_vec()))),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use api::execution_client::ExecutionClient;
    use blobs::{Blobs, Function};
    use tonic::Code;
    use tonic::transport::Channel;

    use super::*;
    use crate::execution::{Execution, Executor, Work};
    use crate::{Config, Running};

    /// What stands in for a sandbox: an action ends when the gate is opened, with the exit code that it names.
    #[derive(Debug, Default)]
    struct Stranger {
        shut: Mutex<bool>,
        executed: AtomicUsize,
        at_once: AtomicUsize,
        at_once_max: AtomicUsize,
    }

    impl Executor for Stranger {
        fn execute(&self, blobs: &Blobs, work: &Work) -> Result<api::ActionResult, Fault> {
            self.executed.fetch_add(1, Ordering::SeqCst);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_max.fetch_max(now, Ordering::SeqCst);
            while *self.shut.lock().unwrap() && !work.stop.is_wanted() {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            if work.stop.is_wanted() {
                return Err(Fault::Stopped);
            }
            let action = api::Action::decode(blobs.get(&work.action, 1 << 20)?).expect("an action");
            Ok(api::ActionResult { exit_code: action.salt.len() as i32, ..api::ActionResult::default() })
        }
    }

    struct World {
        running: Running,
        stranger: Arc<Stranger>,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new(jobs: usize) -> World {
            let folder = tempfile::tempdir().unwrap();
            let stranger = Arc::new(Stranger::default());
            let jobs = NonZeroUsize::new(jobs).unwrap();
            let execution = Some(Execution { executor: stranger.clone(), jobs });
            let running = crate::serve(&Config { execution, ..Config::local(folder.path()) }).unwrap();
            World { running, stranger, _folder: folder }
        }
        async fn client(&self) -> ExecutionClient<Channel> {
            ExecutionClient::connect(format!("http://{}", self.running.address)).await.unwrap()
        }
        /// An action that ends with this exit code; `name` makes it another one.
        fn action(&self, name: &str, exit: usize, do_not_cache: bool) -> api::ExecuteRequest {
            let command_digest = Some(digests::digest(&Function::Sha256.key_of(name.as_bytes())));
            let action = api::Action { command_digest, salt: vec![0; exit], do_not_cache, ..api::Action::default() };
            let bytes = action.encode_to_vec();
            let key = Function::Sha256.key_of(&bytes);
            self.running.service.blobs.put_many(&[(key, bytes.into())]).into_iter().for_each(|put| put.unwrap());
            api::ExecuteRequest { action_digest: Some(digests::digest(&key)), ..api::ExecuteRequest::default() }
        }
        fn executed(&self) -> usize {
            self.stranger.executed.load(Ordering::SeqCst)
        }
        fn shut(&self, shut: bool) {
            *self.stranger.shut.lock().unwrap() = shut;
        }
        fn ends(&self, test: impl Future<Output = ()>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await }).expect("in time");
        }
    }

    /// The end of a stream of operations.
    async fn end(mut stream: tonic::Streaming<long::Operation>) -> api::ExecuteResponse {
        while let Some(operation) = stream.message().await.unwrap() {
            if let Some(long::operation::Result::Response(any)) = operation.result {
                assert!(operation.done);
                return api::ExecuteResponse::decode(&any.value[..]).unwrap();
            }
        }
        panic!("it ended without an end");
    }

    #[test]
    fn a_success_is_remembered_and_a_failure_is_not() {
        let world = World::new(2);
        world.ends(async {
            let mut client = world.client().await;
            for (name, exit, uncached, executions) in
                [("good", 0, false, 1), ("bad", 3, false, 2), ("private", 0, true, 2)]
            {
                let before = world.executed();
                for _ in 0..2 {
                    let request = world.action(name, exit, uncached);
                    let response = end(client.execute(request).await.unwrap().into_inner()).await;
                    assert_eq!(response.result.unwrap().exit_code, exit as i32);
                }
                assert_eq!(world.executed() - before, executions, "{name}");
            }
            let again = api::ExecuteRequest { skip_cache_lookup: true, ..world.action("good", 0, false) };
            let response = end(client.execute(again).await.unwrap().into_inner()).await;
            assert!(!response.cached_result && world.executed() == 6);
        });
    }

    #[test]
    fn who_asks_for_the_same_waits_for_the_same() {
        let world = World::new(2);
        world.ends(async {
            let mut client = world.client().await;
            world.shut(true);
            let mut streams = Vec::new();
            for _ in 0..5 {
                streams.push(client.execute(world.action("same", 0, false)).await.unwrap().into_inner());
            }
            for _ in 0..2 {
                streams.push(client.execute(world.action("private", 0, true)).await.unwrap().into_inner());
            }
            world.shut(false);
            for stream in streams {
                assert_eq!(end(stream).await.status, None);
            }
            assert_eq!(world.executed(), 3);
        });
    }

    #[test]
    fn no_more_are_executed_at_a_time_than_there_are_jobs() {
        let world = World::new(2);
        world.ends(async {
            let mut client = world.client().await;
            let mut streams = Vec::new();
            for name in ["a", "b", "c", "d", "e", "f"] {
                streams.push(client.execute(world.action(name, 0, false)).await.unwrap().into_inner());
            }
            for stream in streams {
                end(stream).await;
            }
            assert_eq!(world.executed(), 6);
            assert!(world.stranger.at_once_max.load(Ordering::SeqCst) <= 2);
        });
    }

    #[test]
    fn a_client_that_lost_its_connection_comes_back_to_its_operation() {
        let world = World::new(1);
        world.ends(async {
            let mut client = world.client().await;
            world.shut(true);
            let mut stream = client.execute(world.action("long", 0, false)).await.unwrap().into_inner();
            let name = stream.message().await.unwrap().unwrap().name;
            drop((stream, client));
            let mut client = world.client().await;
            let stream = client.wait_execution(api::WaitExecutionRequest { name: name.clone() }).await.unwrap();
            world.shut(false);
            assert_eq!(end(stream.into_inner()).await.result.unwrap().exit_code, 0);
            // Its end can still be asked for.
            let stream = client.wait_execution(api::WaitExecutionRequest { name }).await.unwrap();
            assert_eq!(end(stream.into_inner()).await.result.unwrap().exit_code, 0);
            assert_eq!(world.executed(), 1);
            let unknown = api::WaitExecutionRequest { name: "operations/0".into() };
            assert_eq!(client.wait_execution(unknown).await.unwrap_err().code(), Code::NotFound);
        });
    }

    #[test]
    fn what_nobody_waits_for_is_stopped() {
        let world = World::new(1);
        world.ends(async {
            let mut client = world.client().await;
            world.shut(true);
            let mut stream = client.execute(world.action("long", 0, false)).await.unwrap().into_inner();
            let name = stream.message().await.unwrap().unwrap().name;
            drop(stream);
            drop(client);
            while world.stranger.at_once.load(Ordering::SeqCst) > 0 || world.executed() == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut client = world.client().await;
            let gone = client.wait_execution(api::WaitExecutionRequest { name }).await.unwrap_err();
            assert_eq!(gone.code(), Code::NotFound);
        });
    }

    #[test]
    fn a_missing_action_is_named_in_the_words_that_make_clients_upload_it() {
        let world = World::new(1);
        world.ends(async {
            let mut client = world.client().await;
            let key = Function::Sha256.key_of(b"nowhere");
            let request = api::ExecuteRequest { action_digest: Some(digests::digest(&key)), ..Default::default() };
            let refused = client.execute(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            let details = bazel_remote_apis::google::rpc::Status::decode(refused.details()).unwrap().details;
            assert_eq!(details[0].type_url, "type.googleapis.com/google.rpc.PreconditionFailure");
            let subject = format!("blobs/{key}");
            assert!(details[0].value.windows(subject.len()).any(|part| part == subject.as_bytes()));
        });
    }
}
