//! Executes attempts: prepares the workspace, looks the action up, runs it in the sandbox, masks secrets, streams the
//! log, captures the layer, records the result. No policy: what to execute and when is decided elsewhere.
//!
//! Plain threads: one for each slot, which lives with its attempt from lease to end, and one that writes action records.
#![forbid(unsafe_code)]

mod action;
mod attempt;
mod cache_dirs;
mod config;
mod elsewhere;
mod far;
mod fragment;
mod ground;
mod groups;
mod halt;
mod hit;
mod host;
mod images;
mod keep;
mod limits;
mod log;
mod mask;
mod plain;
mod platform;
mod reach;
mod record;
mod regular;
mod remake;
mod report;
mod room;
mod run;
mod secret;
mod service;
mod settle;
mod shell;
mod stage;
mod supervise;
#[cfg(test)]
mod testing;
mod values;
mod workspace;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use cas::{ActionStore, NamedCaches, Scratch, Store};
use image::{ImageError, Images};
use model::{
    AttemptEnd, AttemptResult, AttemptSpec, CacheMode, CachedFrom, Cause, CommandSpec, Fence, NodeIx, RunId, Work,
};

use sandbox::Ability;
use sandbox::cgroup::{Abilities, GroupError, Limits, Tenant};

use groups::OwnGroups;
use host::Host;
use record::Recorder;
use report::Feed;
use run::{Run, lock};
use secret::VersionKey;
use supervise::Stopper;

pub use action::{ActionParts, Difference, differences};
pub use config::{AgentError, CacheWay, Config, Executor, FullNetwork, Project, Secret, SharedCache};
pub use elsewhere::Elsewhere;
pub use far::{SharedCounts, Uploading};
pub use groups::machine_quota;
pub use report::{LogLine, Report};
pub use secret::KEY_BYTES;
pub use shell::Shell;

/// Runs whose failed sandboxes are kept for `pace shell`.
pub const KEPT_RUNS_MAX: usize = 5;

/// A pool of slots that execute attempts. Dropped: running attempts are killed.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    slots: Vec<JoinHandle<()>>,
}

/// What would happen if an attempt were executed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// It would be taken from the cache.
    Cached {
        /// The execution its result comes from.
        from: CachedFrom,
        /// What that execution handed on.
        values: BTreeMap<String, String>,
    },
    /// It reads this text and is not executed: an `expand`.
    Reads(String),
    /// It would be executed. Why, as a clause: `its inputs changed`, `cache: never`.
    Executes(String),
    /// That depends on what a step before it writes: this one.
    Open(NodeIx),
}

/// What all threads of an agent share.
#[derive(Debug)]
struct Shared {
    config: Config,
    store: Store,
    actions: ActionStore,
    named: NamedCaches,
    scratch: Scratch,
    version_key: Mutex<VersionKey>,
    feed: Feed,
    recorder: Recorder,
    far: Option<Arc<far::Far>>,
    host: OnceLock<Host>,
    groups: OwnGroups,
    images: OnceLock<Result<Images, ImageError>>,
    /// Numbers things in scratch whose names would meet otherwise.
    made: AtomicU64,
    runs: Mutex<HashMap<RunId, Arc<Run>>>,
    /// Attempts that wait for a slot or are in one.
    stoppers: Mutex<HashMap<(RunId, NodeIx, Fence), Arc<Stopper>>>,
    queue: Mutex<VecDeque<Leased>>,
    queued: Condvar,
    closing: AtomicBool,
}

/// An attempt that waits for a slot.
#[derive(Debug)]
struct Leased {
    spec: Arc<AttemptSpec>,
    stopper: Arc<Stopper>,
    since: Instant,
}

