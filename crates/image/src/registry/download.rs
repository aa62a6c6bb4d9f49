//! Blobs from a registry: into memory, or into a file that a killed download leaves for the next one to go on with.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use model::Digest;
use sha2::{Digest as _, Sha256};

use super::http::{Answer, Ask, Stop, broken_off, refused};
use super::{Registry, Want};
use crate::error::{Refusal, malformed};
use crate::{ImageError, Name, Sum};

/// Bytes that travel from the connection to the disk at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that wait between the two.
const BLOCKS_MAX: usize = 8;
/// How often a waiting download looks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a broken connection that brought something is made again.
const RESUMES_MAX: u32 = 50;

impl Registry {
    /// A small blob, verified.
    pub fn small_blob(
        &self,
        name: &Name,
        digest: &Digest,
        bytes_max: usize,
        stop: Stop<'_>,
    ) -> Result<Vec<u8>, ImageError> {
        let act = format!("fetch blob {} of {}/{}", Sum::from(*digest).short(), name.registry, name.repository);
        if digest.size > bytes_max as u64 {
            return Err(ImageError::TooLarge {
                what: "the image's config".into(),
                bound: format!("{bytes_max} bytes"),
            });
        }
        let ask = Ask::new("GET", self.blob_address(name, digest));
        let bytes = self.http.persist(&act, stop, || {
            self.ask(name, Want::Pull, &ask, &act)?.expect(&[200], &act)?.bytes(digest.size, &act)
        })?;
        check(name, digest, Sum::of(&bytes), bytes.len() as u64)?;
        Ok(bytes)
    }

