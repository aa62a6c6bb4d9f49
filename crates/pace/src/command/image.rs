//! `pace image`: fetches, locks, builds and pushes images.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::{Add, Bundle, Image, ImageError, Images, Lock, Platform, Progress, Recipe, Reference, Refusal, Watch};
use model::{Bytes, OnFailure, RunNumber, Selection};

use crate::cli::{BuildArgs, Cli, ImageArgs, ImageCommand, Output, TriggerArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::prepare::{Prepared, image_options};
use crate::project::{self, Project};
use crate::rehearsal::walk_blindly;
use crate::screen::Screen;
use crate::signals::Stops;

/// How often the line of progress is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// One of its commands.
pub fn run(cli: &Cli, args: &ImageArgs, screen: &mut Screen) -> Ended {
    let stops = Stops::listen().map_err(|error| Failure::internal(format!("cannot listen to signals: {error}")))?;
    let desk = Desk::open(cli)?;
    match &args.what {
        ImageCommand::Pull { images } => pull(&desk, images, stops, screen),
        ImageCommand::Lock { images } => lock(cli, desk, images, stops, screen),
        ImageCommand::Build(args) => build(&desk, args, stops, screen),
        ImageCommand::Push { image, to } => push(&desk, image, to, stops, screen),
        ImageCommand::Ls => list(&desk, screen),
    }
}

/// The images of this user, and what names mean here.
struct Desk {
    images: Images,
    lock: Lock,
    lock_file: PathBuf,
}

impl Desk {
    /// Relative paths and the lock are those of the repository; outside of one, those of the folder.
    fn open(cli: &Cli) -> Result<Desk, Failure> {
        let root = match Project::find(cli) {
            Ok(project) => project.root,
            Err(_) => project::start(cli)?,
        };
        let lock_file = root.join(image::LOCK_FILE);
        let lock = Lock::read(&lock_file).map_err(failure)?;
        let folders = Folders::find()?;
        let images = Images::open(&folders.cache, image_options(&root)).map_err(failure)?;
        Ok(Desk { images, lock, lock_file })
    }
}

fn pull(desk: &Desk, names: &[String], stops: Stops, screen: &mut Screen) -> Ended {
    for name in names {
        let reference = Reference::parse(name).map_err(failure)?;
        let watch = Line::new(screen, &stops, format!("fetching {reference}"));
        let fetched = desk.images.resolve(&reference, &desk.lock, &watch);
        let fetched = fetched.and_then(|resolved| Ok((desk.images.fetch(&resolved, &watch)?, resolved)));
        let bytes = watch.end();
        let (image, resolved) = fetched.map_err(failure)?;
        let row = serde_json::json!({
            "image": reference.to_string(), "digest": resolved.sum.to_string(),
            "manifest": image::Sum::from(resolved.manifest).to_string(),
            "layers": image.layers, "fetched_bytes": bytes,
        });
        let layers = image.layers.len();
        show(screen, row, format!("{reference} {}: {layers} layers ready, {} fetched", resolved.sum, Bytes(bytes)));
    }
    Ok(Exit::Green)
}

fn lock(cli: &Cli, mut desk: Desk, names: &[String], stops: Stops, screen: &mut Screen) -> Ended {
    let all = names.is_empty();
    let references = match all {
        true => of_pipeline(cli, screen)?,
        false => names.iter().map(|name| Reference::parse(name)).collect::<Result<_, _>>().map_err(failure)?,
    };
    if all {
        desk.lock.keep_only(&references);
    }
    for reference in &references {
        let watch = Line::new(screen, &stops, format!("looking up {reference}"));
        let resolved = desk.images.resolve_anew(reference, &watch);
        watch.end();
        let sum = resolved.map_err(failure)?.sum;
        let before = desk.lock.set(reference, sum);
        let row = serde_json::json!({
            "image": reference.to_string(), "digest": sum.to_string(), "before": before.map(|sum| sum.to_string()),
        });
        let changed = before.filter(|before| *before != sum).map(|before| format!(", was {before}"));
        show(screen, row, format!("{reference} {sum}{}", changed.unwrap_or_default()));
    }
    desk.lock.write(&desk.lock_file).map_err(failure)?;
    Ok(Exit::Green)
}

/// Every image that a step or a service of the pipeline names: as it is written, or as it is rendered for an instance.
fn of_pipeline(cli: &Cli, screen: &mut Screen) -> Result<Vec<Reference>, Failure> {
    let trigger = TriggerArgs::default();
    let prepared = Prepared::new(Project::find(cli)?, &trigger, screen)?;
    let context = prepared.context(RunNumber(0), &trigger, Selection::default(), OnFailure::KeepGoing)?;
    let rehearsal = walk_blindly(Arc::new(prepared.plan(context)?))?;
    let mut names: Vec<String> = Vec::new();
    for (spec, _) in rehearsal.attempts.values() {
        if let model::Work::Command(command) = &spec.work {
            names.extend(command.image.clone());
            names.extend(command.services.iter().filter_map(|service| service.image.clone()));
        }
    }
    for group in &rehearsal.plan.groups {
        let step = match &group.step.kind {
            model::StepKind::Cmd(step) => Some(step),
            _ => None,
        };
        let services = step.into_iter().flat_map(|step| step.services.iter().map(|service| service.image.as_ref()));
        for template in step.map(|step| step.image.as_ref()).into_iter().chain(services).flatten() {
            names.extend(template.as_plain().map(str::to_owned));
        }
    }
    names.sort();
    names.dedup();
    names.iter().map(|name| Reference::parse(name).map_err(failure)).collect()
}

fn build(desk: &Desk, args: &BuildArgs, stops: Stops, screen: &mut Screen) -> Ended {
    let recipe = recipe(args)?;
    let to = args.to.as_deref().map(Reference::parse).transpose().map_err(failure)?;
    let name = args.push.as_deref().map(registry_name).transpose()?;
    let watch = Line::new(screen, &stops, "building".into());
    let built = desk.images.build(&recipe, &desk.lock, &watch).and_then(|bundle| {
        to.iter().try_for_each(|to| desk.images.write(&bundle, to))?;
        name.iter().try_for_each(|name| desk.images.push(&bundle, name, &watch))?;
        Ok(bundle)
    });
    watch.end();
    let places = to.iter().map(Reference::to_string).chain(name.iter().map(ToString::to_string)).collect();
    told(&built.map_err(failure)?, places, screen)
}

fn push(desk: &Desk, image: &str, to: &str, stops: Stops, screen: &mut Screen) -> Ended {
    let reference = Reference::parse(image).map_err(failure)?;
    let name = registry_name(to)?;
    let watch = Line::new(screen, &stops, format!("pushing {name}"));
    let bundle = desk.images.gather(&reference, &desk.lock, &watch);
    let pushed = bundle.and_then(|bundle| desk.images.push(&bundle, &name, &watch).map(|()| bundle));
    watch.end();
    told(&pushed.map_err(failure)?, vec![name.to_string()], screen)
}

fn list(desk: &Desk, screen: &mut Screen) -> Ended {
    for (name, sum) in desk.lock.iter() {
        let reference = Reference::parse(name).map_err(failure)?;
        let here: Option<Image> = desk.images.here(&reference, &desk.lock);
        let row = serde_json::json!({ "image": name, "digest": sum.to_string(), "ready": here.is_some() });
        show(screen, row, format!("{name} {sum} {}", if here.is_some() { "ready" } else { "not here" }));
    }
    Ok(Exit::Green)
}

fn told(bundle: &Bundle, places: Vec<String>, screen: &mut Screen) -> Ended {
    let sum = image::Sum::from(bundle.digest()).to_string();
    let row = serde_json::json!({ "digest": sum, "bytes": bundle.bytes(), "places": places });
    show(screen, row, format!("{sum} ({}) is in {}", Bytes(bundle.bytes()), places.join(" and ")));
    Ok(Exit::Green)
}

fn recipe(args: &BuildArgs) -> Result<Recipe, Failure> {
    let base = match args.base.as_str() {
        "scratch" => None,
        base => Some(Reference::parse(base).map_err(failure)?),
    };
    Ok(Recipe {
        base,
        add: args.add.iter().map(|add| Add::parse(add)).collect::<Result<_, _>>().map_err(failure)?,
        env: pairs("--env", &args.env)?,
        cmd: args.cmd.as_deref().map(|words| self::words("--cmd", words)).transpose()?,
        entrypoint: args.entrypoint.as_deref().map(|words| self::words("--entrypoint", words)).transpose()?,
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        labels: pairs("--label", &args.label)?.into_iter().collect::<BTreeMap<_, _>>(),
        platforms: args.platform.iter().map(|text| Platform::parse(text)).collect::<Result<_, _>>().map_err(failure)?,
        epoch: epoch()?,
    })
}

/// `SOURCE_DATE_EPOCH`, as reproducible builds have it; else the beginning of time.
fn epoch() -> Result<u64, Failure> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| Failure::usage(format!("SOURCE_DATE_EPOCH is `{text}` and not a number"))),
        Err(_) => Ok(0),
    }
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    let wrong = |text: &String| Failure::usage(format!("{option} {text}: it is written like NAME=VALUE"));
    texts.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect()
}

