//! Large blobs as streams: compressed when the server offers it, and taken up again where they were cut off.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::time::Duration;

use bazel_remote_apis::google::bytestream as stream;
use model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::connect::MESSAGE_BYTES_MAX;
use crate::download::{Lack, local};
use crate::upload::{Blob, Content, ZSTD_LEVEL};
use crate::{Error, Remote};

/// Bytes of one message.
const MESSAGE_BYTES: usize = 512 << 10;
/// How often a stream that was cut off is taken up again.
const TRIES: usize = 4;
/// Before it is taken up again.
const PAUSE: Duration = Duration::from_millis(200);

impl Remote {
    /// Sends one blob.
    pub(crate) async fn send_stream(&self, blob: &Blob, zstd: bool) -> Result<(), Error> {
        let kind = if zstd { "compressed-blobs/zstd" } else { "blobs" };
        let name =
            self.resource(&format!("uploads/{}/{kind}/{}/{}", fresh_uuid(), blob.digest.hex(), blob.digest.size));
        let mut offset = 0;
        for tried in 1.. {
            match self.send_from(&name, blob, offset, zstd).await {
                Err(error) if error.is_passing() && tried < TRIES => {}
                ended => return ended,
            }
            tokio::time::sleep(PAUSE).await;
            match self.committed(&name).await? {
                Some(committed) if committed < blob.digest.size => offset = committed,
                Some(_) => return Ok(()),
                None => offset = 0,
            }
        }
        Ok(())
    }

