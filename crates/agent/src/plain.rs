//! The executor without isolation: a copy of the workspace, and an ordinary process in it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cas::{LayerKind, Store, StoreError, TreeEntry};
use sandbox::{Child, SpawnError};

use crate::halt::{Halt, io};
use crate::host::Host;
use crate::room::Room;
use crate::run::{Inputs, Run};

/// Copies what the step sees into `dir`. Never hard links: nothing keeps the step from writing through them.
pub(crate) fn lay_out(run: &Run, store: &Store, inputs: &Inputs, dir: &Path) -> Result<(), Halt> {
    let written = writers(inputs);
    for (path, entry) in inputs.shown.entries() {
        let to = dir.join(&path);
        match entry {
            TreeEntry::Dir => fs::create_dir_all(&to).map_err(io("make the folder", &to))?,
            TreeEntry::Symlink { target } => symlink(&*target, &to).map_err(io("make the link", &to))?,
            TreeEntry::File { digest, executable } => match written.get(path.as_str()) {
                None => copy_with_time(&run.project.root.join(&path), &to)?,
                Some(&(node, mtime_ns)) => {
                    store.copy_to(&digest, executable, &to).map_err(|error| match error {
                        StoreError::Missing(_) | StoreError::Damaged(_) => Halt::Remake(node),
                        other => other.into(),
                    })?;
                    set_time(&to, UNIX_EPOCH + Duration::from_nanos(u64::try_from(mtime_ns).unwrap_or(0)))?;
                }
            },
        }
    }
    Ok(())
}

/// Who wrote each file that a layer brings, and when: the topmost layer counts.
fn writers(inputs: &Inputs) -> HashMap<&str, (model::NodeIx, i64)> {
    let mut written = HashMap::new();
    for done in &inputs.stack {
        for entry in done.layer.iter().flat_map(|layer| &layer.entries) {
            if let LayerKind::File { mtime_ns, .. } = entry.kind {
                written.insert(entry.path.as_str(), (done.spec.node, mtime_ns));
            }
        }
    }
    written
}

fn copy_with_time(from: &Path, to: &Path) -> Result<(), Halt> {
    fs::copy(from, to).map_err(io("copy", from))?;
    let modified = fs::metadata(from).and_then(|meta| meta.modified()).map_err(io("read", from))?;
    set_time(to, modified)
}

fn set_time(path: &Path, modified: SystemTime) -> Result<(), Halt> {
    let times = FileTimes::new().set_modified(modified);
    File::options().read(true).open(path).and_then(|file| file.set_times(times)).map_err(io("set the time of", path))
}

/// Starts the script in the copy. `HOME` is the caller's: without a sandbox there is no other place for its tools.
pub(crate) fn spawn(
    room: &Room,
    host: &Host,
    mut argv: Vec<String>,
    mut env: BTreeMap<String, String>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    open_files_soft: Option<u64>,
) -> Result<Child, SpawnError> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    argv.push(text(&room.script()));
    env.insert("HOME".into(), text(&host.home));
    env.insert("TMPDIR".into(), text(&room.home()));
    env.insert("PACE_WORKSPACE".into(), text(&room.upper));
    env.insert("PACE_VALUES".into(), text(&room.values()));
    sandbox::process::spawn(
        argv.into_iter().map(OsString::from).collect(),
        env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        room.upper.clone(),
        None,
        Some(stdout),
        Some(stderr),
        open_files_soft,
    )
}
