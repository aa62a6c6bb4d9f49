//! Looking after a store that is being served: `/paceline/v1/stats`, `gc`, `verify`, `purge`, `who`.
//!
//! What changes the store, and what says who wrote what everywhere, takes rights on every instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use blobs::{Stats, Verified};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::Service;
use crate::access::{Denied, Domain};
use crate::care::{self, Condemned};
use crate::service::{authorization, blocking, now};

/// How often long work says how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

#[derive(Clone)]
struct Office {
    service: Arc<Service>,
    /// Long work is done by one at a time: two scrubs would only halve each other's speed.
    work: Arc<Semaphore>,
}

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/paceline/v1/stats", get(stats))
        .route("/paceline/v1/gc", post(gc))
        .route("/paceline/v1/verify", post(verify))
        .route("/paceline/v1/purge", post(purge))
        .route("/paceline/v1/who/{digest}", get(who))
        .with_state(Office { service, work: Arc::new(Semaphore::new(1)) })
}

/// Why a request was not done.
enum No {
    Denied(Denied),
    Busy,
    Wrong(String),
    Store(blobs::Error),
}

impl From<Denied> for No {
    fn from(denied: Denied) -> No {
        No::Denied(denied)
    }
}

impl From<blobs::Error> for No {
    fn from(error: blobs::Error) -> No {
        No::Store(error)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            No::Denied(denied @ Denied::Unauthenticated(_)) => (StatusCode::UNAUTHORIZED, denied.to_string()),
            No::Denied(denied @ Denied::Forbidden(_)) => (StatusCode::FORBIDDEN, denied.to_string()),
            No::Denied(denied @ Denied::UnknownInstance(_)) => (StatusCode::NOT_FOUND, denied.to_string()),
            No::Busy => {
                (StatusCode::CONFLICT, "the store is being verified or collected already; wait for that".into())
            }
            No::Wrong(problem) => (StatusCode::BAD_REQUEST, problem),
            No::Store(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let mut response = (status, format!("{text}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl Office {
    fn caretaker(&self, headers: &HeaderMap) -> Result<(), No> {
        self.service.gatekeeper.admit_caretaker(authorization(headers), now())?;
        Ok(())
    }
    fn begin(&self) -> Result<OwnedSemaphorePermit, No> {
        self.work.clone().try_acquire_owned().map_err(|_| No::Busy)
    }
}

async fn stats(State(office): State<Office>, headers: HeaderMap) -> Result<Response, No> {
    office.service.gatekeeper.admit_somewhere(authorization(&headers), now())?;
    let service = office.service.clone();
    let mut row = stats_row(&blocking(move || service.blobs.stats()).await);
    if let Some(upstream) = &office.service.upstream {
        row["upstream"] = json!(upstream.stats());
    }
    if let Some(bucket) = &office.service.s3 {
        let stats = bucket.stats();
        row["s3"] = json!({
            "segments_sent": stats.uploaded,
            "bytes_sent": stats.uploaded_bytes,
            "failures": stats.failed,
            "last_error": stats.last_error,
        });
    }
    Ok(json_response(&row))
}

#[derive(Deserialize)]
struct Room {
    bytes_max: Option<u64>,
    age_seconds_max: Option<u64>,
}

async fn gc(State(office): State<Office>, Query(room): Query<Room>, headers: HeaderMap) -> Result<Response, No> {
    office.caretaker(&headers)?;
    let permit = office.begin()?;
    let service = office.service.clone();
    let collected = blocking(move || {
        let _permit = permit;
        let before = service.blobs.stats();
        let after = service.blobs.collect(room.bytes_max, room.age_seconds_max.map(Duration::from_secs))?;
        Ok::<_, blobs::Error>((before, after))
    });
    let (before, after) = collected.await?;
    Ok(json_response(&gc_row(&before, &after)))
}

async fn verify(State(office): State<Office>, headers: HeaderMap) -> Result<Response, No> {
    office.caretaker(&headers)?;
    let permit = office.begin()?;
    let (lines, told) = mpsc::channel::<Value>(16);
    let service = office.service.clone();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut last = Instant::now();
        let verified = service.blobs.verify(|done, all| {
            if last.elapsed() >= TELL_EVERY {
                last = Instant::now();
                // Who does not keep up misses a line of progress, and nothing else.
                let _ = lines.try_send(json!({ "bytes_done": done, "bytes_all": all }));
            }
        });
        // Nobody listens any more: the work is done all the same.
        let _ = lines.blocking_send(match verified {
            Ok(verified) => verified_row(&verified),
            Err(error) => json!({ "error": error.to_string() }),
        });
    });
    let lines =
        ReceiverStream::new(told).map(|line| Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n"))));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

#[derive(Deserialize)]
struct Sentence {
    writer: Option<String>,
    digest: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn purge(
    State(office): State<Office>,
    Query(sentence): Query<Sentence>,
    headers: HeaderMap,
) -> Result<Response, No> {
    office.caretaker(&headers)?;
    let condemned = match (sentence.writer, sentence.digest) {
        (Some(writer), None) => Condemned::Writer(writer),
        (None, Some(digest)) => Condemned::digest(&digest).map_err(No::Wrong)?,
        _ => return Err(No::Wrong("name a `writer` or a `digest`".to_owned())),
    };
    let service = office.service.clone();
    let found = blocking(move || care::purge(&service.blobs, &condemned, sentence.dry_run)).await?;
    Ok(json_response(&json!(found)))
}

async fn who(State(office): State<Office>, Path(digest): Path<String>, headers: HeaderMap) -> Result<Response, No> {
    let header = authorization(&headers).map(str::to_owned);
    office.service.gatekeeper.admit_somewhere(header.as_deref(), now())?;
    let digest = model::Digest::from_hex(&digest, 0)
        .ok_or_else(|| No::Wrong("that is no digest: write 64 hexadecimal digits".to_owned()))?;
    let service = office.service.clone();
    let found = blocking(move || {
        let visible = |domain: &Domain| {
            let access = service.gatekeeper.admit(header.as_deref(), &domain.to_string(), now());
            // Who works in an overlay of its own when it names the instance may read the instance all the same.
            access.is_ok_and(|access| access.domain.instance == domain.instance)
        };
        care::who(&service.blobs, digest.hash, visible)
    });
    Ok(json_response(&json!(found.await?)))
}

/// What a store holds, as scripts read it.
pub fn stats_row(stats: &Stats) -> Value {
    json!({
        "blobs": stats.blobs,
        "blob_bytes": stats.blob_bytes,
        "entries": stats.entries,
        "disk_bytes": stats.disk_bytes,
        "hits": stats.hits,
        "misses": stats.misses,
        "evicted": stats.evicted,
        "damaged": stats.damaged,
    })
}

/// What making room did, as scripts read it.
pub fn gc_row(before: &Stats, after: &Stats) -> Value {
    json!({
        "freed_bytes": before.disk_bytes.saturating_sub(after.disk_bytes),
        "freed_blobs": before.blobs.saturating_sub(after.blobs),
        "left_bytes": after.disk_bytes,
        "left_blobs": after.blobs,
        "left_entries": after.entries,
    })
}

/// What a scrub saw, as scripts read it. It is the last line, and the only one that has `damaged`.
pub fn verified_row(verified: &Verified) -> Value {
    let damaged: Vec<String> = verified.damaged.iter().take(care::LISTED_MAX).map(ToString::to_string).collect();
    json!({
        "blobs": verified.blobs,
        "bytes": verified.bytes,
        "entries": verified.entries,
        "damaged_blobs": verified.damaged.len(),
        "damaged": damaged,
        "entries_dropped": verified.entries_dropped,
    })
}

fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
