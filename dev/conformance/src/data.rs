//! Content that nobody has stored before, and its digests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use sha2::Digest as _;

pub(crate) use api::digest_function::Value as Function;

/// Makes content that differs with every call and every run, and does not compress.
#[derive(Debug)]
pub(crate) struct Source(AtomicU64);

impl Source {
    pub(crate) fn new() -> Source {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        Source(AtomicU64::new(now ^ (u64::from(std::process::id()) << 40)))
    }
    pub(crate) fn bytes(&self, len: usize) -> Vec<u8> {
        let mut state = mixed(self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            bytes.extend_from_slice(&mixed(state).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
    /// A version 4 UUID.
    pub(crate) fn uuid(&self) -> String {
        let hex = hex(&self.bytes(16));
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}

/// The last step of SplitMix64.
fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// The digest of content.
pub(crate) fn digest(function: Function, bytes: &[u8]) -> api::Digest {
    let hash = match function {
        Function::Blake3 => blake3::hash(bytes).to_hex().to_string(),
        _ => hex(&sha2::Sha256::digest(bytes)),
    };
    api::Digest { hash, size_bytes: bytes.len() as i64 }
}

/// The digest with another size.
pub(crate) fn resized(digest: &api::Digest, by: i64) -> api::Digest {
    api::Digest { hash: digest.hash.clone(), size_bytes: digest.size_bytes + by }
}

/// zstd at level 1.
pub(crate) fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("compressing into memory does not fail")
}

/// The content of zstd frames.
pub(crate) fn decompressed(frames: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::stream::decode_all(frames)
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_the_standard_says() {
        let abc = digest(Function::Sha256, b"abc");
        assert_eq!(abc.hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(digest(Function::Blake3, b"").hash.starts_with("af1349b9f5f9a1a6"));
    }

    #[test]
    fn content_is_never_the_same_twice() {
        let source = Source::new();
        assert_ne!(source.bytes(16), source.bytes(16));
        assert_eq!(source.uuid().len(), 36);
    }
}
