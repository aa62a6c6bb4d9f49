//! Blobs as lists of chunks: what a blob is made of, and a blob made of what is there.

use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2::{self as api, chunking_function::Value as Chunking};
use blobs::{Function, Key};
use tokio_stream::{Iter, iter};
use tonic::{Request, Status, Streaming};

use super::{digests, status, wire};
use crate::Service;
use crate::service::blocking;

/// Chunks of one blob: 512 GiB of them in the advertised size.
const CHUNKS_MAX: usize = 1 << 20;
/// Chunks in one answer: a digest takes up to 80 bytes.
const CHUNKS_PER_ANSWER: usize = wire::ANSWER_BYTES_MAX / 96;

pub(crate) async fn split(
    service: Arc<Service>,
    request: Request<api::SplitBlobRequest>,
) -> Result<api::SplitBlobResponse, Status> {
    service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let request = request.into_inner();
    let key = blob(request.digest_function, request.blob_digest.as_ref())?;
    let chunks = chunks_of(service, key).await?;
    if chunks.len() > CHUNKS_PER_ANSWER {
        let told = format!("blob {key} has {} chunks, too many for one answer; ask GetChunkMapping", chunks.len());
        return Err(Status::resource_exhausted(told));
    }
    let chunking_function = chunking(&chunks);
    Ok(api::SplitBlobResponse { chunk_digests: chunks.iter().map(digests::digest).collect(), chunking_function })
}

type Mapping = Iter<std::vec::IntoIter<Result<api::GetChunkMappingResponse, Status>>>;

pub(crate) async fn mapping(
    service: Arc<Service>,
    request: Request<api::GetChunkMappingRequest>,
) -> Result<Mapping, Status> {
    service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let request = request.into_inner();
    let key = blob(request.digest_function, request.blob_digest.as_ref())?;
    let chunks = chunks_of(service, key).await?;
    let answer = |part: &[Key]| api::GetChunkMappingResponse {
        chunk_digests: part.iter().map(digests::digest).collect(),
        chunking_function: chunking(&chunks),
    };
    let answers: Vec<_> = chunks.chunks(CHUNKS_PER_ANSWER).map(|part| Ok(answer(part))).collect();
    Ok(iter(answers))
}

pub(crate) async fn splice(
    service: Arc<Service>,
    request: Request<api::SpliceBlobRequest>,
) -> Result<api::SpliceBlobResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let keep = access.may_write_content().map_err(status::denied)?;
    let request = request.into_inner();
    let key = blob(request.digest_function, request.blob_digest.as_ref())?;
    let mut chunks = Vec::new();
    add_chunks(&mut chunks, key.function, &request.chunk_digests)?;
    if keep {
        make(service, key, chunks).await?;
    }
    Ok(api::SpliceBlobResponse { blob_digest: Some(digests::digest(&key)) })
}

pub(crate) async fn register(
    service: Arc<Service>,
    request: Request<Streaming<api::RegisterChunkMappingRequest>>,
) -> Result<api::RegisterChunkMappingResponse, Status> {
    let (metadata, _, mut requests) = request.into_parts();
    let first = requests.message().await?;
    let first =
        first.ok_or_else(|| Status::invalid_argument("the stream has no request; send the blob's digest first"))?;
    let access = service.admit(metadata.as_ref(), &first.instance_name).map_err(status::denied)?;
    let keep = access.may_write_content().map_err(status::denied)?;
    let key = blob(first.digest_function, first.blob_digest.as_ref())?;
    let mut chunks = Vec::new();
    add_chunks(&mut chunks, key.function, &first.chunk_digests)?;
    while let Some(next) = requests.message().await? {
        add_chunks(&mut chunks, key.function, &next.chunk_digests)?;
    }
    if keep {
        make(service, key, chunks).await?;
    }
    Ok(api::RegisterChunkMappingResponse { blob_digest: Some(digests::digest(&key)) })
}

fn blob(function: i32, digest: Option<&api::Digest>) -> Result<Key, Status> {
    digests::required(digests::function(function)?, digest, "blob_digest")
}

async fn chunks_of(service: Arc<Service>, key: Key) -> Result<Vec<Key>, Status> {
    let chunks = blocking(move || {
        let chunks = service.blobs.chunks(&key)?;
        // The client will ask for them next: those that are still there are leased so long.
        service.blobs.missing(&chunks);
        Ok(chunks)
    });
    chunks.await.map_err(|error| status::refused(&error))
}

/// What cut the blob, if anything did.
fn chunking(chunks: &[Key]) -> i32 {
    if chunks.len() > 1 { Chunking::FastCdc2020.into() } else { Chunking::Unknown.into() }
}

fn add_chunks(chunks: &mut Vec<Key>, function: Function, more: &[api::Digest]) -> Result<(), Status> {
    if chunks.len() + more.len() > CHUNKS_MAX {
        return Err(Status::invalid_argument(format!("a blob may have at most {CHUNKS_MAX} chunks; cut larger ones")));
    }
    for digest in more {
        chunks.push(digests::required(function, Some(digest), "chunk")?);
    }
    Ok(())
}

async fn make(service: Arc<Service>, key: Key, chunks: Vec<Key>) -> Result<(), Status> {
    let sum = chunks.iter().fold(0, |sum: u64, chunk| sum.saturating_add(chunk.size));
    if sum != key.size {
        return Err(Status::invalid_argument(format!("the chunks have {sum} bytes together, and blob {key} has not")));
    }
    blocking(move || match service.blobs.missing(&[key]).is_empty() {
        true => Ok(()),
        false => service.blobs.splice(&key, &chunks).map_err(|error| status::refused(&error)),
    })
    .await
}
