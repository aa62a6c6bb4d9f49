//! A bucket of any store that speaks S3: putting copies there, getting pieces of them, and saying what is there.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobs::{Copy, Outgoing, Piece};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart, coalesce_ranges,
};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::S3Error;
use crate::config::S3Settings;
use crate::service::blocking;

/// Bytes of a copy that are sent at once; more than the 5 MiB that S3 asks for at least.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way, which is what a copy takes of memory.
const PARTS: usize = 3;
/// Pieces of one copy with less between them are got together.
const GAP_BYTES: u64 = 64 << 10;
/// Requests for pieces at a time.
const REQUESTS: usize = 32;
/// Bytes of an index: that of 8 million records.
const INDEX_BYTES_MAX: u64 = 512 << 20;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    prefix: String,
    requests: Semaphore,
}

impl Bucket {
    pub(super) fn new(settings: &S3Settings) -> Result<Bucket, S3Error> {
        let failed = |source| S3Error::Settings { bucket: settings.bucket.clone(), source };
        let client = ClientOptions::new()
            .with_allow_http(settings.allow_http)
            .with_connect_timeout(Duration::from_secs(3))
            .with_timeout(Duration::from_secs(60));
        // Those who call try again by themselves, or have no time to.
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(10) };
        let mut builder = match settings.access_key_env {
            // What a machine of Amazon's offers is looked up only if nobody says otherwise.
            None => AmazonS3Builder::from_env(),
            Some(_) => AmazonS3Builder::new(),
        };
        builder = builder.with_bucket_name(&settings.bucket).with_client_options(client).with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some(variable) = &settings.access_key_env {
            builder = builder.with_access_key_id(key("access_key_env", variable)?);
        }
        if let Some(variable) = &settings.secret_key_env {
            builder = builder.with_secret_access_key(key("secret_key_env", variable)?);
        }
        let prefix = settings.prefix.as_deref().unwrap_or("").trim_matches('/');
        let prefix = if prefix.is_empty() { "segments".to_owned() } else { format!("{prefix}/segments") };
        Ok(Bucket { store: builder.build().map_err(failed)?, prefix, requests: Semaphore::new(REQUESTS) })
    }

    fn path(&self, copy: &Copy, kind: &str) -> Path {
        // Ten digits: names are in the order of their numbers.
        Path::from(format!("{}/{}/{:010}.{kind}", self.prefix, copy.store, copy.number))
    }

    pub(super) async fn put_copy(&self, outgoing: &Arc<Outgoing>) -> Result<(), String> {
        let path = self.path(outgoing.copy(), "seg");
        let failed = |err: object_store::Error| format!("cannot write {path} to the bucket: {err}");
        let mut offset = 0;
        let total = outgoing.bytes();
        if total <= PART_BYTES as u64 {
            let bytes = read(outgoing, 0, total as usize).await?;
            return self.store.put(&path, bytes.into()).await.map(drop).map_err(failed);
        }
        let upload = self.store.put_multipart(&path).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        while offset < total {
            let length = (total - offset).min(PART_BYTES as u64);
            let sent = match read(outgoing, offset, length as usize).await {
                Ok(bytes) => upload.wait_for_capacity(PARTS).await.map(|()| upload.put(bytes)).map_err(failed),
                Err(err) => Err(err),
            };
            if let Err(err) = sent {
                // What cannot be given up now is what rules of buckets for unfinished uploads are for.
                let _ = upload.abort().await;
                return Err(err);
            }
            offset += length;
        }
        upload.finish().await.map(drop).map_err(failed)
    }

    pub(super) async fn put_index(&self, copy: &Copy, index: Bytes) -> Result<(), String> {
        let path = self.path(copy, "idx");
        let put = self.store.put(&path, index.into()).await;
        put.map(drop).map_err(|err| format!("cannot write {path} to the bucket: {err}"))
    }

    pub(super) async fn index(&self, copy: &Copy) -> Result<Bytes, String> {
        let path = self.path(copy, "idx");
        let failed = |err: object_store::Error| format!("cannot read {path} from the bucket: {err}");
        let found = self.store.get(&path).await.map_err(failed)?;
        match found.meta.size {
            0..=INDEX_BYTES_MAX => found.bytes().await.map_err(failed),
            size => Err(format!("cannot read {path} from the bucket: {size} bytes are more than any index has")),
        }
    }

    /// The whole copies that are there, of any store, with their bytes.
    pub(super) async fn list(&self) -> Result<BTreeMap<Copy, u64>, String> {
        let failed = |err: object_store::Error| format!("cannot list {} in the bucket: {err}", self.prefix);
        let mut objects = self.store.list(Some(&Path::from(self.prefix.as_str())));
        let (mut copies, mut indexed) = (BTreeMap::new(), Vec::new());
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            match parse(object.location.as_ref()) {
                Some((copy, "seg")) => drop(copies.insert(copy, object.size)),
                Some((copy, "idx")) => indexed.push(copy),
                _ => {}
            }
        }
        Ok(indexed.into_iter().filter_map(|copy| copies.remove_entry(&copy)).collect())
    }

    /// Pieces in the order asked for, by the deadline.
    pub(super) async fn pieces(&self, pieces: &[Piece], deadline: Instant) -> Vec<io::Result<Bytes>> {
        let mut copies: BTreeMap<&Copy, Vec<usize>> = BTreeMap::new();
        for (at, piece) in pieces.iter().enumerate() {
            copies.entry(&piece.copy).or_default().push(at);
        }
        let get = |(copy, places): (&Copy, Vec<usize>)| {
            let path = self.path(copy, "seg");
            async move {
                let ranges: Vec<_> =
                    places.iter().map(|at| pieces[*at].offset..pieces[*at].offset + pieces[*at].length).collect();
                let range = |range| self.range(&path, range);
                let got = timeout_at(deadline.into(), coalesce_ranges(&ranges, range, GAP_BYTES)).await;
                (places, got.map_err(|_| io::ErrorKind::TimedOut).and_then(|got| got.map_err(|err| kind(&err))))
            }
        };
        let mut answers: Vec<io::Result<Bytes>> = pieces.iter().map(|_| Err(io::ErrorKind::TimedOut.into())).collect();
        let mut all = stream::iter(copies.into_iter().map(get)).buffer_unordered(REQUESTS);
        while let Some((places, got)) = all.next().await {
            for (nth, at) in places.into_iter().enumerate() {
                answers[at] = got.as_ref().map(|bytes| bytes[nth].clone()).map_err(|kind| (*kind).into());
            }
        }
        answers
    }

    async fn range(&self, path: &Path, range: std::ops::Range<u64>) -> object_store::Result<Bytes> {
        let _permit = self.requests.acquire().await;
        self.store.get_range(path, range).await
    }
}

