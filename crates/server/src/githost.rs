//! Repositories over git's smart HTTP: mirrors for agents to read, and projects of the server's own for people to push to.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use access::{Action, CredentialKind, On, Shown, Who, may};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge::Mirror;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Shared;
use crate::authentication::{asker, off};
use crate::problem::Problem;
use crate::records::Project;

mod push;

/// Gits that serve at a time; further requests wait.
const GITS_MAX: usize = 32;
/// What a client that fetches says in one request, in bytes: what it has and wants. Git's own limit.
const QUESTION_BYTES_MAX: usize = 10 << 20;
/// The same when it is unpacked.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;
/// Git may be silent for so long (it counts objects of a large repository), and a client as slow.
const SILENT_MAX: Duration = Duration::from_secs(600);
/// Bytes that are passed on at a time.
const CHUNK: usize = 64 << 10;

/// What all requests share.
#[derive(Debug)]
struct House {
    shared: Arc<Shared>,
    gits: Arc<Semaphore>,
}

/// The two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Somebody fetches.
    Upload,
    /// Somebody pushes.
    Receive,
}

impl Service {
    fn of_name(name: &str) -> Option<Service> {
        match name {
            "git-upload-pack" => Some(Service::Upload),
            "git-receive-pack" => Some(Service::Receive),
            _ => None,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Service::Upload => "upload-pack",
            Service::Receive => "receive-pack",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    service: Option<String>,
}

/// `/git/<project>/…`
pub fn routes(shared: Arc<Shared>) -> Router {
    let house = Arc::new(House { shared, gits: Arc::new(Semaphore::new(GITS_MAX)) });
    Router::new().route("/git/{*path}", get(refs).post(serve)).with_state(house)
}

/// Announces what pushes brought before a server that was killed could say it. Blocks; called once before the first push.
pub fn recover(shared: &Shared) {
    push::recover(shared);
}

async fn refs(
    State(house): State<Arc<House>>,
    Path(path): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let name = path.strip_suffix("/info/refs");
    let service = wanted.service.as_deref().and_then(Service::of_name);
    let (Some(name), Some(service)) = (name, service) else {
        return Problem::not_found("only git's smart protocol is spoken here").into_response();
    };
    match advertise(&house, name, service, &headers).await {
        Ok(response) => response,
        Err(problem) => challenged(problem),
    }
}

async fn serve(State(house): State<Arc<House>>, Path(path): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let Some((name, service)) = path.rsplit_once('/').and_then(|(name, last)| Some((name, Service::of_name(last)?)))
    else {
        return Problem::not_found("only git's smart protocol is spoken here").into_response();
    };
    let served = match service {
        Service::Upload => upload(&house, name, &headers, body).await,
        Service::Receive => push::receive(&house, name, &headers, body).await,
    };
    served.unwrap_or_else(challenged)
}

/// The list of refs, or with protocol 2 what the server can.
async fn advertise(house: &House, name: &str, service: Service, headers: &HeaderMap) -> Result<Response, Problem> {
    let (_, mirror) = enter(house, name, service, headers).await?;
    let permit = permit(house).await?;
    let mut command = git(&mirror, headers);
    command.args([service.command(), "--stateless-rpc", "--advertise-refs"]).arg(mirror.path());
    let out = tokio::time::timeout(SILENT_MAX, command.output()).await;
    drop(permit);
    let out = out.map_err(|_| broken("git took too long"))?.map_err(|error| broken(&error))?;
    if !out.status.success() {
        return Err(broken(&String::from_utf8_lossy(&out.stderr)));
    }
    let mut answer = Vec::new();
    if !protocol(headers).is_some_and(|protocol| protocol.contains("version=2") && service == Service::Upload) {
        let line = format!("# service=git-{}\n", service.command());
        answer.extend_from_slice(format!("{:04x}{line}0000", line.len() + 4).as_bytes());
    }
    answer.extend_from_slice(&out.stdout);
    Ok(git_response(service, "advertisement", Body::from(answer)))
}

/// A fetch: the question is read whole, the answer streams.
async fn upload(house: &House, name: &str, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let (_, mirror) = enter(house, name, Service::Upload, headers).await?;
    let question = tokio::time::timeout(SILENT_MAX, Limited::new(body, QUESTION_BYTES_MAX).collect()).await;
    let question = question.map_err(|_| Problem::invalid("the request took too long"))?;
    let question =
        question.map_err(|_| Problem::new("too-large", "the request is too large, or broke off"))?.to_bytes();
    let question = unpacked(headers, question)?;
    let permit = permit(house).await?;
    let mut command = git(&mirror, headers);
    command.args(["upload-pack", "--stateless-rpc"]).arg(mirror.path());
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| broken(&error))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(broken("git has no pipes"));
    };
    tokio::spawn(async move {
        // Git that wants to hear no more has said why.
        let _ = stdin.write_all(&question).await;
    });
    Ok(git_response(Service::Upload, "result", Body::from_stream(answer(child, stdout, permit))))
}

