//! What a blob is asked by: a digest function, a hash and a size.

use std::fmt;
use std::sync::LazyLock;

use sha2::Digest as _;

/// A digest function of the Remote Execution API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE3, 256 bits.
    Blake3,
}

impl Function {
    /// All of them.
    pub const ALL: [Function; 2] = [Function::Sha256, Function::Blake3];

    /// The word in resource names.
    pub fn word(self) -> &'static str {
        match self {
            Function::Sha256 => "sha256",
            Function::Blake3 => "blake3",
        }
    }

    /// The hash of no bytes.
    fn empty_hash(self) -> [u8; 32] {
        static EMPTY: LazyLock<[[u8; 32]; 2]> =
            LazyLock::new(|| Function::ALL.map(|function| function.key_of(&[]).hash));
        EMPTY[self as usize]
    }

    /// The key of bytes.
    pub fn key_of(self, bytes: &[u8]) -> Key {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.key()
    }
}

/// A blob by its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// How it was hashed.
    pub function: Function,
    /// The hash of the content.
    pub hash: [u8; 32],
    /// Length of the content in bytes.
    pub size: u64,
}

impl Key {
    /// Reads 64 lower-case hexadecimal digits; `None` for anything else.
    pub fn from_hex(function: Function, hex: &str, size: u64) -> Option<Key> {
        model::Digest::from_hex(hex, size).map(|digest| Key { function, ..Key::from(digest) })
    }
    /// The hash as 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        model::Digest { hash: self.hash, size: self.size }.hex()
    }
    /// Whether it is the blob of no bytes, which every store holds.
    pub fn is_empty_blob(&self) -> bool {
        self.size == 0 && self.hash == self.function.empty_hash()
    }
}

impl From<model::Digest> for Key {
    fn from(digest: model::Digest) -> Key {
        Key { function: Function::Sha256, hash: digest.hash, size: digest.size }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.function != Function::Sha256 {
            write!(f, "{}/", self.function.word())?;
        }
        write!(f, "{}/{}", self.hex(), self.size)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Hashes what is fed to it.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    size: u64,
}

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    // Boxed: it is 1.9 kB.
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// An empty one.
    pub fn new(function: Function) -> Hasher {
        let state = match function {
            Function::Sha256 => State::Sha256(sha2::Sha256::new()),
            Function::Blake3 => State::Blake3(Box::default()),
        };
        Hasher { state, size: 0 }
    }
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        match &mut self.state {
            State::Sha256(sha) => sha.update(bytes),
            State::Blake3(blake) => {
                blake.update(bytes);
            }
        }
    }
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// The key of all bytes.
    pub fn key(self) -> Key {
        match self.state {
            State::Sha256(sha) => Key { function: Function::Sha256, hash: sha.finalize().into(), size: self.size },
            State::Blake3(blake) => Key { function: Function::Blake3, hash: blake.finalize().into(), size: self.size },
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({} bytes)", self.size)
    }
}
