//! A run as its agent knows it: what each instance wrote, and what an instance therefore sees.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cas::{Layer, LayerKind, Tree};
use model::{AttemptSpec, Cause, GlobList, LayerRef, NodeIx, RunId, Work};

use crate::config::{Project, Secret};
use crate::far::Far;
use crate::images::Names;
use crate::reach::Pool;
use crate::room::Room;

/// A lock whose holder panicked still guards whole values here: every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) project: Project,
    /// The shared cache that it uses.
    pub(crate) far: Option<Arc<Far>>,
    /// Secrets that were given to attempts alone, while these are executed.
    pub(crate) secrets: Mutex<HashMap<NodeIx, Arc<BTreeMap<String, Secret>>>>,
    /// Its folder in the agent's scratch.
    pub(crate) scratch: PathBuf,
    /// Why nothing of it can be executed.
    pub(crate) unusable: Option<String>,
    done: Mutex<HashMap<NodeIx, Arc<Done>>>,
    /// Folders that the next attempt may take.
    pub(crate) rooms: Mutex<Vec<Room>>,
    /// What the names of images mean.
    pub(crate) images: Names,
    /// Networks that the next attempt may take.
    pub(crate) networks: Pool,
    /// Filtered trees and the hiding layers that belong to them: instances of a matrix share both.
    filtered: Mutex<HashMap<(model::Digest, GlobList), Tree>>,
    pub(crate) hides: Mutex<HashMap<model::Digest, PathBuf>>,
    /// A layer was made again, so trees that were computed with the former one are not to be built upon.
    remade: AtomicBool,
    /// Records that are still being written, and what could not be recorded or kept.
    pub(crate) unwritten: Mutex<usize>,
    pub(crate) written: Condvar,
    pub(crate) notes: Mutex<Vec<String>>,
    /// Failed attempts whose sandboxes are kept.
    pub(crate) failed: Mutex<BTreeMap<NodeIx, PathBuf>>,
    /// Keeps garbage collection away from what the run uses.
    _pin: Option<cas::Pin>,
}

/// An instance that ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) spec: Arc<AttemptSpec>,
    /// Whose layers it saw, lowest first.
    pub(crate) stack: Vec<NodeIx>,
    /// What it saw, all of it, with what it wrote.
    pub(crate) tree: Tree,
    /// What it wrote.
    pub(crate) layer: Option<Arc<Layer>>,
    pub(crate) manifest: Option<LayerRef>,
    /// Where its layer lies as a directory.
    pub(crate) place: Mutex<Place>,
    pub(crate) action: Option<model::Digest>,
    /// Another agent executed it: it cannot be executed again here.
    pub(crate) elsewhere: bool,
    /// Held by whoever executes it again because its stored layer is damaged.
    pub(crate) healing: Mutex<()>,
}

/// Where a layer lies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// In this directory, ready to be a lower one.
    Here(PathBuf),
    /// In the store.
    Stored,
    /// In the shared cache, with the record to keep when all of it is here, if there is one.
    Far(Option<Box<cas::ActionRecord>>),
}

/// What an instance sees.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// Whose layers, lowest first.
    pub(crate) stack: Vec<Arc<Done>>,
    /// Repository and layers.
    pub(crate) full: Tree,
    /// What of it is shown: all, or `inputs`.
    pub(crate) shown: Tree,
    /// What of the repository is shown.
    pub(crate) base: Tree,
}

impl Run {
    pub(crate) fn new(
        id: RunId,
        project: Project,
        far: Option<Arc<Far>>,
        scratch: PathBuf,
        unusable: Option<String>,
        pin: Option<cas::Pin>,
    ) -> Run {
        let images = Names::new(project.lock.clone());
        Run {
            id,
            project,
            far,
            secrets: Mutex::default(),
            scratch,
            unusable,
            done: Mutex::default(),
            rooms: Mutex::default(),
            images,
            networks: Pool::default(),
            filtered: Mutex::default(),
            hides: Mutex::default(),
            remade: AtomicBool::new(false),
            unwritten: Mutex::default(),
            written: Condvar::new(),
            notes: Mutex::default(),
            failed: Mutex::default(),
            _pin: pin,
        }
    }

    pub(crate) fn done(&self, node: NodeIx) -> Option<Arc<Done>> {
        lock(&self.done).get(&node).cloned()
    }

    /// Remembers how an instance ended; a former end of it is forgotten.
    pub(crate) fn ended(&self, done: Done) {
        let node = done.spec.node;
        if let Some(former) = lock(&self.done).insert(node, Arc::new(done)) {
            self.remade.fetch_or(former.layer.is_some(), Ordering::Relaxed);
        }
    }

