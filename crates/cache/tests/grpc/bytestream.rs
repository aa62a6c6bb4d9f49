//! Large blobs up and down, and uploads that go on where they broke off.

use bazel_remote_apis::google::bytestream::{ReadRequest, WriteRequest, byte_stream_client::ByteStreamClient};
use blobs::Function;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::world::{World, blob_name, digest, digest_by, noise, parts, text, upload_name, zstd_name};

fn zstd_upload(blob: &[u8]) -> String {
    format!("uploads/u-1/{}", zstd_name(&digest(blob)))
}

fn pack(blob: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(blob, 3).unwrap()
}

#[tokio::test]
async fn names_are_read_as_real_clients_write_them() {
    let world = World::new().await;
    for (seed, (up, down)) in [
        ("uploads/U/blobs/H", "blobs/H"),
        ("/uploads/U/blobs/H", "/blobs/H"),
        ("main/uploads/U/blobs/H/some/file.o", "main/blobs/H"),
        ("/team//main/pr/7/uploads/U/blobs/H", "team/main/pr/7/blobs/H"),
    ]
    .into_iter()
    .enumerate()
    {
        let blob = noise(seed as u64, 1_500_000);
        let name = |form: &str| form.replace('H', &blob_name(&digest(&blob))["blobs/".len()..]);
        assert_eq!(world.write(parts(&name(up), &blob, 16 << 10, 0, true)).await, Ok(1_500_000), "{up}");
        assert!(world.read(&name(down), 0, 0).await.unwrap() == blob, "{down}");
    }
    let blake = digest_by(Function::Blake3, b"blake");
    let rest = format!("blobs/blake3/{}/{}", blake.hash, blake.size_bytes);
    assert_eq!(world.write(parts(&format!("uploads/u/{rest}"), b"blake", 2, 0, true)).await, Ok(5));
    assert_eq!(world.read(&rest, 0, 0).await, Ok(b"blake".to_vec()));
    for name in ["", "blobs/x/1", "uploads/u/blobs/x/1", &blob_name(&blake)] {
        assert_eq!(world.write(parts(name, b"x", 1, 0, true)).await, Err(Code::InvalidArgument), "{name}");
    }
    assert_eq!(world.read("blobs/x/1", 0, 0).await, Err(Code::InvalidArgument));
    assert_eq!(world.write(vec![]).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn bytes_that_are_not_what_they_are_called_are_not_kept() {
    let world = World::new().await;
    for size in [100, 2 << 20] {
        let (blob, other) = (noise(1, size), noise(2, size));
        let name = upload_name(&digest(&blob));
        assert_eq!(world.write(parts(&name, &other, 1 << 18, 0, true)).await, Err(Code::InvalidArgument));
        assert_eq!(world.write(parts(&name, &blob[1..], 1 << 18, 0, true)).await, Err(Code::InvalidArgument));
        let longer = [blob.as_slice(), b"more"].concat();
        assert_eq!(world.write(parts(&name, &longer, 1 << 18, 0, true)).await, Err(Code::InvalidArgument));
        assert_eq!(world.read(&blob_name(&digest(&blob)), 0, 0).await, Err(Code::NotFound));
        assert_eq!(world.write(parts(&name, &blob, 1 << 18, 0, true)).await, Ok(size as i64));
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_its_connection_broke() {
    let world = World::new().await;
    let blob = noise(1, 3_000_000);
    let name = upload_name(&digest(&blob));
    // Nobody knows how much the server has when the call is given up. Some time it has something, and keeps it.
    loop {
        let (requests, stream) = mpsc::channel(64);
        let mut bytes = world.bytes();
        let sending = tokio::spawn(async move { bytes.write(ReceiverStream::new(stream)).await });
        for request in parts(&name, &blob[..1_000_000], 100_000, 0, false) {
            requests.send(request).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sending.abort();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let (committed, complete) = world.progress(&name).await;
        assert!(!complete);
        if committed > 0 {
            break;
        }
    }
    // An earlier call may be given up only now, and change how much there is: then it is asked again.
    let within = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            let committed = world.progress(&name).await.0 as usize;
            assert!(committed <= 1_000_000, "{committed}");
            match world.write(parts(&name, &blob[committed..], 100_000, committed as i64, true)).await {
                Err(Code::Aborted) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                written => break assert_eq!(written, Ok(3_000_000)),
            }
        }
    });
    within.await.expect("it goes on");
    assert_eq!(world.progress(&name).await, (3_000_000, true));
    assert!(world.read(&blob_name(&digest(&blob)), 0, 0).await.unwrap() == blob);
}

#[tokio::test]
async fn an_upload_that_ends_without_saying_so_goes_on_later() {
    let world = World::new().await;
    for (size, part) in [(100, 30), (3_000_000, 1_000_000)] {
        let blob = noise(size, size as usize);
        let name = upload_name(&digest(&blob));
        assert_eq!(world.progress(&name).await, (0, false));
        assert_eq!(world.write(parts(&name, &blob[..part], part, 0, false)).await, Ok(part as i64));
        assert_eq!(world.progress(&name).await, (part as i64, false));
        let other = name.replace("uploads/6", "uploads/7");
        assert_eq!(world.progress(&other).await, (0, false), "another upload");
        let wrong = parts(&name, &blob[part + 1..], part, part as i64 + 1, true);
        assert_eq!(world.write(wrong).await, Err(Code::Aborted));
        assert_eq!(world.write(parts(&name, &blob[..part], part, 0, false)).await, Ok(part as i64), "anew");
        assert_eq!(world.write(parts(&name, &blob[part..], part, part as i64, true)).await, Ok(size as i64));
        assert_eq!(world.read(&blob_name(&digest(&blob)), 0, 0).await, Ok(blob));
    }
    // All of it came: an answer with the whole size has to be true.
    let blob = noise(5, 1000);
    assert_eq!(world.write(parts(&upload_name(&digest(&blob)), &blob, 400, 0, false)).await, Ok(1000));
    assert_eq!(world.missing(vec![digest(&blob)]).await, []);
}

#[tokio::test]
async fn requests_that_contradict_each_other_are_refused() {
    let world = World::new().await;
    let blob = noise(1, 1000);
    let name = upload_name(&digest(&blob));
    let gap = [parts(&name, &blob[..100], 100, 0, false), parts(&name, &blob[101..], 1000, 101, true)].concat();
    assert_eq!(world.write(gap).await, Err(Code::InvalidArgument));
    assert_eq!(world.progress(&name).await, (100, false), "what came before the mistake");
    let other = [parts(&name, &blob[..100], 100, 0, false), parts("uploads/u/x", &blob[100..], 1000, 100, true)];
    assert_eq!(world.write(other.concat()).await, Err(Code::InvalidArgument));
    let after = [parts(&name, &blob, 1000, 0, true), parts(&name, b"more", 4, 1000, true)].concat();
    assert_eq!(world.write(after).await, Err(Code::InvalidArgument));
    let negative = parts(&upload_name(&digest(b"n")), b"n", 1, -1, true);
    assert_eq!(world.write(negative).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn an_upload_ends_early_when_another_one_was_first() {
    let world = World::new().await;
    let blob = noise(1, 3_000_000);
    let other = zstd_upload(&blob);
    let plain = upload_name(&digest(&blob)).replace("uploads/6", "uploads/7");
    let mut waiting = Vec::new();
    for (name, data, done) in [(plain, blob.clone(), 3_000_000), (other, pack(&blob), -1)] {
        let (requests, stream) = mpsc::channel(4);
        let mut bytes = world.bytes();
        let answer = tokio::spawn(async move { bytes.write(ReceiverStream::new(stream)).await });
        requests.send(parts(&name, &data[..1000], 1000, 0, false).remove(0)).await.unwrap();
        waiting.push((name, data, done, requests, answer));
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(world.write(parts(&upload_name(&digest(&blob)), &blob, 1 << 20, 0, true)).await, Ok(3_000_000));
    for (name, data, done, requests, answer) in waiting {
        // The next bytes are not needed any more, and neither is the end.
        let _ = requests.send(parts(&name, &data[1000..1_001_000], 1_000_000, 1000, false).remove(0)).await;
        assert_eq!(answer.await.unwrap().unwrap().into_inner().committed_size, done, "{name}");
        // One byte of an upload of what is there is answered at once.
        let (requests, stream) = mpsc::channel(4);
        requests.send(parts(&name, &data[..1], 1, 0, false).remove(0)).await.unwrap();
        let answer = world.bytes().write(ReceiverStream::new(stream)).await.unwrap();
        assert_eq!(answer.into_inner().committed_size, done, "{name}");
    }
}

#[tokio::test]
async fn compressed_uploads_and_downloads_are_the_same_blobs() {
    let world = World::new().await;
    let blob = [text(3_000_000), noise(1, 3_000_000)].concat();
    let packed = pack(&blob);
    assert_eq!(world.write(parts(&zstd_upload(&blob), &packed, 70_000, 0, true)).await, Ok(-1));
    assert!(world.read(&blob_name(&digest(&blob)), 0, 0).await.unwrap() == blob);
    for offset in [0, 1, 2_999_999, 5_999_999, 6_000_000] {
        let packed = world.read(&zstd_name(&digest(&blob)), offset, 0).await.unwrap();
        assert!(zstd::stream::decode_all(packed.as_slice()).unwrap() == blob[offset as usize..], "from {offset}");
    }
    assert_eq!(world.read(&zstd_name(&digest(&blob)), 0, 5).await, Err(Code::InvalidArgument));
    assert_eq!(world.read(&zstd_name(&digest(b"absent")), 0, 0).await, Err(Code::NotFound));
}

#[tokio::test]
async fn a_compressed_upload_goes_on_at_a_byte_of_the_blob() {
    let world = World::new().await;
    let blob = text(500_000);
    let name = zstd_upload(&blob);
    let first = pack(&blob[..200_000]);
    assert_eq!(world.write(parts(&name, &first, 50, 0, false)).await, Ok(200_000));
    assert_eq!(world.progress(&name).await, (200_000, false));
    // The first offset counts bytes of the blob, the ones after it add bytes as they travel.
    let rest = parts(&name, &pack(&blob[200_000..]), 50, 200_000, true);
    assert_eq!(world.write(rest).await, Ok(-1));
    assert!(world.read(&blob_name(&digest(&blob)), 0, 0).await.unwrap() == blob);
}

#[tokio::test]
async fn a_bomb_is_refused_where_it_exceeds_what_it_said() {
    let world = World::new().await;
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 19).unwrap();
    let name = zstd_upload(&text(1000));
    assert_eq!(world.write(parts(&name, &bomb, 1 << 20, 0, true)).await, Err(Code::InvalidArgument));
    assert_eq!(world.write(parts(&name, b"rubbish", 2, 0, true)).await, Err(Code::InvalidArgument));
    let cut = pack(&text(1000));
    assert_eq!(world.write(parts(&name, &cut[..cut.len() / 2], 9, 0, true)).await, Err(Code::InvalidArgument));
    assert_eq!(world.missing(vec![digest(&text(1000))]).await, [digest(&text(1000))]);
}

#[tokio::test]
async fn a_part_of_a_blob_is_read_by_offset_and_limit() {
    let world = World::new().await;
    let blob = noise(1, 5_000_000);
    let name = blob_name(&digest(&blob));
    world.write(parts(&upload_name(&digest(&blob)), &blob, 1 << 20, 0, true)).await.unwrap();
    for (offset, limit) in [(0, 1), (1, 4_999_999), (4_999_999, 0), (5_000_000, 0), (2_500_000, 100), (7, 1 << 40)] {
        let end = if limit == 0 { 5_000_000 } else { (offset + limit).min(5_000_000) };
        let part = world.read(&name, offset, limit).await.unwrap();
        assert!(part == blob[offset as usize..end as usize], "{offset} {limit}");
    }
    assert_eq!(world.read(&name, 5_000_001, 0).await, Err(Code::OutOfRange));
    assert_eq!(world.read(&name, -1, 0).await, Err(Code::OutOfRange));
    assert_eq!(world.read(&name, 0, -1).await, Err(Code::InvalidArgument));
    assert_eq!(world.read(&blob_name(&digest(b"absent")), 0, 0).await, Err(Code::NotFound));
}

#[tokio::test]
async fn slow_readers_cost_little_memory_and_keep_nobody_waiting() {
    let world = World::new().await;
    let blob = noise(1, 32 << 20);
    let name = blob_name(&digest(&blob));
    world.write(parts(&upload_name(&digest(&blob)), &blob, 1 << 20, 0, true)).await.unwrap();
    let before = resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..64 {
        // A connection each: on one, those who do not read hold up the others, as HTTP/2 has it.
        let request = ReadRequest { resource_name: name.clone(), ..Default::default() };
        let mut stream = ByteStreamClient::new(world.connect().await).read(request).await.unwrap().into_inner();
        stream.message().await.unwrap();
        slow.push(stream);
    }
    // 2 GiB would be the whole.
    assert!(resident_bytes().saturating_sub(before) < 768 << 20, "{} MiB", (resident_bytes() - before) >> 20);
    assert_eq!(world.missing(vec![digest(b"x")]).await.len(), 1);
    let mut left = 0;
    while let Some(message) = slow[0].message().await.unwrap() {
        left += message.data.len();
    }
    assert!(left > 24 << 20);
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn two_writers_of_one_blob_both_succeed() {
    let world = World::new().await;
    let blob = noise(3, 4 << 20);
    let requests = |id: &str| -> Vec<WriteRequest> {
        let name = upload_name(&digest(&blob)).replace("uploads/6", &format!("uploads/{id}"));
        parts(&name, &blob, 100_000, 0, true)
    };
    let (one, two) = tokio::join!(world.write(requests("1")), world.write(requests("2")));
    assert_eq!((one, two), (Ok(4 << 20), Ok(4 << 20)));
    assert!(world.read(&blob_name(&digest(&blob)), 0, 0).await.unwrap() == blob);
}
