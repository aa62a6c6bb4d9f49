//! Our own API for `caches:` of steps: named snapshots, found by their key or by the beginning of an older one, and who
//! wrote what.
//!
//! All calls take `instance` in the query (left out, it is the empty one) and a token as everywhere.
//!
//! ```text
//! GET /paceline/v1/caches?instance=main&scope=S&key=K&fallback=F&fallback=G
//!   200 {"key":"K or what begins with F or G","exact":true,"written":1795277470,
//!        "manifest":{"function":"sha256","hash":"64 hex","size":123},"blobs":[{…the same…}]}
//!   404 when nothing fits. Fallbacks are tried in order, each for the newest key that begins with it; an overlay
//!   (`main/pr/17`) is searched with all of them before what is below it. Everything named is leased from now on.
//!
//! PUT /paceline/v1/caches?instance=main&scope=S&key=K        {"manifest":{…},"blobs":[{…}]}
//!   200 {"key":"K"}      409 when the key is there and whole: a snapshot of a key never changes
//!   400 when a blob is not in the store yet
//!
//! GET /paceline/v1/entries?instance=main&writer=W            (write right)
//!   200 {"count":2,"entries":[{"kind":"ac","hash":"64 hex","writer":"W","written":1795277470}]}   1000 at most are listed
//! DELETE /paceline/v1/entries?instance=main&writer=W         (write right)
//!   200 {"count":2}      W stands for the token and all of its runs (`W run 4711`)
//! ```
//!
//! `function` may be left out for SHA-256. `scope` separates what must never meet (a pipeline, a platform).

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use blobs::{Entry, EntryId, Function, Key};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Call;
use super::refusal::Refusal;
use crate::access::Access;
use crate::keys::{Found, KEY_BYTES_MAX};
use crate::service::{blocking, now};

const KIND: &str = "caches";
/// Length of a request in bytes: a snapshot of a hundred thousand blobs.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Length of a scope in bytes.
const SCOPE_BYTES_MAX: usize = 512;
/// Fallback keys of one look-up.
const FALLBACKS_MAX: usize = 32;
/// Entries of a writer that are listed; they are counted all.
const LISTED_MAX: usize = 1000;

#[derive(Debug, Deserialize, Serialize)]
struct Blob {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    hash: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    manifest: Blob,
    #[serde(default)]
    blobs: Vec<Blob>,
}

impl Blob {
    fn of(key: &Key) -> Blob {
        Blob { function: Some(key.function.word().into()), hash: key.hex(), size: key.size }
    }
    fn key(&self) -> Result<Key, Refusal> {
        let word = self.function.as_deref().unwrap_or("sha256");
        let function = Function::ALL.into_iter().find(|function| function.word() == word);
        let key = function.and_then(|function| Key::from_hex(function, &self.hash, self.size));
        key.ok_or_else(|| Refusal::bad(format!("`{word}` `{}` is no digest", self.hash)))
    }
}

/// Answers; refusals are JSON too.
pub(crate) async fn answer(call: &Call, what: &str, body: Body) -> Response {
    match try_answer(call, what, body).await {
        Ok(response) => response,
        Err(Refusal { status, message }) => (status, axum::Json(json!({ "error": message }))).into_response(),
    }
}

async fn try_answer(call: &Call, what: &str, body: Body) -> Result<Response, Refusal> {
    let access = call.admit(&[call.query("instance").unwrap_or_default()])?;
    let answer = match (what, &call.method) {
        ("caches", &Method::GET) => look_up(call, &access).await?,
        ("caches", &Method::PUT) => put(call, &access, body).await?,
        ("entries", &Method::GET) => list(call, &access).await?,
        ("entries", &Method::DELETE) => purge(call, &access).await?,
        ("caches", _) => return Err(Refusal::method("GET and PUT")),
        _ => return Err(Refusal::method("GET and DELETE")),
    };
    Ok(axum::Json(answer).into_response())
}

async fn look_up(call: &Call, access: &Access) -> Result<Value, Refusal> {
    let key = call.query("key").unwrap_or_default();
    let keys = &call.service.http.keys;
    for EntryId { space: entries, .. } in access.domain.look_up(KIND, [0; 32]) {
        let space = key_space(call, &entries)?;
        let mut candidates: Vec<Found> = keys.exact(&space, key).into_iter().collect();
        for fallback in call.queries("fallback").take(FALLBACKS_MAX).filter(|fallback| !fallback.is_empty()) {
            candidates.extend(keys.with_prefix(&space, fallback));
        }
        for found in candidates {
            let id = EntryId { space: entries.clone(), hash: found.hash };
            let (service, space) = (call.service.clone(), space.clone());
            let name = found.key.clone();
            let entry = blocking(move || match service.blobs.entry(&id) {
                Some(entry) => service.http.keys.touch(&space, &name, now()).map(|()| Some(entry)),
                // Passed over, not forgotten: a tier below may bring it back, and unused keys are trimmed.
                None => Ok(None),
            });
            let Some(Entry { needs, written, .. }) = entry.await? else { continue };
            let Some((manifest, blobs)) = needs.split_first() else { continue };
            let blobs: Vec<Blob> = blobs.iter().map(Blob::of).collect();
            let exact = found.key == key;
            return Ok(json!({
                "key": found.key, "exact": exact, "written": written, "manifest": Blob::of(manifest), "blobs": blobs,
            }));
        }
    }
    Err(Refusal::missing(format!("no snapshot fits the key `{key}` or its fallbacks")))
}

