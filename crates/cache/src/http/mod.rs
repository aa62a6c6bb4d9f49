//! What is spoken over plain HTTP: one file per client protocol.
//!
//! A path says whose it is. What comes before the part that a client makes itself is the instance: `/team/main/ac/…`,
//! `/main/v8/artifacts/…`; empty segments do not count, because clients without an instance leave one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State as FromState;
use axum::response::{IntoResponse as _, Response};
use http::{Method, Request, StatusCode};

use crate::Service;
use crate::keys::Keys;
use crate::meters::{Ending, Meters, Protocol};

mod action_json;
mod bazel;
mod call;
mod github;
mod kept;
mod nx;
mod own;
mod receive;
mod refusal;
mod send;
mod status;
mod tickets;
mod turbo;
mod webdav;

pub use call::Below;
use call::Call;
use receive::Spools;
use refusal::Refusal;
use tickets::Tickets;

/// The largest body in bytes, whatever room the store has.
pub const BODY_BYTES_MAX: u64 = 64 << 30;

/// What the handlers of plain HTTP share beside the store.
#[derive(Debug)]
pub struct State {
    /// What was asked and answered, over all protocols.
    pub meters: Meters,
    pub(crate) keys: Keys,
    pub(crate) tickets: Tickets,
    pub(crate) spools: Arc<Spools>,
    pub(crate) body_bytes_max: u64,
}

impl State {
    /// Opens what lives beside the store in its folder.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(data: &Path, store: &blobs::Options) -> Result<State, blobs::Error> {
        let body_bytes_max = store.bytes_max.min(BODY_BYTES_MAX);
        let spools = Arc::new(Spools::open(data.join("incoming"), body_bytes_max)?);
        let keys = Keys::open(data)?;
        Ok(State { meters: Meters::default(), keys, tickets: Tickets::default(), spools, body_bytes_max })
    }
}

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(answer).with_state(service)
}

async fn answer(FromState(service): FromState<Arc<Service>>, request: Request<Body>) -> Response {
    let began = Instant::now();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (protocol, response) = match Call::read(service.clone(), request) {
        Ok((call, body)) => (call.protocol, dispatch(&call, body).await),
        Err(refusal) => (Protocol::Other, refusal.into_response()),
    };
    let ending = match (reads, response.status()) {
        (true, status) if status.is_success() => Ending::Hit,
        (true, StatusCode::NOT_FOUND) => Ending::Miss,
        (false, status) if status.is_success() => Ending::Done,
        _ => Ending::Refused,
    };
    service.http.meters.answered(protocol, ending, began.elapsed());
    response
}

/// Whose a path is.
fn protocol(segments: &[&str]) -> Protocol {
    match segments {
        ["dav", ..] => Protocol::WebDav,
        [.., "ac" | "cas", _] => Protocol::Bazel,
        [.., "v8", "artifacts"] | [.., "v8", "artifacts", _] => Protocol::Turborepo,
        [.., "v1", "cache", _] => Protocol::Nx,
        [.., "twirp", _, _] | ["github", "blobs", _] => Protocol::GitHub,
        ["paceline", "v1", "caches" | "entries"] => Protocol::Paceline,
        _ => Protocol::Other,
    }
}

async fn dispatch(call: &Call, body: Body) -> Response {
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let answer = match (call.protocol, segments.as_slice()) {
        (Protocol::WebDav, [_, path @ ..]) => webdav::answer(call, path, body).await,
        (Protocol::Bazel, [instance @ .., "ac", hash]) => bazel::result(call, instance, hash, body).await,
        (Protocol::Bazel, [instance @ .., _, hash]) => bazel::content(call, instance, hash, body).await,
        (Protocol::Turborepo, [instance @ .., "v8", "artifacts"]) => {
            Ok(turbo::answer(call, instance, None, body).await)
        }
        (Protocol::Turborepo, [instance @ .., _, _, artifact]) => {
            Ok(turbo::answer(call, instance, Some(artifact), body).await)
        }
        (Protocol::Nx, [instance @ .., _, _, hash]) => nx::answer(call, instance, hash, body).await,
        (Protocol::GitHub, ["github", "blobs", name]) => github::blob(call, name, body).await,
        (Protocol::GitHub, [instance @ .., _, service, method]) => {
            Ok(github::answer(call, instance, (service, method), body).await)
        }
        (Protocol::Paceline, [.., what]) => Ok(own::answer(call, what, body).await),
        (_, path) if call.reads() => status::answer(call, path),
        (_, _) => Err(nobody()),
    };
    answer.unwrap_or_else(Refusal::into_response)
}

fn nobody() -> Refusal {
    Refusal::missing("nobody serves this path; GET / says what is served")
}
