//! One connection of a step: where it wants to go, whether it may, and then its bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::address::never;
use crate::dial::{NoConnection, dial};
use crate::gate::Inner;
use crate::lookup::NoAddress;
use crate::policy::{Destination, NOT_LISTED, Verdict};
use crate::proxy::{Heard, Request, hear};
use crate::relay::{Ended, Relay, Said, reset};
use crate::server_name::{Named, look};

/// Until a program that has connected says what it wants.
const FIRST_BYTES_TIME: Duration = Duration::from_secs(30);
/// For a program to read why it was refused.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
const FAREWELL_BYTES_MAX: usize = 256 << 10;
/// A TLS alert: fatal, access denied. Clients show it by name.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Why a connection was not made.
enum Unmade {
    /// It may not be, for this reason; it is on the list of refusals.
    Refused(String),
    /// It could not be.
    Failed(String),
    /// The gate is closing.
    Stopped,
}

/// A connection that a program thinks goes to `at`.
pub(crate) fn transparent(inner: &Inner, step: TcpStream, at: SocketAddrV4) {
    let to = match inner.names().name(*at.ip()) {
        Some(name) => Destination::Name(name.to_owned()),
        None => Destination::Address((*at.ip()).into()),
    };
    let port = at.port();
    match inner.policy.decide(&to, port) {
        Verdict::Dial => open(inner, step, &to, port, Vec::new(), false),
        Verdict::DialAndCheck => open(inner, step, &to, port, Vec::new(), true),
        Verdict::AskFirst => ask_first(inner, step, &to, port),
        Verdict::Refuse(why) => refuse(inner, &step, port, &to.at(port), why),
    }
}

/// A connection to an address that is on no list: its first bytes have to name a server that is. That server is looked
/// up and dialled; the address is forgotten.
fn ask_first(inner: &Inner, step: TcpStream, at: &Destination, port: u16) {
    let mut named = Named::More;
    let first = read_until(inner, &step, |bytes| {
        named = look(bytes);
        named != Named::More
    });
    let Some(first) = first else { return refuse(inner, &step, port, &at.at(port), NOT_LISTED) };
    let Named::Servers(servers) = named else { return refuse(inner, &step, port, &at.at(port), NOT_LISTED) };
    match (unlisted(inner, &servers, port), Destination::parse(&servers[0])) {
        (None, Some(to)) => open(inner, step, &to, port, first, false),
        (Some(server), _) => refuse(inner, &step, port, &format!("{server}:{port}"), NOT_LISTED),
        (None, None) => refuse(inner, &step, port, &at.at(port), NOT_LISTED),
    }
}

/// The first of these servers that may not be reached, as shown to people.
fn unlisted(inner: &Inner, servers: &[String], port: u16) -> Option<String> {
    let allowed = |server: &&String| Destination::parse(server).is_some_and(|to| inner.policy.lists(&to, port));
    let server = servers.iter().find(|server| !allowed(server))?;
    Some(server.chars().filter(|c| !c.is_control()).take(253).collect())
}

fn open(inner: &Inner, step: TcpStream, to: &Destination, port: u16, first: Vec<u8>, check: bool) {
    match reach(inner, to, port) {
        Ok(host) => pass(inner, &step, &host, to, port, first, check),
        Err(Unmade::Refused(why)) => farewell(inner, &step, port, &format!("{}: {why}", to.at(port))),
        Err(Unmade::Failed(_)) | Err(Unmade::Stopped) => reset(&step),
    }
}

/// Dials. An address is judged after its name was looked up, and the very address that was judged is dialled: what the
/// name means a moment later makes no difference.
fn reach(inner: &Inner, to: &Destination, port: u16) -> Result<TcpStream, Unmade> {
    let found = match to {
        Destination::Address(address) => vec![*address],
        Destination::Name(name) => inner.lookup.addresses(name, &inner.stop).map_err(|error| match error {
            NoAddress::NoSuchName => Unmade::Failed("there is no such host".into()),
            NoAddress::Failed(why) => Unmade::Failed(format!("its address cannot be looked up: {why}")),
            NoAddress::Stopped => Unmade::Stopped,
        })?,
    };
    let reachable: Vec<_> = found.iter().copied().filter(|address| never(*address).is_none()).collect();
    if let ([], Some(address)) = (&reachable[..], found.first()) {
        let why = format!("its address {address} is {}", never(*address).unwrap_or("none"));
        inner.ledger.refused(&to.at(port), &why);
        return Err(Unmade::Refused(why));
    }
    match dial(&reachable, port, &inner.stop) {
        Ok(host) => Ok(host),
        Err(NoConnection::Failed(error)) => Err(Unmade::Failed(error.to_string())),
        Err(NoConnection::Stopped) => Err(Unmade::Stopped),
    }
}

