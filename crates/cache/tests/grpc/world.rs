//! A served cache and a client's connection to it.

use bazel_remote_apis::build::bazel::remote::asset::v1::{fetch_client::FetchClient, push_client::PushClient};
use bazel_remote_apis::build::bazel::remote::execution::v2::{
    self as api, action_cache_client::ActionCacheClient, batch_update_blobs_request as update,
    capabilities_client::CapabilitiesClient, content_addressable_storage_client::ContentAddressableStorageClient,
};
use bazel_remote_apis::google::bytestream::{self, byte_stream_client::ByteStreamClient};
use blobs::{Function, Key};
use cache::{Config, Running};
use tonic::transport::Channel;
use tonic::{Code, Request};

pub struct World {
    pub running: Running,
    pub channel: Channel,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    /// With another configuration; the folder of the cache is given to it for more files.
    pub async fn with(change: impl FnOnce(&mut Config)) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::local(&dir.path().join("data"));
        std::fs::create_dir_all(&config.data).unwrap();
        change(&mut config);
        let running = tokio::task::spawn_blocking(move || cache::serve(&config).unwrap()).await.unwrap();
        let channel = connect(&running).await;
        World { running, channel, _dir: dir }
    }

    /// One more connection.
    pub async fn connect(&self) -> Channel {
        connect(&self.running).await
    }

    pub fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }
    pub fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
    }
    pub fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }
    pub fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }
    pub fn fetch(&self) -> FetchClient<Channel> {
        FetchClient::new(self.channel.clone())
    }
    pub fn push(&self) -> PushClient<Channel> {
        PushClient::new(self.channel.clone())
    }

    /// Uploads blobs in one batch; the digests of all, which were all taken.
    pub async fn has(&self, blobs: &[&[u8]]) -> Vec<api::Digest> {
        let requests = blobs.iter().map(|blob| plain(blob)).collect::<Vec<_>>();
        let digests = requests.iter().map(|request| request.digest.clone().unwrap()).collect();
        let request = api::BatchUpdateBlobsRequest { requests, ..Default::default() };
        let answer = self.cas().batch_update_blobs(request).await.unwrap().into_inner();
        for response in answer.responses {
            assert_eq!(response.status.unwrap_or_default().code, 0, "{:?}", response.digest);
        }
        digests
    }

    pub async fn missing(&self, digests: Vec<api::Digest>) -> Vec<api::Digest> {
        let request = api::FindMissingBlobsRequest { blob_digests: digests, ..Default::default() };
        self.cas().find_missing_blobs(request).await.unwrap().into_inner().missing_blob_digests
    }

    /// All bytes of a download, or what went wrong.
    pub async fn read(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Code> {
        let request = bytestream::ReadRequest { resource_name: name.into(), read_offset: offset, read_limit: limit };
        let mut stream = self.bytes().read(request).await.map_err(|status| status.code())?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await.map_err(|status| status.code())? {
            assert!(message.data.len() < 4 << 20);
            bytes.extend(message.data);
        }
        Ok(bytes)
    }

    /// What an upload of some requests was answered: bytes that are there now.
    pub async fn write(&self, requests: Vec<bytestream::WriteRequest>) -> Result<i64, Code> {
        let answer = self.bytes().write(tokio_stream::iter(requests)).await;
        answer.map(|answer| answer.into_inner().committed_size).map_err(|status| status.code())
    }

    pub async fn progress(&self, name: &str) -> (i64, bool) {
        let request = bytestream::QueryWriteStatusRequest { resource_name: name.into() };
        let answer = self.bytes().query_write_status(request).await.unwrap().into_inner();
        (answer.committed_size, answer.complete)
    }

    pub fn forgets(&self, digest: &api::Digest) {
        let key = Key::from_hex(Function::Sha256, &digest.hash, digest.size_bytes as u64).unwrap();
        self.running.service.blobs.remove(&key).unwrap();
    }
}

async fn connect(running: &Running) -> Channel {
    Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap()
}

/// Requests of an upload in parts of some bytes, from an offset on.
pub fn parts(name: &str, bytes: &[u8], size: usize, from: i64, finish: bool) -> Vec<bytestream::WriteRequest> {
    let mut requests: Vec<_> = bytes
        .chunks(size.max(1))
        .enumerate()
        .map(|(at, part)| bytestream::WriteRequest {
            // By the rules only the first request needs the name.
            resource_name: if at == 0 { name.into() } else { String::new() },
            write_offset: from + (at * size) as i64,
            finish_write: false,
            data: part.to_vec(),
        })
        .collect();
    if let Some(last) = requests.last_mut() {
        last.finish_write = finish;
    }
    requests
}

pub fn plain(blob: &[u8]) -> update::Request {
    update::Request { digest: Some(digest(blob)), data: blob.to_vec(), compressor: 0 }
}

pub fn digest(bytes: &[u8]) -> api::Digest {
    digest_by(Function::Sha256, bytes)
}

pub fn digest_by(function: Function, bytes: &[u8]) -> api::Digest {
    let key = function.key_of(bytes);
    api::Digest { hash: key.hex(), size_bytes: key.size as i64 }
}

pub fn blob_name(digest: &api::Digest) -> String {
    format!("blobs/{}/{}", digest.hash, digest.size_bytes)
}

pub fn upload_name(digest: &api::Digest) -> String {
    format!("uploads/6b1b6ffa-0000-4000-8000-000000000000/{}", blob_name(digest))
}

pub fn zstd_name(digest: &api::Digest) -> String {
    format!("compressed-blobs/zstd/{}/{}", digest.hash, digest.size_bytes)
}

/// Bytes that do not compress, different for each seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size / 8 + 1).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

/// Bytes that compress well.
pub fn text(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at / 97 % 26) as u8).collect()
}

pub fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}
