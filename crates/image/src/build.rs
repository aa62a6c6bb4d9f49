//! The simple honest build: a base, files, and what the config shall say. The same input makes the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cas::Store;
use flate2::write::GzEncoder;
use model::Digest;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::bundle::Carried;
use crate::document::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, WireDescriptor, WireIndex};
use crate::error::{io_error, malformed};
use crate::tar::{Entry, Kind, Writer};
use crate::through::{Found, Through};
use crate::{ImageError, Owners, Platform, Reference, Sum};

/// What an image shall be.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// What it is built on; nothing is `scratch`.
    pub base: Option<Reference>,
    /// The files that it adds.
    pub add: Vec<Add>,
    /// Variables that are set; those of the base stay.
    pub env: Vec<(String, String)>,
    /// The command; none keeps the base's.
    pub cmd: Option<Vec<String>>,
    /// What is put before the command; none keeps the base's.
    pub entrypoint: Option<Vec<String>>,
    /// Who its programs run as; none keeps the base's.
    pub user: Option<String>,
    /// Where they start; none keeps the base's.
    pub working_dir: Option<String>,
    /// Labels that are set; those of the base stay.
    pub labels: BTreeMap<String, String>,
    /// For which machines; more than one makes an index.
    pub platforms: Vec<Platform>,
    /// The time of all that is made: seconds since 1970-01-01 UTC.
    pub epoch: u64,
}

/// Files that are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// A file or a folder. `{os}`, `{arch}` and `{variant}` stand for those of the platform.
    pub source: PathBuf,
    /// Where it is in the image: an absolute path; one that ends with `/` is the folder it is put in.
    pub dest: String,
    /// The mode of its files; none is 0755 for what may be executed, else 0644.
    pub mode: Option<u32>,
}

/// What a base brings: its config, its layers' blobs, and a look through them.
pub(crate) struct Base {
    pub config: Vec<u8>,
    pub layers: Vec<Digest>,
    pub through: Option<Through>,
    pub owners: Owners,
}

/// One machine's image.
pub(crate) struct Made {
    pub manifest: Carried,
    pub config: Digest,
    pub layers: Vec<Digest>,
}

impl Add {
    /// Reads `SRC:DEST[:MODE]`.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Add, ImageError> {
        let wrong = |why| ImageError::Reference { text: text.chars().take(200).collect(), why };
        let mut parts = text.split(':');
        let (source, dest, mode, none) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(source), Some(dest), None) = (source.filter(|source| !source.is_empty()), dest, none) else {
            return Err(wrong("files are added as SOURCE:DESTINATION or SOURCE:DESTINATION:MODE"));
        };
        if !dest.starts_with('/') || dest.split('/').any(|part| part == "..") {
            return Err(wrong("the destination is an absolute path without `..`"));
        }
        let octal = |mode: &str| u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
        let mode = mode.map(|mode| octal(mode).ok_or_else(|| wrong("a mode is octal and at most 777"))).transpose()?;
        Ok(Add { source: source.into(), dest: dest.to_owned(), mode })
    }
}

/// One machine's image: the base's layers, one with the files when there are any, and the config.
pub(crate) fn image(
    recipe: &Recipe,
    platform: &Platform,
    base: &Base,
    root: &Path,
    scratch: &Path,
    store: &Store,
) -> Result<Made, ImageError> {
    let mut layers = base.layers.clone();
    let mut config = config(recipe, platform, &base.config)?;
    if !recipe.add.is_empty() {
        let entries = entries(recipe, platform, base, root)?;
        let (diff_id, layer) = layer(&entries, scratch, store)?;
        layers.push(layer);
        let ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
        ids.ok_or_else(|| malformed("the base's config", "it has no list of layers"))?.push(json!(diff_id.to_string()));
    }
    history(&mut config, recipe);
    let bytes = bytes(&config)?;
    let config = store.put(&bytes)?;
    let describe = |(at, layer): (usize, &Digest)| {
        let ours = at >= base.layers.len();
        WireDescriptor::new(if ours { OCI_LAYER_GZIP } else { layer_type(store, layer) }, layer)
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": WireDescriptor::new(OCI_CONFIG, &config),
        "layers": layers.iter().enumerate().map(describe).collect::<Vec<_>>(),
    });
    let manifest = Carried { media_type: OCI_MANIFEST, bytes: self::bytes(&manifest)? };
    store.put(&manifest.bytes)?;
    Ok(Made { manifest, config, layers })
}

