//! A result that is known already comes back whole, as if the step had run.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cas::{ActionRecord, Layer, LayerError, StoreError};
use model::{ArtifactRef, AttemptEnd, AttemptResult, AttemptSpec, CachedFrom, CommandSpec};

use crate::action::Action;
use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::keep;
use crate::log::{self, Logged};
use crate::report::Feed;
use crate::run::{Done, Inputs, Place, Run, lock};
use crate::{Shared, far};

/// A result that is known.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: ActionRecord,
    /// It is the shared cache's: manifest and log are here, the rest is fetched when somebody needs it.
    pub(crate) far: bool,
}

/// The result of an action, if all it names is to be had and it has what this step must leave: from here, else from the
/// shared cache.
pub(crate) fn find(agent: &Shared, run: &Run, spec: &CommandSpec, action: &Action) -> Option<Known> {
    // Recorded when nothing depended on the step, so nothing of what it wrote was kept.
    let has_layer = |record: &ActionRecord| record.layer.is_some() || !(spec.has_dependants || spec.outputs.is_some());
    let here = agent.actions.lookup(&action.digest);
    let is_complete = here.as_ref().is_some_and(|record| agent.actions.complete(record, &agent.store));
    if here.is_some() && !is_complete {
        agent.actions.remove(&action.digest);
    }
    if let Some(record) = here.filter(|record| is_complete && has_layer(record)) {
        return Some(Known { record, far: false });
    }
    let record = run.far.as_ref()?.look_up(&action.digest)?;
    has_layer(&record).then_some(Known { record, far: true })
}

/// Makes the instance's end known to the run: its layer stays in the store until somebody needs it as a directory.
pub(crate) fn adopt(
    agent: &Shared,
    run: &Run,
    spec: &Arc<AttemptSpec>,
    inputs: &Inputs,
    action: &Action,
    known: &Known,
) -> Option<()> {
    let record = &known.record;
    let layer = match &record.layer {
        Some(manifest) => Some(Arc::new(Layer::load(&manifest.digest, &agent.store).ok()?)),
        None => None,
    };
    let tree = layer.as_deref().map_or_else(|| inputs.full.clone(), |layer| inputs.full.overlay(layer));
    run.ended(Done {
        spec: spec.clone(),
        stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
        tree,
        layer,
        manifest: record.layer,
        place: Mutex::new(if known.far { Place::Far(Some(Box::new(record.clone()))) } else { Place::Stored }),
        action: Some(action.digest),
        elsewhere: false,
        healing: Mutex::default(),
    });
    Some(())
}

/// The result of a record; `None` when a part of it turns out to be damaged: then it is not known after all.
pub(crate) fn replay(at: &Attempt<'_>, inputs: &Inputs, action: &Action, known: Known) -> Option<AttemptResult> {
    let Attempt { agent, run, spec, command, feed, .. } = at;
    if known.far {
        run.far.as_ref()?.fetch(far::extras(&known.record)).ok()?;
    }
    let record = &known.record;
    let artifacts = artifacts(agent, run, command, record)?;
    adopt(agent, run, spec, inputs, action, &known)?;
    let logged = replay_log(agent, run, spec, record, feed)?;
    if known.far {
        keep_if_whole(agent, &action.digest, record);
        run.far.as_ref()?.used();
    }
    let record = known.record;
    Some(AttemptResult {
        cached: Some(CachedFrom { run: record.run, number: record.number, took: record.took }),
        values: record.values,
        action: Some(action.digest),
        layer: record.layer,
        artifacts,
        reports: record.reports,
        tail: logged.tail,
        log_bytes: logged.bytes,
        ..AttemptResult::ended(AttemptEnd::Succeeded)
    })
}

