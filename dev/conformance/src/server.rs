//! The server under test: its clients, the names of its resources, and the calls that most checks make.

use std::time::Duration;

use api::action_cache_client::ActionCacheClient;
use api::batch_update_blobs_request::Request as Upload;
use api::capabilities_client::CapabilitiesClient;
use api::compressor::Value as Compressor;
use api::content_addressable_storage_client::ContentAddressableStorageClient;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::bytestream as bs;
use bs::byte_stream_client::ByteStreamClient;
use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::check::Failure;
use crate::data::{self, Function, Source};

/// Bytes that a client's gRPC library takes in one message if nobody tells it otherwise, in all languages.
pub(crate) const FRAME_BYTES: usize = 4 << 20;
/// Content bytes of one batch that fits such a message with everybody's overhead.
const BATCH_BYTES: usize = 3 << 20;

/// Where a server is and how it wants to be spoken to.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// `grpc://host:port` or `http://host:port`.
    pub address: String,
    /// The name of the instance.
    pub instance: String,
    /// The bearer token.
    pub token: Option<String>,
}

/// The server under test.
#[derive(Debug)]
pub struct Server {
    address: String,
    pub(crate) instance: String,
    pub(crate) token: Option<String>,
    pub(crate) channel: Channel,
    pub(crate) capabilities: api::ServerCapabilities,
    pub(crate) function: Function,
    source: Source,
}

/// Puts the token into every call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What the clients speak through.
pub(crate) type Transport = InterceptedService<Channel, Bearer>;

impl Server {
    /// Connects and asks for the capabilities.
    ///
    /// # Errors
    /// Says why the server cannot be asked anything.
    pub async fn connect(target: &Target) -> Result<Server, String> {
        let address = target.address.replacen("grpc://", "http://", 1);
        let endpoint = Endpoint::from_shared(address).map_err(|why| format!("{}: {why}", target.address))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(8 << 20);
        let channel = endpoint.connect().await.map_err(|why| format!("cannot connect to {}: {why}", target.address))?;
        let mut server = Server {
            address: target.address.clone(),
            instance: target.instance.clone(),
            token: target.token.clone(),
            channel,
            capabilities: api::ServerCapabilities::default(),
            function: Function::Sha256,
            source: Source::new(),
        };
        let told = server.ask_capabilities().await;
        server.capabilities = told.map_err(|why| format!("{} tells no capabilities: {why}", target.address))?;
        Ok(server)
    }

