//! Executes actions of remote clients: inputs from the store, the command in a sandbox, its outputs back into the store.
//!
//! An action sees the system directories of this host, its inputs at [`WORKSPACE`], a `/tmp` of its own and nothing else:
//! no home, no network, no variable that it did not ask for. Inputs are the lower layer of an overlay, hard links into a
//! folder that actions share, so that no action can change what another one is given.

mod collect;
mod files;
mod input;
mod merged;
mod order;
mod path;
mod room;
mod supervise;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::Blobs;
use cache::execution::{Executor, Fault, Work};
use sandbox::cgroup::{Groups, Limits, Tenant};
use sandbox::{Ability, Exit, HostView, Network, Overlay, Rlimits, Root, SpawnError, Spec};

use collect::Collector;
use files::Files;
use input::Input;
use order::Order;
use room::Room;
use supervise::{End, supervise};

/// Where an action finds its inputs.
pub const WORKSPACE: &str = "/workspace";
/// Where programs are looked for when the action does not say, and what of the host is shown for it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Processes and threads of one action: a parallel compiler has hundreds, a fork bomb has no end.
const PROCESSES_MAX: u32 = 10_000;
/// Bytes that one file of an action may grow to.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// What a shell says of a program that is not there.
const EXIT_NOT_FOUND: i32 = 127;
/// What a shell adds to the number of a signal that ended a program.
const EXIT_SIGNALLED: i32 = 128;

/// How actions are executed.
#[derive(Clone, Debug)]
pub struct Options {
    /// A folder of the worker's own; what is in it is removed at the start.
    pub folder: PathBuf,
    /// Bytes of input files that are kept for the next action.
    pub files_bytes_max: u64,
    /// How long an action may run that names no timeout, and the longest that one may name.
    pub timeout_max: Duration,
    /// Whether an action may ask for the host's network by the platform property `network`.
    pub network: bool,
}

impl Options {
    /// In this folder: 4 GiB of files, an hour, no network.
    pub fn new(folder: PathBuf) -> Options {
        Options { folder, files_bytes_max: 4 << 30, timeout_max: Duration::from_secs(3600), network: false }
    }
}

/// Why no worker can be had here.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}: {source}")]
pub struct OpenError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Executes actions, any number at a time.
#[derive(Debug)]
pub struct Worker {
    options: Options,
    view: HostView,
    files: Files,
    tenant: Option<Arc<Tenant>>,
    name: String,
    made: AtomicU64,
    /// Held as long as the worker lives: another one would empty the folder.
    _lock: File,
}

