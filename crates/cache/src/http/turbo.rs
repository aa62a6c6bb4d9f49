//! Turborepo's remote cache: `/v8/artifacts/…`.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::kept::{self, Name, Notes};
use super::refusal::Refusal;

const KIND: &str = "turbo";
const TAG: HeaderName = HeaderName::from_static("x-artifact-tag");
const DURATION: HeaderName = HeaderName::from_static("x-artifact-duration");
/// Length of what is kept of a header, in bytes: a signature has 44.
const NOTE_BYTES_MAX: usize = 512;
/// Length of a question for many artifacts in bytes.
const QUERY_BYTES_MAX: usize = 1 << 20;
/// Artifacts asked for at a time.
const QUERY_HASHES_MAX: usize = 1000;

/// Answers; a refusal is in the shape that the client prints.
pub(crate) async fn answer(call: &Call, instance: &[&str], artifact: Option<&str>, body: Body) -> Response {
    match try_answer(call, instance, artifact, body).await {
        Ok(response) => response,
        Err(Refusal { status, message }) => {
            let code = status.canonical_reason().unwrap_or("refused").to_lowercase().replace(' ', "_");
            (status, axum::Json(json!({ "error": { "code": code, "message": message } }))).into_response()
        }
    }
}

async fn try_answer(call: &Call, instance: &[&str], artifact: Option<&str>, body: Body) -> Result<Response, Refusal> {
    let access = call.admit(instance)?;
    // A team is given by its id or by its name, and the same way by all of its members.
    let team = call.query("teamId").or(call.query("slug")).unwrap_or_default();
    let named = |hash: &str| format!("{team}\n{hash}");
    match (&call.method, artifact) {
        (&Method::GET, Some("status")) => Ok(axum::Json(json!({ "status": "enabled" })).into_response()),
        // What the client found where, for its vendor's statistics.
        (&Method::POST, Some("events")) => {
            call.drain(body).await?;
            Ok(StatusCode::OK.into_response())
        }
        (&Method::POST, None) => {
            let question: Question = serde_json::from_str(&call.receive_text(body, QUERY_BYTES_MAX).await?)
                .map_err(|error| Refusal::bad(format!("the question is not as expected: {error}")))?;
            let mut answer = Map::new();
            for hash in question.hashes.iter().take(QUERY_HASHES_MAX) {
                let found = kept::look_up(&call.service, &access, &Name { kind: KIND, name: &named(hash) }).await;
                let told = found.map_or(Value::Null, |found| {
                    let took = found.notes.duration.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                    json!({ "size": found.content.size(), "taskDurationMs": took, "tag": found.notes.tag })
                });
                answer.insert(hash.clone(), told);
            }
            Ok(axum::Json(answer).into_response())
        }
        (&Method::GET | &Method::HEAD, Some(hash)) => {
            let found = kept::look_up(&call.service, &access, &Name { kind: KIND, name: &named(hash) }).await;
            let found = found.ok_or_else(|| Refusal::missing(format!("there is no artifact {hash}")))?;
            let mut response = call.send(found.content, "application/octet-stream").await?;
            for (header, note) in [(TAG, found.notes.tag), (DURATION, found.notes.duration)] {
                if let Some(value) = note.and_then(|note| HeaderValue::from_str(&note).ok()) {
                    response.headers_mut().insert(header, value);
                }
            }
            Ok(response)
        }
        (&Method::PUT, Some(hash)) => {
            let notes = Notes { tag: note(call, &TAG), duration: note(call, &DURATION) };
            match access.may_write_entries()? {
                false => call.drain(body).await?,
                true => {
                    let stored = call.receive_and_keep(body).await?;
                    let name = named(hash);
                    kept::keep(&call.service, &access, &Name { kind: KIND, name: &name }, &notes, stored).await?;
                }
            }
            Ok((StatusCode::ACCEPTED, axum::Json(json!({ "urls": [] }))).into_response())
        }
        _ => Err(Refusal::method("GET, HEAD, PUT and POST")),
    }
}

#[derive(Deserialize)]
struct Question {
    hashes: Vec<String>,
}

fn note(call: &Call, header: &HeaderName) -> Option<String> {
    call.header(header).filter(|value| value.len() <= NOTE_BYTES_MAX).map(String::from)
}
