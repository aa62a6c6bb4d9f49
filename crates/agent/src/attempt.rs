//! One attempt from lease to end: what it sees, whether its result is known, else its execution and what is kept of it.

use std::collections::BTreeMap;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cas::{ActionRecord, CommitEnd, Layer, Tree, TreeEntry};
use model::limits::FILE_BYTES_MAX;
use model::{AttemptEnd, AttemptResult, AttemptSpec, CacheMode, Cause, CommandSpec, NodeIx, Work};
use sandbox::{Child, SpawnError, Usage};

use crate::action::{Action, Surroundings, interpreter};
use crate::config::Executor;
use crate::halt::{Halt, trouble};
use crate::keep::{self, Kept, Workspace};
use crate::log::{self, Log, Logged};
use crate::mask::{MASKED_BYTES_MIN, Masker};
use crate::plain;
use crate::record::{Entry, Fresh};
use crate::regular::read_regular;
use crate::report::Feed;
use crate::room::Room;
use crate::run::{Done, Inputs, Place, Run, lock};
use crate::shell;
use crate::supervise::{Stopper, supervise};
use crate::values;
use crate::workspace::{self, CacheUse, Furniture};
use crate::{Shared, hit};

/// How often layers of one attempt's stack may turn out to be damaged before the store is given up.
const REMAKES_MAX: usize = 100;

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
    pub(crate) masker: Masker,
    notes: Vec<String>,
}

impl Given {
    /// # Errors
    /// A secret is asked for that nobody gave.
    pub(crate) fn to(command: &CommandSpec, agent: &Shared) -> Result<Given, Cause> {
        let mut given = Given::default();
        for name in &command.pass_env {
            given.passed.extend(agent.config.caller_env.get(name).map(|value| (name.clone(), value.clone())));
        }
        for name in &command.secrets {
            let secret = agent.config.secrets.get(name).ok_or_else(|| {
                Cause::Refused(format!("the secret `{name}` is not known here; give it by file or environment"))
            })?;
            if secret.reveal().len() < MASKED_BYTES_MIN {
                given.notes.push(format!(
                    "the secret `{name}` has fewer than {MASKED_BYTES_MIN} bytes and is not masked in the log"
                ));
            }
            given.versions.insert(name.clone(), agent.version_key.version(secret));
            given.secrets.insert(name.clone(), secret.reveal().to_string());
        }
        given.masker = Masker::new(given.secrets.values().map(String::as_str));
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
            workspace::refuse(command)?;
            let given = Given::to(command, agent)?;
            let at = Attempt { agent, run, spec, command, given: &given, feed, stopper, since };
            let mut result = with_remakes(agent, run, stopper, || at.go())?;
            result.notes.extend(given.notes.iter().cloned());
            mask(&mut result, &given.masker);
            Ok(result)
        }
    }
}

/// Tries again after what was stored and damaged has been made again.
fn with_remakes(
    agent: &Shared,
    run: &Arc<Run>,
    stopper: &Stopper,
    mut attempt: impl FnMut() -> Result<AttemptResult, Halt>,
) -> Result<AttemptResult, Halt> {
    let mut notes = Vec::new();
    for _ in 0..REMAKES_MAX {
        match attempt() {
            Err(Halt::Remake(node)) => notes.extend(remake(agent, run, node, stopper)?),
            other => {
                return other.map(|mut result| {
                    result.notes.splice(0..0, notes);
                    result
                });
            }
        }
    }
    attempt()
}

