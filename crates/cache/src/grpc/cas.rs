//! `ContentAddressableStorage`: which blobs are there, and many small ones at once.

use std::sync::Arc;

use axum::Router;
use bazel_remote_apis::build::bazel::remote::execution::v2::compressor::Value as Compressor;
use blobs::{Blobs, Error, Function, Key};
use bytes::Bytes;
use tonic::{Code, Request, Status};

use super::wire::{self, BlobRead, BlobUpdate, BlobUpdated, Digest};
use super::{chunks, compressed, digests, status, tree};
use crate::Service;
use crate::service::blocking;

/// Bytes of the blobs of one batch, as advertised. Clients do not count what stands beside the blobs, and by default take
/// no answer over 4 MiB: this leaves room for the digests of 10,000 blobs.
pub(crate) const BATCH_BYTES_MAX: usize = 3 << 20;
/// Bytes that an answer carries beside each blob: its digest, a status without message, and the fields around them.
const BESIDE_BYTES: usize = 96;

/// Adds the methods.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    let path = |method: &str| format!("/build.bazel.remote.execution.v2.ContentAddressableStorage/{method}");
    router
        .route(&path("FindMissingBlobs"), wire::unary(service, find_missing))
        .route(&path("BatchUpdateBlobs"), wire::unary(service, batch_update))
        .route(&path("BatchReadBlobs"), wire::unary(service, batch_read))
        .route(&path("GetTree"), wire::answers(service, tree::tree))
        .route(&path("SplitBlob"), wire::unary(service, chunks::split))
        .route(&path("SpliceBlob"), wire::unary(service, chunks::splice))
        .route(&path("GetChunkMapping"), wire::answers(service, chunks::mapping))
        .route(&path("RegisterChunkMapping"), wire::requests(service, chunks::register))
}

async fn find_missing(
    service: Arc<Service>,
    request: Request<wire::FindMissingBlobsRequest>,
) -> Result<wire::FindMissingBlobsResponse, Status> {
    service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let mut request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    let keys: Vec<Key> = request.blob_digests.iter().map(|digest| key(function, digest)).collect::<Result<_, _>>()?;
    let missing = blocking(move || service.blobs.missing(&keys)).await;
    let missing_blob_digests = missing.into_iter().map(|at| std::mem::take(&mut request.blob_digests[at])).collect();
    Ok(wire::FindMissingBlobsResponse { missing_blob_digests })
}

async fn batch_update(
    service: Arc<Service>,
    request: Request<wire::BatchUpdateBlobsRequest>,
) -> Result<wire::BatchUpdateBlobsResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let keep = access.may_write_content().map_err(status::denied)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    let announced = request.requests.iter().map(|update| u64::try_from(update.digest.size_bytes).unwrap_or(0));
    within_batch(announced, wire::REQUEST_BYTES_MAX)?;
    let responses = blocking(move || match keep {
        true => {
            let responses = store(&service.blobs, function, request.requests);
            let is_stored = |updated: &&BlobUpdated| updated.status.as_ref().is_none_or(|status| status.code == 0);
            let stored = responses.iter().filter(is_stored);
            service.stored(&access.domain, stored.filter_map(|updated| key(function, &updated.digest).ok()));
            responses
        }
        false => request.requests.into_iter().map(|update| updated(update.digest, Ok(()))).collect(),
    })
    .await;
    Ok(wire::BatchUpdateBlobsResponse { responses })
}

/// Blobs may succeed or fail each by itself; those that can be stored are stored in one go.
fn store(blobs: &Blobs, function: Function, updates: Vec<BlobUpdate>) -> Vec<BlobUpdated> {
    let mut ready = Vec::with_capacity(updates.len());
    let outcomes: Vec<(Digest, Result<(), Status>)> = updates
        .into_iter()
        .map(|update| {
            let blob =
                key(function, &update.digest).and_then(|key| Ok((key, plain(&key, update.data, update.compressor)?)));
            (update.digest, blob.map(|blob| ready.push(blob)))
        })
        .collect();
    let mut stored = blobs.put_many(&ready).into_iter();
    outcomes
        .into_iter()
        .map(|(digest, outcome)| {
            let stored = |()| stored.next().unwrap_or(Ok(())).map_err(|error| status::refused(&error));
            updated(digest, outcome.and_then(stored))
        })
        .collect()
}

