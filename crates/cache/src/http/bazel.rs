//! Plain HTTP as Bazel, moon and ccache speak it: `/{instance}/cas/{hash}` and `/{instance}/ac/{hash}`.
//!
//! Under `/ac/` come three kinds of bodies: action results as protobuf (Bazel) or as JSON (moon), which are one thing with
//! those of gRPC, and whatever else somebody keeps there (ccache), which stays apart from them.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bazel_remote_apis::build::bazel::remote::execution::v2::{ActionResult, Digest};
use blobs::{EntryId, Function, Key};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use prost::Message as _;

use super::action_json;
use super::call::Call;
use super::kept::{self, Name, Notes};
use super::receive::Spool;
use super::refusal::Refusal;
use super::send::Content;
use crate::access::Access;
use crate::grpc::actions;
use crate::service::blocking;

/// The kind of entries that are any bytes.
const RAW: &str = "http-raw";
/// Length of an action result in bytes. What is larger is none.
const RESULT_BYTES_MAX: usize = 8 << 20;

/// Answers `/cas/`.
pub(crate) async fn content(call: &Call, instance: &[&str], hash: &str, body: Body) -> Result<Response, Refusal> {
    let access = call.admit(instance)?;
    let hash = hash_of(hash)?;
    match call.method {
        Method::GET | Method::HEAD => {
            let key = find(call, hash).await.ok_or_else(|| Refusal::missing("there is no such blob"))?;
            call.send(Content::Blobs(vec![key]), "application/octet-stream").await
        }
        Method::PUT => {
            match access.may_write_content()? {
                true => put_content(call, hash, body).await?,
                false => call.drain(body).await?,
            }
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(Refusal::method("GET, HEAD and PUT")),
    }
}

/// The blob of a hash, leased.
async fn find(call: &Call, hash: [u8; 32]) -> Option<Key> {
    let blobs = call.service.blobs.clone();
    blocking(move || {
        let key = Function::ALL.into_iter().find_map(|function| blobs.find(function, hash))?;
        blobs.missing(&[key]).is_empty().then_some(key)
    })
    .await
}

async fn put_content(call: &Call, hash: [u8; 32], body: Body) -> Result<(), Refusal> {
    if find(call, hash).await.is_some() {
        return call.drain(body).await;
    }
    match call.content_length() {
        Some(size) if !call.is_zstd()? => call.receive_blob(body, Key { function: Function::Sha256, hash, size }).await,
        _ => {
            let spool = call.receive(body).await?;
            let actual = spool.key();
            if actual.hash != hash {
                return Err(blobs::Error::WrongBytes { expected: Key { hash, ..actual }, actual }.into());
            }
            let blobs = call.service.blobs.clone();
            blocking(move || spool.keep_as_blob(&blobs)).await.map(|_| ())
        }
    }
}

/// Answers `/ac/`.
pub(crate) async fn result(call: &Call, instance: &[&str], hex: &str, body: Body) -> Result<Response, Refusal> {
    let access = call.admit(instance)?;
    let hash = hash_of(hex)?;
    let raw = Name { kind: RAW, name: hex };
    match call.method {
        Method::GET | Method::HEAD => {
            let (blobs, ids) = (call.service.blobs.clone(), access.domain.look_up(actions::KIND, hash));
            if let Some(entry) = blocking(move || ids.iter().find_map(|id| blobs.entry(id))).await {
                return send_result(call, entry.value).await;
            }
            let kept = kept::look_up(&call.service, &access, &raw).await;
            let kept = kept.ok_or_else(|| Refusal::missing("there is no such result"))?;
            call.send(kept.content, "application/octet-stream").await
        }
        Method::PUT => {
            match access.may_write_entries()? {
                true => put_result(call, &access, hash, &raw, body).await?,
                false => call.drain(body).await?,
            }
            Ok(StatusCode::OK.into_response())
        }
        Method::DELETE => {
            let is_allowed = access.may_write_entries()?;
            let id = EntryId { space: access.domain.space(actions::KIND), hash };
            let blobs = call.service.blobs.clone();
            if is_allowed {
                blocking(move || blobs.remove_entry(&id)).await?;
                kept::forget(&call.service, &access, &raw).await?;
            }
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::method("GET, HEAD, PUT and DELETE")),
    }
}

async fn send_result(call: &Call, value: Bytes) -> Result<Response, Refusal> {
    let wants_json = call.header(header::ACCEPT).is_some_and(|accepts| accepts.contains("application/json"));
    if !wants_json {
        return call.send(Content::Inline(value), "application/octet-stream").await;
    }
    let unreadable = |error: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let result = ActionResult::decode(value).map_err(|error| unreadable(error.to_string()))?;
    let json = action_json::write(&result).map_err(|error| unreadable(error.to_string()))?;
    call.send(Content::Inline(json.into()), "application/json").await
}

async fn put_result(call: &Call, access: &Access, hash: [u8; 32], raw: &Name<'_>, body: Body) -> Result<(), Refusal> {
    let mut spool = call.receive(body).await?;
    let is_json = call.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    if let Some(result) = read_result(&mut spool, is_json)? {
        let id = EntryId { space: access.domain.space(actions::KIND), hash };
        let (blobs, writer) = (call.service.blobs.clone(), access.writer.clone());
        return blocking(move || {
            let stored = actions::store(&blobs, &id, Function::Sha256, &result, writer);
            stored.map_err(|status| Refusal::bad(status.message()))
        })
        .await;
    }
    let blobs = call.service.blobs.clone();
    let stored = blocking(move || spool.keep(&blobs)).await?;
    kept::keep(&call.service, access, raw, &Notes::default(), stored).await
}

/// The action result that a body is, if it is one.
fn read_result(spool: &mut Spool, is_json: bool) -> Result<Option<ActionResult>, Refusal> {
    let Some(bytes) = spool.bytes(RESULT_BYTES_MAX)? else { return Ok(None) };
    let result = match is_json || bytes.first() == Some(&b'{') {
        true => action_json::read(&bytes).ok(),
        false => ActionResult::decode(bytes.clone()).ok(),
    };
    Ok(result.filter(|result| is_plausible(result, &bytes, is_json)))
}

/// Other bytes may happen to parse: a result names outputs by proper digests, or says all that was in the bytes.
fn is_plausible(result: &ActionResult, bytes: &[u8], is_json: bool) -> bool {
    let is_digest = |digest: &Option<Digest>| {
        digest.as_ref().is_some_and(|digest| Key::from_hex(Function::Sha256, &digest.hash, 0).is_some())
    };
    let names_blobs = result.output_files.iter().any(|file| is_digest(&file.digest))
        || result
            .output_directories
            .iter()
            .any(|directory| is_digest(&directory.tree_digest) || is_digest(&directory.root_directory_digest))
        || is_digest(&result.stdout_digest)
        || is_digest(&result.stderr_digest);
    names_blobs || (*result != ActionResult::default() && (is_json || result.encoded_len() == bytes.len()))
}

fn hash_of(hex: &str) -> Result<[u8; 32], Refusal> {
    let key = Key::from_hex(Function::Sha256, hex, 0);
    key.map(|key| key.hash).ok_or_else(|| Refusal::bad("the name is not a hash of 64 lower-case hexadecimal digits"))
}
