//! `BatchUpdateBlobs` and `BatchReadBlobs`.

use api::compressor::Value as Compressor;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use tonic::Code;

use crate::Server;
use crate::check::{Verdict, checks, coded, holds, refused, same, same_bytes};
use crate::data::{compressed, decompressed, resized};
use crate::server::{upload, zstd_upload};

checks! { "batch":
    Must every_upload_gets_an_answer
        "the responses correspond to the requests, each with the digest of its blob"
    Must content_of_any_size_comes_back
        "what was uploaded under a digest is what is downloaded"
    Must a_wrong_digest_is_refused_alone
        "uploads of a batch succeed or fail independently; INVALID_ARGUMENT when digest and data do not match"
    Must what_was_refused_is_not_stored
        "blobs are added only after their digests were verified"
    Must a_size_that_lies_is_refused
        "the size is a part of the digest: if it is wrong the server must reject the request"
    Must an_upload_may_be_repeated
        "an upload of what is there already ends without error"
    Should a_blob_may_be_twice_in_a_batch
        "the requests are as if they were written in parallel"
    Must the_empty_blob_may_be_uploaded
        "clients may, and need not, upload empty blobs"
    Should an_empty_batch_is_answered
        "a batch is a list of uploads"
    Should an_upload_without_a_digest_is_refused
        "the digest of an upload must be the digest of its data"
    Must more_than_the_limit_is_stored_or_refused
        "INVALID_ARGUMENT if a client attempts to upload more than the limit"
    Must reading_tells_present_from_absent
        "every error of a single read is in the status of its digest; NOT_FOUND for what is not there"
    Must the_empty_blob_can_be_read
        "servers behave as though empty blobs are always available"
    Must reading_with_a_wrong_size_gives_nothing
        "the size is an integral part of the digest"
    Must reading_more_than_the_limit_is_refused_or_whole
        "INVALID_ARGUMENT if a client attempts to read more than the limit"
    Must reading_without_compressors_gives_plain_bytes
        "the format must be identity or one of the acceptable compressors of the request"
    Must reading_with_zstd_gives_plain_or_zstd
        "the format must be identity or one of the acceptable compressors of the request"
    Must an_upload_may_be_compressed
        "compressors of supported_batch_update_compressors may be used for the data of an upload"
    Must a_compressed_upload_is_verified
        "the digest is that of the uncompressed data"
    Must a_broken_frame_is_refused
        "INVALID_ARGUMENT when digest and data do not match"
    Must a_frame_that_grows_beyond_its_digest_is_refused
        "the size of the digest is that of the uncompressed data"
    Should an_unknown_compressor_is_refused
        "an upload's compressor must be identity or one of those advertised"
}

async fn every_upload_gets_an_answer(server: &Server) -> Verdict {
    let blobs: Vec<_> = (0..100).map(|at| server.blob(at + 1)).collect();
    let uploads = blobs.iter().map(|(digest, bytes)| upload(digest.clone(), bytes.clone())).collect();
    let mut answers = server.batch_update(uploads).await?;
    answers.sort_by_key(|(digest, _)| digest.size_bytes);
    same("the answer", answers, blobs.into_iter().map(|(digest, _)| (digest, 0)).collect())
}

async fn content_of_any_size_comes_back(server: &Server) -> Verdict {
    // Around the sizes at which stores change their ways: pages, inline limits, 64 KiB.
    for len in [1, 2, 127, 128, 1023, 1024, 1025, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_144, 1_000_003] {
        let content = server.bytes(len);
        let digest = server.store_all(std::slice::from_ref(&content)).await?.remove(0);
        let answers = server.batch_read(&[digest], &[]).await?;
        same("the number of answers", answers.len(), 1)?;
        same_bytes("what came back", &answers[0].data, &content)?;
    }
    Ok(())
}

async fn a_wrong_digest_is_refused_alone(server: &Server) -> Verdict {
    let ((wrong, _), (right, bytes)) = (server.blob(100), server.blob(101));
    let uploads = vec![upload(wrong.clone(), server.bytes(100)), upload(right.clone(), bytes)];
    let answers = server.batch_update(uploads).await?;
    let code = |digest: &api::Digest| answers.iter().find(|(answered, _)| answered == digest).map(|(_, code)| *code);
    same("the code of the wrong one", code(&wrong), Some(Code::InvalidArgument as i32))?;
    same("the code of the right one", code(&right), Some(0))?;
    holds(server.has(&right).await?, "the right one is not there")
}

