//! Versions of secrets for action keys: they change when a value does and say nothing about it.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::{AgentError, Secret};

/// Bytes of the key of versions.
pub const KEY_BYTES: usize = 32;

/// The random key of this machine. Without it nobody can try values against a version.
#[derive(Debug)]
pub(crate) struct VersionKey(pub(crate) [u8; KEY_BYTES]);

impl VersionKey {
    /// Reads `<state_dir>/secret.key`, or makes it. Processes that start at once agree on one key.
    pub(crate) fn open(state_dir: &Path) -> Result<VersionKey, AgentError> {
        let path = state_dir.join("secret.key");
        read_key(&path)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => make_key(state_dir, &path).and_then(|()| read_key(&path)),
                _ => Err(error),
            })
            .map_err(|source| AgentError::Folder { act: "read or make the key file", path, source })
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn version(&self, secret: &Secret) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend(secret.reveal().as_bytes());
        let mut hex = cas::Store::digest_of(&bytes).hex();
        bytes.fill(0);
        std::hint::black_box(&bytes);
        hex.truncate(16);
        hex
    }
}

fn read_key(path: &Path) -> io::Result<VersionKey> {
    let mut key = [0; KEY_BYTES];
    std::fs::File::open(path)?.read_exact(&mut key)?;
    Ok(VersionKey(key))
}

fn make_key(state_dir: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let draft = state_dir.join(format!("secret.key.{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?.write_all(&key)?;
    // A link, not a rename: whoever was first wins, and the others read that key.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_changes_with_its_value_only_and_the_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (first, again) = (VersionKey::open(dir.path()).expect("key"), VersionKey::open(dir.path()).expect("key"));
        let of = |key: &VersionKey, value: &str| key.version(&Secret::new(value.into()));
        assert_eq!(of(&first, "v1"), of(&again, "v1"));
        assert_ne!(of(&first, "v1"), of(&first, "v2"));
        assert_eq!(of(&first, "v1").len(), 16);
        let mode = std::fs::metadata(dir.path().join("secret.key")).expect("key file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_machine_has_other_versions() {
        let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let version = |dir: &Path| VersionKey::open(dir).expect("key").version(&Secret::new("same".into()));
        assert_ne!(version(one.path()), version(two.path()));
    }
}
