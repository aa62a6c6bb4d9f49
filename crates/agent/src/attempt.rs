//! One attempt from lease to end: what it sees, whether its result is known, else its execution and what is kept of it.

use std::collections::BTreeMap;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cas::{ActionRecord, Tree};
use model::{AttemptEnd, AttemptResult, AttemptSpec, CacheMode, Cause, CommandSpec, NodeIx, Work};
use sandbox::{Child, SpawnError};

use crate::action::{Action, Surroundings, interpreter};
use crate::cache_dirs::{self, CachePlace, CacheUse};
use crate::config::Executor;
use crate::far::Asked;
use crate::fragment::read_file;
use crate::ground::Ground;
use crate::halt::{Halt, trouble};
use crate::images::Resolutions;
use crate::log::{self, Log, Voice};
use crate::mask::{MASKED_BYTES_MIN, Masker};
use crate::plain;
use crate::record::{Entry, Fresh};
use crate::remake::with_remakes;
use crate::report::Feed;
use crate::room::Room;
use crate::run::{Done, Inputs, Place, Run, lock};
use crate::settle::Ran;
use crate::stage::{Scene, Stage, refuse_without_sandbox};
use crate::supervise::{Stopper, supervise};
use crate::workspace::{self, Furniture};
use crate::{Shared, hit};

/// Everything that one attempt works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) agent: &'a Shared,
    pub(crate) run: &'a Arc<Run>,
    pub(crate) spec: &'a Arc<AttemptSpec>,
    pub(crate) command: &'a CommandSpec,
    pub(crate) given: &'a Given,
    pub(crate) feed: &'a Feed,
    pub(crate) stopper: &'a Stopper,
    pub(crate) since: Instant,
}

/// What the caller's environment and the secrets contribute.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) passed: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) masker: Arc<Masker>,
    /// What it and its services run on.
    pub(crate) images: Resolutions,
    notes: Vec<String>,
}

impl Given {
    /// # Errors
    /// A secret is asked for that nobody gave; an image is not to be had.
    pub(crate) fn to(command: &CommandSpec, node: NodeIx, agent: &Shared, run: &Run) -> Result<Given, Cause> {
        let images = Resolutions::of(command, &run.images, agent)?;
        let mut given = Given::default();
        given.images = images;
        for name in &command.pass_env {
            given.passed.extend(agent.config.caller_env.get(name).map(|value| (name.clone(), value.clone())));
        }
        let own = lock(&run.secrets).get(&node).cloned();
        for name in &command.secrets {
            let secret = own.as_ref().and_then(|own| own.get(name)).or_else(|| agent.config.secrets.get(name));
            let secret = secret.ok_or_else(|| {
                Cause::Refused(format!("the secret `{name}` is not known here; give it by file or environment"))
            })?;
            if secret.reveal().len() < MASKED_BYTES_MIN {
                given.notes.push(format!(
                    "the secret `{name}` has fewer than {MASKED_BYTES_MIN} bytes and is not masked in the log"
                ));
            }
            given.versions.insert(name.clone(), lock(&agent.version_key).version(secret));
            given.secrets.insert(name.clone(), secret.reveal().to_string());
        }
        given.masker = Arc::new(Masker::new(given.secrets.values().map(String::as_str)));
        Ok(given)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        for value in std::mem::take(&mut self.secrets).into_values() {
            drop(crate::Secret::new(value));
        }
    }
}

/// Executes an attempt to its end, whatever that is.
pub(crate) fn perform(
    agent: &Shared,
    run: &Arc<Run>,
    spec: &Arc<AttemptSpec>,
    stopper: &Stopper,
    feed: &Feed,
    since: Instant,
) -> AttemptResult {
    let mut result = begin(agent, run, spec, stopper, feed, since).unwrap_or_else(|halt| match halt {
        Halt::Ends(end) => AttemptResult::ended(end),
        Halt::Remake(_) => AttemptResult::ended(AttemptEnd::Failed(Cause::Infrastructure(
            "what is stored of the steps before it is damaged again and again; check the disk of the cache folder"
                .into(),
        ))),
    });
    if run.done(spec.node).is_none_or(|done| done.spec.fence != spec.fence) {
        remember_without_layer(run, spec, result.action);
    }
    result.took = since.elapsed();
    result
}

fn begin(
    agent: &Shared,
    run: &Arc<Run>,
    spec: &Arc<AttemptSpec>,
    stopper: &Stopper,
    feed: &Feed,
    since: Instant,
) -> Result<AttemptResult, Halt> {
    if let Some(why) = &run.unusable {
        return Err(trouble(why));
    }
    match &spec.work {
        Work::ReadFile(path) => with_remakes(agent, run, stopper, || read_file(agent, run, spec, path)),
        Work::Command(command) => {
            if agent.config.executor == Executor::Process {
                refuse_without_sandbox(command)?;
            }
            let given = Given::to(command, spec.node, agent, run)?;
            let at = Attempt { agent, run, spec, command, given: &given, feed, stopper, since };
            let mut result = with_remakes(agent, run, stopper, || at.go())?;
            result.notes.extend(given.notes.iter().cloned());
            mask(&mut result, &given.masker);
            Ok(result)
        }
    }
}

