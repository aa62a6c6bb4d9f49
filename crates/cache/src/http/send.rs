//! Bodies on their way out: verified part by part, whole or a range, compressed when the client can take it.

use std::collections::VecDeque;
use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use blobs::{Blobs, Key, Reader};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};

use super::call::Call;
use super::refusal::Refusal;
use crate::service::blocking;

/// Below this a compressed body is not worth its trouble, in bytes.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// What a body is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes at hand.
    Inline(Bytes),
    /// Blobs, one after another.
    Blobs(Vec<Key>),
}

impl Content {
    /// Length in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Blobs(keys) => keys.iter().map(|key| key.size).sum(),
        }
    }
}

impl Call {
    /// Answers with content, as far as the request asks for it.
    ///
    /// # Errors
    /// A blob is gone or damaged, or the range lies outside.
    pub(crate) async fn send(&self, content: Content, kind: &'static str) -> Result<Response, Refusal> {
        let size = content.size();
        let range = self.range(size)?;
        let (from, until) = range.unwrap_or((0, size));
        let zstd = range.is_none() && size >= COMPRESSED_BYTES_MIN && self.takes_zstd();
        let body = match self.method == Method::HEAD {
            true => Body::empty(),
            false => self.body(content, from, until, zstd).await?,
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        match zstd {
            true => headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd")),
            false => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(until - from)),
        };
        if range.is_some() {
            let text = format!("bytes {from}-{}/{size}", until - 1);
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&text).expect("digits and signs"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }

    async fn body(&self, content: Content, from: u64, until: u64, zstd: bool) -> Result<Body, Refusal> {
        let keys = match content {
            Content::Inline(bytes) if !zstd => {
                let part = bytes.slice(from as usize..until as usize);
                self.service.http.meters.sent(self.protocol, part.len());
                return Ok(Body::from(part));
            }
            Content::Inline(bytes) => {
                let bytes = blocking(move || zstd::bulk::compress(&bytes, 1)).await;
                let bytes =
                    bytes.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
                self.service.http.meters.sent(self.protocol, bytes.len());
                return Ok(Body::from(bytes));
            }
            Content::Blobs(keys) => keys,
        };
        let sending = Sending::new(self.service.blobs.clone(), keys, from, until, zstd)?;
        // The first part before the status: what turns out missing or damaged is then a miss, not a broken download.
        let (first, sending) = sending.next().await?;
        let Some(first) = first else { return Ok(Body::empty()) };
        let (service, protocol) = (self.service.clone(), self.protocol);
        let rest = stream::unfold((Some(first), Some(sending)), move |(ready, sending)| {
            let service = service.clone();
            async move {
                if let Some(part) = ready {
                    service.http.meters.sent(protocol, part.len());
                    return Some((Ok(part), (None, sending)));
                }
                match sending?.next().await {
                    Ok((None, _)) => None,
                    Ok((Some(part), sending)) => {
                        service.http.meters.sent(protocol, part.len());
                        Some((Ok(part), (None, Some(sending))))
                    }
                    Err(refusal) => Some((Err(std::io::Error::other(refusal.message)), (None, None))),
                }
            }
        });
        Ok(Body::from_stream(rest))
    }

    /// Whether the client said that it takes zstd.
    fn takes_zstd(&self) -> bool {
        self.header(header::ACCEPT_ENCODING).is_some_and(|list| {
            list.split(',').any(|one| {
                let mut words = one.split(';').map(str::trim);
                words.next() == Some("zstd") && words.next() != Some("q=0")
            })
        })
    }

    /// The part that is asked for: first byte and the one behind the last.
    fn range(&self, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
        // `x-ms-range` is how Azure's clients say it.
        let Some(text) = self.header("x-ms-range").or(self.header(header::RANGE)) else { return Ok(None) };
        match parse_range(text, size) {
            Range::Whole => Ok(None),
            Range::Part(from, until) => Ok(Some((from, until))),
            Range::Outside => {
                let message = format!("the range {text} lies outside of the {size} bytes");
                Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, message))
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// No range, or one that is not understood: HTTP has us send the whole.
    Whole,
    Part(u64, u64),
    Outside,
}

fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return Range::Whole,
    };
    if range.0 < range.1 { Range::Part(range.0, range.1) } else { Range::Outside }
}

/// Blobs under way to a client.
struct Sending {
    blobs: Blobs,
    /// What is still to come: blob, first byte, bytes.
    rest: VecDeque<(Key, u64, u64)>,
    reader: Option<Reader>,
    encoder: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
}

impl Sending {
    fn new(blobs: Blobs, keys: Vec<Key>, from: u64, until: u64, zstd: bool) -> Result<Sending, Refusal> {
        let mut rest = VecDeque::new();
        let mut begin = 0;
        for key in keys {
            let end = begin + key.size;
            let (first, last) = (from.max(begin), until.min(end));
            if first < last {
                rest.push_back((key, first - begin, last - first));
            }
            begin = end;
        }
        let encoder = zstd.then(|| zstd::stream::write::Encoder::new(Vec::new(), 1)).transpose();
        let encoder = encoder.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(Sending { blobs, rest, reader: None, encoder })
    }

    async fn next(mut self) -> Result<(Option<Bytes>, Sending), Refusal> {
        blocking(move || Ok((self.part()?, self))).await
    }

    /// The next bytes for the wire.
    fn part(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(plain) = self.plain()? else { return self.end() };
            let Some(encoder) = &mut self.encoder else { return Ok(Some(plain)) };
            let wrote = encoder.write_all(&plain);
            wrote.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
            if !encoder.get_ref().is_empty() {
                return Ok(Some(std::mem::take(encoder.get_mut()).into()));
            }
        }
    }

    fn plain(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(part) = reader.next()
            {
                return Ok(Some(part?));
            }
            let Some((key, from, size)) = self.rest.pop_front() else { return Ok(None) };
            self.reader = Some(self.blobs.reader(&key, from, Some(size))?);
        }
    }

    fn end(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        let finished = encoder.finish();
        let rest = finished.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok((!rest.is_empty()).then(|| rest.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        assert_eq!(parse_range("bytes=0-3", 10), Range::Part(0, 4));
        assert_eq!(parse_range("bytes=4-", 10), Range::Part(4, 10));
        assert_eq!(parse_range("bytes=-3", 10), Range::Part(7, 10));
        assert_eq!(parse_range("bytes=8-99", 10), Range::Part(8, 10));
        assert_eq!(parse_range("bytes=10-12", 10), Range::Outside);
        assert_eq!(parse_range("bytes=0-0", 0), Range::Outside);
        for odd in ["lines=1-2", "bytes=3-1", "bytes=a-b", "bytes=0-1,4-5", "bytes=-"] {
            assert_eq!(parse_range(odd, 10), Range::Whole, "{odd}");
        }
        assert_eq!(parse_range(&format!("bytes=0-{}", u64::MAX), 10), Range::Part(0, 10));
    }
}
