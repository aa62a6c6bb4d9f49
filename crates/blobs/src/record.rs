//! One record of a segment: a header of fixed length and a body, under one checksum.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Function, Key};

/// Bytes of an encoded [`Header`].
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes of a body: the largest entry (its needs and its value) fits.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

const MAGIC: u16 = 0xB10B;
const CHECKED: usize = HEADER_BYTES - 8;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A blob, whole.
    Blob = 1,
    /// The keys of the chunks that make a blob.
    List = 2,
    /// An entry.
    Entry = 3,
    /// What had this tag is gone. The body is the tag.
    Tombstone = 4,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Blob, Kind::List, Kind::Entry, Kind::Tombstone].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The fixed part. Checksums are not in it: they are made last, when `seq` is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub kind: Kind,
    /// Whether the body is a zstd frame.
    pub packed: bool,
    pub function: Function,
    /// Bytes of the body as it is stored.
    pub stored_len: u32,
    pub hash: [u8; 32],
    /// Bytes of what the body stands for.
    pub size: u64,
    /// The order of all records of all segments.
    pub seq: u64,
}

impl Header {
    /// The blob it names.
    pub(crate) fn key(&self) -> Key {
        Key { function: self.function, hash: self.hash, size: self.size }
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.stored_len)
    }

    /// `sum` is that of the body.
    pub(crate) fn encode(&self, sum: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let function = match self.function {
            Function::Sha256 => 0,
            Function::Blake3 => 2,
        };
        bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2] = self.kind as u8;
        bytes[3] = u8::from(self.packed) | function;
        bytes[4..8].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.hash);
        bytes[40..48].copy_from_slice(&self.size.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.seq.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..CHECKED], sum);
        bytes[CHECKED..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// What a header says, not yet believed: see [`checked`]. `None` when it cannot be one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let stored_len = u32::from_le_bytes(array(&bytes[4..8]));
        if bytes[..2] != MAGIC.to_le_bytes() || bytes[3] > 3 || stored_len as usize > BODY_BYTES_MAX {
            return None;
        }
        Some(Header {
            kind: Kind::from_byte(bytes[2])?,
            packed: bytes[3] & 1 != 0,
            function: if bytes[3] & 2 == 0 { Function::Sha256 } else { Function::Blake3 },
            stored_len,
            hash: array(&bytes[8..40]),
            size: u64::from_le_bytes(array(&bytes[40..48])),
            seq: u64::from_le_bytes(array(&bytes[48..56])),
        })
    }
}

/// The checksum of a body.
pub(crate) fn sum(body: &[u8]) -> u64 {
    xxh3_64(body)
}

/// The header of a whole record, if no bit of it or of its body has changed.
pub(crate) fn checked(record: &[u8]) -> Option<Header> {
    let header = Header::parse(record)?;
    let body = &record[HEADER_BYTES..];
    if body.len() != header.stored_len as usize {
        return None;
    }
    let check = xxh3_64_with_seed(&record[..CHECKED], sum(body));
    (record[CHECKED..HEADER_BYTES] == check.to_le_bytes()).then_some(header)
}

/// A slice whose length is known, as an array.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cut it to this length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8]) -> Vec<u8> {
        let key = Function::Blake3.key_of(body);
        let header = Header {
            kind: Kind::Blob,
            packed: false,
            function: key.function,
            stored_len: body.len() as u32,
            hash: key.hash,
            size: key.size,
            seq: 7,
        };
        [&header.encode(sum(body))[..], body].concat()
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let bytes = record(b"hello");
        let header = checked(&bytes).unwrap();
        assert_eq!(header.key(), Function::Blake3.key_of(b"hello"));
        assert_eq!((header.kind, header.seq, header.record_bytes()), (Kind::Blob, 7, 69));
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let bytes = record(b"hello");
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checked(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn no_cut_off_or_zeroed_record_is_believed() {
        let bytes = record(b"hello");
        for len in 0..bytes.len() {
            assert_eq!(checked(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(checked(&[0; 200]), None);
    }
}
