//! Content-defined chunking: FastCDC 2020 with the parameters that the Remote Execution API recommends.

use std::sync::LazyLock;

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};

/// Bytes of a chunk on average: `avg_chunk_size_bytes` of `FastCdc2020Params`.
pub const CHUNK_BYTES_AVERAGE: usize = 512 << 10;
/// Bytes of every chunk but the last, at least; the API derives it from the average.
pub const CHUNK_BYTES_MIN: usize = CHUNK_BYTES_AVERAGE / 4;
/// Bytes of a chunk at most; the API derives it, and says that smaller blobs are not worth chunking.
pub const CHUNK_BYTES_MAX: usize = CHUNK_BYTES_AVERAGE * 4;
/// `seed` of `FastCdc2020Params`.
pub const CHUNK_SEED: u32 = 0;

/// Bytes that are moved to the chunk at a time when it spans pushed blocks: what is moved beyond its end is in vain.
const STEP_BYTES: usize = 64 << 10;

/// What the rolling hash adds for a byte, and the masks before and after the average length.
struct Tables {
    gear: [u64; 256],
    strict: u64,
    loose: u64,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let (gear, _) = get_gear_with_seed(u64::from(CHUNK_SEED));
    let (strict, loose) = select_masks(CHUNK_BYTES_AVERAGE, Normalization::Level2);
    let gear = gear[..].try_into().expect("the table has one number for each byte");
    Tables { gear, strict, loose }
});

/// Cuts a stream in chunks. Where it cuts depends on the bytes alone, not on the blocks they come in, and no byte is
/// scanned twice.
#[derive(Debug, Default)]
pub struct Chunker {
    /// The chunk so far, when it did not end in the block it began in. At most [`CHUNK_BYTES_MAX`].
    kept: Vec<u8>,
    scan: Scan,
}

impl Chunker {
    /// One at the beginning of a stream.
    pub fn new() -> Chunker {
        Chunker::default()
    }

