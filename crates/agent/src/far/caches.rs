//! Named caches from the shared cache: a snapshot is fetched once for a key, and is a cache of this machine from then on.

use std::path::{Path, PathBuf};

use cas::shared::{self, CacheName};
use cas::{Layer, NamedCaches};
use model::CacheSpec;

use super::{Far, Wanted};
use crate::run::lock;

/// A named cache as a step asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whose caches these are there.
    pub(crate) scope: String,
    /// Whose they are here.
    pub(crate) scope_here: String,
    pub(crate) key: String,
    pub(crate) fallback: Vec<String>,
}

impl Asked {
    pub(crate) fn new(cache: &CacheSpec, scope: &str, scope_here: &str) -> Asked {
        let (scope, scope_here) = (scope.to_string(), scope_here.to_string());
        Asked { scope, scope_here, key: cache.key.clone(), fallback: cache.fallback.clone() }
    }

    /// What a key is called among the caches here.
    pub(crate) fn here(&self, key: &str) -> String {
        format!("{}\n{key}", self.scope_here)
    }
}

impl Far {
    /// Brings the snapshot of the key, or of a fallback when there is nothing `to_begin_with` here. Whether one came.
    pub(crate) fn bring_cache(&self, named: &NamedCaches, asked: &Asked, to_begin_with: bool, folder: &Path) -> bool {
        if !self.reads {
            return false;
        }
        // Instances of a matrix ask for the same at once: the first one brings it for all.
        let _one_at_a_time = lock(&self.bringing);
        if named.open(&asked.here(&asked.key), &[]).is_ok_and(|lease| lease.exact) {
            return true;
        }
        let exactly = |key: &str| key == asked.key;
        if let Some(came) = self.snapshot(named, asked, &asked.key, exactly, folder) {
            return came;
        }
        let mut fallback = asked.fallback.iter().filter(|_| !to_begin_with);
        let begins =
            |prefix: &String| self.snapshot(named, asked, prefix, |key| key.starts_with(prefix.as_str()), folder);
        fallback.find_map(begins).unwrap_or(false)
    }

    /// Whether the snapshot under a name came; `None` when there is none.
    fn snapshot(
        &self,
        named: &NamedCaches,
        asked: &Asked,
        name: &str,
        is_meant: impl Fn(&str) -> bool,
        folder: &Path,
    ) -> Option<bool> {
        let digest = CacheName::new(&asked.scope, name).digest;
        let answer = self.remote.action(&digest, None).ok()??;
        let came = shared::receive_cache(&answer).and_then(|(key, manifest)| {
            if !is_meant(&key) {
                return Err("it is that of another key");
            }
            self.fetch(std::iter::once(Wanted::plain(&manifest))).map_err(|_| "its manifest is not to be had")?;
            let layer = Layer::load(&manifest, &self.store).map_err(|_| "its manifest is none")?;
            shared::check_layer(&layer)?;
            self.fetch_layer(&layer).map_err(|_| "its files are not to be had")?;
            let dir = self.fresh(folder);
            let adopted = layer
                .restore(&self.store, &dir)
                .map_err(|_| "it cannot be restored")
                .and_then(|()| named.adopt(&asked.here(&key), dir.clone()).map_err(|_| "it cannot be kept"));
            if adopted.is_err() {
                // Half of it is worth nothing.
                let _ = sandbox::remove_tree(&dir);
            }
            adopted
        });
        if let Err(why) = came {
            self.note(format!("the shared snapshot of cache `{}` was not used: {why}", asked.key));
        }
        Some(came.is_ok())
    }

    fn fresh(&self, folder: &Path) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        folder.join(format!("cache-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }
}
