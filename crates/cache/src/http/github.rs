//! GitHub's cache service, version 2, as `@actions/cache` and what is built on it speak it: three calls in Twirp, and
//! uploads and downloads as Azure's Blob Storage has them, by URLs of this server that need no token.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use blobs::{EntryId, Function};
use http::{HeaderValue, Method, StatusCode, header};
use prost::Message;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::call::Call;
use super::kept::{self, Kept, Notes};
use super::receive::Stored;
use super::refusal::Refusal;
use super::send::Content;
use super::tickets::{Ticket, Upload, parts};
use super::webdav::http_date;
use crate::access::Access;
use crate::keys::Found;
use crate::service::{blocking, now};

const KIND: &str = "github";
const SERVICE: &str = "github.actions.results.api.v1.CacheService";
/// Length of a request in bytes: ten keys of 512 bytes and some room.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Length of a list of blocks in bytes.
const BLOCK_LIST_BYTES_MAX: usize = 8 << 20;
/// Length of a version in bytes: it is a hash in hexadecimal digits.
const VERSION_BYTES_MAX: usize = 512;
/// Keys that one look-up tries; GitHub has the same bound.
const RESTORE_KEYS_MAX: usize = 10;

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct CreateRequest {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    version: String,
}

#[derive(Clone, PartialEq, Serialize, Message)]
struct CreateAnswer {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(string, tag = "2")]
    signed_upload_url: String,
    #[prost(string, tag = "3")]
    message: String,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct FinalizeRequest {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(int64, tag = "3")]
    #[serde(alias = "sizeBytes", deserialize_with = "int64")]
    size_bytes: i64,
    #[prost(string, tag = "4")]
    version: String,
}

#[derive(Clone, PartialEq, Serialize, Message)]
struct FinalizeAnswer {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "text")]
    entry_id: i64,
    #[prost(string, tag = "3")]
    message: String,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct DownloadRequest {
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, repeated, tag = "3")]
    #[serde(alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[prost(string, tag = "4")]
    version: String,
}

#[derive(Clone, PartialEq, Serialize, Message)]
struct DownloadAnswer {
    #[prost(bool, tag = "1")]
    ok: bool,
    #[prost(string, tag = "2")]
    signed_download_url: String,
    #[prost(string, tag = "3")]
    matched_key: String,
}

/// Numbers of 64 bits are texts in the JSON of Protocol Buffers.
fn text<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&number.to_string())
}

fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| D::Error::custom("not a number of 64 bits"))
}

/// Answers a call; a refusal is in Twirp's shape.
pub(crate) async fn answer(call: &Call, instance: &[&str], path: (&str, &str), body: Body) -> Response {
    match try_answer(call, instance, path, body).await {
        Ok(response) => response,
        Err(Refusal { status, message }) => {
            let code = match status {
                StatusCode::BAD_REQUEST => "malformed",
                StatusCode::UNAUTHORIZED => "unauthenticated",
                StatusCode::FORBIDDEN => "permission_denied",
                StatusCode::NOT_FOUND => "bad_route",
                StatusCode::CONFLICT => "already_exists",
                StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE => "resource_exhausted",
                _ => "internal",
            };
            (status, axum::Json(json!({ "code": code, "msg": message }))).into_response()
        }
    }
}

async fn try_answer(
    call: &Call,
    instance: &[&str],
    (service, method): (&str, &str),
    body: Body,
) -> Result<Response, Refusal> {
    if service != SERVICE {
        return Err(Refusal::missing(format!("only {SERVICE} is served here")));
    }
    if call.method != Method::POST {
        return Err(Refusal::method("POST"));
    }
    let access = call.admit(instance)?;
    match method {
        "CreateCacheEntry" => call.tell(&create(call, access, call.ask(body).await?).await?),
        "FinalizeCacheEntryUpload" => call.tell(&finalize(call, &access, call.ask(body).await?).await?),
        "GetCacheEntryDownloadURL" => call.tell(&download(call, &access, call.ask(body).await?).await?),
        _ => Err(Refusal::missing(format!("{SERVICE} has no method {method}"))),
    }
}

