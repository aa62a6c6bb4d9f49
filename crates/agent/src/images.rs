//! Images of an attempt: which ones they are, for the key, and the unpacked ones, to run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::{ImageError, Lock, Progress, Reference, Refusal, Resolved, Watch};
use model::{AttemptEnd, Bytes, Cause, CommandSpec};

use crate::Shared;
use crate::ground::Rooted;
use crate::halt::Halt;
use crate::log::Voice;
use crate::run::lock;
use crate::supervise::Stopper;

/// Time between two words about a fetch that takes longer.
const SAY_EVERY: Duration = Duration::from_secs(5);

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
    let name = resolved.reference.to_string();
    let watch = Fetching { name, stopper, voice, state: Mutex::new((0, 0, Instant::now())) };
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
    /// Bytes that will come, bytes that came, and when that was said last.
    state: Mutex<(u64, u64, Instant)>,
}

impl Fetching<'_> {
    /// The line that is due, if any.
    fn line(&self, progress: Progress) -> Option<String> {
        let (all, came, said) = &mut *lock(&self.state);
        match progress {
            Progress::Begun { layers, bytes } if layers > 0 => {
                (*all, *said) = (bytes, Instant::now());
                let layers = if layers == 1 { "1 layer".to_string() } else { format!("{layers} layers") };
                Some(format!("fetching image {}: {layers}, {}", self.name, Bytes(bytes)))
            }
            Progress::Fetched(bytes) => {
                *came += bytes;
                if said.elapsed() < SAY_EVERY {
                    return None;
                }
                *said = Instant::now();
                Some(format!("fetching image {}: {} of {}", self.name, Bytes(*came), Bytes(*all)))
            }
            Progress::Note(note) => Some(format!("image {}: {note}", self.name)),
            _ => None,
        }
    }
}

impl Watch for Fetching<'_> {
    fn progress(&self, progress: Progress) {
        if let (Some(voice), Some(line)) = (self.voice, self.line(progress)) {
            voice.say(line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fetch_is_told_now_and_then() {
        let stopper = Stopper::new().expect("a stopper");
        let fetching =
            Fetching { name: "x".into(), stopper: &stopper, voice: None, state: Mutex::new((0, 0, Instant::now())) };
        let begun = fetching.line(Progress::Begun { layers: 1, bytes: 4 << 20 });
        assert_eq!(begun.as_deref(), Some("fetching image x: 1 layer, 4 MiB"));
        assert_eq!(fetching.line(Progress::Fetched(1 << 20)), None, "just said");
        lock(&fetching.state).2 -= SAY_EVERY;
        let later = fetching.line(Progress::Fetched(1 << 20));
        assert_eq!(later.as_deref(), Some("fetching image x: 2 MiB of 4 MiB"));
    }
}
