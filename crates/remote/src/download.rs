//! Downloads: small blobs in batches, large ones as streams into files; each verified before it is handed on.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use futures_util::StreamExt;
use model::Digest;
use sha2::{Digest as _, Sha256};

use crate::connect::{Limits, read_digest, wire};
use crate::counted::add;
use crate::{Error, Remote};

/// Batches and streams under way at once.
const AT_ONCE: usize = 6;
/// What a blob costs in a batch beside its bytes.
const BLOB_OVERHEAD: u64 = 160;
/// Slower than this counts as too slow: bytes a second that a batch is given time for.
const BYTES_A_SECOND_MIN: u64 = 64 << 10;
/// Slower than this all together, making it again is the better way: bytes a second.
const ALL_BYTES_A_SECOND_MIN: u64 = 512 << 10;

/// A blob that came, verified.
#[derive(Debug)]
pub enum Received {
    /// In memory.
    Bytes(Bytes),
    /// In a file that is the receiver's now.
    File(PathBuf),
}

/// What did not come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Blobs that the cache does not have.
    pub missing: Vec<Digest>,
    /// Blobs whose bytes were wrong.
    pub damaged: Vec<Digest>,
}

impl Fetched {
    /// Everything came.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.damaged.is_empty()
    }
}

type Got = (Digest, Result<Received, Lack>);

/// Why a blob is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Missing,
    Damaged,
}

impl Remote {
    /// Downloads blobs, each once, verified by SHA-256, and hands each to `each` as it comes, in any order. Those larger
    /// than a batch come as files in `folder`.
    ///
    /// # Errors
    /// The cache does not answer or refuses us, a file cannot be written, or `each` fails. Some may have come then.
    pub fn download(
        &self,
        digests: &[Digest],
        folder: &Path,
        each: &mut dyn FnMut(Digest, Received) -> io::Result<()>,
    ) -> Result<Fetched, Error> {
        let mut wanted = digests.to_vec();
        wanted.sort_unstable_by_key(|digest| (digest.hash, digest.size));
        wanted.dedup();
        let mut fetched = Fetched::default();
        let mut take = |(digest, got): Got| {
            match got {
                Ok(received) => each(digest, received).map_err(|error| local("keep a blob in", folder, &error))?,
                Err(Lack::Missing) => fetched.missing.push(digest),
                Err(Lack::Damaged) => fetched.damaged.push(digest),
            }
            Ok(())
        };
        let bytes = wanted.iter().map(|digest| digest.size).fold(0, u64::saturating_add);
        let patience = self.inner.options.silence + std::time::Duration::from_secs(bytes / ALL_BYTES_A_SECOND_MIN);
        let late = || Error::Unavailable { act: "download blobs", why: "it is too slow".into() };
        let all = async {
            let limits = self.limits_now().await?;
            let parts = parts(&wanted, limits.batch_bytes);
            let asked = parts.into_iter().map(|part| self.receive(part, folder, limits));
            let mut coming = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
            while let Some(part) = coming.next().await {
                for got in part? {
                    add(&self.inner.counters.blobs_down, u64::from(got.1.is_ok()));
                    take(got)?;
                }
            }
            Ok(())
        };
        self.block(async { tokio::time::timeout(patience, all).await.unwrap_or_else(|_| Err(late())) })?;
        Ok(fetched)
    }

    /// One blob as a stream, verified; what was written is worth nothing when this fails.
    ///
    /// # Errors
    /// It is not there, is not what its digest says, the cache does not answer, or `to` fails.
    pub fn read(&self, digest: &Digest, to: &mut dyn Write) -> Result<(), Error> {
        let got = self.block(async {
            let limits = self.limits_now().await?;
            self.read_stream(digest, to, limits.zstd).await
        })?;
        match got {
            None => Ok(()),
            Some(Lack::Missing) => Err(Error::Missing(*digest)),
            Some(Lack::Damaged) => {
                Err(Error::Wrong { act: "download a blob", what: format!("with other bytes than those of {digest}") })
            }
        }
    }

    async fn receive(&self, part: Part, folder: &Path, limits: Limits) -> Result<Vec<Got>, Error> {
        match part {
            Part::Batch(digests) => self.receive_batch(digests, limits).await,
            Part::Stream(digest) => Ok(vec![(digest, self.receive_file(&digest, folder, limits).await?)]),
        }
    }

