//! Secrets at rest: AES-256-GCM. Each value has its own key, which the master key wraps; so a new master key rewraps keys and
//! touches no value. The context (project and name) is authenticated: a sealed value moved to another place does not open.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::chance::{hex, random, unhex};

/// The file in the data folder.
const FILE: &str = "master.key";
/// Bytes of that file at most: some hundred keys.
const FILE_BYTES_MAX: u64 = 16 * 1024;
const VERSION: &str = "v1";
const KEY_BYTES: usize = 32;

/// The master keys: the first seals, all open. Clones are the same ring, so that a new key is everybody's at once: that is
/// what the lock is for.
#[derive(Clone)]
pub struct Keys {
    ring: Arc<RwLock<Vec<Key>>>,
    file: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: String,
    bytes: [u8; KEY_BYTES],
}

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The file with the master key.
    #[error("cannot use the master key in {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// `PACE_MASTER_KEY`.
    #[error(
        "PACE_MASTER_KEY is no key: write 64 hexadecimal digits, several keys with commas between, the newest first"
    )]
    Variable,
    /// It was sealed with a key that is not here.
    #[error("it was sealed with master key {0}, which is not here; give that key, after a comma, too")]
    KeyMissing(String),
    /// It is damaged, or was sealed for another place.
    #[error("it does not open: it is damaged, or was sealed for something else")]
    Broken,
}