impl Agent {
    /// Opens the folders and starts `config.slots` threads.
    ///
    /// # Errors
    /// A folder cannot be made, read or written; threads cannot be started.
    pub fn start(config: Config, reports: Sender<Report>) -> Result<Agent, AgentError> {
        make_folder(&config.cache_dir)?;
        make_folder(&config.state_dir)?;
        let store = Store::open(&config.cache_dir)?;
        let actions = ActionStore::open(&config.cache_dir)?;
        let thread = |source| AgentError::Folder { act: "start a thread for", path: config.cache_dir.clone(), source };
        let named = NamedCaches::open_all(&config.cache_dir)?;
        let far = config.shared.as_ref().map(|cache| Arc::new(far::Far::new(cache, &store, &named)));
        let shared = Arc::new(Shared {
            named,
            scratch: Scratch::open(&config.cache_dir)?,
            version_key: Mutex::new(VersionKey::open(&config.state_dir)?),
            feed: Feed::new(reports),
            recorder: Recorder::start(store.clone(), actions.clone()).map_err(thread)?,
            far,
            store,
            actions,
            host: OnceLock::new(),
            groups: OwnGroups::default(),
            images: OnceLock::new(),
            made: AtomicU64::new(0),
            runs: Mutex::default(),
            stoppers: Mutex::default(),
            queue: Mutex::default(),
            queued: Condvar::new(),
            closing: AtomicBool::new(false),
            config,
        });
        let mut agent = Agent { shared, slots: Vec::new() };
        for number in 0..agent.shared.config.slots.max(1) {
            let shared = agent.shared.clone();
            let slot = std::thread::Builder::new().name(format!("slot-{number}")).spawn(move || {
                // Found out while the run is still being planned.
                shared.host();
                shared.serve();
            });
            let path = agent.shared.config.cache_dir.clone();
            agent.slots.push(slot.map_err(|source| AgentError::Folder { act: "start a thread for", path, source })?);
        }
        Ok(agent)
    }

    /// Makes a run known: comes before anything else about it. What is wrong with its folders is said by its attempts.
    pub fn begin(&self, run: &RunId, project: Project) {
        let agent = &self.shared;
        let number = agent.made.fetch_add(1, Ordering::Relaxed);
        let scratch = agent.scratch.path().join(number.to_string());
        let made = std::fs::create_dir(&scratch).map_err(|e| format!("cannot make {}: {e}", scratch.display()));
        let pin = cas::Pin::hold(&agent.config.cache_dir, run).map_err(|error| error.to_string());
        let unusable = made.err().or_else(|| pin.as_ref().err().cloned());
        let far = project.cache.as_ref().map(|way| way.0.clone()).or_else(|| agent.far.clone());
        let known = Run::new(run.clone(), project, far, scratch, unusable, pin.ok());
        lock(&agent.runs).insert(run.clone(), Arc::new(known));
        if let Some(far) = &agent.far {
            far.begin(run);
        }
    }

    /// A shared cache for runs that do not use the agent's own. One of them serves all runs that use it alike.
    pub fn way(&self, cache: &SharedCache) -> CacheWay {
        CacheWay(Arc::new(far::Far::new(cache, &self.shared.store, &self.shared.named)))
    }

    /// Takes this key for the versions of secrets in action keys, so that agents with the same key make the same ones.
    pub fn set_version_key(&self, key: [u8; KEY_BYTES]) {
        *lock(&self.shared.version_key) = VersionKey(key);
    }

    /// Makes known what an instance wrote that another agent executed; what that one needed itself comes first. Fetches the
    /// list of its files, and the files when somebody reads them.
    ///
    /// # Errors
    /// The run is not begun, or the shared cache does not have it. A sentence.
    pub fn know(&self, run: &RunId, ended: Elsewhere) -> Result<(), AgentError> {
        let run = self.shared.run(run).ok_or_else(|| AgentError::Attempt("its run is not begun".into()))?;
        elsewhere::know(&self.shared, &run, ended).map_err(AgentError::Attempt)
    }

    /// Puts what a result names, layer, artifacts and reports, into the run's shared cache, and returns when it is there.
    /// Nothing happens without one.
    ///
    /// # Errors
    /// The cache does not take it, or a part is gone. A sentence.
    pub fn publish(&self, run: &RunId, result: &AttemptResult) -> Result<(), AgentError> {
        let Some(run) = self.shared.run(run) else { return Ok(()) };
        elsewhere::publish(&self.shared, &run, result).map_err(AgentError::Attempt)
    }

