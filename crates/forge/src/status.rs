//! What a forge is told about a commit: one request, made from values. Who sends it, and how often, is not known here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Kind;
use crate::git::{Address, is_commit};

/// Length of a description in characters; GitHub takes 140.
const DESCRIPTION_MAX: usize = 140;
/// Length of Bitbucket's key of a status in characters.
const BITBUCKET_KEY_MAX: usize = 40;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// It passed, or there was nothing to do.
    Success,
    /// It failed.
    Failure,
    /// Something around it failed.
    Error,
    /// It was stopped.
    Cancelled,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// How it stands.
    pub state: State,
    /// What the forge lists it under, and branch rules require: `paceline/build`.
    pub context: &'a str,
    /// A short sentence.
    pub description: &'a str,
    /// Where it leads.
    pub url: &'a str,
}

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The kind of forge.
    pub kind: Kind,
    /// Its API, without a slash at the end.
    pub api: &'a str,
    /// The repository: `owner/name`.
    pub name: &'a str,
    /// A token, or `user:password`.
    pub credential: &'a str,
}

/// A request to send. Its headers hold the credential, so it is not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Always by POST.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// Why there is no such request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Nothing takes statuses there.
    #[error("{0} takes no statuses")]
    NoForge(Kind),
    /// Something is missing or wrong in the project's settings.
    #[error("the project's {0}")]
    Setting(String),
}

/// The request that tells a forge how a commit stands.
///
/// # Errors
/// The forge takes none, or the settings do not say where.
pub fn request(target: Target<'_>, commit: &str, status: &Status<'_>) -> Result<Request, StatusError> {
    let setting = |what: &str| Err(StatusError::Setting(what.into()));
    if !target.api.starts_with("https://") && !target.api.starts_with("http://") {
        return setting("forge API is no address: set it, like https://git.example.com/api/v1");
    }
    if !is_name(target.name) {
        return setting("name at the forge is not `owner/name`");
    }
    if !is_commit(commit) {
        return setting("commit is no full id");
    }
    if target.credential.is_empty() {
        return setting("credential is empty: statuses need a token");
    }
    let short: String = status.description.chars().take(DESCRIPTION_MAX).collect();
    let (path, body) = match target.kind {
        Kind::GitHub if is_app(target.credential) => {
            (format!("/repos/{}/check-runs", target.name), check_run(commit, status))
        }
        Kind::GitHub | Kind::Gitea => {
            let state = match status.state {
                State::Queued | State::Running => "pending",
                State::Success => "success",
                State::Failure => "failure",
                State::Error | State::Cancelled => "error",
            };
            let body =
                json!({ "state": state, "context": status.context, "description": short, "target_url": status.url });
            (format!("/repos/{}/statuses/{commit}", target.name), body)
        }
        Kind::GitLab => {
            let state = match status.state {
                State::Queued => "pending",
                State::Running => "running",
                State::Success => "success",
                State::Failure | State::Error => "failed",
                State::Cancelled => "canceled",
            };
            let body =
                json!({ "state": state, "name": status.context, "description": short, "target_url": status.url });
            (format!("/projects/{}/statuses/{commit}", target.name.replace('/', "%2F")), body)
        }
        Kind::Bitbucket => bitbucket(target, commit, status, &short),
        kind @ (Kind::Generic | Kind::Git) => return Err(StatusError::NoForge(kind)),
    };
    let mut headers = vec![("content-type", "application/json".to_owned()), authorization(target)];
    if target.kind == Kind::GitHub {
        headers.push(("accept", "application/vnd.github+json".to_owned()));
        headers.push(("x-github-api-version", "2022-11-28".to_owned()));
    }
    Ok(Request { url: format!("{}{path}", target.api), headers, body: body.to_string().into_bytes() })
}

/// Token of an installation of a GitHub App: only these may write check runs.
fn is_app(credential: &str) -> bool {
    credential.starts_with("ghs_")
}