/// The index of several machines' images.
pub(crate) fn index(images: &[(Platform, Made)], store: &Store) -> Result<Carried, ImageError> {
    let manifests = images.iter().map(|(platform, made)| {
        let mut entry = WireDescriptor::new(OCI_MANIFEST, &made.manifest.digest());
        entry.platform = Some(platform.to_wire());
        entry
    });
    let index = WireIndex { schema_version: 2, media_type: Some(OCI_INDEX.into()), manifests: manifests.collect() };
    let bytes = bytes(&serde_json::to_value(&index).map_err(unwritable)?)?;
    store.put(&bytes)?;
    Ok(Carried { media_type: OCI_INDEX, bytes })
}

/// How a base's layer is packed shows in its first bytes.
fn layer_type(store: &Store, layer: &Digest) -> &'static str {
    let mut magic = [0u8; 4];
    let read = store.open_blob(layer).map(|mut blob| io::Read::read_exact(&mut blob, &mut magic));
    match magic {
        [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] if matches!(read, Ok(Ok(()))) => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

fn unwritable(error: serde_json::Error) -> ImageError {
    malformed("the image's description", error.to_string())
}

fn bytes(value: &Value) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(unwritable)
}

/// The base's config with what the recipe says; what we do not know of it stays as it is.
fn config(recipe: &Recipe, platform: &Platform, base: &[u8]) -> Result<Value, ImageError> {
    let wrong = || malformed("the base's config", "it is not an object");
    let mut config: Value = match base {
        [] => json!({ "rootfs": { "type": "layers", "diff_ids": [] } }),
        base => serde_json::from_slice(base).map_err(|error| malformed("the base's config", error.to_string()))?,
    };
    let all = config.as_object_mut().ok_or_else(wrong)?;
    all.insert("created".into(), json!(rfc3339(recipe.epoch)));
    all.insert("os".into(), json!(platform.os));
    all.insert("architecture".into(), json!(platform.architecture));
    if let Some(variant) = &platform.variant {
        all.insert("variant".into(), json!(variant));
    }
    let runtime = all.entry("config").or_insert(Value::Null);
    if runtime.is_null() {
        *runtime = json!({});
    }
    let runtime = runtime.as_object_mut().ok_or_else(wrong)?;
    set_env(runtime, &recipe.env);
    // The base's command is arguments of the base's entry point.
    if recipe.entrypoint.is_some() && recipe.cmd.is_none() {
        runtime.remove("Cmd");
    }
    let texts = [("User", &recipe.user), ("WorkingDir", &recipe.working_dir)];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
        runtime.insert(key.into(), json!(text));
    }
    for (key, words) in [("Entrypoint", &recipe.entrypoint), ("Cmd", &recipe.cmd)] {
        if let Some(words) = words {
            runtime.insert(key.into(), json!(words));
        }
    }
    if !recipe.labels.is_empty() {
        let labels = runtime.entry("Labels").or_insert_with(|| json!({}));
        if !labels.is_object() {
            *labels = json!({});
        }
        let labels = labels.as_object_mut().ok_or_else(wrong)?;
        labels.extend(recipe.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
    }
    Ok(config)
}

fn set_env(runtime: &mut Map<String, Value>, env: &[(String, String)]) {
    let known = runtime.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut words: Vec<String> = known.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    for (name, value) in env {
        words.retain(|word| word.split_once('=').map_or(word.as_str(), |(known, _)| known) != name);
        words.push(format!("{name}={value}"));
    }
    if !words.is_empty() {
        runtime.insert("Env".into(), json!(words));
    }
}

