//! Bodies on their way in: verified and stored as they come, with bounded memory, whether their digest is known or not.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use blobs::{Blobs, Function, Hasher, Key};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::call::Call;
use super::refusal::Refusal;
use crate::service::blocking;

/// Bytes that are gathered before a thread is asked to hash and write them: a hop costs as much as hashing 20 KiB.
const PART_BYTES: usize = 512 << 10;
/// How long the next bytes of a body may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A body of unknown digest up to this size is kept in memory, and with an entry rather than as a blob.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;
/// Memory that a compressed body may make us take, as a power of two: 16 MiB, more than any level below `--ultra` needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// Where bodies of unknown digest wait for their end.
#[derive(Debug)]
pub(crate) struct Spools {
    folder: PathBuf,
    named: AtomicU64,
    spent: Arc<AtomicU64>,
    bytes_max: u64,
}

impl Spools {
    /// Empties or makes the folder. All bodies that wait together have at most `bytes_max`.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn open(folder: PathBuf, bytes_max: u64) -> Result<Spools, blobs::Error> {
        let io = |act: &'static str| {
            let path = folder.clone();
            move |source| blobs::Error::Io { act, path, source }
        };
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io("remove"))?;
        }
        fs::create_dir_all(&folder).map_err(io("create"))?;
        Ok(Spools { folder, named: AtomicU64::new(0), spent: Arc::default(), bytes_max })
    }

    fn spool(self: &Arc<Spools>, size_max: u64) -> Spool {
        let hasher = Hasher::new(Function::Sha256);
        Spool { spools: self.clone(), size_max, hasher, memory: Vec::new(), file: None, spent: 0 }
    }

    /// A file that has no name any more, so that it is gone when nobody has it open.
    fn file(&self) -> Result<File, Refusal> {
        let name = format!("{}-{}", process::id(), self.named.fetch_add(1, Ordering::Relaxed));
        let path = self.folder.join(name);
        let made = OpenOptions::new().create_new(true).read(true).write(true).open(&path);
        made.and_then(|file| fs::remove_file(&path).map(|()| file)).map_err(|error| no_room("make a file", &error))
    }
}

/// A body of unknown digest.
#[derive(Debug)]
pub(crate) struct Spool {
    spools: Arc<Spools>,
    size_max: u64,
    hasher: Hasher,
    memory: Vec<u8>,
    file: Option<File>,
    spent: u64,
}

/// Where a body of unknown digest went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is small: to be kept with its entry.
    Inline(Bytes),
    /// It is a blob now.
    Blob(Key),
}

impl Spool {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.hasher.update(bytes);
        if self.hasher.size() > self.size_max {
            return Err(too_large(self.size_max));
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= INLINE_BYTES_MAX {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.spools.file()?);
            let held = std::mem::take(&mut self.memory);
            self.append(&held)?;
        }
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.spent += bytes.len() as u64;
        let spent = self.spools.spent.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        if spent > self.spools.bytes_max {
            let message = "too many large uploads of unknown digest are under way; try again later";
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, message));
        }
        let file = self.file.as_mut().expect("only called when there is a file");
        file.write_all(bytes).map_err(|error| no_room("write", &error))
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// The whole, when it has at most `bytes_max`.
    pub(crate) fn bytes(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Refusal> {
        if self.size() > bytes_max as u64 {
            return Ok(None);
        }
        let Some(file) = &mut self.file else { return Ok(Some(Bytes::copy_from_slice(&self.memory))) };
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        read.map_err(|error| no_room("read", &error))?;
        Ok(Some(bytes.into()))
    }

    /// Puts it into the store, unless it is small.
    pub(crate) fn keep(mut self, blobs: &Blobs) -> Result<Stored, Refusal> {
        if self.file.is_none() {
            return Ok(Stored::Inline(std::mem::take(&mut self.memory).into()));
        }
        self.keep_as_blob(blobs).map(Stored::Blob)
    }

    /// Puts it into the store.
    pub(crate) fn keep_as_blob(mut self, blobs: &Blobs) -> Result<Key, Refusal> {
        let key = self.hasher.clone().key();
        if blobs.missing(&[key]).is_empty() {
            return Ok(key);
        }
        let Some(file) = &mut self.file else {
            let bytes = Bytes::from(std::mem::take(&mut self.memory));
            for put in blobs.put_many(&[(key, bytes)]) {
                put?;
            }
            return Ok(key);
        };
        let mut writer = blobs.writer(key)?;
        let mut buffer = vec![0; PART_BYTES];
        file.rewind().map_err(|error| no_room("read", &error))?;
        loop {
            match file.read(&mut buffer).map_err(|error| no_room("read", &error))? {
                0 => break,
                read => writer.write(&buffer[..read])?,
            }
        }
        writer.finish()?;
        Ok(key)
    }

    /// The key of what came.
    pub(crate) fn key(&self) -> Key {
        self.hasher.clone().key()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.spools.spent.fetch_sub(self.spent, Ordering::Relaxed);
    }
}

/// Where the bytes of a body go.
enum Sink {
    Blob(Box<blobs::Writer>),
    Spool(Box<Spool>),
    /// Nowhere: nobody needs them.
    Nothing,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Sink::Blob(writer) => Ok(writer.write(bytes)?),
            Sink::Spool(spool) => spool.write(bytes),
            Sink::Nothing => Ok(()),
        }
    }
}

