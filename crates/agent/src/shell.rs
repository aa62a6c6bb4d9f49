//! Sandboxes to look around in: that of an attempt that failed, kept as it was, or one made anew for a step.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use cas::Layer;
use image::Lock;
use model::{AttemptSpec, CommandSpec, Digest, Network, Resources, RunId, ServiceSpec, Work};
use serde::{Deserialize, Serialize};

use crate::attempt::{Attempt, Given};
use crate::config::{AgentError, Executor};
use crate::ground::Ground;
use crate::halt::{Halt, trouble};
use crate::images::{Names, Resolutions};
use crate::reach::Pool;
use crate::regular::read_regular;
use crate::room::Room;
use crate::run::{Inputs, Run, lock};
use crate::stage::{Scene, Stage};
use crate::supervise::Stopper;
use crate::workspace::{self, Furniture};
use crate::{KEPT_RUNS_MAX, Shared, hit};

/// Whose the shells of kept sandboxes are: the project may be unknown by now.
const TENANT: &str = "shell";
/// The description of a kept sandbox; layers and hidden paths are most of it.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A sandbox to look around in: fill in the standard streams and spawn it.
#[derive(Debug)]
pub struct Shell {
    /// What to spawn; `terminal` is set.
    pub spec: sandbox::Spec,
    /// Things a person should know: where the script is, what is not as it was.
    pub notes: Vec<String>,
    /// Its network and its services live as long as this.
    _stage: Stage,
}

/// What makes the sandbox of a failed attempt again. Without values of secrets: these are given again.
#[derive(Debug, Serialize, Deserialize)]
struct KeptSandbox {
    step: String,
    /// Name of its upper directory in the kept folder.
    upper: String,
    root: PathBuf,
    /// Layers in the store, topmost first: hash and size of the manifest.
    layers: Vec<(String, u64)>,
    hidden: Vec<PathBuf>,
    env: BTreeMap<String, String>,
    secrets: Vec<String>,
    #[serde(default)]
    network: KeptNetwork,
    #[serde(default)]
    image: Option<String>,
    /// What the names of images meant then, as in `paceline.lock`.
    #[serde(default)]
    lock: String,
    #[serde(default)]
    services: Vec<KeptService>,
    caches: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum KeptNetwork {
    #[default]
    None,
    Full,
    Hosts(Vec<String>),
}

/// A service, started again for the shell without waiting for it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptService {
    id: String,
    image: Option<String>,
    cmd: Option<String>,
    env: BTreeMap<String, String>,
}

impl KeptSandbox {
    /// The part of the step's command that makes what is around a sandbox.
    fn surroundings(&self) -> CommandSpec {
        let mut command = CommandSpec::new("");
        command.image = self.image.clone();
        command.network = match &self.network {
            KeptNetwork::None => Network::None,
            KeptNetwork::Full => Network::Full,
            KeptNetwork::Hosts(hosts) => Network::Hosts(hosts.clone()),
        };
        let service = |kept: &KeptService| ServiceSpec {
            id: kept.id.clone(),
            image: kept.image.clone(),
            cmd: kept.cmd.clone(),
            env: kept.env.clone(),
            ready: None,
        };
        command.services = self.services.iter().map(service).collect();
        command
    }
}

impl From<&ServiceSpec> for KeptService {
    fn from(service: &ServiceSpec) -> KeptService {
        KeptService {
            id: service.id.clone(),
            image: service.image.clone(),
            cmd: service.cmd.clone(),
            env: service.env.clone(),
        }
    }
}

impl From<&Network> for KeptNetwork {
    fn from(network: &Network) -> KeptNetwork {
        match network {
            Network::None => KeptNetwork::None,
            Network::Full => KeptNetwork::Full,
            Network::Hosts(hosts) => KeptNetwork::Hosts(hosts.clone()),
        }
    }
}

