//! The fingerprint of the host: what a step that runs on the host's file system may have computed its result with.
//!
//! It covers the executables on `PATH` by name and size, the package database and the files that identify toolchains
//! by content. A package manager replaces files by renaming, which moves the folder's mtime, so a folder is listed
//! again only when that changed. A binary that is overwritten in place in a folder that was seen before is not
//! noticed: the price of two milliseconds instead of two hundred.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where distributions keep what is installed.
const PACKAGE_DATABASES: [&str; 5] = [
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/pacman/local",
];
/// Longer files are taken by size and mtime.
const CONTENT_BYTES_MAX: u64 = 64 << 20;

/// Computes the fingerprint: 32 hexadecimal digits. `variables` are those of the toolchains; `memo` names a file for
/// what is expensive to find out again.
pub(crate) fn fingerprint(path: &str, variables: &str, markers: &[PathBuf], memo: &Path) -> String {
    let mut known = Memo::load(memo);
    let mut text = format!("{} {}\nPATH={path}\n{variables}", std::env::consts::OS, std::env::consts::ARCH);
    let folders = path.split(':').filter(|entry| !entry.is_empty()).map(PathBuf::from);
    let databases = PACKAGE_DATABASES.iter().map(PathBuf::from);
    for file in folders.chain(databases).chain(markers.iter().cloned()) {
        if let Ok(meta) = fs::metadata(&file) {
            let _ = writeln!(text, "{} {}", file.display(), known.hash(&file, &meta));
        }
    }
    known.save(memo);
    short_hash(text.as_bytes())
}

fn short_hash(bytes: &[u8]) -> String {
    let mut hex = cas::Store::digest_of(bytes).hex();
    hex.truncate(32);
    hex
}

/// Hashes by path, each good for one mtime and size.
#[derive(Debug, Default)]
struct Memo {
    hashes: BTreeMap<PathBuf, (String, String)>,
    changed: bool,
}

impl Memo {
    /// A line that cannot be read is as good as none: it is computed again.
    fn load(path: &Path) -> Memo {
        let text = fs::read_to_string(path).unwrap_or_default();
        let hashes = text.lines().filter_map(|line| {
            let mut words = line.splitn(3, '\t');
            let (stat, hash, path) = (words.next()?, words.next()?, words.next()?);
            (hash.len() == 32).then(|| (PathBuf::from(path), (stat.to_string(), hash.to_string())))
        });
        Memo { hashes: hashes.collect(), changed: false }
    }

    /// Losing it costs time only, so nobody hears of a failure.
    fn save(&self, path: &Path) {
        if !self.changed {
            return;
        }
        let mut text = String::new();
        for (path, (stat, hash)) in &self.hashes {
            if let Some(path) = path.to_str().filter(|path| !path.contains('\n')) {
                let _ = writeln!(text, "{stat}\t{hash}\t{path}");
            }
        }
        let draft = path.with_extension(std::process::id().to_string());
        if fs::write(&draft, text).and_then(|()| fs::rename(&draft, path)).is_err() {
            let _ = fs::remove_file(&draft);
        }
    }

    fn hash(&mut self, path: &Path, meta: &Metadata) -> String {
        let stat = format!("{}.{:09} {}", meta.mtime(), meta.mtime_nsec(), meta.size());
        if let Some((_, hash)) = self.hashes.get(path).filter(|(then, _)| *then == stat) {
            return hash.clone();
        }
        let hash = short_hash(&if meta.is_dir() { executables(path) } else { content(path, meta, &stat) });
        self.hashes.insert(path.to_path_buf(), (stat, hash.clone()));
        self.changed = true;
        hash
    }
}

/// Name and size of each, in order of name.
fn executables(folder: &Path) -> Vec<u8> {
    let mut found: Vec<(Vec<u8>, u64)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if meta.is_file() && meta.permissions().mode() & 0o111 != 0 || meta.is_dir() {
            let size = if meta.is_dir() { 0 } else { meta.len() };
            found.push((entry.file_name().into_encoded_bytes(), size));
        }
    }
    found.sort();
    let mut bytes = Vec::new();
    for (name, size) in found {
        bytes.extend(name);
        bytes.extend(format!("\0{size}\n").bytes());
    }
    bytes
}

fn content(path: &Path, meta: &Metadata, stat: &str) -> Vec<u8> {
    if !meta.is_file() || meta.len() > CONTENT_BYTES_MAX {
        return stat.into();
    }
    fs::read(path).unwrap_or_else(|_| stat.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(folder: &Path, name: &str, bytes: &str) {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    #[test]
    fn it_changes_with_a_tool_and_with_a_marker_and_not_by_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        let (bin, marker, memo) = (dir.path().join("bin"), dir.path().join("marker"), dir.path().join("memo"));
        fs::create_dir(&bin).expect("bin");
        tool(&bin, "cc", "one");
        fs::write(&marker, "1.0").expect("marker");
        let path = bin.to_str().expect("UTF-8");
        let now = || fingerprint(path, "", std::slice::from_ref(&marker), &memo);
        let first = now();
        assert_eq!(first, now());
        tool(&bin, "ld", "two");
        let with_ld = now();
        assert_ne!(first, with_ld);
        fs::write(&marker, "1.0.1").expect("marker");
        assert_ne!(with_ld, now());
    }

    #[test]
    fn a_damaged_memo_is_computed_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let memo = dir.path().join("memo");
        let before = fingerprint("/usr/bin", "", &[], &memo);
        fs::write(&memo, b"\xff\xfe garbage\t\n\t\t\t").expect("memo");
        assert_eq!(before, fingerprint("/usr/bin", "", &[], &memo));
    }
}
