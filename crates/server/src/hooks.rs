//! Deliveries of forges: believed, made durable, and only then answered. What they mean is found out later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use forge::{DELIVERY_BYTES_MAX, Forged, Kind};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use store::{Batch, Delivery, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::Shared;
use crate::authentication::off;
use crate::clock::now;
use crate::problem::Problem;
use crate::records::Project;

/// For a whole body: 25 MiB at 3 Mbit/s.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Memory that all bodies together take, in KiB.
const BODIES_KIB: usize = 128 << 10;
/// When to try again after a 503, in seconds.
const RETRY_AFTER: &str = "5";
/// With what a delivery for an unknown project is checked, so that it takes as long as any other.
const NOBODYS_SECRET: &str = "no project has this";

/// What all deliveries share.
#[derive(Debug)]
struct Door {
    shared: Arc<Shared>,
    bodies: Semaphore,
}

/// `POST /hooks/<project>`.
pub fn routes(shared: Arc<Shared>) -> Router {
    let door = Arc::new(Door { shared, bodies: Semaphore::new(BODIES_KIB) });
    Router::new().route("/hooks/{*project}", post(receive)).with_state(door)
}

async fn receive(
    State(door): State<Arc<Door>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let answer = take(&door, &project, &headers, body).await.unwrap_or_else(refused);
    door.shared.meters.hooks.took(began.elapsed());
    answer
}

async fn take(door: &Door, project: &str, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let (body, _room) = read(door, headers, body).await?;
    let (shared, name, headers) = (door.shared.clone(), project.to_owned(), headers.clone());
    let delivery = off(move || believed(&shared, &name, &headers, body)).await?;
    let (id, source) = (delivery.id.clone(), delivery.source.clone());
    let fresh = append(&door.shared, delivery).await?;
    if fresh {
        door.shared.deliveries.wake();
    }
    let status = if fresh { StatusCode::ACCEPTED } else { StatusCode::OK };
    let url = format!("{}{}", door.shared.config.url, view::page::path::within(project, "deliveries"));
    let said = if fresh { "kept" } else { "already there" };
    let answer = serde_json::json!({ "delivery": id, "source": source, "status": said, "url": url });
    Ok((status, Json(answer)).into_response())
}

/// The body, with the room that it takes: only bytes that came count, so that slow senders keep nobody out.
async fn read<'a>(
    door: &'a Door,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'a>>), Problem> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|length| length > DELIVERY_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, gather(door, body)).await {
        Ok(gathered) => gathered,
        Err(_) => Err(Problem::invalid(format!("the body took longer than {} seconds", BODY_TIME.as_secs()))),
    }
}

async fn gather(door: &Door, body: Body) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Problem> {
    let mut body = Limited::new(body, DELIVERY_BYTES_MAX);
    let (mut bytes, mut room) = (Vec::new(), None::<SemaphorePermit<'_>>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
            true => too_large(),
            false => Problem::invalid("the body broke off"),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data);
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let wanted = u32::try_from((bytes.len() / 1024 + 1).saturating_sub(held)).unwrap_or(u32::MAX);
        let full = |_| Problem::new("unavailable", "too many deliveries come in at the moment; send it again");
        let more = door.bodies.try_acquire_many(wanted).map_err(full)?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
    }
    Ok((bytes, room))
}

fn too_large() -> Problem {
    Problem::new("too-large", format!("a delivery has at most {DELIVERY_BYTES_MAX} bytes"))
}

/// The delivery, if it comes from who it says. Blocks.
fn believed(shared: &Shared, name: &str, headers: &HeaderMap, body: Vec<u8>) -> Result<Delivery, Problem> {
    let project = shared.store.record::<Project>(name)?.map(|kept| kept.value);
    let kind = kind(headers, &body);
    let Some(project) = project else {
        let _ = forge::verify(kind, NOBODYS_SECRET, headers, &body);
        return Err(Problem::not_found("there is no such project"));
    };
    let secret = project.webhook_secret_in_clear(&shared.authentication.keys)?;
    forge::verify(kind, &secret, headers, &body).map_err(|forged: Forged| {
        tracing::warn!(project = name, source = kind.word(), "a delivery was refused: {forged}");
        Problem::new("signed-out", forged.to_string())
    })?;
    Ok(Delivery {
        id: format!("{}/{kind}/{}", project.name, forge::delivery_id(kind, headers, &body)),
        project: project.id(),
        at: now(),
        source: kind.word().to_owned(),
        headers: forge::kept_headers(headers),
        body,
    })
}

/// Whoever sends knows best in which words it speaks; each of them proves the same secret.
fn kind(headers: &HeaderMap, body: &[u8]) -> Kind {
    let is_json = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    Kind::of_headers(headers).unwrap_or(if is_json { Kind::Generic } else { Kind::Git })
}

/// Makes it durable; whether it was new.
pub(crate) async fn append(shared: &Shared, delivery: Delivery) -> Result<bool, Problem> {
    let (done, durable) = oneshot::channel();
    let batch = Batch { deliveries: vec![delivery], ..Batch::default() };
    // Who asked may be gone; the delivery is kept all the same.
    shared.store.append_then(None, batch, move |result| drop(done.send(result)));
    let result = durable.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it ends".into())));
    Ok(result?.fresh.first().copied().unwrap_or(true))
}

/// A problem as an answer; whoever is told to come again is told when.
fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}