/// Names and versions are those asked for now; the paths are in the key.
fn artifacts(agent: &Shared, run: &Run, command: &CommandSpec, record: &ActionRecord) -> Option<Vec<ArtifactRef>> {
    let mut kept = Vec::new();
    for (spec, then) in command.artifacts.iter().zip(&record.artifacts) {
        let artifact = ArtifactRef { name: spec.name.clone(), version: spec.version.clone(), ..then.clone() };
        keep::hand_out(&artifact, &run.project.artifact_dir, &agent.store).ok()?;
        kept.push(artifact);
    }
    (kept.len() == command.artifacts.len()).then_some(kept)
}

fn replay_log(agent: &Shared, run: &Run, spec: &AttemptSpec, record: &ActionRecord, feed: &Feed) -> Option<Logged> {
    let Some(digest) = &record.log else { return Some(Logged::default()) };
    let path = log::path(&run.project.log_dir, spec);
    std::fs::create_dir_all(&run.project.log_dir).ok()?;
    let _ = std::fs::remove_file(&path);
    agent.store.place(digest, false, &path).ok()?;
    log::replay(&path, spec, feed).ok()
}

/// A result of the shared cache becomes one of ours when everything that it names is here.
fn keep_if_whole(agent: &Shared, action: &model::Digest, record: &ActionRecord) {
    if agent.actions.complete(record, &agent.store) {
        // Not recorded is only asked for again.
        let _ = agent.actions.record(action, record);
    }
}

/// Fetches all layers of a stack that are still far, in one go. What does not come is noticed layer by layer.
pub(crate) fn bring_all(run: &Run, stack: &[Arc<Done>]) {
    let Some(far) = &run.far else { return };
    let is_far = |done: &&Arc<Done>| matches!(&*lock(&done.place), Place::Far(_));
    let layers: Vec<Arc<Layer>> = stack.iter().filter(is_far).filter_map(|done| done.layer.clone()).collect();
    if layers.len() > 1 {
        // Each of them asks again, and says what is to be done about it.
        let _ = far.fetch(layers.iter().flat_map(|layer| far::files(layer)));
    }
}

/// Fetches an instance's layer when it is still far.
///
/// # Errors
/// [`Halt::Remake`] when it is not to be had any more.
pub(crate) fn bring(agent: &Shared, run: &Run, done: &Done) -> Result<(), Halt> {
    bring_to(agent, run, done, &mut lock(&done.place))
}

fn bring_to(agent: &Shared, run: &Run, done: &Done, place: &mut Place) -> Result<(), Halt> {
    let Place::Far(record) = &*place else { return Ok(()) };
    let (Some(far), Some(layer)) = (&run.far, &done.layer) else { return Ok(()) };
    far.fetch_layer(layer).map_err(|_| Halt::Remake(done.spec.node))?;
    if let (Some(action), Some(record)) = (&done.action, record) {
        keep_if_whole(agent, action, record);
    }
    *place = Place::Stored;
    Ok(())
}

/// An instance's layer as a directory, restored when somebody needs it for the first time.
///
/// # Errors
/// [`Halt::Remake`] when what is stored is damaged.
pub(crate) fn directory(agent: &Shared, run: &Run, done: &Done) -> Result<Option<PathBuf>, Halt> {
    let Some(layer) = done.layer.as_ref().filter(|layer| !layer.entries.is_empty()) else { return Ok(None) };
    let mut place = lock(&done.place);
    if let Place::Here(path) = &*place {
        return Ok(Some(path.clone()));
    }
    // Names and sizes of somebody else's may be more than this file system takes.
    let is_foreign = matches!(&*place, Place::Far(_));
    bring_to(agent, run, done, &mut place)?;
    let number = agent.made.fetch_add(1, Ordering::Relaxed);
    let path = run.scratch.join(format!("layer-{}-{number}", done.spec.node.0));
    layer.restore(&agent.store, &path).map_err(|error| match error {
        _ if is_foreign => Halt::Remake(done.spec.node),
        LayerError::Store(StoreError::Missing(_) | StoreError::Damaged(_)) | LayerError::Malformed(_) => {
            Halt::Remake(done.spec.node)
        }
        other => keep::layer_trouble(&other),
    })?;
    *place = Place::Here(path.clone());
    Ok(Some(path))
}
