//! Remote Asset: content by where it came from, as somebody pushed it.
//!
//! Nothing is downloaded from elsewhere on a client's behalf: whoever can reach this server would reach through it
//! whatever it reaches. What nobody pushed is `NOT_FOUND`, and clients then download themselves.

use std::sync::Arc;

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bazel_remote_apis::build::bazel::remote::asset::v1 as api;
use bazel_remote_apis::build::bazel::remote::execution::v2 as exec;
use bazel_remote_apis::google::protobuf::Timestamp;
use bazel_remote_apis::google::rpc;
use blobs::{Blobs, Entry, EntryId, Function, Hasher, Key};
use prost::Message as _;
use tonic::{Code, Request, Status};

use super::{actions, digests, status, wire};
use crate::Service;
use crate::access::{Access, Domain};
use crate::service::{blocking, now};

/// The kind of entries that assets are.
const KIND: &str = "asset";
/// Places that one asset may have, and words that may tell it from others there.
const URIS_MAX: usize = 100;
const QUALIFIERS_MAX: usize = 100;
/// A qualifier that says the digest itself: a blob that has it needs no push.
const CHECKSUM: &str = "checksum.sri";

/// Adds the methods.
pub(crate) fn routes(router: Router, service: &Arc<Service>) -> Router {
    router
        .route("/build.bazel.remote.asset.v1.Fetch/FetchBlob", wire::unary(service, fetch_blob))
        .route("/build.bazel.remote.asset.v1.Fetch/FetchDirectory", wire::unary(service, fetch_directory))
        .route("/build.bazel.remote.asset.v1.Push/PushBlob", wire::unary(service, push_blob))
        .route("/build.bazel.remote.asset.v1.Push/PushDirectory", wire::unary(service, push_directory))
}

/// A directory and a blob from the same place are two assets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Blob,
    Directory,
}

/// What an entry says.
#[derive(Clone, PartialEq, prost::Message)]
struct Asset {
    #[prost(message, optional, tag = "1")]
    digest: Option<exec::Digest>,
    #[prost(int32, tag = "2")]
    function: i32,
    #[prost(message, optional, tag = "3")]
    expires: Option<Timestamp>,
}

/// What a client looks for.
struct Wanted {
    what: What,
    uris: Vec<String>,
    qualifiers: Vec<api::Qualifier>,
    function: Function,
    oldest: Option<Timestamp>,
}

/// What it gets.
struct Found {
    uri: String,
    key: Key,
    expires: Option<Timestamp>,
}

async fn fetch_blob(
    service: Arc<Service>,
    request: Request<api::FetchBlobRequest>,
) -> Result<api::FetchBlobResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let asked = request.into_inner();
    let function = digests::function(asked.digest_function)?;
    let wanted = Wanted {
        what: What::Blob,
        uris: asked.uris,
        qualifiers: canonical(asked.qualifiers)?,
        function,
        oldest: asked.oldest_content_accepted,
    };
    let (qualifiers, first) = (wanted.qualifiers.clone(), wanted.uris.first().cloned().unwrap_or_default());
    Ok(match fetch(service, access, wanted).await? {
        Some(found) => api::FetchBlobResponse {
            status: Some(rpc::Status::default()),
            uri: found.uri,
            qualifiers,
            expires_at: found.expires,
            blob_digest: Some(digests::digest(&found.key)),
            digest_function: digests::function_value(found.key.function),
        },
        None => api::FetchBlobResponse { status: Some(nowhere(&first)), uri: first, ..Default::default() },
    })
}