fn words(option: &str, text: &str) -> Result<Vec<String>, Failure> {
    if !text.trim_start().starts_with('[') {
        return Ok(vec![text.to_owned()]);
    }
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{option} {text}: {error}")).help("a list is written like `[\"sh\", \"-c\", \"date\"]`")
    })
}

fn registry_name(text: &str) -> Result<image::Name, Failure> {
    match Reference::parse(text).map_err(failure)? {
        Reference::Registry(name) => Ok(name),
        _ => Err(Failure::usage(format!("`{text}` is not in a registry")).help("`--to` writes files")),
    }
}

/// The exit code says whose turn it is: the caller's, the machine's, or whoever made the image.
fn failure(error: ImageError) -> Failure {
    match &error {
        ImageError::Reference { .. } | ImageError::Lock { .. } => Failure::usage(error),
        ImageError::Stopped => Failure::cancelled(error),
        ImageError::Registry { refusal: Refusal::Busy { .. } | Refusal::Unreachable | Refusal::Broken, .. }
        | ImageError::Mismatch { .. }
        | ImageError::Io { .. }
        | ImageError::Store(_) => Failure::infrastructure(error),
        _ => Failure::refused(error),
    }
}

fn show(screen: &mut Screen, row: serde_json::Value, text: String) {
    let text = if screen.output == Output::Json { row.to_string() } else { text };
    screen.text(&text);
}

