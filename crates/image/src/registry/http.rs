//! One request at a time over HTTP: bounded, with deadlines, repeated when it was nobody's fault.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{self, HeaderMap};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, SendBody};

use super::read_at_most;
use crate::ImageError;
use crate::document::printable;
use crate::error::Refusal;

/// Addresses that send us on to another.
pub(super) const REDIRECTS_MAX: u32 = 8;
/// How long a registry may think, or be silent in the middle of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Tries of one request.
const TRIES_MAX: u32 = 5;
/// The first wait between two tries; each one is twice as long as the one before.
const WAIT_FIRST: Duration = Duration::from_millis(300);
/// The longest wait that a registry may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Whether the caller asks to stop.
pub(crate) type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// One request.
pub(super) struct Ask<'a> {
    pub method: &'static str,
    pub address: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body<'a>,
}

/// What is sent with it.
pub(super) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes of a file, which is opened for each try.
    Blob(&'a dyn Fn() -> Result<File, ImageError>, u64),
}

impl<'a> Ask<'a> {
    pub fn new(method: &'static str, address: String) -> Ask<'a> {
        Ask { method, address, headers: Vec::new(), body: Body::None }
    }
    pub fn header(mut self, name: &'static str, value: &str) -> Ask<'a> {
        self.headers.push((name, value.to_owned()));
        self
    }
    pub fn body(mut self, body: Body<'a>) -> Ask<'a> {
        self.body = body;
        self
    }
}

/// What came back. Its content is read when it is asked for.
pub(super) struct Answer {
    pub status: u16,
    headers: HeaderMap,
    body: ureq::Body,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
    /// The content as a stream; the caller bounds it.
    pub fn into_reader(self) -> impl Read + Send + use<> {
        self.body.into_with_config().limit(u64::MAX).reader()
    }
    /// The whole content.
    pub fn bytes(self, bytes_max: u64, act: &str) -> Result<Vec<u8>, ImageError> {
        let read = read_at_most(self.into_reader(), bytes_max);
        let read = read.map_err(|error| refused(act, &broken_off(&error), Refusal::Unreachable))?;
        read.ok_or_else(|| ImageError::TooLarge {
            what: format!("the answer to “{act}”"),
            bound: format!("{bytes_max} bytes"),
        })
    }
    /// This answer if its status is one of these; else what the registry says is wrong.
    pub fn expect(self, good: &[u16], act: &str) -> Result<Answer, ImageError> {
        if good.contains(&self.status) {
            return Ok(self);
        }
        let wait = self.header("retry-after").and_then(|after| after.parse().ok()).map(Duration::from_secs);
        let status = self.status;
        let refusal = match status {
            401 | 403 => Refusal::Denied,
            404 => Refusal::Absent,
            408 | 429 | 500..=599 => Refusal::Busy { wait },
            _ => Refusal::Broken,
        };
        let said = read_at_most(self.into_reader(), 64 << 10).ok().flatten().map(|said| complaint(&said));
        let said = said.filter(|said| !said.is_empty()).map(|said| format!(" ({said})")).unwrap_or_default();
        Err(refused(act, &format!("the registry answers {status}{said}"), refusal))
    }
}

/// What registries say in their JSON errors.
fn complaint(said: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Said { errors }) = serde_json::from_slice(said) else { return String::new() };
    let first = errors.into_iter().next();
    first.map_or_else(String::new, |one| printable(&format!("{}: {}", one.code, one.message)))
}

/// The connections.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
}

impl Http {
    pub fn new() -> Http {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // Ours: where a header may go is decided by us.
            .max_redirects(0)
            .timeout_resolve(Some(SILENCE_MAX))
            .timeout_connect(Some(SILENCE_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .timeout_per_write(Some(SILENCE_MAX))
            .user_agent(concat!("paceline/", env!("CARGO_PKG_VERSION")))
            .build();
        Http { agent: config.into() }
    }

    /// One request, whatever comes back.
    pub fn once(
        &self,
        ask: &Ask<'_>,
        address: &str,
        authorization: Option<&str>,
        act: &str,
    ) -> Result<Answer, ImageError> {
        let mut request = http::Request::builder().method(ask.method).uri(address);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        match ask.body {
            Body::None => self.run(request, SendBody::none(), address, act),
            Body::Bytes(mut bytes) => {
                request = request.header("content-length", bytes.len());
                self.run(request, SendBody::from_reader(&mut bytes), address, act)
            }
            Body::Blob(open, size) => {
                request = request.header("content-length", size);
                let mut file = open()?.take(size);
                self.run(request, SendBody::from_reader(&mut file), address, act)
            }
        }
    }

    fn run(
        &self,
        request: http::request::Builder,
        body: SendBody<'_>,
        address: &str,
        act: &str,
    ) -> Result<Answer, ImageError> {
        let request = request.body(body);
        let request = request.map_err(|error| refused(act, &printable(&error.to_string()), Refusal::Broken))?;
        let mut request = self.agent.configure_request(request);
        if is_loopback(host_of(address)) {
            request = request.proxy(None);
        }
        let answer = self.agent.run(request.build()).map_err(|error| transport(act, &error))?;
        let (parts, body) = answer.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Tries again, after growing waits, while it is nobody's fault.
    pub fn persist<T>(
        &self,
        act: &str,
        stop: Stop<'_>,
        mut once: impl FnMut() -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let mut wait = WAIT_FIRST;
        let mut tries = 1;
        loop {
            if stop() {
                return Err(ImageError::Stopped);
            }
            let (refusal, why) = match once() {
                Err(ImageError::Registry { refusal, why, .. }) => (refusal, why),
                done => return done,
            };
            let asked = match refusal {
                Refusal::Busy { wait } => wait,
                Refusal::Unreachable => None,
                refusal => return Err(refused(act, &why, refusal)),
            };
            if tries == TRIES_MAX {
                return Err(refused(act, &format!("{why}, {tries} times"), refusal));
            }
            pause(asked.unwrap_or(wait).min(WAIT_MAX), stop)?;
            wait *= 2;
            tries += 1;
        }
    }
}

fn pause(wait: Duration, stop: Stop<'_>) -> Result<(), ImageError> {
    let end = Instant::now() + wait;
    while Instant::now() < end {
        if stop() {
            return Err(ImageError::Stopped);
        }
        std::thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// An error of the connection in words.
fn transport(act: &str, error: &ureq::Error) -> ImageError {
    let (why, refusal) = match error {
        ureq::Error::HostNotFound => ("there is no such host".to_owned(), Refusal::Unreachable),
        ureq::Error::Timeout(what) => {
            (format!("nothing came for {}s ({what})", SILENCE_MAX.as_secs()), Refusal::Unreachable)
        }
        ureq::Error::Io(error) => (broken_off(error), Refusal::Unreachable),
        ureq::Error::ConnectionFailed => ("nobody answers there".to_owned(), Refusal::Unreachable),
        error => (printable(&error.to_string()), Refusal::Broken),
    };
    refused(act, &why, refusal)
}

pub(super) fn broken_off(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody answers there".into(),
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => "the connection broke".into(),
        _ => printable(&error.to_string()),
    }
}

pub(super) fn refused(act: &str, why: &str, refusal: Refusal) -> ImageError {
    ImageError::Registry { act: act.to_owned(), why: why.to_owned(), refusal }
}

/// The host and port of an address.
pub(super) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

/// This very machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where a `Location` leads from an address.
pub(super) fn join(address: &str, location: &str) -> Option<String> {
    if !location.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let joined = match location {
        absolute if absolute.starts_with("https://") || absolute.starts_with("http://") => absolute.to_owned(),
        path if path.starts_with('/') && !path.starts_with("//") => {
            let scheme = address.split_once("://")?.0;
            format!("{scheme}://{}{path}", host_of(address))
        }
        _ => return None,
    };
    // Names and passwords in an address are a way to leak them.
    let host = joined.split_once("://")?.1.split(['/', '?', '#']).next()?;
    (!host.is_empty() && !host.contains('@')).then_some(joined)
}

/// For a query or a form.
pub(super) fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b':');
    let mut all = String::new();
    for byte in text.bytes() {
        match keep(byte) {
            true => all.push(byte as char),
            false => all.push_str(&format!("%{byte:02X}")),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:80", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "127.0.0.1.example.com", "[::2]", "", "example.com:127"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_location_leads_to_an_address_or_nowhere() {
        let from = "https://r.example.com/v2/a/blobs/1";
        assert_eq!(join(from, "/b?c=d").as_deref(), Some("https://r.example.com/b?c=d"));
        assert_eq!(join(from, "https://cdn.example.com/x").as_deref(), Some("https://cdn.example.com/x"));
        for bad in ["x", "//evil.example.com/x", "ftp://x/", "https://", "https://a@b/", "/a b", "/a\r\nb", ""] {
            assert_eq!(join(from, bad), None, "{bad}");
        }
        assert_eq!(encoded("a b&c=d/é"), "a%20b%26c%3Dd/%C3%A9");
    }
}