    /// As [`Agent::execute`], with secrets that this attempt alone gets, over those of [`Config::secrets`]. They are
    /// forgotten when it ends.
    pub fn execute_with(&self, spec: Arc<AttemptSpec>, secrets: BTreeMap<String, Secret>) {
        if let Some(run) = self.shared.run(&spec.run) {
            lock(&run.secrets).insert(spec.node, Arc::new(secrets));
        }
        self.execute(spec);
    }

    /// Executes an attempt when a slot is free; [`Report::Finished`] tells its end.
    pub fn execute(&self, spec: Arc<AttemptSpec>) {
        let agent = &self.shared;
        let stopper = match Stopper::new() {
            Ok(stopper) => Arc::new(stopper),
            Err(error) => {
                let cause = Cause::Infrastructure(format!("cannot watch over the attempt: {error}"));
                return agent.finished(&spec, AttemptResult::ended(AttemptEnd::Failed(cause)));
            }
        };
        lock(&agent.stoppers).insert((spec.run.clone(), spec.node, spec.fence), stopper.clone());
        lock(&agent.queue).push_back(Leased { spec, stopper, since: Instant::now() });
        agent.queued.notify_one();
    }

    /// Stops an attempt: SIGTERM, [`model::limits::CANCEL_GRACE`], SIGKILL; with `force` SIGKILL at once. Nothing
    /// happens for one that ended or has another fencing number.
    pub fn stop(&self, run: &RunId, node: NodeIx, fence: Fence, force: bool) {
        if let Some(stopper) = lock(&self.shared.stoppers).get(&(run.clone(), node, fence)) {
            stopper.stop(force);
        }
    }

    /// Changes what an attempt may use while it runs. Nothing happens for one that ended, has not started its command or
    /// has another fencing number.
    ///
    /// # Errors
    /// The host cannot hold such a limit, or the kernel refuses it. A sentence.
    pub fn set_limits(&self, run: &RunId, node: NodeIx, fence: Fence, limits: &Limits) -> Result<(), AgentError> {
        let stopper = lock(&self.shared.stoppers).get(&(run.clone(), node, fence)).cloned();
        match stopper.and_then(|stopper| stopper.group()) {
            Some(group) => group.set_limits(limits).map_err(|error| AgentError::Attempt(error.to_string())),
            None => Ok(()),
        }
    }

    /// Sets what all attempts of a tenant may use together, those that run too.
    ///
    /// # Errors
    /// As [`Agent::set_limits`].
    pub fn set_quota(&self, tenant: &str, quota: Limits) -> Result<(), AgentError> {
        self.shared.groups.set_quota(tenant, quota).map_err(|error| AgentError::Attempt(error.to_string()))
    }

    /// Waits until everything that this run leaves for the shared cache is there. `go_on` is asked all the while, and ends it
    /// by `false`. Returns sentences about what went wrong; nothing of that is a failure of the run.
    pub fn share(&self, run: &RunId, go_on: &mut dyn FnMut(Uploading) -> bool) -> Vec<String> {
        let Some(run) = self.shared.run(run) else { return Vec::new() };
        let Some(far) = &run.far else { return Vec::new() };
        record::wait(&run);
        far.finish(go_on)
    }

    /// What the shared cache was good for so far; `None` without one.
    pub fn shared_counts(&self) -> Option<SharedCounts> {
        self.shared.far.as_ref().map(|far| far.counts())
    }

    /// Ends a run: waits until its records are written, removes its scratch, keeps the sandboxes of failed attempts
    /// when the configuration says so. Returns sentences about what could not be recorded, kept or removed.
    pub fn end(&self, run: &RunId) -> Vec<String> {
        let Some(run) = lock(&self.shared.runs).remove(run) else { return Vec::new() };
        record::wait(&run);
        let mut notes = std::mem::take(&mut *lock(&run.notes));
        notes.extend(shell::keep_now(&self.shared.config.state_dir, &run));
        if let Err(error) = sandbox::remove_tree(&run.scratch) {
            notes.push(format!("cannot remove {}: {error}", run.scratch.display()));
        }
        notes
    }

