//! Named caches of an attempt: where they are seen, and the overlays that make them so.

use std::path::{Component, Path, PathBuf};

use cas::Lease;
use model::{CacheSpec, Cause};
use sandbox::Overlay;

use crate::ground::Ground;
use crate::halt::Halt;
use crate::room::Room;
use crate::workspace::{WORKSPACE, make_dirs, work_dir};

/// A named cache in use.
#[derive(Debug)]
pub(crate) struct CacheUse {
    pub(crate) lease: Lease,
    pub(crate) upper: PathBuf,
    pub(crate) key: String,
    /// What to upload when the step has succeeded.
    pub(crate) share: Option<crate::far::Asked>,
}

/// Where a cache is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CachePlace {
    /// Below the workspace.
    Workspace(PathBuf),
    /// Below the home.
    Home(PathBuf),
    /// Anywhere else.
    Absolute(PathBuf),
}

/// Reads the `path` of a cache.
pub(crate) fn cache_place(cache: &CacheSpec, ground: Ground<'_>) -> Result<CachePlace, Cause> {
    let home = ground.home();
    let refuse = |why: &str| Cause::Refused(format!("the cache path `{}` {why}", cache.path));
    let path = match cache.path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(&cache.path),
    };
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("has `..` in it; write where it leads to"));
    }
    let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    let place = if let Ok(below) = plain.strip_prefix(home) {
        CachePlace::Home(below.to_path_buf())
    } else if let Ok(below) = plain.strip_prefix(WORKSPACE) {
        CachePlace::Workspace(below.to_path_buf())
    } else if plain.is_relative() {
        CachePlace::Workspace(plain)
    } else {
        CachePlace::Absolute(plain)
    };
    match &place {
        CachePlace::Workspace(below) | CachePlace::Home(below) if below.as_os_str().is_empty() => {
            Err(refuse("is the whole workspace or home; name a folder in it"))
        }
        // In an image the place is made; the host is not ours to write to.
        CachePlace::Absolute(path) if ground.has_private_home() && !path.starts_with("/tmp") && !path.is_dir() => {
            Err(refuse("does not exist on this host; use one below `~/`, `/tmp/` or the workspace"))
        }
        _ => Ok(place),
    }
}

/// The caches of one attempt, ready to be mounted.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    pub(crate) overlays: Vec<Overlay>,
    /// The workspace's lower directory in which the mount points exist.
    pub(crate) points: Option<PathBuf>,
    pub(crate) used: Vec<CacheUse>,
}

/// Makes overlays of the caches, and mount points where these have to exist beforehand.
pub(crate) fn mount_caches(
    room: &Room,
    caches: Vec<(CachePlace, CacheUse)>,
    ground: Ground<'_>,
) -> Result<Caches, Halt> {
    let mut mounted = Caches::default();
    for (number, (place, cache)) in caches.into_iter().enumerate() {
        let at = match place {
            // A mount point made by the mount would stand in the upper directory and be captured.
            CachePlace::Workspace(below) => {
                let dir = room.path.join("points");
                make_dirs(&dir.join(&below))?;
                mounted.points = Some(dir);
                Path::new(WORKSPACE).join(below)
            }
            CachePlace::Home(below) => {
                if ground.has_private_home() {
                    make_dirs(&room.home().join(&below))?;
                }
                ground.home().join(below)
            }
            CachePlace::Absolute(path) => path,
        };
        let mut lower = cache.lease.lowers.clone();
        if lower.is_empty() {
            let empty = room.path.join("empty");
            make_dirs(&empty)?;
            lower.push(empty);
        }
        let work = work_dir(&room.path, &format!("cache-{number}-work"))?;
        mounted.overlays.push(Overlay { at, lower, upper: cache.upper.clone(), work });
        mounted.used.push(cache);
    }
    Ok(mounted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    fn place(path: &str) -> Result<CachePlace, Cause> {
        let cache = CacheSpec { path: path.into(), key: "k".into(), fallback: Vec::new() };
        let host = Host { home: "/home/me".into(), ..Host::default() };
        cache_place(&cache, Ground::Host(&host))
    }

    #[test]
    fn a_cache_path_says_where_it_lies() {
        assert_eq!(place("~/go/pkg"), Ok(CachePlace::Home("go/pkg".into())));
        assert_eq!(place("/home/me/x"), Ok(CachePlace::Home("x".into())));
        assert_eq!(place("./target/"), Ok(CachePlace::Workspace("target".into())));
        assert_eq!(place("/workspace/a"), Ok(CachePlace::Workspace("a".into())));
        assert_eq!(place("/tmp/x"), Ok(CachePlace::Absolute("/tmp/x".into())));
        for bad in ["../x", "~/../x", "~/", ".", "/no/such/folder"] {
            assert!(matches!(place(bad), Err(Cause::Refused(_))), "{bad}");
        }
    }
}