    /// What an instance sees.
    ///
    /// # Errors
    /// Two layers, neither made with sight of the other, have different things at one path.
    pub(crate) fn inputs(&self, spec: &AttemptSpec) -> Result<Inputs, Cause> {
        let stack = self.stack(&spec.needs);
        if spec.needs.len() > 1 {
            contradiction(&stack).map_or(Ok(()), |text| Err(Cause::Broken(text)))?;
        }
        let full = self.full_tree(&stack);
        let (mut shown, mut base) = (full.clone(), self.project.snapshot.tree.clone());
        if let Work::Command(command) = &spec.work
            && let Some(globs) = &command.inputs
        {
            shown = self.filter(&full, globs);
            base = self.filter(&base, globs);
        }
        Ok(Inputs { stack, full, shown, base })
    }

    /// The union of the stacks of what is needed, in an order in which everything comes after what it saw. Instances
    /// that this agent never executed (groups, approvals) wrote nothing.
    fn stack(&self, needs: &[NodeIx]) -> Vec<Arc<Done>> {
        let done = lock(&self.done);
        let mut needs = needs.to_vec();
        needs.sort();
        let mut seen = BTreeSet::new();
        let mut stack = Vec::new();
        for need in needs.iter().filter_map(|need| done.get(need)) {
            for node in need.stack.iter().copied().chain([need.spec.node]) {
                if seen.insert(node) {
                    stack.extend(done.get(&node).cloned());
                }
            }
        }
        stack
    }

    fn full_tree(&self, stack: &[Arc<Done>]) -> Tree {
        // Most instances need one other: what that one saw and wrote is all there is.
        if let Some(last) = stack.last()
            && last.stack.len() + 1 == stack.len()
            && !self.remade.load(Ordering::Relaxed)
        {
            return last.tree.clone();
        }
        cas::stack_tree(&self.project.snapshot.tree, stack.iter().filter_map(|done| done.layer.as_deref()))
    }

    fn filter(&self, tree: &Tree, globs: &GlobList) -> Tree {
        let key = (tree.digest(), globs.clone());
        if let Some(known) = lock(&self.filtered).get(&key) {
            return known.clone();
        }
        let filtered = tree.filter(globs);
        lock(&self.filtered).insert(key, filtered.clone());
        filtered
    }
}

/// The first path at which two layers contradict each other, as a sentence.
fn contradiction(stack: &[Arc<Done>]) -> Option<String> {
    let mut at: BTreeMap<&str, Vec<(usize, &LayerKind)>> = BTreeMap::new();
    for (index, done) in stack.iter().enumerate() {
        for entry in done.layer.iter().flat_map(|layer| &layer.entries) {
            at.entry(&entry.path).or_default().push((index, &entry.kind));
        }
    }
    let strangers = |a: usize, b: usize| {
        let saw = |later: usize, earlier: usize| stack[later].stack.contains(&stack[earlier].spec.node);
        a != b && !saw(a, b) && !saw(b, a)
    };
    for (path, writers) in &at {
        for (nth, &(a, one)) in writers.iter().enumerate() {
            if let Some((b, _)) = writers[nth + 1..].iter().find(|&&(b, other)| strangers(a, b) && !agree(one, other)) {
                return Some(sentence(&stack[a], &stack[*b], path));
            }
            // What one took away, emptied or replaced by a file, another may have written into.
            if matches!(one, LayerKind::Dir) {
                continue;
            }
            let below = format!("{path}/");
            let inside = at.range(below.as_str()..).take_while(|(path, _)| path.starts_with(&below));
            for (path, writers) in inside {
                // Two that wrote the same there were compared above.
                if writers.iter().any(|&(b, _)| a == b) {
                    continue;
                }
                if let Some((b, _)) = writers.iter().find(|&&(b, kind)| strangers(a, b) && *kind != LayerKind::Whiteout)
                {
                    return Some(sentence(&stack[a], &stack[*b], path));
                }
            }
        }
    }
    None
}

fn agree(a: &LayerKind, b: &LayerKind) -> bool {
    use LayerKind::{Dir, File, OpaqueDir};
    match (a, b) {
        (File { digest: one, executable: x, .. }, File { digest: other, executable: y, .. }) => one == other && x == y,
        (Dir | OpaqueDir, Dir | OpaqueDir) => true,
        _ => a == b,
    }
}

fn sentence(a: &Done, b: &Done, path: &str) -> String {
    format!(
        "steps `{}` and `{}` both wrote `{path}`, and not the same; let one depend on the other, or leave the path out \
         of the `outputs` of one of them",
        a.spec.name, b.spec.name
    )
}
