//! Runs that the server told us of: their commits, their caches, and attempts that wait for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use agent::{CacheWay, Elsewhere, Secret};
use model::{AttemptEnd, AttemptResult, AttemptSpec, Cause, NodeIx, RunId};
use proto::{Known, RunBrief};

use crate::checkout::Checkout;
use crate::lease::Lease;
use crate::{Station, lock};

/// A named cache with more bytes stays here.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// Runs that are known.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Mutex<HashMap<RunId, Run>>,
    /// Who executes an instance now.
    executing: Mutex<HashMap<(RunId, NodeIx), Lease>>,
    /// Attempts for which is fetched what others wrote, and whether they are to be stopped.
    learning: Mutex<HashMap<Lease, bool>>,
    ways: Mutex<Ways>,
}

#[derive(Debug)]
struct Run {
    brief: Arc<RunBrief>,
    /// The server spoke of it on this connection.
    heard_of: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was done for it yet.
    Known,
    /// Its commit is on the way; these attempts wait for it.
    Preparing(Vec<Job>),
    /// The executing part knows it; its commit stays as long.
    Ready(#[allow(dead_code, reason = "held so that it stays")] Arc<Checkout>),
}

impl Stage {
    fn waiting(self) -> Vec<Job> {
        match self {
            Stage::Preparing(waiting) => waiting,
            _ => Vec::new(),
        }
    }
}

/// An attempt to execute.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) spec: Arc<AttemptSpec>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) known: Vec<Known>,
}

/// Ways to the server's cache, one for each instance and right.
#[derive(Debug, Default)]
struct Ways {
    /// The credential they show.
    credential: String,
    remote: Option<remote::Remote>,
    ways: HashMap<(String, bool), CacheWay>,
}

/// What to do with an attempt.
enum Step {
    Execute(Job),
    Prepare(Arc<RunBrief>),
    Wait,
}

impl Runs {
    /// Who executes an instance now.
    pub(crate) fn lease_of(&self, run: &RunId, node: NodeIx) -> Option<Lease> {
        lock(&self.executing).get(&(run.clone(), node)).cloned()
    }

    /// An attempt ended.
    pub(crate) fn ended(&self, lease: &Lease) {
        let mut executing = lock(&self.executing);
        let key = (lease.run.clone(), lease.node);
        if executing.get(&key) == Some(lease) {
            executing.remove(&key);
        }
    }

    /// A run that will be executed here.
    pub(crate) fn begin(&self, run: RunId, brief: RunBrief) {
        let mut runs = lock(&self.runs);
        // Told again after a reconnect: what is here is kept.
        let run =
            runs.entry(run).or_insert_with(|| Run { brief: Arc::new(brief), heard_of: true, stage: Stage::Known });
        run.heard_of = true;
    }

    /// A new connection: the server has spoken of no run yet.
    pub(crate) fn connected(&self) {
        lock(&self.runs).values_mut().for_each(|run| run.heard_of = false);
    }

    fn step(&self, job: Job) -> Result<Step, Job> {
        let mut runs = lock(&self.runs);
        let Some(run) = runs.get_mut(&job.spec.run) else { return Err(job) };
        run.heard_of = true;
        Ok(match &mut run.stage {
            Stage::Ready(_) => Step::Execute(job),
            Stage::Preparing(waiting) => {
                waiting.push(job);
                Step::Wait
            }
            Stage::Known => {
                run.stage = Stage::Preparing(vec![job]);
                Step::Prepare(run.brief.clone())
            }
        })
    }

    /// The commit of a run is here, or not to be had: those that waited for it.
    /// `None`: the run ended meanwhile.
    fn prepared(&self, run: &RunId, checkout: Option<Arc<Checkout>>) -> Option<Vec<Job>> {
        let mut runs = lock(&self.runs);
        let run = runs.get_mut(run)?;
        let stage = checkout.map_or(Stage::Known, Stage::Ready);
        Some(std::mem::replace(&mut run.stage, stage).waiting())
    }

