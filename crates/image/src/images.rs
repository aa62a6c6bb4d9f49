//! Images by name: what a name stands for, and its layers ready to be mounted.

mod carry;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use cas::{Pin, Store};
use model::{Digest, RunId};

use crate::document::{self, CONFIG_BYTES_MAX, Document, MANIFEST_BYTES_MAX, printable};
use crate::error::{io_error, malformed};
use crate::layers::{Held, Layers};
use crate::local::Local;
use crate::registry::{Registry, Stop};
use crate::{
    Bounds, Credentials, ImageConfig, ImageError, Keep, Kept, Lock, Manifest, Name, Owners, Platform, Reference, Sum,
    Usage,
};

/// Layers that are fetched and unpacked at once: more only fight for the disk.
const LAYERS_AT_ONCE: usize = 4;
/// Indexes within indexes.
const INDEX_DEPTH_MAX: usize = 3;
/// One stored layer.
const LAYER_BYTES_MAX: u64 = 32 << 30;

/// How images are fetched.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we are.
    pub credentials: Credentials,
    /// Registries (`host` or `host:port`) that are spoken to without encryption. This machine's own always are.
    pub insecure: BTreeSet<String>,
    /// For which machine.
    pub platform: Platform,
    /// What relative paths in references are relative to.
    pub root: PathBuf,
    /// To whom unpacked files belong.
    pub owners: Owners,
    /// What a layer may be.
    pub bounds: Bounds,
}

impl Options {
    /// For this machine and this user, knowing nobody.
    pub fn new(root: &Path) -> Options {
        Options {
            credentials: Credentials::none(),
            insecure: BTreeSet::new(),
            platform: Platform::here(),
            root: root.to_path_buf(),
            owners: Owners::here(),
            bounds: Bounds::default(),
        }
    }
}

/// Whoever waits for an image: hears what happens and may ask to stop. Called from several threads.
pub trait Watch: Sync {
    /// Something happened.
    fn progress(&self, progress: Progress);
    /// Looked at every few hundredths of a second.
    fn is_stopped(&self) -> bool;
}

/// What happens while an image is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many layers are not there yet, and so many bytes of them would have to be fetched.
    Begun {
        /// Layers to unpack.
        layers: usize,
        /// Bytes to fetch.
        bytes: u64,
    },
    /// So many more bytes arrived.
    Fetched(u64),
    /// One more layer is ready.
    Unpacked(Sum),
    /// What a person should know about a layer.
    Note(String),
}

/// What a name stands for, on one kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name.
    pub reference: Reference,
    /// What the name stands for: an index of several machines' images, or the image itself. This is what a lock keeps.
    pub sum: Sum,
    /// The image for this machine.
    pub manifest: Digest,
}

/// An image whose layers are ready. They stay as long as this lives.
#[derive(Debug)]
pub struct Image {
    /// Of the manifest.
    pub digest: Digest,
    /// Lower directories of an overlay, the topmost first.
    pub layers: Vec<PathBuf>,
    /// How its programs are run.
    pub config: ImageConfig,
    _held: Vec<Arc<Held>>,
}

/// All images of a cache folder.
#[derive(Debug)]
pub struct Images {
    cache: PathBuf,
    options: Options,
    registry: Registry,
    store: Store,
    layers: Layers,
}

impl Images {
    /// Opens or makes the images below the cache folder.
    ///
    /// # Errors
    /// The folder cannot be made or is not writable.
    pub fn open(cache: &Path, options: Options) -> Result<Images, ImageError> {
        Ok(Images {
            cache: cache.to_path_buf(),
            registry: Registry::new(options.credentials.clone(), options.insecure.clone()),
            store: Store::open(cache)?,
            layers: Layers::open(cache, options.owners)?,
            options,
        })
    }

    /// What a name stands for: by its own digest, else by the lock, else by asking the registry. With a digest or a lock,
    /// and once the image was fetched, nobody is asked.
    ///
    /// # Errors
    /// There is no such image, none for this machine, or the lock says otherwise than the name.
    pub fn resolve(&self, reference: &Reference, lock: &Lock, watch: &dyn Watch) -> Result<Resolved, ImageError> {
        self.resolve_for(reference, &self.options.platform, lock, &|| watch.is_stopped())
    }

    /// What a name stands for now, whatever is locked: for `lock`.
    ///
    /// # Errors
    /// There is no such image, or none for this machine.
    pub fn resolve_anew(&self, reference: &Reference, watch: &dyn Watch) -> Result<Resolved, ImageError> {
        self.resolve(reference, &Lock::empty(), watch)
    }