/// The bytes of a blob as they are, however they travelled.
fn plain(key: &Key, data: Bytes, compressor: i32) -> Result<Bytes, Status> {
    match Compressor::try_from(compressor) {
        Ok(Compressor::Identity) => Ok(data),
        // Its size is below that of a request, because all sizes together are.
        Ok(Compressor::Zstd) => compressed::inflate(&data, key.size as usize).map(Bytes::from).map_err(|error| {
            Status::invalid_argument(format!(
                "the data of blob {key} is not zstd of at most {} bytes: {error}",
                key.size
            ))
        }),
        _ => Err(Status::invalid_argument(format!("blob {key} has compressor {compressor}; use ZSTD (1) or none (0)"))),
    }
}

fn updated(digest: Digest, outcome: Result<(), Status>) -> BlobUpdated {
    let status = outcome.map_or_else(|status| status::part(&status), |()| Default::default());
    BlobUpdated { digest, status: Some(status) }
}

async fn batch_read(
    service: Arc<Service>,
    request: Request<wire::BatchReadBlobsRequest>,
) -> Result<wire::BatchReadBlobsResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    within_batch(request.digests.iter().map(|digest| u64::try_from(digest.size_bytes).unwrap_or(0)), BATCH_BYTES_MAX)?;
    if request.digests.len() * BESIDE_BYTES > wire::ANSWER_BYTES_MAX {
        let (count, max) = (request.digests.len(), wire::ANSWER_BYTES_MAX / BESIDE_BYTES);
        return Err(Status::invalid_argument(format!(
            "{count} blobs do not fit into one answer; ask for at most {max}"
        )));
    }
    let zstd = request.acceptable_compressors.contains(&Compressor::Zstd.into());
    let responses = blocking(move || {
        service.fetch(&access.domain, request.digests.iter().filter_map(|digest| key(function, digest).ok()));
        let mut room = wire::ANSWER_BYTES_MAX - request.digests.len() * BESIDE_BYTES;
        request.digests.into_iter().map(|digest| read(&service.blobs, function, digest, zstd, &mut room)).collect()
    })
    .await;
    Ok(wire::BatchReadBlobsResponse { responses })
}

/// One blob, if `room` is left for it in the answer.
fn read(blobs: &Blobs, function: Function, digest: Digest, zstd: bool, room: &mut usize) -> BlobRead {
    let fitting = |key: Key| match blobs.get(&key, *room) {
        Ok(data) => Ok(data),
        Err(Error::TooLarge { .. }) => Err(Status::resource_exhausted(format!(
            "blob {key} does not fit into this answer beside the others; ask for it again, or read it by ByteStream"
        ))),
        Err(error) => Err(status::refused(&error)),
    };
    match key(function, &digest).and_then(fitting) {
        Ok(data) => {
            let packed = zstd.then(|| compressed::deflate(&data)).flatten();
            let (data, compressor) =
                packed.map_or((data, Compressor::Identity), |packed| (packed.into(), Compressor::Zstd));
            *room -= data.len();
            BlobRead { digest, data, status: Some(Default::default()), compressor: compressor.into() }
        }
        Err(status) => {
            let status = short(status, *room);
            *room = room.saturating_sub(status.message().len());
            BlobRead { digest, status: Some(status::part(&status)), ..BlobRead::default() }
        }
    }
}

/// A status alone when there is no room for its message.
fn short(status: Status, room: usize) -> Status {
    if status.message().len() <= room { status } else { Status::new(status.code(), "") }
}

fn within_batch(sizes: impl Iterator<Item = u64>, bytes_max: usize) -> Result<(), Status> {
    let sum = sizes.fold(0, u64::saturating_add);
    if sum <= bytes_max as u64 {
        return Ok(());
    }
    let how = format!("the batch has {sum} bytes, and at most {BATCH_BYTES_MAX} are allowed");
    Err(Status::new(
        Code::InvalidArgument,
        format!("{how}; send fewer blobs at once, or use ByteStream for large ones"),
    ))
}

fn key(function: Function, digest: &Digest) -> Result<Key, Status> {
    digests::key(function, &digest.hash, digest.size_bytes)
}
