//! Unpacked layers below the cache folder: one folder for each, by the sum of its tar, shared by all steps and images.
//!
//! `layers/<owners>/<sum>/` holds `fs`, the overlay's lower directory, and `pin`: a file whose text is the size, whose
//! time of change is the last use, and which everybody who uses the layer has locked. The kernel drops that lock when
//! the process ends, however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cas::Scratch;

use crate::error::io_error;
use crate::registry::Stop;
use crate::{ImageError, Owners, Sum};

/// Times of use are written again only when they are older than this.
const RENEW_AFTER: Duration = Duration::from_secs(60);
/// Downloads that nobody went on with for so long are litter.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);
/// How often somebody who waits for another's download looks again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The folder of all unpacked layers.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    cache: PathBuf,
    root: PathBuf,
    owners: Owners,
}

/// An unpacked layer that stays as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    pub fs: PathBuf,
    _pin: File,
}

/// What images take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of the files in them.
    pub layer_bytes: u64,
    /// Bytes of downloads that were not finished.
    pub partial_bytes: u64,
}

/// What may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// At most so many bytes of unpacked layers.
    pub bytes_max: Option<u64>,
    /// No layer that was not used for so long.
    pub age_max: Option<Duration>,
}

/// What went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Layers that went.
    pub layers: u64,
    /// Bytes freed, unfinished downloads included.
    pub bytes: u64,
    /// Bytes of layers that stay.
    pub bytes_left: u64,
    /// Layers that had to stay because they are in use.
    pub pinned: u64,
}

impl Layers {
    pub fn open(cache: &Path, owners: Owners) -> Result<Layers, ImageError> {
        let layers = Layers { cache: cache.to_path_buf(), root: cache.join("images"), owners };
        for folder in [layers.folder(), layers.root.join("partial"), layers.root.join("locks")] {
            fs::create_dir_all(&folder).map_err(io_error("make folder", &folder))?;
        }
        Ok(layers)
    }

    /// A layer that is there already.
    pub fn hold(&self, sum: &Sum) -> Option<Held> {
        let folder = self.folder().join(sum.hex());
        let path = folder.join("pin");
        let pin = File::open(&path).ok()?;
        pin.try_lock_shared().ok()?;
        // Between opening and locking, a collection may have taken it away.
        let meta = pin.metadata().ok()?;
        let there = fs::metadata(&path).ok()?;
        if (meta.dev(), meta.ino()) != (there.dev(), there.ino()) {
            return None;
        }
        renew(&pin);
        Some(Held { fs: folder.join("fs"), _pin: pin })
    }