async fn fetch_directory(
    service: Arc<Service>,
    request: Request<api::FetchDirectoryRequest>,
) -> Result<api::FetchDirectoryResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let asked = request.into_inner();
    let function = digests::function(asked.digest_function)?;
    let wanted = Wanted {
        what: What::Directory,
        uris: asked.uris,
        qualifiers: canonical(asked.qualifiers)?,
        function,
        oldest: asked.oldest_content_accepted,
    };
    let (qualifiers, first) = (wanted.qualifiers.clone(), wanted.uris.first().cloned().unwrap_or_default());
    Ok(match fetch(service, access, wanted).await? {
        Some(found) => api::FetchDirectoryResponse {
            status: Some(rpc::Status::default()),
            uri: found.uri,
            qualifiers,
            expires_at: found.expires,
            root_directory_digest: Some(digests::digest(&found.key)),
            digest_function: digests::function_value(found.key.function),
        },
        None => api::FetchDirectoryResponse { status: Some(nowhere(&first)), uri: first, ..Default::default() },
    })
}

async fn fetch(service: Arc<Service>, access: Access, wanted: Wanted) -> Result<Option<Found>, Status> {
    bounded(&wanted.uris)?;
    Ok(blocking(move || find(&service.blobs, &access.domain, &wanted, now())).await)
}

fn find(blobs: &Blobs, domain: &Domain, wanted: &Wanted, now: u64) -> Option<Found> {
    let oldest = wanted.oldest.as_ref().map_or(i64::MIN, |oldest| oldest.seconds);
    for uri in &wanted.uris {
        for id in domain.look_up(KIND, name(wanted.what, uri, &wanted.qualifiers)) {
            let Some(entry) = blobs.entry(&id).filter(|entry| signed(entry.written) >= oldest) else { continue };
            let Ok(asset) = Asset::decode(entry.value) else { continue };
            let over = asset.expires.as_ref().is_some_and(|expires| expires.seconds <= signed(now));
            let key = digests::function(asset.function)
                .and_then(|function| digests::required(function, asset.digest.as_ref(), "digest"));
            if let Ok(key) = key
                && !over
                && key.function == wanted.function
            {
                return Some(Found { uri: uri.clone(), key, expires: asset.expires });
            }
        }
    }
    let key =
        wanted.qualifiers.iter().find(|said| said.name == CHECKSUM).and_then(|said| by_checksum(blobs, &said.value));
    let uri = wanted.uris.first().cloned().unwrap_or_default();
    key.filter(|key| wanted.what == What::Blob && key.function == wanted.function).map(|key| Found {
        uri,
        key,
        expires: None,
    })
}

/// A blob by what `checksum.sri` says of it (`sha256-` and its hash in Base64), if it is here.
fn by_checksum(blobs: &Blobs, checksums: &str) -> Option<Key> {
    let encoded = checksums.split_whitespace().find_map(|checksum| checksum.strip_prefix("sha256-"))?;
    let hash = STANDARD.decode(encoded).ok()?.try_into().ok()?;
    let key = blobs.find(Function::Sha256, hash)?;
    blobs.missing(&[key]).is_empty().then_some(key)
}

fn nowhere(uri: &str) -> rpc::Status {
    let told = format!("nobody pushed `{uri}`, and this server downloads nothing from elsewhere");
    rpc::Status { code: Code::NotFound.into(), message: told, details: Vec::new() }
}

async fn push_blob(
    service: Arc<Service>,
    request: Request<api::PushBlobRequest>,
) -> Result<api::PushBlobResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let pushed = request.into_inner();
    let function = digests::function(pushed.digest_function)?;
    let key = digests::required(function, pushed.blob_digest.as_ref(), "blob_digest")?;
    let pushed = Pushed {
        what: What::Blob,
        key,
        uris: pushed.uris,
        qualifiers: canonical(pushed.qualifiers)?,
        expires: pushed.expire_at,
        blobs: pushed.references_blobs,
        directories: pushed.references_directories,
    };
    push(service, access, pushed).await.map(|()| api::PushBlobResponse {})
}