impl Call {
    fn is_protobuf(&self) -> bool {
        self.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/protobuf"))
    }
    async fn ask<M: Message + Default + DeserializeOwned>(&self, body: Body) -> Result<M, Refusal> {
        let malformed = |error: String| Refusal::bad(format!("the request is not as expected: {error}"));
        if self.is_protobuf() {
            let mut spool = self.receive(body).await?;
            let bytes = spool.bytes(REQUEST_BYTES_MAX)?.ok_or_else(|| malformed("it is too long".into()))?;
            return M::decode(bytes).map_err(|error| malformed(error.to_string()));
        }
        let text = self.receive_text(body, REQUEST_BYTES_MAX).await?;
        serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))
    }
    fn tell<M: Message + Serialize>(&self, answer: &M) -> Result<Response, Refusal> {
        match self.is_protobuf() {
            true => Ok(([(header::CONTENT_TYPE, "application/protobuf")], answer.encode_to_vec()).into_response()),
            false => Ok(axum::Json(answer).into_response()),
        }
    }
}

async fn create(call: &Call, access: Access, request: CreateRequest) -> Result<CreateAnswer, Refusal> {
    let CreateRequest { key, version } = request;
    let is_dropped = match access.may_write_entries() {
        Ok(is_done) => !is_done,
        // The client knows this beginning: it warns, and goes on.
        Err(denied) => {
            let message = format!("cache write denied: {denied}");
            return Ok(CreateAnswer { message, ..CreateAnswer::default() });
        }
    };
    let space = key_space(&access.domain.space(KIND), &version)?;
    if key.is_empty() || key.len() > crate::keys::KEY_BYTES_MAX {
        return Err(Refusal::bad(format!("a key has 1 to {} bytes", crate::keys::KEY_BYTES_MAX)));
    }
    if let Some(found) = call.service.http.keys.exact(&space, &key)
        && read(call, &access.domain.space(KIND), &found).await.is_some()
    {
        let message = "cache entry with the same key, version, and scope already exists";
        return Err(Refusal::new(StatusCode::CONFLICT, message));
    }
    let ticket = Ticket::Upload(Box::new(Upload::new(access, space, key, is_dropped)));
    Ok(CreateAnswer { ok: true, signed_upload_url: url(call, ticket)?, message: String::new() })
}

async fn finalize(call: &Call, access: &Access, request: FinalizeRequest) -> Result<FinalizeAnswer, Refusal> {
    let is_kept = access.may_write_entries()?;
    let space = key_space(&access.domain.space(KIND), &request.version)?;
    let finished = call.service.http.tickets.finish(&space, &request.key);
    let (name, content) = finished.ok_or_else(|| Refusal::missing("no upload of this key and version is under way"))?;
    if u64::try_from(request.size_bytes) != Ok(content.size()) && is_kept {
        let message = format!("{} bytes were announced, and {} came", request.size_bytes, content.size());
        return Ok(FinalizeAnswer { message, ..FinalizeAnswer::default() });
    }
    // The upload's own name: each has an entry of its own, and the key says which one counts.
    let hash = Function::Sha256.key_of(name.as_bytes()).hash;
    let entry_id = i64::from(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]));
    if is_kept {
        let id = EntryId { space: access.domain.space(KIND), hash };
        let (inline, needs) = parts(content);
        kept::write_entry(&call.service, access, id, &Notes::default(), &inline, needs).await?;
        let service = call.service.clone();
        blocking(move || service.http.keys.set(&space, &request.key, hash, now())).await?;
    }
    Ok(FinalizeAnswer { ok: true, entry_id, message: String::new() })
}

/// The overlay first with all keys, then what is below it: the key itself, then what begins with it, then what begins
/// with each restore key, the newest first.
async fn download(call: &Call, access: &Access, request: DownloadRequest) -> Result<DownloadAnswer, Refusal> {
    let keys = &call.service.http.keys;
    for EntryId { space: entries, .. } in access.domain.look_up(KIND, [0; 32]) {
        let space = key_space(&entries, &request.version)?;
        let mut candidates: Vec<Found> = keys.exact(&space, &request.key).into_iter().collect();
        let restore = request.restore_keys.iter().take(RESTORE_KEYS_MAX);
        for prefix in std::iter::once(&request.key).chain(restore).filter(|prefix| !prefix.is_empty()) {
            candidates.extend(keys.with_prefix(&space, prefix));
        }
        for found in candidates {
            // What is not whole is passed over, not forgotten: a tier below may bring it back, and unused keys are trimmed.
            let Some(kept) = read(call, &entries, &found).await else { continue };
            let signed_download_url = url(call, Ticket::Download(kept.content))?;
            let (service, key) = (call.service.clone(), found.key.clone());
            blocking(move || service.http.keys.touch(&space, &key, now())).await?;
            return Ok(DownloadAnswer { ok: true, signed_download_url, matched_key: found.key });
        }
    }
    Ok(DownloadAnswer::default())
}

/// What a key leads to, if all of it is still there.
async fn read(call: &Call, entries: &str, found: &Found) -> Option<Kept> {
    kept::read_entry(&call.service, EntryId { space: entries.into(), hash: found.hash }).await
}

