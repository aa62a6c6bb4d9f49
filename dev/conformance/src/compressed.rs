//! `ByteStream` with blobs that travel compressed.

use tonic::Code;

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same, same_bytes};
use crate::data::{compressed, decompressed};
use crate::server::parts;

checks! { "compressed":
    Must written_compressed_read_plain
        "every blob is provided in uncompressed form, too"
    Must written_plain_read_compressed
        "every blob is provided in each of the compressors that the server supports"
    Must noise_can_be_read_compressed
        "every blob is provided in each of the compressors that the server supports"
    Must a_write_tells_what_it_processed
        "committed_size is the number of (compressed) bytes processed, or -1 when the blob was there"
    Must a_second_write_ends_with_minus_one
        "when another client has completed the upload, committed_size of a compressed upload is -1"
    Must offsets_after_the_first_count_compressed_bytes
        "later write_offsets are the first one and the compressed lengths of all data before together"
    Must a_wrong_digest_is_refused
        "the uncompressed data must match hash and size, else INVALID_ARGUMENT"
    Must what_is_no_frame_is_refused
        "the uncompressed data must match hash and size, else INVALID_ARGUMENT"
    Must half_a_frame_is_refused
        "the uncompressed data must match hash and size, else INVALID_ARGUMENT"
    Must a_frame_that_grows_beyond_its_digest_is_refused
        "the uncompressed data must match hash and size, else INVALID_ARGUMENT"
    Should several_frames_are_one_blob
        "a zstd stream is one or more frames"
    Must the_empty_blob_is_there_compressed
        "servers behave as though empty blobs are always available"
    Must a_limit_is_refused
        "INVALID_ARGUMENT if read_limit of a compressed read is not zero"
    Must an_offset_counts_uncompressed_bytes
        "read_offset of a compressed read is in the uncompressed form"
    Must an_offset_beyond_the_end_is_out_of_range
        "a read_offset greater than the size causes OUT_OF_RANGE"
    Must a_blob_that_is_not_there_is_not_found
        "NOT_FOUND for a resource that does not exist"
    Must an_unknown_compressor_is_refused
        "the compressor is one that the server advertises"
    Must a_plain_write_after_a_compressed_one_ends_with_the_full_size
        "uploads of the same data may occur in any form"
}

async fn written_compressed_read_plain(server: &Server) -> Verdict {
    server.needs_zstd()?;
    for content in [server.text(100), server.text(300_000), server.bytes(3_000_000)] {
        let digest = server.digest(&content);
        write(server, &digest, &compressed(&content)).await?;
        same_bytes("the blob", &server.fetch(&digest).await?, &content)?;
    }
    Ok(())
}

async fn written_plain_read_compressed(server: &Server) -> Verdict {
    reads_compressed(server, &[server.text(100), server.text(300_000), server.text(5_000_000)]).await
}

async fn noise_can_be_read_compressed(server: &Server) -> Verdict {
    reads_compressed(server, &[server.bytes(100), server.bytes(300_000), server.bytes(5_000_000)]).await
}

async fn a_write_tells_what_it_processed(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let content = server.text(300_000);
    let frame = compressed(&content);
    let committed = write(server, &server.digest(&content), &frame).await?;
    holds([-1, frame.len() as i64].contains(&committed), format!("it is {committed}, sent were {}", frame.len()))
}

async fn a_second_write_ends_with_minus_one(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let content = server.text(300_000);
    let digest = server.store(&content).await?;
    same("committed_size", write(server, &digest, &compressed(&content)).await?, -1)
}

