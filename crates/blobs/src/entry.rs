//! Entries: small values under a name, that are there only as long as every blob they need is.

use bytes::Bytes;

use crate::record::array;
use crate::{Error, Function, Key};

/// The name of an entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// Which collection: an action cache's domain, the files of one HTTP client, a map of assets. At most
    /// [`SPACE_BYTES_MAX`] bytes. Entries of different spaces never meet.
    pub space: String,
    /// Within the space; what has another kind of name uses a hash of it.
    pub hash: [u8; 32],
}

/// Length of [`EntryId::space`] in bytes: names of instances are short, and each record repeats it.
pub const SPACE_BYTES_MAX: usize = 1024;
/// Length of [`Entry::value`] in bytes. What is larger is a blob that the entry needs.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Blobs that one entry may need.
pub const NEEDS_MAX: usize = 1 << 20;
/// Length of [`Entry::writer`] in bytes.
pub const WRITER_BYTES_MAX: usize = 4096;

/// An entry. The newest one under a name counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// What it says, at most [`VALUE_BYTES_MAX`] bytes: an encoded `ActionResult`, for example.
    pub value: Bytes,
    /// The blobs without which it is worth nothing, at most [`NEEDS_MAX`], flattened once when it is written.
    pub needs: Vec<Key>,
    /// Who wrote it: the name of a token and what it said of its run. Entries can be purged by it. At most
    /// [`WRITER_BYTES_MAX`] bytes.
    pub writer: String,
    /// When it was written: seconds since 1970-01-01 UTC.
    pub written: u64,
}

/// Bytes of one needed key in a record.
const NEED_BYTES: usize = 41;

impl Entry {
    /// Refuses what is too large.
    pub(crate) fn check(&self, id: &EntryId) -> Result<(), Error> {
        bound("the space of an entry", id.space.len(), SPACE_BYTES_MAX, "bytes")?;
        bound("the writer of an entry", self.writer.len(), WRITER_BYTES_MAX, "bytes")?;
        bound("the value of an entry", self.value.len(), VALUE_BYTES_MAX, "bytes")?;
        bound("the list of blobs that an entry needs", self.needs.len(), NEEDS_MAX, "blobs")
    }

    /// The body of its record. The space comes first: the rest of the name is in the header.
    pub(crate) fn encode(&self, id: &EntryId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + id.space.len() + self.needs.len() * NEED_BYTES + self.value.len());
        for text in [&id.space, &self.writer] {
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.written.to_le_bytes());
        bytes.extend((self.needs.len() as u32).to_le_bytes());
        for need in &self.needs {
            bytes.push(need.function as u8);
            bytes.extend(need.size.to_le_bytes());
            bytes.extend(need.hash);
        }
        bytes.extend(&self.value);
        bytes
    }

    /// The name and the entry of a record; `None` when it is none.
    pub(crate) fn decode(hash: [u8; 32], body: &Bytes) -> Option<(EntryId, Entry)> {
        let (space, rest) = text(body)?;
        let (writer, rest) = text(rest)?;
        let (head, mut rest) = rest.split_at_checked(12)?;
        let count = u32::from_le_bytes(array(&head[8..])) as usize;
        let mut needs = Vec::with_capacity(count.min(NEEDS_MAX));
        for _ in 0..count {
            let (need, next) = rest.split_at_checked(NEED_BYTES)?;
            let function = if need[0] == 0 { Function::Sha256 } else { Function::Blake3 };
            needs.push(Key { function, size: u64::from_le_bytes(array(&need[1..9])), hash: array(&need[9..]) });
            rest = next;
        }
        let written = u64::from_le_bytes(array(&head[..8]));
        let id = EntryId { space: String::from_utf8(space.to_vec()).ok()?, hash };
        let value = body.slice(body.len() - rest.len()..);
        Some((id, Entry { value, needs, writer: String::from_utf8(writer.to_vec()).ok()?, written }))
    }
}

/// The space in the body of an entry's record.
pub(crate) fn space_of(body: &[u8]) -> Option<&[u8]> {
    text(body).map(|(space, _)| space)
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(array(length))))
}

fn bound(what: &str, size: usize, max: usize, unit: &'static str) -> Result<(), Error> {
    let too_large = || Error::TooLarge { what: what.to_owned(), size: size as u64, max: max as u64, unit };
    if size <= max { Ok(()) } else { Err(too_large()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_no_part_of_it_is_taken_for_one() {
        let needs = vec![Function::Sha256.key_of(b"a"), Function::Blake3.key_of(b"b")];
        let entry = Entry { value: "value".into(), needs, writer: "ci".into(), written: 5 };
        let id = EntryId { space: "main".into(), hash: [7; 32] };
        let body = Bytes::from(entry.encode(&id));
        assert_eq!(Entry::decode(id.hash, &body), Some((id.clone(), entry.clone())));
        assert_eq!(space_of(&body), Some(&b"main"[..]));
        for length in 0..body.len() - entry.value.len() {
            assert_eq!(Entry::decode(id.hash, &body.slice(..length)), None, "{length} bytes");
        }
    }
}