/// Executes the step again whose stored layer is damaged. Unheard: its own result was reported long ago.
fn remake(agent: &Shared, run: &Arc<Run>, node: NodeIx, stopper: &Stopper) -> Result<Option<String>, Halt> {
    let Some(damaged) = run.done(node) else { return Ok(None) };
    let _only_one = lock(&damaged.healing);
    if run.done(node).is_none_or(|now| !Arc::ptr_eq(&now, &damaged)) {
        return Ok(None);
    }
    if let Some(action) = &damaged.action {
        agent.actions.remove(action);
    }
    let mut spec = (*damaged.spec).clone();
    if let Work::Command(command) = &mut spec.work {
        let command = Arc::make_mut(command);
        (command.fresh, command.verify) = (true, false);
    }
    let result = perform(agent, run, &Arc::new(spec), stopper, &Feed::muted(), Instant::now());
    let name = &damaged.spec.name;
    match result.end {
        AttemptEnd::Succeeded => {
            Ok(Some(format!("the stored result of step `{name}` was damaged, so it was executed again")))
        }
        AttemptEnd::Cancelled => Err(Halt::Ends(AttemptEnd::Cancelled)),
        AttemptEnd::Failed(cause) => Err(trouble(&format!(
            "the stored result of step `{name}` is damaged, and executing it again failed ({cause}); run with `--no-cache`"
        ))),
    }
}

