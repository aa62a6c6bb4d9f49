//! What is kept of an attempt that succeeded: its layer, its artifacts, its reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cas::{Captured, Layer, LayerError, LayerKind, Store, Tree, TreeEntry};
use model::{ArtifactRef, ArtifactSpec, Cause, CommandSpec, Digest, Glob, GlobList, LayerRef, ReportKind};

use crate::halt::{Halt, io, trouble};
use crate::run::{Inputs, lock};

/// Numbers artifacts while they are copied: a run's folder of artifacts is one process's alone.
static DRAFTS: AtomicU64 = AtomicU64::new(0);
/// Held while one artifact takes another's place.
static REPLACING: Mutex<()> = Mutex::new(());
/// Files of one artifact.
const ARTIFACT_FILES_MAX: usize = 100_000;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) layer: Option<Arc<Layer>>,
    pub(crate) manifest: Option<LayerRef>,
    /// The captured directory holds the layer and nothing else.
    pub(crate) whole: bool,
    pub(crate) artifacts: Vec<ArtifactRef>,
    pub(crate) reports: Vec<(ReportKind, Digest)>,
    pub(crate) notes: Vec<String>,
}

/// What the workspace holds at the end of an attempt, and where its files are to be had.
pub(crate) struct Workspace<'a> {
    /// What the step saw.
    pub(crate) inputs: &'a Inputs,
    /// The repository.
    pub(crate) root: &'a Path,
    pub(crate) store: &'a Store,
    /// Reads what was written, as far as these patterns take it in.
    pub(crate) capture: &'a dyn Fn(Option<&GlobList>) -> Result<Captured, LayerError>,
}

impl Workspace<'_> {
    /// Captures what the spec asks for, and nothing when nobody can read it.
    ///
    /// # Errors
    /// An output, artifact or report is not there; the store or the file system refuses.
    pub(crate) fn keep(&self, spec: &CommandSpec, artifact_dir: &Path) -> Result<Kept, Halt> {
        let asked = !spec.artifacts.is_empty() || !spec.reports.is_empty();
        let mut kept = Kept::default();
        if !(spec.has_dependants || spec.verify || spec.outputs.is_some() || asked) {
            return Ok(kept);
        }
        let wanted = spec.outputs.as_ref().map(|outputs| with_extras(outputs, spec));
        let captured = (self.capture)(wanted.as_ref()).map_err(|error| layer_trouble(&error))?;
        let after = self.inputs.shown.overlay(&captured.layer);
        missing_output(spec, &after).map_or(Ok(()), Err)?;
        kept.notes = captured.notes;
        for artifact in &spec.artifacts {
            kept.artifacts.push(self.artifact(artifact, &after, artifact_dir)?);
        }
        for (kind, path) in &spec.reports {
            kept.reports.push((*kind, self.report(*kind, path, &after)?));
        }
        let layer = match &spec.outputs {
            Some(outputs) => narrowed(&captured.layer, outputs),
            None => captured.layer.clone(),
        };
        kept.whole = captured.whole && layer.entries.len() == captured.layer.entries.len();
        if spec.has_dependants || spec.verify || spec.outputs.is_some() {
            kept.manifest = Some(layer.put(self.store)?);
            kept.layer = Some(Arc::new(layer));
        }
        Ok(kept)
    }

    /// The reports of an attempt that failed, as far as they are there: a failed test run is what reports are for.
    pub(crate) fn reports_of_failure(&self, spec: &CommandSpec) -> Vec<(ReportKind, Digest)> {
        let globs = GlobList(spec.reports.values().filter_map(|path| exactly(path)).collect());
        if globs.0.is_empty() {
            return Vec::new();
        }
        let Ok(captured) = (self.capture)(Some(&globs)) else { return Vec::new() };
        let written = Tree::empty().overlay(&captured.layer);
        let found =
            spec.reports.iter().filter_map(|(kind, path)| Some((*kind, self.report(*kind, path, &written).ok()?)));
        found.collect()
    }

    fn report(&self, kind: ReportKind, path: &str, after: &Tree) -> Result<Digest, Halt> {
        let path = plain(path);
        match after.get(&path) {
            Some(TreeEntry::File { digest, .. }) => self.stored(&path, digest),
            other => Err(absent(&format!("the report `{}`", kind.word()), &path, other.as_ref())),
        }
    }

    fn artifact(&self, spec: &ArtifactSpec, after: &Tree, artifact_dir: &Path) -> Result<ArtifactRef, Halt> {
        let path = plain(&spec.path);
        let files = match after.get(&path) {
            Some(TreeEntry::File { digest, executable }) => vec![(String::new(), digest, executable)],
            Some(TreeEntry::Dir) => files_below(after, &path),
            other => return Err(absent(&format!("the artifact `{}`", spec.name), &path, other.as_ref())),
        };
        if files.len() > ARTIFACT_FILES_MAX {
            let text = format!("the artifact `{}` has more than {ARTIFACT_FILES_MAX} files; pack them", spec.name);
            return Err(Cause::Broken(text).into());
        }
        for (below, digest, _) in &files {
            let file = if below.is_empty() { path.clone() } else { join(&path, below) };
            self.stored(&file, *digest)?;
        }
        let artifact = ArtifactRef { name: spec.name.clone(), version: spec.version.clone(), path, files };
        hand_out(&artifact, artifact_dir, self.store)?;
        Ok(artifact)
    }

    /// Files that came with the repository are not in the store yet.
    fn stored(&self, path: &str, digest: Digest) -> Result<Digest, Halt> {
        if self.store.has(&digest) {
            return Ok(digest);
        }
        let now = self.store.put_file(&self.root.join(path), false)?;
        if now == digest {
            Ok(digest)
        } else {
            Err(trouble(&format!("{path} changed while the run went on; run again")))
        }
    }
}

