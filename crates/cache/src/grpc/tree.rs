//! `GetTree`: all directories below one, page by page, however deep or wide.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Error, Function, Key};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::wire::{self, Digest, GetTreeResponse};
use super::{digests, status};
use crate::Service;
use crate::service::blocking;

/// Directories of one tree: each is remembered by its key while the tree is walked (about 100 bytes).
const DIRECTORIES_MAX: usize = 1 << 20;
/// Directories of one page, unless the client wants fewer: their count bounds how long nobody hears from us.
const PAGE_DIRECTORIES_MAX: usize = 10_000;

/// Sends the pages as fast as the client takes them. A page's token is the number of directories before the next, so that
/// the server keeps nothing: the walk is the same each time.
pub(crate) async fn tree(
    service: Arc<Service>,
    request: Request<api::GetTreeRequest>,
) -> Result<ReceiverStream<Result<GetTreeResponse, Status>>, Status> {
    service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    let root = digests::required(function, request.root_digest.as_ref(), "root_digest")?;
    let page_size = usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
    let skip = position(&request.page_token)?;
    let mut walk = blocking(move || Walk::begin(service.blobs.clone(), root)).await?;
    let (pages, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut skip = skip;
        loop {
            let (next, page) = blocking(move || {
                let page = walk.page(std::mem::take(&mut skip), page_size.min(PAGE_DIRECTORIES_MAX));
                (walk, page)
            })
            .await;
            let last = page.as_ref().map_or(true, |page| page.next_page_token.is_empty());
            // A client that has gone needs no more.
            if pages.send(page).await.is_err() || last {
                return;
            }
            (walk, skip) = (next, 0);
        }
    });
    Ok(ReceiverStream::new(stream))
}

fn position(token: &str) -> Result<usize, Status> {
    match token {
        "" => Ok(0),
        _ => {
            token.parse().map_err(|_| Status::invalid_argument(format!("`{token}` is not a page token of this server")))
        }
    }
}

/// A walk in breadth, each different directory once: equal ones would make the tree of a small store endless.
struct Walk {
    blobs: Blobs,
    function: Function,
    seen: HashSet<Key>,
    queue: VecDeque<Key>,
    /// Directories that were taken from the queue.
    done: usize,
    /// Read, and did not fit into the page before.
    left: Option<Bytes>,
}

/// Of a `Directory`, what leads further down.
#[derive(Clone, PartialEq, prost::Message)]
struct Children {
    #[prost(message, repeated, tag = "2")]
    directories: Vec<Child>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Child {
    #[prost(message, optional, tag = "2")]
    digest: Option<Digest>,
}

impl Walk {
    fn begin(blobs: Blobs, root: Key) -> Result<Walk, Status> {
        if !blobs.missing(&[root]).is_empty() {
            return Err(status::refused(&Error::Missing(root)));
        }
        let (seen, queue) = (HashSet::from([root]), VecDeque::from([root]));
        Ok(Walk { blobs, function: root.function, seen, queue, done: 0, left: None })
    }

    /// The next directories, after `skip` others.
    fn page(&mut self, skip: usize, directories_max: usize) -> Result<GetTreeResponse, Status> {
        while self.done < skip && self.next()?.is_some() {}
        let (mut directories, mut bytes) = (Vec::new(), 64);
        while directories.len() < directories_max
            && let Some(directory) = self.next()?
        {
            // What is not there is left out, but counts: a page's token stays true when it comes back.
            let Some(directory) = directory else { continue };
            bytes += directory.len() + 8;
            if bytes > wire::ANSWER_BYTES_MAX {
                self.done -= 1;
                self.left = Some(directory);
                break;
            }
            directories.push(directory);
        }
        let end = self.queue.is_empty() && self.left.is_none();
        let next_page_token = if end { String::new() } else { self.done.to_string() };
        Ok(GetTreeResponse { directories, next_page_token })
    }

    /// The next directory; `Some(None)` when it is not in the store.
    fn next(&mut self) -> Result<Option<Option<Bytes>>, Status> {
        if let Some(left) = self.left.take() {
            self.done += 1;
            return Ok(Some(Some(left)));
        }
        let Some(key) = self.queue.pop_front() else {
            return Ok(None);
        };
        self.done += 1;
        let directory = match self.blobs.get(&key, wire::ANSWER_BYTES_MAX - 128) {
            Ok(directory) => directory,
            Err(Error::Missing(_) | Error::Damaged(_)) => return Ok(Some(None)),
            Err(error @ Error::TooLarge { .. }) => return Err(Status::resource_exhausted(error.to_string())),
            Err(error) => return Err(status::refused(&error)),
        };
        self.enqueue_children(&key, &directory)?;
        Ok(Some(Some(directory)))
    }

    fn enqueue_children(&mut self, key: &Key, directory: &Bytes) -> Result<(), Status> {
        let children = Children::decode(directory.clone())
            .map_err(|error| Status::invalid_argument(format!("blob {key} is not a Directory: {error}")))?;
        for child in children.directories {
            let digest = child.digest.unwrap_or_default();
            let child = digests::key(self.function, &digest.hash, digest.size_bytes)?;
            if self.seen.len() == DIRECTORIES_MAX && !self.seen.contains(&child) {
                let told = format!("the tree has more than {DIRECTORIES_MAX} directories; ask for a part of it");
                return Err(Status::resource_exhausted(told));
            }
            if self.seen.insert(child) {
                self.queue.push_back(child);
            }
        }
        Ok(())
    }
}