    /// Makes the layers ready: fetches, verifies and unpacks what is missing. Callers who want one image at once wait for
    /// one another, also in other processes. What a stopped or killed fetch has done, the next one need not do again.
    ///
    /// # Errors
    /// What came is not what it should be, a layer is refused, or the registry or the file system refuses.
    pub fn fetch(&self, resolved: &Resolved, watch: &dyn Watch) -> Result<Image, ImageError> {
        let stop = &|| watch.is_stopped();
        let source = self.source(&resolved.reference)?;
        let manifest = self.manifest(&source, resolved, stop)?;
        let config = self.config(&source, &manifest, stop)?;
        let (config, diff_ids) = document::read_config(&config, manifest.layers.len())?;
        let held = self.layers(&source, &manifest, &diff_ids, watch)?;
        let layers = held.iter().rev().map(|held| held.fs.clone()).collect();
        Ok(Image { digest: resolved.manifest, layers, config, _held: held })
    }

    /// How its programs are run, without fetching its layers.
    ///
    /// # Errors
    /// As for [`Images::fetch`].
    pub fn config_of(&self, resolved: &Resolved, watch: &dyn Watch) -> Result<ImageConfig, ImageError> {
        let stop = &|| watch.is_stopped();
        let source = self.source(&resolved.reference)?;
        let manifest = self.manifest(&source, resolved, stop)?;
        Ok(document::read_config(&self.config(&source, &manifest, stop)?, manifest.layers.len())?.0)
    }

    /// A locked image that needs nothing any more: nobody is asked, nothing is fetched or unpacked.
    pub fn here(&self, reference: &Reference, lock: &Lock) -> Option<Image> {
        let sum = reference.name().and_then(|name| name.sum).or_else(|| lock.sum(reference))?;
        let mut digest = sum;
        let mut bytes = self.kept_document(&digest, MANIFEST_BYTES_MAX)?;
        for _ in 0..INDEX_DEPTH_MAX {
            let manifest = match document::read(&bytes, "").ok()? {
                Document::Manifest(manifest) => manifest,
                Document::Index(index) => {
                    digest = document::choose(&index, &self.options.platform, "").ok()?.digest("").ok()?.into();
                    bytes = self.kept_document(&digest, MANIFEST_BYTES_MAX)?;
                    continue;
                }
            };
            let config = self.kept_document(&manifest.config.into(), CONFIG_BYTES_MAX)?;
            let (config, diff_ids) = document::read_config(&config, manifest.layers.len()).ok()?;
            let held = diff_ids.iter().map(|id| self.layers.hold(id).map(Arc::new)).collect::<Option<Vec<_>>>()?;
            let layers = held.iter().rev().map(|held| held.fs.clone()).collect();
            return Some(Image { digest: digest.sized(bytes.len() as u64), layers, config, _held: held });
        }
        None
    }

    /// What images take on the disk.
    pub fn usage(&self) -> Usage {
        self.layers.usage()
    }