async fn read(outgoing: &Arc<Outgoing>, offset: u64, length: usize) -> Result<Bytes, String> {
    let outgoing = outgoing.clone();
    let read = blocking(move || outgoing.read(offset, length)).await;
    read.map_err(|err| format!("cannot read the segment to copy: {err}"))
}

fn key(setting: &'static str, variable: &str) -> Result<String, S3Error> {
    std::env::var(variable).map_err(|_| S3Error::NoKey { setting, variable: variable.to_owned() })
}

fn kind(err: &object_store::Error) -> io::ErrorKind {
    match err {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    }
}

/// What an object is by its name.
fn parse(name: &str) -> Option<(Copy, &str)> {
    let (folder, file) = name.rsplit_once('/')?;
    let store = folder.rsplit('/').next()?;
    let (number, kind) = file.split_once('.')?;
    let is_name = store.len() == 32 && store.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = number.parse().ok().filter(|_| is_name)?;
    Some((Copy { store: store.to_owned(), number }, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_copies_come_back_and_others_are_not_taken_for_one() {
        let store = "0123456789abcdef0123456789abcdef".to_owned();
        let copy = Copy { store: store.clone(), number: 7 };
        assert_eq!(parse(&format!("team/segments/{store}/0000000007.seg")), Some((copy, "seg")));
        for name in ["", "a", "segments/x/0000000001.seg", "0000000007.seg", &format!("{store}/seven.seg"), &store] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_key_that_is_not_set_is_said_before_anything_is_asked() {
        let settings = S3Settings {
            bucket: "b".into(),
            endpoint: None,
            region: None,
            prefix: None,
            access_key_env: Some("PACE_TEST_NO_SUCH_VARIABLE".into()),
            secret_key_env: None,
            allow_http: false,
        };
        let told = Bucket::new(&settings).unwrap_err().to_string();
        assert!(told.contains("access_key_env names the variable PACE_TEST_NO_SUCH_VARIABLE"), "{told}");
    }
}
