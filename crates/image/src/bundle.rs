//! An image with all that belongs to it, on its way from one place to another: a registry, a layout, an archive.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::Path;

use cas::Store;
use model::Digest;

use crate::document::{OCI_INDEX, WireDescriptor, WireIndex};
use crate::error::{io_error, malformed};
use crate::local::NAME_ANNOTATION;
use crate::registry::{Registry, Stop};
use crate::tar::{Entry, Kind, Writer};
use crate::{ImageError, Name, Place, Progress, Sum, Watch};

/// An image, or an index of several; every blob is in the store.
#[derive(Debug)]
pub struct Bundle {
    /// Manifests and indexes, each after those it names; the last one is the whole.
    pub(crate) documents: Vec<Carried>,
    /// Configs and layers, each once.
    pub(crate) blobs: Vec<Digest>,
    /// The repository that blobs may be taken over from.
    pub(crate) from: Option<Name>,
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Carried {
    pub fn digest(&self) -> Digest {
        Sum::of(&self.bytes).sized(self.bytes.len() as u64)
    }
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

impl Bundle {
    /// Of the whole: what a registry will know it by.
    pub fn digest(&self) -> Digest {
        self.documents.last().map_or(Sum::of(b"").sized(0), Carried::digest)
    }
    /// Bytes of configs and layers.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// Sends it; what is there already does not travel.
    pub(crate) fn push(
        &self,
        registry: &Registry,
        store: &Store,
        name: &Name,
        watch: &dyn Watch,
    ) -> Result<(), ImageError> {
        let stop: Stop<'_> = &|| watch.is_stopped();
        watch.progress(Progress::Begun { layers: self.blobs.len(), bytes: self.bytes() });
        for blob in &self.blobs {
            let open = || Ok(store.open_blob(blob)?);
            registry.put_blob(name, blob, &open, self.from.as_ref(), stop)?;
            watch.progress(Progress::Fetched(blob.size));
        }
        let (whole, parts) = self.documents.split_last().ok_or_else(|| malformed("the image", "it has no manifest"))?;
        for part in parts {
            let version = Sum::from(part.digest()).to_string();
            registry.put_manifest(name, &version, part.media_type, &part.bytes, stop)?;
        }
        registry.put_manifest(name, &name.version(), whole.media_type, &whole.bytes, stop)
    }

    /// Adds it to an OCI layout, which is made if need be; an image that had the tag loses it.
    pub(crate) fn write_layout(&self, store: &Store, folder: &Path, tag: &str) -> Result<(), ImageError> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(io_error("make folder", &blobs))?;
        for document in &self.documents {
            write(&blobs.join(Sum::from(document.digest()).hex()), &document.bytes)?;
        }
        for blob in &self.blobs {
            let to = blobs.join(Sum::from(*blob).hex());
            if fs::metadata(&to).is_ok_and(|there| there.len() == blob.size) {
                continue;
            }
            let beside = to.with_extension(std::process::id().to_string());
            let _ = fs::remove_file(&beside);
            store.copy_to(blob, false, &beside)?;
            fs::rename(&beside, &to).map_err(io_error("write", &to))?;
        }
        let path = folder.join("index.json");
        let mut index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| malformed(path.display().to_string(), error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty_index(),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        self.enter(&mut index, tag);
        write(&folder.join("oci-layout"), LAYOUT)?;
        write(&path, &as_json(&index, &path)?)
    }

    /// Writes an OCI layout into a tar. The same image makes the same bytes.
    pub(crate) fn write_archive(&self, store: &Store, path: &Path, tag: &str) -> Result<(), ImageError> {
        let mut index = empty_index();
        self.enter(&mut index, tag);
        let index = as_json(&index, path)?;
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = self.pour(store, &beside, &index);
        written.and_then(|()| fs::rename(&beside, path).map_err(io_error("write", path))).inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }

    fn pour(&self, store: &Store, path: &Path, index: &[u8]) -> Result<(), ImageError> {
        let file = File::create(path).map_err(io_error("write", path))?;
        let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, file));
        let mut put = |name: String, kind: Kind, size: u64, content: &mut dyn Read| {
            let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
            let entry = Entry { path: name.into_bytes(), kind, size, mode, ..Entry::default() };
            tar.entry(&entry, content).map_err(io_error("write", path))
        };
        put("blobs/".into(), Kind::Dir, 0, &mut io::empty())?;
        put("blobs/sha256/".into(), Kind::Dir, 0, &mut io::empty())?;
        let documents = self.documents.iter().map(|document| (document.digest(), Some(&document.bytes)));
        let mut parts: Vec<(Digest, Option<&Vec<u8>>)> =
            documents.chain(self.blobs.iter().map(|blob| (*blob, None))).collect();
        parts.sort_by_key(|(digest, _)| *digest);
        for (digest, bytes) in parts {
            let name = format!("blobs/sha256/{}", digest.hex());
            match bytes {
                Some(bytes) => put(name, Kind::File, digest.size, &mut bytes.as_slice())?,
                None => put(name, Kind::File, digest.size, &mut store.open_blob(&digest)?)?,
            }
        }
        put("index.json".into(), Kind::File, index.len() as u64, &mut &index[..])?;
        put("oci-layout".into(), Kind::File, LAYOUT.len() as u64, &mut &LAYOUT[..])?;
        let inner = tar.finish().map_err(io_error("write", path))?;
        inner.into_inner().map_err(|error| io_error("write", path)(error.into_error())).map(drop)
    }

    fn enter(&self, index: &mut WireIndex, tag: &str) {
        let Some(whole) = self.documents.last() else { return };
        let has_tag = |entry: &WireDescriptor| {
            entry.annotations.as_ref().and_then(|all| all.get(NAME_ANNOTATION)).is_some_and(|name| name == tag)
        };
        index.manifests.retain(|entry| !has_tag(entry));
        let mut entry = WireDescriptor::new(whole.media_type, &whole.digest());
        entry.annotations = Some([(NAME_ANNOTATION.to_owned(), tag.to_owned())].into());
        index.manifests.push(entry);
        index.manifests.sort_by(|a, b| a.annotations.cmp(&b.annotations).then_with(|| a.digest.cmp(&b.digest)));
    }
}

/// The tag of a place that names none.
pub(crate) fn tag_of(place: &Place) -> &str {
    place.tag.as_deref().unwrap_or("latest")
}

fn empty_index() -> WireIndex {
    WireIndex { schema_version: 2, media_type: Some(OCI_INDEX.into()), manifests: Vec::new() }
}

fn as_json(index: &WireIndex, path: &Path) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(index).map_err(|error| malformed(path.display().to_string(), error.to_string()))
}

/// As a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).map_err(io_error("write", path))
}