impl Keys {
    /// The keys of `PACE_MASTER_KEY`, if that is given, else of the data folder, which gets a new one when it has none.
    ///
    /// # Errors
    /// The variable or the file is no key, the file is readable by others, or cannot be read or made.
    pub fn load(data: &Path, variable: Option<&str>) -> Result<Keys, SealError> {
        if let Some(text) = variable.filter(|text| !text.trim().is_empty()) {
            let keys = parse(text, ',').ok_or(SealError::Variable)?;
            return Ok(Keys::of(keys, None));
        }
        let path = data.join(FILE);
        match read_file(&path) {
            Ok(text) => {
                let keys =
                    parse(&text, '\n').ok_or_else(|| broken(&path, "it does not hold 64 hexadecimal digits a line"))?;
                Ok(Keys::of(keys, Some(path)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let keys = Keys::of(vec![Key::new(random())], Some(path));
                keys.write(&keys.ring()).map(|()| keys)
            }
            Err(error) => Err(broken(&path, &error.to_string())),
        }
    }

    /// Keys for a test or a server without a disk.
    pub fn random() -> Keys {
        Keys::of(vec![Key::new(random())], None)
    }

    fn of(keys: Vec<Key>, file: Option<PathBuf>) -> Keys {
        Keys { ring: Arc::new(RwLock::new(keys)), file }
    }

    fn ring(&self) -> Vec<Key> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, keys: Vec<Key>) -> Result<(), SealError> {
        self.write(&keys)?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Name of the key that seals: says nothing about the key. There always is one.
    pub fn current(&self) -> String {
        self.ring().swap_remove(0).id
    }

    /// Seals a value for a place.
    ///
    /// # Errors
    /// [`SealError::Broken`] when the library refuses, which it does not.
    pub fn seal(&self, context: &str, value: &[u8]) -> Result<String, SealError> {
        let key = self.ring().swap_remove(0);
        let own: [u8; KEY_BYTES] = random();
        let wrapped = encrypt(&key.bytes, &wrap_context(context), &own)?;
        let sealed = encrypt(&own, context, value)?;
        Ok(format!("{VERSION}.{}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(wrapped), URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// The key is not here, or it is not what was sealed, or not for this place.
    pub fn open(&self, context: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let (_, wrapped, value) = split(sealed)?;
        let own = self.unwrap(context, sealed, wrapped)?;
        decrypt(&own, context, value)
    }

    /// The same value sealed with the first key; `None` if it is already.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub fn rewrap(&self, context: &str, sealed: &str) -> Result<Option<String>, SealError> {
        let (id, wrapped, value) = split(sealed)?;
        let key = self.ring().swap_remove(0);
        if id == key.id {
            return Ok(None);
        }
        let own = self.unwrap(context, sealed, wrapped)?;
        let wrapped = encrypt(&key.bytes, &wrap_context(context), &own)?;
        Ok(Some(format!("{VERSION}.{}.{}.{value}", key.id, URL_SAFE_NO_PAD.encode(wrapped))))
    }

    /// Makes a new master key that seals from now on; the old ones still open. Kept in the file before it returns.
    ///
    /// # Errors
    /// The keys come from `PACE_MASTER_KEY`, or the file cannot be written.
    pub fn rotate(&self) -> Result<(), SealError> {
        self.replace([Key::new(random())].into_iter().chain(self.ring()).collect())
    }

    /// Forgets all keys but the one that seals: after everything was rewrapped.
    ///
    /// # Errors
    /// As [`Keys::rotate`].
    pub fn forget_old(&self) -> Result<(), SealError> {
        self.replace(self.ring().into_iter().take(1).collect())
    }

    /// A key for something else, made of the oldest one, so that it does not change when a new one comes.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let oldest = self.ring().pop().map_or([0; KEY_BYTES], |key| key.bytes);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &oldest), format!("paceline {purpose}").as_bytes());
        let mut derived = [0; KEY_BYTES];
        derived.copy_from_slice(tag.as_ref());
        derived
    }

    fn unwrap(&self, context: &str, sealed: &str, wrapped: &str) -> Result<[u8; KEY_BYTES], SealError> {
        let (id, ..) = split(sealed)?;
        let ring = self.ring();
        let key = ring.iter().find(|key| key.id == id).ok_or_else(|| SealError::KeyMissing(id.into()))?;
        decrypt(&key.bytes, &wrap_context(context), wrapped)?.try_into().map_err(|_| SealError::Broken)
    }

    /// Replaces the file as a whole, readable by nobody else.
    fn write(&self, keys: &[Key]) -> Result<(), SealError> {
        let Some(path) = &self.file else {
            let why =
                "the keys come from PACE_MASTER_KEY; write a new one before the old ones there, with a comma between";
            return Err(SealError::File { path: "the environment".into(), why: why.into() });
        };
        let text: String = keys.iter().map(|key| hex(&key.bytes) + "\n").collect();
        let fresh = path.with_extension("key.new");
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&fresh, path))
            .and_then(|()| path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()))
            .map_err(|error| broken(path, &error.to_string()))
    }
}

impl Key {
    fn new(bytes: [u8; KEY_BYTES]) -> Key {
        let mut sum = digest::Context::new(&digest::SHA256);
        sum.update(b"paceline master key");
        sum.update(&bytes);
        Key { id: hex(&sum.finish().as_ref()[..4]), bytes }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.ring().into_iter().map(|key| key.id).collect();
        write!(f, "Keys({})", ids.join(", "))
    }
}

fn parse(text: &str, between: char) -> Option<Vec<Key>> {
    let lines = text.split(between).map(str::trim).filter(|line| !line.is_empty());
    let keys: Option<Vec<Key>> = lines.map(|line| unhex(line).map(Key::new)).collect();
    keys.filter(|keys| !keys.is_empty())
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(std::io::Error::other(format!("others may read it (mode {:o}); chmod 600 it", mode & 0o777)));
    }
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is too long for a file of keys"));
    }
    fs::read_to_string(path)
}

fn broken(path: &Path, why: &str) -> SealError {
    SealError::File { path: path.display().to_string(), why: why.into() }
}

fn wrap_context(context: &str) -> String {
    format!("key of {context}")
}

fn split(sealed: &str) -> Result<(&str, &str, &str), SealError> {
    let mut parts = sealed.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(VERSION), Some(id), Some(wrapped), Some(value), None) => Ok((id, wrapped, value)),
        _ => Err(SealError::Broken),
    }
}

