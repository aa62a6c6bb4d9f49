//! Random content that no server has seen before, and its names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bazel_remote_apis::build::bazel::remote::execution::v2::Digest;
use bytes::Bytes;
use sha2::Digest as _;

/// A blob to store.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// `count` new blobs of `len` bytes.
pub(crate) fn blobs(count: usize, len: usize) -> Vec<Blob> {
    (0..count).map(|_| blob(len)).collect()
}

/// A new blob.
pub(crate) fn blob(len: usize) -> Blob {
    let bytes = random(len);
    let hash = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Blob { digest: Digest { hash, size_bytes: len as i64 }, bytes: bytes.into() }
}

/// Bytes that do not compress and never came before.
pub(crate) fn random(len: usize) -> Vec<u8> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let mut state = now ^ CALLS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
