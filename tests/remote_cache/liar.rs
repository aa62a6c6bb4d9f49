//! A shared cache in memory that can be told to lie, to dawdle, to forget and to refuse.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::bytestream as stream;
use bazel_remote_apis::google::rpc;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status, Streaming};

/// What it holds and how it behaves.
#[derive(Default)]
pub struct Mind {
    pub blobs: HashMap<String, Vec<u8>>,
    pub results: HashMap<String, api::ActionResult>,
    /// Bytes of blobs that were asked for.
    pub read: u64,
    /// Every blob has a wrong byte.
    pub wrong_bytes: bool,
    /// Every blob lacks its last byte.
    pub short: bool,
    /// Every answer comes so late.
    pub dawdle: Duration,
    /// Nobody may write results.
    pub read_only: bool,
    /// Blobs larger than this are gone, though results say otherwise.
    pub forgets_over: Option<usize>,
    /// Requests for results.
    pub look_ups: u64,
    /// Writes of results.
    pub writes: u64,
    /// Largest batch that it takes, 0 for any.
    pub batch_bytes: i64,
    /// Breaks the next streams that upload after some messages.
    pub cuts: u32,
    /// What came of uploads that were cut.
    partial: HashMap<String, Vec<u8>>,
}

/// What a cache was asked.
pub struct Seen {
    pub look_ups: u64,
    pub writes: u64,
    pub blobs: usize,
}

#[derive(Clone)]
pub struct Liar {
    pub mind: Arc<Mutex<Mind>>,
    pub address: SocketAddr,
    _runtime: Arc<Running>,
}

struct Running(Option<tokio::runtime::Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Liar {
    pub fn start() -> Liar {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mind: Arc<Mutex<Mind>> = Arc::default();
        let service = Service { mind: mind.clone() };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(api::capabilities_server::CapabilitiesServer::new(service.clone()))
                .add_service(
                    api::content_addressable_storage_server::ContentAddressableStorageServer::new(service.clone())
                        .max_decoding_message_size(64 << 20),
                )
                .add_service(api::action_cache_server::ActionCacheServer::new(service.clone()))
                .add_service(stream::byte_stream_server::ByteStreamServer::new(service))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        Liar { mind, address, _runtime: Arc::new(Running(Some(runtime))) }
    }
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }
    /// What it was asked so far, without holding on to it.
    pub fn seen(&self) -> Seen {
        let mind = self.mind();
        Seen { look_ups: mind.look_ups, writes: mind.writes, blobs: mind.blobs.len() }
    }
    pub fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().expect("a mind")
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[derive(Clone)]
struct Service {
    mind: Arc<Mutex<Mind>>,
}

impl Service {
    async fn mind(&self) -> MutexGuard<'_, Mind> {
        let dawdle = self.mind.lock().expect("a mind").dawdle;
        tokio::time::sleep(dawdle).await;
        self.mind.lock().expect("a mind")
    }
}

impl Mind {
    fn blob(&mut self, hash: &str) -> Option<Vec<u8>> {
        let mut bytes = match hash {
            _ if hash == digest_of(b"") => Vec::new(),
            _ => self.blobs.get(hash)?.clone(),
        };
        if self.forgets_over.is_some_and(|max| bytes.len() > max) {
            return None;
        }
        self.read += bytes.len() as u64;
        if self.wrong_bytes
            && let Some(byte) = bytes.first_mut()
        {
            *byte ^= 1;
        }
        if self.short {
            bytes.pop();
        }
        Some(bytes)
    }
}

#[tonic::async_trait]
impl api::capabilities_server::Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<api::GetCapabilitiesRequest>,
    ) -> Result<Response<api::ServerCapabilities>, Status> {
        let mind = self.mind().await;
        Ok(Response::new(api::ServerCapabilities {
            cache_capabilities: Some(api::CacheCapabilities {
                digest_functions: vec![api::digest_function::Value::Sha256.into()],
                action_cache_update_capabilities: Some(api::ActionCacheUpdateCapabilities {
                    update_enabled: !mind.read_only,
                }),
                max_batch_total_size_bytes: mind.batch_bytes,
                ..api::CacheCapabilities::default()
            }),
            ..api::ServerCapabilities::default()
        }))
    }
}

#[tonic::async_trait]
impl api::action_cache_server::ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<api::GetActionResultRequest>,
    ) -> Result<Response<api::ActionResult>, Status> {
        let mut mind = self.mind().await;
        mind.look_ups += 1;
        let hash = request.into_inner().action_digest.unwrap_or_default().hash;
        mind.results.get(&hash).cloned().map(Response::new).ok_or_else(|| Status::not_found("no result"))
    }
    async fn update_action_result(
        &self,
        request: Request<api::UpdateActionResultRequest>,
    ) -> Result<Response<api::ActionResult>, Status> {
        let mut mind = self.mind().await;
        if mind.read_only {
            return Err(Status::permission_denied("read only"));
        }
        mind.writes += 1;
        let request = request.into_inner();
        let result = request.action_result.unwrap_or_default();
        mind.results.insert(request.action_digest.unwrap_or_default().hash, result.clone());
        Ok(Response::new(result))
    }
}