/// What git says, piece by piece. The process ends with the stream.
fn answer(
    child: Child,
    stdout: ChildStdout,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures_util::stream::unfold(Some((child, stdout, permit)), |state| async move {
        let (mut child, mut stdout, permit) = state?;
        let mut chunk = vec![0; CHUNK];
        match tokio::time::timeout(SILENT_MAX, stdout.read(&mut chunk)).await {
            Ok(Ok(0)) => {
                let _ = child.wait().await;
                None
            }
            Ok(Ok(read)) => {
                chunk.truncate(read);
                Some((Ok(Bytes::from(chunk)), Some((child, stdout, permit))))
            }
            Ok(Err(error)) => Some((Err(error), None)),
            Err(_) => Some((Err(std::io::Error::from(std::io::ErrorKind::TimedOut)), None)),
        }
    })
    .boxed()
}

/// The project and its repository, if whoever asks may do this to it.
async fn enter(house: &House, name: &str, service: Service, headers: &HeaderMap) -> Result<(Project, Mirror), Problem> {
    let caller = caller(&house.shared, headers).await?;
    let name = name.strip_suffix(".git").unwrap_or(name).to_owned();
    let shared = house.shared.clone();
    off(move || {
        let kept = shared.store.record::<Project>(&name)?;
        let public = kept.as_ref().is_some_and(|kept| kept.value.public);
        match &caller {
            Caller::Agent if service == Service::Upload => {}
            Caller::Agent => return Err(Problem::new("denied", "an agent does not push")),
            Caller::Somebody(who) => {
                let action = if service == Service::Upload { Action::SeeProject } else { Action::Trigger };
                may(who, action, On::Project { name: &name, public })?;
            }
        }
        let project = kept.ok_or_else(|| Problem::not_found("there is no such project"))?.value;
        let mirror = shared.sources.repository(&project)?.mirror;
        if service == Service::Receive && !mirror.is_hosted() {
            let place = &project.repository;
            return Err(Problem::new("denied", format!("this is a mirror; push to {place}, from where it is fetched")));
        }
        Ok((project, mirror))
    })
    .await
}

/// Who asks.
enum Caller {
    /// An agent: reads everything that it may be given to build.
    Agent,
    /// A person, a token, or nobody in particular.
    Somebody(Box<Who>),
}

async fn caller(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Caller, Problem> {
    let Some(secret) = secret(headers) else { return Ok(Caller::Somebody(Box::new(Who::anonymous()))) };
    if Shown::read(&secret).is_some_and(|shown| shown.kind == CredentialKind::Agent) {
        let shared = shared.clone();
        let known = off(move || Ok(shared.hub.agent_of(&secret))).await?;
        return match known {
            Ok(_) => Ok(Caller::Agent),
            Err(status) if status.code() == tonic::Code::Unavailable => {
                Err(Problem::new("unavailable", status.message()))
            }
            Err(status) => Err(Problem::new("signed-out", status.message())),
        };
    }
    let bearer = HeaderValue::from_str(&format!("Bearer {secret}"));
    let bearer = bearer.map_err(|_| Problem::new("signed-out", "this token has characters that no token has"))?;
    let only = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
    Ok(Caller::Somebody(Box::new(asker(shared, &only).await?.who)))
}

/// The token: the password, or the user when there is no password, as people give tokens to git.
fn secret(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    let pair = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
    let (user, password) = pair.split_once(':')?;
    let is_filler = password.is_empty() || password == "x-oauth-basic";
    Some(if is_filler { user } else { password }.to_owned())
}

async fn permit(house: &House) -> Result<OwnedSemaphorePermit, Problem> {
    match tokio::time::timeout(SILENT_MAX, house.gits.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::new("unavailable", "too many clones at the moment; try again")),
    }
}

fn git(mirror: &Mirror, headers: &HeaderMap) -> Command {
    let mut command = Command::from(mirror.program().command());
    if let Some(protocol) = protocol(headers) {
        command.env("GIT_PROTOCOL", protocol);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Which protocol the client speaks; only what git itself would say.
fn protocol(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("git-protocol")?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=:-".contains(&byte);
    (value.len() <= 64 && value.bytes().all(plain)).then_some(value)
}

/// Git packs long questions.
fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Problem> {
    let packed = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    match packed {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip" | b"x-gzip") => {
            let mut plain = Vec::new();
            let reader = flate2::read::GzDecoder::new(&*body);
            let read = reader.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut plain);
            match read {
                Ok(length) if length as u64 <= UNPACKED_BYTES_MAX => Ok(plain.into()),
                _ => Err(Problem::invalid("the request does not unpack, or to too much")),
            }
        }
        Some(_) => Err(Problem::invalid("the request is packed in a way that is not known")),
    }
}

fn git_response(service: Service, what: &str, body: Body) -> Response {
    let kind = format!("application/x-git-{}-{what}", service.command());
    let told = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache".to_owned())];
    (StatusCode::OK, told, body).into_response()
}

/// Git asks for a password when it is told to.
fn challenged(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"paceline\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

fn broken(why: &(impl ToString + ?Sized)) -> Problem {
    let why: String = why.to_string().chars().filter(|c| !c.is_control()).take(500).collect();
    tracing::warn!("git does not serve: {why}");
    Problem::new("unavailable", format!("git does not serve: {why}"))
}