/// Where the keys of one version stand: caches of other paths or another compression never meet.
fn key_space(entries: &str, version: &str) -> Result<String, Refusal> {
    if version.len() > VERSION_BYTES_MAX || version.contains(char::is_control) {
        return Err(Refusal::bad(format!("a version has at most {VERSION_BYTES_MAX} bytes and no control characters")));
    }
    Ok(format!("{entries}\n\n{version}"))
}

fn url(call: &Call, ticket: Ticket) -> Result<String, Refusal> {
    let name = call.service.http.tickets.issue(ticket, now())?;
    Ok(format!("{}/github/blobs/{name}", call.origin()))
}

/// Answers an upload or a download by a URL that was given out.
pub(crate) async fn blob(call: &Call, name: &str, body: Body) -> Result<Response, Refusal> {
    let ticket = call.service.http.tickets.look(name, now());
    match (&call.method, ticket) {
        (&Method::GET | &Method::HEAD, Some(Ticket::Download(content))) => {
            let mut response = call.send(content, "application/octet-stream").await?;
            azure(&mut response, name);
            Ok(response)
        }
        (&Method::PUT, Some(Ticket::Upload(upload))) => {
            put(call, name, &upload, body).await?;
            let mut response = StatusCode::CREATED.into_response();
            azure(&mut response, name);
            Ok(response)
        }
        _ => Err(Refusal::missing("this URL is not known, or its time is over")),
    }
}

async fn put(call: &Call, name: &str, upload: &Upload, body: Body) -> Result<(), Refusal> {
    let tickets = &call.service.http.tickets;
    if upload.is_dropped {
        call.drain(body).await?;
        return tickets.set_body(name, Content::Inline(bytes::Bytes::new()));
    }
    match call.query("comp") {
        None => {
            let content = match call.receive_and_keep(body).await? {
                Stored::Inline(bytes) => Content::Inline(bytes),
                Stored::Blob(key) => Content::Blobs(vec![key]),
            };
            tickets.set_body(name, content)
        }
        Some("block") => {
            let block = call.query("blockid").unwrap_or_default();
            let (spool, blobs) = (call.receive(body).await?, call.service.blobs.clone());
            let key = blocking(move || spool.keep_as_blob(&blobs)).await?;
            tickets.add_block(name, block, key)
        }
        Some("blocklist") => {
            let list = call.receive_text(body, BLOCK_LIST_BYTES_MAX).await?;
            tickets.set_blocks(name, &block_list(&list))
        }
        Some(other) => Err(Refusal::bad(format!("comp={other} is not known here; use block or blocklist"))),
    }
}

/// The names in a `<BlockList>`: `<Latest>…</Latest>` each, or `Uncommitted` or `Committed`, which are no different here.
fn block_list(xml: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = xml;
    while let Some((_, tail)) = rest.split_once('<') {
        rest = tail;
        let is_name = ["Latest>", "Uncommitted>", "Committed>"].iter().find_map(|tag| tail.strip_prefix(tag));
        if let Some((name, _)) = is_name.and_then(|name| name.split_once('<')) {
            names.push(name.trim().to_string());
        }
    }
    names
}

/// Headers that Azure's clients expect with every answer.
fn azure(response: &mut Response, name: &str) {
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("etag", &format!("\"{}\"", &name[..name.len().min(16)]));
    put("last-modified", &http_date(now()));
    put("x-ms-blob-type", "BlockBlob");
    put("x-ms-request-id", &name[..name.len().min(16)]);
    put("x-ms-version", "2024-11-04");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_blocks_is_read_whatever_stands_around_the_names() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n <Latest>AAAA==</Latest><Uncommitted> BBBB </Uncommitted>\
                   <Committed>CCCC</Committed></BlockList>";
        assert_eq!(block_list(xml), ["AAAA==", "BBBB", "CCCC"]);
        for odd in ["", "<", "<Latest>", "<Latest", "x<Latest>y"] {
            assert!(block_list(odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn numbers_and_names_are_read_in_either_form_of_json() {
        let camel: FinalizeRequest =
            serde_json::from_str(r#"{"key":"k","sizeBytes":"7","version":"v","metadata":{}}"#).unwrap();
        let snake: FinalizeRequest = serde_json::from_str(r#"{"key":"k","size_bytes":7,"version":"v"}"#).unwrap();
        assert_eq!(camel, snake);
        let answer = FinalizeAnswer { ok: true, entry_id: 5, message: String::new() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"ok":true,"entry_id":"5","message":""}"#);
    }
}
