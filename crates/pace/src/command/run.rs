//! `pace run`: the pipeline, here and now.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use agent::{Agent, Report};
use model::{Capacity, OnFailure, Outcome, Plan, Selection};
use view::RunView;

use crate::cli::{Cli, EventName, ExecutorName, Output, RunArgs, TriggerArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::group::GroupLock;
use crate::history::{History, LiveRun, cannot};
use crate::past::Story;
use crate::prepare::{self, Prepared};
use crate::project::Project;
use crate::remote_cache;
use crate::runner::Runner;
use crate::screen::Screen;
use crate::signals::Stops;
use crate::timings;

/// How long uploads go on after the run before anything is said about them.
const UPLOAD_UNTOLD: Duration = Duration::from_secs(1);

/// Runs the pipeline; for an event, every pipeline here that it starts.
pub fn run(cli: &Cli, args: &RunArgs, screen: &mut Screen) -> Ended {
    let stops = Stops::listen().map_err(|error| Failure::internal(format!("cannot listen for signals: {error}")))?;
    if args.trigger.event == EventName::Manual {
        return run_one(Project::find(cli)?, args, screen, &stops);
    }
    let mut worst = Exit::Green;
    for project in Project::find_all(cli)? {
        match run_one(project, args, screen, &stops)? {
            Exit::Green => {}
            Exit::Cancelled => return Ok(Exit::Cancelled),
            exit => worst = exit,
        }
    }
    Ok(worst)
}

fn run_one(project: Project, args: &RunArgs, screen: &mut Screen, stops: &Stops) -> Ended {
    let mut prepared = Prepared::new(project, &args.trigger, screen)?;
    prepared.cache_token = remote_cache::token_variable(&args.shared);
    let prepared = prepared;
    if args.trigger.event != EventName::Manual
        && let Err(why) = engine::trigger::fires(&prepared.pipeline.on, &prepared.trigger)
    {
        if screen.output != Output::Json {
            screen.text(&format!("{}: nothing to run: {why}", prepared.project.file));
        }
        return Ok(Exit::Green);
    }
    let (selection, trigger) = selection(&prepared.history, args)?;
    let on_failure = match (args.keep_going, args.fail_fast) {
        (true, _) => OnFailure::KeepGoing,
        (_, true) => OnFailure::FailFast,
        _ => OnFailure::Stop,
    };
    let context = |number| prepared.context(number, &trigger, selection.clone(), on_failure);
    // Tried once before the run gets a number, so that a mistake on the command line leaves no run behind.
    let trial = prepared.plan(context(model::RunNumber(0))?)?;
    let shared = remote_cache::choose(&args.shared, &prepared.project.root, screen)?;
    let address = shared.as_ref().map(|cache| cache.remote.options().address.to_string());
    let (agent, reports) = prepared.agent(&trial, &args.execute, shared)?;
    if let Some(path) = &args.junit {
        make_room(path)?;
    }
    let live = prepared.history.begin()?;
    let plan = Arc::new(prepared.plan(context(live.number)?)?);
    let _group = match &plan.concurrency {
        Some((group, concurrency)) => {
            match GroupLock::take(&prepared.folders, group, concurrency.policy, live.number, screen, stops)? {
                Some(lock) => Some(lock),
                None => return Ok(Exit::Cancelled),
            }
        }
        None => None,
    };
    execute(&prepared, plan, (agent, reports, address.as_deref()), live, args, screen, stops)
}

fn execute(
    prepared: &Prepared,
    plan: Arc<Plan>,
    (agent, reports, shared): (Agent, Receiver<Report>, Option<&str>),
    live: LiveRun,
    args: &RunArgs,
    screen: &mut Screen,
    stops: &Stops,
) -> Ended {
    if args.execute.executor == ExecutorName::Process {
        screen.warning("no isolation: steps run as plain processes and can read and write all that you can");
    }
    let artifacts = live.artifact_folder();
    agent.begin(
        &plan.context.run,
        agent::Project {
            root: prepared.project.root.clone(),
            key: prepared.key(),
            snapshot: prepared.snapshot.clone(),
            log_dir: live.log_folder(),
            lock: prepared.lock.clone(),
            tenant: "local".into(),
            cache_scope: prepared.cache_scope(),
            shared_scope: shared.and_then(|_| remote_cache::scope(&prepared.project.root)),
            cache: None,
            artifact_dir: artifacts.clone(),
        },
    );
    let run = plan.context.run.clone();
    let (outcome, view) = Runner::new(plan.clone(), &agent, reports, live, screen, stops).run(capacity(args))?;
    for note in share(&agent, &run, screen, stops) {
        screen.warning(&note);
    }
    let counts = agent.shared_counts();
    for note in agent.end(&run) {
        screen.warning(&note);
    }
    let written = after(prepared, &plan, &view, args, &artifacts, screen);
    if screen.output != Output::Json {
        let summary = view::summary::render(&view, screen.style(), screen.width_of_text());
        screen.text(&summary);
        if let (Some(address), Some(counts)) = (shared, counts) {
            screen.text(&remote_cache::summary(address, &counts));
        }
        if artifacts.is_dir() {
            let place = args.artifacts.as_deref().unwrap_or(&artifacts);
            screen.text(&format!("artifacts are in {}", place.display()));
        }
    }
    written?;
    Ok(outcome.into())
}

/// Waits for what goes to the shared cache; Ctrl-C, then or before, leaves it out.
fn share(agent: &Agent, run: &model::RunId, screen: &mut Screen, stops: &Stops) -> Vec<String> {
    let (began, mut told) = (std::time::Instant::now(), false);
    agent.share(run, &mut |left| {
        if !told && began.elapsed() > UPLOAD_UNTOLD && screen.output != Output::Json {
            told = true;
            screen.text(&match left.blobs {
                0 => format!("uploading {} to the shared cache; Ctrl-C leaves it out", results(left.waiting)),
                blobs => format!("uploading {blobs} blobs, {}; Ctrl-C leaves it out", model::Bytes(left.bytes)),
            });
        }
        stops.count() == 0
    })
}

fn results(count: u64) -> String {
    if count == 1 { "1 result".into() } else { format!("{count} results") }
}

/// The folder of a report that is written when the run has ended: told now, a mistake costs no run.
fn make_room(report: &Path) -> Result<(), Failure> {
    let folder = report.parent().unwrap_or(Path::new(""));
    let made = if folder.as_os_str().is_empty() { Ok(()) } else { std::fs::create_dir_all(folder) };
    match made {
        Ok(()) if report.is_dir() => {
            Err(Failure::usage(format!("cannot write a JUnit report to {}: it is a folder", report.display())))
        }
        Ok(()) => Ok(()),
        Err(error) => Err(Failure::usage(format!("cannot write a JUnit report to {}: {error}", report.display()))),
    }
}

/// What is written once the run has ended: timings, the JUnit report, copies of artifacts.
fn after(
    prepared: &Prepared,
    plan: &Plan,
    view: &RunView,
    args: &RunArgs,
    artifacts: &Path,
    screen: &mut Screen,
) -> Result<(), Failure> {
    if let Err(error) = timings::save(&prepared.history.folder, plan.context.estimates.clone(), executed(view)) {
        screen.warning(&format!("cannot remember how long steps took: {error}"));
    }
    prepared.history.prune();
    if let Some(path) = &args.junit {
        std::fs::write(path, view::junit::render(view)).map_err(|error| cannot("write", path, &error))?;
    }
    if let (Some(folder), true) = (&args.artifacts, artifacts.is_dir()) {
        copy_tree(artifacts, folder).map_err(|error| cannot("put artifacts in", folder, &error))?;
    }
    Ok(())
}

/// How long each instance took that was really executed, and passed.
fn executed(view: &RunView) -> impl Iterator<Item = (String, Duration)> + '_ {
    let passed =
        view.steps().iter().filter(|step| matches!(step.outcome(), Some(Outcome::Succeeded { cached: false })));
    passed.filter_map(|step| Some((step.name.to_string(), step.took()?)))
}

fn capacity(args: &RunArgs) -> Capacity {
    let slots = prepare::slots(&args.execute);
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Capacity { slots, cpu_milli: cpus.max(slots) * 1000, memory: memory_of_host() }
}

/// `MemTotal`; unknown is no bound.
fn memory_of_host() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

/// Which steps, and with which parameters: a rerun takes those of the last run, unless others are given.
fn selection(history: &History, args: &RunArgs) -> Result<(Selection, TriggerArgs), Failure> {
    let mut selection =
        Selection { only: args.steps.clone(), from: args.from.clone(), no_cache: args.no_cache, verify: args.verify };
    let mut trigger = args.trigger.clone();
    if args.rerun_failed {
        let last = history.find(None)?;
        let events = last.events()?;
        let story = Story::of(&events);
        selection.only = story.not_passed();
        if selection.only.is_empty() {
            return Err(Failure::usage(format!("nothing failed in run {}", last.number))
                .help("`pace run` runs everything, and takes what did not change from the cache"));
        }
        if trigger.params.is_empty() {
            let params = story.requested.into_iter().flat_map(|requested| &requested.params);
            trigger.params = params.map(|(name, value)| format!("{name}={value}")).collect();
        }
    }
    Ok((selection, trigger))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