/// A step that failed or read a file only is still one that others come after.
pub(crate) fn remember_without_layer(run: &Run, spec: &Arc<AttemptSpec>, action: Option<model::Digest>) {
    if let Ok(inputs) = run.inputs(spec) {
        run.ended(Done {
            spec: spec.clone(),
            stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
            tree: inputs.full,
            layer: None,
            manifest: None,
            place: Mutex::new(Place::Stored),
            action,
            elsewhere: false,
            healing: Mutex::default(),
        });
    }
}

/// Also values, notes and causes may quote what a step wrote.
fn mask(result: &mut AttemptResult, masker: &Masker) {
    for note in &mut result.notes {
        *note = masker.text(note);
    }
    if let AttemptEnd::Failed(
        Cause::Infrastructure(why)
        | Cause::Refused(why)
        | Cause::Broken(why)
        | Cause::Expression(why)
        | Cause::Service(why)
        | Cause::Declined(why)
        | Cause::Lost(why),
    ) = &mut result.end
    {
        *why = masker.text(why);
    }
}

impl Attempt<'_> {
    fn go(&self) -> Result<AttemptResult, Halt> {
        if self.stopper.is_stopped() {
            return Err(Halt::Ends(AttemptEnd::Cancelled));
        }
        let inputs = self.run.inputs(self.spec)?;
        let action = self.compose(&inputs);
        let mut expected = None;
        if self.command.cache == CacheMode::Auto && !self.command.fresh {
            match hit::find(self.agent, self.run, self.command, &action) {
                Some(known) if self.command.verify => expected = Some(known.record),
                Some(known) => {
                    let far = known.far;
                    if let Some(mut result) = hit::replay(self, &inputs, &action, known) {
                        result.prepare = self.since.elapsed();
                        self.record(&action, None, far);
                        return Ok(result);
                    }
                    self.agent.actions.remove(&action.digest);
                }
                None => {}
            }
        }
        self.execute(&inputs, &action, expected)
    }

    pub(crate) fn compose(&self, inputs: &Inputs) -> Action {
        compose(self.agent, self.command, self.given, &inputs.shown)
    }

    pub(crate) fn record(&self, action: &Action, fresh: Option<Fresh>, far: bool) {
        let (run, step) = (self.run.clone(), self.spec.name.clone());
        let entry = Entry { run, step, action: action.clone(), fresh, far };
        self.agent.recorder.record(entry);
    }

    fn execute(&self, inputs: &Inputs, action: &Action, expected: Option<ActionRecord>) -> Result<AttemptResult, Halt> {
        let bench = self.furnish(inputs)?;
        let stage = self.stage(&bench)?;
        let (reader, writer) = pipe().map_err(|error| trouble(&format!("cannot make a pipe: {error}")))?;
        let (mut child, caches) = self.spawn(&bench, &stage, writer)?;
        let prepare = self.since.elapsed();
        let voice = Some(Voice::of(self.spec, self.feed));
        let mut log = Log::create(&log::path(&self.run.project.log_dir, self.spec), voice, self.given.masker.clone());
        let mut watch = stage.hold.watch(bench.written(&caches));
        let (end, usage) = supervise(&mut child, reader, self.spec, self.stopper, self.feed, &mut log, &mut watch)
            .map_err(|error| trouble(&format!("lost sight of the step's process: {error}")))?;
        drop(child);
        let (usage, counted) = stage.hold.usage(usage, &watch);
        let end = watch.judge(stage.hold.name(end, &counted));
        self.stopper.release();
        let env = match end {
            AttemptEnd::Succeeded => BTreeMap::new(),
            _ => self.environment(&stage, &BTreeMap::new()),
        };
        let ranged = stage.ground(self.agent).identity().range;
        let (traffic, notes) = stage.strike(&self.run.networks);
        let ran = Ran { bench, caches, prepare, usage, traffic, env, ranged, notes, logged: log.finish() };
        match end {
            AttemptEnd::Succeeded => self.succeeded(inputs, action, expected, ran),
            end => Ok(self.failed(inputs, action, end, ran)),
        }
    }

    fn environment(&self, stage: &Stage, secrets: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let ground = stage.ground(self.agent);
        workspace::environment(self.command, self.spec.attempt, ground, &self.given.passed, secrets)
    }

    fn stage(&self, bench: &Bench) -> Result<Stage, Halt> {
        let stage = Stage::set(Scene {
            agent: self.agent,
            command: self.command,
            resolved: &self.given.images,
            resources: &self.spec.resources,
            tenant: &self.run.project.tenant,
            networks: &self.run.networks,
            room: &bench.room,
            lowers: &bench.lowers,
            stopper: self.stopper,
            masker: &self.given.masker,
            voice: Some(&Voice::of(self.spec, self.feed)),
            log_of: &|service| log::service_path(&self.run.project.log_dir, self.spec, service),
        })?;
        self.stopper.hold(stage.hold.group.clone());
        Ok(stage)
    }

    /// Prepares the attempt's folder with all that the executor needs.
    fn furnish(&self, inputs: &Inputs) -> Result<Bench, Halt> {
        let room = Room::take(self.run, self.agent.made.fetch_add(1, Ordering::Relaxed))?;
        room.lay_desk(&self.command.script)?;
        hit::bring_all(self.run, &inputs.stack);
        let lowers = match self.agent.config.executor {
            Executor::Sandbox => {
                let layers = workspace::layer_dirs(inputs, |done| hit::directory(self.agent, self.run, done))?;
                let mut lowers: Vec<PathBuf> = workspace::beside_inputs(&room, inputs)?.into_iter().collect();
                lowers.extend(workspace::lowers(self.run, inputs, layers)?);
                lowers
            }
            Executor::Process => {
                inputs.stack.iter().try_for_each(|done| hit::bring(self.agent, self.run, done))?;
                plain::lay_out(self.run, &self.agent.store, inputs, &room.upper)?;
                Vec::new()
            }
        };
        Ok(Bench { room, lowers })
    }

    fn spawn(&self, bench: &Bench, stage: &Stage, output: std::io::PipeWriter) -> Result<(Child, Vec<CacheUse>), Halt> {
        let errors = output.try_clone().map_err(|error| trouble(&format!("cannot copy a pipe: {error}")))?;
        let (stdout, stderr) = (OwnedFd::from(output), OwnedFd::from(errors));
        let ground = stage.ground(self.agent);
        let mut env = self.environment(stage, &self.given.secrets);
        let mut argv = interpreter(&self.command.shell);
        if self.agent.config.executor == Executor::Process {
            let host = self.agent.host();
            let child = plain::spawn(&bench.room, host, argv, env, stdout, stderr, self.agent.config.open_files_soft)
                .map_err(|error| refused(&error))?;
            return Ok((child, Vec::new()));
        }
        argv.push(format!("{}/script", workspace::DESK));
        env.extend(stage.reach.env());
        let mounted = cache_dirs::mount_caches(&bench.room, self.lease_caches(&bench.room, ground)?, ground)?;
        let furniture = Furniture {
            room: &bench.room,
            lowers: mounted.points.into_iter().chain(bench.lowers.iter().cloned()).collect(),
            caches: mounted.overlays,
            ground,
            reach: &stage.reach,
            hold: &stage.hold,
            argv,
            env,
            name: &self.spec.name,
        };
        let mut spec = furniture.spec()?;
        (spec.stdout, spec.stderr) = (Some(stdout), Some(stderr));
        Ok((spec.spawn().map_err(|error| refused(&error))?, mounted.used))
    }

    fn lease_caches(&self, room: &Room, ground: Ground<'_>) -> Result<Vec<(CachePlace, CacheUse)>, Halt> {
        let mut caches = Vec::new();
        for (number, cache) in self.command.caches.iter().enumerate() {
            let place = cache_dirs::cache_place(cache, ground)?;
            // A cache is its project's: what one project leaves in it, another may execute.
            let scoped = |key: &String| format!("{}\n{key}", self.run.project.cache_scope);
            let fallback: Vec<String> = cache.fallback.iter().map(scoped).collect();
            let mut lease = self.agent.named.open(&scoped(&cache.key), &fallback)?;
            let project = &self.run.project;
            let share = project.shared_scope.as_ref().map(|scope| Asked::new(cache, scope, &project.cache_scope));
            if let (Some(far), Some(asked), false) = (&self.run.far, &share, lease.exact)
                && far.bring_cache(&self.agent.named, asked, lease.from.is_some(), &self.run.scratch)
            {
                lease = self.agent.named.open(&scoped(&cache.key), &fallback)?;
            }
            let upper = room.path.join(format!("cache-{number}"));
            workspace::make_dirs(&upper)?;
            caches.push((place, CacheUse { lease, upper, key: cache.key.clone(), share }));
        }
        Ok(caches)
    }
}

/// The action of a command that sees `tree`.
pub(crate) fn compose(agent: &Shared, command: &CommandSpec, given: &Given, tree: &Tree) -> Action {
    let around = Surroundings {
        executor: agent.config.executor.word(),
        fingerprint: &agent.host().fingerprint,
        passed: &given.passed,
        secrets: &given.versions,
        images: &given.images,
    };
    Action::compose(command, tree, around)
}

/// What an attempt is executed on.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) room: Room,
    pub(crate) lowers: Vec<PathBuf>,
}

impl Bench {
    /// Where the attempt writes on disk.
    fn written(&self, caches: &[CacheUse]) -> Vec<PathBuf> {
        let own = [self.room.upper.clone(), self.room.home(), self.room.image_upper()];
        own.into_iter().chain(caches.iter().map(|cache| cache.upper.clone())).collect()
    }
}

fn refused(error: &SpawnError) -> Halt {
    match error {
        SpawnError::Program { .. } => Cause::Refused(error.to_string()).into(),
        _ => trouble(error),
    }
}