/// A step that failed or read a file only is still one that others come after.
fn remember_without_layer(run: &Run, spec: &Arc<AttemptSpec>, action: Option<model::Digest>) {
    if let Ok(inputs) = run.inputs(spec) {
        run.ended(Done {
            spec: spec.clone(),
            stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
            tree: inputs.full,
            layer: None,
            manifest: None,
            place: Mutex::new(Place::Stored),
            action,
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
        | Cause::Lost(why),
    ) = &mut result.end
    {
        *why = masker.text(why);
    }
}

fn read_file(agent: &Shared, run: &Run, spec: &AttemptSpec, path: &str) -> Result<AttemptResult, Halt> {
    let inputs = run.inputs(spec)?;
    let path = path.trim_start_matches("./");
    let broken = |why: String| Halt::from(Cause::Broken(format!("cannot read `{path}`: {why}")));
    let digest = match inputs.full.get(path) {
        Some(TreeEntry::File { digest, .. }) => digest,
        Some(_) => return Err(broken("it is not a file".into())),
        None => {
            return Err(broken("it is not in the workspace; the step that writes it must be in `depends_on`".into()));
        }
    };
    let writer = inputs
        .stack
        .iter()
        .rev()
        .find(|done| done.layer.iter().any(|layer| layer.entries.iter().any(|entry| entry.path == path)));
    let bytes = match writer {
        Some(writer) if digest.size <= FILE_BYTES_MAX as u64 => {
            agent.store.get(&digest, FILE_BYTES_MAX).map_err(|_| Halt::Remake(writer.spec.node))?
        }
        Some(_) => return Err(broken(format!("it is longer than {FILE_BYTES_MAX} bytes"))),
        None => {
            read_regular(&run.project.root.join(path), FILE_BYTES_MAX).map_err(|error| broken(error.to_string()))?
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| broken("it is not UTF-8".into()))?;
    Ok(AttemptResult { text: Some(text), ..AttemptResult::ended(AttemptEnd::Succeeded) })
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
            match hit::find(self.agent, self.command, &action) {
                Some(record) if self.command.verify => expected = Some(record),
                Some(record) => {
                    if let Some(mut result) = hit::replay(self, &inputs, &action, record) {
                        result.prepare = self.since.elapsed();
                        self.record(&action, None);
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

    fn record(&self, action: &Action, fresh: Option<Fresh>) {
        let entry = Entry { run: self.run.clone(), step: self.spec.name.clone(), action: action.clone(), fresh };
        self.agent.recorder.record(entry);
    }

    fn execute(&self, inputs: &Inputs, action: &Action, expected: Option<ActionRecord>) -> Result<AttemptResult, Halt> {
        let bench = self.furnish(inputs)?;
        let (reader, writer) = pipe().map_err(|error| trouble(&format!("cannot make a pipe: {error}")))?;
        let (mut child, caches) = self.spawn(&bench, writer)?;
        let prepare = self.since.elapsed();
        let mut log = Log::create(&self.run.project.log_dir, self.spec, self.feed, &self.given.masker);
        let (end, usage) = supervise(&mut child, reader, self.spec, self.stopper, self.feed, &mut log)
            .map_err(|error| trouble(&format!("lost sight of the step's process: {error}")))?;
        drop(child);
        let logged = log.finish();
        let ran = Ran { bench, caches, prepare, usage, logged };
        match end {
            AttemptEnd::Succeeded => self.succeeded(inputs, action, expected, ran),
            end => Ok(self.failed(inputs, action, end, ran)),
        }
    }

    /// Prepares the attempt's folder with all that the executor needs.
    fn furnish(&self, inputs: &Inputs) -> Result<Bench, Halt> {
        let room = Room::take(self.run, self.agent.made.fetch_add(1, Ordering::Relaxed))?;
        room.lay_desk(&self.command.script)?;
        let lowers = match self.agent.config.executor {
            Executor::Sandbox => {
                let layers = workspace::layer_dirs(inputs, |done| hit::directory(self.agent, self.run, done))?;
                let mut lowers: Vec<PathBuf> = workspace::beside_inputs(&room, inputs)?.into_iter().collect();
                lowers.extend(workspace::lowers(self.run, inputs, layers)?);
                lowers
            }
            Executor::Process => {
                plain::lay_out(self.run, &self.agent.store, inputs, &room.upper)?;
                Vec::new()
            }
        };
        Ok(Bench { room, lowers })
    }

    fn spawn(&self, bench: &Bench, output: std::io::PipeWriter) -> Result<(Child, Vec<CacheUse>), Halt> {
        let errors = output.try_clone().map_err(|error| trouble(&format!("cannot copy a pipe: {error}")))?;
        let (stdout, stderr) = (OwnedFd::from(output), OwnedFd::from(errors));
        let host = self.agent.host();
        let mut env = workspace::environment(self.command, host, &self.given.passed, &self.given.secrets);
        let mut argv = interpreter(&self.command.shell);
        if self.agent.config.executor == Executor::Process {
            let child = plain::spawn(&bench.room, host, argv, env, stdout, stderr).map_err(|error| refused(&error))?;
            return Ok((child, Vec::new()));
        }
        argv.push(format!("{}/script", workspace::DESK));
        env.insert("HOME".into(), host.home.to_string_lossy().into_owned());
        env.insert("PACE_WORKSPACE".into(), workspace::WORKSPACE.into());
        env.insert("PACE_VALUES".into(), format!("{}/values", workspace::DESK));
        let mounted = workspace::mount_caches(&bench.room, self.lease_caches(&bench.room)?, host)?;
        let furniture = Furniture {
            room: &bench.room,
            lowers: mounted.points.into_iter().chain(bench.lowers.iter().cloned()).collect(),
            caches: mounted.overlays,
            host,
            network: workspace::refuse(self.command)?,
            argv,
            env,
            name: &self.spec.name,
        };
        let mut spec = furniture.spec()?;
        (spec.stdout, spec.stderr) = (Some(stdout), Some(stderr));
        Ok((spec.spawn().map_err(|error| refused(&error))?, mounted.used))
    }

    fn lease_caches(&self, room: &Room) -> Result<Vec<(workspace::CachePlace, CacheUse)>, Halt> {
        let mut caches = Vec::new();
        for (number, cache) in self.command.caches.iter().enumerate() {
            let place = workspace::cache_place(cache, &self.agent.host().home)?;
            let lease = self.agent.named.open(&cache.key, &cache.fallback)?;
            let upper = room.path.join(format!("cache-{number}"));
            workspace::make_dirs(&upper)?;
            caches.push((place, CacheUse { lease, upper, key: cache.key.clone() }));
        }
        Ok(caches)
    }

    fn succeeded(
        &self,
        inputs: &Inputs,
        action: &Action,
        expected: Option<ActionRecord>,
        ran: Ran,
    ) -> Result<AttemptResult, Halt> {
        let masker = &self.given.masker;
        let kept = values::read(&ran.bench.room.values(), masker)
            .map_err(Halt::from)
            .and_then(|values| Ok((values, self.keep(inputs, &ran)?)))
            .and_then(|(values, kept)| {
                let note = expected.map(|record| self.compare(&record, &values, &kept)).transpose()?;
                Ok((values, kept, note))
            });
        let (values, mut kept, note) = match kept {
            Ok(kept) => kept,
            Err(Halt::Ends(end)) => return Ok(self.failed(inputs, action, end, ran)),
            Err(again) => return Err(again),
        };
        let mut notes = std::mem::take(&mut kept.notes);
        notes.extend(note);
        notes.extend(self.commit_caches(ran.caches));
        let mut result = AttemptResult {
            prepare: ran.prepare,
            values,
            action: Some(action.digest),
            layer: kept.manifest,
            artifacts: std::mem::take(&mut kept.artifacts),
            reports: std::mem::take(&mut kept.reports),
            tail: ran.logged.tail,
            log_bytes: ran.logged.bytes,
            cpu: ran.usage.cpu,
            memory_peak: ran.usage.memory_peak,
            notes,
            ..AttemptResult::ended(AttemptEnd::Succeeded)
        };
        self.remember(inputs, action, kept, ran.bench.room.upper.clone());
        if self.command.cache == CacheMode::Auto && ran.logged.trouble.is_none() {
            result.notes.extend(self.flaky(self.agent.actions.outcomes(&action.digest), true));
            self.record(action, Some(self.fresh(&result, inputs.base.clone())));
        }
        result.notes.extend(ran.logged.trouble);
        ran.bench.room.give_back(self.run, &self.agent.host().home_points);
        Ok(result)
    }

    fn keep(&self, inputs: &Inputs, ran: &Ran) -> Result<Kept, Halt> {
        let capture = |globs: Option<&model::GlobList>| self.capture(inputs, ran, globs);
        let workspace = Workspace { inputs, root: &self.run.project.root, store: &self.agent.store, capture: &capture };
        workspace.keep(self.command, &self.run.project.artifact_dir)
    }

    fn capture(
        &self,
        inputs: &Inputs,
        ran: &Ran,
        globs: Option<&model::GlobList>,
    ) -> Result<cas::Captured, cas::LayerError> {
        let upper = ran.bench.room.upper.clone();
        match self.agent.config.executor {
            Executor::Sandbox => cas::capture(&upper, globs, &self.agent.store),
            // A plain directory is the whole workspace, and no lower directory for anybody.
            Executor::Process => cas::capture_diff(&upper, &inputs.shown, globs, &self.agent.store)
                .map(|captured| cas::Captured { whole: false, ..captured }),
        }
    }

    fn remember(&self, inputs: &Inputs, action: &Action, kept: Kept, upper: PathBuf) {
        let place = keep::place_of(&kept, upper);
        let overlaid = |layer: &Arc<Layer>| inputs.full.overlay(layer);
        self.run.ended(Done {
            spec: self.spec.clone(),
            stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
            tree: kept.layer.as_ref().map_or_else(|| inputs.full.clone(), overlaid),
            layer: kept.layer,
            manifest: kept.manifest,
            place: Mutex::new(place),
            action: Some(action.digest),
            healing: Mutex::default(),
        });
    }

    fn fresh(&self, result: &AttemptResult, base: Tree) -> Fresh {
        let record = ActionRecord {
            run: self.run.id.clone(),
            number: self.spec.number,
            finished: log::now(),
            exit: 0,
            took: self.since.elapsed(),
            values: result.values.clone(),
            layer: result.layer,
            log: None,
            artifacts: result.artifacts.clone(),
            reports: result.reports.clone(),
            cpu: result.cpu,
            memory_peak: result.memory_peak,
        };
        Fresh { record, log: log::path(&self.run.project.log_dir, self.spec), base }
    }

    /// `--verify`: what the cache says against what came out just now.
    fn compare(&self, record: &ActionRecord, values: &BTreeMap<String, String>, kept: &Kept) -> Result<String, Halt> {
        let differs = |what: String| {
            Halt::from(Cause::Broken(format!(
                "not reproducible: the result of run {} and this one differ in {what}",
                record.number
            )))
        };
        if record.values != *values {
            return Err(differs("the values they hand on".into()));
        }
        let before = match &record.layer {
            Some(manifest) => Layer::load(&manifest.digest, &self.agent.store).map_err(|e| keep::layer_trouble(&e))?,
            None => return Ok("nothing to compare: the cached result keeps no files".into()),
        };
        let now = kept.layer.as_deref().cloned().unwrap_or_default();
        match keep::layer_difference(&before, &now) {
            Some(what) => Err(differs(what)),
            None => Ok(format!("reproducible: the same {} files as in run {}", now.entries.len(), record.number)),
        }
    }

    /// A cache that cannot be kept costs time, not the step.
    fn commit_caches(&self, caches: Vec<CacheUse>) -> Vec<String> {
        let mut notes = Vec::new();
        for CacheUse { lease, upper, key } in caches {
            match self.agent.named.commit(lease, upper) {
                Ok(CommitEnd::Committed) => {}
                Ok(CommitEnd::Stale) => {
                    notes.push(format!("what was added to cache `{key}` was dropped: another step was faster"))
                }
                Err(error) => notes.push(format!("what was added to cache `{key}` was not kept: {error}")),
            }
        }
        notes
    }

    fn failed(&self, inputs: &Inputs, action: &Action, end: AttemptEnd, ran: Ran) -> AttemptResult {
        let capture = |globs: Option<&model::GlobList>| self.capture(inputs, &ran, globs);
        let workspace = Workspace { inputs, root: &self.run.project.root, store: &self.agent.store, capture: &capture };
        let reports = workspace.reports_of_failure(self.command);
        let mut notes: Vec<String> = ran.logged.trouble.iter().cloned().collect();
        if matches!(end, AttemptEnd::Failed(Cause::Exit(_) | Cause::Signal(_)))
            && let Ok(outcomes) = self.agent.actions.note_outcome(&action.digest, false)
        {
            notes.extend(self.flaky(outcomes, false));
        }
        let keeps = self.agent.config.keep_failed && self.agent.config.executor == Executor::Sandbox;
        if keeps && matches!(end, AttemptEnd::Failed(_)) {
            notes.extend(shell::keep_later(self, inputs, &ran.bench.room).err());
        } else {
            ran.bench.room.give_back(self.run, &self.agent.host().home_points);
        }
        AttemptResult {
            prepare: ran.prepare,
            action: Some(action.digest),
            reports,
            tail: ran.logged.tail,
            log_bytes: ran.logged.bytes,
            cpu: ran.usage.cpu,
            memory_peak: ran.usage.memory_peak,
            notes,
            ..AttemptResult::ended(end)
        }
    }

    /// `outcomes` are the former ones; a failure of now is already among them, a success not yet.
    fn flaky(&self, outcomes: cas::Outcomes, succeeded_now: bool) -> Option<String> {
        let succeeded = outcomes.succeeded + u32::from(succeeded_now);
        (succeeded > 0 && outcomes.failed > 0).then(|| {
            format!(
                "flaky: with the very same inputs this step has succeeded {} and failed {}",
                times(succeeded),
                times(outcomes.failed)
            )
        })
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_string(),
        2 => "twice".to_string(),
        _ => format!("{count} times"),
    }
}

/// The action of a command that sees `tree`.
pub(crate) fn compose(agent: &Shared, command: &CommandSpec, given: &Given, tree: &Tree) -> Action {
    let around = Surroundings {
        executor: agent.config.executor.word(),
        fingerprint: &agent.host().fingerprint,
        passed: &given.passed,
        secrets: &given.versions,
    };
    Action::compose(command, tree, around)
}

/// What an attempt is executed on.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) room: Room,
    pub(crate) lowers: Vec<PathBuf>,
}

/// An execution that ended.
#[derive(Debug)]
struct Ran {
    bench: Bench,
    caches: Vec<CacheUse>,
    prepare: Duration,
    usage: Usage,
    logged: Logged,
}

fn refused(error: &SpawnError) -> Halt {
    match error {
        SpawnError::Program { .. } => Cause::Refused(error.to_string()).into(),
        _ => trouble(error),
    }
}