/// Puts the files of an artifact where people find them: `<artifact_dir>/<name>[-<version>]/…`. Copies, not links: what
/// lies there is the user's, and writing to it must not reach the store.
pub(crate) fn hand_out(artifact: &ArtifactRef, artifact_dir: &Path, store: &Store) -> Result<(), Halt> {
    let folder = match &artifact.version {
        Some(version) => format!("{}-{version}", artifact.name),
        None => artifact.name.clone(),
    };
    let dir = artifact_dir.join(file_name(&folder));
    let draft = artifact_dir.join(format!(".draft-{}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
    let handed_out = copy_out(artifact, &draft, store).and_then(|()| replace(&dir, &draft));
    if handed_out.is_err() {
        // What went wrong is told already.
        let _ = sandbox::remove_tree(&draft);
    }
    handed_out
}

fn copy_out(artifact: &ArtifactRef, dir: &Path, store: &Store) -> Result<(), Halt> {
    fs::create_dir_all(dir).map_err(io("make the folder", dir))?;
    for (below, digest, executable) in &artifact.files {
        let name = if below.is_empty() { artifact.path.rsplit('/').next().unwrap_or("file") } else { below };
        let to = dir.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(io("make the folder", parent))?;
        }
        store.copy_to(digest, *executable, &to)?;
    }
    Ok(())
}

/// Puts `draft` in the place of `dir`. Instances of one step may want that at once; the last one stays.
fn replace(dir: &Path, draft: &Path) -> Result<(), Halt> {
    let _one_at_a_time = lock(&REPLACING);
    sandbox::remove_tree(dir).map_err(io("replace the artifact", dir))?;
    fs::rename(draft, dir).map_err(io("replace the artifact", dir))
}

/// One path segment that leads nowhere else, whatever an expression put into a version.
fn file_name(text: &str) -> String {
    let name: String = text.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).take(200).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

fn files_below(tree: &Tree, dir: &str) -> Vec<(String, Digest, bool)> {
    let prefix = join(dir, "");
    let entries = tree.entries().into_iter().filter_map(|(path, entry)| match entry {
        TreeEntry::File { digest, executable } => {
            path.strip_prefix(&prefix).map(|below| (below.to_string(), digest, executable))
        }
        _ => None,
    });
    entries.collect()
}

fn join(dir: &str, below: &str) -> String {
    if dir.is_empty() { below.to_string() } else { format!("{dir}/{below}") }
}

/// `./dist/app/` is `dist/app`.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn absent(what: &str, path: &str, found: Option<&TreeEntry>) -> Halt {
    let why = match found {
        None => format!("is not there: the step wrote no `{path}`"),
        Some(TreeEntry::Symlink { .. }) => format!("is a symbolic link (`{path}`); name the file it points to"),
        Some(_) => format!("is a folder (`{path}`); name a file"),
    };
    Cause::Broken(format!("{what} {why}")).into()
}