    /// The next bytes of the stream. `chunk` gets every chunk that is known to be whole now.
    ///
    /// # Errors
    /// Those of `chunk`; the chunker is of no use then.
    pub fn push<E>(&mut self, mut bytes: &[u8], mut chunk: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let used = match self.kept.is_empty() {
                true => self.cut(bytes, &mut chunk)?,
                false => self.extend(bytes, &mut chunk)?,
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// The stream has ended: `chunk` gets what is left, if anything.
    ///
    /// # Errors
    /// Those of `chunk`.
    pub fn finish<E>(self, mut chunk: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.kept.is_empty() { Ok(()) } else { chunk(&self.kept) }
    }

    /// A chunk that begins with `bytes`: taken from there if it ends there too.
    fn cut<E>(&mut self, bytes: &[u8], chunk: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<usize, E> {
        match self.scan.end(bytes) {
            Some(end) => chunk(&bytes[..end]).map(|()| end),
            None => {
                self.kept.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// A chunk that goes on in `bytes`.
    fn extend<E>(&mut self, bytes: &[u8], chunk: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<usize, E> {
        let before = self.kept.len();
        let step = bytes.len().min(STEP_BYTES).min(CHUNK_BYTES_MAX - before);
        self.kept.extend_from_slice(&bytes[..step]);
        let Some(end) = self.scan.end(&self.kept) else { return Ok(step) };
        chunk(&self.kept[..end])?;
        // The last byte before may have waited for its pair, and begin the next chunk.
        let waited = before.checked_sub(1).filter(|at| *at == end).map(|at| self.kept[at]);
        self.kept.clear();
        self.kept.extend(waited);
        Ok(end.saturating_sub(before))
    }
}

/// How far in a chunk its end was looked for.
#[derive(Debug, Default)]
struct Scan {
    /// Even always: positions are looked at in pairs as the reference does, and that shows when a stream ends after an
    /// odd number of bytes.
    scanned: usize,
    hash: u64,
}

impl Scan {
    /// The length of the chunk that `window` begins with, if it ends there; then the scan is at the next chunk.
    /// `window` is what it was the last time, and more.
    fn end(&mut self, window: &[u8]) -> Option<usize> {
        let window = &window[..window.len().min(CHUNK_BYTES_MAX)];
        self.scanned = self.scanned.max(CHUNK_BYTES_MIN);
        let end = self
            .part(&window[..window.len().min(CHUNK_BYTES_AVERAGE)], TABLES.strict)
            .or_else(|| self.part(window, TABLES.loose))
            .or_else(|| (window.len() == CHUNK_BYTES_MAX).then_some(CHUNK_BYTES_MAX))?;
        *self = Scan::default();
        Some(end)
    }

    /// The first position from the last one on where the hash has none of the bits of `mask`.
    fn part(&mut self, window: &[u8], mask: u64) -> Option<usize> {
        let Tables { gear, .. } = &*TABLES;
        let (mut hash, mut at) = (self.hash, self.scanned);
        let (quads, rest) = window.get(at..)?.as_chunks::<4>();
        // By four, all from the same hash: byte by byte, each would wait for the one before, and take twice as long.
        for quad in quads {
            let [a, b, c, d] = quad.map(|byte| gear[byte as usize]);
            let (ab, cd) = ((a << 1).wrapping_add(b), (c << 1).wrapping_add(d));
            let hashes = [
                (hash << 1).wrapping_add(a),
                (hash << 2).wrapping_add(ab),
                (hash << 3).wrapping_add((ab << 1).wrapping_add(c)),
                (hash << 4).wrapping_add((ab << 2).wrapping_add(cd)),
            ];
            if hashes.iter().any(|hash| hash & mask == 0) {
                return hashes.iter().position(|hash| hash & mask == 0).map(|nth| at + nth);
            }
            hash = hashes[3];
            at += 4;
        }
        for pair in rest.chunks_exact(2) {
            let first = (hash << 1).wrapping_add(gear[pair[0] as usize]);
            hash = (first << 1).wrapping_add(gear[pair[1] as usize]);
            if first & mask == 0 || hash & mask == 0 {
                return Some(at + usize::from(first & mask != 0));
            }
            at += 2;
        }
        (self.hash, self.scanned) = (hash, at);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    /// Lengths of the chunks of `bytes`, pushed in blocks of the lengths in `blocks`, over and over.
    fn lengths(bytes: &[u8], blocks: &[usize]) -> Vec<usize> {
        let (mut lengths, mut together) = (Vec::new(), Vec::new());
        let mut seen = |chunk: &[u8]| {
            lengths.push(chunk.len());
            together.extend_from_slice(chunk);
            Ok::<(), Infallible>(())
        };
        let (mut chunker, mut rest) = (Chunker::new(), bytes);
        for block in blocks.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*block));
            chunker.push(now, &mut seen).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        chunker.finish(&mut seen).unwrap();
        assert!(together == bytes, "the chunks are the stream");
        lengths
    }

    /// What the crate says when it has all bytes at once.
    fn reference(bytes: &[u8]) -> Vec<usize> {
        let (min, average, max) = (CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX);
        FastCDC::with_level(bytes, min, average, max, Normalization::Level2).map(|chunk| chunk.length).collect()
    }

    /// Text of words: its chunks end at rarer places than those of noise.
    fn text(random: &mut Random, count: usize) -> Vec<u8> {
        let words: Vec<Vec<u8>> = (0..300).map(|_| random.below(1 << 40).to_string().into_bytes()).collect();
        let mut text = Vec::with_capacity(count + 16);
        while text.len() < count {
            text.extend_from_slice(&words[random.below(300) as usize]);
        }
        text.truncate(count);
        text
    }

    #[test]
    fn the_parameters_are_those_the_api_recommends() {
        assert_eq!((CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX), (131_072, 524_288, 2_097_152));
        assert_eq!(CHUNK_SEED, 0);
    }

    #[test]
    fn chunks_end_where_the_reference_ends_them() {
        let mut random = Random::new(2020);
        let noise = random.bytes(9_000_001);
        assert_eq!(lengths(&noise, &[noise.len()]), reference(&noise));
        let text = text(&mut random, 9_000_001);
        assert_eq!(lengths(&text, &[1 << 20]), reference(&text));
        // Bytes that repeat never end a chunk; it is cut at its greatest length.
        let zeros = vec![0; 5_000_001];
        assert_eq!(lengths(&zeros, &[1 << 20]), [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 5_000_001 - 2 * CHUNK_BYTES_MAX]);
    }

    #[test]
    fn chunks_end_where_they_ended_last_year() {
        // Made by this test when it was written. Other lengths mean that nothing stored before is found again.
        let bytes = Random::new(1).bytes(6 << 20);
        let then = [
            278_755, 570_329, 257_106, 712_040, 921_477, 563_668, 530_635, 157_902, 564_844, 549_231, 622_370, 563_099,
        ];
        assert_eq!(lengths(&bytes, &[100_000]), then);
    }

    #[test]
    fn a_stream_may_end_anywhere() {
        let noise = Random::new(5).bytes(3 << 20);
        for size in [0, 1, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN + 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1] {
            assert_eq!(lengths(&noise[..size], &[4096]), reference(&noise[..size]), "{size} bytes of noise");
            assert_eq!(lengths(&vec![0; size], &[4096]), reference(&vec![0; size]), "{size} zeros");
        }
        // One byte more or less around every end of a chunk: where looking in pairs shows.
        let mut at = 0;
        for length in reference(&noise) {
            at += length;
            for size in at - 2..=(at + 3).min(noise.len()) {
                assert_eq!(lengths(&noise[..size], &[33_333]), reference(&noise[..size]), "{size} bytes");
            }
        }
    }

    #[test]
    fn bytes_put_in_front_change_few_chunks() {
        let old = Random::new(3).bytes(32 << 20);
        let new = [b"#!/bin/sh\n".as_slice(), &old].concat();
        let hashes = |bytes: &[u8]| {
            let mut at = 0;
            let mut cut = |length: usize| {
                at += length;
                (blake3::hash(&bytes[at - length..at]), length)
            };
            lengths(bytes, &[1 << 20]).into_iter().map(&mut cut).collect::<Vec<_>>()
        };
        let stored: HashSet<_> = hashes(&old).into_iter().collect();
        let added: usize = hashes(&new).into_iter().filter(|chunk| !stored.contains(chunk)).map(|chunk| chunk.1).sum();
        assert!(added <= 2 * CHUNK_BYTES_MAX, "{added} of {} bytes are stored again", new.len());
    }

    #[test]
    fn an_error_of_the_taker_ends_it() {
        let mut chunker = Chunker::new();
        assert_eq!(chunker.push(&vec![0; CHUNK_BYTES_MAX + 1], |_| Err("the disk is full")), Err("the disk is full"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_blocks_a_stream_comes_in_do_not_matter(
            seed: u64,
            size in 0usize..6_000_000,
            blocks in proptest::collection::vec(1usize..700_000, 1..9),
            wordy: bool,
        ) {
            let mut random = Random::new(seed);
            let bytes = if wordy { text(&mut random, size) } else { random.bytes(size) };
            prop_assert_eq!(lengths(&bytes, &blocks), reference(&bytes));
        }
    }
}
