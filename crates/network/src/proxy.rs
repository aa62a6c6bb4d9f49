//! The heads of requests to an HTTP proxy: `CONNECT host:port`, and requests with a whole URL.

use crate::policy::Destination;
use crate::server_name::head_end;

/// Bytes of a request's head. Programs with large cookies stay below half of it.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;
/// Headers that are between a program and its proxy. `Connection` is ours: one request for each connection.
const OURS: [&str; 6] = ["connection", "proxy-connection", "keep-alive", "proxy-authorization", "host", "te"];

/// A request to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Where it is to go.
    pub(crate) to: Destination,
    /// At this port.
    pub(crate) port: u16,
    /// `CONNECT`: bytes are passed on as they are. Otherwise [`Request::pass_on`] goes first.
    pub(crate) tunnel: bool,
    /// What the server gets instead of what was read; what came after the head is at its end.
    pub(crate) pass_on: Vec<u8>,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A request.
    Request(Request),
    /// The beginning of one.
    More,
    /// None: why not.
    Wrong(&'static str),
}

/// Reads a request's head.
pub(crate) fn hear(bytes: &[u8]) -> Heard {
    let Some(end) = head_end(bytes) else {
        return if bytes.len() < HEAD_BYTES_MAX {
            Heard::More
        } else {
            Heard::Wrong("the head of the request is too long")
        };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return Heard::Wrong("the head of the request is not text");
    };
    match request(head, &bytes[end..]) {
        Ok(request) => Heard::Request(request),
        Err(why) => Heard::Wrong(why),
    }
}

fn request(head: &str, rest: &[u8]) -> Result<Request, &'static str> {
    let (line, headers) = head.split_once('\n').ok_or("there is no request line")?;
    let mut words = line.trim_end().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the request line is not `METHOD URL HTTP/1.1`");
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err("only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    if method == "CONNECT" {
        let (to, port) = authority(target, None)?;
        return Ok(Request { to, port, tunnel: true, pass_on: rest.to_vec() });
    }
    let url = target
        .strip_prefix("http://")
        .ok_or("this is a proxy: the request names a whole http:// URL, or uses CONNECT")?;
    let (host, path) = url.split_at(url.find(['/', '?']).unwrap_or(url.len()));
    let (to, port) = authority(host, Some(80))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = host.rsplit('@').next().unwrap_or(host);
    let mut pass_on = format!("{method} {slash}{path} {version}\r\nHost: {host}\r\n");
    for line in headers.lines().take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            return Err("a header goes on in a second line");
        }
        let key = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !OURS.contains(&key.as_str()) {
            pass_on.push_str(line);
            pass_on.push_str("\r\n");
        }
    }
    pass_on.push_str("Connection: close\r\n\r\n");
    Ok(Request { to, port, tunnel: false, pass_on: [pass_on.as_bytes(), rest].concat() })
}

fn authority(text: &str, usual: Option<u16>) -> Result<(Destination, u16), &'static str> {
    let text = text.rsplit('@').next().unwrap_or(text);
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_bracket..].rfind(':') {
        Some(at) => (&text[..after_bracket + at], text[after_bracket + at + 1..].parse().ok()),
        None => (text, usual),
    };
    let port = port.filter(|&port| port > 0).ok_or("the URL has no port that can be")?;
    Ok((Destination::parse(host).ok_or("the URL's host is neither a name nor an address")?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Request {
        match hear(text.as_bytes()) {
            Heard::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connect_names_host_and_port() {
        let request = heard("CONNECT Example.com:443 HTTP/1.1\r\nHost: x\r\n\r\nrest");
        assert_eq!((request.to, request.port), (Destination::Name("example.com".into()), 443));
        assert!(request.tunnel);
        assert_eq!(request.pass_on, b"rest");
        assert_eq!(heard("CONNECT [2001:db8::1]:22 HTTP/1.1\r\n\r\n").to.at(22), "[2001:db8::1]:22");
    }

    #[test]
    fn a_whole_url_becomes_a_request_to_that_very_host() {
        let request = heard(
            "GET http://u@example.com:8080/a?b HTTP/1.1\r\nHost: evil.example.com\r\nProxy-Connection: keep-alive\r\nAccept: */*\r\n\r\nbody",
        );
        assert_eq!((request.to.at(request.port), request.tunnel), ("example.com:8080".into(), false));
        assert_eq!(
            String::from_utf8(request.pass_on).expect("text"),
            "GET /a?b HTTP/1.1\r\nHost: example.com:8080\r\nAccept: */*\r\nConnection: close\r\n\r\nbody"
        );
        assert!(
            heard("GET http://example.com HTTP/1.0\r\n\r\n")
                .pass_on
                .starts_with(b"GET / HTTP/1.0\r\nHost: example.com\r\n")
        );
    }

    #[test]
    fn what_is_no_proxy_request_says_why() {
        for (text, why) in [
            ("GET /x HTTP/1.1\r\n\r\n", "whole http:// URL"),
            ("GET https://example.com/ HTTP/1.1\r\n\r\n", "CONNECT"),
            ("CONNECT example.com HTTP/1.1\r\n\r\n", "no port"),
            ("CONNECT example.com:0 HTTP/1.1\r\n\r\n", "no port"),
            ("CONNECT ex ample:1 HTTP/1.1\r\n\r\n", "request line"),
            ("CONNECT exa\u{e4}mple:1 HTTP/1.1\r\n\r\n", "neither a name"),
            ("GET http://a/ HTTP/2\r\n\r\n", "HTTP/1.1"),
            ("GET http://a/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "second line"),
        ] {
            let Heard::Wrong(said) = hear(text.as_bytes()) else { panic!("{text}") };
            assert!(said.contains(why), "{text}: {said}");
        }
        assert_eq!(hear(&[b'a'; HEAD_BYTES_MAX - 1]), Heard::More);
        assert_eq!(hear(&[b'a'; HEAD_BYTES_MAX]), Heard::Wrong("the head of the request is too long"));
    }
}
