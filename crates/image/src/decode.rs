//! From a stored layer to its tar: gzip, zstd or nothing, told by its first bytes, because media types are often wrong.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

use crate::Sum;

/// Memory that a zstd frame may ask for: what `zstd --ultra -22 --long=27` needs, and the most that others accept.
const WINDOW_BYTES_MAX: u64 = 128 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// A stream that knows the sum and the length of what was read from it.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    pub bytes: u64,
}

impl<R> Hashing<R> {
    pub fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hasher: Sha256::new(), bytes: 0 }
    }
    /// Of what was read so far.
    pub fn sum(&self) -> Sum {
        Sum(self.hasher.clone().finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The tar of a layer.
pub(crate) enum Decoded<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<Frames<BufReader<R>>>),
}

impl<R: Read> Decoded<R> {
    pub fn new(inner: R) -> io::Result<Decoded<R>> {
        let mut inner = BufReader::with_capacity(BUFFER_BYTES, inner);
        Ok(match inner.fill_buf()? {
            [0x1f, 0x8b, ..] => Decoded::Gzip(Box::new(MultiGzDecoder::new(inner))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(WINDOW_BYTES_MAX);
                Decoded::Zstd(Box::new(Frames { inner, decoder, within: false }))
            }
            _ => Decoded::Plain(inner),
        })
    }
    /// The stored bytes again, to read what the decoder left of them.
    pub fn stored(&mut self) -> &mut R {
        match self {
            Decoded::Plain(inner) => inner.get_mut(),
            Decoded::Gzip(decoder) => decoder.get_mut().get_mut(),
            Decoded::Zstd(frames) => frames.inner.get_mut(),
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoded::Plain(inner) => inner.read(buffer),
            Decoded::Gzip(decoder) => decoder.read(buffer),
            Decoded::Zstd(frames) => frames.read(buffer),
        }
    }
}

/// Zstd frames one behind the other, with skippable ones between them, which tools use for tables of contents.
pub(crate) struct Frames<R> {
    inner: R,
    decoder: FrameDecoder,
    /// The decoder is in a frame.
    within: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.open()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.inner, one).map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 => self.within = false,
                read => return Ok(read),
            }
        }
    }
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame; false at the end of the stream.
    fn open(&mut self) -> io::Result<bool> {
        while !self.inner.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.inner) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.inner).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decoded(stored: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Decoded::new(stored)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("encode");
        encoder.finish().expect("encode")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn layers_are_read_however_they_are_stored() {
        let text = b"some text, some text, some text".repeat(50_000);
        for stored in [text.clone(), gzip(&text), zstd(&text)] {
            assert!(decoded(&stored).expect("decode") == text);
        }
    }

    #[test]
    fn parts_one_behind_the_other_are_one_layer() {
        let skipped = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        let zstd = [zstd(b"one "), skipped.clone(), zstd(b"two"), skipped].concat();
        assert_eq!(decoded(&zstd).expect("zstd"), b"one two");
        assert_eq!(decoded(&[gzip(b"one "), gzip(b"two")].concat()).expect("gzip"), b"one two");
    }

    #[test]
    fn a_torn_layer_is_an_error_and_not_a_short_one() {
        let text = b"some text".repeat(1000);
        for stored in [gzip(&text), zstd(&text)] {
            for cut in [5, stored.len() / 2, stored.len() - 1] {
                assert!(decoded(&stored[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert!(decoded(&[gzip(b"one"), b"rubbish".to_vec()].concat()).is_err());
        assert!(decoded(&[0x5e, 0x2a, 0x4d, 0x18, 255, 255, 255, 255, 1]).is_err());
    }
}
