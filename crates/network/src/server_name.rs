//! Which server the first bytes of a connection name: in the ClientHello of TLS, or in the head of an HTTP request.

/// First bytes that are looked at. A ClientHello with post-quantum keys has two thousand.
pub(crate) const FIRST_BYTES_MAX: usize = 16 << 10;

/// The longest in use is `UPDATEREDIRECTREF`.
const METHOD_BYTES_MAX: usize = 24;
const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;

/// What the first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// These servers; mostly one. An HTTP request can name one in its target and another in its head.
    Servers(Vec<String>),
    /// None: it is another protocol, or the name is left out.
    Nobody,
    /// The bytes are not enough to say.
    More,
}

/// Looks at the first bytes. Never [`Named::More`] for [`FIRST_BYTES_MAX`] of them.
pub(crate) fn look(bytes: &[u8]) -> Named {
    let named = match bytes.first() {
        None => Named::More,
        Some(&RECORD_HANDSHAKE) => tls(bytes),
        Some(_) => http(bytes),
    };
    if named == Named::More && bytes.len() >= FIRST_BYTES_MAX { Named::Nobody } else { named }
}

fn tls(bytes: &[u8]) -> Named {
    match handshake(bytes) {
        // Something that calls itself a handshake and is none.
        None => Named::Nobody,
        Some(message) => client_hello(&message),
    }
}

/// The bytes of the handshake so far, out of their records: a ClientHello may be cut over several.
fn handshake(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    while let [kind, major, _minor, high, low, rest @ ..] = bytes {
        if *kind != RECORD_HANDSHAKE || *major != 3 {
            // A record of another kind after a whole ClientHello is none of our business.
            return (!message.is_empty()).then_some(message);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        bytes = rest.get(length..).unwrap_or_default();
    }
    Some(message)
}

fn client_hello(message: &[u8]) -> Named {
    let [kind, a, b, c, body @ ..] = message else { return Named::More };
    if *kind != CLIENT_HELLO {
        return Named::Nobody;
    }
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    match body.get(..length) {
        Some(body) => server_name(Cut(body)).map_or(Named::Nobody, |name| Named::Servers(vec![name])),
        None => Named::More,
    }
}

fn server_name(mut hello: Cut<'_>) -> Option<String> {
    hello.take(2 + 32)?; // version, random
    hello.vector8()?; // session
    hello.vector16()?; // cipher suites
    hello.vector8()?; // compression
    let mut extensions = hello.vector16()?;
    while let Some(kind) = extensions.u16() {
        let mut extension = extensions.vector16()?;
        if kind == EXTENSION_SERVER_NAME {
            let mut names = extension.vector16()?;
            names.take(1).filter(|kind| kind[0] == 0)?;
            return Some(String::from_utf8_lossy(names.vector16()?.0).into_owned());
        }
    }
    None
}

/// Bytes that are cut from the front.
struct Cut<'b>(&'b [u8]);

impl<'b> Cut<'b> {
    fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (first, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn vector8(&mut self) -> Option<Cut<'b>> {
        let length = self.take(1)?[0];
        self.take(length.into()).map(Cut)
    }

    fn vector16(&mut self) -> Option<Cut<'b>> {
        let length = self.u16()?;
        self.take(length.into()).map(Cut)
    }
}

fn http(bytes: &[u8]) -> Named {
    // A method is a word; what begins with other bytes is another protocol, and so is a first line without `HTTP/`.
    let word = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b)).count();
    match bytes.get(word) {
        None if word < METHOD_BYTES_MAX => return Named::More,
        Some(b' ') if word > 0 => {}
        _ => return Named::Nobody,
    }
    let Some(line_end) = bytes.iter().position(|b| *b == b'\n') else { return Named::More };
    if !bytes[..line_end].windows(5).any(|five| five.eq_ignore_ascii_case(b"HTTP/")) {
        return Named::Nobody;
    }
    let Some(end) = head_end(bytes) else { return Named::More };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    let in_target = target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let in_head =
        lines.filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim().eq_ignore_ascii_case("host"));
    let servers: Vec<String> = in_target.into_iter().chain(in_head.map(|(_, value)| value)).map(without_port).collect();
    if servers.is_empty() { Named::Nobody } else { Named::Servers(servers) }
}

