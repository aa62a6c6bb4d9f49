//! A result that is known already comes back whole, as if the step had run.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cas::{ActionRecord, Layer, LayerError, StoreError};
use model::{ArtifactRef, AttemptEnd, AttemptResult, AttemptSpec, CachedFrom, CommandSpec};

use crate::Shared;
use crate::action::Action;
use crate::attempt::Attempt;
use crate::halt::Halt;
use crate::keep;
use crate::log::{self, Logged};
use crate::report::Feed;
use crate::run::{Done, Inputs, Place, Run, lock};

/// The record of an action, if all it names is there and it has what this step must leave.
pub(crate) fn find(agent: &Shared, spec: &CommandSpec, action: &Action) -> Option<ActionRecord> {
    let record = agent.actions.lookup(&action.digest)?;
    if !agent.actions.complete(&record, &agent.store) {
        agent.actions.remove(&action.digest);
        return None;
    }
    // Recorded when nothing depended on the step, so nothing of what it wrote was kept.
    let has_layer = record.layer.is_some() || !(spec.has_dependants || spec.outputs.is_some());
    has_layer.then_some(record)
}

/// Makes the instance's end known to the run: its layer stays in the store until somebody needs it as a directory.
pub(crate) fn adopt(
    agent: &Shared,
    run: &Run,
    spec: &Arc<AttemptSpec>,
    inputs: &Inputs,
    action: &Action,
    record: &ActionRecord,
) -> Option<()> {
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
        place: Mutex::new(Place::Stored),
        action: Some(action.digest),
        healing: Mutex::default(),
    });
    Some(())
}

/// The result of a record; `None` when a part of it turns out to be damaged: then it is not known after all.
pub(crate) fn replay(
    at: &Attempt<'_>,
    inputs: &Inputs,
    action: &Action,
    record: ActionRecord,
) -> Option<AttemptResult> {
    let Attempt { agent, run, spec, command, feed, .. } = at;
    let artifacts = artifacts(agent, run, command, &record)?;
    adopt(agent, run, spec, inputs, action, &record)?;
    let logged = replay_log(agent, run, spec, &record, feed)?;
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
    let number = agent.made.fetch_add(1, Ordering::Relaxed);
    let path = run.scratch.join(format!("layer-{}-{number}", done.spec.node.0));
    layer.restore(&agent.store, &path).map_err(|error| match error {
        LayerError::Store(StoreError::Missing(_) | StoreError::Damaged(_)) | LayerError::Malformed(_) => {
            Halt::Remake(done.spec.node)
        }
        other => keep::layer_trouble(&other),
    })?;
    *place = Place::Here(path.clone());
    Ok(Some(path))
}