impl Worker {
    /// Takes the folder. What an earlier worker left in it is removed.
    ///
    /// # Errors
    /// The folder cannot be emptied or made.
    pub fn open(options: Options) -> Result<Worker, OpenError> {
        let fail = |act, path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError { act, path, source }
        };
        let lock = lock(&options.folder)?;
        sandbox::remove_tree(&options.folder).map_err(fail("empty the folder", &options.folder))?;
        let kept = options.folder.join("files");
        std::fs::create_dir_all(&kept).map_err(fail("make the folder", &kept))?;
        // Without a home: toolchains that live in one are this user's, and would make results differ between users.
        let view = sandbox::host_view::detect(&BTreeMap::from([("PATH".to_owned(), PATH.to_owned())])).view;
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let files = Files::new(kept, options.files_bytes_max);
        Ok(Worker { view, files, tenant: tenant(), name, made: AtomicU64::new(0), options, _lock: lock })
    }

    fn carry_out(&self, blobs: &Blobs, work: &Work) -> Result<api::ActionResult, Fault> {
        let mut told = api::ExecutedActionMetadata {
            worker: self.name.clone(),
            queued_timestamp: stamp(work.queued),
            worker_start_timestamp: now(),
            input_fetch_start_timestamp: now(),
            ..api::ExecutedActionMetadata::default()
        };
        let order = Order::read(blobs, &work.action)?;
        self.can(&order)?;
        let room = Room::make(self.options.folder.join(format!("room-{}", self.next())))?;
        let input = Input::walk(blobs, order.input_root)?;
        room.furnish(&input, &order, &self.files, blobs)?;
        told.input_fetch_completed_timestamp = now();
        told.execution_start_timestamp = now();
        let end = self.run(&room, &order, work)?;
        told.execution_completed_timestamp = now();
        told.output_upload_start_timestamp = now();
        let mut collector = Collector::new(blobs, work.action.function);
        let mut result = api::ActionResult { exit_code: end.exit_code(), ..api::ActionResult::default() };
        (result.stdout_digest, result.stderr_digest) =
            (collector.stream(&room.stdout())?, collector.stream(&room.stderr())?);
        if let Ran::Ended(End::Exited(_)) = end {
            collector.outputs(&room, &order, &mut result)?;
        }
        collector.flush()?;
        told.output_upload_completed_timestamp = now();
        told.worker_completed_timestamp = now();
        result.execution_metadata = Some(told);
        match end {
            Ran::NotFound | Ran::Ended(End::Exited(_)) => Ok(result),
            Ran::Ended(End::TimedOut) => Err(Fault::TimedOut { after: self.timeout(&order), result: Box::new(result) }),
            Ran::Ended(End::Stopped) => Err(Fault::Stopped),
            Ran::Ended(End::Over(what)) => Err(Fault::Exhausted(what)),
        }
    }

    /// Refuses what is not to be had here.
    fn can(&self, order: &Order) -> Result<(), Fault> {
        if order.network && !self.options.network {
            let why = "the action asks for a network (platform property `network`), which this server gives to none; \
                       start it with --execute-network, or leave the property out";
            return Err(Fault::Unmet(why.into()));
        }
        match order.timeout.filter(|timeout| *timeout > self.options.timeout_max) {
            None => Ok(()),
            Some(timeout) => Err(Fault::Invalid(format!(
                "the action has a timeout of {} s; at most {} s are allowed here",
                timeout.as_secs(),
                self.options.timeout_max.as_secs()
            ))),
        }
    }

    fn timeout(&self, order: &Order) -> Duration {
        order.timeout.unwrap_or(self.options.timeout_max)
    }

    fn run(&self, room: &Room, order: &Order, work: &Work) -> Result<Ran, Fault> {
        let (stdout, stderr) = room.streams()?;
        let group = match &self.tenant {
            None => None,
            Some(tenant) => {
                let limits = Limits { pids: Some(PROCESSES_MAX), ..Limits::default() };
                let made = tenant.group(&format!("action-{}", self.next()), &limits);
                Some(Arc::new(made.map_err(|error| Fault::Broken(error.to_string()))?))
            }
        };
        let overlay =
            Overlay { at: WORKSPACE.into(), lower: vec![room.inputs()], upper: room.upper(), work: room.work() };
        let spec = Spec {
            env: order.env.clone(),
            cwd: Path::new(WORKSPACE).join(&order.folder),
            overlays: vec![overlay],
            network: if order.network { Network::Host } else { Network::Own },
            hostname: "action".into(),
            stdout: Some(stdout.into()),
            stderr: Some(stderr.into()),
            rlimits: Rlimits {
                file_size: Some(FILE_BYTES_MAX),
                processes: self.tenant.is_none().then_some(PROCESSES_MAX.into()),
                ..Rlimits::default()
            },
            group,
            ..Spec::new(order.argv.clone(), Root::Host(self.view.clone()))
        };
        let mut child = match spec.spawn() {
            Ok(child) => child,
            Err(error @ SpawnError::Program { .. }) => {
                // It is the action's fault and a person has to see it: as every shell tells it.
                room.write_stderr(&format!("{error}\n"))?;
                return Ok(Ran::NotFound);
            }
            Err(SpawnError::Invalid(why)) => return Err(Fault::Invalid(why)),
            Err(error) => return Err(Fault::Broken(error.to_string())),
        };
        supervise(&mut child, self.timeout(order), &work.stop, room).map(Ran::Ended)
    }

    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

impl Executor for Worker {
    fn execute(&self, blobs: &Blobs, work: &Work) -> Result<api::ActionResult, Fault> {
        self.carry_out(blobs, work)
    }
}

/// Takes a folder for this worker alone, by a file beside it.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.with_extension("lock");
    let take = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = File::create(&path)?;
        file.try_lock()?;
        Ok::<File, io::Error>(file)
    };
    take().map_err(|source| OpenError { act: "take (does another server use it?)", path: path.clone(), source })
}

/// What became of the command.
enum Ran {
    NotFound,
    Ended(End),
}

impl Ran {
    fn exit_code(&self) -> i32 {
        match self {
            Ran::NotFound => EXIT_NOT_FOUND,
            Ran::Ended(End::Exited(Exit::Code(code))) => *code,
            Ran::Ended(End::Exited(Exit::Signal(signal))) => EXIT_SIGNALLED + signal,
            Ran::Ended(_) => EXIT_SIGNALLED + 9,
        }
    }
}

/// The control group around all actions, where processes can be counted by one.
fn tenant() -> Option<Arc<Tenant>> {
    let groups = Groups::open().ok()?;
    let counts = groups.abilities().pids == Ability::Yes;
    counts.then(|| groups.tenant("actions", &Limits::default()).ok()).flatten()
}

fn now() -> Option<bazel_remote_apis::google::protobuf::Timestamp> {
    stamp(SystemTime::now())
}

fn stamp(at: SystemTime) -> Option<bazel_remote_apis::google::protobuf::Timestamp> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    let nanos = since.subsec_nanos().try_into().ok()?;
    Some(bazel_remote_apis::google::protobuf::Timestamp { seconds, nanos })
}

/// What the file system refused, on what, as the caller's answer: a full disk may have room later.
fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
    let path = path.display().to_string();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Fault::Exhausted(format!("cannot {act} {path}: {error}"))
        }
        _ => Fault::Broken(format!("cannot {act} {path}: {error}")),
    }
}

fn os(text: &str) -> OsString {
    OsString::from(text)
}
