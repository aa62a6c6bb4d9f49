//! Blobs in chunks: `SplitBlob` and `SpliceBlob`, and their streaming successors of version 2.13.

use api::chunking_function::Value as Chunking;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use tonic::{Code, Status};

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same, same_bytes};
use crate::data::Function;

checks! { "chunking":
    Must the_chunks_of_a_blob_are_stored
        "after a split was answered, the chunks are in the storage"
    Must the_chunks_of_a_blob_are_the_blob
        "concatenating the chunks in the order of the list gives the original blob"
    Must a_blob_that_is_not_there_is_not_split
        "NOT_FOUND: the requested blob is not in the storage"
    Should a_small_blob_is_one_chunk_or_not_split
        "NOT_FOUND if there is no split information for a blob"
    Must every_server_chooses_when_asked_to
        "servers must always accept the chunking function UNKNOWN"
    Should near_identical_blobs_share_chunks
        "blobs should be split in a content-defined way"
    Must fast_cdc_cuts_where_the_paper_says
        "implementations must follow the paper of 2020 at normalization level 2, with the advertised average and seed"
    Must chunks_make_a_blob
        "tells the server how chunks that are stored compose a blob"
    Must a_splice_answers_with_the_digest
        "the answer is the computed digest of the spliced blob"
    Must a_wrong_digest_is_not_spliced
        "servers must not trust digests of the client; INVALID_ARGUMENT if the spliced blob has another"
    Must a_wrong_size_is_not_spliced
        "servers must not trust digests of the client; INVALID_ARGUMENT if the spliced blob has another"
    Must a_missing_chunk_is_not_found
        "NOT_FOUND: at least one of the chunks is not in the storage"
    Must a_blob_that_is_there_may_be_spliced
        "the server may accept as done, or say ALREADY_EXISTS"
    Must a_chunk_may_be_twice_in_a_blob
        "the blob is the chunks in the order of the list"
    Should the_empty_blob_is_spliced_from_nothing
        "servers behave as though empty blobs are always available"
    Must a_spliced_blob_can_be_split
        "a split and a splice are each other's complement"
    Must chunks_keep_the_digest_function
        "the chunks' digests use the same function as the request's"
    Must the_mapping_of_a_blob_streams
        "from 2.13 on, servers that split must answer GetChunkMapping"
    Must a_mapping_is_registered_in_several_messages
        "from 2.13 on, servers that splice must answer RegisterChunkMapping, with the first request's digest"
    Must a_registered_mapping_is_verified
        "INVALID_ARGUMENT: the digest of the spliced blob is different"
}

async fn the_chunks_of_a_blob_are_stored(server: &Server) -> Verdict {
    needs_split(server)?;
    let chunks = split(server, &server.store(&server.bytes(6_000_000)).await?, Chunking::Unknown).await?;
    same("the number of missing chunks", server.missing(&chunks).await?.len(), 0)
}

async fn the_chunks_of_a_blob_are_the_blob(server: &Server) -> Verdict {
    needs_split(server)?;
    let content = server.bytes(6_000_000);
    let chunks = split(server, &server.store(&content).await?, Chunking::FastCdc2020).await?;
    same_bytes("the chunks together", &together(server, &chunks).await?, &content)
}

async fn a_blob_that_is_not_there_is_not_split(server: &Server) -> Verdict {
    needs_split(server)?;
    refused(split(server, &server.absent(5_000_000), Chunking::Unknown).await, &[Code::NotFound])
}

async fn a_small_blob_is_one_chunk_or_not_split(server: &Server) -> Verdict {
    needs_split(server)?;
    let digest = server.store(&server.bytes(1000)).await?;
    match split(server, &digest, Chunking::Unknown).await {
        Ok(chunks) => same("the chunks", chunks, vec![digest]),
        Err(status) => refused::<()>(Err(status), &[Code::NotFound]),
    }
}

async fn every_server_chooses_when_asked_to(server: &Server) -> Verdict {
    needs_split(server)?;
    let content = server.bytes(5_000_000);
    let chunks = split(server, &server.store(&content).await?, Chunking::Unknown).await?;
    same_bytes("the chunks together", &together(server, &chunks).await?, &content)
}

