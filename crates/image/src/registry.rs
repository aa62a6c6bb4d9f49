//! A registry over HTTP: the OCI distribution protocol, as a client.

mod challenge;
mod download;
mod http;
mod upload;

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::Mutex;

use crate::credentials::{Credential, Credentials};
use crate::document::{ACCEPTED, MANIFEST_BYTES_MAX};
use crate::error::Refusal;
use crate::{ImageError, Name, Sum};

pub(crate) use self::http::Stop;
use self::http::{Answer, Ask, Body, Http};

/// Talks to registries, remembering what they said about who we are.
#[derive(Debug)]
pub(crate) struct Registry {
    http: Http,
    credentials: Credentials,
    insecure: BTreeSet<String>,
    /// The `Authorization` header by registry and what it is for. Several layers are fetched at once, hence the lock.
    headers: Mutex<HashMap<(String, String), String>>,
}

/// What we want to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Pull,
    Push,
}

/// A manifest or an index with the type that the registry gave it.
pub(crate) struct Fetched {
    pub bytes: Vec<u8>,
    pub sum: Sum,
}

impl Registry {
    pub fn new(credentials: Credentials, insecure: BTreeSet<String>) -> Registry {
        Registry { http: Http::new(), credentials, insecure, headers: Mutex::default() }
    }

    /// The manifest or index that a name stands for; when a sum is known it has that sum.
    pub fn manifest(&self, name: &Name, version: &str, stop: Stop<'_>) -> Result<Fetched, ImageError> {
        let act = format!("fetch the manifest of {}/{} {version}", name.registry, name.repository);
        let accept = ACCEPTED.join(", ");
        let path = format!("manifests/{version}");
        let ask = Ask::new("GET", self.address(name, &path)).header("accept", &accept);
        let bytes = self.http.persist(&act, stop, || {
            let answer = self.ask(name, Want::Pull, &ask, &act)?.expect(&[200], &act)?;
            answer.bytes(MANIFEST_BYTES_MAX as u64, &act)
        })?;
        let sum = Sum::of(&bytes);
        match Sum::parse(version) {
            Some(expected) if expected != sum => Err(ImageError::Mismatch {
                what: format!("the manifest of {name}"),
                expected: expected.to_string(),
                found: sum.to_string(),
            }),
            _ => Ok(Fetched { bytes, sum }),
        }
    }

    fn address(&self, name: &Name, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base(name.host()), name.repository)
    }

    /// Without encryption only to this very machine and to whom the user named.
    fn base(&self, host: &str) -> String {
        let plain = http::is_loopback(host) || self.insecure.contains(host);
        format!("{}://{host}", if plain { "http" } else { "https" })
    }

    /// Asks as who we are, which we may have to find out first.
    fn ask(&self, name: &Name, want: Want, ask: &Ask<'_>, act: &str) -> Result<Answer, ImageError> {
        let key = (name.registry.clone(), scope(name, want));
        let known = self.known(&key);
        let answer = self.send(name, ask, known.as_deref(), act)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let header = self.introduce(name, want, &answer, act)?;
        if known.as_ref() == Some(&header) {
            return Ok(answer);
        }
        self.headers.lock().unwrap_or_else(|poison| poison.into_inner()).insert(key, header.clone());
        self.send(name, ask, Some(&header), act)
    }

    fn known(&self, key: &(String, String)) -> Option<String> {
        self.headers.lock().unwrap_or_else(|poison| poison.into_inner()).get(key).cloned()
    }

    /// Follows redirects: the header of this registry goes to this registry only.
    fn send(&self, name: &Name, ask: &Ask<'_>, header: Option<&str>, act: &str) -> Result<Answer, ImageError> {
        let home = self.base(name.host());
        let mut address = ask.address.clone();
        for _ in 0..=http::REDIRECTS_MAX {
            let at_home = address.strip_prefix(&home).is_some_and(|rest| rest.starts_with('/'));
            let answer = self.http.once(ask, &address, header.filter(|_| at_home), act)?;
            let redirected = matches!(answer.status, 301 | 302 | 303 | 307 | 308) && matches!(ask.body, Body::None);
            let Some(location) = answer.header("location").filter(|_| redirected) else { return Ok(answer) };
            let next = http::join(&address, location);
            let next = next.ok_or_else(|| http::refused(act, "it redirects to what is no address", Refusal::Broken))?;
            if next.starts_with("http://") && address.starts_with("https://") {
                return Err(http::refused(act, "it redirects to an address without encryption", Refusal::Broken));
            }
            address = next;
        }
        Err(http::refused(act, "it redirects in a circle", Refusal::Broken))
    }

    /// Answers the question who we are.
    fn introduce(&self, name: &Name, want: Want, answer: &Answer, act: &str) -> Result<String, ImageError> {
        let credential = self.credentials.of(name)?;
        let challenge = answer.header("www-authenticate").and_then(challenge::parse);
        match challenge {
            Some(challenge::Challenge::Basic) => challenge::basic(&credential)
                .ok_or_else(|| http::refused(act, "the registry wants a password, and none is known", Refusal::Denied)),
            Some(challenge::Challenge::Bearer { realm, service, scope: asked }) => {
                let realm = http::join(&realm, &realm)
                    .ok_or_else(|| http::refused(act, "its token server has no address", Refusal::Broken))?;
                let plain = realm.starts_with("http://");
                let plain_is_fine = self.insecure.contains(name.host()) || http::is_loopback(http::host_of(&realm));
                if !realm.starts_with("https://") && (!plain || !plain_is_fine) {
                    return Err(http::refused(act, "its token server is without encryption", Refusal::Broken));
                }
                let scope = asked.filter(|asked| want == Want::Pull && asked.starts_with("repository:"));
                let scope = scope.unwrap_or_else(|| crate::registry::scope(name, want));
                self.token(&credential, &realm, service.as_deref(), &scope, act)
            }
            None => Err(http::refused(act, "it refuses us without saying what it wants", Refusal::Denied)),
        }
    }

    fn token(
        &self,
        credential: &Credential,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        act: &str,
    ) -> Result<String, ImageError> {
        let service = service.map(|service| format!("service={}&", http::encoded(service))).unwrap_or_default();
        let query = format!("{service}scope={}", http::encoded(scope));
        let form;
        let (ask, header) = match credential {
            Credential::Identity(token) => {
                form = format!(
                    "grant_type=refresh_token&client_id=paceline&{query}&refresh_token={}",
                    http::encoded(token)
                );
                let ask =
                    Ask::new("POST", realm.to_owned()).header("content-type", "application/x-www-form-urlencoded");
                (ask.body(Body::Bytes(form.as_bytes())), None)
            }
            credential => {
                let mark = if realm.contains('?') { '&' } else { '?' };
                (Ask::new("GET", format!("{realm}{mark}{query}")), challenge::basic(credential))
            }
        };
        let answer = self.http.once(&ask, &ask.address, header.as_deref(), act)?;
        let answer = answer.expect(&[200], act)?;
        let bytes = answer.bytes(1 << 20, act)?;
        challenge::token(&bytes).ok_or_else(|| http::refused(act, "the token server gave no token", Refusal::Broken))
    }
}

fn scope(name: &Name, want: Want) -> String {
    let actions = if want == Want::Push { "pull,push" } else { "pull" };
    format!("repository:{}:{actions}", name.repository)
}

/// At most `bytes_max` of a stream; `None` if it has more.
pub(crate) fn read_at_most(stream: impl Read, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    stream.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}