#[tonic::async_trait]
impl api::content_addressable_storage_server::ContentAddressableStorage for Service {
    async fn find_missing_blobs(
        &self,
        request: Request<api::FindMissingBlobsRequest>,
    ) -> Result<Response<api::FindMissingBlobsResponse>, Status> {
        let mind = self.mind().await;
        let asked = request.into_inner().blob_digests;
        let missing = asked.into_iter().filter(|digest| !mind.blobs.contains_key(&digest.hash)).collect();
        Ok(Response::new(api::FindMissingBlobsResponse { missing_blob_digests: missing }))
    }
    async fn batch_update_blobs(
        &self,
        request: Request<api::BatchUpdateBlobsRequest>,
    ) -> Result<Response<api::BatchUpdateBlobsResponse>, Status> {
        let mut mind = self.mind().await;
        let requests = request.into_inner().requests;
        let total: usize = requests.iter().map(|one| one.data.len()).sum();
        if mind.batch_bytes > 0 && total as i64 > mind.batch_bytes {
            return Err(Status::invalid_argument("the batch is too large"));
        }
        let mut responses = Vec::new();
        for one in requests {
            let digest = one.digest.unwrap_or_default();
            assert_eq!(digest_of(&one.data), digest.hash, "an honest client");
            mind.blobs.insert(digest.hash.clone(), one.data);
            responses.push(api::batch_update_blobs_response::Response {
                digest: Some(digest),
                status: Some(rpc::Status::default()),
            });
        }
        Ok(Response::new(api::BatchUpdateBlobsResponse { responses }))
    }
    async fn batch_read_blobs(
        &self,
        request: Request<api::BatchReadBlobsRequest>,
    ) -> Result<Response<api::BatchReadBlobsResponse>, Status> {
        let mut mind = self.mind().await;
        let mut one = |digest: api::Digest| {
            let bytes = mind.blob(&digest.hash);
            let code = if bytes.is_some() { 0 } else { 5 };
            api::batch_read_blobs_response::Response {
                digest: Some(digest),
                data: bytes.unwrap_or_default(),
                status: Some(rpc::Status { code, ..rpc::Status::default() }),
                ..Default::default()
            }
        };
        let responses = request.into_inner().digests.into_iter().map(&mut one).collect();
        Ok(Response::new(api::BatchReadBlobsResponse { responses }))
    }
    type GetTreeStream = tokio_stream::Iter<std::vec::IntoIter<Result<api::GetTreeResponse, Status>>>;
    async fn get_tree(&self, _: Request<api::GetTreeRequest>) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn split_blob(&self, _: Request<api::SplitBlobRequest>) -> Result<Response<api::SplitBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn splice_blob(
        &self,
        _: Request<api::SpliceBlobRequest>,
    ) -> Result<Response<api::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    type GetChunkMappingStream = tokio_stream::Iter<std::vec::IntoIter<Result<api::GetChunkMappingResponse, Status>>>;
    async fn get_chunk_mapping(
        &self,
        _: Request<api::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<api::RegisterChunkMappingRequest>>,
    ) -> Result<Response<api::RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl stream::byte_stream_server::ByteStream for Service {
    type ReadStream = tokio_stream::Iter<std::vec::IntoIter<Result<stream::ReadResponse, Status>>>;
    async fn read(&self, request: Request<stream::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let hash = request.resource_name.rsplit('/').nth(1).unwrap_or_default().to_string();
        let bytes = self.mind().await.blob(&hash).ok_or_else(|| Status::not_found("no blob"))?;
        let parts: Vec<_> = bytes[request.read_offset as usize..]
            .chunks(1 << 20)
            .map(|part| Ok(stream::ReadResponse { data: part.to_vec() }))
            .collect();
        Ok(Response::new(tokio_stream::iter(parts)))
    }
    async fn write(
        &self,
        request: Request<Streaming<stream::WriteRequest>>,
    ) -> Result<Response<stream::WriteResponse>, Status> {
        let mut messages = request.into_inner();
        let mut name = String::new();
        while let Some(message) = messages.message().await? {
            let mut mind = self.mind().await;
            if !message.resource_name.is_empty() {
                name = message.resource_name;
            }
            let part = mind.partial.entry(name.clone()).or_default();
            assert_eq!(part.len() as i64, message.write_offset, "it goes on where it was cut off");
            part.extend(message.data);
            if part.len() > 1 << 20 && mind.cuts > 0 {
                mind.cuts -= 1;
                return Err(Status::unavailable("cut off"));
            }
            if message.finish_write {
                let bytes = mind.partial.remove(&name).unwrap_or_default();
                let committed_size = bytes.len() as i64;
                assert!(name.contains(&digest_of(&bytes)), "an honest client");
                mind.blobs.insert(digest_of(&bytes), bytes);
                return Ok(Response::new(stream::WriteResponse { committed_size }));
            }
        }
        Err(Status::invalid_argument("the stream ends in the middle"))
    }
    async fn query_write_status(
        &self,
        request: Request<stream::QueryWriteStatusRequest>,
    ) -> Result<Response<stream::QueryWriteStatusResponse>, Status> {
        let name = request.into_inner().resource_name;
        let committed_size = self.mind().await.partial.get(&name).map_or(0, Vec::len) as i64;
        Ok(Response::new(stream::QueryWriteStatusResponse { committed_size, complete: false }))
    }
}
