//! The sandbox of one attempt: its folders in scratch, the overlay that is its workspace, its home and its environment.
//!
//! Nothing of the repository is copied. The workspace is an overlay: undermost the repository itself, over it a layer
//! that hides what is not in view, over that the layers of the steps before. With `inputs` one more layer on top hides
//! what those layers hold beside the inputs. (Hard links instead would move the ctime of every file of the
//! repository, and with it invalidate Git's index and ours.)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cas::{LayerKind, Tree};
use model::{AttemptNo, CommandSpec};
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::process::{Gid, Uid};
use sandbox::{Bind, Overlay, Spec};

use crate::ground::Ground;
use crate::halt::{Halt, io};
use crate::limits::Hold;
use crate::reach::Reach;
use crate::room::Room;
use crate::run::{Inputs, Run, lock};

/// Where a step finds its workspace.
pub(crate) const WORKSPACE: &str = "/workspace";
/// Where it finds its script and leaves its values: outside the workspace, so that neither is captured.
pub(crate) const DESK: &str = "/run/pace";

/// The lower directories of the workspace, topmost first, without those that belong to one attempt only.
pub(crate) fn lowers(run: &Run, inputs: &Inputs, layers: Vec<PathBuf>) -> Result<Vec<PathBuf>, Halt> {
    let mut lowers = layers;
    lowers.extend(hiding(run, &inputs.base)?);
    lowers.push(run.project.root.clone());
    Ok(lowers)
}

/// The layer that hides what is in the repository and not in `base`, made once for all instances that see the same.
fn hiding(run: &Run, base: &Tree) -> Result<Option<PathBuf>, Halt> {
    let mut hides = lock(&run.hides);
    let digest = base.digest();
    if let Some(path) = hides.get(&digest) {
        return Ok(Some(path.clone()).filter(|path| !path.as_os_str().is_empty()));
    }
    let hidden = hidden(run, base);
    let path = if hidden.is_empty() { PathBuf::new() } else { run.scratch.join(format!("hide-{}", digest.short())) };
    if !hidden.is_empty() {
        white_out(&path, &hidden, Some(&run.project.root))?;
    }
    hides.insert(digest, path.clone());
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// What of the repository is not shown when `base` is.
pub(crate) fn hidden(run: &Run, base: &Tree) -> Vec<PathBuf> {
    let snapshot = &run.project.snapshot;
    if base.digest() == snapshot.tree.digest() { snapshot.hidden.clone() } else { snapshot.hidden_but(base) }
}

/// Makes a lower directory in which these paths are deleted. Directories on the way get the modes they have in `like`:
/// in an overlay the topmost directory tells the mode.
pub(crate) fn white_out(dir: &Path, paths: &[PathBuf], like: Option<&Path>) -> Result<(), Halt> {
    fs::create_dir_all(dir).map_err(io("make the folder", dir))?;
    copy_mode(like, Path::new(""), dir);
    for path in paths {
        let at = dir.join(path);
        if let Some(parent) = path.parent().filter(|parent| !dir.join(parent).is_dir()) {
            let mut made = PathBuf::new();
            for part in parent.components() {
                made.push(part);
                if fs::create_dir(dir.join(&made)).is_ok() {
                    copy_mode(like, &made, &dir.join(&made));
                }
            }
        }
        match rustix::fs::mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(io("make the whiteout", &at)(errno.into())),
        }
    }
    Ok(())
}

fn copy_mode(like: Option<&Path>, below: &Path, to: &Path) {
    // Without it the directory has the default mode, which every step can live with.
    if let Some(mode) = like.and_then(|like| fs::metadata(like.join(below)).ok()).map(|meta| meta.permissions().mode())
    {
        let _ = fs::set_permissions(to, fs::Permissions::from_mode(mode & 0o777 | 0o700));
    }
}

/// The layer on top that hides what the layers below hold beside the inputs; `None` when there is no such thing.
pub(crate) fn beside_inputs(room: &Room, inputs: &Inputs) -> Result<Option<PathBuf>, Halt> {
    if inputs.full.digest() == inputs.shown.digest() {
        return Ok(None);
    }
    let entries = inputs.stack.iter().filter_map(|done| done.layer.as_ref()).flat_map(|layer| &layer.entries);
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| !matches!(entry.kind, LayerKind::Whiteout) && inputs.shown.get(&entry.path).is_none())
        .map(|entry| topmost_unseen(&entry.path, &inputs.shown))
        .collect();
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Ok(None);
    }
    let dir = room.path.join("beside");
    white_out(&dir, &paths, None)?;
    Ok(Some(dir))
}