fn history(config: &mut Value, recipe: &Recipe) {
    let mut entry = json!({ "created": rfc3339(recipe.epoch), "created_by": "pace image build" });
    if recipe.add.is_empty() {
        entry["empty_layer"] = json!(true);
    }
    match config.get_mut("history").and_then(Value::as_array_mut) {
        Some(history) => history.push(entry),
        // Half a history would be counted against the layers; a base without one keeps none.
        None if recipe.base.is_none() => config["history"] = json!([entry]),
        None => {}
    }
}

/// What one path of the layer is.
struct Planned {
    entry: Entry,
    source: Option<PathBuf>,
}

/// All paths that are added, by path. Where the base has a directory already, its mode and owner are said again: in an
/// overlay the topmost directory decides. Where the base has a link to a directory, the files go where it points: a
/// directory in its place would hide what is there, which on most systems is every program.
fn entries(
    recipe: &Recipe,
    platform: &Platform,
    base: &Base,
    root: &Path,
) -> Result<BTreeMap<String, Planned>, ImageError> {
    let mut plan = Plan { base, epoch: recipe.epoch, entries: BTreeMap::new(), looked: BTreeSet::new() };
    for add in &recipe.add {
        let source = add.source.to_string_lossy();
        let source = source.replace("{os}", &platform.os).replace("{arch}", &platform.architecture);
        let source = root.join(source.replace("{variant}", platform.variant.as_deref().unwrap_or("")));
        let meta = fs::symlink_metadata(&source).map_err(io_error("add", &source))?;
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let dest = match add.dest.ends_with('/') && !meta.is_dir() {
            true => format!("{}{name}", add.dest),
            false => add.dest.clone(),
        };
        plan.add(&source, &dest, add.mode)?;
    }
    Ok(plan.entries)
}

struct Plan<'a> {
    base: &'a Base,
    epoch: u64,
    entries: BTreeMap<String, Planned>,
    /// Directories whose way is in the entries already.
    looked: BTreeSet<String>,
}

impl Plan<'_> {
    fn add(&mut self, source: &Path, dest: &str, mode: Option<u32>) -> Result<(), ImageError> {
        let parts: Vec<&str> = dest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let meta = fs::symlink_metadata(source).map_err(io_error("add", source))?;
        let (name, parents) = parts.split_last().map_or(("", &[][..]), |(name, parents)| (*name, parents));
        let parent = self.directory(&parents.join("/"))?;
        let place = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        if meta.is_dir() {
            let place = self.directory(&place)?;
            for entry in fs::read_dir(source).map_err(io_error("read", source))? {
                let entry = entry.map_err(io_error("read", source))?;
                let name = entry
                    .file_name()
                    .into_string()
                    .map_err(|_| malformed(entry.path().display().to_string(), "its name is not UTF-8; rename it"))?;
                self.add(&entry.path(), &format!("{place}/{name}"), mode)?;
            }
            return Ok(());
        }
        if name.is_empty() {
            return Err(malformed(source.display().to_string(), "a file cannot be the image's root"));
        }
        let entry = Entry { path: place.clone().into_bytes(), mtime: (self.epoch as i64, 0), ..Entry::default() };
        let planned = if meta.is_symlink() {
            let target = fs::read_link(source).map_err(io_error("read", source))?;
            let link = target.as_os_str().as_bytes().to_vec();
            Planned { entry: Entry { kind: Kind::Symlink, link, mode: 0o777, ..entry }, source: None }
        } else if meta.is_file() {
            let usual = if meta.mode() & 0o111 != 0 { 0o755 } else { 0o644 };
            let entry = Entry { size: meta.len(), mode: mode.unwrap_or(usual), ..entry };
            Planned { entry, source: Some(source.to_path_buf()) }
        } else {
            return Err(malformed(source.display().to_string(), "it is neither a file nor a folder nor a link"));
        };
        self.entries.insert(place, planned);
        Ok(())
    }

    /// Where a directory really is, with all on the way to it among the entries.
    fn directory(&mut self, path: &str) -> Result<String, ImageError> {
        let mut real = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let next = if real.is_empty() { part.to_owned() } else { format!("{real}/{part}") };
            real = self.one_directory(next)?;
        }
        Ok(real)
    }

    fn one_directory(&mut self, path: String) -> Result<String, ImageError> {
        if self.looked.contains(&path) {
            return Ok(path);
        }
        let found = match &self.base.through {
            Some(through) => {
                through.look(&format!("/{path}")).map_err(io_error("look in the base for", Path::new(&path)))?
            }
            None => (Found::Nothing, path.clone()),
        };
        let dir = |path: &str| Entry {
            path: format!("{path}/").into_bytes(),
            kind: Kind::Dir,
            mode: 0o755,
            mtime: (self.epoch as i64, 0),
            ..Entry::default()
        };
        let (entry, real) = match found {
            (Found::Dir(stat), real) => {
                let real = real.trim_matches('/').to_owned();
                if real != path {
                    // A link: what it points to has a way of its own.
                    return self.directory(&real);
                }
                let (uid, gid) = (self.base.owners.inside(stat.st_uid), self.base.owners.inside(stat.st_gid));
                let mtime = (stat.st_mtime, 0);
                (Entry { mode: stat.st_mode & 0o7777, uid, gid, mtime, ..dir(&path) }, path)
            }
            (Found::File(_), _) => {
                return Err(malformed(format!("/{path}"), "it is a file in the base, and files shall be put in it"));
            }
            (Found::Nothing, _) => (dir(&path), path),
        };
        self.looked.insert(real.clone());
        self.entries.insert(real.clone(), Planned { entry, source: None });
        Ok(real)
    }
}

