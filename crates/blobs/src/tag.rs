//! By what the index knows a record: 16 bytes that no two names share.

use std::hash::{BuildHasherDefault, Hasher};

use crate::record::{Header, Kind, array};
use crate::{EntryId, Function, Key};

/// Half of a cryptographic hash. To make two that are the same takes 2^64 tries, and gains nothing: a record says its
/// whole name, which readers compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Tag {
    pub high: u64,
    pub low: u64,
}

/// Keeps the functions apart; any odd number does.
const BLAKE3: u64 = 0x9E37_79B9_7F4A_7C15;

impl Tag {
    pub(crate) fn of(key: &Key) -> Tag {
        Tag::of_hash(key.function, &key.hash)
    }

    pub(crate) fn of_hash(function: Function, hash: &[u8; 32]) -> Tag {
        let tag = Tag::from_bytes(array(&hash[..16]));
        match function {
            Function::Sha256 => tag,
            Function::Blake3 => Tag { low: tag.low ^ BLAKE3, ..tag },
        }
    }

    pub(crate) fn of_entry(id: &EntryId) -> Tag {
        Tag::of_entry_parts(id.space.as_bytes(), &id.hash)
    }

    /// The name of an entry is what a client says, so it is hashed here: nobody chooses whom to collide with.
    fn of_entry_parts(space: &[u8], hash: &[u8; 32]) -> Tag {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"entry").update(hash).update(space);
        Tag::from_bytes(array(&hasher.finalize().as_bytes()[..16]))
    }

    /// The tag of a whole record. `None` when its body is not what its kind says.
    pub(crate) fn of_record(header: &Header, body: &[u8]) -> Option<Tag> {
        match header.kind {
            Kind::Blob | Kind::List => Some(Tag::of(&header.key())),
            Kind::Entry => Some(Tag::of_entry_parts(crate::entry::space_of(body)?, &header.hash)),
            Kind::Tombstone => body.try_into().ok().map(Tag::from_bytes),
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Tag {
        let number = u128::from_be_bytes(bytes);
        Tag { high: (number >> 64) as u64, low: number as u64 }
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }
}

/// Tags are hashes already.
#[derive(Default)]
pub(crate) struct TagHasher(u64);

pub(crate) type TagState = BuildHasherDefault<TagHasher>;

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(23) ^ number;
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(BLAKE3);
    }
}