async fn push_directory(
    service: Arc<Service>,
    request: Request<api::PushDirectoryRequest>,
) -> Result<api::PushDirectoryResponse, Status> {
    let access =
        service.admit(request.metadata().as_ref(), &request.get_ref().instance_name).map_err(status::denied)?;
    let pushed = request.into_inner();
    let function = digests::function(pushed.digest_function)?;
    let key = digests::required(function, pushed.root_directory_digest.as_ref(), "root_directory_digest")?;
    let pushed = Pushed {
        what: What::Directory,
        key,
        uris: pushed.uris,
        qualifiers: canonical(pushed.qualifiers)?,
        expires: pushed.expire_at,
        blobs: pushed.references_blobs,
        directories: pushed.references_directories,
    };
    push(service, access, pushed).await.map(|()| api::PushDirectoryResponse {})
}

/// What a client pushes, with all that has to stay as long as it does.
struct Pushed {
    what: What,
    key: Key,
    uris: Vec<String>,
    qualifiers: Vec<api::Qualifier>,
    expires: Option<Timestamp>,
    blobs: Vec<exec::Digest>,
    directories: Vec<exec::Digest>,
}

async fn push(service: Arc<Service>, access: Access, pushed: Pushed) -> Result<(), Status> {
    let keep = access.may_write_entries().map_err(status::denied)?;
    bounded(&pushed.uris)?;
    if !keep {
        return Ok(());
    }
    blocking(move || {
        let needs = needs(&service.blobs, &pushed)?;
        let asset = Asset {
            digest: Some(digests::digest(&pushed.key)),
            function: digests::function_value(pushed.key.function),
            expires: pushed.expires,
        };
        let value = bytes::Bytes::from(asset.encode_to_vec());
        for uri in &pushed.uris {
            let id = EntryId { space: access.domain.space(KIND), hash: name(pushed.what, uri, &pushed.qualifiers) };
            let (value, needs, writer) = (value.clone(), needs.clone(), access.writer.clone());
            let entry = Entry { value, needs, writer, written: now() };
            service.blobs.set_entry(&id, entry).map_err(|error| actions::precondition(&error))?;
        }
        Ok(())
    })
    .await
}

fn needs(blobs: &Blobs, pushed: &Pushed) -> Result<Vec<Key>, Status> {
    let function = pushed.key.function;
    let key = |digest| digests::required(function, Some(digest), "digest");
    let mut roots = pushed.directories.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let mut needs = pushed.blobs.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    match pushed.what {
        What::Blob => needs.push(pushed.key),
        What::Directory => roots.push(pushed.key),
    }
    needs.extend(actions::directory_needs(blobs, function, roots)?);
    needs.sort_unstable();
    needs.dedup();
    Ok(needs)
}

/// In one order, whatever order they came in.
fn canonical(mut qualifiers: Vec<api::Qualifier>) -> Result<Vec<api::Qualifier>, Status> {
    if qualifiers.len() > QUALIFIERS_MAX {
        let count = qualifiers.len();
        return Err(Status::invalid_argument(format!("{count} qualifiers, and at most {QUALIFIERS_MAX} are allowed")));
    }
    qualifiers.sort_by(|a, b| a.name.cmp(&b.name));
    match qualifiers.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(Status::invalid_argument(format!("qualifier `{}` is there twice", pair[0].name))),
        None => Ok(qualifiers),
    }
}

fn bounded(uris: &[String]) -> Result<(), Status> {
    match uris.len() {
        0 => Err(Status::invalid_argument("the request names no uri")),
        1..=URIS_MAX => Ok(()),
        count => Err(Status::invalid_argument(format!("{count} uris, and at most {URIS_MAX} are allowed"))),
    }
}

/// The name of an asset among entries. Each part is preceded by its length, so that no two names run into each other.
fn name(what: What, uri: &str, qualifiers: &[api::Qualifier]) -> [u8; 32] {
    let mut hasher = Hasher::new(Function::Sha256);
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    add(if what == What::Blob { "blob" } else { "directory" });
    add(uri);
    for qualifier in qualifiers {
        add(&qualifier.name);
        add(&qualifier.value);
    }
    hasher.key().hash
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
