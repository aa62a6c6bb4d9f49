//! Action records are written beside the next step, not before it: one thread takes them in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use cas::{ActionRecord, ActionStore, Store, Tree};

use crate::action::Action;
use crate::far::{Job, SharedResult};
use crate::run::{Run, lock};

/// Names in a note; the rest is counted.
const CHANGED_SHOWN_MAX: usize = 5;

/// A result to record.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) run: Arc<Run>,
    pub(crate) step: Arc<str>,
    pub(crate) action: Action,
    /// `None`: the action was a hit, and only has to be remembered as the step's last one.
    pub(crate) fresh: Option<Fresh>,
    /// The hit was one of the shared cache, so what the action is made of is not here yet.
    pub(crate) far: bool,
}

/// What an execution left behind.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) record: ActionRecord,
    pub(crate) log: PathBuf,
    /// What of the repository the step saw.
    pub(crate) base: Tree,
}

/// The thread that writes records.
#[derive(Debug)]
pub(crate) struct Recorder {
    to: Option<Sender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    pub(crate) fn start(store: Store, actions: ActionStore) -> std::io::Result<Recorder> {
        let (to, from) = channel();
        let desk = Desk { store, actions };
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || write_all(&from, &desk))?;
        Ok(Recorder { to: Some(to), thread: Some(thread) })
    }

    pub(crate) fn record(&self, entry: Entry) {
        *lock(&entry.run.unwritten) += 1;
        let run = entry.run.clone();
        // The thread lives as long as its sender, unless it panicked.
        if self.to.as_ref().is_none_or(|to| to.send(entry).is_err()) {
            settle(&run);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until all records of a run are written.
pub(crate) fn wait(run: &Run) {
    let mut unwritten = lock(&run.unwritten);
    while *unwritten > 0 {
        unwritten = run.written.wait(unwritten).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

fn settle(run: &Run) {
    *lock(&run.unwritten) -= 1;
    run.written.notify_all();
}

/// Where records are written.
struct Desk {
    store: Store,
    actions: ActionStore,
}

fn write_all(from: &Receiver<Entry>, desk: &Desk) {
    while let Ok(first) = from.recv() {
        let mut batch = vec![first];
        batch.extend(from.try_iter());
        // One look at the repository is enough for all that ended before it.
        let mut looked: Option<(Arc<Run>, Moved)> = None;
        for entry in batch {
            let run = entry.run.clone();
            if entry.fresh.is_some() && looked.as_ref().is_none_or(|(seen, _)| !Arc::ptr_eq(seen, &run)) {
                let snapshot = &run.project.snapshot;
                let moved = Moved { changed: snapshot.changed_since(), new: snapshot.new_since() };
                looked = Some((run.clone(), moved));
            }
            let nothing = Moved::default();
            let moved = looked.as_ref().map_or(&nothing, |(_, moved)| moved);
            if let Err(why) = write(entry, moved, desk) {
                lock(&run.notes).push(why);
            }
            settle(&run);
        }
    }
}

/// What is in the repository now that a step may have seen and that is no part of its key.
#[derive(Default)]
struct Moved {
    changed: Vec<PathBuf>,
    new: Vec<PathBuf>,
}

fn write(entry: Entry, moved: &Moved, desk: &Desk) -> Result<(), String> {
    let Desk { store, actions } = desk;
    let Entry { run, step, action, fresh, far } = entry;
    let refused = |error: cas::StoreError| format!("the result of step `{step}` was not recorded: {error}");
    if let Some(Fresh { mut record, log, base }) = fresh {
        unchanged(&step, &base, moved)?;
        action.put(store).map_err(refused)?;
        record.log = Some(store.put_file(&log, true).map_err(refused)?);
        actions.record(&action.digest, &record).map_err(refused)?;
        actions.note_outcome(&action.digest, true).map_err(refused)?;
        if let Some(shared) = &run.far {
            let (step, action) = (step.clone(), action.clone());
            shared.share(Job::Result(Box::new(SharedResult { step, action, record })));
        }
    }
    if far {
        action.put(store).map_err(refused)?;
    }
    let pipeline = &run.project.key;
    if actions.last(pipeline, &step) != Some(action.digest) {
        actions.set_last(pipeline, &step, &action.digest).map_err(refused)?;
    }
    Ok(())
}

/// A file that changed under the step may have been read before or after, and a file that came into a folder that it sees
/// may have been read too: the result belongs to no known input.
fn unchanged(step: &str, base: &Tree, moved: &Moved) -> Result<(), String> {
    let of_input = |path: &&PathBuf| path.to_str().is_none_or(|path| base.get(path).is_some());
    let in_sight = |path: &&PathBuf| match path.parent().and_then(Path::to_str) {
        None | Some("") => true,
        Some(folder) => base.get(folder).is_some(),
    };
    let changed = moved.changed.iter().filter(of_input).chain(moved.new.iter().filter(in_sight));
    let files: Vec<String> = changed.map(|path| format!("`{}`", path.display())).collect();
    if files.is_empty() {
        return Ok(());
    }
    let more = match files.len().saturating_sub(CHANGED_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = files[..files.len().min(CHANGED_SHOWN_MAX)].join(", ");
    Err(format!("the result of step `{step}` was not recorded: {shown}{more} changed while it ran"))
}