/// The pattern that takes in exactly this path.
fn exactly(path: &str) -> Option<Glob> {
    let mut pattern = String::from("/");
    for c in plain(path).chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Glob::parse(&pattern).ok()
}

/// `outputs`, and with them artifacts and reports.
fn with_extras(outputs: &GlobList, spec: &CommandSpec) -> GlobList {
    let paths = spec.artifacts.iter().map(|artifact| &artifact.path).chain(spec.reports.values());
    GlobList(outputs.0.iter().cloned().chain(paths.filter_map(|path| exactly(path))).collect())
}

/// What of a layer the outputs take in, with the directories on the way.
fn narrowed(layer: &Layer, outputs: &GlobList) -> Layer {
    let is_dir = |kind: &LayerKind| matches!(kind, LayerKind::Dir | LayerKind::OpaqueDir);
    let kept: Vec<&str> = layer
        .entries
        .iter()
        .filter(|entry| !is_dir(&entry.kind) && outputs.matches(&entry.path))
        .map(|entry| entry.path.as_str())
        .collect();
    let on_the_way = |dir: &str| {
        let prefix = format!("{dir}/");
        kept.iter().any(|path| path.starts_with(&prefix))
    };
    layer.filter(|entry| outputs.matches(&entry.path) || is_dir(&entry.kind) && on_the_way(&entry.path))
}

/// A pattern without wildcards promises a file or folder.
fn missing_output(spec: &CommandSpec, after: &Tree) -> Option<Halt> {
    let globs = spec.outputs.iter().flat_map(|globs| &globs.0);
    let promised = globs.filter(|glob| !glob.is_negated() && !glob.as_str().contains(['*', '?', '[', '\\']));
    for glob in promised {
        let path = plain(glob.as_str());
        let anywhere = !path.contains('/') && !glob.as_str().starts_with('/');
        let there =
            after.get(&path).is_some() || anywhere && after.entries().iter().any(|(path, _)| glob.matches(path));
        if !there {
            let text = format!(
                "the step ended well but wrote no `{path}`, which its `outputs` promise; write it, or take it out"
            );
            return Some(Cause::Broken(text).into());
        }
    }
    None
}

pub(crate) fn layer_trouble(error: &LayerError) -> Halt {
    match error {
        LayerError::NotUtf8(_) | LayerError::TooLarge(_) | LayerError::Redirected(_) => {
            Cause::Broken(error.to_string()).into()
        }
        LayerError::Malformed(_) | LayerError::Store(_) => trouble(error),
    }
}

/// What two layers have differently, for a person: at most five paths.
pub(crate) fn layer_difference(before: &Layer, now: &Layer) -> Option<String> {
    if before.digest() == now.digest() {
        return None;
    }
    let (before, now) = (Tree::empty().overlay(before), Tree::empty().overlay(now));
    let changes = before.diff(&now);
    let mut paths: Vec<String> = changes.iter().take(5).map(|change| format!("`{}`", change.path)).collect();
    if changes.len() > paths.len() {
        paths.push(format!("{} more", changes.len() - paths.len()));
    }
    Some(if paths.is_empty() { "which files it deletes".to_string() } else { paths.join(", ") })
}

/// The folder of a kept upper directory may be used in place of the layer.
pub(crate) fn place_of(kept: &Kept, upper: PathBuf) -> crate::run::Place {
    if kept.whole { crate::run::Place::Here(upper) } else { crate::run::Place::Stored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_one_step_hand_out_one_artifact_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let out = dir.path().join("out");
        let digest = store.put(b"app").expect("blob");
        let files = (0..20).map(|n| (format!("d{n}/app"), digest, true)).collect();
        let artifact = ArtifactRef { name: "app".into(), version: None, path: "dist".into(), files };
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| (0..10).for_each(|_| hand_out(&artifact, &out, &store).expect("handed out")));
            }
        });
        let names: Vec<_> = fs::read_dir(&out).expect("out").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["app"]);
        assert_eq!(fs::read_dir(out.join("app")).expect("app").count(), 20);
    }
}
