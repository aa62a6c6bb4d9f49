//! Images that are files here: OCI layouts, as a folder or in a tar, and what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use model::Digest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::document::{
    self, CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX, OCI_CONFIG, OCI_MANIFEST, WireDescriptor, WireIndex, WireManifest,
    printable,
};
use crate::error::{io_error, malformed};
use crate::registry::{Stop, read_at_most};
use crate::tar::{Kind, Reader};
use crate::{ImageError, Place, Reference, Sum};

/// The layer type of what `docker save` writes.
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Files in one archive.
const FILES_MAX: usize = 10_000;
/// Where an index entry says its name.
pub(crate) const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An image that is a file here.
#[derive(Debug)]
pub(crate) struct Local {
    files: Files,
    sum: Sum,
    /// Manifests that we made up, because the archive has none.
    made: HashMap<Sum, Vec<u8>>,
    /// Where an archive keeps a blob under another name than its sum.
    names: HashMap<Sum, String>,
}

/// Files by name.
#[derive(Debug)]
enum Files {
    Folder(PathBuf),
    /// Where in the archive each file begins, and its length.
    Archive {
        path: PathBuf,
        at: HashMap<String, (u64, u64)>,
    },
}

impl Local {
    /// Opens what a reference names; relative paths are relative to `root`.
    pub fn open(root: &Path, reference: &Reference) -> Result<Local, ImageError> {
        match reference {
            Reference::Layout(place) => Local::layout(Files::Folder(root.join(&place.path)), place),
            Reference::Archive(place) => Local::layout(Files::scan(&root.join(&place.path))?, place),
            Reference::DockerArchive(place) => Local::docker(Files::scan(&root.join(&place.path))?, place),
            Reference::Registry(name) => {
                Err(ImageError::Reference { text: name.to_string(), why: "it is in a registry and not a file" })
            }
        }
    }

    /// What the name stands for.
    pub fn sum(&self) -> Sum {
        self.sum
    }

    /// A manifest, an index or a config, verified.
    pub fn document(&self, sum: &Sum, bytes_max: usize) -> Result<Vec<u8>, ImageError> {
        let bytes = match self.made.get(sum) {
            Some(made) => made.clone(),
            None => self.files.read(&self.name(sum), bytes_max)?,
        };
        let found = Sum::of(&bytes);
        if found != *sum {
            return Err(ImageError::Mismatch {
                what: self.files.shown(&self.name(sum)),
                expected: sum.to_string(),
                found: found.to_string(),
            });
        }
        Ok(bytes)
    }

    /// A blob into an empty or half-filled file, verified.
    pub fn copy(&self, blob: &Digest, to: &mut File, stop: Stop<'_>, arrived: &dyn Fn(u64)) -> Result<(), ImageError> {
        let name = self.name(&Sum::from(*blob));
        let what = self.files.shown(&name);
        let io = |source| ImageError::Io { act: "copy", path: what.clone().into(), source };
        to.set_len(0).and_then(|()| to.rewind()).map_err(io)?;
        let mut from = self.files.open(&name)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut block = vec![0; 256 << 10];
        loop {
            if stop() {
                return Err(ImageError::Stopped);
            }
            let read = from.read(&mut block).map_err(io)?;
            if read == 0 {
                break;
            }
            hasher.update(&block[..read]);
            to.write_all(&block[..read]).map_err(io)?;
            bytes += read as u64;
            arrived(read as u64);
        }
        let found = Digest { hash: hasher.finalize().into(), size: bytes };
        if found != *blob {
            to.set_len(0).map_err(io)?;
            let shown = |digest: Digest| format!("{} ({} bytes)", Sum::from(digest), digest.size);
            return Err(ImageError::Mismatch { what, expected: shown(*blob), found: shown(found) });
        }
        Ok(())
    }

    fn layout(files: Files, place: &Place) -> Result<Local, ImageError> {
        let what = files.shown("index.json");
        let index: WireIndex = serde_json::from_slice(&files.read("index.json", MANIFEST_BYTES_MAX)?)
            .map_err(|error| malformed(&what, error.to_string()))?;
        let tag_of = |entry: &WireDescriptor| entry.annotations.as_ref()?.get(NAME_ANNOTATION).cloned();
        let mut chosen = index.manifests.iter().filter(|entry| match &place.tag {
            Some(tag) => tag_of(entry).as_ref() == Some(tag),
            None => true,
        });
        let (first, others) = (chosen.next(), chosen.count());
        let tags = || printable(&index.manifests.iter().filter_map(tag_of).collect::<Vec<_>>().join(", "));
        match (first, others) {
            (Some(entry), 0) => {
                let sum = entry.digest(&what)?.into();
                Ok(Local { files, sum, made: HashMap::new(), names: HashMap::new() })
            }
            (None, _) => Err(malformed(what, format!("it has no image of that name; it has: {}", tags()))),
            (Some(_), _) => Err(malformed(what, format!("it has several images; name one of: {}", tags()))),
        }
    }