    /// A layer, made by `make` in the folder it is given, which is not there yet, unless somebody else makes it first.
    /// `make` returns the bytes of its files.
    pub fn hold_or_make(
        &self,
        sum: &Sum,
        stop: Stop<'_>,
        make: impl FnOnce(&Path) -> Result<u64, ImageError>,
    ) -> Result<Held, ImageError> {
        if let Some(held) = self.hold(sum) {
            return Ok(held);
        }
        let _lock = self.lock(&sum.hex(), stop)?;
        if let Some(held) = self.hold(sum) {
            return Ok(held);
        }
        let scratch = Scratch::open(&self.cache)?;
        let beside = scratch.path().join("layer");
        fs::create_dir(&beside).map_err(io_error("make folder", &beside))?;
        let bytes = make(&beside.join("fs"))?;
        let pin = beside.join("pin");
        fs::write(&pin, bytes.to_string()).map_err(io_error("write", &pin))?;
        let to = self.folder().join(sum.hex());
        loop {
            let placed = match fs::rename(&beside, &to) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => false,
                renamed => renamed.map(|()| true).map_err(io_error("put in place", &to))?,
            };
            // When one is there already, a collection may only have looked at it as we came.
            if let Some(held) = self.hold(sum) {
                return Ok(held);
            }
            if placed {
                return Err(io_error("use", &to)(io::Error::other("it was removed at once")));
            }
            if File::open(to.join("pin")).map_or(true, |pin| pin.try_lock().is_ok()) {
                // Without a pin nobody can use it: what a crash left of it makes room.
                let _ = fs::rename(&to, scratch.path().join("lost"));
            }
            if stop() {
                return Err(ImageError::Stopped);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until nobody else has the lock of this name.
    pub fn lock(&self, name: &str, stop: Stop<'_>) -> Result<File, ImageError> {
        self.lock_file(&self.root.join("locks").join(name), stop)
    }

    /// The beginning of a download, or an empty file; nobody else writes it as long as it is open.
    pub fn partial(&self, sum: &Sum, stop: Stop<'_>) -> Result<(File, PathBuf), ImageError> {
        let path = self.root.join("partial").join(sum.hex());
        Ok((self.lock_file(&path, stop)?, path))
    }

    /// Where small documents (manifests, indexes, configs) are kept.
    pub fn document(&self, sum: &Sum) -> PathBuf {
        self.root.join("documents").join(sum.hex())
    }

    pub fn usage(&self) -> Usage {
        let layers = self.look();
        let partial = fs::read_dir(self.root.join("partial")).into_iter().flatten().flatten();
        Usage {
            layers: layers.len() as u64,
            layer_bytes: layers.iter().map(|layer| layer.bytes).sum(),
            partial_bytes: partial.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum(),
        }
    }

    /// Drops the least recently used layers until `keep` holds, except those in use, and litter.
    pub fn gc(&self, keep: Keep, now: SystemTime, dry_run: bool) -> Result<Kept, ImageError> {
        let mut layers = self.look();
        layers.sort_by_key(|layer| layer.used);
        let mut kept = Kept { bytes_left: layers.iter().map(|layer| layer.bytes).sum(), ..Kept::default() };
        let oldest = keep.age_max.and_then(|age| now.checked_sub(age));
        // Dropped with its folder: one removal for all, and a killed one is swept by the next process.
        let scratch = if dry_run { None } else { Some(Scratch::open(&self.cache)?) };
        for layer in layers {
            let too_old = oldest.is_some_and(|oldest| layer.used < oldest);
            let too_much = keep.bytes_max.is_some_and(|bytes_max| kept.bytes_left > bytes_max);
            if !too_old && !too_much {
                continue;
            }
            let Some(_alone) = layer.alone() else {
                kept.pinned += 1;
                continue;
            };
            let gone = scratch.as_ref().is_none_or(|scratch| {
                layer.path.file_name().is_some_and(|name| fs::rename(&layer.path, scratch.path().join(name)).is_ok())
            });
            if gone {
                kept.layers += 1;
                kept.bytes += layer.bytes;
                kept.bytes_left -= layer.bytes;
            }
        }
        kept.bytes += self.litter(now, oldest, dry_run);
        Ok(kept)
    }

    /// Downloads that nobody goes on with, locks that nobody has, documents that nobody asked for.
    fn litter(&self, now: SystemTime, oldest: Option<SystemTime>, dry_run: bool) -> u64 {
        let old = now.checked_sub(LITTER_AGE).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut bytes = 0;
        for (folder, before) in [("partial", Some(old)), ("locks", Some(old)), ("documents", oldest)] {
            let Some(before) = before else { continue };
            for entry in fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let free = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
                if meta.modified().is_ok_and(|used| used < before) && free() {
                    bytes += meta.len();
                    if !dry_run {
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
        }
        bytes
    }

    fn folder(&self) -> PathBuf {
        // One cache folder may be used with and without root, and the layers differ.
        let owners = match self.owners {
            Owners::Mine => "mine".to_owned(),
            Owners::Above(base) => format!("above-{base}"),
        };
        self.root.join("layers").join(owners)
    }

    fn look(&self) -> Vec<Layer> {
        let layer = |entry: fs::DirEntry| {
            let pin = fs::metadata(entry.path().join("pin")).ok()?;
            let bytes = fs::read_to_string(entry.path().join("pin")).ok()?.parse().ok()?;
            Some(Layer { path: entry.path(), bytes, used: pin.modified().ok()? })
        };
        fs::read_dir(self.folder()).into_iter().flatten().flatten().filter_map(layer).collect()
    }

    fn lock_file(&self, path: &Path, stop: Stop<'_>) -> Result<File, ImageError> {
        loop {
            let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let file = file.map_err(io_error("open", path))?;
            while file.try_lock().is_err() {
                if stop() {
                    return Err(ImageError::Stopped);
                }
                std::thread::sleep(LOOK_EVERY);
            }
            let (ours, there) = (file.metadata().map_err(io_error("look at", path))?, fs::metadata(path));
            // Whoever had it may have taken the file away; then ours is nobody's.
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(file);
            }
        }
    }
}

/// Marks a file as used now, unless it was only just.
pub(crate) fn renew(file: &File) {
    let now = SystemTime::now();
    let used = file.metadata().and_then(|meta| meta.modified());
    if used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > RENEW_AFTER)) {
        // Failing costs at most an earlier eviction.
        let _ = file.set_modified(now);
    }
}

struct Layer {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Layer {
    /// Nobody uses it, and nobody can begin to as long as this lives.
    fn alone(&self) -> Option<File> {
        let pin = File::open(self.path.join("pin")).ok()?;
        pin.try_lock().ok()?;
        Some(pin)
    }
}