    /// Whether an attempt would be taken from the cache. Ask for what it needs first: a hit makes its layer known, so
    /// that its dependants can be foreseen.
    pub fn foresee(&self, spec: &Arc<AttemptSpec>) -> Foresight {
        self.shared.foresee(spec).unwrap_or_else(|error| Foresight::Executes(error.to_string()))
    }

    /// The action that the attempt would be. What it needs must have been executed or foreseen as cached.
    ///
    /// # Errors
    /// The run is not begun, needed layers are not known or contradict each other, a secret is missing.
    pub fn action_of(&self, spec: &AttemptSpec) -> Result<ActionParts, AgentError> {
        let (run, command) = self.shared.command_of(spec)?;
        let action = self.shared.compose(&run, spec, command)?.1;
        action.parts().ok_or_else(|| AgentError::Attempt("the action cannot be read back".into()))
    }

    /// The action of the last time that this step of the run's project was recorded or found in the cache; `None` if
    /// that never happened or parts of it are gone.
    pub fn last_action(&self, run: &RunId, step: &str) -> Option<ActionParts> {
        let run = self.shared.run(run)?;
        let digest = self.shared.actions.last(&run.project.key, step)?;
        ActionParts::load(&digest, &self.shared.store)
    }

    /// The sandbox that the attempt would get, for an interactive shell. What it needs must have been executed or
    /// foreseen as cached. Its folders live until the run ends.
    ///
    /// # Errors
    /// Needed layers are not to be had any more; the process executor has no sandbox.
    pub fn open_shell(&self, spec: &Arc<AttemptSpec>) -> Result<Shell, AgentError> {
        let (run, _) = self.shared.command_of(spec)?;
        shell::open_new(&self.shared, &run, spec)
    }

    /// The kept sandbox of a failed attempt, as it was when it failed. `run` need not be begun.
    ///
    /// # Errors
    /// None was kept, or it cannot be opened any more.
    pub fn open_kept(&self, run: &RunId, step: &str) -> Result<Shell, AgentError> {
        shell::open_kept(&self.shared, run, step)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for stopper in lock(&self.shared.stoppers).values() {
            stopper.stop(true);
        }
        // Under the queue's lock, so that no slot is between its look and its sleep.
        drop(lock(&self.shared.queue));
        self.shared.queued.notify_all();
        for slot in self.slots.drain(..) {
            // A slot that panicked has nothing left to stop.
            let _ = slot.join();
        }
    }
}

impl Shared {
    fn host(&self) -> &Host {
        self.host.get_or_init(|| Host::look(&self.config))
    }

    /// Opened by the first attempt that stands on one.
    fn images(&self) -> Result<&Images, Cause> {
        let opened = self.images.get_or_init(|| Images::open(&self.config.cache_dir, self.config.images.clone()));
        opened.as_ref().map_err(|error| Cause::Infrastructure(error.to_string()))
    }

    fn can(&self, which: fn(&Abilities) -> &Ability) -> Result<(), (String, String)> {
        self.groups.can(which)
    }

    fn tenant(&self, name: &str) -> Option<Result<Arc<Tenant>, GroupError>> {
        self.groups.tenant(name, &self.config.quota)
    }

    fn run(&self, run: &RunId) -> Option<Arc<Run>> {
        lock(&self.runs).get(run).cloned()
    }

    /// A slot's life.
    fn serve(&self) {
        while let Some(Leased { spec, stopper, since }) = self.next() {
            let result = catch_unwind(AssertUnwindSafe(|| match self.run(&spec.run) {
                Some(run) => attempt::perform(self, &run, &spec, &stopper, &self.feed, since),
                None => AttemptResult::ended(AttemptEnd::Failed(Cause::Lost("the agent does not know the run".into()))),
            }));
            let result = result.unwrap_or_else(|_| {
                let why = "the agent made a mistake while it executed the step; please report it with the output above";
                AttemptResult::ended(AttemptEnd::Failed(Cause::Infrastructure(why.into())))
            });
            lock(&self.stoppers).remove(&(spec.run.clone(), spec.node, spec.fence));
            if let Some(run) = self.run(&spec.run) {
                lock(&run.secrets).remove(&spec.node);
            }
            self.finished(&spec, result);
        }
    }

