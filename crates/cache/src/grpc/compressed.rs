//! Blobs that travel as zstd, bounded by what they said they would be.

use std::io;

use bytes::Bytes;
use zstd::stream::raw::{Decoder, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// Fast enough for a 10 Gbit/s link per core; blobs that want more were compressed by their writer.
const LEVEL: i32 = 1;
/// Largest window of a frame, as a power of two: what RFC 8878 asks every decoder to support (8 MiB). Each upload costs
/// as much memory.
const WINDOW_LOG_MAX: u32 = 23;
/// Bytes that are handled at a time: in the second-level cache, and enough that calls do not count.
const STEP_BYTES: usize = 128 << 10;

/// Bytes of a blob below which compressing costs more than it saves.
pub(crate) const WORTH_BYTES_MIN: usize = 512;

/// One blob at once, no longer than announced.
///
/// # Errors
/// It is not zstd, or longer.
pub(crate) fn inflate(data: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::bulk::Decompressor::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    decoder.decompress(data, size)
}

/// One blob at once, if that makes it smaller.
pub(crate) fn deflate(data: &[u8]) -> Option<Vec<u8>> {
    let worth = data.len() >= WORTH_BYTES_MIN;
    let packed = worth.then(|| zstd::bulk::compress(data, LEVEL).ok()).flatten();
    packed.filter(|packed| packed.len() < data.len())
}

/// Frames as they come in, one after the other.
pub(crate) struct Inflater {
    decoder: Decoder<'static>,
    out: Vec<u8>,
}

impl Inflater {
    /// # Errors
    /// No memory.
    pub(crate) fn new() -> io::Result<Inflater> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Inflater { decoder, out: vec![0; STEP_BYTES] })
    }

    /// Gives what `data` unfolds to to `sink`, in steps; a sink that has enough ends it by its error.
    ///
    /// # Errors
    /// It is not zstd, or the sink's.
    pub(crate) fn feed<E: From<io::Error>>(
        &mut self,
        data: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut input = InBuffer::around(data);
        loop {
            let mut output = OutBuffer::around(self.out.as_mut_slice());
            self.decoder.run(&mut input, &mut output)?;
            let (filled, full) = (output.pos(), output.pos() == output.capacity());
            sink(&self.out[..filled])?;
            if input.pos() == data.len() && !full {
                return Ok(());
            }
        }
    }
}

/// One frame as it goes out.
pub(crate) struct Deflater {
    encoder: Encoder<'static>,
}

impl Deflater {
    /// # Errors
    /// No memory.
    pub(crate) fn new() -> io::Result<Deflater> {
        Ok(Deflater { encoder: Encoder::new(LEVEL)? })
    }

    /// What can be sent after `data`; often nothing yet.
    ///
    /// # Errors
    /// None that depends on the data.
    pub(crate) fn feed(&mut self, data: &[u8]) -> io::Result<Bytes> {
        let mut packed = Vec::with_capacity(data.len() / 2);
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            packed.reserve(STEP_BYTES);
            let end = packed.len();
            self.encoder.run(&mut input, &mut OutBuffer::around_pos(&mut packed, end))?;
        }
        Ok(packed.into())
    }

    /// The frame's end.
    ///
    /// # Errors
    /// None that depends on the data.
    pub(crate) fn end(&mut self) -> io::Result<Bytes> {
        let mut packed = Vec::new();
        loop {
            packed.reserve(STEP_BYTES);
            let end = packed.len();
            if self.encoder.finish(&mut OutBuffer::around_pos(&mut packed, end), true)? == 0 {
                return Ok(packed.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at / 7 % 251) as u8).collect()
    }

    #[test]
    fn what_goes_out_in_parts_comes_back_in_other_parts() {
        let blob = text(1_000_003);
        let mut deflater = Deflater::new().expect("memory");
        let mut packed: Vec<u8> = Vec::new();
        for part in blob.chunks(300_000) {
            packed.extend(deflater.feed(part).expect("fed"));
        }
        packed.extend(deflater.end().expect("ended"));
        assert!(packed.len() < blob.len() / 2);
        let (mut inflater, mut back) = (Inflater::new().expect("memory"), Vec::new());
        for part in packed.chunks(999) {
            let keep = |bytes: &[u8]| {
                back.extend_from_slice(bytes);
                Ok::<(), io::Error>(())
            };
            inflater.feed(part, keep).expect("fed");
        }
        assert_eq!(back, blob);
    }

    #[test]
    fn a_bomb_ends_where_its_sink_has_enough() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).expect("compressed");
        assert!(bomb.len() < 8 << 10 && inflate(&bomb, 1 << 20).is_err());
        let mut seen = 0;
        let told = Inflater::new().expect("memory").feed(&bomb, |bytes| {
            seen += bytes.len();
            if seen > 1 << 20 { Err(io::Error::other("enough")) } else { Ok(()) }
        });
        assert_eq!(told.expect_err("ended").to_string(), "enough");
        assert!(seen <= (1 << 20) + STEP_BYTES);
    }

    #[test]
    fn noise_is_not_compressed_and_rubbish_is_refused() {
        let noise = sha_noise(4096);
        assert_eq!(deflate(&noise), None);
        assert_eq!(deflate(&[0; WORTH_BYTES_MIN - 1]), None);
        assert_eq!(inflate(&deflate(&text(4096)).expect("smaller"), 4096).expect("zstd"), text(4096));
        assert!(inflate(b"rubbish", 100).is_err());
        assert!(Inflater::new().expect("memory").feed(b"rubbish", |_| Ok::<(), io::Error>(())).is_err());
    }

    fn sha_noise(size: usize) -> Vec<u8> {
        let block = |at: usize| blobs::Function::Sha256.key_of(&at.to_le_bytes()).hash;
        (0..size / 32).flat_map(block).collect()
    }
}