fn check_run(commit: &str, status: &Status<'_>) -> Value {
    let mut body = json!({
        "name": status.context,
        "head_sha": commit,
        "details_url": status.url,
        "output": { "title": status.description, "summary": format!("{}\n\n{}", status.description, status.url) },
    });
    let (stands, conclusion) = match status.state {
        State::Queued => ("queued", None),
        State::Running => ("in_progress", None),
        State::Success => ("completed", Some("success")),
        State::Failure | State::Error => ("completed", Some("failure")),
        State::Cancelled => ("completed", Some("cancelled")),
    };
    body["status"] = stands.into();
    if let Some(conclusion) = conclusion {
        body["conclusion"] = conclusion.into();
    }
    body
}

/// The Cloud and the Data Center take the same words at different places.
fn bitbucket(target: Target<'_>, commit: &str, status: &Status<'_>, description: &str) -> (String, Value) {
    let state = match status.state {
        State::Queued | State::Running => "INPROGRESS",
        State::Success => "SUCCESSFUL",
        State::Failure | State::Error => "FAILED",
        State::Cancelled => "STOPPED",
    };
    let is_cloud = target.api.contains("api.bitbucket.org");
    let path = match is_cloud {
        true => format!("/repositories/{}/commit/{commit}/statuses/build", target.name),
        false => format!("/build-status/1.0/commits/{commit}"),
    };
    // `STOPPED` is the Cloud's word alone.
    let state = if is_cloud || state != "STOPPED" { state } else { "FAILED" };
    let key: String = match status.context.chars().count() > BITBUCKET_KEY_MAX {
        true => crate::verify::hash(status.context.as_bytes()).chars().take(BITBUCKET_KEY_MAX).collect(),
        false => status.context.to_owned(),
    };
    let body =
        json!({ "state": state, "key": key, "name": status.context, "description": description, "url": status.url });
    (path, body)
}

fn authorization(target: Target<'_>) -> (&'static str, String) {
    let credential = target.credential;
    match (target.kind, credential.split_once(':')) {
        (Kind::GitLab, pair) => ("private-token", pair.map_or(credential, |(_, token)| token).to_owned()),
        (_, Some(_)) => ("authorization", format!("Basic {}", STANDARD.encode(credential))),
        (Kind::Gitea, None) => ("authorization", format!("token {credential}")),
        (_, None) => ("authorization", format!("Bearer {credential}")),
    }
}

/// `owner/name`, with subgroups for GitLab.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    };
    name.contains('/') && name.len() <= 512 && name.split('/').all(plain)
}

/// Where the API of a repository's forge usually is.
pub fn api_of(kind: Kind, repository: &str) -> Option<String> {
    let Ok(address) = Address::parse(repository) else { return None };
    let name = address.host()?;
    // A port belongs to HTTP only when the repository is fetched by HTTP.
    let (scheme, host) = match &address {
        Address::Http { scheme, host, .. } => (scheme.as_str(), host.as_str()),
        _ => ("https", name),
    };
    Some(match kind {
        Kind::GitHub if name == "github.com" => "https://api.github.com".to_owned(),
        Kind::GitHub => format!("{scheme}://{host}/api/v3"),
        Kind::GitLab => format!("{scheme}://{host}/api/v4"),
        Kind::Gitea => format!("{scheme}://{host}/api/v1"),
        Kind::Bitbucket if name == "bitbucket.org" => "https://api.bitbucket.org/2.0".to_owned(),
        Kind::Bitbucket => format!("{scheme}://{host}/rest"),
        Kind::Generic | Kind::Git => return None,
    })
}

