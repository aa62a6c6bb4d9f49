//! `ActionCache`: what an action gave when it ran before, as long as all of it is still there.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Entry, EntryId, Error, Function, Key, NEEDS_MAX};
use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, Status};

use super::wire::{self, Digest, Encoded};
use super::{digests, status};
use crate::Service;
use crate::service::{blocking, now};

/// The kind of entries that action results are.
pub(crate) const KIND: &str = "ac";
/// Bytes of standard output or error that are put into an answer: more is fetched when somebody wants to read it.
const INLINE_STREAM_BYTES_MAX: usize = 64 << 10;
/// Bytes of an output file that are put into an answer, when the client asks for this very file.
const INLINE_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of all trees that one action result names: what is read to know what it needs.
const TREE_BYTES_MAX: usize = 64 << 20;

/// Adds the methods.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    router
        .route("/build.bazel.remote.execution.v2.ActionCache/GetActionResult", wire::unary(service, look_up))
        .route("/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult", wire::unary(service, update))
}

async fn look_up(service: Arc<Service>, request: Request<api::GetActionResultRequest>) -> Result<Encoded, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    let action = digests::required(function, request.action_digest.as_ref(), "action_digest")?;
    let inline = request.inline_stdout || request.inline_stderr || !request.inline_output_files.is_empty();
    let is_far = service.upstream.is_some() || service.s3.is_some();
    let look = move || {
        let value = service.action(&access.domain, &action)?.value;
        Some(if inline { inlined(&service.blobs, function, value, &request) } else { value })
    };
    // A few reads of what is nearly always in the kernel's memory take less than to hand them to another thread.
    let value = if inline || is_far { blocking(look).await } else { look() };
    value.map(Encoded).ok_or_else(|| Status::not_found(format!("action {action} has no result in the cache")))
}

/// The result with the contents that the client wants at once, as far as they are small.
fn inlined(blobs: &Blobs, function: Function, value: Bytes, request: &api::GetActionResultRequest) -> Bytes {
    // What does not parse was not written here; it is passed on as it is.
    let Ok(mut result) = api::ActionResult::decode(value.clone()) else {
        return value;
    };
    let mut room = wire::ANSWER_BYTES_MAX.saturating_sub(value.len() + 64);
    let mut fill = |digest: Option<&api::Digest>, bytes_max: usize, into: &mut Vec<u8>| {
        let key = digest.filter(|_| into.is_empty()).and_then(|digest| key_of(function, digest).ok());
        let found = key.and_then(|key| blobs.get(&key, bytes_max.min(room)).ok());
        if let Some(bytes) = found {
            // Beside the bytes stand a tag and their length.
            room = room.saturating_sub(bytes.len() + 8);
            into.extend_from_slice(&bytes);
        }
    };
    if request.inline_stdout {
        fill(result.stdout_digest.as_ref(), INLINE_STREAM_BYTES_MAX, &mut result.stdout_raw);
    }
    if request.inline_stderr {
        fill(result.stderr_digest.as_ref(), INLINE_STREAM_BYTES_MAX, &mut result.stderr_raw);
    }
    for file in &mut result.output_files {
        if request.inline_output_files.contains(&file.path) {
            fill(file.digest.as_ref(), INLINE_FILE_BYTES_MAX, &mut file.contents);
        }
    }
    result.encode_to_vec().into()
}

async fn update(
    service: Arc<Service>,
    request: Request<api::UpdateActionResultRequest>,
) -> Result<api::ActionResult, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let keep = access.may_write_entries().map_err(status::denied)?;
    let request = request.into_inner();
    let function = digests::function(request.digest_function)?;
    // What it is the digest of is the client's business: it need not be an `Action`, nor be here.
    let action = digests::required(function, request.action_digest.as_ref(), "action_digest")?;
    let result = request.action_result.ok_or_else(|| Status::invalid_argument("the request has no action_result"))?;
    if !keep {
        return Ok(result);
    }
    let id = EntryId { space: access.domain.space(KIND), hash: action.hash };
    blocking(move || {
        let mut result = result;
        outline(&service.blobs, function, &mut result)?;
        store(&service.blobs, &id, function, &result, access.writer)?;
        if let Some(upstream) = &service.upstream {
            upstream.offer_action(&access.domain, action, result.encode_to_vec().into());
        }
        Ok(result)
    })
    .await
}

/// Stores a result, with everything it needs.
///
/// # Errors
/// It names something that is not a digest, or not in the store, or it is too large.
pub(crate) fn store(
    blobs: &Blobs,
    id: &EntryId,
    function: Function,
    result: &api::ActionResult,
    writer: String,
) -> Result<(), Status> {
    let value: Bytes = result.encode_to_vec().into();
    if value.len() > wire::ANSWER_BYTES_MAX {
        let (size, max) = (value.len(), wire::ANSWER_BYTES_MAX);
        return Err(Status::invalid_argument(format!(
            "the action result has {size} bytes, and clients read at most {max}"
        )));
    }
    let needs = needs(blobs, function, result)?;
    blobs.set_entry(id, Entry { value, needs, writer, written: now() }).map_err(|error| precondition(&error))
}