    /// Takes an attempt back that waits for its commit.
    fn withdraw(&self, lease: &Lease) -> bool {
        let mut runs = lock(&self.runs);
        let Some(Run { stage: Stage::Preparing(waiting), .. }) = runs.get_mut(&lease.run) else { return false };
        let before = waiting.len();
        waiting.retain(|job| Lease::of(&job.spec) != *lease);
        waiting.len() < before
    }
}

impl Station {
    /// Executes an attempt, now or when its commit is here. Does not block.
    pub(crate) fn execute(self: &Arc<Station>, job: Job) {
        let lease = Lease::of(&job.spec);
        lock(&self.runs.executing).insert((lease.run.clone(), lease.node), lease.clone());
        match self.runs.step(job) {
            Ok(Step::Execute(job)) => self.hand_over(job),
            Ok(Step::Wait) => {}
            Ok(Step::Prepare(brief)) => match self.checkouts.ready(&brief.project, &brief.commit) {
                Some(checkout) => self.ready(&lease.run, &brief, checkout),
                None => {
                    let station = self.clone();
                    self.helpers.spawn_blocking(move || station.prepare(&lease.run, &brief));
                }
            },
            Err(_) => self.fail(&lease, "the server did not say what the run is; this is a defect of the server"),
        }
    }

    /// Stops an attempt.
    pub(crate) fn stop(&self, lease: &Lease, force: bool) {
        if self.runs.withdraw(lease) {
            return self.cancelled(lease);
        }
        if let Some(stopped) = lock(&self.runs.learning).get_mut(lease) {
            *stopped = true;
            return;
        }
        self.agent.stop(&lease.run, lease.node, lease.fence, force);
    }

    /// Stops attempts whose leases are not ours any more.
    pub(crate) fn lose(&self, leases: &[Lease], why: &str) {
        self.book.lose(leases, why);
        for lease in leases {
            self.stop(lease, true);
        }
    }

    /// Forgets a run. Does not block.
    pub(crate) fn end_run(self: &Arc<Station>, run: RunId) {
        let ended = lock(&self.runs.runs).remove(&run);
        for job in ended.map(|run| run.stage.waiting()).unwrap_or_default() {
            self.cancelled(&Lease::of(&job.spec));
        }
        let station = self.clone();
        self.helpers.spawn_blocking(move || {
            for note in station.agent.end(&run) {
                tracing::warn!("run {run}: {note}");
            }
            let _ = sandbox::remove_tree(&station.book.folder(&run));
        });
    }

    /// Forgets runs that the server has not spoken of on this connection and that hold nothing: they ended meanwhile.
    pub(crate) fn end_unheard_of(self: &Arc<Station>) {
        let held = self.book.held();
        let runs = lock(&self.runs.runs);
        let is_over = |run: &RunId| !held.iter().any(|lease| lease.run == *run);
        let over: Vec<RunId> =
            runs.iter().filter(|(id, run)| !run.heard_of && is_over(id)).map(|(id, _)| id.clone()).collect();
        drop(runs);
        over.into_iter().for_each(|run| self.end_run(run));
    }

    fn prepare(self: &Arc<Station>, run: &RunId, brief: &RunBrief) {
        let credential = lock(&self.credential).as_ref().map(|known| known.secret.clone()).unwrap_or_default();
        match self.checkouts.take(&brief.project, &brief.commit, &credential) {
            Ok(checkout) => self.ready(run, brief, checkout),
            Err(why) => {
                for job in self.runs.prepared(run, None).unwrap_or_default() {
                    self.fail(&Lease::of(&job.spec), &why);
                }
            }
        }
    }