    async fn send_from(&self, name: &str, blob: &Blob, offset: u64, zstd: bool) -> Result<(), Error> {
        const ACT: &str = "upload a blob";
        let (to, messages) = mpsc::channel(4);
        let (name, content, size) = (name.to_string(), blob.content.clone(), blob.digest.size);
        // Reading and compressing is work for a thread that may block.
        let reading = tokio::task::spawn_blocking(move || feed(&name, &content, offset, size, zstd, &to));
        let mut client = stream::byte_stream_client::ByteStreamClient::new(self.channel()?);
        let request = self.request(ReceiverStream::new(messages));
        let answer = self.ask_moving(ACT, client.write(request)).await;
        // A server that has it already answers before all is read; then reading ends by itself.
        if let Ok(Err(error)) = reading.await
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(blob.content.trouble(&error));
        }
        let committed = answer?.into_inner().committed_size;
        // Of a compressed stream servers count one way or the other.
        if !zstd && committed != i64::try_from(size).unwrap_or(i64::MAX) {
            return Err(Error::Wrong { act: ACT, what: format!("that it took {committed} of {size} bytes") });
        }
        Ok(())
    }

    /// How much of an upload is there; `None` when nothing is known of it.
    async fn committed(&self, name: &str) -> Result<Option<u64>, Error> {
        let message = stream::QueryWriteStatusRequest { resource_name: name.to_string() };
        let mut client = stream::byte_stream_client::ByteStreamClient::new(self.channel()?);
        let answer = self
            .ask(
                "ask how much was uploaded",
                self.inner.options.look_up,
                client.query_write_status(self.request(message)),
            )
            .await;
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let all = answer.complete.then_some(u64::MAX);
                Ok(all.or_else(|| u64::try_from(answer.committed_size).ok()))
            }
            // Not known, or not spoken: from the beginning.
            Err(Error::Refused { .. } | Error::Wrong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads one blob into `to`. `None` when it came whole.
    pub(crate) async fn read_stream(
        &self,
        digest: &Digest,
        to: &mut dyn Write,
        zstd: bool,
    ) -> Result<Option<Lack>, Error> {
        let kind = if zstd { "compressed-blobs/zstd" } else { "blobs" };
        let name = self.resource(&format!("{kind}/{}/{}", digest.hex(), digest.size));
        let mut sieve = Sieve { to, hash: Sha256::new(), came: 0, expected: digest.size };
        for tried in 1.. {
            match self.read_from(&name, &mut sieve, zstd).await {
                Ok(lack @ Some(_)) => return Ok(lack),
                Ok(None) => break,
                Err(error) if error.is_passing() && tried < TRIES => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        let whole = sieve.came == digest.size && <[u8; 32]>::from(sieve.hash.finalize()) == digest.hash;
        Ok((!whole).then_some(Lack::Damaged))
    }

    async fn read_from(&self, name: &str, sieve: &mut Sieve<'_>, zstd: bool) -> Result<Option<Lack>, Error> {
        const ACT: &str = "download a blob";
        let offset = i64::try_from(sieve.came).unwrap_or(i64::MAX);
        let message = stream::ReadRequest { resource_name: name.to_string(), read_offset: offset, read_limit: 0 };
        let mut client = stream::byte_stream_client::ByteStreamClient::new(self.channel()?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let silence = self.inner.options.silence;
        let opened = async {
            match client.read(self.request(message)).await {
                Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
                opened => opened.map(Some),
            }
        };
        let Some(opened) = self.ask(ACT, silence, opened).await? else { return Ok(Some(Lack::Missing)) };
        let mut parts = opened.into_inner();
        let mut out = match zstd {
            true => Out::Packed(Box::new(zstd::stream::write::Decoder::new(sieve).map_err(|error| wrong(&error))?)),
            false => Out::Plain(sieve),
        };
        loop {
            match self.ask(ACT, silence, parts.message()).await {
                Ok(Some(part)) => {
                    if let Err(error) = out.write_all(&part.data) {
                        return judged(&error);
                    }
                }
                Ok(None) => return out.flush().map_or_else(|error| judged(&error), |()| Ok(None)),
                Err(Error::Refused { why, .. }) if why.starts_with("NotFound") => return Ok(Some(Lack::Missing)),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request that may take as long as bytes go over the wire.
    async fn ask_moving<T>(
        &self,
        act: &'static str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        let silence = self.inner.options.silence;
        let watched = async {
            tokio::pin!(work);
            let mut seen = self.moved();
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => return done,
                    () = tokio::time::sleep(silence) => {
                        let now = self.moved();
                        // The connection's own pings are no progress.
                        if now.wrapping_sub(seen) < 256 {
                            return Err(Status::deadline_exceeded("nothing moves any more"));
                        }
                        seen = now;
                    }
                }
            }
        };
        // A day: bytes that move are what bounds it.
        self.ask(act, Duration::from_secs(86_400), watched).await
    }

    fn resource(&self, rest: &str) -> String {
        let instance = &self.inner.options.address.instance;
        if instance.is_empty() { rest.to_string() } else { format!("{instance}/{rest}") }
    }
}

/// Hashes what passes, and lets no more through than was announced.
struct Sieve<'a> {
    to: &'a mut dyn Write,
    hash: Sha256,
    came: u64,
    expected: u64,
}

impl Write for Sieve<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.expected - self.came;
        if bytes.len() as u64 > left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than announced"));
        }
        self.to.write_all(bytes).map_err(|error| io::Error::other(Ours(error.to_string())))?;
        self.hash.update(bytes);
        self.came += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An error of ours among those of what came.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ours(String);

enum Out<'a, 'b> {
    Plain(&'a mut Sieve<'b>),
    Packed(Box<zstd::stream::write::Decoder<'static, &'a mut Sieve<'b>>>),
}

impl Out<'_, '_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Out::Plain(sieve) => sieve.write_all(bytes),
            Out::Packed(decoder) => decoder.write_all(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Plain(sieve) => sieve.flush(),
            Out::Packed(decoder) => decoder.flush(),
        }
    }
}

/// A write that failed: our disk, or bytes that are no blob.
fn judged(error: &io::Error) -> Result<Option<Lack>, Error> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Ours>()) {
        Some(ours) => Err(local("write", std::path::Path::new("a downloaded blob"), ours)),
        None => Ok(Some(Lack::Damaged)),
    }
}

fn wrong(error: &io::Error) -> Error {
    Error::Unusable(format!("cannot unpack zstd: {error}"))
}

/// Reads a blob into messages. A receiver that went away is `BrokenPipe`.
fn feed(
    name: &str,
    content: &Content,
    offset: u64,
    size: u64,
    zstd: bool,
    to: &mpsc::Sender<stream::WriteRequest>,
) -> io::Result<()> {
    let plain = content.open(offset)?.take(size.saturating_sub(offset));
    let mut from: Box<dyn Read> = match zstd {
        true => Box::new(zstd::stream::read::Encoder::new(plain, ZSTD_LEVEL)?),
        false => Box::new(plain),
    };
    let mut write_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    loop {
        let mut data = Vec::with_capacity(MESSAGE_BYTES);
        from.by_ref().take(MESSAGE_BYTES as u64).read_to_end(&mut data)?;
        let finish_write = data.len() < MESSAGE_BYTES;
        let length = data.len() as i64;
        let message = stream::WriteRequest { resource_name: name.to_string(), write_offset, finish_write, data };
        to.blocking_send(message).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        write_offset += length;
        if finish_write {
            return Ok(());
        }
    }
}

/// A name that no other upload has.
fn fresh_uuid() -> String {
    let word = || RandomState::new().hash_one(std::time::SystemTime::now());
    let (a, b) = (word(), word());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}