async fn put(call: &Call, access: &Access, body: Body) -> Result<Value, Refusal> {
    let is_kept = access.may_write_entries()?;
    let key = call.query("key").filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    let key = key.ok_or_else(|| Refusal::bad(format!("`key` has 1 to {KEY_BYTES_MAX} bytes")))?.to_string();
    let snapshot: Snapshot = serde_json::from_str(&call.receive_text(body, REQUEST_BYTES_MAX).await?)
        .map_err(|error| Refusal::bad(format!("the snapshot is not as expected: {error}")))?;
    let mut needs = vec![snapshot.manifest.key()?];
    for blob in &snapshot.blobs {
        needs.push(blob.key()?);
    }
    if !is_kept {
        return Ok(json!({ "key": key }));
    }
    let entries = access.domain.space(KIND);
    let space = key_space(call, &entries)?;
    let (service, writer, now) = (call.service.clone(), access.writer.clone(), now());
    let name = format!("{space}\n{key}\n{now}\n{}", needs[0]);
    let id = EntryId { space: entries, hash: Function::Sha256.key_of(name.as_bytes()).hash };
    blocking(move || {
        let there = service.http.keys.exact(&space, &key);
        let there = there.map(|found| EntryId { space: id.space.clone(), hash: found.hash });
        if there.is_some_and(|id| service.blobs.entry(&id).is_some()) {
            let message = format!("there is a snapshot of the key `{key}`, and it never changes");
            return Err(Refusal::new(StatusCode::CONFLICT, message));
        }
        let entry = Entry { needs, writer, written: now, ..Entry::default() };
        service.blobs.set_entry(&id, entry).map_err(|error| match error {
            blobs::Error::Missing(key) => Refusal::bad(format!("blob {key} is not in the store; upload it first")),
            other => other.into(),
        })?;
        service.http.keys.set(&space, &key, id.hash, now)?;
        Ok(json!({ "key": key }))
    })
    .await
}

fn key_space(call: &Call, entries: &str) -> Result<String, Refusal> {
    let scope = call.query("scope").unwrap_or_default();
    if scope.len() > SCOPE_BYTES_MAX || scope.contains(char::is_control) {
        return Err(Refusal::bad(format!("a scope has at most {SCOPE_BYTES_MAX} bytes and no control characters")));
    }
    Ok(format!("{entries}\n\n{scope}"))
}

/// The caller's domain, and the writer it asks for.
struct Wanted {
    domain: crate::access::Domain,
    writer: String,
}

impl Wanted {
    fn read(call: &Call, access: &Access) -> Result<Wanted, Refusal> {
        if !access.may_write_entries()? {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this token may not write here, so it may not purge either",
            ));
        }
        let writer = call.query("writer").filter(|writer| !writer.is_empty());
        let writer = writer.ok_or_else(|| Refusal::bad("say which `writer`"))?.to_string();
        Ok(Wanted { domain: access.domain.clone(), writer })
    }
    fn is(&self, id: &EntryId, entry: &Entry) -> bool {
        let rest = entry.writer.strip_prefix(&self.writer);
        let by_it = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        by_it && id.space.split_once('\n').is_some_and(|(kind, _)| self.domain.space(kind) == id.space)
    }
}

async fn list(call: &Call, access: &Access) -> Result<Value, Refusal> {
    let (wanted, blobs) = (Wanted::read(call, access)?, call.service.blobs.clone());
    let (mut count, mut listed) = (0, Vec::new());
    blocking(move || {
        blobs.entries("", |id, entry| {
            if !wanted.is(id, entry) {
                return;
            }
            count += 1;
            if listed.len() < LISTED_MAX {
                let hash = Key { function: Function::Sha256, hash: id.hash, size: 0 }.hex();
                let kind = id.space.split('\n').next();
                listed.push(json!({ "kind": kind, "hash": hash, "writer": entry.writer, "written": entry.written }));
            }
        })?;
        Ok(json!({ "count": count, "entries": listed }))
    })
    .await
}

async fn purge(call: &Call, access: &Access) -> Result<Value, Refusal> {
    let (wanted, blobs) = (Wanted::read(call, access)?, call.service.blobs.clone());
    let purged = blocking(move || blobs.purge(|id, entry| wanted.is(id, entry))).await?;
    Ok(json!({ "count": purged.entries.len() }))
}
