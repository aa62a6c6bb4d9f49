//! Artifacts: what they are, and their content.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use model::{Digest, RunId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller};
use super::shape::{ArtifactAsked, ArtifactShape};
use super::{attachment, tar};
use crate::Shared;
use crate::authentication::off;
use crate::problem::Problem;
use crate::verbs::{self, Artifact};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list_artifacts)).routes(routes!(read_artifact))
}

/// Artifacts of a run
#[utoipa::path(get, path = "/runs/{run}/artifacts", tag = "artifacts", responses((status = 200, body = Vec<ArtifactShape>)))]
async fn list_artifacts(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(run): At<String>,
) -> Result<Json<Vec<ArtifactShape>>, Problem> {
    let made = verbs::artifacts(&shared, &asker.who, &RunId::new(run)).await?;
    Ok(Json(made.into_iter().map(ArtifactShape::of).collect()))
}

/// The content of an artifact: a single file as it is, several as a tar archive
#[utoipa::path(get, path = "/runs/{run}/artifacts/{name}", tag = "artifacts", params(ArtifactAsked),
    responses((status = 200, content_type = "application/octet-stream", body = [u8])))]
async fn read_artifact(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At((run, name)): At<(String, String)>,
    Asked(asked): Asked<ArtifactAsked>,
) -> Result<Response, Problem> {
    let made = verbs::artifacts(&shared, &asker.who, &RunId::new(run)).await?;
    let mut fitting = made
        .into_iter()
        .filter(|made| made.artifact.name == name && (asked.step.is_empty() || made.step == asked.step));
    let chosen = fitting.next().ok_or_else(|| Problem::not_found("the run has no artifact of this name"))?;
    let files = chosen.artifact.files.iter().filter(|(path, ..)| asked.path.is_empty() || *path == asked.path);
    let files: Vec<(String, Digest, bool)> = files.cloned().collect();
    match files.as_slice() {
        [] => Err(Problem::not_found("the artifact has no such file")),
        [(path, digest, _)] => one(shared, &file_name(&chosen, path), *digest).await,
        _ => Ok(several(shared, &name, files)),
    }
}

fn file_name(made: &Artifact, path: &str) -> String {
    let path = if path.is_empty() { &made.artifact.path } else { path };
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

async fn one(shared: Arc<Shared>, name: &str, digest: Digest) -> Result<Response, Problem> {
    let file = off(move || open(&shared, &digest)).await?;
    Ok(download(name, "application/octet-stream", Some(digest.size), Body::from_stream(unfold(Some(file), next_piece))))
}

fn several(shared: Arc<Shared>, name: &str, files: Vec<(String, Digest, bool)>) -> Response {
    let state = Packing { shared, rest: files.into(), open: None, ended: false };
    let body = Body::from_stream(unfold(Some(state), |state| async move {
        let state = state?;
        // One thread for a piece: what is read is what is sent.
        let piece = off(move || {
            let mut state = state;
            let piece = state.piece()?;
            Ok((state, piece))
        });
        match piece.await {
            Ok((_, piece)) if piece.is_empty() => None,
            Ok((state, piece)) => Some((Ok(Bytes::from(piece)), Some(state))),
            Err(problem) => Some((Err(std::io::Error::other(problem.detail)), None)),
        }
    }));
    download(&format!("{name}.tar"), "application/x-tar", None, body)
}

struct Packing {
    shared: Arc<Shared>,
    rest: std::collections::VecDeque<(String, Digest, bool)>,
    open: Option<(File, u64)>,
    ended: bool,
}

impl Packing {
    /// The next bytes of the archive; empty at its end.
    fn piece(&mut self) -> Result<Vec<u8>, Problem> {
        if let Some((mut file, size)) = self.open.take() {
            let bytes = read(&mut file)?;
            if !bytes.is_empty() {
                self.open = Some((file, size));
                return Ok(bytes);
            }
            let padding = tar::padding(size);
            if !padding.is_empty() {
                return Ok(padding);
            }
        }
        match self.rest.pop_front() {
            Some((path, digest, executable)) => {
                self.open = Some((open(&self.shared, &digest)?, digest.size));
                Ok(tar::header(&path, digest.size, executable))
            }
            None if self.ended => Ok(Vec::new()),
            None => {
                self.ended = true;
                Ok(tar::end())
            }
        }
    }
}

fn open(shared: &Shared, digest: &Digest) -> Result<File, Problem> {
    shared.hub.archive().open(digest).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found("the content of this artifact is not kept any more"),
        _ => Problem::new("unavailable", format!("the artifact cannot be read: {error}")),
    })
}

fn read(file: &mut File) -> Result<Vec<u8>, Problem> {
    let mut bytes = vec![0; PIECE];
    let read = file
        .read(&mut bytes)
        .map_err(|error| Problem::new("unavailable", format!("the artifact cannot be read: {error}")))?;
    bytes.truncate(read);
    Ok(bytes)
}

async fn next_piece(file: Option<File>) -> Option<(std::io::Result<Bytes>, Option<File>)> {
    let mut file = file?;
    let done = off(move || {
        let bytes = read(&mut file)?;
        Ok((file, bytes))
    });
    match done.await {
        Ok((_, bytes)) if bytes.is_empty() => None,
        Ok((file, bytes)) => Some((Ok(bytes.into()), Some(file))),
        Err(problem) => Some((Err(std::io::Error::other(problem.detail)), None)),
    }
}

/// Always as a file: what a step wrote must not be a page of this server.
fn download(name: &str, kind: &'static str, length: Option<u64>, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, attachment(name));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