/// Moves contents that came with a result to blobs: whoever wants them inlined gets them so.
fn outline(blobs: &Blobs, function: Function, result: &mut api::ActionResult) -> Result<(), Status> {
    let mut out = Vec::new();
    let mut take = |bytes: &mut Vec<u8>, digest: &mut Option<api::Digest>| {
        if bytes.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(bytes));
        let key = digest.as_ref().map_or_else(|| Ok(function.key_of(&bytes)), |digest| key_of(function, digest))?;
        *digest = Some(digests::digest(&key));
        out.push((key, bytes));
        Ok::<(), Status>(())
    };
    take(&mut result.stdout_raw, &mut result.stdout_digest)?;
    take(&mut result.stderr_raw, &mut result.stderr_digest)?;
    for file in &mut result.output_files {
        take(&mut file.contents, &mut file.digest)?;
    }
    blobs.put_many(&out).into_iter().collect::<Result<(), _>>().map_err(|error| status::refused(&error))
}

/// Every blob without which a result is worth nothing: its files, the files of its trees, its output.
///
/// # Errors
/// It names something that is not a digest; a tree is not in the store, is none, or is too large.
pub(crate) fn needs(blobs: &Blobs, function: Function, result: &api::ActionResult) -> Result<Vec<Key>, Status> {
    let mut needs = Needs { blobs, function, keys: HashSet::new(), tree_bytes_left: TREE_BYTES_MAX };
    for file in &result.output_files {
        needs.add(digests::required(function, file.digest.as_ref(), "digest of an output file")?)?;
    }
    for directory in &result.output_directories {
        if let Some(digest) = &directory.tree_digest {
            needs.add_tree(key_of(function, digest)?)?;
        }
        if let Some(digest) = &directory.root_directory_digest {
            needs.add_directories(key_of(function, digest)?)?;
        }
    }
    for digest in [&result.stdout_digest, &result.stderr_digest].into_iter().flatten() {
        // Some clients send an empty digest for no output.
        if !digest.hash.is_empty() {
            needs.add(key_of(function, digest)?)?;
        }
    }
    Ok(needs.keys.into_iter().collect())
}

/// The blobs below directories that other kinds of entries name.
///
/// # Errors
/// One is not in the store, is none, or is too large.
pub(crate) fn directory_needs(blobs: &Blobs, function: Function, roots: Vec<Key>) -> Result<Vec<Key>, Status> {
    let mut needs = Needs { blobs, function, keys: HashSet::new(), tree_bytes_left: TREE_BYTES_MAX };
    roots.into_iter().try_for_each(|root| needs.add_directories(root))?;
    Ok(needs.keys.into_iter().collect())
}

struct Needs<'a> {
    blobs: &'a Blobs,
    function: Function,
    keys: HashSet<Key>,
    tree_bytes_left: usize,
}

/// Of a `Tree`, what names blobs.
#[derive(Clone, PartialEq, prost::Message)]
struct Tree {
    #[prost(message, optional, tag = "1")]
    root: Option<Directory>,
    #[prost(message, repeated, tag = "2")]
    children: Vec<Directory>,
}

/// Of a `Directory`, what names blobs.
#[derive(Clone, PartialEq, prost::Message)]
struct Directory {
    #[prost(message, repeated, tag = "1")]
    files: Vec<Node>,
    #[prost(message, repeated, tag = "2")]
    directories: Vec<Node>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(message, optional, tag = "2")]
    digest: Option<Digest>,
}

impl Needs<'_> {
    /// Whether it was not there before.
    fn add(&mut self, key: Key) -> Result<bool, Status> {
        if self.keys.len() == NEEDS_MAX && !self.keys.contains(&key) {
            return Err(Status::invalid_argument(format!("the result names more than {NEEDS_MAX} blobs")));
        }
        Ok(self.keys.insert(key))
    }

    fn add_nodes(&mut self, nodes: Vec<Node>) -> Result<(), Status> {
        for node in nodes {
            let key = self.node(node)?;
            self.add(key)?;
        }
        Ok(())
    }

    fn node(&self, node: Node) -> Result<Key, Status> {
        let digest = node.digest.unwrap_or_default();
        digests::key(self.function, &digest.hash, digest.size_bytes)
    }

    /// The tree lists all its directories, which need not be blobs themselves.
    fn add_tree(&mut self, key: Key) -> Result<(), Status> {
        if !self.add(key)? {
            return Ok(());
        }
        let tree: Tree = self.read(key, "Tree")?;
        for directory in tree.root.into_iter().chain(tree.children) {
            self.add_nodes(directory.files)?;
        }
        Ok(())
    }

    /// The directories are blobs each, and named by the one above.
    fn add_directories(&mut self, root: Key) -> Result<(), Status> {
        let mut waiting = vec![root];
        while let Some(key) = waiting.pop() {
            if !self.add(key)? {
                continue;
            }
            let directory: Directory = self.read(key, "Directory")?;
            self.add_nodes(directory.files)?;
            for child in directory.directories {
                waiting.push(self.node(child)?);
            }
        }
        Ok(())
    }

    fn read<M: prost::Message + Default>(&mut self, key: Key, what: &str) -> Result<M, Status> {
        let bytes = self.blobs.get(&key, self.tree_bytes_left).map_err(|error| precondition(&error))?;
        self.tree_bytes_left -= bytes.len();
        M::decode(bytes).map_err(|error| Status::invalid_argument(format!("blob {key} is not a {what}: {error}")))
    }
}

fn key_of(function: Function, digest: &api::Digest) -> Result<Key, Status> {
    digests::key(function, digest.hash.as_bytes(), digest.size_bytes)
}

/// A blob that is missing when something is written that names it is not a miss: the client has to upload it first.
pub(crate) fn precondition(error: &Error) -> Status {
    match error {
        Error::Missing(_) | Error::Damaged(_) => {
            Status::failed_precondition(format!("{error}; upload it before the result that names it"))
        }
        error => status::refused(error),
    }
}