    /// A blob into `file`, which may hold its beginning already. Verified; when it is not what it should be, `file` is
    /// emptied. `arrived` hears how many bytes came.
    pub fn blob(
        &self,
        name: &Name,
        digest: &Digest,
        file: &mut File,
        stop: Stop<'_>,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ImageError> {
        let act = format!("fetch layer {} of {}/{}", Sum::from(*digest).short(), name.registry, name.repository);
        let mut part = Part::take_up(file, digest).map_err(|error| disk(&act, error))?;
        let resumed = part.bytes > 0;
        arrived(part.bytes);
        let mut resumes = 0;
        while part.bytes < digest.size {
            let before = part.bytes;
            let answer = self.http.persist(&act, stop, || self.from(name, digest, part.bytes, &act))?;
            match self.pour(answer, &mut part, digest, stop, arrived, &act) {
                Err(ImageError::Registry { refusal: Refusal::Unreachable, .. })
                    if part.bytes > before && resumes < RESUMES_MAX =>
                {
                    resumes += 1;
                }
                done => done?,
            }
        }
        let (sum, bytes) = (part.sum(), part.bytes);
        match check(name, digest, sum, bytes) {
            Err(_) if resumed => {
                // Perhaps only what was left from last time is bad.
                part.restart().map_err(|error| disk(&act, error))?;
                self.blob(name, digest, file, stop, arrived)
            }
            Err(error) => {
                part.restart().map_err(|error| disk(&act, error))?;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn blob_address(&self, name: &Name, digest: &Digest) -> String {
        self.address(name, &format!("blobs/{}", Sum::from(*digest)))
    }

    fn from(&self, name: &Name, digest: &Digest, start: u64, act: &str) -> Result<Answer, ImageError> {
        let mut ask = Ask::new("GET", self.blob_address(name, digest));
        if start > 0 {
            ask = ask.header("range", &format!("bytes={start}-"));
        }
        self.ask(name, Want::Pull, &ask, act)?.expect(&[200, 206], act)
    }

    fn pour(
        &self,
        answer: Answer,
        part: &mut Part<'_>,
        digest: &Digest,
        stop: Stop<'_>,
        arrived: &(dyn Fn(u64) + Sync),
        act: &str,
    ) -> Result<(), ImageError> {
        if answer.status == 200 && part.bytes > 0 {
            part.restart().map_err(|error| disk(act, error))?;
        }
        let left = digest.size - part.bytes;
        let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != left) {
            let why = format!("the blob has {} bytes there, and should have {}", part.bytes + length, digest.size);
            return Err(malformed(act.trim_start_matches("fetch "), why));
        }
        let begins = format!("bytes {}-", part.bytes);
        if answer.status == 206 && !answer.header("content-range").is_some_and(|range| range.starts_with(&begins)) {
            return Err(refused(act, "the registry sends another part than the one asked for", Refusal::Broken));
        }
        let blocks = read_beside(answer.into_reader(), left);
        loop {
            if stop() {
                return Err(ImageError::Stopped);
            }
            match blocks.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if part.bytes < digest.size => {
                    return Err(refused(act, "the connection broke", Refusal::Unreachable));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Err(error)) => return Err(refused(act, &broken_off(&error), Refusal::Unreachable)),
                Ok(Ok(block)) => {
                    if part.bytes + block.len() as u64 > digest.size {
                        part.restart().map_err(|error| disk(act, error))?;
                        return Err(malformed(
                            act.trim_start_matches("fetch "),
                            format!("the blob is longer than the {} bytes it should have", digest.size),
                        ));
                    }
                    part.add(&block).map_err(|error| disk(act, error))?;
                    arrived(block.len() as u64);
                }
            }
        }
    }
}

/// Reads on a thread of its own: whoever waits for it can stop waiting, and hashing and writing go on beside. It reads
/// one byte more than expected, to see that there is none.
fn read_beside(mut stream: impl Read + Send + 'static, expected: u64) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(BLOCKS_MAX);
    std::thread::spawn(move || {
        let mut left = expected.saturating_add(1);
        while left > 0 && send_block(&mut stream, &mut left, &sender) {}
    });
    receiver
}

/// False at the end, or when nobody listens any more.
fn send_block(stream: &mut impl Read, left: &mut u64, sender: &SyncSender<io::Result<Vec<u8>>>) -> bool {
    let mut block = Vec::new();
    let wanted = (*left).min(BLOCK_BYTES as u64);
    match stream.take(wanted).read_to_end(&mut block) {
        Ok(0) => false,
        Ok(read) => {
            *left -= read as u64;
            sender.send(Ok(block)).is_ok()
        }
        Err(error) => {
            // What came before it broke is worth keeping.
            let kept = block.is_empty() || sender.send(Ok(block)).is_ok();
            if kept {
                let _ = sender.send(Err(error));
            }
            false
        }
    }
}

/// A file that grows to be a blob.
struct Part<'a> {
    file: &'a mut File,
    hasher: Sha256,
    bytes: u64,
}

impl Part<'_> {
    /// Goes on where the last one ended.
    fn take_up<'a>(file: &'a mut File, digest: &Digest) -> io::Result<Part<'a>> {
        let mut part = Part { file, hasher: Sha256::new(), bytes: 0 };
        if part.file.metadata()?.len() > digest.size {
            part.restart()?;
        }
        part.file.rewind()?;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = part.file.read(&mut block)?;
            if read == 0 {
                return Ok(part);
            }
            part.hasher.update(&block[..read]);
            part.bytes += read as u64;
        }
    }
    fn add(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)?;
        self.hasher.update(block);
        self.bytes += block.len() as u64;
        Ok(())
    }
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hasher, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }
    fn sum(&self) -> Sum {
        Sum(self.hasher.clone().finalize().into())
    }
}

fn check(name: &Name, digest: &Digest, found: Sum, bytes: u64) -> Result<(), ImageError> {
    let expected = Sum::from(*digest);
    if found == expected && bytes == digest.size {
        return Ok(());
    }
    Err(ImageError::Mismatch {
        what: format!("blob {} of {}/{}", expected.short(), name.registry, name.repository),
        expected: format!("{expected} ({} bytes)", digest.size),
        found: format!("{found} ({bytes} bytes)"),
    })
}

fn disk(act: &str, source: io::Error) -> ImageError {
    ImageError::Io { act: "keep what came to", path: act.into(), source }
}
