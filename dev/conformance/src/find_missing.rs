//! `FindMissingBlobs`.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use tonic::Code;

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same};
use crate::data::resized;

checks! { "find-missing":
    Must lists_what_is_absent
        "the answer is a list of the requested blobs that are not in the storage"
    Must does_not_list_what_is_present
        "the answer is a list of the requested blobs that are not in the storage"
    Must tells_present_from_absent_in_one_request
        "the answer is a list of the requested blobs that are not in the storage"
    Must answers_an_empty_request
        "there are no errors of this method's own"
    Must the_empty_blob_is_always_there
        "servers behave as though empty blobs are always available, even if never uploaded"
    Must a_blob_is_there_as_soon_as_its_upload_is_answered
        "clients find out by this call what need not be uploaded again"
    Must the_size_belongs_to_the_digest
        "if the hash is right but the size is not, the server must not accept it as the blob"
    Must a_negative_size_is_no_digest
        "size_bytes is the size of the blob in bytes"
    Should a_hash_that_is_too_short_is_refused
        "the hash is padded with zeroes up to the length of the hash function"
    Should a_hash_that_is_not_hexadecimal_is_refused
        "the hash is a lowercase hexadecimal string"
    Should an_uppercase_hash_names_nothing
        "the hash is a lowercase hexadecimal string"
    Must a_digest_asked_for_twice_is_answered
        "the answer is a list of the requested blobs that are not in the storage"
    Should takes_ten_thousand_digests
        "no limit is set on the digests of a request but the size of a message"
    Should a_request_without_a_digest_in_it_is_no_crash
        "there are no errors of this method's own"
}

async fn lists_what_is_absent(server: &Server) -> Verdict {
    let absent = vec![server.absent(10), server.absent(2000)];
    let mut missing = server.missing(&absent).await?;
    missing.sort_by_key(|digest| digest.size_bytes);
    same("the answer", missing, absent)
}

async fn does_not_list_what_is_present(server: &Server) -> Verdict {
    let stored = server.store_all(&[server.bytes(10), server.bytes(70_000)]).await?;
    same("the answer", server.missing(&stored).await?, vec![])
}

async fn tells_present_from_absent_in_one_request(server: &Server) -> Verdict {
    let contents: Vec<Vec<u8>> = (0..50).map(|at| server.bytes(100 + at)).collect();
    let stored = server.store_all(&contents).await?;
    let absent: Vec<api::Digest> = (0..50).map(|at| server.absent(100 + at)).collect();
    let mixed: Vec<api::Digest> = stored.iter().zip(&absent).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let mut missing = server.missing(&mixed).await?;
    missing.sort_by_key(|digest| digest.size_bytes);
    same("the answer", missing, absent)
}

async fn answers_an_empty_request(server: &Server) -> Verdict {
    same("the answer", server.missing(&[]).await?, vec![])
}

async fn the_empty_blob_is_always_there(server: &Server) -> Verdict {
    same("the answer", server.missing(&[server.digest(b"")]).await?, vec![])
}

async fn a_blob_is_there_as_soon_as_its_upload_is_answered(server: &Server) -> Verdict {
    for len in [1, 1000, 100_000] {
        let stored = server.store(&server.bytes(len)).await?;
        holds(server.has(&stored).await?, format!("a blob of {len} bytes is missing right after its upload"))?;
    }
    Ok(())
}

async fn the_size_belongs_to_the_digest(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(1000)).await?;
    is_not_a_blob(server, resized(&stored, 1)).await
}

async fn a_negative_size_is_no_digest(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(1000)).await?;
    is_not_a_blob(server, resized(&stored, -1001)).await
}

async fn a_hash_that_is_too_short_is_refused(server: &Server) -> Verdict {
    let digest = api::Digest { hash: "abcdef".into(), size_bytes: 10 };
    refused(server.missing(&[digest]).await, &[Code::InvalidArgument])
}

async fn a_hash_that_is_not_hexadecimal_is_refused(server: &Server) -> Verdict {
    let digest = api::Digest { hash: "xy".repeat(32), size_bytes: 10 };
    refused(server.missing(&[digest]).await, &[Code::InvalidArgument])
}

async fn an_uppercase_hash_names_nothing(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(1000)).await?;
    is_not_a_blob(server, api::Digest { hash: stored.hash.to_uppercase(), ..stored }).await
}

async fn a_digest_asked_for_twice_is_answered(server: &Server) -> Verdict {
    let (stored, absent) = (server.store(&server.bytes(1000)).await?, server.absent(1000));
    let missing = server.missing(&[absent.clone(), stored.clone(), absent.clone(), stored]).await?;
    let so = !missing.is_empty() && missing.iter().all(|digest| *digest == absent);
    holds(so, format!("the answer is {missing:?}"))
}

async fn takes_ten_thousand_digests(server: &Server) -> Verdict {
    let absent: Vec<api::Digest> = (0..10_000).map(|_| server.absent(16)).collect();
    same("the number of missing blobs", server.missing(&absent).await?.len(), 10_000)
}

async fn a_request_without_a_digest_in_it_is_no_crash(server: &Server) -> Verdict {
    match server.missing(&[api::Digest::default()]).await {
        Ok(missing) => holds(missing.len() == 1, "a digest without a hash is told to be present"),
        Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument]),
    }
}

/// Either listed as missing, or the request refused as wrong.
async fn is_not_a_blob(server: &Server, digest: api::Digest) -> Verdict {
    match server.missing(std::slice::from_ref(&digest)).await {
        Ok(missing) => same("the answer", missing, vec![digest]),
        Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument]),
    }
}
