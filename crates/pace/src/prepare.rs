//! Everything before the first decision: the pipeline, the snapshot, the trigger, parameters and secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use agent::{Agent, Executor, Secret};
use cas::Snapshot;
use model::{
    Event, EventKind, Git, OnFailure, Pipeline, Plan, PlannedSkip, RunContext, RunId, RunNumber, Selection, StepKind,
    Trigger,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{EventName, ExecuteArgs, ExecutorName, TriggerArgs};
use crate::exit::Failure;
use crate::folders::Folders;
use crate::history::History;
use crate::project::Project;
use crate::screen::Screen;
use crate::timings;

/// Secrets file bound: a few keys, not a data set.
const SECRETS_BYTES_MAX: u64 = 1 << 20;
/// Descriptors of ours: the connections of a hundred gates. Some hosts allow a thousand million.
const OPEN_FILES_MAX: u64 = 65_536;

/// What a run, a plan or a question about a step starts from.
pub struct Prepared {
    /// The repository.
    pub project: Project,
    /// Its pipeline, valid.
    pub pipeline: Pipeline,
    /// What the names of images mean in it: `paceline.lock`.
    pub lock: Arc<image::Lock>,
    /// The files that steps see.
    pub snapshot: Arc<Snapshot>,
    /// Why it runs.
    pub trigger: Trigger,
    /// Where things are kept.
    pub folders: Folders,
    /// Its past.
    pub history: History,
    /// The variable that no step gets to see: the token of the shared cache.
    pub cache_token: String,
}

impl Prepared {
    /// Reads pipeline, files and git, side by side.
    pub fn new(project: Project, trigger: &TriggerArgs, screen: &mut Screen) -> Result<Prepared, Failure> {
        let folders = Folders::find()?;
        outside(&folders.cache, &project.root)?;
        let history = History::open(&folders, &project)?;
        let root = project.root.clone();
        let index = history.folder.join("files.index");
        let (pipeline, snapshot, head) = std::thread::scope(|threads| {
            let snapshot = threads.spawn(|| Snapshot::take(&root, &index));
            let git = threads.spawn(|| cas::git::head(&root));
            let pipeline = project.pipeline(screen);
            (pipeline, snapshot.join(), git.join())
        });
        let pipeline = pipeline?;
        let died = |_| Failure::internal("reading the repository failed in an unexpected way");
        let snapshot = snapshot.map_err(died)?.map_err(|error| {
            Failure::infrastructure(format!("cannot take in the files of {}: {error}", root.display()))
        })?;
        let git = git_of(head.map_err(died)?);
        let event = event(&root, trigger)?;
        let lock = image::Lock::read(&root.join(image::LOCK_FILE)).map(Arc::new).map_err(Failure::usage)?;
        Ok(Prepared {
            project,
            pipeline,
            snapshot: Arc::new(snapshot),
            lock,
            trigger: Trigger { event, git },
            folders,
            history,
            cache_token: crate::remote_cache::TOKEN_ENV.into(),
        })
    }

    /// All that `engine::plan` wants to know beside the pipeline.
    pub fn context(
        &self,
        number: RunNumber,
        trigger: &TriggerArgs,
        selection: Selection,
        on_failure: OnFailure,
    ) -> Result<RunContext, Failure> {
        let given = pairs(&trigger.params)?;
        let params = engine::params::resolve(&self.pipeline, &given)
            .map_err(|errors| Failure::usage(errors.join("\n       ")))?;
        let hashes =
            self.pipeline.hash_calls.iter().map(|globs| (globs.clone(), self.snapshot.hash_of(globs))).collect();
        let caller_env = self
            .pipeline
            .env_calls
            .iter()
            .filter(|name| **name != self.cache_token)
            .map(|name| (name.clone(), std::env::var(name).unwrap_or_default()))
            .collect();
        Ok(RunContext {
            run: run_id(),
            number,
            trigger: self.trigger.clone(),
            params,
            hashes,
            caller_env,
            estimates: timings::load(&self.history.folder),
            selection,
            on_failure,
            terms: model::Terms::default(),
        })
    }

    /// The plan; unknown steps in the selection are the caller's mistake.
    pub fn plan(&self, context: RunContext) -> Result<Plan, Failure> {
        engine::plan(&self.pipeline, context)
            .map_err(|error| Failure::usage(error).help("`pace plan` shows the steps and their instances"))
    }

    /// An agent in this process, and the channel it reports on.
    pub fn agent(
        &self,
        plan: &Plan,
        args: &ExecuteArgs,
        shared: Option<agent::SharedCache>,
    ) -> Result<(Agent, std::sync::mpsc::Receiver<agent::Report>), Failure> {
        let (reports, inbox) = std::sync::mpsc::channel();
        let config = agent::Config {
            cache_dir: self.folders.cache.clone(),
            state_dir: self.folders.state.clone(),
            slots: slots(args) as usize,
            executor: match args.executor {
                ExecutorName::Sandbox => Executor::Sandbox,
                ExecutorName::Process => Executor::Process,
            },
            caller_env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                // Whoever could write a pipeline could else write into the cache.
                .filter(|(name, _)| *name != self.cache_token)
                .collect(),
            secrets: secrets(plan, args)?,
            quota: agent::machine_quota(),
            full_network: full_network()?,
            images: image_options(&self.project.root),
            open_files_soft: raise_open_files(),
            shared,
            whole_logs: false,
            keep_failed: true,
        };
        let agent = Agent::start(config, reports).map_err(Failure::infrastructure)?;
        Ok((agent, inbox))
    }

    /// Whose named caches are shared: those of this folder, or of all that say the same `PACE_CACHE_SCOPE`.
    pub fn cache_scope(&self) -> String {
        std::env::var("PACE_CACHE_SCOPE").unwrap_or_else(|_| self.project.state_name())
    }

    /// Stable name of this pipeline for "the last time this step ran".
    pub fn key(&self) -> String {
        format!("{}/{}", self.project.state_name(), self.project.file)
    }
}

/// Gates, logs and services of many steps need more descriptors than the usual soft limit of 1,024, which is for programs
/// that still use `select`. Returns what it was: steps shall get that.
pub fn raise_open_files() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.map_or(OPEN_FILES_MAX, |hard| hard.min(OPEN_FILES_MAX));
    if before.current.is_none_or(|soft| soft >= wanted) {
        return None;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..before }).ok().and(before.current)
}

