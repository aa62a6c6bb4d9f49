//! Compression at rest: zstd where it pays, the bytes as they are where it does not.

use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};

/// Smaller blobs are kept as they are: a frame's header and tables eat what it saves, and setting up costs as much
/// as compressing.
pub const PACK_BYTES_MIN: usize = 4 << 10;
/// Bytes of a result of [`unpack`]: more than any record of a segment has, little enough to allocate on one's word.
pub const UNPACK_BYTES_MAX: usize = 64 << 20;

/// Level 1 keeps up with a disk; level 3 takes three times as long for a tenth less.
const LEVEL: i32 = 1;
const SAMPLE_PARTS: usize = 4;
const SAMPLE_PART_BYTES: usize = 4 << 10;
const SAMPLE_BYTES: usize = SAMPLE_PARTS * SAMPLE_PART_BYTES;
/// Contexts of each kind that wait for work. Kept here and not per thread: a server has hundreds of threads that may
/// block, and a compressor is most of a megabyte.
const IDLE_MAX: usize = 8;

static COMPRESSORS: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More was announced than is ever stored in one piece.
    #[error("{size} bytes cannot be unpacked at once; at most {UNPACK_BYTES_MAX} can")]
    TooLarge {
        /// Bytes announced.
        size: usize,
    },
    /// It is no frame, a cut off one, or one with more in it than `size` bytes.
    #[error("cannot unpack {stored} stored bytes to {size}: {source}")]
    Unpack {
        /// Bytes stored.
        stored: usize,
        /// Bytes expected.
        size: usize,
        /// What zstd says.
        source: std::io::Error,
    },
    /// It has less in it.
    #[error("{stored} stored bytes unpack to {actual} bytes instead of {size}")]
    WrongSize {
        /// Bytes stored.
        stored: usize,
        /// Bytes expected.
        size: usize,
        /// Bytes found.
        actual: usize,
    },
}

/// The bytes as a zstd frame, if that is at most 7/8 of them; `None` says to keep them as they are.
pub fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < PACK_BYTES_MIN {
        return None;
    }
    let mut compressor = match idle(&COMPRESSORS) {
        Some(compressor) => compressor,
        // Only for want of memory, and then not compressing is the answer.
        None => Compressor::new(LEVEL).ok()?,
    };
    // Four samples' worth, so that looking costs at most a quarter of doing.
    let promising = bytes.len() < 4 * SAMPLE_BYTES || shrunk(&mut compressor, &sample(bytes)).is_some();
    let packed = if promising { shrunk(&mut compressor, bytes) } else { None };
    put_back(&COMPRESSORS, compressor);
    packed
}

/// The `size` bytes of a frame that [`pack`] made. Never allocates more than `size`, whatever the frame says of itself.
///
/// # Errors
/// It is not a whole frame of exactly `size` bytes, or `size` is above [`UNPACK_BYTES_MAX`].
pub fn unpack(stored: &[u8], size: usize) -> Result<Vec<u8>, CodecError> {
    if size > UNPACK_BYTES_MAX {
        return Err(CodecError::TooLarge { size });
    }
    let failed = |source| CodecError::Unpack { stored: stored.len(), size, source };
    let mut decompressor = match idle(&DECOMPRESSORS) {
        Some(decompressor) => decompressor,
        None => Decompressor::new().map_err(failed)?,
    };
    let mut bytes = Vec::with_capacity(size);
    let done = decompressor.decompress_to_buffer(stored, &mut bytes);
    put_back(&DECOMPRESSORS, decompressor);
    match done.map_err(failed)? {
        actual if actual == size => Ok(bytes),
        actual => Err(CodecError::WrongSize { stored: stored.len(), size, actual }),
    }
}

/// Pieces from all over: the head of a file is rarely like the rest of it.
fn sample(bytes: &[u8]) -> Vec<u8> {
    let stride = (bytes.len() - SAMPLE_PART_BYTES) / (SAMPLE_PARTS - 1);
    (0..SAMPLE_PARTS).flat_map(|part| &bytes[part * stride..][..SAMPLE_PART_BYTES]).copied().collect()
}

/// The frame if it fits in 7/8. The room given is the test: zstd stops when it is used up.
fn shrunk(compressor: &mut Compressor<'_>, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(bytes.len() / 8 * 7);
    compressor.compress_to_buffer(bytes, &mut packed).ok()?;
    packed.shrink_to_fit();
    Some(packed)
}

