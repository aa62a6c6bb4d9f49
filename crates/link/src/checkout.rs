//! Commits as folders: fetched once, written once, and shared by all runs of a commit while anybody needs them.
//!
//! A folder is the lowest layer of workspaces: nobody writes to it. A run of a commit that is here asks git nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cas::{Snapshot, Tree, TreeEntry};

use crate::config::Config;
use crate::git::{self, Origin};
use crate::lock;

/// Commits as folders.
#[derive(Debug)]
pub(crate) struct Checkouts {
    folder: PathBuf,
    origin: Origin,
    bytes_max: u64,
    /// Counts uses, so that what was not used for longest goes first.
    clock: AtomicU64,
    known: Mutex<HashMap<Key, Known>>,
    /// One for each project, held while git works on its mirror.
    mirrors: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

type Key = (String, String);

#[derive(Debug)]
struct Known {
    checkout: Arc<Checkout>,
    used: u64,
}

/// A commit as a folder. It stays while somebody holds it.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    pub(crate) snapshot: Arc<Snapshot>,
    /// What the names of images mean in it.
    pub(crate) lock: Arc<image::Lock>,
    bytes: u64,
}

impl Checkouts {
    /// Folders of a former process are removed; what git fetched stays.
    ///
    /// # Errors
    /// The folder cannot be made. A sentence.
    pub(crate) fn open(config: &Config) -> Result<Checkouts, String> {
        let folder = config.execution.cache_dir.join("commits");
        let former = folder.join("checked-out");
        if former.exists() {
            let _ = sandbox::remove_tree(&former);
        }
        std::fs::create_dir_all(&former).map_err(|error| format!("cannot make {}: {error}", former.display()))?;
        Ok(Checkouts {
            folder,
            origin: Origin { server: config.server.clone(), ca: config.ca.clone(), identity: config.identity.clone() },
            bytes_max: config.checkout_bytes_max,
            clock: AtomicU64::new(0),
            known: Mutex::default(),
            mirrors: Mutex::default(),
        })
    }

    /// The commit, if it is here.
    pub(crate) fn ready(&self, project: &str, commit: &str) -> Option<Arc<Checkout>> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut known = lock(&self.known);
        let known = known.get_mut(&(project.to_string(), commit.to_string()))?;
        known.used = used;
        Some(known.checkout.clone())
    }

    /// The commit, fetched and written when it is not here. Blocks.
    ///
    /// # Errors
    /// Git or the disk refuses. A sentence.
    pub(crate) fn take(&self, project: &str, commit: &str, credential: &str) -> Result<Arc<Checkout>, String> {
        if !is_project(project) || !is_commit(commit) {
            return Err(format!("`{}` of `{}` is no commit of a project", shown(commit), shown(project)));
        }
        let mirror = lock(&self.mirrors).entry(project.to_string()).or_default().clone();
        let _one_at_a_time = lock(&mirror);
        if let Some(ready) = self.ready(project, commit) {
            return Ok(ready);
        }
        let checkout = self
            .make(project, commit, credential)
            .map_err(|why| format!("cannot check out commit {} of `{project}`: {why}", &commit[..12]))?;
        let checkout = Arc::new(checkout);
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let known = Known { checkout: checkout.clone(), used };
        lock(&self.known).insert((project.to_string(), commit.to_string()), known);
        self.evict();
        Ok(checkout)
    }

    fn make(&self, project: &str, commit: &str, credential: &str) -> Result<Checkout, String> {
        let name = project.replace('/', "+");
        let mirror = self.folder.join("git").join(&name);
        git::init(&mirror)?;
        if !git::has(&mirror, commit) {
            git::fetch(&mirror, &self.origin, project, commit, credential)?;
        }
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        let root = self.folder.join("checked-out").join(format!("{name}-{}-{number}", &commit[..12]));
        let made = std::fs::create_dir(&root).map_err(|error| format!("cannot make {}: {error}", root.display()));
        let checkout = made.and_then(|()| written(&mirror, commit, root.clone()));
        if checkout.is_err() {
            let _ = sandbox::remove_tree(&root);
        }
        checkout
    }

    /// Removes those that were not used for longest and that nobody holds, until the rest is small enough.
    fn evict(&self) {
        let mut gone = Vec::new();
        {
            let mut known = lock(&self.known);
            let mut bytes: u64 = known.values().map(|known| known.checkout.bytes).sum();
            while bytes > self.bytes_max {
                let free = known.iter().filter(|(_, known)| Arc::strong_count(&known.checkout) == 1);
                let Some(key) = free.min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone()) else { break };
                if let Some(known) = known.remove(&key) {
                    bytes -= known.checkout.bytes;
                    gone.push(known.checkout.root.clone());
                }
            }
        }
        for root in gone {
            // What cannot be removed goes with the next start.
            let _ = sandbox::remove_tree(&root);
        }
    }
}

fn written(mirror: &Path, commit: &str, root: PathBuf) -> Result<Checkout, String> {
    let paths = git::check_out(mirror, commit, &root, &root.with_extension("index"))?;
    let snapshot = Snapshot::of_still(&root, paths).map_err(|error| error.to_string())?;
    let lock = image::Lock::read(&root.join(image::LOCK_FILE)).map_err(|error| error.to_string())?;
    let bytes = bytes_of(&snapshot.tree);
    Ok(Checkout { root, snapshot: Arc::new(snapshot), lock: Arc::new(lock), bytes })
}

/// What it takes on the disk, with a block for each file.
fn bytes_of(tree: &Tree) -> u64 {
    let sizes = tree.entries().into_iter().map(|(_, entry)| match entry {
        TreeEntry::File { digest, .. } => digest.size.next_multiple_of(4096),
        _ => 4096,
    });
    sizes.sum()
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Letters, digits, `-`, `_`, `.` and `/`, and no way out.
fn is_project(text: &str) -> bool {
    let is_segment = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    text.len() <= 200 && text.split('/').all(is_segment)
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_projects() {
        assert!(is_project("web") && is_project("team/web-1.x_y"));
        for bad in ["", "..", "a/../b", "/a", "a/", "a b", "-x", ".git", "a\n", "a%2f"] {
            assert!(!is_project(bad), "{bad:?}");
        }
        assert!(is_commit(&"a1".repeat(20)) && !is_commit("--upload-pack=x") && !is_commit("main"));
    }
}