/// A line that says how far it is; drawn by whichever thread has news, hence the lock.
struct Line<'a> {
    screen: Mutex<(&'a mut Screen, Instant)>,
    stops: &'a Stops,
    what: String,
    fetched: AtomicU64,
    all: AtomicU64,
}

impl<'a> Line<'a> {
    fn new(screen: &'a mut Screen, stops: &'a Stops, what: String) -> Line<'a> {
        Line { screen: Mutex::new((screen, Instant::now())), stops, what, fetched: 0.into(), all: 0.into() }
    }

    /// Takes the line away; returns how many bytes came.
    fn end(self) -> u64 {
        let (screen, _) = self.screen.into_inner().unwrap_or_else(|poison| poison.into_inner());
        screen.clear();
        self.fetched.into_inner()
    }
}

impl Watch for Line<'_> {
    fn progress(&self, progress: Progress) {
        match &progress {
            Progress::Begun { bytes, .. } => self.all.store(*bytes, Ordering::Relaxed),
            Progress::Fetched(bytes) => drop(self.fetched.fetch_add(*bytes, Ordering::Relaxed)),
            Progress::Unpacked(_) | Progress::Note(_) => {}
        }
        let Ok(mut guard) = self.screen.lock() else { return };
        let (screen, drawn) = &mut *guard;
        if let Progress::Note(note) = progress {
            return screen.warning(&note);
        }
        if screen.is_live() && drawn.elapsed() > DRAW_EVERY {
            let (fetched, all) = (self.fetched.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
            screen.draw(&[format!("{}: {} of {}", self.what, Bytes(fetched), Bytes(all.max(fetched)))]);
            *drawn = Instant::now();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stops.count() > 0
    }
}