async fn offsets_after_the_first_count_compressed_bytes(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let content = server.bytes(300_000);
    let digest = server.digest(&content);
    server.write(parts(&server.zstd_write_name(&digest), &compressed(&content), 1000)).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn a_wrong_digest_is_refused(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let wrong = server.absent(300_000);
    refused(write(server, &wrong, &compressed(&server.bytes(300_000))).await, &[Code::InvalidArgument])?;
    holds(!server.has(&wrong).await?, "it is told to be present")
}

async fn what_is_no_frame_is_refused(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let (digest, bytes) = server.blob(10_000);
    refused(write(server, &digest, &bytes).await, &[Code::InvalidArgument])?;
    holds(!server.has(&digest).await?, "it is told to be present")
}

async fn half_a_frame_is_refused(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let (digest, bytes) = server.blob(300_000);
    let frame = compressed(&bytes);
    refused(write(server, &digest, &frame[..frame.len() / 2]).await, &[Code::InvalidArgument])?;
    holds(!server.has(&digest).await?, "it is told to be present")
}

async fn a_frame_that_grows_beyond_its_digest_is_refused(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let bomb = compressed(&vec![0; 256 << 20]);
    refused(write(server, &server.absent(1000), &bomb).await, &[Code::InvalidArgument])
}

async fn several_frames_are_one_blob(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let content = server.text(300_000);
    let digest = server.digest(&content);
    let frames: Vec<u8> = content.chunks(70_000).flat_map(compressed).collect();
    write(server, &digest, &frames).await?;
    same_bytes("the blob", &server.fetch(&digest).await?, &content)
}

async fn the_empty_blob_is_there_compressed(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let empty = server.digest(b"");
    let frames = server.read(&server.zstd_read_name(&empty), 0, 0).await?;
    same_bytes("the blob", &decompressed(&frames).unwrap_or_else(|_| frames.clone()), b"")?;
    write(server, &empty, &compressed(b"")).await.map(|_| ()).map_err(Into::into)
}

async fn a_limit_is_refused(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let digest = server.store(&server.text(300_000)).await?;
    refused(server.read(&server.zstd_read_name(&digest), 0, 1000).await, &[Code::InvalidArgument])
}

async fn an_offset_counts_uncompressed_bytes(server: &Server) -> Verdict {
    server.needs_zstd()?;
    for content in [server.text(300_000), server.bytes(3_000_000)] {
        let digest = server.store(&content).await?;
        for offset in [1, 70_001, content.len() - 1] {
            let frames = server.read(&server.zstd_read_name(&digest), offset as i64, 0).await?;
            same_bytes("the rest", &decompressed(&frames).unwrap_or_default(), &content[offset..])?;
        }
    }
    Ok(())
}

async fn an_offset_beyond_the_end_is_out_of_range(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let digest = server.store(&server.text(1000)).await?;
    refused(server.read(&server.zstd_read_name(&digest), 1001, 0).await, &[Code::OutOfRange])
}

async fn a_blob_that_is_not_there_is_not_found(server: &Server) -> Verdict {
    server.needs_zstd()?;
    refused(server.read(&server.zstd_read_name(&server.absent(10)), 0, 0).await, &[Code::NotFound])
}

async fn an_unknown_compressor_is_refused(server: &Server) -> Verdict {
    let digest = server.store(&server.text(1000)).await?;
    let name = server.zstd_read_name(&digest).replace("/zstd/", "/squeeze/");
    let codes = [Code::InvalidArgument, Code::NotFound, Code::Unimplemented];
    refused(server.read(&name, 0, 0).await, &codes)?;
    let new = server.text(1000);
    let name = server.zstd_write_name(&server.digest(&new)).replace("/zstd/", "/squeeze/");
    refused(server.write(parts(&name, &new, 1000)).await, &codes)
}

async fn a_plain_write_after_a_compressed_one_ends_with_the_full_size(server: &Server) -> Verdict {
    server.needs_zstd()?;
    let content = server.text(300_000);
    let digest = server.digest(&content);
    write(server, &digest, &compressed(&content)).await?;
    same("committed_size", server.write(parts(&server.write_name(&digest), &content, 1000)).await?, 300_000)
}

async fn write(
    server: &Server,
    digest: &bazel_remote_apis::build::bazel::remote::execution::v2::Digest,
    frames: &[u8],
) -> Result<i64, tonic::Status> {
    server.write(parts(&server.zstd_write_name(digest), frames, 1 << 20)).await
}

async fn reads_compressed(server: &Server, contents: &[Vec<u8>]) -> Verdict {
    server.needs_zstd()?;
    for content in contents {
        let digest = server.store(content).await?;
        let frames = server.read(&server.zstd_read_name(&digest), 0, 0).await?;
        let plain = decompressed(&frames);
        holds(plain.is_ok(), format!("{} bytes came that are no zstd: {plain:?}", frames.len()))?;
        same_bytes("the blob", &plain.unwrap_or_default(), content)?;
    }
    Ok(())
}