/// Describes the sandbox of an attempt that failed, to be kept when the run ends.
///
/// # Errors
/// A sentence for the notes: it cannot be kept.
pub(crate) fn keep_later(
    at: &Attempt<'_>,
    inputs: &Inputs,
    room: &Room,
    env: BTreeMap<String, String>,
) -> Result<(), String> {
    let layers = inputs.stack.iter().rev().filter_map(|done| done.manifest);
    let kept = KeptSandbox {
        step: at.spec.name.to_string(),
        upper: room.upper.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        root: at.run.project.root.clone(),
        layers: layers.map(|manifest| (manifest.digest.hex(), manifest.digest.size)).collect(),
        hidden: workspace::hidden(at.run, &inputs.base),
        env,
        secrets: at.command.secrets.clone(),
        network: (&at.command.network).into(),
        image: at.command.image.clone(),
        lock: at.given.images.lock().render(),
        services: at.command.services.iter().map(Into::into).collect(),
        caches: !at.command.caches.is_empty(),
    };
    let text = serde_json::to_vec(&kept).map_err(|error| error.to_string());
    text.and_then(|text| fs::write(room.path.join("kept.json"), text).map_err(|error| error.to_string()))
        .map_err(|error| format!("the sandbox of the failed step cannot be kept for `pace shell`: {error}"))?;
    lock(&at.run.failed).insert(at.spec.node, room.path.clone());
    Ok(())
}

/// Moves the sandboxes of a run's failed attempts out of scratch and drops those of old runs. Returns what went wrong.
pub(crate) fn keep_now(state_dir: &Path, run: &Run) -> Vec<String> {
    let failed = std::mem::take(&mut *lock(&run.failed));
    if failed.is_empty() {
        return Vec::new();
    }
    let dir = kept_dir(state_dir, &run.id);
    // What a step wrote may be secret.
    let moved = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| {
        failed.iter().try_for_each(|(node, folder)| {
            let to = dir.join(node.0.to_string());
            sandbox::remove_tree(&to)?;
            fs::rename(folder, &to)
        })
    });
    let dropped = drop_old(&state_dir.join("failed"));
    let note = |error| format!("the sandboxes of failed steps were not kept in {}: {error}", dir.display());
    [moved, dropped].into_iter().filter_map(Result::err).map(note).collect()
}

fn kept_dir(state_dir: &Path, run: &RunId) -> PathBuf {
    state_dir.join("failed").join(run.as_str().replace(['/', '.'], "_"))
}

fn drop_old(dir: &Path) -> std::io::Result<()> {
    let mut runs: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        runs.push((entry.metadata()?.modified()?, entry.path()));
    }
    runs.sort();
    let surplus = runs.len().saturating_sub(KEPT_RUNS_MAX);
    runs[..surplus].iter().try_for_each(|(_, path)| sandbox::remove_tree(path))
}

/// The kept sandbox of a failed attempt.
pub(crate) fn open_kept(agent: &Shared, run: &RunId, step: &str) -> Result<Shell, AgentError> {
    let not_kept = || AgentError::NotKept { run: run.to_string(), step: step.to_string() };
    let folders = fs::read_dir(kept_dir(&agent.config.state_dir, run)).map_err(|_| not_kept())?;
    let found = folders.flatten().find_map(|entry| {
        let bytes = read_regular(&entry.path().join("kept.json"), KEPT_BYTES_MAX).ok()?;
        let kept: KeptSandbox = serde_json::from_slice(&bytes).ok()?;
        (kept.step == step).then(|| (Room::at(entry.path(), &kept.upper), kept))
    });
    let (room, kept) = found.ok_or_else(not_kept)?;
    reopen(agent, &room, kept).map_err(|halt| sentence(&halt))
}

fn reopen(agent: &Shared, room: &Room, kept: KeptSandbox) -> Result<Shell, Halt> {
    let command = kept.surroundings();
    let lock = Lock::parse(&kept.lock).map_err(|why| trouble(&format!("the kept sandbox is damaged: {why}")))?;
    // The mark of the volatile mount, with which the kernel would refuse it.
    let mark = room.work.join("work");
    sandbox::remove_tree(&mark).map_err(crate::halt::io("remove", &mark))?;
    let mut lowers: Vec<PathBuf> = ["points", "beside"].map(|name| room.path.join(name)).into();
    lowers.retain(|path| path.is_dir());
    for (number, (hash, size)) in kept.layers.iter().enumerate() {
        let dir = room.path.join(format!("layer-{number}"));
        if !dir.is_dir() {
            restore(agent, hash, *size, &dir)?;
        }
        lowers.push(dir);
    }
    let hide = room.path.join("hide");
    workspace::white_out(&hide, &kept.hidden, Some(&kept.root))?;
    lowers.extend([hide, kept.root]);
    let mut env = kept.env;
    let secrets = kept.secrets.iter().filter_map(|name| Some((name.clone(), agent.config.secrets.get(name)?)));
    env.extend(secrets.map(|(name, secret)| (name, secret.reveal().to_string())));
    let mut notes = vec!["files of the repository are shown as they are now".to_string()];
    if kept.caches {
        notes.push("named caches are empty here".into());
    }
    let resolved = Resolutions::of(&command, &Names::new(Arc::new(lock)), agent)?;
    let opening = Opening { agent, command: &command, resolved: &resolved, room, name: &kept.step, tenant: TENANT };
    opening.furnish(lowers, |_| env, notes)
}

