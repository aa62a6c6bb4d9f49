//! `ByteStream`: one large blob, up or down, and an upload that goes on where it broke off.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bazel_remote_apis::google::bytestream as api;
use blobs::{Blobs, Error, Reader, Writer};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::compressed::{Deflater, Inflater};
use super::names::{BadName, Resource, Upload};
use super::status;
use super::uploads::Uploads;
use super::wire::{self, ReadResponse, WriteRequest};
use crate::Service;
use crate::access::Access;
use crate::service::blocking;

/// Bytes of an upload that are gathered before they go to a thread that may block: clients send as little as 16 KiB at a
/// time. A blob that is no larger is stored like one of a batch.
const GATHERED_BYTES: usize = 512 << 10;
/// Bytes of one message of a download: a quarter of what clients accept by default.
const MESSAGE_BYTES: usize = 1 << 20;
/// How long the end of a finished upload's stream is waited for: only to tell clients that send on that they are wrong.
const HALF_CLOSE_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ByteStream {
    service: Arc<Service>,
    uploads: Uploads,
}

/// Adds the methods.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    let state = Arc::new(ByteStream { service: service.clone(), uploads: Uploads::default() });
    router
        .route("/google.bytestream.ByteStream/Read", wire::answers(&state, read))
        .route("/google.bytestream.ByteStream/Write", wire::requests(&state, write))
        .route("/google.bytestream.ByteStream/QueryWriteStatus", wire::unary(&state, query_write_status))
}