    fn next(&self) -> Option<Leased> {
        let mut queue = lock(&self.queue);
        loop {
            if self.closing.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(leased) = queue.pop_front() {
                return Some(leased);
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finished(&self, spec: &AttemptSpec, result: AttemptResult) {
        self.feed.finished(spec.run.clone(), spec.node, spec.attempt, spec.fence, result);
    }

    fn command_of<'a>(&self, spec: &'a AttemptSpec) -> Result<(Arc<Run>, &'a CommandSpec), AgentError> {
        let run = self.run(&spec.run).ok_or_else(|| AgentError::Attempt("the agent does not know the run".into()))?;
        match &spec.work {
            Work::Command(command) => Ok((run, command)),
            Work::ReadFile(_) => Err(AgentError::Attempt("a step that reads a file is no action".into())),
        }
    }

    fn foresee_text(&self, spec: &Arc<AttemptSpec>, path: &str) -> Result<Foresight, AgentError> {
        let run = self.run(&spec.run).ok_or_else(|| AgentError::Attempt("its run is not begun".into()))?;
        if let Some(need) = spec.needs.iter().find(|need| run.done(**need).is_none()) {
            return Ok(Foresight::Open(*need));
        }
        let Ok(result) = fragment::read_file(self, &run, spec, path) else {
            return Ok(Foresight::Executes(format!("`{path}` is not there yet")));
        };
        attempt::remember_without_layer(&run, spec, None);
        Ok(Foresight::Reads(result.text.unwrap_or_default()))
    }

    fn compose(
        &self,
        run: &Run,
        spec: &AttemptSpec,
        command: &CommandSpec,
    ) -> Result<(run::Inputs, action::Action), AgentError> {
        let inputs = run.inputs(spec).map_err(|cause| AgentError::Attempt(cause.to_string()))?;
        let given = attempt::Given::to(command, spec.node, self, run)
            .map_err(|cause| AgentError::Attempt(cause.to_string()))?;
        let action = attempt::compose(self, command, &given, &inputs.shown);
        Ok((inputs, action))
    }

    fn foresee(&self, spec: &Arc<AttemptSpec>) -> Result<Foresight, AgentError> {
        if let Work::ReadFile(path) = &spec.work {
            return self.foresee_text(spec, path);
        }
        let (run, command) = self.command_of(spec)?;
        if let Some(need) = spec.needs.iter().find(|need| run.done(**need).is_none()) {
            return Ok(Foresight::Open(*need));
        }
        let (inputs, action) = self.compose(&run, spec, command)?;
        let why = match command.cache {
            CacheMode::Never => "`cache: never`",
            CacheMode::Auto if command.fresh => "the cache is not to be used",
            CacheMode::Auto => {
                let known = hit::find(self, &run, command, &action)
                    .filter(|known| hit::adopt(self, &run, spec, &inputs, &action, known).is_some());
                if let Some(hit::Known { record, .. }) = known {
                    let from = CachedFrom { run: record.run, number: record.number, took: record.took };
                    return Ok(Foresight::Cached { from, values: record.values });
                }
                match self.actions.last(&run.project.key, &spec.name) {
                    Some(last) if last == action.digest => "its result is not in the cache any more",
                    Some(_) => "its command, environment or inputs changed",
                    None => "it was never recorded here",
                }
            }
        };
        Ok(Foresight::Executes(why.into()))
    }
}

fn make_folder(path: &Path) -> Result<(), AgentError> {
    std::fs::create_dir_all(path).map_err(|source| AgentError::Folder { act: "make", path: path.into(), source })
}