    async fn receive_batch(&self, digests: Vec<Digest>, limits: Limits) -> Result<Vec<Got>, Error> {
        const ACT: &str = "download blobs";
        let zstd = limits.zstd.then(|| api::compressor::Value::Zstd.into());
        let bytes: u64 = digests.iter().map(|digest| digest.size).sum();
        let message = api::BatchReadBlobsRequest {
            instance_name: self.instance(),
            digests: digests.iter().map(wire).collect(),
            acceptable_compressors: zstd.into_iter().collect(),
            digest_function: api::digest_function::Value::Sha256.into(),
        };
        let patience = self.inner.options.silence + std::time::Duration::from_secs(bytes / BYTES_A_SECOND_MIN);
        let mut client = self.content()?;
        let answer = self.ask(ACT, patience, client.batch_read_blobs(self.request(message))).await?;
        let mut came: HashMap<Digest, Result<Received, Lack>> = HashMap::new();
        for one in answer.into_inner().responses {
            let Some(digest) = one.digest.as_ref().and_then(read_digest) else { continue };
            came.insert(digest, judged(&digest, one));
        }
        let got = |digest: Digest| {
            let received = came.remove(&digest).unwrap_or(Err(Lack::Missing));
            (digest, received)
        };
        Ok(digests.into_iter().map(got).collect())
    }

    async fn receive_file(
        &self,
        digest: &Digest,
        folder: &Path,
        limits: Limits,
    ) -> Result<Result<Received, Lack>, Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("down-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let draft = Draft { path: folder.join(name) };
        let mut file =
            std::fs::File::create_new(&draft.path).map_err(|error| local("make the file", &draft.path, &error))?;
        Ok(match self.read_stream(digest, &mut file, limits.zstd).await? {
            None => Ok(Received::File(draft.keep())),
            Some(lack) => Err(lack),
        })
    }
}

/// A file that is removed unless it is kept.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

enum Part {
    Batch(Vec<Digest>),
    Stream(Digest),
}

fn parts(digests: &[Digest], bytes_max: u64) -> Vec<Part> {
    let (mut parts, mut batch, mut room) = (Vec::new(), Vec::new(), bytes_max);
    for digest in digests {
        let cost = digest.size.saturating_add(BLOB_OVERHEAD);
        if cost > bytes_max {
            parts.push(Part::Stream(*digest));
            continue;
        }
        if cost > room {
            parts.push(Part::Batch(std::mem::take(&mut batch)));
            room = bytes_max;
        }
        room -= cost;
        batch.push(*digest);
    }
    if !batch.is_empty() {
        parts.push(Part::Batch(batch));
    }
    parts
}

fn judged(digest: &Digest, one: api::batch_read_blobs_response::Response) -> Result<Received, Lack> {
    if one.status.as_ref().is_some_and(|status| status.code != 0) {
        return Err(Lack::Missing);
    }
    let zstd = one.compressor == i32::from(api::compressor::Value::Zstd);
    let size = usize::try_from(digest.size).map_err(|_| Lack::Damaged)?;
    let bytes = match zstd {
        // One byte of room more, so that a frame that is too long shows.
        true => zstd::bulk::decompress(&one.data, size + 1).map_err(|_| Lack::Damaged)?,
        false => one.data,
    };
    match bytes.len() == size && <[u8; 32]>::from(Sha256::digest(&bytes)) == digest.hash {
        true => Ok(Received::Bytes(bytes.into())),
        false => Err(Lack::Damaged),
    }
}

pub(crate) fn local(act: &'static str, path: &Path, why: &impl ToString) -> Error {
    Error::Local { act, path: path.to_path_buf(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest { hash: Sha256::digest(bytes).into(), size: bytes.len() as u64 }
    }

    fn answer(data: Vec<u8>, compressor: api::compressor::Value) -> api::batch_read_blobs_response::Response {
        api::batch_read_blobs_response::Response { data, compressor: compressor.into(), ..Default::default() }
    }

    #[test]
    fn wrong_bytes_wrong_sizes_and_bombs_are_told_from_the_blob() {
        use api::compressor::Value::{Identity, Zstd};
        let digest = digest_of(b"hello");
        let is = |data: &[u8], compressor| judged(&digest, answer(data.to_vec(), compressor)).map(|_| ());
        assert_eq!(is(b"hello", Identity), Ok(()));
        assert_eq!(is(b"hellO", Identity), Err(Lack::Damaged));
        assert_eq!(is(b"hello!", Identity), Err(Lack::Damaged));
        assert_eq!(is(b"hello", Zstd), Err(Lack::Damaged));
        let packed = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).expect("compressed");
        assert_eq!(is(&packed(b"hello"), Zstd), Ok(()));
        assert_eq!(is(&packed(&vec![0; 1 << 20]), Zstd), Err(Lack::Damaged));
    }
}
