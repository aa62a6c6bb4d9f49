//! Where artifacts are kept: by content, apart from the cache, which may drop what it has.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blobs::{Blobs, Key};
use model::Digest;

/// Artifacts by their content. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
    cache: Blobs,
}

impl Archive {
    /// The archive in `folder`, made when the first artifact comes; what it keeps comes from `cache`.
    pub fn new(folder: &Path, cache: Blobs) -> Archive {
        Archive { folder: folder.into(), cache }
    }

    /// Keeps these files for good. They are durable once this returns. Blocks.
    ///
    /// # Errors
    /// One of them is not in the cache, or the disk refuses. A sentence.
    pub fn keep(&self, files: impl Iterator<Item = Digest>) -> Result<(), String> {
        for digest in files {
            let path = self.path(&digest);
            if !path.exists() {
                self.copy(&digest, &path).map_err(|error| format!("{digest}: {error}"))?;
            }
        }
        Ok(())
    }

    /// A kept file.
    ///
    /// # Errors
    /// It is not kept, or cannot be read.
    pub fn open(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// Drops what `wanted` does not name. Returns how many files went and their bytes. What was made a moment ago stays: its
    /// result may not be in the store yet.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep(&self, wanted: &mut dyn FnMut(&str) -> bool, young: std::time::Duration) -> io::Result<(u64, u64)> {
        let mut gone = (0, 0);
        for folder in read_dir(&self.folder)? {
            for file in read_dir(&folder.path())? {
                let known = file.metadata()?;
                let is_young = known.modified()?.elapsed().is_ok_and(|age| age < young);
                if is_young || file.file_name().to_str().is_some_and(&mut *wanted) {
                    continue;
                }
                fs::remove_file(file.path())?;
                gone = (gone.0 + 1, gone.1 + known.len());
            }
        }
        Ok(gone)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// Under another name first: what has its name is whole.
    fn copy(&self, digest: &Digest, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let mut from = self.cache.reader(&Key::from(*digest), 0, None).map_err(io::Error::other)?;
        let mut to = tempfile_in(folder)?;
        for part in &mut from {
            to.1.write_all(&part.map_err(io::Error::other)?)?;
        }
        to.1.sync_all()?;
        fs::rename(&to.0, path)?;
        File::open(folder)?.sync_all()
    }
}

fn read_dir(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A file whose name nobody else has in this process or another; swept like any other that nobody names.
fn tempfile_in(folder: &Path) -> io::Result<(PathBuf, File)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!(".{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let file = File::create(&path)?;
    Ok((path, file))
}