/// What `PACE_FULL_NETWORK` says that `network: full` is.
pub fn full_network() -> Result<agent::FullNetwork, Failure> {
    match std::env::var("PACE_FULL_NETWORK").as_deref() {
        Err(_) | Ok("" | "gate") => Ok(agent::FullNetwork::Gate),
        Ok("routed") => match network::why_not_routed() {
            None => Ok(agent::FullNetwork::Routed),
            Some(why) => Err(Failure::usage(format!("PACE_FULL_NETWORK=routed cannot be had: {why}"))),
        },
        Ok(other) => Err(Failure::usage(format!("PACE_FULL_NETWORK is `{other}`, and may be `gate` or `routed`"))),
    }
}

/// Credentials where other tools keep them; registries without encryption from `PACE_INSECURE_REGISTRIES`, by commas.
pub fn image_options(root: &Path) -> image::Options {
    let insecure = std::env::var("PACE_INSECURE_REGISTRIES").unwrap_or_default();
    let insecure = insecure.split(',').map(str::trim).filter(|host| !host.is_empty()).map(String::from).collect();
    let credentials = image::Credentials::usual(|name| std::env::var_os(name));
    image::Options { credentials, insecure, ..image::Options::new(root) }
}

/// The cache may not lie in the repository: steps see the repository through an overlay, and the kernel refuses one
/// whose upper directory lies in a lower one.
fn outside(cache: &Path, root: &Path) -> Result<(), Failure> {
    // The cache may not be there yet: then the nearest folder above it that is.
    let real = cache.ancestors().find_map(|above| above.canonicalize().ok());
    match real.is_some_and(|real| real.starts_with(root)) {
        false => Ok(()),
        true => {
            let (cache, root) = (cache.display(), root.display());
            let why = format!(
                "the cache folder {cache} lies in the repository {root}, so steps could not see the repository"
            );
            Err(Failure::usage(why).help("set PACE_CACHE_DIR to a folder outside of it"))
        }
    }
}

/// Steps at once.
pub fn slots(args: &ExecuteArgs) -> u32 {
    let cpus = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    args.jobs.unwrap_or_else(cpus)
}

