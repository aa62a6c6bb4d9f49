//! Steps of a run that are shared out among agents: what others wrote becomes visible here, and what was written here goes to
//! where others find it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cas::{Layer, shared};
use model::{AttemptNo, AttemptResult, AttemptSpec, Digest, Fence, LayerRef, NodeIx, Resources, RunNumber, Work};

use crate::Shared;
use crate::far::{self, Wanted};
use crate::run::{Done, Place, Run};

/// An instance that another agent executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    /// The instance.
    pub node: NodeIx,
    /// Its name, for messages.
    pub name: Arc<str>,
    /// What it needed itself, directly.
    pub needs: Vec<NodeIx>,
    /// What it wrote.
    pub layer: Option<LayerRef>,
    /// Its action.
    pub action: Option<Digest>,
}

/// Makes an instance's end known to the run.
pub(crate) fn know(agent: &Shared, run: &Run, ended: Elsewhere) -> Result<(), String> {
    let is_it = |done: Arc<Done>| done.manifest == ended.layer && done.action == ended.action;
    if run.done(ended.node).is_some_and(is_it) {
        return Ok(());
    }
    let layer = ended.layer.as_ref().map(|manifest| list_of(agent, run, &ended.name, manifest)).transpose()?;
    let spec = Arc::new(stand_in(run, &ended));
    let inputs = run.inputs(&spec).map_err(|cause| cause.to_string())?;
    let tree = layer.as_deref().map_or_else(|| inputs.full.clone(), |layer| inputs.full.overlay(layer));
    run.ended(Done {
        spec,
        stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
        tree,
        layer,
        manifest: ended.layer,
        place: Mutex::new(Place::Far(None)),
        action: ended.action,
        elsewhere: true,
        healing: Mutex::default(),
    });
    Ok(())
}

/// The list of the files of a layer, from here or from the shared cache.
fn list_of(agent: &Shared, run: &Run, step: &str, manifest: &LayerRef) -> Result<Arc<Layer>, String> {
    let refused = |why: &dyn std::fmt::Display| {
        format!("what step `{step}` wrote on another agent is not to be had from the server's cache: {why}")
    };
    if !agent.store.has(&manifest.digest) {
        let far = run.far.as_ref().ok_or_else(|| refused(&"the run has no shared cache"))?;
        far.fetch(std::iter::once(Wanted::plain(&manifest.digest))).map_err(|error| refused(&error))?;
    }
    let layer = Layer::load(&manifest.digest, &agent.store).map_err(|error| refused(&error))?;
    shared::check_layer(&layer).map_err(|why| refused(&why))?;
    Ok(Arc::new(layer))
}

/// What the run is asked about an instance, as if it had been executed here.
fn stand_in(run: &Run, ended: &Elsewhere) -> AttemptSpec {
    AttemptSpec {
        run: run.id.clone(),
        number: RunNumber::default(),
        node: ended.node,
        name: ended.name.clone(),
        attempt: AttemptNo(1),
        fence: Fence::default(),
        needs: ended.needs.clone(),
        work: Work::ReadFile(String::new()),
        timeout_total: Duration::ZERO,
        timeout_idle: None,
        resources: Resources::default(),
    }
}

/// Puts what a result names into the shared cache.
pub(crate) fn publish(agent: &Shared, run: &Run, result: &AttemptResult) -> Result<(), String> {
    let Some(far) = &run.far else { return Ok(()) };
    let mut wanted: Vec<Digest> = result.reports.iter().map(|(_, digest)| *digest).collect();
    wanted.extend(result.artifacts.iter().flat_map(|artifact| &artifact.files).map(|(_, digest, _)| *digest));
    if let Some(manifest) = &result.layer {
        let layer = Layer::load(&manifest.digest, &agent.store).map_err(|error| error.to_string())?;
        wanted.extend(far::files(&layer).map(|file| file.digest));
        wanted.push(manifest.digest);
    }
    far.ensure(wanted.into_iter()).map_err(|error| error.to_string())
}
