//! An entry of the log: what it says, in which form that is kept, and the hash that binds it to the entry before it.

use sha2::{Digest as _, Sha256};

use crate::StoreError;

/// SHA-256 of an entry, and through it of the whole log before it.
pub(crate) type Hash = [u8; 32];

/// What an entry that is no fact of a run is called in the log.
pub(crate) const CHANGE: &str = "change";

/// Where compression begins to pay: below it a frame's header eats what is won.
const COMPRESSED_FROM: usize = 1 << 10;
/// What one payload, delivery or piece of a log may be when it is read back. A plan of 10,000 steps is far smaller.
const LENGTH_MAX: u64 = 1 << 30;

/// How bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Zstd,
    /// The bytes were removed by retention; their SHA-256 is in their place, so that the chain can still be checked.
    Removed,
}

impl Encoding {
    pub(crate) fn number(self) -> u64 {
        match self {
            Encoding::Plain => 0,
            Encoding::Zstd => 1,
            Encoding::Removed => 2,
        }
    }

    pub(crate) fn of(number: u64) -> Result<Encoding, StoreError> {
        match number {
            0 => Ok(Encoding::Plain),
            1 => Ok(Encoding::Zstd),
            2 => Ok(Encoding::Removed),
            other => Err(StoreError::Damaged(format!("nothing is kept in form {other}"))),
        }
    }
}

/// Bytes as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub encoding: Encoding,
    /// Length before they were packed.
    pub length: u64,
    pub bytes: Vec<u8>,
}

impl Packed {
    pub(crate) fn new(plain: Vec<u8>) -> Packed {
        let length = plain.len() as u64;
        if plain.len() >= COMPRESSED_FROM
            && let Ok(bytes) = zstd::bulk::compress(&plain, 1)
            && bytes.len() < plain.len()
        {
            return Packed { encoding: Encoding::Zstd, length, bytes };
        }
        Packed { encoding: Encoding::Plain, length, bytes: plain }
    }

    /// The bytes; `None` if retention removed them.
    pub(crate) fn open(self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.encoding {
            Encoding::Removed => Ok(None),
            Encoding::Plain => Ok(Some(self.bytes)),
            Encoding::Zstd => {
                let room = usize::try_from(self.length.min(LENGTH_MAX)).unwrap_or(usize::MAX);
                let plain = zstd::bulk::decompress(&self.bytes, room)
                    .map_err(|error| StoreError::Damaged(format!("something compressed cannot be read: {error}")))?;
                Ok(Some(plain))
            }
        }
    }
}

/// Everything about an entry that its hash covers. What it says comes in as a digest, so that the saying can be removed.
pub(crate) struct Covered<'a> {
    pub sequence: u64,
    /// Microseconds since 1970.
    pub at: u64,
    /// Empty for a change.
    pub project: &'a str,
    /// Empty for a change.
    pub run: &'a str,
    /// Number within the run, counted from 1; 0 for a change.
    pub run_sequence: u64,
    pub kind: &'a str,
    /// SHA-256 of what it says.
    pub says: Hash,
}

impl Covered<'_> {
    /// The entry's hash after the one before it. Texts carry their length, so that no two entries look alike.
    pub(crate) fn hash(&self, before: &Hash) -> Hash {
        let mut hash = Sha256::new();
        hash.update(before);
        for number in [self.sequence, self.at, self.run_sequence] {
            hash.update(number.to_be_bytes());
        }
        for text in [self.project, self.run, self.kind] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.says);
        hash.finalize().into()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// The name of what an enum of serde says: the first text of its JSON. A tag has no escapes.
pub(crate) fn kind_of(json: &[u8]) -> &str {
    let mut parts = json.splitn(3, |byte| *byte == b'"').skip(1);
    parts.next().and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
}

/// A change as the log keeps it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ChangeSaid {
    pub by: String,
    pub act: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    pub key: String,
    pub does: Does,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

/// What a change does to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Does {
    Put,
    Remove,
    Note,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for length in [0, 1, COMPRESSED_FROM - 1, COMPRESSED_FROM, 300_000] {
            let plain: Vec<u8> = (0..length).map(|at| (at % 7) as u8).collect();
            assert_eq!(Packed::new(plain.clone()).open().unwrap(), Some(plain));
        }
    }

    #[test]
    fn the_kind_of_a_fact_is_its_tag() {
        assert_eq!(kind_of(br#""Started""#), "Started");
        assert_eq!(kind_of(br#"{"StepReady":{"node":3}}"#), "StepReady");
        assert_eq!(kind_of(b"17"), "");
    }

    #[test]
    fn every_field_changes_the_hash() {
        let hash = |sequence, at, project, run, run_sequence, kind, says| {
            Covered { sequence, at, project, run, run_sequence, kind, says }.hash(&[0; 32])
        };
        let base = hash(1, 2, "p", "r", 3, "k", [0; 32]);
        let others = [
            hash(2, 2, "p", "r", 3, "k", [0; 32]),
            hash(1, 3, "p", "r", 3, "k", [0; 32]),
            hash(1, 2, "pr", "", 3, "k", [0; 32]),
            hash(1, 2, "", "pr", 3, "k", [0; 32]),
            hash(1, 2, "p", "rk", 3, "", [0; 32]),
            hash(1, 2, "p", "r", 4, "k", [0; 32]),
            hash(1, 2, "p", "r", 3, "k", [1; 32]),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