    fn ready(self: &Arc<Station>, run: &RunId, brief: &RunBrief, checkout: Arc<Checkout>) {
        let folder = self.book.folder(run);
        let scope = Some(brief.cache_scope.as_str()).filter(|scope| !scope.is_empty());
        let project = agent::Project {
            root: checkout.root.clone(),
            key: brief.key.clone(),
            snapshot: checkout.snapshot.clone(),
            log_dir: folder.clone(),
            lock: checkout.lock.clone(),
            tenant: brief.tenant.clone(),
            cache_scope: scope.unwrap_or(run.as_str()).to_string(),
            shared_scope: scope.map(|scope| format!("{} {}\n{scope}", std::env::consts::OS, std::env::consts::ARCH)),
            cache: self.way(brief),
            artifact_dir: folder.join("artifacts"),
        };
        self.agent.begin(run, project);
        match self.runs.prepared(run, Some(checkout)) {
            Some(jobs) => jobs.into_iter().for_each(|job| self.hand_over(job)),
            None => drop(self.agent.end(run)),
        }
    }

    /// The way to the server's cache.
    fn way(&self, brief: &RunBrief) -> Option<CacheWay> {
        let credential = lock(&self.credential).as_ref().map(|known| known.secret.clone()).unwrap_or_default();
        let mut ways = lock(&self.runs.ways);
        if ways.remote.is_none() || ways.credential != credential {
            let options = self.config.options(&credential).ok()?;
            *ways = Ways { credential, remote: Some(remote::Remote::new(options)), ways: HashMap::new() };
        }
        let key = (brief.cache_instance.clone(), brief.cache_writes);
        if let Some(way) = ways.ways.get(&key) {
            return Some(way.clone());
        }
        let remote = ways.remote.as_ref()?.at_instance(&brief.cache_instance);
        let writes = brief.cache_writes;
        let cache = agent::SharedCache { remote, reads: true, writes, snapshot_bytes_max: SNAPSHOT_BYTES_MAX };
        let way = self.agent.way(&cache);
        ways.ways.insert(key, way.clone());
        Some(way)
    }

    /// Forgets ways to the cache: what the server refused once, it may allow on a new connection.
    pub(crate) fn forget_ways(&self) {
        lock(&self.runs.ways).ways.clear();
    }

    fn hand_over(self: &Arc<Station>, job: Job) {
        if job.known.is_empty() {
            return self.agent.execute_with(job.spec, job.secrets);
        }
        // What others wrote may have to be fetched.
        let (station, lease) = (self.clone(), Lease::of(&job.spec));
        lock(&self.runs.learning).insert(lease.clone(), false);
        self.helpers.spawn_blocking(move || {
            let learned = station.learn(&job);
            // Held until it is handed over, so that nobody stops it in between.
            let mut learning = lock(&station.runs.learning);
            match (learning.remove(&lease), learned) {
                (Some(true), _) => station.cancelled(&lease),
                (_, Ok(())) => station.agent.execute_with(job.spec, job.secrets),
                (_, Err(why)) => station.fail(&lease, &why),
            }
        });
    }

    /// Makes known what other agents executed, each after what it needed itself.
    fn learn(&self, job: &Job) -> Result<(), String> {
        let mut left: BTreeMap<NodeIx, &Known> = job.known.iter().map(|known| (known.node, known)).collect();
        while !left.is_empty() {
            let is_next = |known: &&Known| known.needs.iter().all(|need| !left.contains_key(need));
            let next: Vec<NodeIx> = left.values().filter(|known| is_next(known)).map(|known| known.node).collect();
            if next.is_empty() {
                return Err("the server says that steps needed each other; this is a defect of the server".into());
            }
            for node in next {
                let Some(known) = left.remove(&node) else { continue };
                let ended = Elsewhere {
                    node,
                    name: known.name.as_str().into(),
                    needs: known.needs.clone(),
                    layer: known.layer,
                    action: known.action,
                };
                self.agent.know(&job.spec.run, ended).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Ends an attempt that was stopped before it began.
    fn cancelled(&self, lease: &Lease) {
        self.runs.ended(lease);
        self.book.end(lease, AttemptResult::ended(AttemptEnd::Cancelled));
    }

    /// Ends an attempt that cannot be executed here.
    pub(crate) fn fail(&self, lease: &Lease, why: &str) {
        self.runs.ended(lease);
        self.book.end(lease, AttemptResult::ended(AttemptEnd::Failed(Cause::Infrastructure(why.to_string()))));
    }
}