    /// Where it is, for a connection of one's own.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.address.clone(), instance: self.instance.clone(), token: self.token.clone() }
    }
    /// The same server, spoken to with another digest function.
    pub(crate) fn with(&self, function: Function) -> Server {
        Server {
            address: self.address.clone(),
            instance: self.instance.clone(),
            token: self.token.clone(),
            channel: self.channel.clone(),
            capabilities: self.capabilities.clone(),
            function,
            source: Source::new(),
        }
    }
    /// The same server, spoken to with another token or none.
    pub(crate) fn token(&self, token: Option<&str>) -> Server {
        Server { token: token.map(str::to_owned), ..self.with(self.function) }
    }
    /// The same server, spoken to with another instance.
    pub(crate) fn instance(&self, instance: &str) -> Server {
        Server { instance: instance.to_owned(), ..self.with(self.function) }
    }

    pub(crate) async fn ask_capabilities(&self) -> Result<api::ServerCapabilities, Status> {
        let request = api::GetCapabilitiesRequest { instance_name: self.instance.clone() };
        Ok(CapabilitiesClient::new(self.transport()).get_capabilities(request).await?.into_inner())
    }

    // What it says that it can do.

    pub(crate) fn cache(&self) -> api::CacheCapabilities {
        self.capabilities.cache_capabilities.clone().unwrap_or_default()
    }
    pub(crate) fn needs_zstd(&self) -> Result<(), Failure> {
        self.needs(self.cache().supported_compressors.contains(&Compressor::Zstd.into()), "zstd in streams")
    }
    pub(crate) fn needs_batch_zstd(&self) -> Result<(), Failure> {
        self.needs(
            self.cache().supported_batch_update_compressors.contains(&Compressor::Zstd.into()),
            "zstd in batches",
        )
    }
    pub(crate) fn needs_updates(&self) -> Result<(), Failure> {
        let enabled = self.cache().action_cache_update_capabilities.is_some_and(|update| update.update_enabled);
        self.needs(enabled, "updates of the action cache")
    }
    pub(crate) fn needs(&self, told: bool, what: &str) -> Result<(), Failure> {
        if told { Ok(()) } else { Err(Failure::NotSupported(format!("does not offer {what}"))) }
    }
    /// Whether it speaks version 2.`minor`.
    pub(crate) fn speaks(&self, minor: i32) -> bool {
        self.capabilities.high_api_version.as_ref().is_some_and(|high| (high.major, high.minor) >= (2, minor))
    }
    /// Content bytes that one batch may have: what it says, or what fits a message.
    pub(crate) fn batch_bytes(&self) -> usize {
        match usize::try_from(self.cache().max_batch_total_size_bytes) {
            Ok(0) | Err(_) => BATCH_BYTES,
            Ok(told) => told.min(BATCH_BYTES),
        }
    }

    // Content.

    pub(crate) fn bytes(&self, len: usize) -> Vec<u8> {
        self.source.bytes(len)
    }
    /// Content that compresses well and is new all the same.
    pub(crate) fn text(&self, len: usize) -> Vec<u8> {
        let word = self.bytes(32);
        word.iter().copied().cycle().take(len).collect()
    }
    pub(crate) fn digest(&self, bytes: &[u8]) -> api::Digest {
        data::digest(self.function, bytes)
    }
    /// New content and its digest; nothing is stored.
    pub(crate) fn blob(&self, len: usize) -> (api::Digest, Vec<u8>) {
        let bytes = self.bytes(len);
        (self.digest(&bytes), bytes)
    }
    /// The digest of content that nobody has.
    pub(crate) fn absent(&self, len: usize) -> api::Digest {
        self.blob(len).0
    }

    // Names of resources.

    pub(crate) fn uuid(&self) -> String {
        self.source.uuid()
    }
    pub(crate) fn read_name(&self, digest: &api::Digest) -> String {
        format!("{}blobs/{}", self.prefix(), self.tail(digest))
    }
    pub(crate) fn write_name(&self, digest: &api::Digest) -> String {
        format!("{}uploads/{}/blobs/{}", self.prefix(), self.uuid(), self.tail(digest))
    }
    pub(crate) fn zstd_read_name(&self, digest: &api::Digest) -> String {
        format!("{}compressed-blobs/zstd/{}", self.prefix(), self.tail(digest))
    }
    pub(crate) fn zstd_write_name(&self, digest: &api::Digest) -> String {
        format!("{}uploads/{}/compressed-blobs/zstd/{}", self.prefix(), self.uuid(), self.tail(digest))
    }
    pub(crate) fn prefix(&self) -> String {
        if self.instance.is_empty() { String::new() } else { format!("{}/", self.instance) }
    }
    fn tail(&self, digest: &api::Digest) -> String {
        let function = if self.function == Function::Blake3 { "blake3/" } else { "" };
        format!("{function}{}/{}", digest.hash, digest.size_bytes)
    }
    /// The field `digest_function`: left out where a client may.
    pub(crate) fn function(&self) -> i32 {
        if self.function == Function::Sha256 { 0 } else { self.function.into() }
    }

    // Clients.

    pub(crate) fn transport(&self) -> Transport {
        let token = self.token.as_ref().and_then(|token| format!("Bearer {token}").parse().ok());
        InterceptedService::new(self.channel.clone(), Bearer(token))
    }
    pub(crate) fn cas(&self) -> ContentAddressableStorageClient<Transport> {
        ContentAddressableStorageClient::new(self.transport())
    }
    pub(crate) fn byte_stream(&self) -> ByteStreamClient<Transport> {
        ByteStreamClient::new(self.transport())
    }
    pub(crate) fn action_cache(&self) -> ActionCacheClient<Transport> {
        ActionCacheClient::new(self.transport())
    }

    // Calls.

    pub(crate) async fn missing(&self, digests: &[api::Digest]) -> Result<Vec<api::Digest>, Status> {
        let request = api::FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            blob_digests: digests.to_vec(),
            digest_function: self.function(),
        };
        Ok(self.cas().find_missing_blobs(request).await?.into_inner().missing_blob_digests)
    }
    pub(crate) async fn has(&self, digest: &api::Digest) -> Result<bool, Status> {
        Ok(self.missing(std::slice::from_ref(digest)).await?.is_empty())
    }
    /// Uploads as told; a code for each, in the order of the answer.
    pub(crate) async fn batch_update(&self, uploads: Vec<Upload>) -> Result<Vec<(api::Digest, i32)>, Status> {
        let request = api::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: uploads,
            digest_function: self.function(),
        };
        let answer = self.cas().batch_update_blobs(request).await?.into_inner();
        let code = |one: api::batch_update_blobs_response::Response| {
            (one.digest.unwrap_or_default(), one.status.map_or(0, |status| status.code))
        };
        Ok(answer.responses.into_iter().map(code).collect())
    }
    pub(crate) async fn batch_read(
        &self,
        digests: &[api::Digest],
        compressors: &[Compressor],
    ) -> Result<Vec<api::batch_read_blobs_response::Response>, Status> {
        let request = api::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: digests.to_vec(),
            acceptable_compressors: compressors.iter().map(|one| (*one).into()).collect(),
            digest_function: self.function(),
        };
        Ok(self.cas().batch_read_blobs(request).await?.into_inner().responses)
    }
    /// Stores content by the way that is made for its size.
    pub(crate) async fn store(&self, bytes: &[u8]) -> Result<api::Digest, Status> {
        let digest = self.digest(bytes);
        if bytes.len() > self.batch_bytes() {
            let name = self.write_name(&digest);
            self.write(parts(&name, bytes, 1 << 20)).await?;
        } else {
            self.store_all(&[bytes.to_vec()]).await?;
        }
        Ok(digest)
    }
    /// Stores small content, as many batches as it takes.
    pub(crate) async fn store_all(&self, contents: &[Vec<u8>]) -> Result<Vec<api::Digest>, Status> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for content in contents {
            // Digest and lengths of each; a batch of tiny ones would overflow the message otherwise.
            let cost = content.len() + 128;
            if bytes + cost > self.batch_bytes() && !batch.is_empty() {
                self.store_batch(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += cost;
            batch.push(upload(self.digest(content), content.clone()));
        }
        self.store_batch(batch).await?;
        Ok(contents.iter().map(|content| self.digest(content)).collect())
    }
    async fn store_batch(&self, batch: Vec<Upload>) -> Result<(), Status> {
        let answers = self.batch_update(batch).await?;
        match answers.iter().find(|(_, code)| *code != 0) {
            None => Ok(()),
            Some((digest, code)) => Err(Status::new(Code::from(*code), format!("upload of {} refused", digest.hash))),
        }
    }
    /// Stores a message.
    pub(crate) async fn store_message(&self, message: &impl Message) -> Result<api::Digest, Status> {
        self.store(&message.encode_to_vec()).await
    }
    pub(crate) async fn fetch(&self, digest: &api::Digest) -> Result<Vec<u8>, Status> {
        self.read(&self.read_name(digest), 0, 0).await
    }
    pub(crate) async fn read(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
        let request = bs::ReadRequest { resource_name: name.to_owned(), read_offset: offset, read_limit: limit };
        let mut parts = self.byte_stream().read(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            bytes.extend_from_slice(&part.data);
        }
        Ok(bytes)
    }
    /// Writes as told; the committed size.
    pub(crate) async fn write(&self, messages: Vec<bs::WriteRequest>) -> Result<i64, Status> {
        self.write_stream(futures_util::stream::iter(messages)).await
    }
    /// Writes and then keeps the stream open.
    pub(crate) async fn write_and_wait(&self, messages: Vec<bs::WriteRequest>) -> Result<i64, Status> {
        self.write_stream(futures_util::stream::iter(messages).chain(futures_util::stream::pending())).await
    }
    async fn write_stream(
        &self,
        messages: impl Stream<Item = bs::WriteRequest> + Send + 'static,
    ) -> Result<i64, Status> {
        Ok(self.byte_stream().write(messages).await?.into_inner().committed_size)
    }
    /// How far a write has come, and whether it is done.
    pub(crate) async fn write_status(&self, name: &str) -> Result<(i64, bool), Status> {
        let request = bs::QueryWriteStatusRequest { resource_name: name.to_owned() };
        let status = self.byte_stream().query_write_status(request).await?.into_inner();
        Ok((status.committed_size, status.complete))
    }
}

/// One upload of a batch.
pub(crate) fn upload(digest: api::Digest, data: Vec<u8>) -> Upload {
    Upload { digest: Some(digest), data, compressor: 0 }
}

/// One upload of a batch, compressed.
pub(crate) fn zstd_upload(digest: api::Digest, data: Vec<u8>) -> Upload {
    Upload { compressor: Compressor::Zstd.into(), ..upload(digest, data) }
}

/// The messages of a write in parts of `len` bytes: the name in the first, the end in the last.
pub(crate) fn parts(name: &str, bytes: &[u8], len: usize) -> Vec<bs::WriteRequest> {
    let mut messages = Vec::new();
    let mut offset = 0;
    loop {
        let end = bytes.len().min(offset + len);
        messages.push(bs::WriteRequest {
            resource_name: if offset == 0 { name.to_owned() } else { String::new() },
            write_offset: offset as i64,
            finish_write: end == bytes.len(),
            data: bytes[offset..end].to_vec(),
        });
        if end == bytes.len() {
            return messages;
        }
        offset = end;
    }
}