/// Where the head of an HTTP request ends: after its empty line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    let line_ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    line_ends.into_iter().find_map(|at| match &bytes[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

/// `example.com` of `user@example.com:8080`, `[::1]` of `[::1]:80`.
fn without_port(authority: &str) -> String {
    let host = authority.trim().rsplit('@').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }

    /// A ClientHello as TLS libraries send it, in one record.
    pub(crate) fn hello(name: Option<&str>) -> Vec<u8> {
        let mut extensions = [vec![0, 43], vector16(&[2, 3, 4])].concat();
        if let Some(name) = name {
            let entry = [vec![0], vector16(name.as_bytes())].concat();
            extensions.extend([vec![0, 0], vector16(&vector16(&entry))].concat());
        }
        let body =
            [vec![3, 3], vec![9; 32], vec![1, 5], vector16(&[19, 1]), vec![1, 0], vector16(&extensions)].concat();
        let message = [vec![CLIENT_HELLO, 0, 0, body.len() as u8], body].concat();
        [vec![RECORD_HANDSHAKE, 3, 1], vector16(&message)].concat()
    }

    fn servers(names: &[&str]) -> Named {
        Named::Servers(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_name_in_a_client_hello_is_found() {
        assert_eq!(look(&hello(Some("pypi.example.com"))), servers(&["pypi.example.com"]));
        assert_eq!(look(&hello(None)), Named::Nobody);
    }

    #[test]
    fn a_client_hello_in_pieces_is_waited_for() {
        let whole = hello(Some("pypi.example.com"));
        for cut in 0..whole.len() {
            assert_eq!(look(&whole[..cut]), Named::More, "cut at {cut}");
        }
    }

    #[test]
    fn a_client_hello_over_several_records_hides_nothing() {
        let whole = hello(Some("evil.example.com"));
        let records: Vec<u8> =
            whole[5..].chunks(7).flat_map(|piece| [vec![RECORD_HANDSHAKE, 3, 1], vector16(piece)].concat()).collect();
        assert_eq!(look(&records), servers(&["evil.example.com"]));
    }

    #[test]
    fn the_host_of_a_request_is_found_in_head_and_target() {
        assert_eq!(look(b"GET / HTTP/1.1\r\nhost:  A.example.com:8080 \r\n\r\n"), servers(&["A.example.com"]));
        assert_eq!(
            look(b"GET http://evil.example.com/x HTTP/1.1\r\nHost: a.example.com\r\nHost: b\r\n\r\n"),
            servers(&["evil.example.com", "a.example.com", "b"])
        );
        assert_eq!(look(b"GET / HTTP/1.0\n\n"), Named::Nobody);
        assert_eq!(look(b"GET / HTTP/1.1\r\nHost: a"), Named::More);
        assert_eq!(look(b"GE"), Named::More);
        assert_eq!(look(b"get / http/1.1\r\nHost: a\r\n\r\n"), servers(&["a"]));
    }

    #[test]
    fn other_protocols_name_nobody_and_are_not_waited_for() {
        assert_eq!(look(b"SSH-2.0-OpenSSH_9.2\r\n"), Named::Nobody);
        assert_eq!(look(b"EHLO example.com\r\n"), Named::Nobody);
        assert_eq!(look(b"\x00\x00\x00\x01"), Named::Nobody);
        assert_eq!(look(&[0, 1, 2]), Named::Nobody);
        assert_eq!(look(&[RECORD_HANDSHAKE, 9, 9, 0, 0]), Named::Nobody);
        assert_eq!(look(&[b'A'; FIRST_BYTES_MAX]), Named::Nobody);
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; FIRST_BYTES_MAX]].concat();
        assert_eq!(look(&endless), Named::Nobody);
    }

    #[test]
    fn no_bytes_at_all_crash_it() {
        let mut seed = 3u64;
        for _ in 0..50_000 {
            let mut bytes = hello(Some("a.example.com"));
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 24) as u8;
            }
            look(&bytes);
        }
    }
}