impl Call {
    /// Takes in a body whose digest is known. It is compared with `key` and stored.
    pub(crate) async fn receive_blob(&self, body: Body, key: Key) -> Result<(), Refusal> {
        let (blobs, size_max) = (self.service.blobs.clone(), self.service.http.body_bytes_max);
        if key.size > size_max {
            return Err(too_large(size_max));
        }
        let writer = blocking(move || blobs.writer(key)).await?;
        let Sink::Blob(writer) = self.pour(body, Sink::Blob(Box::new(writer))).await? else {
            return Ok(());
        };
        Ok(blocking(move || writer.finish()).await?)
    }

    /// Takes in a body whose digest is not known.
    pub(crate) async fn receive(&self, body: Body) -> Result<Spool, Refusal> {
        let size_max = self.service.http.body_bytes_max;
        if self.content_length().is_some_and(|size| size > size_max) {
            return Err(too_large(size_max));
        }
        let spool = self.service.http.spools.spool(size_max);
        match self.pour(body, Sink::Spool(Box::new(spool))).await? {
            Sink::Spool(spool) => Ok(*spool),
            Sink::Blob(_) | Sink::Nothing => Err(Refusal::bad("the body did not come")),
        }
    }

    /// Takes in a body whose digest is not known and puts it into the store, unless it is small.
    pub(crate) async fn receive_and_keep(&self, body: Body) -> Result<Stored, Refusal> {
        let spool = self.receive(body).await?;
        let blobs = self.service.blobs.clone();
        blocking(move || spool.keep(&blobs)).await
    }

    /// Takes in a small body of text: a request, rather than something to keep.
    pub(crate) async fn receive_text(&self, body: Body, bytes_max: usize) -> Result<String, Refusal> {
        let mut spool = self.receive(body).await?;
        let bytes = spool.bytes(bytes_max)?.ok_or_else(|| too_large(bytes_max as u64))?;
        String::from_utf8(bytes.into()).map_err(|_| Refusal::bad("the body is not UTF-8"))
    }

    /// Takes in a body that nobody needs: many clients do not read an answer before they have said everything.
    pub(crate) async fn drain(&self, body: Body) -> Result<(), Refusal> {
        self.pour(body, Sink::Nothing).await.map(|_| ())
    }

    /// The announced length of the body in bytes.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Whether the body is compressed.
    ///
    /// # Errors
    /// In a way that is not known here.
    pub(crate) fn is_zstd(&self) -> Result<bool, Refusal> {
        match self.header(header::CONTENT_ENCODING) {
            None | Some("" | "identity") => Ok(false),
            Some("zstd") => Ok(true),
            Some(other) => {
                let message = format!("content encoding `{other}` is not known here; use zstd or none");
                Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
            }
        }
    }

    async fn pour(&self, body: Body, sink: Sink) -> Result<Sink, Refusal> {
        let decoder = match (self.is_zstd()?, &sink) {
            (false, _) | (true, Sink::Nothing) => None,
            (true, _) => Some(Unzstd::new()?),
        };
        let mut pouring = Pouring { sink, decoder };
        let (mut parts, mut size) = (Vec::new(), 0);
        let mut stream = body.into_data_stream();
        loop {
            let next = tokio::time::timeout(PATIENCE, stream.next()).await.map_err(|_| silent())?;
            match next {
                None => break,
                Some(Err(_)) => return Err(Refusal::bad("the connection ended in the middle of the body")),
                Some(Ok(part)) => {
                    size += part.len();
                    self.service.http.meters.received(self.protocol, part.len());
                    parts.push(part);
                }
            }
            if size >= PART_BYTES {
                size = 0;
                let gathered = std::mem::take(&mut parts);
                pouring = blocking(move || pouring.pour(&gathered)).await?;
            }
        }
        blocking(move || pouring.pour(&parts)?.finish()).await
    }
}

struct Pouring {
    sink: Sink,
    decoder: Option<Unzstd>,
}

impl Pouring {
    fn pour(mut self, parts: &[Bytes]) -> Result<Pouring, Refusal> {
        for part in parts {
            match &mut self.decoder {
                None => self.sink.write(part)?,
                Some(decoder) => decoder.pour(part, &mut self.sink)?,
            }
        }
        Ok(self)
    }
    fn finish(self) -> Result<Sink, Refusal> {
        match self.decoder {
            Some(decoder) if !decoder.between_frames => Err(Refusal::bad("the compressed body ends too early")),
            _ => Ok(self.sink),
        }
    }
}

/// Decompresses as bytes come.
struct Unzstd {
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
    between_frames: bool,
}

impl Unzstd {
    fn new() -> Result<Unzstd, Refusal> {
        let broken = |error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot decompress: {error}"));
        let mut decoder = Decoder::new().map_err(broken)?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(broken)?;
        Ok(Unzstd { decoder, buffer: vec![0; 128 << 10], between_frames: true })
    }

    fn pour(&mut self, part: &[u8], sink: &mut Sink) -> Result<(), Refusal> {
        let mut input = InBuffer::around(part);
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            let wanted = self.decoder.run(&mut input, &mut output);
            let wanted = wanted.map_err(|error| Refusal::bad(format!("the body is not zstd: {error}")))?;
            let made = output.pos();
            let is_full = made == self.buffer.len();
            sink.write(&self.buffer[..made])?;
            self.between_frames = wanted == 0;
            if input.pos() == part.len() && !is_full {
                return Ok(());
            }
        }
    }
}

fn too_large(size_max: u64) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than the {size_max} bytes allowed here"))
}

fn silent() -> Refusal {
    let message = format!("no byte of the body came for {} seconds", PATIENCE.as_secs());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
}

fn no_room(act: &str, error: &std::io::Error) -> Refusal {
    let status = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, format!("cannot {act} for the upload: {error}"))
}