async fn read(
    state: Arc<ByteStream>,
    request: Request<api::ReadRequest>,
) -> Result<ReceiverStream<Result<ReadResponse, Status>>, Status> {
    let asked = request.get_ref();
    let resource = Resource::parse(&asked.resource_name).map_err(invalid_name)?;
    let access = state.service.admit(request.metadata().as_ref(), &resource.instance).map_err(status::denied)?;
    let (offset, limit) = range(asked, &resource)?;
    let service = state.service.clone();
    let (mut download, first) = blocking(move || {
        service.fetch(&access.domain, [resource.key]);
        let mut download = Download::open(&service.blobs, &resource, offset, limit)?;
        let first = download.next()?;
        Ok::<_, Status>((download, first))
    })
    .await?;
    // One part waits here, one is being sent: a slow reader costs no more, and who has gone is noticed at the next part.
    let (messages, stream) = mpsc::channel(first.len().max(2));
    for message in first {
        let _ = messages.try_send(Ok(ReadResponse { data: message }));
    }
    if !download.ended {
        tokio::spawn(async move {
            while !download.ended {
                let (next, part) = blocking(move || {
                    let part = download.next();
                    (download, part)
                })
                .await;
                download = next;
                match part {
                    Ok(part) => {
                        for message in part {
                            if messages.send(Ok(ReadResponse { data: message })).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(status) => {
                        let _ = messages.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
    }
    Ok(ReceiverStream::new(stream))
}

fn range(asked: &api::ReadRequest, resource: &Resource) -> Result<(u64, Option<u64>), Status> {
    let size = resource.key.size;
    let offset = u64::try_from(asked.read_offset).ok().filter(|offset| *offset <= size).ok_or_else(|| {
        let (name, offset) = (&asked.resource_name, asked.read_offset);
        Status::out_of_range(format!("cannot read `{name}` from byte {offset} on: it has {size} bytes"))
    })?;
    let limit = u64::try_from(asked.read_limit)
        .map_err(|_| Status::invalid_argument(format!("a read_limit of {} bytes is below zero", asked.read_limit)))?;
    if resource.zstd && limit != 0 {
        let told = "a compressed blob cannot be read with a read_limit; leave it out, or read the blob uncompressed";
        return Err(Status::invalid_argument(told));
    }
    Ok((offset, (limit != 0).then_some(limit)))
}

/// A blob on its way out.
struct Download {
    reader: Reader,
    deflater: Option<Deflater>,
    /// Bytes of the blob that are still to be read.
    left: u64,
    ended: bool,
}

impl Download {
    fn open(blobs: &Blobs, resource: &Resource, offset: u64, limit: Option<u64>) -> Result<Download, Status> {
        let reader = blobs.reader(&resource.key, offset, limit).map_err(|error| status::refused(&error))?;
        let deflater = resource.zstd.then(Deflater::new).transpose().map_err(no_memory)?;
        let left = (resource.key.size - offset).min(limit.unwrap_or(u64::MAX));
        Ok(Download { reader, deflater, left, ended: false })
    }

    /// The messages of the next part; none of an empty blob.
    fn next(&mut self) -> Result<Vec<Bytes>, Status> {
        let part = self.reader.next().transpose().map_err(|error| status::refused(&error))?;
        let part = part.unwrap_or_default();
        self.left = self.left.saturating_sub(part.len() as u64);
        self.ended = self.left == 0 || part.is_empty();
        let Some(deflater) = &mut self.deflater else {
            return Ok(messages(part));
        };
        let mut packed = messages(deflater.feed(&part).map_err(no_memory)?);
        if self.ended {
            packed.extend(messages(deflater.end().map_err(no_memory)?));
        }
        Ok(packed)
    }
}

fn messages(mut part: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while !part.is_empty() {
        messages.push(part.split_to(part.len().min(MESSAGE_BYTES)));
    }
    messages
}

async fn write(
    state: Arc<ByteStream>,
    request: Request<Streaming<WriteRequest>>,
) -> Result<api::WriteResponse, Status> {
    let (metadata, _, mut requests) = request.into_parts();
    let first = requests.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("the stream has no request; name the resource first"))?;
    let upload = Upload::parse(&first.resource_name).map_err(invalid_name)?;
    let access = state.service.admit(metadata.as_ref(), &upload.resource.instance).map_err(status::denied)?;
    if first.write_offset < 0 {
        let told = format!("a write_offset of {} bytes is below zero", first.write_offset);
        return Err(Status::invalid_argument(told));
    }
    if !access.may_write_content().map_err(status::denied)? {
        return Ok(stored(&upload.resource));
    }
    let service = state.service.clone();
    let Some(receiving) = Receiving::begin(state, uploader(&access).into(), upload.clone(), &first).await? else {
        return Ok(stored(&upload.resource));
    };
    // A task of its own: it keeps what came when the client breaks off, and then nobody waits for the answer.
    let answer = tokio::spawn(receiving.receive(first, requests)).await;
    if matches!(&answer, Ok(Ok(answer)) if *answer == stored(&upload.resource)) {
        service.stored(&access.domain, [upload.resource.key]);
    }
    answer.unwrap_or_else(|ended| Err(Status::internal(format!("the upload ended early: {ended}; send it again"))))
}

async fn query_write_status(
    state: Arc<ByteStream>,
    request: Request<api::QueryWriteStatusRequest>,
) -> Result<api::QueryWriteStatusResponse, Status> {
    let upload = Upload::parse(&request.get_ref().resource_name).map_err(invalid_name)?;
    let access = state.service.admit(request.metadata().as_ref(), &upload.resource.instance).map_err(status::denied)?;
    let key = upload.resource.key;
    let service = state.service.clone();
    if blocking(move || service.blobs.missing(&[key]).is_empty()).await {
        return Ok(api::QueryWriteStatusResponse { committed_size: signed(key.size), complete: true });
    }
    let written = state.uploads.written(uploader(&access), &upload, Instant::now()).unwrap_or(0);
    Ok(api::QueryWriteStatusResponse { committed_size: signed(written), complete: false })
}

/// The token alone: another run may go on with an upload.
fn uploader(access: &Access) -> &str {
    access.writer.split(" run ").next().unwrap_or_default()
}

/// The answer to an upload of what is there, by whomever it came.
fn stored(resource: &Resource) -> api::WriteResponse {
    api::WriteResponse { committed_size: if resource.zstd { -1 } else { signed(resource.key.size) } }
}

/// An upload on its way in.
struct Receiving {
    state: Arc<ByteStream>,
    uploader: String,
    upload: Upload,
    /// Elsewhere while it works.
    sink: Sink,
    /// Where the next request has to begin.
    offset: i64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

impl Receiving {
    /// Goes on where an earlier stream stopped, or begins anew at 0; `None` when the blob is there.
    async fn begin(
        state: Arc<ByteStream>,
        uploader: String,
        upload: Upload,
        first: &WriteRequest,
    ) -> Result<Option<Receiving>, Status> {
        let before = state.uploads.take(&uploader, &upload, Instant::now());
        let offset = first.write_offset;
        let writer = before.filter(|writer| offset != 0 && signed(writer.written()) == offset);
        let goes_on = offset == 0 || writer.is_some();
        let sink =
            Sink { blobs: state.service.blobs.clone(), resource: upload.resource.clone(), writer, inflater: None };
        // What comes whole in one request is stored without asking: that takes no longer.
        if (!first.finish_write || !goes_on) && sink.ask_is_there().await {
            return Ok(None);
        }
        match goes_on {
            true => {
                Ok(Some(Receiving { state, uploader, upload, sink, offset, gathered: Vec::new(), gathered_bytes: 0 }))
            }
            false => Err(wrong_start(&first.resource_name, offset)),
        }
    }

    async fn receive(
        mut self,
        first: WriteRequest,
        mut requests: Streaming<WriteRequest>,
    ) -> Result<api::WriteResponse, Status> {
        let name = first.resource_name.clone();
        let mut message = first;
        loop {
            if let Err(status) = self.gather(&name, &mut message) {
                self.keep().await;
                return Err(status);
            }
            if message.finish_write {
                return self.finish(requests).await;
            }
            if self.gathered_bytes >= GATHERED_BYTES && self.flush().await? == Flushed::Already {
                return Ok(stored(&self.upload.resource));
            }
            message = match requests.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return self.half_closed().await,
                Err(status) => {
                    self.keep().await;
                    return Err(status);
                }
            };
        }
    }

    fn gather(&mut self, name: &str, message: &mut WriteRequest) -> Result<(), Status> {
        if !message.resource_name.is_empty() && message.resource_name != name {
            let other = &message.resource_name;
            return Err(Status::invalid_argument(format!("the stream writes `{name}`, and goes on with `{other}`")));
        }
        if message.write_offset != self.offset {
            let (expected, offset) = (self.offset, message.write_offset);
            return Err(Status::invalid_argument(format!(
                "write_offset is {offset} where {expected} comes next in `{name}`"
            )));
        }
        self.offset = self.offset.saturating_add_unsigned(message.data.len() as u64);
        self.gathered_bytes += message.data.len();
        if !message.data.is_empty() {
            self.gathered.push(std::mem::take(&mut message.data));
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<Flushed, Status> {
        let parts = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        self.work(move |sink| match sink.is_there() {
            true => Ok(Flushed::Already),
            false => sink.write(&parts).map(|()| Flushed::Written),
        })
        .await
        .map_err(Status::from)
    }

    async fn finish(mut self, mut requests: Streaming<WriteRequest>) -> Result<api::WriteResponse, Status> {
        let parts = std::mem::take(&mut self.gathered);
        let answer = stored(&self.upload.resource);
        let commit = self.work(move |sink| sink.commit(parts));
        let (committed, more) = tokio::join!(commit, tokio::time::timeout(HALF_CLOSE_FOR, requests.message()));
        committed?;
        match more {
            Ok(Ok(Some(_))) => Err(Status::invalid_argument("the stream goes on after finish_write")),
            _ => Ok(answer),
        }
    }

    /// The client said all it has to say, and not that this is all.
    async fn half_closed(mut self) -> Result<api::WriteResponse, Status> {
        if self.flush().await? == Flushed::Already {
            return Ok(stored(&self.upload.resource));
        }
        let written = self.sink.writer.as_ref().map_or(0, Writer::written);
        // The answer will say that everything came, and then it has to be there.
        if written == self.upload.resource.key.size {
            let answer = stored(&self.upload.resource);
            self.work(|sink| sink.commit(Vec::new())).await?;
            return Ok(answer);
        }
        self.keep().await;
        Ok(api::WriteResponse { committed_size: signed(written) })
    }

    /// Keeps what came, so that the client can go on.
    async fn keep(mut self) {
        if matches!(self.flush().await, Ok(Flushed::Written))
            && let Some(writer) = self.sink.writer.take().filter(|writer| writer.written() > 0)
        {
            self.state.uploads.keep(&self.uploader, self.upload, writer, Instant::now());
        }
    }

    /// Does something with the sink where it may block.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Sink) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let mut sink = self.sink.leave();
        let (sink, done) = blocking(move || {
            let done = work(&mut sink);
            (sink, done)
        })
        .await;
        self.sink = sink;
        done
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    Written,
    /// Somebody else's upload of the blob is finished.
    Already,
}

/// Where an upload goes.
struct Sink {
    blobs: Blobs,
    resource: Resource,
    /// From the first bytes on that are written here.
    writer: Option<Writer>,
    /// From the first compressed bytes of this stream on.
    inflater: Option<Inflater>,
}

impl Sink {
    /// Hands out all there is and stays behind empty.
    fn leave(&mut self) -> Sink {
        Sink {
            blobs: self.blobs.clone(),
            resource: self.resource.clone(),
            writer: self.writer.take(),
            inflater: self.inflater.take(),
        }
    }

    async fn ask_is_there(&self) -> bool {
        let (blobs, key) = (self.blobs.clone(), self.resource.key);
        blocking(move || blobs.missing(&[key]).is_empty()).await
    }

    fn is_there(&self) -> bool {
        self.blobs.missing(&[self.resource.key]).is_empty()
    }

    fn write(&mut self, parts: &[Bytes]) -> Result<(), Refused> {
        if parts.is_empty() {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(self.blobs.writer(self.resource.key)?),
        };
        if !self.resource.zstd {
            return parts.iter().try_for_each(|part| Ok(writer.write(part)?));
        }
        let inflater = match &mut self.inflater {
            Some(inflater) => inflater,
            None => self.inflater.insert(Inflater::new()?),
        };
        // The writer takes no more than was announced, so that is all a bomb can unfold to.
        parts.iter().try_for_each(|part| inflater.feed(part, |bytes| Ok(writer.write(bytes)?)))
    }

    fn commit(&mut self, parts: Vec<Bytes>) -> Result<(), Refused> {
        let whole = self.writer.is_none() && (!self.resource.zstd || parts.is_empty());
        if whole {
            let stored = self.blobs.put_many(&[(self.resource.key, joined(parts))]).pop();
            return Ok(stored.unwrap_or(Ok(()))?);
        }
        self.write(&parts)?;
        Ok(self.writer.take().map_or(Ok(()), Writer::finish)?)
    }
}

fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

/// Why bytes were not taken.
#[derive(Debug)]
enum Refused {
    NotZstd(io::Error),
    Store(Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::NotZstd(error)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Store(error)
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        match refused {
            Refused::NotZstd(error) => Status::invalid_argument(format!("the upload is not zstd: {error}")),
            Refused::Store(error) => status::refused(&error),
        }
    }
}

fn wrong_start(name: &str, offset: i64) -> Status {
    // Not a wrong argument: what the client saw committed may be gone since. It may ask again and start over.
    Status::aborted(format!("cannot go on with `{name}` at byte {offset}; ask QueryWriteStatus, or begin anew at 0"))
}

fn invalid_name(bad: BadName) -> Status {
    Status::invalid_argument(bad.to_string())
}

fn no_memory(error: io::Error) -> Status {
    Status::resource_exhausted(format!("cannot compress the blob: {error}; read it uncompressed"))
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
