//! A request over plain HTTP, taken apart.

use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::refusal::Refusal;
use crate::Service;
use crate::access::Access;
use crate::meters::Protocol;

/// Length of a path with its query in bytes: the longest that is asked for in earnest is a list of fallback keys.
const TARGET_BYTES_MAX: usize = 32 << 10;

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: Arc<Service>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// The path's segments, decoded; empty ones do not count.
    pub(crate) segments: Vec<String>,
    query: Vec<(String, String)>,
    /// Whose the path is.
    pub(crate) protocol: Protocol,
    /// Whether the connection is encrypted, as far as its request says.
    is_https: bool,
    /// What stands before every path here, where this cache is part of a server.
    below: &'static str,
}

/// Says with a request that all paths are below this one: `/cache`. Left out, they are not.
#[derive(Clone, Copy, Debug)]
pub struct Below(pub &'static str);

impl Call {
    /// Takes a request apart; its body is read later.
    ///
    /// # Errors
    /// The path is too long or not UTF-8.
    pub(crate) fn read(service: Arc<Service>, request: http::Request<Body>) -> Result<(Call, Body), Refusal> {
        let (Parts { method, uri, headers, extensions, .. }, body) = request.into_parts();
        let query = uri.query().unwrap_or_default();
        if uri.path().len() + query.len() > TARGET_BYTES_MAX {
            let message = format!("a path and its query have at most {TARGET_BYTES_MAX} bytes");
            return Err(Refusal::new(http::StatusCode::URI_TOO_LONG, message));
        }
        let segments: Option<Vec<String>> = uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decoded(segment, false))
            .collect();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name, true)?, decoded(value, true)?))
        };
        let query: Option<Vec<_>> = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        let (Some(segments), Some(query)) = (segments, query) else {
            return Err(Refusal::bad("the path or its query is not UTF-8 behind its percent signs"));
        };
        let is_https = uri.scheme_str() == Some("https");
        let protocol = super::protocol(&segments.iter().map(String::as_str).collect::<Vec<_>>());
        let below = extensions.get::<Below>().map_or("", |below| below.0);
        Ok((Call { service, method, headers, segments, query, protocol, is_https, below }, body))
    }

    /// Lets the caller in to an instance, given as segments of the path.
    ///
    /// # Errors
    /// Says why not.
    pub(crate) fn admit(&self, instance: &[&str]) -> Result<Access, Refusal> {
        Ok(self.service.admit(&self.headers, &instance.join("/"))?)
    }

    /// A header, when it is there and is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a name in the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a name in the query, in order.
    pub(crate) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client looks or reads; the body of an answer to `HEAD` is left out by the connection.
    pub(crate) fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// Where the client found us: `http://cache.example:8980`.
    pub(crate) fn origin(&self) -> String {
        let https = self.is_https || self.header("x-forwarded-proto") == Some("https");
        let host = self.header("x-forwarded-host").or(self.header(header::HOST)).unwrap_or("localhost");
        format!("{}://{host}{}", if https { "https" } else { "http" }, self.below)
    }
}

/// Text behind percent signs; `None` when it is not UTF-8. A percent sign that begins no byte stands for itself.
fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => bytes.push(high << 4 | low),
            None if plus_is_space && *first == b'+' => bytes.push(b' '),
            None => bytes.push(*first),
        }
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_percent_signs_is_read_and_what_is_no_text_is_refused() {
        assert_eq!(decoded("a%2Fb%20c+d", false).as_deref(), Some("a/b c+d"));
        assert_eq!(decoded("a+b%", true).as_deref(), Some("a b%"));
        assert_eq!(decoded("100%zz", true).as_deref(), Some("100%zz"));
        assert_eq!(decoded("%ff", false), None);
    }
}