/// Nonce, ciphertext, tag.
fn encrypt(key: &[u8; KEY_BYTES], context: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Broken)?;
    let mut text = value.to_vec();
    let nonce =
        key.seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut text).map_err(|_| SealError::Broken)?;
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut text);
    Ok(sealed)
}

fn decrypt(key: &[u8; KEY_BYTES], context: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
    let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealError::Broken)?;
    let (nonce, text) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Broken)?;
    let mut text = text.to_vec();
    let value = key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut text).map_err(|_| SealError::Broken)?;
    Ok(value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_at_its_place_only_and_untouched_only() {
        let keys = Keys::random();
        let sealed = keys.seal("secret/web/TOKEN", b"hunter2").expect("sealed");
        assert_eq!(keys.open("secret/web/TOKEN", &sealed), Ok(b"hunter2".to_vec()));
        assert_eq!(keys.open("secret/api/TOKEN", &sealed), Err(SealError::Broken));
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let edited = String::from_utf8(bytes).expect("ASCII");
            assert!(keys.open("secret/web/TOKEN", &edited).is_err(), "{at}");
        }
        assert!(matches!(Keys::random().open("secret/web/TOKEN", &sealed), Err(SealError::KeyMissing(_))));
        for text in ["", "v1", "v1.a.b", "v2.a.b.c", "v1.a.b.c.d", "v1...", "v1.é.é.é"] {
            assert!(keys.open("x", text).is_err(), "{text}");
        }
        assert_ne!(
            sealed,
            keys.seal("secret/web/TOKEN", b"hunter2").expect("sealed"),
            "nobody sees which are the same"
        );
    }

    #[test]
    fn a_new_master_key_opens_all_and_the_old_one_is_needed_until_rewrapped() {
        let folder = tempfile::tempdir().expect("folder");
        let keys = Keys::load(folder.path(), None).expect("made");
        let (sealed, purpose) = (keys.seal("x", b"value").expect("sealed"), keys.derive("versions"));
        let old = keys.current();
        keys.clone().rotate().expect("written");
        assert_ne!(old, keys.current(), "of a clone, too");
        let again = Keys::load(folder.path(), None).expect("read");
        assert_eq!(again.open("x", &sealed), Ok(b"value".to_vec()));
        assert_eq!(again.derive("versions"), purpose);
        let rewrapped = again.rewrap("x", &sealed).expect("opens").expect("it had the old key");
        assert_eq!(again.rewrap("x", &rewrapped), Ok(None));
        again.forget_old().expect("written");
        assert_eq!(again.open("x", &rewrapped), Ok(b"value".to_vec()));
        assert_eq!(again.open("x", &sealed), Err(SealError::KeyMissing(old)));
        assert_eq!(Keys::load(folder.path(), None).map(|keys| keys.current()), Ok(again.current()));
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("folder");
        Keys::load(folder.path(), None).expect("made");
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = Keys::load(folder.path(), None).expect_err("others may read it").to_string();
        assert!(error.ends_with("others may read it (mode 644); chmod 600 it"), "{error}");
    }

    #[test]
    fn keys_of_the_environment_are_never_written() {
        let folder = tempfile::tempdir().expect("folder");
        let (new, old) = ("a".repeat(64), "b".repeat(64));
        let before = Keys::load(folder.path(), Some(&old)).expect("a key");
        let sealed = before.seal("x", b"value").expect("sealed");
        let after = Keys::load(folder.path(), Some(&format!("{new}, {old}"))).expect("two keys");
        assert_eq!(after.open("x", &sealed), Ok(b"value".to_vec()));
        assert!(after.rotate().is_err() && !folder.path().join(FILE).exists());
        assert!(matches!(Keys::load(folder.path(), Some("secret")), Err(SealError::Variable)));
        assert!(!format!("{after:?}").contains("aaaaaaaa"));
    }
}