/// The repository's name at its forge: the path of its address.
pub fn name_of(repository: &str) -> Option<String> {
    let address = Address::parse(repository).ok()?;
    address.host()?;
    let text = address.text();
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => text.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    // Data Center's addresses of repositories over HTTP.
    let path = path.strip_prefix("scm/").unwrap_or(path);
    is_name(path).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State) -> Status<'static> {
        Status { state, context: "paceline/build", description: "all green", url: "https://ci/p/web/-/runs/1" }
    }

    fn sent(kind: Kind, credential: &str, state: State) -> (String, Value, Vec<(&'static str, String)>) {
        let target = Target { kind, api: "https://api.example.com", name: "team/web", credential };
        let request = request(target, &"a".repeat(40), &status(state)).unwrap();
        (request.url, serde_json::from_slice(&request.body).unwrap(), request.headers)
    }

    #[test]
    fn each_forge_is_told_in_its_own_words() {
        let commit = "a".repeat(40);
        let (url, body, headers) = sent(Kind::GitHub, "ghp_x", State::Running);
        assert_eq!(url, format!("https://api.example.com/repos/team/web/statuses/{commit}"));
        assert_eq!((body["state"].as_str(), body["context"].as_str()), (Some("pending"), Some("paceline/build")));
        assert!(headers.contains(&("authorization", "Bearer ghp_x".into())));
        let (url, body, headers) = sent(Kind::GitLab, "oauth2:glpat", State::Failure);
        assert_eq!(url, format!("https://api.example.com/projects/team%2Fweb/statuses/{commit}"));
        assert_eq!((body["state"].as_str(), body["name"].as_str()), (Some("failed"), Some("paceline/build")));
        assert!(headers.contains(&("private-token", "glpat".into())));
        let (_, body, headers) = sent(Kind::Gitea, "x", State::Success);
        assert_eq!(body["state"].as_str(), Some("success"));
        assert!(headers.contains(&("authorization", "token x".into())));
        let (url, body, _) = sent(Kind::Bitbucket, "x", State::Cancelled);
        assert_eq!(
            (url.as_str(), body["state"].as_str()),
            (&*format!("https://api.example.com/build-status/1.0/commits/{commit}"), Some("FAILED"))
        );
    }

    #[test]
    fn an_app_of_github_writes_check_runs() {
        let (url, body, _) = sent(Kind::GitHub, "ghs_x", State::Running);
        assert_eq!(url, "https://api.example.com/repos/team/web/check-runs");
        assert_eq!((body["status"].as_str(), body.get("conclusion")), (Some("in_progress"), None));
        let (_, body, _) = sent(Kind::GitHub, "ghs_x", State::Success);
        assert_eq!((body["status"].as_str(), body["conclusion"].as_str()), (Some("completed"), Some("success")));
    }

    #[test]
    fn api_and_name_follow_from_the_repository() {
        for (kind, repository, api, name) in [
            (Kind::GitHub, "git@github.com:team/web.git", "https://api.github.com", "team/web"),
            (Kind::GitHub, "https://ghe.example/team/web", "https://ghe.example/api/v3", "team/web"),
            (Kind::GitLab, "ssh://git@gl.example:2222/a/b/c.git", "https://gl.example/api/v4", "a/b/c"),
            (Kind::Gitea, "http://127.0.0.1:3000/team/web", "http://127.0.0.1:3000/api/v1", "team/web"),
            (Kind::Bitbucket, "https://bitbucket.org/team/web", "https://api.bitbucket.org/2.0", "team/web"),
        ] {
            assert_eq!(api_of(kind, repository).as_deref(), Some(api));
            assert_eq!(name_of(repository).as_deref(), Some(name));
        }
        assert_eq!((api_of(Kind::Gitea, "/srv/git/x"), name_of("/srv/git/x")), (None, None));
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in ["team", "../x", "team/../x", "a/b?x", "a/b#c", "a b/c"] {
            let target = Target { kind: Kind::GitHub, api: "https://x", name, credential: "t" };
            assert!(request(target, &"a".repeat(40), &status(State::Success)).is_err(), "{name}");
        }
    }
}