fn topmost_unseen(path: &str, shown: &Tree) -> PathBuf {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let prefix = ends.map(|end| &path[..end]).find(|prefix| shown.get(prefix).is_none());
    prefix.unwrap_or(path).into()
}

/// All that makes a sandbox of an attempt's folder.
#[derive(Debug)]
pub(crate) struct Furniture<'a> {
    pub(crate) room: &'a Room,
    /// Lower directories of the workspace, topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    /// Overlays of named caches.
    pub(crate) caches: Vec<Overlay>,
    pub(crate) ground: Ground<'a>,
    pub(crate) reach: &'a Reach,
    pub(crate) hold: &'a Hold,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) name: &'a str,
}

impl Furniture<'_> {
    /// The sandbox, without its standard streams.
    pub(crate) fn spec(self) -> Result<Spec, Halt> {
        let mut overlays = vec![Overlay {
            at: WORKSPACE.into(),
            lower: self.lowers,
            upper: self.room.upper.clone(),
            work: self.room.work.clone(),
        }];
        overlays.extend(self.caches);
        let bind = |from: PathBuf, to: &Path| Bind { from, to: to.to_path_buf(), writable: true };
        let mut binds = vec![bind(self.room.desk(), Path::new(DESK))];
        if self.ground.has_private_home() {
            binds.push(bind(self.room.home(), self.ground.home()));
        }
        binds.extend(self.reach.binds());
        let mut env = self.env;
        env.insert("HOME".into(), self.ground.home().to_string_lossy().into_owned());
        env.insert("PACE_WORKSPACE".into(), WORKSPACE.into());
        env.insert("PACE_VALUES".into(), format!("{DESK}/values"));
        let argv = self.argv.into_iter().map(OsString::from).collect();
        Ok(Spec {
            env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: WORKSPACE.into(),
            overlays,
            binds,
            network: self.reach.network(),
            hostname: host_name(self.name),
            identity: self.ground.identity(),
            rlimits: self.hold.rlimits,
            tmp: self.hold.tmp,
            group: self.hold.group.clone(),
            ..Spec::new(argv, self.ground.root(self.room)?)
        })
    }
}

/// A fresh directory for the kernel: one that was used with `volatile` is refused a second time.
pub(crate) fn work_dir(folder: &Path, name: &str) -> Result<PathBuf, Halt> {
    let mut number = 0;
    loop {
        let path = folder.join(format!("{name}{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(io("make the folder", &path)(error)),
        }
    }
}

/// Makes everything below `dir` ours: in an image with users of its own a step writes as one of them, and the steps after
/// it may be nobody that they know. Links are not followed.
pub(crate) fn take_over(dir: &Path) -> std::io::Result<()> {
    let ours = (rustix::process::geteuid(), rustix::process::getegid());
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        own(&dir, &fs::symlink_metadata(&dir)?, ours)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            match meta.is_dir() {
                true => open.push(entry.path()),
                false => own(&entry.path(), &meta, ours)?,
            }
        }
    }
    Ok(())
}

fn own(path: &Path, meta: &fs::Metadata, (uid, gid): (Uid, Gid)) -> std::io::Result<()> {
    if (meta.uid(), meta.gid()) == (uid.as_raw(), gid.as_raw()) {
        return Ok(());
    }
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// A host name has at most 63 letters, digits and `-`.
fn host_name(step: &str) -> String {
    let name: String = step.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "step".into() } else { name.into() }
}

pub(crate) fn make_dirs(path: &Path) -> Result<(), Halt> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io("make the folder", path))
}

/// The environment without what only the executor knows (`HOME`, `PACE_WORKSPACE`, `PACE_VALUES`).
pub(crate) fn environment(
    spec: &CommandSpec,
    attempt: AttemptNo,
    ground: Ground<'_>,
    passed: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = ground.env();
    env.insert("TMPDIR".into(), "/tmp".into());
    env.extend(spec.unkeyed_env(attempt));
    env.extend(passed.clone());
    env.extend(spec.keyed_env());
    env.extend(secrets.clone());
    env
}

/// Layers as directories, topmost first.
pub(crate) fn layer_dirs(
    inputs: &Inputs,
    mut dir_of: impl FnMut(&Arc<crate::run::Done>) -> Result<Option<PathBuf>, Halt>,
) -> Result<Vec<PathBuf>, Halt> {
    let mut dirs = Vec::new();
    for done in inputs.stack.iter().rev() {
        dirs.extend(dir_of(done)?);
    }
    Ok(dirs)
}