    /// `docker save` names a config and the layers' tars. The manifest that a registry would have is made from them; it
    /// is the same each time.
    fn docker(files: Files, place: &Place) -> Result<Local, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            layers: Vec<String>,
        }
        let what = files.shown("manifest.json");
        let images: Vec<Saved> = serde_json::from_slice(&files.read("manifest.json", MANIFEST_BYTES_MAX)?)
            .map_err(|error| malformed(&what, error.to_string()))?;
        let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
        let mut chosen = images.iter().filter(|image| match &place.tag {
            Some(tag) => tags(image).iter().any(|known| known == tag || is_same_name(known, tag)),
            None => true,
        });
        let (Some(image), 0) = (chosen.next(), chosen.count()) else {
            let all = printable(&images.iter().flat_map(tags).collect::<Vec<_>>().join(", "));
            return Err(malformed(what, format!("it is not clear which image is meant; it has: {all}")));
        };
        if image.layers.len() > document::LAYERS_MAX {
            return Err(ImageError::TooLarge { what, bound: format!("{} layers", document::LAYERS_MAX) });
        }
        let config = files.read(&image.config, CONFIG_BYTES_MAX)?;
        let config_digest = Sum::of(&config).sized(config.len() as u64);
        let mut names = HashMap::from([(Sum::from(config_digest), image.config.clone())]);
        let mut layers = Vec::new();
        for name in &image.layers {
            let digest = files.digest(name)?;
            names.insert(digest.into(), name.clone());
            layers.push(WireDescriptor::new(OCI_LAYER, &digest));
        }
        let manifest = WireManifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.into()),
            config: WireDescriptor::new(OCI_CONFIG, &config_digest),
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| malformed(&what, error.to_string()))?;
        let sum = Sum::of(&bytes);
        Ok(Local { files, sum, made: HashMap::from([(sum, bytes)]), names })
    }

    fn name(&self, sum: &Sum) -> String {
        self.names.get(sum).cloned().unwrap_or_else(|| format!("blobs/sha256/{}", sum.hex()))
    }
}

impl Files {
    /// Where everything is in an uncompressed tar.
    fn scan(path: &Path) -> Result<Files, ImageError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let what = format!("the archive {}", path.display());
        let mut tar = Reader::new(Counted { inner: io::BufReader::with_capacity(64 << 10, file), at: 0 });
        let mut at = HashMap::new();
        let mut links = Vec::new();
        while let Some(entry) = tar.next().map_err(|error| malformed(&what, error.to_string()))? {
            let name = clean(&String::from_utf8_lossy(&entry.path));
            match entry.kind {
                Kind::File => drop(at.insert(name, (tar.position().at, entry.size))),
                // Layers that occur twice are links to the first one.
                Kind::Symlink | Kind::HardLink => links.push((name, entry)),
                Kind::Dir | Kind::Special => {}
            }
            if at.len() + links.len() > FILES_MAX {
                return Err(ImageError::TooLarge { what, bound: format!("{FILES_MAX} files") });
            }
        }
        for (name, entry) in links {
            let target = String::from_utf8_lossy(&entry.link).into_owned();
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            let target =
                if entry.kind == Kind::Symlink { clean(&format!("{parent}/{target}")) } else { clean(&target) };
            if let Some(place) = at.get(&target).copied() {
                at.insert(name, place);
            }
        }
        Ok(Files::Archive { path: path.to_path_buf(), at })
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read>, ImageError> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                Ok(Box::new(File::open(&path).map_err(io_error("open", &path))?))
            }
            Files::Archive { path, at } => {
                let (start, size) = at.get(&clean(name)).copied().ok_or_else(|| {
                    malformed(format!("the archive {}", path.display()), format!("it has no `{}`", printable(name)))
                })?;
                let mut file = File::open(path).map_err(io_error("open", path))?;
                file.seek(SeekFrom::Start(start)).map_err(io_error("read", path))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }

    fn read(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, ImageError> {
        let shown = self.shown(name);
        let read = read_at_most(self.open(name)?, bytes_max as u64).map_err(io_error("read", Path::new(&shown)))?;
        read.ok_or_else(|| ImageError::TooLarge { what: shown.clone(), bound: format!("{bytes_max} bytes") })
    }

    fn digest(&self, name: &str) -> Result<Digest, ImageError> {
        let mut hashing = crate::decode::Hashing::new(self.open(name)?);
        io::copy(&mut hashing, &mut io::sink()).map_err(io_error("read", Path::new(&self.shown(name))))?;
        Ok(hashing.sum().sized(hashing.bytes))
    }

    fn shown(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Archive { path, .. } => format!("`{}` in {}", printable(name), path.display()),
        }
    }
}

/// Some tools write the whole name, others the short one.
fn is_same_name(one: &str, other: &str) -> bool {
    matches!((Reference::parse(one), Reference::parse(other)), (Ok(one), Ok(other)) if one == other)
}

/// Knows where in the archive it is.
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A name without `.`, `..` and superfluous slashes; the archive is never unpacked, so it is only a name.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