async fn near_identical_blobs_share_chunks(server: &Server) -> Verdict {
    needs_split(server)?;
    let one = server.bytes(16_000_000);
    // A byte more near the beginning moves all that follows.
    let other = [&one[..100_000], b"!", &one[100_000..]].concat();
    let chunks = split(server, &server.store(&one).await?, Chunking::FastCdc2020).await?;
    let others = split(server, &server.store(&other).await?, Chunking::FastCdc2020).await?;
    let shared = others.iter().filter(|chunk| chunks.contains(chunk)).count();
    holds(shared * 2 > others.len(), format!("{shared} of {} chunks are shared", others.len()))
}

async fn fast_cdc_cuts_where_the_paper_says(server: &Server) -> Verdict {
    needs_split(server)?;
    let Some(params) = server.cache().fast_cdc_2020_params else {
        return server.needs(false, "FastCDC");
    };
    let content = server.bytes(16_000_000);
    let average = params.avg_chunk_size_bytes as usize;
    let cuts = fastcdc::v2020::FastCDC::with_level_and_seed(
        &content,
        average / 4,
        average,
        average * 4,
        fastcdc::v2020::Normalization::Level2,
        params.seed.into(),
    );
    let expected: Vec<usize> = cuts.map(|chunk| chunk.length).collect();
    let chunks = split(server, &server.store(&content).await?, Chunking::FastCdc2020).await?;
    same("the lengths", chunks.iter().map(|chunk| chunk.size_bytes as usize).collect(), expected)
}

async fn chunks_make_a_blob(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    splice(server, &server.digest(&content), &chunks).await?;
    same_bytes("the blob", &server.fetch(&server.digest(&content)).await?, &content)
}

async fn a_splice_answers_with_the_digest(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let digest = server.digest(&content);
    same("the answer", splice(server, &digest, &chunks).await?, Some(digest))
}

async fn a_wrong_digest_is_not_spliced(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let wrong = server.absent(content.len());
    refused(splice(server, &wrong, &chunks).await, &[Code::InvalidArgument])?;
    holds(!server.has(&wrong).await?, "it is told to be present")
}

async fn a_wrong_size_is_not_spliced(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let wrong = crate::data::resized(&server.digest(&content), 1);
    refused(splice(server, &wrong, &chunks).await, &[Code::InvalidArgument])
}

async fn a_missing_chunk_is_not_found(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, mut chunks) = stored_chunks(server, 5).await?;
    let (digest, bytes) = server.blob(1000);
    chunks.push(digest);
    let whole = server.digest(&[content, bytes].concat());
    refused(splice(server, &whole, &chunks).await, &[Code::NotFound])
}

async fn a_blob_that_is_there_may_be_spliced(server: &Server) -> Verdict {
    needs_splice(server)?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let digest = server.store(&content).await?;
    match splice(server, &digest, &chunks).await {
        Ok(answer) => same("the answer", answer, Some(digest)),
        Err(status) => refused::<()>(Err(status), &[Code::AlreadyExists]),
    }
}

