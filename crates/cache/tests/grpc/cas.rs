//! Which blobs are there, batches, and lists of chunks.

use bazel_remote_apis::build::bazel::remote::execution::v2::{self as api, batch_update_blobs_request as update};
use blobs::Function;
use tonic::Code;

use crate::world::{World, blob_name, digest, digest_by, noise, parts, plain, text, upload_name, zstd_name};

const ZSTD: i32 = api::compressor::Value::Zstd as i32;
const BLAKE3: i32 = api::digest_function::Value::Blake3 as i32;

async fn update_statuses(world: &World, requests: Vec<update::Request>) -> Vec<i32> {
    let request = api::BatchUpdateBlobsRequest { requests, ..Default::default() };
    let answer = world.cas().batch_update_blobs(request).await.unwrap().into_inner();
    answer.responses.into_iter().map(|response| response.status.unwrap_or_default().code).collect()
}

async fn batch_read(world: &World, digests: Vec<api::Digest>, compressors: Vec<i32>) -> api::BatchReadBlobsResponse {
    let request = api::BatchReadBlobsRequest { digests, acceptable_compressors: compressors, ..Default::default() };
    world.cas().batch_read_blobs(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn each_blob_of_a_batch_succeeds_or_fails_by_itself() {
    let world = World::new().await;
    let lies = |digest: api::Digest| update::Request { digest: Some(digest), data: b"lies".to_vec(), compressor: 0 };
    let requests = vec![
        plain(b"one"),
        lies(digest(b"other")),
        lies(api::Digest { size_bytes: 5, ..digest(b"lies") }),
        lies(api::Digest { size_bytes: -1, ..digest(b"lies") }),
        lies(api::Digest { hash: "zz".into(), size_bytes: 4 }),
        update::Request { digest: None, data: b"lies".to_vec(), compressor: 0 },
        update::Request { compressor: 3, ..plain(b"brotli") },
        plain(b""),
        plain(b"two"),
    ];
    let bad = Code::InvalidArgument as i32;
    assert_eq!(update_statuses(&world, requests).await, [0, bad, bad, bad, bad, bad, bad, 0, 0]);
    let asked = vec![digest(b"one"), digest(b"other"), digest(b"lies"), digest(b"two")];
    assert_eq!(world.missing(asked.clone()).await, [digest(b"other"), digest(b"lies")]);
    let answer = batch_read(&world, asked, vec![]).await;
    let seen: Vec<(i32, Vec<u8>)> =
        answer.responses.into_iter().map(|read| (read.status.unwrap_or_default().code, read.data)).collect();
    let gone = Code::NotFound as i32;
    assert_eq!(seen, [(0, b"one".to_vec()), (gone, vec![]), (gone, vec![]), (0, b"two".to_vec())]);
}

#[tokio::test]
async fn the_empty_blob_is_there_before_anybody_brings_it() {
    let world = World::new().await;
    let empty = digest(b"");
    assert_eq!(world.missing(vec![empty.clone()]).await, []);
    let answer = batch_read(&world, vec![empty.clone()], vec![ZSTD]).await;
    assert_eq!(answer.responses[0].status.clone().unwrap_or_default().code, 0);
    assert_eq!(world.read(&blob_name(&empty), 0, 0).await, Ok(vec![]));
    let packed = world.read(&zstd_name(&empty), 0, 0).await.unwrap();
    assert_eq!(zstd::bulk::decompress(&packed, 10).unwrap(), b"");
    assert_eq!(world.write(parts(&upload_name(&empty), b"", 1, 0, true)).await, Err(Code::InvalidArgument));
    let finish = bazel_remote_apis::google::bytestream::WriteRequest {
        resource_name: upload_name(&empty),
        finish_write: true,
        ..Default::default()
    };
    assert_eq!(world.write(vec![finish]).await, Ok(0));
    let lie = api::Digest { size_bytes: 0, ..digest(b"not empty") };
    assert_eq!(world.missing(vec![lie.clone()]).await, [lie]);
}

#[tokio::test]
async fn batches_over_the_limit_are_wrong_arguments() {
    let world = World::new().await;
    let max = world.capabilities().get_capabilities(api::GetCapabilitiesRequest::default()).await.unwrap();
    let max = max.into_inner().cache_capabilities.unwrap().max_batch_total_size_bytes as usize;
    let full: Vec<_> = (0..3).map(|seed| plain(&noise(seed, max / 3))).collect();
    let digests: Vec<_> = full.iter().map(|request| request.digest.clone().unwrap()).collect();
    assert_eq!(update_statuses(&world, full).await, [0, 0, 0]);
    assert_eq!(batch_read(&world, digests.clone(), vec![]).await.responses.len(), 3);
    // What is announced counts as well as what is sent.
    let announced = update::Request {
        digest: Some(api::Digest { size_bytes: 17 << 20, ..digest(b"x") }),
        data: zstd::bulk::compress(&vec![0; 17 << 20], 1).unwrap(),
        compressor: ZSTD,
    };
    for requests in [vec![announced], vec![plain(&noise(4, 17 << 20))]] {
        let request = api::BatchUpdateBlobsRequest { requests, ..Default::default() };
        assert_eq!(world.cas().batch_update_blobs(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let too_many = digests.into_iter().chain([api::Digest { size_bytes: 4 << 20, ..digest(b"x") }]).collect();
    let request = api::BatchReadBlobsRequest { digests: too_many, ..Default::default() };
    assert_eq!(world.cas().batch_read_blobs(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_answer_stays_below_what_clients_read_however_many_blobs_it_has() {
    let world = World::new().await;
    let blobs: Vec<Vec<u8>> = (0..10_000).map(|seed| noise(seed, 300)).collect();
    let digests = world.has(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    // The client's own limit of 4 MiB decides.
    let answer = batch_read(&world, digests.clone(), vec![]).await;
    assert!(answer.responses.iter().zip(&blobs).all(|(read, blob)| read.data == *blob));
    let missing: Vec<_> = (0..40_000).map(|at: u32| digest(&at.to_le_bytes())).collect();
    let answer = batch_read(&world, missing.clone(), vec![]).await;
    let gone = |read: &api::batch_read_blobs_response::Response| read.status.as_ref().unwrap().code;
    assert!(answer.responses.iter().all(|read| gone(read) == Code::NotFound as i32));
    let request = api::BatchReadBlobsRequest { digests: [missing.clone(), missing].concat(), ..Default::default() };
    assert_eq!(world.cas().batch_read_blobs(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_hundred_thousand_digests_are_looked_for_at_once() {
    let world = World::new().await;
    let mut digests: Vec<_> = (0..100_000).map(|at: u32| digest(&at.to_le_bytes())).collect();
    world.has(&[&7u32.to_le_bytes(), &99_999u32.to_le_bytes()]).await;
    let request = api::FindMissingBlobsRequest { blob_digests: digests.clone(), ..Default::default() };
    let mut cas = world.cas().max_decoding_message_size(16 << 20);
    let missing = cas.find_missing_blobs(request).await.unwrap().into_inner().missing_blob_digests;
    digests.remove(99_999);
    digests.remove(7);
    assert_eq!(missing, digests);
    let request = api::FindMissingBlobsRequest {
        blob_digests: vec![api::Digest { hash: "e3b0".into(), size_bytes: 0 }],
        ..Default::default()
    };
    assert_eq!(world.cas().find_missing_blobs(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn blobs_of_a_batch_travel_as_zstd_where_that_is_smaller() {
    let world = World::new().await;
    let (text, noise) = (text(100_000), noise(1, 10_000));
    let packed = |blob: &[u8]| zstd::bulk::compress(blob, 3).unwrap();
    let requests = vec![
        update::Request { data: packed(&text), compressor: ZSTD, ..plain(&text) },
        plain(&noise),
        update::Request { data: b"rubbish".to_vec(), compressor: ZSTD, ..plain(b"r") },
        // It unfolds to more than it says.
        update::Request { data: packed(&vec![0; 1 << 20]), compressor: ZSTD, ..plain(b"bomb") },
        update::Request { data: packed(b"less"), compressor: ZSTD, ..plain(b"less than it says") },
    ];
    let bad = Code::InvalidArgument as i32;
    assert_eq!(update_statuses(&world, requests).await, [0, 0, bad, bad, bad]);
    let answer = batch_read(&world, vec![digest(&text), digest(&noise)], vec![ZSTD]).await;
    assert_eq!(answer.responses[0].compressor, ZSTD);
    assert_eq!(zstd::bulk::decompress(&answer.responses[0].data, 100_000).unwrap(), text);
    assert_eq!((answer.responses[1].compressor, &answer.responses[1].data), (0, &noise));
    let answer = batch_read(&world, vec![digest(&text)], vec![]).await;
    assert_eq!((answer.responses[0].compressor, &answer.responses[0].data), (0, &text));
}

#[tokio::test]
async fn blobs_are_named_by_blake3_as_well() {
    let world = World::new().await;
    let blake = digest_by(Function::Blake3, b"blob");
    let request = api::BatchUpdateBlobsRequest {
        requests: vec![update::Request { digest: Some(blake.clone()), ..plain(b"blob") }],
        digest_function: BLAKE3,
        ..Default::default()
    };
    let answer = world.cas().batch_update_blobs(request).await.unwrap().into_inner();
    assert_eq!(answer.responses[0].status.clone().unwrap_or_default().code, 0);
    let missing = async |digest_function| {
        let request =
            api::FindMissingBlobsRequest { blob_digests: vec![blake.clone()], digest_function, ..Default::default() };
        world.cas().find_missing_blobs(request).await.map(|answer| answer.into_inner().missing_blob_digests.len())
    };
    assert_eq!(missing(BLAKE3).await.unwrap(), 0);
    assert_eq!(missing(0).await.unwrap(), 1, "left out it is SHA-256");
    assert_eq!(missing(2).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(missing(99).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_blob_is_made_of_chunks_only_if_it_is_what_it_is_called() {
    let world = World::new().await;
    let (a, b) = (noise(1, 700_000), noise(2, 900_000));
    let whole = [a.clone(), b.clone()].concat();
    world.has(&[&a, &b]).await;
    let splice = async |blob: api::Digest, chunks: &[&[u8]]| {
        let chunk_digests = chunks.iter().map(|chunk| digest(chunk)).collect();
        let request = api::SpliceBlobRequest { blob_digest: Some(blob), chunk_digests, ..Default::default() };
        world.cas().splice_blob(request).await.map(|answer| answer.into_inner().blob_digest.unwrap())
    };
    let code = |answer: Result<api::Digest, tonic::Status>| answer.unwrap_err().code();
    assert_eq!(code(splice(digest(&whole), &[&b, &a]).await), Code::InvalidArgument, "in another order");
    assert_eq!(code(splice(digest(&whole), &[&a]).await), Code::InvalidArgument, "too little");
    let absent = noise(3, 900_000);
    assert_eq!(code(splice(digest(&whole), &[&a, &absent]).await), Code::NotFound);
    assert_eq!(world.missing(vec![digest(&whole)]).await, [digest(&whole)]);
    assert_eq!(splice(digest(&whole), &[&a, &b]).await.unwrap(), digest(&whole));
    assert_eq!(splice(digest(&whole), &[&a, &b]).await.unwrap(), digest(&whole), "again");
    assert_eq!(world.read(&blob_name(&digest(&whole)), 0, 0).await, Ok(whole));
}

#[tokio::test]
async fn a_large_blob_is_told_as_chunks_that_are_there() {
    let world = World::new().await;
    let whole = noise(9, 6 << 20);
    assert_eq!(world.write(parts(&upload_name(&digest(&whole)), &whole, 1 << 20, 0, true)).await, Ok(6 << 20));
    let request = api::SplitBlobRequest { blob_digest: Some(digest(&whole)), ..Default::default() };
    let chunks = world.cas().split_blob(request.clone()).await.unwrap().into_inner().chunk_digests;
    let request = api::GetChunkMappingRequest {
        blob_digest: request.blob_digest,
        digest_function: api::digest_function::Value::Sha256.into(),
        ..Default::default()
    };
    let mut stream = world.cas().get_chunk_mapping(request.clone()).await.unwrap().into_inner();
    let mut mapping = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        mapping.extend(message.chunk_digests);
    }
    assert_eq!(mapping, chunks);
    let mut bytes = Vec::new();
    for chunk in &chunks {
        bytes.extend(world.read(&blob_name(chunk), 0, 0).await.unwrap());
    }
    assert!(bytes == whole);
    let request = api::GetChunkMappingRequest { blob_digest: Some(digest(b"absent")), ..request };
    assert_eq!(world.cas().get_chunk_mapping(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_chunk_mapping_may_come_in_several_requests() {
    let world = World::new().await;
    let chunks: Vec<Vec<u8>> = (0..5).map(|seed| noise(seed, 200_000)).collect();
    let whole = chunks.concat();
    world.has(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let request = |at: usize| api::RegisterChunkMappingRequest {
        blob_digest: (at == 0).then(|| digest(&whole)),
        chunk_digests: if at == 0 { vec![] } else { vec![digest(&chunks[at - 1])] },
        digest_function: i32::from(at == 0),
        ..Default::default()
    };
    let answer = world.cas().register_chunk_mapping(tokio_stream::iter((0..=5).map(request).collect::<Vec<_>>())).await;
    assert_eq!(answer.unwrap().into_inner().blob_digest, Some(digest(&whole)));
    assert_eq!(world.read(&blob_name(&digest(&whole)), 0, 0).await, Ok(whole));
    let nothing = world.cas().register_chunk_mapping(tokio_stream::empty()).await;
    assert_eq!(nothing.unwrap_err().code(), Code::InvalidArgument);
}
