//! Uploads: small blobs in batches, large ones as streams that go on where they were cut off.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use model::Digest;

use crate::connect::{Limits, wire};
use crate::counted::add;
use crate::{Error, Remote};

/// Batches and streams under way at once: enough to hide the way to the server and back.
const AT_ONCE: usize = 6;
/// What a blob costs in a batch beside its bytes.
const BLOB_OVERHEAD: u64 = 160;
/// Smaller ones are not worth compressing.
const COMPRESSED_MIN: usize = 1024;
/// zstd's level: what a wire is faster for than a core.
pub(crate) const ZSTD_LEVEL: i32 = 1;
/// Slower than this counts as too slow: bytes a second that a batch is given time for.
const BYTES_A_SECOND_MIN: u64 = 64 << 10;

/// A blob and where its bytes are.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What it is.
    pub digest: Digest,
    /// Its bytes.
    pub content: Content,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum Content {
    /// Here.
    Bytes(Bytes),
    /// In a file that nobody writes meanwhile.
    File(PathBuf),
}

/// What was uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

impl Content {
    /// The bytes from `offset` on.
    pub(crate) fn open(&self, offset: u64) -> std::io::Result<Box<dyn Read + Send>> {
        match self {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Box::new(Cursor::new(bytes.slice(start..))))
            }
            Content::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file))
            }
        }
    }

    pub(crate) fn trouble(&self, why: &impl ToString) -> Error {
        let path = match self {
            Content::Bytes(_) => PathBuf::from("a blob in memory"),
            Content::File(path) => path.clone(),
        };
        Error::Local { act: "read", path, why: why.to_string() }
    }
}

impl Remote {
    /// Uploads blobs, also those that are there already: ask [`Remote::missing`] first.
    ///
    /// # Errors
    /// It does not answer or refuses one; a file cannot be read or is not what its digest says. Some may be there then.
    pub fn upload(&self, blobs: &[Blob]) -> Result<Uploaded, Error> {
        self.block(async {
            let limits = self.limits_now().await?;
            let (small, large): (Vec<&Blob>, Vec<&Blob>) =
                blobs.iter().partition(|blob| blob.digest.size + BLOB_OVERHEAD <= limits.batch_bytes);
            let batches = batches(&small, limits.batch_bytes);
            let batched = batches.into_iter().map(Part::Batch);
            let parts = batched.chain(large.into_iter().map(Part::Stream));
            futures_util::stream::iter(parts.map(|part| self.send(part, limits)))
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
            let bytes = blobs.iter().map(|blob| blob.digest.size).sum();
            add(&self.inner.counters.blobs_up, blobs.len() as u64);
            Ok(Uploaded { blobs: blobs.len() as u64, bytes })
        })
    }

    async fn send(&self, part: Part<'_>, limits: Limits) -> Result<(), Error> {
        match part {
            Part::Batch(blobs) => self.send_batch(&blobs, limits).await,
            Part::Stream(blob) => self.send_stream(blob, limits.zstd).await,
        }
    }

    async fn send_batch(&self, blobs: &[&Blob], limits: Limits) -> Result<(), Error> {
        const ACT: &str = "upload blobs";
        let requests = blobs.iter().map(|blob| one(blob, limits.zstd_batches)).collect::<Result<Vec<_>, _>>()?;
        let bytes: u64 = requests.iter().map(|request| request.data.len() as u64).sum();
        let message = api::BatchUpdateBlobsRequest {
            instance_name: self.instance(),
            requests,
            digest_function: api::digest_function::Value::Sha256.into(),
        };
        let patience = self.inner.options.silence + std::time::Duration::from_secs(bytes / BYTES_A_SECOND_MIN);
        let mut client = self.content()?;
        let answer = self.ask(ACT, patience, client.batch_update_blobs(self.request(message))).await?;
        for one in answer.into_inner().responses {
            let status = one.status.unwrap_or_default();
            if status.code != 0 {
                let status = tonic::Status::new(tonic::Code::from_i32(status.code), status.message);
                return Err(Error::of(ACT, &status));
            }
        }
        Ok(())
    }
}

enum Part<'a> {
    Batch(Vec<&'a Blob>),
    Stream(&'a Blob),
}

/// One after the other into the batch that is open: order is kept, so a layer's neighbours travel together.
fn batches<'a>(blobs: &[&'a Blob], bytes_max: u64) -> Vec<Vec<&'a Blob>> {
    let mut batches: Vec<Vec<&Blob>> = Vec::new();
    let mut room = 0;
    for &blob in blobs {
        let cost = blob.digest.size + BLOB_OVERHEAD;
        if cost > room {
            batches.push(Vec::new());
            room = bytes_max;
        }
        room -= cost;
        if let Some(batch) = batches.last_mut() {
            batch.push(blob);
        }
    }
    batches
}

fn one(blob: &Blob, zstd: bool) -> Result<api::batch_update_blobs_request::Request, Error> {
    let mut data = Vec::with_capacity(blob.digest.size as usize);
    let read = blob.content.open(0).and_then(|from| from.take(blob.digest.size + 1).read_to_end(&mut data));
    read.map_err(|error| blob.content.trouble(&error))?;
    if data.len() as u64 != blob.digest.size {
        return Err(blob.content.trouble(&"it is not as long as it was"));
    }
    let mut compressor = api::compressor::Value::Identity;
    if zstd
        && data.len() >= COMPRESSED_MIN
        && let Ok(smaller) = zstd::bulk::compress(&data, ZSTD_LEVEL)
        && smaller.len() < data.len() / 8 * 7
    {
        (data, compressor) = (smaller, api::compressor::Value::Zstd);
    }
    Ok(api::batch_update_blobs_request::Request {
        digest: Some(wire(&blob.digest)),
        data,
        compressor: compressor.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_larger_than_the_server_takes() {
        let blob = |size: usize| Blob {
            digest: Digest { hash: [0; 32], size: size as u64 },
            content: Content::Bytes(Bytes::new()),
        };
        let blobs: Vec<Blob> = [0, 10, 900, 500, 500, 840, 1, 1].into_iter().map(blob).collect();
        let all: Vec<&Blob> = blobs.iter().filter(|blob| blob.digest.size + BLOB_OVERHEAD <= 1000).collect();
        let batches = batches(&all, 1000);
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), all.len());
        for batch in &batches {
            assert!(!batch.is_empty());
            assert!(batch.iter().map(|blob| blob.digest.size + BLOB_OVERHEAD).sum::<u64>() <= 1000);
        }
    }
}
