//! SHA-256 and BLAKE3: each on its own, and one never taken for the other.

use api::compressor::Value as Compressor;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use tonic::Code;

use crate::Server;
use crate::action_cache::{get, new_action, plain_result, update};
use crate::check::{Verdict, checks, coded, holds, refused, same, same_bytes};
use crate::data::{self, Function};
use crate::server::{parts, upload};

checks! { "digest-functions":
    Must sha256_may_be_named
        "digest_function tells the function of the request's digests"
    Should sha256_is_inferred
        "SHA-256 may be left unset, and is inferred from the length of the hash"
    Must blake3_in_batches
        "the functions that are advertised may be used in every call"
    Must blake3_in_streams
        "the function stands before the hash in resource names, but for those that are inferred"
    Must blake3_compressed_in_streams
        "the function stands before the hash in resource names, after the compressor"
    Must blake3_in_the_action_cache
        "the functions that are advertised may be used in every call"
    Must blake3_in_trees
        "the functions that are advertised may be used in every call"
    Must the_empty_blob_of_blake3_is_always_there
        "servers behave as though empty blobs are always available"
    Must bytes_under_the_digest_of_another_function_are_refused
        "digests of a request use the function that it names"
    Must a_blob_of_one_function_is_none_of_another
        "digests of a request use the function that it names"
    Should a_function_that_is_not_offered_is_refused
        "clients use the functions that are advertised"
    Should a_hash_of_another_length_is_refused
        "the hash has the length of the hash function"
}

async fn sha256_may_be_named(server: &Server) -> Verdict {
    let (digest, data) = server.blob(1000);
    let request = api::BatchUpdateBlobsRequest {
        instance_name: server.instance.clone(),
        requests: vec![upload(digest.clone(), data)],
        digest_function: Function::Sha256.into(),
    };
    let answer = server.cas().batch_update_blobs(request).await?.into_inner();
    coded(answer.responses[0].status.as_ref().map_or(0, |status| status.code), &[Code::Ok])?;
    let request = api::FindMissingBlobsRequest {
        instance_name: server.instance.clone(),
        blob_digests: vec![digest],
        digest_function: Function::Sha256.into(),
    };
    let missing = server.cas().find_missing_blobs(request).await?.into_inner().missing_blob_digests;
    same("the answer", missing, vec![])
}

async fn sha256_is_inferred(server: &Server) -> Verdict {
    let content = server.bytes(1000);
    let digest = server.store(&content).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn blake3_in_batches(server: &Server) -> Verdict {
    let server = blake3(server)?;
    let contents = [server.bytes(10), server.bytes(3000), server.bytes(200_000)];
    let digests = server.store_all(&contents).await?;
    same("the missing", server.missing(&digests).await?, vec![])?;
    for (digest, content) in digests.iter().zip(&contents) {
        let answers = server.batch_read(std::slice::from_ref(digest), &[Compressor::Identity]).await?;
        same_bytes("the blob", &answers[0].data, content)?;
    }
    Ok(())
}

async fn blake3_in_streams(server: &Server) -> Verdict {
    let server = blake3(server)?;
    let (digest, bytes) = server.blob(5_000_000);
    let committed = server.write(parts(&server.write_name(&digest), &bytes, 1 << 20)).await?;
    same("committed_size", committed, 5_000_000)?;
    same_bytes("the blob", &server.fetch(&digest).await?, &bytes)?;
    let wrong = server.absent(1000);
    let write = server.write(parts(&server.write_name(&wrong), &server.bytes(1000), 1000)).await;
    refused(write, &[Code::InvalidArgument])
}

async fn blake3_compressed_in_streams(server: &Server) -> Verdict {
    let server = blake3(server)?;
    server.needs_zstd()?;
    let content = server.text(300_000);
    let digest = server.digest(&content);
    server.write(parts(&server.zstd_write_name(&digest), &data::compressed(&content), 1000)).await?;
    let frames = server.read(&server.zstd_read_name(&digest), 0, 0).await?;
    same_bytes("the blob", &data::decompressed(&frames).unwrap_or_default(), &content)
}

async fn blake3_in_the_action_cache(server: &Server) -> Verdict {
    let server = blake3(server)?;
    server.needs_updates()?;
    let (action, result) = (new_action(&server).await?, plain_result(&server).await?);
    update(&server, &action, result.clone()).await?;
    same("the files", get(&server, &action).await?.output_files, result.output_files)
}

async fn blake3_in_trees(server: &Server) -> Verdict {
    let server = blake3(server)?;
    let leaf = crate::tree::directory(&server, &[]);
    let root = crate::tree::directory(&server, &[&leaf]);
    server.store_message(&leaf).await?;
    let request = api::GetTreeRequest {
        instance_name: server.instance.clone(),
        root_digest: Some(server.store_message(&root).await?),
        digest_function: server.function(),
        ..Default::default()
    };
    let mut pages = server.cas().get_tree(request).await?.into_inner();
    let mut directories = Vec::new();
    while let Some(page) = pages.message().await? {
        directories.extend(page.directories);
    }
    let so = directories.len() == 2 && directories.contains(&leaf) && directories.contains(&root);
    holds(so, format!("{} directories came back", directories.len()))
}

async fn the_empty_blob_of_blake3_is_always_there(server: &Server) -> Verdict {
    let server = blake3(server)?;
    same("the missing", server.missing(&[server.digest(b"")]).await?, vec![])?;
    same_bytes("the blob", &server.fetch(&server.digest(b"")).await?, b"")
}

async fn bytes_under_the_digest_of_another_function_are_refused(server: &Server) -> Verdict {
    let other = blake3(server)?;
    let (digest, bytes) = server.blob(1000);
    match other.batch_update(vec![upload(digest, bytes)]).await {
        Ok(answers) => coded(answers[0].1, &[Code::InvalidArgument]),
        Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument]),
    }
}

async fn a_blob_of_one_function_is_none_of_another(server: &Server) -> Verdict {
    let other = blake3(server)?;
    let digest = server.store(&server.bytes(1000)).await?;
    holds(!other.has(&digest).await?, "the blob of a SHA-256 is told to be that of the equal BLAKE3")
}

async fn a_function_that_is_not_offered_is_refused(server: &Server) -> Verdict {
    let offered = server.cache().digest_functions.contains(&Function::Sha512.into());
    server.needs(!offered, "less than all functions")?;
    let request = api::FindMissingBlobsRequest {
        instance_name: server.instance.clone(),
        blob_digests: vec![api::Digest { hash: "ab".repeat(64), size_bytes: 10 }],
        digest_function: Function::Sha512.into(),
    };
    refused(server.cas().find_missing_blobs(request).await, &[Code::InvalidArgument])
}

async fn a_hash_of_another_length_is_refused(server: &Server) -> Verdict {
    for hash in ["ab".repeat(16), "ab".repeat(20), "ab".repeat(33)] {
        let digest = api::Digest { hash, size_bytes: 3 };
        match server.batch_update(vec![upload(digest, vec![1, 2, 3])]).await {
            Ok(answers) => coded(answers[0].1, &[Code::InvalidArgument])?,
            Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument])?,
        }
    }
    Ok(())
}

fn blake3(server: &Server) -> Result<Server, crate::check::Failure> {
    server.needs(server.cache().digest_functions.contains(&Function::Blake3.into()), "BLAKE3")?;
    Ok(server.with(Function::Blake3))
}