async fn a_chunk_may_be_twice_in_a_blob(server: &Server) -> Verdict {
    needs_splice(server)?;
    let part = server.bytes(700_000);
    let chunk = server.store(&part).await?;
    let content = [part.as_slice(), &part, &part].concat();
    let digest = server.digest(&content);
    splice(server, &digest, &[chunk.clone(), chunk.clone(), chunk]).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn the_empty_blob_is_spliced_from_nothing(server: &Server) -> Verdict {
    needs_splice(server)?;
    match splice(server, &server.digest(b""), &[]).await {
        Ok(_) => Ok(()),
        Err(status) => refused::<()>(Err(status), &[Code::AlreadyExists]),
    }
}

async fn a_spliced_blob_can_be_split(server: &Server) -> Verdict {
    needs_splice(server)?;
    needs_split(server)?;
    let (content, chunks) = stored_chunks(server, 8).await?;
    let digest = server.digest(&content);
    splice(server, &digest, &chunks).await?;
    let chunks = split(server, &digest, Chunking::Unknown).await?;
    same_bytes("the chunks together", &together(server, &chunks).await?, &content)
}

async fn chunks_keep_the_digest_function(server: &Server) -> Verdict {
    needs_split(server)?;
    let offered = server.cache().digest_functions.contains(&Function::Blake3.into());
    server.needs(offered, "a second digest function")?;
    let server = server.with(Function::Blake3);
    let content = server.bytes(5_000_000);
    let chunks = split(&server, &server.store(&content).await?, Chunking::Unknown).await?;
    same_bytes("the chunks together, by BLAKE3", &together(&server, &chunks).await?, &content)
}

async fn the_mapping_of_a_blob_streams(server: &Server) -> Verdict {
    needs_split(server)?;
    server.needs(server.speaks(13), "version 2.13")?;
    let content = server.bytes(5_000_000);
    let request = api::GetChunkMappingRequest {
        instance_name: server.instance.clone(),
        blob_digest: Some(server.store(&content).await?),
        digest_function: server.function(),
        chunking_function: Chunking::Unknown.into(),
    };
    let mut answers = server.cas().get_chunk_mapping(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(answer) = answers.message().await? {
        chunks.extend(answer.chunk_digests);
    }
    same_bytes("the chunks together", &together(server, &chunks).await?, &content)
}

async fn a_mapping_is_registered_in_several_messages(server: &Server) -> Verdict {
    needs_splice(server)?;
    server.needs(server.speaks(13), "version 2.13")?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let digest = server.digest(&content);
    register(server, &digest, &chunks).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn a_registered_mapping_is_verified(server: &Server) -> Verdict {
    needs_splice(server)?;
    server.needs(server.speaks(13), "version 2.13")?;
    let (content, chunks) = stored_chunks(server, 5).await?;
    let wrong = server.absent(content.len());
    refused(register(server, &wrong, &chunks).await, &[Code::InvalidArgument])?;
    holds(!server.has(&wrong).await?, "it is told to be present")
}

fn needs_split(server: &Server) -> Verdict {
    server.needs(server.cache().split_blob_support, "splitting")
}

fn needs_splice(server: &Server) -> Verdict {
    server.needs(server.cache().splice_blob_support, "splicing")
}

async fn split(server: &Server, digest: &api::Digest, chunking: Chunking) -> Result<Vec<api::Digest>, Status> {
    let request = api::SplitBlobRequest {
        instance_name: server.instance.clone(),
        blob_digest: Some(digest.clone()),
        digest_function: server.function(),
        chunking_function: chunking.into(),
    };
    Ok(server.cas().split_blob(request).await?.into_inner().chunk_digests)
}

async fn splice(server: &Server, digest: &api::Digest, chunks: &[api::Digest]) -> Result<Option<api::Digest>, Status> {
    let request = api::SpliceBlobRequest {
        instance_name: server.instance.clone(),
        blob_digest: Some(digest.clone()),
        chunk_digests: chunks.to_vec(),
        digest_function: server.function(),
        chunking_function: Chunking::Unknown.into(),
    };
    Ok(server.cas().splice_blob(request).await?.into_inner().blob_digest)
}

/// The chunks one by one, each in a message of its own; the digest stands in the first only.
async fn register(server: &Server, digest: &api::Digest, chunks: &[api::Digest]) -> Result<(), Status> {
    let first = api::RegisterChunkMappingRequest {
        instance_name: server.instance.clone(),
        blob_digest: Some(digest.clone()),
        digest_function: server.function.into(),
        ..Default::default()
    };
    let rest = chunks
        .iter()
        .map(|chunk| api::RegisterChunkMappingRequest { chunk_digests: vec![chunk.clone()], ..Default::default() });
    let messages: Vec<_> = std::iter::once(first).chain(rest).collect();
    server.cas().register_chunk_mapping(futures_util::stream::iter(messages)).await.map(|_| ())
}

async fn together(server: &Server, chunks: &[api::Digest]) -> Result<Vec<u8>, Status> {
    let mut content = Vec::new();
    for chunk in chunks {
        content.extend(server.fetch(chunk).await?);
    }
    Ok(content)
}

/// Content and the chunks of it, which are stored while it is not.
async fn stored_chunks(server: &Server, count: usize) -> Result<(Vec<u8>, Vec<api::Digest>), Status> {
    let (mut content, mut chunks) = (Vec::new(), Vec::new());
    for at in 0..count {
        let part = server.bytes(300_000 + at);
        chunks.push(server.store(&part).await?);
        content.extend(part);
    }
    Ok((content, chunks))
}
