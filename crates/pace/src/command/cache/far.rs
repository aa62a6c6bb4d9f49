//! The server of a cache, asked over HTTP.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body};

use crate::exit::Failure;

/// Length of an answer in bytes: ten thousand entries are some 3 MB.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// How long the server may say nothing; long work says how far it is more often.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Where the token is when nobody says otherwise.
const TOKEN_ENV: &str = "PACE_CACHE_TOKEN";

/// The server of a cache.
pub struct Far {
    agent: Agent,
    url: String,
    token: Option<String>,
}

impl Far {
    /// Prepares to ask.
    pub fn new(url: &str, token_env: Option<&str>, ca: Option<&Path>) -> Result<Far, Failure> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::usage(format!("--url {url}: it starts with neither http:// nor https://")));
        }
        let token = std::env::var(token_env.unwrap_or(TOKEN_ENV)).ok().filter(|token| !token.is_empty());
        if let (Some(name), None) = (token_env, &token) {
            return Err(Failure::usage(format!("--token-env {name}: this variable is not set")));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(roots(ca)?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // A token goes to the server that was named, and to no other.
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .build();
        Ok(Far { agent: config.into(), url: url.trim_end_matches('/').to_owned(), token })
    }

    /// One question, one answer.
    pub fn ask(&self, method: &str, what: &str) -> Result<Value, Failure> {
        let mut text = String::new();
        let read = self.send(method, what)?.into_reader().take(ANSWER_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.failed(&error))?;
        serde_json::from_str(&text).map_err(|error| self.failed(&error))
    }

    /// Long work, told line by line; returns the last one.
    pub fn follow(&self, what: &str, mut told: impl FnMut(&Value)) -> Result<Value, Failure> {
        let mut lines = BufReader::new(self.send("POST", what)?.into_reader()).take(ANSWER_BYTES_MAX);
        let mut last = None;
        let mut line = String::new();
        while lines.read_line(&mut line).map_err(|error| self.failed(&error))? > 0 {
            let value: Value = serde_json::from_str(&line).map_err(|error| self.failed(&error))?;
            told(&value);
            last = Some(value);
            line.clear();
        }
        match last {
            Some(last) if last["error"].is_string() => Err(self.failed(&last["error"].as_str().unwrap_or_default())),
            Some(last) if last["bytes_done"].is_null() => Ok(last),
            _ => Err(self.failed(&"it ended in the middle of its answer")),
        }
    }

    fn send(&self, method: &str, what: &str) -> Result<Body, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}/paceline/v1/{what}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|error| Failure::usage(format!("--url {}: {error}", self.url)))?;
        let (parts, mut body) = self.agent.run(request).map_err(|error| self.failed(&error))?.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let mut said = String::new();
        // What it says is only an explanation.
        let _ = body.as_reader().take(4096).read_to_string(&mut said);
        let said: String = said.chars().filter(|c| !c.is_control()).collect();
        Err(Failure::refused(format!("{} says {}: {said}", self.url, parts.status)))
    }

    fn failed(&self, error: &impl ToString) -> Failure {
        Failure::infrastructure(format!("cannot ask {}: {}", self.url, error.to_string()))
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCerts, Failure> {
    let Some(path) = ca else { return Ok(RootCerts::PlatformVerifier) };
    let unusable = |why: &dyn std::fmt::Display| Failure::usage(format!("--ca {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(unusable(&"there is no certificate in it; it must be PEM")),
        false => Ok(RootCerts::Specific(Arc::new(certificates))),
    }
}

/// A value of a query.
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_cannot_have_is_escaped() {
        assert_eq!(escaped("ci main/1&x=ä"), "ci%20main%2F1%26x%3D%C3%A4");
    }
}
