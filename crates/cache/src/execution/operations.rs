//! Operations: actions that clients wait for, each executed once however many wait, and not at all when nobody does.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::Key;
use prost::Message as _;
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use super::{Execution, Fault, Stop, Work, results};
use crate::Service;
use crate::access::Domain;

/// Operations that are known at a time, waiting, under way or just ended.
const OPERATIONS_MAX: usize = 50_000;
/// How long an operation goes on without anybody who waits for it: clients lose connections, and come back.
const ALONE: Duration = Duration::from_secs(5);
/// How long it can be asked for after its end.
const KEPT: Duration = Duration::from_secs(60);

/// Bytes of a result: clients read answers of at most 4 MiB.
const RESULT_BYTES_MAX: usize = (4 << 20) - (64 << 10);

/// All operations.
#[derive(Debug)]
pub(crate) struct Operations {
    execution: Execution,
    seats: Arc<Semaphore>,
    // Never held while anybody waits.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, Arc<Operation>>,
    /// Those that others may join.
    open: BTreeMap<(Domain, Key), Arc<Operation>>,
}

/// An action that somebody waits for.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) domain: Domain,
    pub(crate) action: Key,
    progress: watch::Sender<Progress>,
    stop: Stop,
}

/// How far an operation is.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// Waits for its turn.
    Queued,
    /// Is being executed.
    Executing,
    /// Ended so.
    Done(Arc<api::ExecuteResponse>),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) domain: Domain,
    pub(crate) action: Key,
    /// Neither shared with others who ask for it now, nor remembered for those who ask later.
    pub(crate) uncached: bool,
}

impl Operations {
    pub(crate) fn new(execution: Execution) -> Operations {
        let seats = Arc::new(Semaphore::new(execution.jobs.get()));
        Operations { execution, seats, known: Mutex::default() }
    }

    /// Joins the operation that is under way for this, or begins one.
    pub(crate) fn enter(
        self: &Arc<Self>,
        service: &Arc<Service>,
        order: Order,
    ) -> Result<(Arc<Operation>, watch::Receiver<Progress>), Status> {
        let mut known = self.lock();
        let shared = (order.domain.clone(), order.action);
        if let Some(operation) = known.open.get(&shared).filter(|_| !order.uncached) {
            return Ok((operation.clone(), operation.progress.subscribe()));
        }
        if known.by_name.len() >= OPERATIONS_MAX {
            return Err(Status::unavailable(format!("{OPERATIONS_MAX} actions wait here already; try again later")));
        }
        let (progress, receiver) = watch::channel(Progress::Queued);
        let operation = Arc::new(Operation {
            name: format!("operations/{:016x}{:016x}", random(), random()),
            domain: order.domain.clone(),
            action: order.action,
            progress,
            stop: Stop::default(),
        });
        known.by_name.insert(operation.name.clone(), operation.clone());
        if !order.uncached {
            known.open.insert(shared, operation.clone());
        }
        drop(known);
        tokio::spawn(self.clone().conduct(service.clone(), operation.clone(), order.uncached));
        Ok((operation, receiver))
    }

    /// An operation by its name.
    pub(crate) fn find(&self, name: &str) -> Option<(Arc<Operation>, watch::Receiver<Progress>)> {
        let operation = self.lock().by_name.get(name)?.clone();
        let receiver = operation.progress.subscribe();
        Some((operation, receiver))
    }

    async fn conduct(self: Arc<Self>, service: Arc<Service>, operation: Arc<Operation>, uncached: bool) {
        let response = tokio::select! {
            response = self.carry_out(service, operation.clone(), uncached) => response,
            () = self.alone(&operation) => answer(Err(Fault::Stopped)),
        };
        self.close(&operation);
        operation.progress.send_replace(Progress::Done(Arc::new(response)));
        tokio::time::sleep(KEPT).await;
        self.lock().by_name.remove(&operation.name);
    }

    async fn carry_out(
        &self,
        service: Arc<Service>,
        operation: Arc<Operation>,
        uncached: bool,
    ) -> api::ExecuteResponse {
        let queued = SystemTime::now();
        let Ok(seat) = self.seats.clone().acquire_owned().await else {
            return answer(Err(Fault::Stopped));
        };
        operation.progress.send_replace(Progress::Executing);
        let work = Work { action: operation.action, queued, stop: operation.stop.clone() };
        let executor = self.execution.executor.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Held here: the seat is free when the process is gone, not when the last client is.
            let _seat = seat;
            let executed = executor.execute(&service.blobs, &work);
            let result = executed.as_ref().ok().filter(|result| !uncached && result.exit_code == 0);
            let kept = result.map(|result| results::remember(&service, &operation.domain, &operation.action, result));
            // The client has its result all the same.
            api::ExecuteResponse { message: kept.and_then(Result::err).unwrap_or_default(), ..answer(executed) }
        });
        done.await.unwrap_or_else(|error| answer(Err(Fault::Broken(format!("the executor failed: {error}")))))
    }

    /// Comes back when nobody has waited for the operation for a while; from then on nobody joins it.
    async fn alone(&self, operation: &Operation) {
        loop {
            operation.progress.closed().await;
            tokio::time::sleep(ALONE).await;
            // Nobody can join between the look and the removal.
            let mut known = self.lock();
            if operation.progress.receiver_count() == 0 {
                operation.stop.want();
                known.leave(operation);
                known.by_name.remove(&operation.name);
                return;
            }
        }
    }

    fn close(&self, operation: &Operation) {
        self.lock().leave(operation);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change is one insertion or removal.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn leave(&mut self, operation: &Operation) {
        let shared = (operation.domain.clone(), operation.action);
        if self.open.get(&shared).is_some_and(|open| open.name == operation.name) {
            self.open.remove(&shared);
        }
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        for operation in self.lock().by_name.values() {
            operation.stop.want();
        }
    }
}

/// The answer that waits at the end of an operation.
fn answer(executed: Result<api::ActionResult, Fault>) -> api::ExecuteResponse {
    match executed {
        Ok(result) if result.encoded_len() > RESULT_BYTES_MAX => {
            let why = "the action has more outputs than fit into one answer; let it write into one output directory";
            answer(Err(Fault::Exhausted(why.into())))
        }
        Ok(result) => api::ExecuteResponse { result: Some(result), ..api::ExecuteResponse::default() },
        Err(fault) => {
            let status = Some(fault.status());
            let result = if let Fault::TimedOut { result, .. } = fault { Some(*result) } else { None };
            api::ExecuteResponse { result, status, ..api::ExecuteResponse::default() }
        }
    }
}

/// Not to be guessed: the standard library seeds its maps from the kernel.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