fn pass(inner: &Inner, step: &TcpStream, host: &TcpStream, to: &Destination, port: u16, first: Vec<u8>, check: bool) {
    let _ = (step.set_nodelay(true), host.set_nodelay(true));
    let refused = std::cell::RefCell::new(None);
    let judge = |bytes: &[u8]| match look(bytes) {
        Named::More => Said::More,
        Named::Nobody => Said::Pass,
        Named::Servers(servers) => match unlisted(inner, &servers, port) {
            None => Said::Pass,
            Some(server) => {
                refused.replace(Some(server));
                Said::Refuse
            }
        },
    };
    let relay = Relay { step, host, stop: &inner.stop, bucket: inner.bucket.as_ref() };
    let moved = relay.run(first, if check { Some(&judge) } else { None });
    inner.ledger.reached(&to.host(), port, moved.sent, moved.received);
    if let (Ended::Refused, Some(server)) = (moved.ended, refused.take()) {
        let why = format!("{NOT_LISTED}, asked for over a connection to {}", to.host());
        refuse(inner, step, port, &format!("{server}:{port}"), &why);
    }
}

fn refuse(inner: &Inner, step: &TcpStream, port: u16, what: &str, why: &str) {
    inner.ledger.refused(what, why);
    farewell(inner, step, port, &format!("{what}: {why}"));
}

/// Ends a connection in the words of its protocol, as far as the port tells which that is.
fn farewell(inner: &Inner, step: &TcpStream, port: u16, sentence: &str) {
    match port {
        80 => say(inner, step, &response("403 Forbidden", sentence)),
        443 => say(inner, step, &ACCESS_DENIED),
        _ => reset(step),
    }
}

/// Says it and waits until it was read: closing at once would take it back, as long as the program has said something
/// that nobody read.
fn say(inner: &Inner, mut step: &TcpStream, bytes: &[u8]) {
    if step.write_all(bytes).is_err() || step.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let until = Instant::now() + FAREWELL_TIME;
    let (mut buffer, mut read) = (vec![0; 16 << 10], 0);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| read < FAREWELL_BYTES_MAX) {
        match inner.stop.ready(step, PollFlags::IN, left) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
        match step.read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn response(status: &str, sentence: &str) -> Vec<u8> {
    let body = format!("paceline: {sentence}\n");
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

/// Reads until it is enough. `None` when the program ends, breaks off or takes too long.
fn read_until(inner: &Inner, mut step: &TcpStream, mut enough: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
    let until = Instant::now() + FIRST_BYTES_TIME;
    let (mut bytes, mut piece) = (Vec::new(), [0; 8 << 10]);
    loop {
        let left = until.checked_duration_since(Instant::now())?;
        if !inner.stop.ready(step, PollFlags::IN, left).ok()? {
            continue;
        }
        match step.read(&mut piece) {
            Ok(0) => return None,
            Ok(more) => bytes.extend_from_slice(&piece[..more]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        if enough(&bytes) {
            return Some(bytes);
        }
    }
}

/// A connection to the HTTP proxy.
pub(crate) fn proxied(inner: &Inner, step: TcpStream) {
    let mut heard = Heard::More;
    let enough = |bytes: &[u8]| {
        heard = hear(bytes);
        heard != Heard::More
    };
    if read_until(inner, &step, enough).is_none() {
        return;
    }
    match heard {
        Heard::Request(request) => carry_out(inner, &step, request),
        Heard::Wrong(why) => say(inner, &step, &response("400 Bad Request", why)),
        Heard::More => {}
    }
}

fn carry_out(inner: &Inner, mut step: &TcpStream, request: Request) {
    let (to, port) = (&request.to, request.port);
    let at = to.at(port);
    let check = match inner.policy.decide(to, port) {
        Verdict::Dial => false,
        // A request with a whole URL names its server; that one was decided on.
        Verdict::DialAndCheck => request.tunnel,
        // A program that can name a server to its proxy and names an address means the address.
        Verdict::AskFirst => {
            inner.ledger.refused(&at, NOT_LISTED);
            return say(inner, step, &response("403 Forbidden", &format!("{at}: {NOT_LISTED}")));
        }
        Verdict::Refuse(why) => {
            inner.ledger.refused(&at, why);
            return say(inner, step, &response("403 Forbidden", &format!("{at}: {why}")));
        }
    };
    let host = match reach(inner, to, port) {
        Ok(host) => host,
        Err(Unmade::Refused(why)) => return say(inner, step, &response("403 Forbidden", &format!("{at}: {why}"))),
        Err(Unmade::Failed(why)) => return say(inner, step, &response("502 Bad Gateway", &format!("{at}: {why}"))),
        Err(Unmade::Stopped) => return reset(step),
    };
    if request.tunnel && step.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").is_err() {
        return;
    }
    pass(inner, step, &host, to, port, request.pass_on, check);
}