fn idle<T>(contexts: &Mutex<Vec<T>>) -> Option<T> {
    contexts.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn put_back<T>(contexts: &Mutex<Vec<T>>, context: T) {
    let mut idle = contexts.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.len() < IDLE_MAX {
        idle.push(context);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    #[test]
    fn text_shrinks_and_comes_back() {
        let text = b"int main(void) { return 0; }\n".repeat(4_000);
        let packed = pack(&text).expect("it repeats itself");
        assert!(packed.len() < text.len() / 20, "{} of {}", packed.len(), text.len());
        assert_eq!(unpack(&packed, text.len()).unwrap(), text);
    }

    #[test]
    fn what_is_small_or_does_not_shrink_is_kept_as_it_is() {
        assert_eq!(pack(&[0; PACK_BYTES_MIN - 1]), None);
        assert!(pack(&[0; PACK_BYTES_MIN]).is_some());
        for size in [PACK_BYTES_MIN, 4 * SAMPLE_BYTES - 1, 4 * SAMPLE_BYTES, 1 << 20] {
            assert_eq!(pack(&Random::new(7).bytes(size)), None, "{size} random bytes");
        }
    }

    #[test]
    fn a_compressible_head_does_not_fool_the_sample() {
        let mut bytes = vec![0; 16 << 10];
        bytes.extend(Random::new(1).bytes(1 << 20));
        assert_eq!(pack(&bytes), None);
    }

    #[test]
    fn a_frame_with_more_in_it_than_announced_is_refused_and_allocates_nothing_for_it() {
        // 64 MiB of zeros are a frame of some 6 kB; believed, it would be a bomb.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert!(bomb.len() < 16 << 10);
        assert!(matches!(unpack(&bomb, 4096), Err(CodecError::Unpack { size: 4096, .. })));
    }

    #[test]
    fn a_frame_that_lies_about_its_size_is_refused() {
        let mut frame = zstd::bulk::compress(&[5; 100_000], 1).unwrap();
        // Bytes 5 to 8 are the content size of a frame of this length; see RFC 8878, 3.1.1.1.
        frame[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(&frame, 100_000).is_err());
    }

    #[test]
    fn a_frame_with_less_in_it_is_refused() {
        let frame = zstd::bulk::compress(&[5; 5_000], 1).unwrap();
        let told = unpack(&frame, 5_001).unwrap_err().to_string();
        assert_eq!(told, format!("{} stored bytes unpack to 5000 bytes instead of 5001", frame.len()));
        assert!(matches!(unpack(&[], 1), Err(CodecError::WrongSize { actual: 0, .. })));
    }

    #[test]
    fn absurd_sizes_are_refused_before_they_are_allocated() {
        assert!(matches!(unpack(&[], usize::MAX), Err(CodecError::TooLarge { .. })));
    }

    #[test]
    fn a_context_works_on_after_a_bad_frame() {
        let text = b"abc".repeat(9_000);
        let packed = pack(&text).unwrap();
        for _ in 0..3 {
            assert!(unpack(&packed[..packed.len() - 1], text.len()).is_err());
            assert_eq!(unpack(&packed, text.len()).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn all_that_is_packed_comes_back(seed: u64, size in 0usize..300_000, alphabet in 1u8..=255) {
            let bytes: Vec<u8> = Random::new(seed).bytes(size).iter().map(|byte| byte % alphabet).collect();
            if let Some(packed) = pack(&bytes) {
                prop_assert!(packed.len() <= size / 8 * 7);
                prop_assert_eq!(unpack(&packed, size).unwrap(), bytes);
            }
        }

        #[test]
        fn no_stored_bytes_whatever_make_it_panic(stored in proptest::collection::vec(any::<u8>(), 0..600), size in 0usize..100_000) {
            if let Ok(bytes) = unpack(&stored, size) {
                prop_assert_eq!(bytes.len(), size);
            }
        }

        #[test]
        fn a_flipped_bit_gives_an_error_or_the_announced_number_of_bytes(at in 0usize..1_000, bit in 0u8..8) {
            let text: Vec<u8> = (0..20_000u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
            let mut packed = pack(&text).unwrap();
            let at = at % packed.len();
            packed[at] ^= 1 << bit;
            if let Ok(bytes) = unpack(&packed, text.len()) {
                prop_assert_eq!(bytes.len(), text.len());
            }
        }
    }
}