fn restore(agent: &Shared, hash: &str, size: u64, dir: &Path) -> Result<(), Halt> {
    let digest = Digest::from_hex(hash, size)
        .ok_or_else(|| crate::halt::trouble(&"the description of the kept sandbox is damaged"))?;
    let restored = Layer::load(&digest, &agent.store).and_then(|layer| layer.restore(&agent.store, dir));
    restored.map_err(|error| {
        // What is there by half would be taken for the whole next time.
        let _ = sandbox::remove_tree(dir);
        crate::keep::layer_trouble(&error)
    })
}

/// The sandbox that an attempt would get.
pub(crate) fn open_new(agent: &Shared, run: &Arc<Run>, spec: &Arc<AttemptSpec>) -> Result<Shell, AgentError> {
    let Work::Command(command) = &spec.work else {
        return Err(AgentError::Attempt("a step that reads a file has no sandbox".into()));
    };
    if agent.config.executor == Executor::Process {
        return Err(AgentError::Attempt(
            "the process executor has no sandboxes; leave `--executor process` out".into(),
        ));
    }
    let open = || {
        let given = Given::to(command, spec.node, agent, run)?;
        let inputs = run.inputs(spec)?;
        let layers = workspace::layer_dirs(&inputs, |done| hit::directory(agent, run, done))?;
        let room = Room::take(run, agent.made.fetch_add(1, Ordering::Relaxed))?;
        room.lay_desk(&command.script)?;
        let mut lowers: Vec<PathBuf> = workspace::beside_inputs(&room, &inputs)?.into_iter().collect();
        lowers.extend(workspace::lowers(run, &inputs, layers)?);
        let opening = Opening {
            agent,
            command,
            resolved: &given.images,
            room: &room,
            name: &spec.name,
            tenant: &run.project.tenant,
        };
        let env =
            |ground: Ground<'_>| workspace::environment(command, spec.attempt, ground, &given.passed, &given.secrets);
        opening.furnish(lowers, env, Vec::new())
    };
    open().map_err(|halt| sentence(&halt))
}

/// A shell that is being opened.
struct Opening<'a> {
    agent: &'a Shared,
    command: &'a CommandSpec,
    resolved: &'a Resolutions,
    room: &'a Room,
    name: &'a str,
    tenant: &'a str,
}

impl Opening<'_> {
    fn furnish(
        self,
        lowers: Vec<PathBuf>,
        env: impl FnOnce(Ground<'_>) -> BTreeMap<String, String>,
        mut notes: Vec<String>,
    ) -> Result<Shell, Halt> {
        let Opening { agent, command, resolved, room, name, tenant } = self;
        let stopper = Stopper::new().map_err(|error| trouble(&format!("cannot open a shell: {error}")))?;
        let stage = Stage::set(Scene {
            agent,
            command,
            resolved,
            // A person may look around longer and use more than the step.
            resources: &Resources::default(),
            tenant,
            networks: &Pool::default(),
            room,
            lowers: &lowers,
            stopper: &stopper,
            masker: &Arc::default(),
            voice: None,
            log_of: &|service| room.path.join(format!("{service}.log")),
        })?;
        let ground = stage.ground(agent);
        let mut env = env(ground);
        env.extend(stage.reach.env());
        env.extend(agent.config.caller_env.get("TERM").map(|term| ("TERM".into(), term.clone())));
        let shell = if ground.has_program("bash") { "bash" } else { "sh" };
        let furniture = Furniture {
            room,
            lowers,
            caches: Vec::new(),
            ground,
            reach: &stage.reach,
            hold: &stage.hold,
            argv: vec![shell.into(), "-i".into()],
            env,
            name,
        };
        let mut spec = furniture.spec()?;
        spec.terminal = true;
        notes.push(format!("the step's script is {}/script", workspace::DESK));
        Ok(Shell { spec, notes, _stage: stage })
    }
}

pub(crate) fn sentence(halt: &Halt) -> AgentError {
    AgentError::Attempt(match halt {
        Halt::Ends(model::AttemptEnd::Failed(cause)) => cause.to_string(),
        Halt::Ends(_) => "the attempt was cancelled".into(),
        Halt::Remake(_) => {
            "what is stored of the steps before it is damaged; run the pipeline once, then try again".into()
        }
    })
}
