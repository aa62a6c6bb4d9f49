//! Where `pace` keeps what it keeps: the cache (may be lost) and the state (history, keys).

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The user's folders.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Blobs, action results, named caches, scratch. Everything in it can be made again.
    pub cache: PathBuf,
    /// History of runs, logs, artifacts, the key of secret versions.
    pub state: PathBuf,
}

impl Folders {
    /// `PACE_CACHE_DIR` and `PACE_STATE_DIR`, else the XDG base directories.
    pub fn find() -> Result<Folders, Failure> {
        let folder = |own: &str, xdg: &str, below_home: &str| {
            let from =
                |name: &str| std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
            from(own)
                .or_else(|| from(xdg).map(|base| base.join("paceline")))
                .or_else(|| from("HOME").map(|home| home.join(below_home).join("paceline")))
                .ok_or_else(|| {
                    Failure::usage(format!(
                        "there is no place for {below_home}: neither {own} nor HOME is an absolute path"
                    ))
                })
        };
        Ok(Folders {
            cache: folder("PACE_CACHE_DIR", "XDG_CACHE_HOME", ".cache")?,
            state: folder("PACE_STATE_DIR", "XDG_STATE_HOME", ".local/state")?,
        })
    }
}
