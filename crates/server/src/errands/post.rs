//! One request to somebody else's server, and what its answer means.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// For a whole request: a forge that is slower is asked again later.
const TIME: Duration = Duration::from_secs(30);
/// What is read of a refusal, in bytes.
const SAID_BYTES_MAX: u64 = 1024;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Poster(Agent);

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was taken.
    Taken,
    /// It may be taken later; why not now.
    Later(String),
    /// It will never be taken; why not.
    Refused(String),
}

impl Poster {
    pub(crate) fn new() -> Poster {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // A token goes to the server that was named, and to no other.
            .max_redirects(0)
            .timeout_global(Some(TIME))
            .user_agent(concat!("paceline/", env!("CARGO_PKG_VERSION")))
            .build();
        Poster(config.into())
    }

    /// Posts a body.
    pub(crate) fn post(&self, url: &str, headers: &[(&'static str, String)], body: &[u8]) -> Sent {
        let mut request = self.0.post(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            // A header or an address that is none does not become one.
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => return Sent::Refused(error.to_string()),
            Err(error) => return Sent::Later(format!("{}: {error}", host(url))),
        };
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Sent::Taken;
        }
        let told = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        // GitHub says 403 when it means "too often".
        let too_often = told("retry-after").is_some() || told("x-ratelimit-remaining") == Some("0");
        let mut said = String::new();
        // What it says is only an explanation.
        let _ = response.body_mut().as_reader().take(SAID_BYTES_MAX).read_to_string(&mut said);
        let said: String = said.chars().filter(|c| !c.is_control()).collect();
        let why = format!("{} says {status}: {said}", host(url));
        match status {
            408 | 425 | 429 | 500.. => Sent::Later(why),
            403 if too_often => Sent::Later(why),
            _ => Sent::Refused(why),
        }
    }
}

/// The host alone: the path of a webhook is often its secret.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