async fn what_was_refused_is_not_stored(server: &Server) -> Verdict {
    let wrong = server.absent(100);
    let _ = server.batch_update(vec![upload(wrong.clone(), server.bytes(100))]).await;
    holds(!server.has(&wrong).await?, "a blob with other bytes is told to be present")
}

async fn a_size_that_lies_is_refused(server: &Server) -> Verdict {
    for by in [-1, 1, 1 << 40] {
        let (digest, bytes) = server.blob(1000);
        single(server, upload(resized(&digest, by), bytes), &[Code::InvalidArgument]).await?;
        holds(!server.has(&resized(&digest, by)).await?, "it is told to be present")?;
    }
    Ok(())
}

async fn an_upload_may_be_repeated(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    for _ in 0..3 {
        single(server, upload(digest.clone(), bytes.clone()), &[Code::Ok]).await?;
    }
    Ok(())
}

async fn a_blob_may_be_twice_in_a_batch(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let twice = vec![upload(digest.clone(), bytes.clone()), upload(digest, bytes)];
    let codes: Vec<i32> = server.batch_update(twice).await?.into_iter().map(|(_, code)| code).collect();
    holds(!codes.is_empty() && codes.iter().all(|code| *code == 0), format!("codes are {codes:?}"))
}

async fn the_empty_blob_may_be_uploaded(server: &Server) -> Verdict {
    single(server, upload(server.digest(b""), vec![]), &[Code::Ok]).await
}

async fn an_empty_batch_is_answered(server: &Server) -> Verdict {
    same("the answer", server.batch_update(vec![]).await?, vec![])
}

async fn an_upload_without_a_digest_is_refused(server: &Server) -> Verdict {
    let bare = api::batch_update_blobs_request::Request { digest: None, data: vec![1, 2, 3], compressor: 0 };
    single(server, bare, &[Code::InvalidArgument]).await
}

async fn more_than_the_limit_is_stored_or_refused(server: &Server) -> Verdict {
    let limit = usize::try_from(server.cache().max_batch_total_size_bytes).unwrap_or_default();
    server.needs(limit != 0 && limit < 64 << 20, "a limit of batches")?;
    let (digest, bytes) = server.blob(limit + (1 << 20));
    match server.batch_update(vec![upload(digest.clone(), bytes)]).await {
        Ok(answers) if answers.iter().all(|(_, code)| *code == 0) => {
            holds(server.has(&digest).await?, "it was accepted and is not there")
        }
        Ok(answers) => coded(answers[0].1, &[Code::InvalidArgument, Code::ResourceExhausted]),
        // A gRPC library may see the size of the message before the server sees the message, and has its own codes.
        Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument, Code::ResourceExhausted, Code::OutOfRange]),
    }
}

async fn reading_tells_present_from_absent(server: &Server) -> Verdict {
    let (absent, content) = (server.absent(1000), server.bytes(1000));
    let present = server.store(&content).await?;
    for answer in server.batch_read(&[absent.clone(), present.clone()], &[]).await? {
        let code = answer.status.map_or(0, |status| status.code);
        match answer.digest {
            Some(digest) if digest == absent => coded(code, &[Code::NotFound])?,
            Some(digest) if digest == present => {
                coded(code, &[Code::Ok])?;
                same_bytes("the blob", &answer.data, &content)?;
            }
            other => holds(false, format!("an answer is about {other:?}"))?,
        }
    }
    Ok(())
}

async fn the_empty_blob_can_be_read(server: &Server) -> Verdict {
    let answers = server.batch_read(&[server.digest(b"")], &[]).await?;
    same("the number of answers", answers.len(), 1)?;
    coded(answers[0].status.as_ref().map_or(0, |status| status.code), &[Code::Ok])?;
    same_bytes("the blob", &answers[0].data, b"")
}

async fn reading_with_a_wrong_size_gives_nothing(server: &Server) -> Verdict {
    let stored = server.store(&server.bytes(1000)).await?;
    match server.batch_read(&[resized(&stored, 1)], &[]).await {
        Ok(answers) => {
            let code = answers.first().and_then(|answer| answer.status.as_ref()).map_or(0, |status| status.code);
            coded(code, &[Code::NotFound, Code::InvalidArgument])
        }
        Err(status) => refused::<()>(Err(status), &[Code::NotFound, Code::InvalidArgument]),
    }
}

