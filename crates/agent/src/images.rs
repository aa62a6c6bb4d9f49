//! Images of an attempt: which ones they are, for the key, and the unpacked ones, to run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use image::{ImageError, Lock, Progress, Reference, Refusal, Resolved, Watch};
use model::{AttemptEnd, Bytes, Cause, CommandSpec};

use crate::Shared;
use crate::ground::Rooted;
use crate::halt::Halt;
use crate::log::Voice;
use crate::run::lock;
use crate::supervise::Stopper;

/// What a step and its services run on, by digest. `None` stands on the host's file system.
#[derive(Debug, Default)]
pub(crate) struct Resolutions {
    pub(crate) step: Option<Resolved>,
    pub(crate) services: Vec<Option<Resolved>>,
}

impl Resolutions {
    /// Finds out what the names mean now, or what the lock file says that they mean.
    ///
    /// # Errors
    /// A name is none, nobody has such an image, the registry does not answer.
    pub(crate) fn of(command: &CommandSpec, names: &Names, agent: &Shared) -> Result<Resolutions, Cause> {
        let resolve = |name: &Option<String>| name.as_ref().map(|name| names.resolve(name, agent)).transpose();
        Ok(Resolutions {
            step: resolve(&command.image)?,
            services: command.services.iter().map(|service| resolve(&service.image)).collect::<Result<_, _>>()?,
        })
    }
}

impl Resolutions {
    /// What was found out, to be found again.
    pub(crate) fn lock(&self) -> Lock {
        let mut lock = Lock::empty();
        for image in self.step.iter().chain(self.services.iter().flatten()) {
            lock.set(&image.reference, image.sum);
        }
        lock
    }
}

/// What the names of images mean in one run: the same from its first step to its last, and asked for once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    lock: Arc<Lock>,
    known: Mutex<HashMap<String, Resolved>>,
}

impl Names {
    pub(crate) fn new(lock: Arc<Lock>) -> Names {
        Names { lock, known: Mutex::default() }
    }

    fn resolve(&self, name: &str, agent: &Shared) -> Result<Resolved, Cause> {
        if let Some(known) = lock(&self.known).get(name) {
            return Ok(known.clone());
        }
        let reference = Reference::parse(name).map_err(|error| Cause::Refused(error.to_string()))?;
        let found = agent.images()?.resolve(&reference, &self.lock, &Unwatched).map_err(|error| cause(&error))?;
        // Steps that asked side by side take the first answer, should the tag have moved in between.
        Ok(lock(&self.known).entry(name.to_string()).or_insert(found).clone())
    }
}

/// Fetches what is not here yet, unless the attempt is stopped meanwhile.
pub(crate) fn fetch(
    resolved: &Resolved,
    agent: &Shared,
    stopper: &Stopper,
    voice: Option<&Voice>,
) -> Result<Rooted, Halt> {
    let watch = Fetching { name: resolved.reference.to_string(), stopper, voice };
    let image = agent.images()?.fetch(resolved, &watch).map_err(|error| match stopper.is_stopped() {
        true => Halt::Ends(AttemptEnd::Cancelled),
        false => cause(&error).into(),
    })?;
    Rooted::new(image)
}

/// What another attempt may find changed is trouble; what only the author of the pipeline or of the image can set right is
/// refused.
fn cause(error: &ImageError) -> Cause {
    match error {
        ImageError::Registry { refusal: Refusal::Busy { .. } | Refusal::Unreachable | Refusal::Broken, .. }
        | ImageError::Mismatch { .. }
        | ImageError::Io { .. }
        | ImageError::Store(_)
        | ImageError::Stopped => Cause::Infrastructure(error.to_string()),
        _ => Cause::Refused(error.to_string()),
    }
}

/// Says what a person would otherwise wait for without knowing it.
struct Fetching<'a> {
    name: String,
    stopper: &'a Stopper,
    voice: Option<&'a Voice>,
}

impl Watch for Fetching<'_> {
    fn progress(&self, progress: Progress) {
        let text = match progress {
            Progress::Begun { layers, bytes } if layers > 0 => {
                format!("fetching image {}: {layers} layers, {}", self.name, Bytes(bytes))
            }
            Progress::Note(note) => format!("image {}: {note}", self.name),
            _ => return,
        };
        if let Some(voice) = self.voice {
            voice.say(text);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopper.is_stopped()
    }
}

/// Finding out what a name means is one short question, bounded by its own timeouts.
struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: Progress) {}

    fn is_stopped(&self) -> bool {
        false
    }
}