    /// Drops the least recently used layers until `keep` holds, except those in use, and litter.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn gc(&self, keep: Keep, now: SystemTime, dry_run: bool) -> Result<Kept, ImageError> {
        self.layers.gc(keep, now, dry_run)
    }

    fn source(&self, reference: &Reference) -> Result<Source, ImageError> {
        Ok(match reference {
            Reference::Registry(name) => Source::Registry(name.clone()),
            local => Source::Local(Local::open(&self.options.root, local)?),
        })
    }

    fn resolve_for(
        &self,
        reference: &Reference,
        platform: &Platform,
        lock: &Lock,
        stop: Stop<'_>,
    ) -> Result<Resolved, ImageError> {
        let source = self.source(reference)?;
        let (sum, bytes) = self.whole(&source, reference, lock, stop)?;
        let manifest = self.for_platform(&source, reference, platform, sum, bytes, stop)?;
        Ok(Resolved { reference: reference.clone(), sum, manifest })
    }

    /// What a name stands for: an index or an image.
    fn whole(
        &self,
        source: &Source,
        reference: &Reference,
        lock: &Lock,
        stop: Stop<'_>,
    ) -> Result<(Sum, Vec<u8>), ImageError> {
        let locked = lock.sum(reference);
        let named = reference.name().and_then(|name| name.sum);
        if let (Some(named), Some(locked)) = (named, locked)
            && named != locked
        {
            let why = format!("{reference} is locked to {locked}; run `pace image lock` to lock it again");
            return Err(ImageError::Lock { file: crate::LOCK_FILE.into(), why });
        }
        Ok(match (named.or(locked), source) {
            (Some(sum), Source::Registry(_)) => (sum, self.document(source, &sum, stop)?),
            (_, Source::Registry(name)) => {
                let fetched = self.registry.manifest(name, &name.version(), stop)?;
                self.keep_document(&fetched.sum, &fetched.bytes)?;
                (fetched.sum, fetched.bytes)
            }
            (locked, Source::Local(local)) => {
                let sum = local.sum();
                if let Some(locked) = locked.filter(|locked| *locked != sum) {
                    let why = format!(
                        "{reference} is locked to {locked} but is {sum} now; run `pace image lock` if it may be"
                    );
                    return Err(ImageError::Lock { file: crate::LOCK_FILE.into(), why });
                }
                (sum, self.document(source, &sum, stop)?)
            }
        })
    }

    /// Follows indexes to the image for a machine.
    fn for_platform(
        &self,
        source: &Source,
        reference: &Reference,
        platform: &Platform,
        mut sum: Sum,
        mut bytes: Vec<u8>,
        stop: Stop<'_>,
    ) -> Result<Digest, ImageError> {
        let what = reference.to_string();
        for _ in 0..INDEX_DEPTH_MAX {
            let chosen = match document::read(&bytes, &what)? {
                Document::Manifest(_) => return Ok(sum.sized(bytes.len() as u64)),
                Document::Index(index) => document::choose(&index, platform, &what)?.digest(&what)?,
            };
            sum = chosen.into();
            bytes = self.document(source, &sum, stop)?;
        }
        Err(malformed(what, "its index lists indexes that list indexes"))
    }

    fn manifest(&self, source: &Source, resolved: &Resolved, stop: Stop<'_>) -> Result<Manifest, ImageError> {
        let what = resolved.reference.to_string();
        match document::read(&self.document(source, &resolved.manifest.into(), stop)?, &what)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(malformed(what, "it is an index where an image was")),
        }
    }

    /// A manifest or an index, kept from last time or fetched.
    fn document(&self, source: &Source, sum: &Sum, stop: Stop<'_>) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.kept_document(sum, MANIFEST_BYTES_MAX) {
            return Ok(bytes);
        }
        let bytes = match source {
            Source::Registry(name) => self.registry.manifest(name, &sum.to_string(), stop)?.bytes,
            Source::Local(local) => local.document(sum, MANIFEST_BYTES_MAX)?,
        };
        self.keep_document(sum, &bytes)?;
        Ok(bytes)
    }

    fn config(&self, source: &Source, manifest: &Manifest, stop: Stop<'_>) -> Result<Vec<u8>, ImageError> {
        let sum = Sum::from(manifest.config);
        if let Some(bytes) = self.kept_document(&sum, CONFIG_BYTES_MAX) {
            return Ok(bytes);
        }
        let bytes = match source {
            Source::Registry(name) => self.registry.small_blob(name, &manifest.config, CONFIG_BYTES_MAX, stop)?,
            Source::Local(local) => local.document(&sum, CONFIG_BYTES_MAX)?,
        };
        self.keep_document(&sum, &bytes)?;
        Ok(bytes)
    }

    fn kept_document(&self, sum: &Sum, bytes_max: usize) -> Option<Vec<u8>> {
        let path = self.layers.document(sum);
        let file = File::open(&path).ok()?;
        let bytes = crate::registry::read_at_most(&file, bytes_max as u64).ok()??;
        // Not synced when it was written: after a power loss it may be torn.
        if Sum::of(&bytes) != *sum {
            let _ = fs::remove_file(&path);
            return None;
        }
        crate::layers::renew(&file);
        Some(bytes)
    }

    /// In the store too, where other machines that share it find it.
    fn keep_document(&self, sum: &Sum, bytes: &[u8]) -> Result<(), ImageError> {
        let digest = self.store.put(bytes)?;
        let to = self.layers.document(sum);
        let parent = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(io_error("make folder", parent))?;
        // A file of its own, because its time of change says when it was last asked for.
        let beside = to.with_extension(format!("{}.{:?}", std::process::id(), std::thread::current().id()));
        let _ = fs::remove_file(&beside);
        self.store.copy_to(&digest, false, &beside)?;
        fs::rename(&beside, &to).map_err(io_error("write", &to))
    }

    /// All layers, the lowest first, several at once.
    fn layers(
        &self,
        source: &Source,
        manifest: &Manifest,
        diff_ids: &[Sum],
        watch: &dyn Watch,
    ) -> Result<Vec<Arc<Held>>, ImageError> {
        let slots: Vec<Mutex<Option<Arc<Held>>>> =
            diff_ids.iter().map(|sum| Mutex::new(self.layers.hold(sum).map(Arc::new))).collect();
        let is_missing = |at: &usize| slots[*at].lock().is_ok_and(|slot| slot.is_none());
        let missing: Vec<usize> = (0..slots.len()).filter(is_missing).collect();
        if !missing.is_empty() {
            let absent = missing.iter().map(|at| &manifest.layers[*at]).filter(|blob| !self.store.has(blob));
            watch.progress(Progress::Begun { layers: missing.len(), bytes: absent.map(|blob| blob.size).sum() });
            self.make_layers(&missing, source, manifest, diff_ids, &slots, watch)?;
        }
        let held = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(|poison| poison.into_inner()));
        let held: Option<Vec<_>> = held.collect();
        held.ok_or(ImageError::Stopped)
    }

    fn make_layers(
        &self,
        missing: &[usize],
        source: &Source,
        manifest: &Manifest,
        diff_ids: &[Sum],
        slots: &[Mutex<Option<Arc<Held>>>],
        watch: &dyn Watch,
    ) -> Result<(), ImageError> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        // What is fetched must not be collected before it is unpacked.
        let _pin = Pin::hold(&self.cache, &RunId::from("image"))?;
        let stop: Stop<'_> = &|| failed.load(Ordering::Relaxed) || watch.is_stopped();
        let work = || {
            while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let held =
                    self.layer(source, &manifest.layers[*at], &diff_ids[*at], stop, watch).inspect_err(|_| {
                        failed.store(true, Ordering::Relaxed);
                    })?;
                watch.progress(Progress::Unpacked(diff_ids[*at]));
                *slots[*at].lock().unwrap_or_else(|poison| poison.into_inner()) = Some(Arc::new(held));
            }
            Ok(())
        };
        let ends: Vec<Result<(), ImageError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..missing.len().min(LAYERS_AT_ONCE)).map(|_| scope.spawn(work)).collect();
            let mut ends = vec![work()];
            ends.extend(threads.into_iter().map(|thread| thread.join().unwrap_or(Err(ImageError::Stopped))));
            ends
        });
        // The others stopped because of the first one that failed: that one is worth telling.
        let (stopped, told): (Vec<_>, Vec<_>) =
            ends.into_iter().filter_map(Result::err).partition(|error| matches!(error, ImageError::Stopped));
        told.into_iter().chain(stopped).next().map_or(Ok(()), Err)
    }

    fn layer(
        &self,
        source: &Source,
        blob: &Digest,
        diff_id: &Sum,
        stop: Stop<'_>,
        watch: &dyn Watch,
    ) -> Result<Held, ImageError> {
        self.layers.hold_or_make(diff_id, stop, |dir| {
            self.make_present(source, blob, stop, watch)?;
            let stored = self.store.open_blob(blob)?;
            let unpacked = crate::unpack(stored, dir, self.options.owners, &self.options.bounds, &stop)?;
            if unpacked.stored != Some(Sum::from(*blob)) {
                self.store.reject(blob);
                return Err(mismatch("a stored layer", &Sum::from(*blob), unpacked.stored));
            }
            if unpacked.diff_id != Some(*diff_id) {
                return Err(mismatch("a layer", diff_id, unpacked.diff_id));
            }
            unpacked
                .notes
                .iter()
                .for_each(|note| watch.progress(Progress::Note(format!("layer {}: {note}", diff_id.short()))));
            Ok(unpacked.bytes)
        })
    }

    /// A layer's blob in the store.
    fn make_present(
        &self,
        source: &Source,
        blob: &Digest,
        stop: Stop<'_>,
        watch: &dyn Watch,
    ) -> Result<(), ImageError> {
        if self.store.has(blob) {
            return Ok(());
        }
        if blob.size > LAYER_BYTES_MAX {
            let what = format!("layer {}", Sum::from(*blob).short());
            return Err(ImageError::TooLarge { what, bound: format!("{LAYER_BYTES_MAX} bytes") });
        }
        let (mut file, path) = self.layers.partial(&Sum::from(*blob), stop)?;
        if self.store.has(blob) {
            let _ = fs::remove_file(&path);
            return Ok(());
        }
        let arrived = |bytes| watch.progress(Progress::Fetched(bytes));
        match source {
            Source::Registry(name) => self.registry.blob(name, blob, &mut file, stop, &arrived)?,
            Source::Local(local) => local.copy(blob, &mut file, stop, &arrived)?,
        }
        Ok(self.store.adopt(&path, blob)?)
    }
}

/// Where an image comes from.
enum Source {
    Registry(Name),
    Local(Local),
}

fn mismatch(what: &str, expected: &Sum, found: Option<Sum>) -> ImageError {
    let found = found.map_or_else(|| "nothing".into(), |sum| printable(&sum.to_string()));
    ImageError::Mismatch { what: what.into(), expected: expected.to_string(), found }
}