async fn reading_more_than_the_limit_is_refused_or_whole(server: &Server) -> Verdict {
    let limit = usize::try_from(server.cache().max_batch_total_size_bytes).unwrap_or_default();
    server.needs(limit != 0 && limit < 64 << 20, "a limit of batches")?;
    let contents: Vec<Vec<u8>> = (0..limit / (1 << 20) + 2).map(|_| server.bytes(1 << 20)).collect();
    let mut digests = Vec::new();
    for content in &contents {
        digests.push(server.store(content).await?);
    }
    match server.batch_read(&digests, &[]).await {
        Ok(answers) => {
            let whole = answers.iter().filter(|answer| answer.status.as_ref().is_none_or(|status| status.code == 0));
            let so = whole.clone().all(|answer| answer.data.len() == 1 << 20);
            holds(so, "a blob came back cut short and with status OK")
        }
        Err(status) => refused::<()>(Err(status), &[Code::InvalidArgument, Code::ResourceExhausted]),
    }
}

async fn reading_without_compressors_gives_plain_bytes(server: &Server) -> Verdict {
    let content = server.text(50_000);
    let digest = server.store(&content).await?;
    let answers = server.batch_read(&[digest], &[]).await?;
    same("the number of answers", answers.len(), 1)?;
    same("the compressor", answers[0].compressor, 0)?;
    same_bytes("the blob", &answers[0].data, &content)
}

async fn reading_with_zstd_gives_plain_or_zstd(server: &Server) -> Verdict {
    let content = server.text(50_000);
    let digest = server.store(&content).await?;
    let answers = server.batch_read(&[digest], &[Compressor::Zstd]).await?;
    same("the number of answers", answers.len(), 1)?;
    let plain = match Compressor::try_from(answers[0].compressor) {
        Ok(Compressor::Zstd) => decompressed(&answers[0].data).unwrap_or_default(),
        Ok(Compressor::Identity) => answers[0].data.clone(),
        other => return holds(false, format!("the compressor is {other:?}")),
    };
    same_bytes("the blob", &plain, &content)
}

async fn an_upload_may_be_compressed(server: &Server) -> Verdict {
    server.needs_batch_zstd()?;
    let content = server.text(50_000);
    let digest = server.digest(&content);
    single(server, zstd_upload(digest.clone(), compressed(&content)), &[Code::Ok]).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn a_compressed_upload_is_verified(server: &Server) -> Verdict {
    server.needs_batch_zstd()?;
    let wrong = server.absent(5000);
    single(server, zstd_upload(wrong.clone(), compressed(&server.bytes(5000))), &[Code::InvalidArgument]).await?;
    holds(!server.has(&wrong).await?, "it is told to be present")
}

async fn a_broken_frame_is_refused(server: &Server) -> Verdict {
    server.needs_batch_zstd()?;
    let (digest, bytes) = server.blob(5000);
    single(server, zstd_upload(digest.clone(), bytes.clone()), &[Code::InvalidArgument]).await?;
    let frame = compressed(&bytes);
    single(server, zstd_upload(digest, frame[..frame.len() / 2].to_vec()), &[Code::InvalidArgument]).await
}

async fn a_frame_that_grows_beyond_its_digest_is_refused(server: &Server) -> Verdict {
    server.needs_batch_zstd()?;
    let bomb = compressed(&vec![0; 256 << 20]);
    single(server, zstd_upload(server.absent(1000), bomb), &[Code::InvalidArgument]).await
}

async fn an_unknown_compressor_is_refused(server: &Server) -> Verdict {
    let (digest, bytes) = server.blob(1000);
    let request = api::batch_update_blobs_request::Request { compressor: 77, ..upload(digest, bytes) };
    single(server, request, &[Code::InvalidArgument]).await
}

/// A batch of one: its status or that of the whole call is one of `codes`.
async fn single(server: &Server, request: api::batch_update_blobs_request::Request, codes: &[Code]) -> Verdict {
    match server.batch_update(vec![request]).await {
        Ok(answers) => {
            same("the number of answers", answers.len(), 1)?;
            coded(answers[0].1, codes)
        }
        Err(status) => refused::<()>(Err(status), codes),
    }
}
