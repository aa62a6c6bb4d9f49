//! SHA-256 sums as images write them: `sha256:` and 64 digits, without the length that `model::Digest` has too.

use std::fmt;

use model::Digest;
use sha2::{Digest as _, Sha256};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(pub [u8; 32]);

impl Sum {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Sum {
        Sum(Sha256::digest(bytes).into())
    }
    /// Reads `sha256:` and 64 lower-case hexadecimal digits; `None` for anything else, other algorithms included.
    pub fn parse(text: &str) -> Option<Sum> {
        Digest::from_hex(text.strip_prefix("sha256:")?, 0).map(Sum::from)
    }
    /// The digits alone.
    pub fn hex(&self) -> String {
        self.sized(0).hex()
    }
    /// The first twelve digits: enough for a person.
    pub fn short(&self) -> String {
        self.sized(0).short()
    }
    /// With the length in bytes of what it is the sum of.
    pub fn sized(&self, size: u64) -> Digest {
        Digest { hash: self.0, size }
    }
}

impl From<Digest> for Sum {
    fn from(digest: Digest) -> Sum {
        Sum(digest.hash)
    }
}
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}
impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}