fn event(root: &Path, args: &TriggerArgs) -> Result<Event, Failure> {
    let kind = match args.event {
        EventName::Manual => EventKind::Manual,
        EventName::Push => EventKind::Push,
        EventName::PullRequest => EventKind::PullRequest,
        EventName::Schedule => EventKind::Schedule,
    };
    let changed = match (kind, &args.base) {
        (EventKind::Push | EventKind::PullRequest, base) => {
            let base = base.as_deref().unwrap_or("HEAD^");
            match cas::git::changed_files(root, base) {
                Ok(changed) => Some(changed),
                // The first commit has no parent: everything in it is new, so no path filter holds it back.
                Err(_) if args.base.is_none() => None,
                Err(error) => return Err(Failure::usage(format!("cannot compare with {base}: {error}"))),
            }
        }
        _ => None,
    };
    Ok(Event { kind, changed, ..Event::default() })
}

fn run_id() -> RunId {
    RunId::new(format!("run_{:x}_{:x}", crate::runner::now().0, std::process::id()))
}

/// What expressions see of HEAD: the first line of the message, the author's name.
fn git_of(head: cas::git::Head) -> Git {
    let author = head.author.split(" <").next().unwrap_or_default().to_string();
    let message = head.message.lines().next().unwrap_or_default().to_string();
    Git { commit: head.commit, branch: head.branch, tag: head.tag, message, author, target: String::new() }
}

/// `NAME=VALUE` pairs of `--param`.
fn pairs(params: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for param in params {
        let (name, value) =
            param.split_once('=').ok_or_else(|| Failure::usage(format!("--param wants NAME=VALUE, got `{param}`")))?;
        if pairs.insert(name.to_string(), value.to_string()).is_some() {
            return Err(Failure::usage(format!("parameter `{name}` is given twice")));
        }
    }
    Ok(pairs)
}

/// The secrets that steps may name: those of `PACE_SECRET_<NAME>`, and over them those of the file. All of them, since
/// what an `expand` brings may name more than the plan does.
fn secrets(plan: &Plan, args: &ExecuteArgs) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut secrets: BTreeMap<String, Secret> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix("PACE_SECRET_")?.to_string();
            Some((name, Secret::new(value.into_string().ok()?)))
        })
        .collect();
    if let Some(path) = &args.secrets {
        secrets.extend(secrets_file(path)?.into_iter().map(|(name, value)| (name, Secret::new(value))));
    }
    let missing: BTreeSet<String> = wanted_secrets(plan)
        .filter(|(name, _)| !secrets.contains_key(name))
        .map(|(name, step)| format!("step `{step}` wants secret `{name}`, and PACE_SECRET_{name} is not set"))
        .collect();
    match missing.is_empty() {
        true => Ok(secrets),
        false => {
            let missing: Vec<_> = missing.into_iter().collect();
            Err(Failure::usage(missing.join("\n       "))
                .help("set the variable, or put NAME=VALUE lines in a file and give it by --secrets FILE"))
        }
    }
}

fn wanted_secrets(plan: &Plan) -> impl Iterator<Item = (String, String)> + '_ {
    let wanted = |skip: &Option<PlannedSkip>| skip.is_none();
    plan.nodes.iter().filter(move |node| wanted(&node.skip)).flat_map(|node| {
        let step = &plan.groups[node.group.at()].step;
        let names = match &step.kind {
            StepKind::Cmd(cmd) => cmd.secrets.clone(),
            _ => Vec::new(),
        };
        names.into_iter().map(|name| (name, step.id.to_string()))
    })
}

fn secrets_file(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    use std::io::Read;
    let refused = |why: String| Failure::usage(format!("cannot read secrets from {}: {why}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    file.take(SECRETS_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > SECRETS_BYTES_MAX {
        return Err(refused(format!("it is larger than {SECRETS_BYTES_MAX} bytes")));
    }
    let mut secrets = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret: only its number is told.
        let (name, value) =
            line.split_once('=').ok_or_else(|| refused(format!("line {} is not NAME=VALUE", at + 1)))?;
        secrets.insert(name.trim().to_string(), unquoted(value));
    }
    Ok(secrets)
}

/// `"a\nb"` with escapes for values of several lines; anything else as it stands.
fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => serde_json::from_str(&format!("\"{inner}\"")).unwrap_or_else(|_| value.to_string()),
        None => value.to_string(),
    }
}