/// The layer's tar, hashed and packed on its way into the store.
fn layer(entries: &BTreeMap<String, Planned>, scratch: &Path, store: &Store) -> Result<(Sum, Digest), ImageError> {
    let path = scratch.join("layer");
    let file = File::create(&path).map_err(io_error("write", &path))?;
    let what = Path::new("the new layer");
    let mut packed = GzEncoder::new(Counting::new(io::BufWriter::new(file)), flate2::Compression::default());
    let mut tar = Writer::new(Counting::new(&mut packed));
    for planned in entries.values() {
        let mut content: Box<dyn io::Read> = match &planned.source {
            Some(source) => Box::new(File::open(source).map_err(io_error("add", source))?),
            None => Box::new(io::empty()),
        };
        let shown = planned.source.as_deref().unwrap_or(what);
        tar.entry(&planned.entry, &mut content).map_err(io_error("add", shown))?;
    }
    let diff_id = tar.finish().map_err(io_error("write", what))?.sum();
    let mut stored = packed.finish().map_err(io_error("write", what))?;
    stored.flush().map_err(io_error("write", what))?;
    let digest = stored.sum().sized(stored.bytes);
    store.adopt(&path, &digest)?;
    Ok((diff_id, digest))
}

/// Hashes what is written through it.
struct Counting<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Counting<W> {
    fn new(inner: W) -> Counting<W> {
        Counting { inner, hasher: Sha256::new(), bytes: 0 }
    }
    fn sum(&self) -> Sum {
        Sum(self.hasher.clone().finalize().into())
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `1970-01-01T00:00:00Z`.
fn rfc3339(epoch: u64) -> String {
    let (days, seconds) = (epoch / 86_400, epoch % 86_400);
    // Years that begin in March have their odd day at the end.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_images_write_them() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(epoch), text);
        }
    }

    #[test]
    fn what_is_added_is_written_as_source_and_destination() {
        let add = |source: &str, dest: &str, mode| Add { source: source.into(), dest: dest.into(), mode };
        assert_eq!(Add::parse("a:/b").expect("two"), add("a", "/b", None));
        assert_eq!(Add::parse("a:/b/:600").expect("three"), add("a", "/b/", Some(0o600)));
        for bad in ["a", "a:b", "a:/b:9", "a:/b:4755", "a:/../b", ":/b", "a:/b:600:x"] {
            assert!(Add::parse(bad).is_err(), "{bad}");
        }
    }
}
