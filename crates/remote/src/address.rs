//! Where a shared cache is, and how it is asked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// Length of an address: a host, and an instance of some segments.
const ADDRESS_BYTES_MAX: usize = 2048;
/// Words of the API that cannot be segments of an instance's name.
const RESERVED: [&str; 6] = ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities"];

/// Where a shared cache is: `grpc://host:port/instance`, `grpcs://` with TLS; `http://` and `https://` are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Which of the caches there: `main`, or `main/pr/17`; often empty.
    pub instance: String,
}

impl Address {
    /// Reads an address. Without a port it is 8980 for `grpc`, 80 for `http` and 443 with TLS.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let refuse = |why: &str| Err(Error::Unusable(format!("`{}` is no address of a cache: {why}", shown(text))));
        if text.len() > ADDRESS_BYTES_MAX {
            return refuse("it is longer than 2048 bytes");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("write it like grpc://cache.example.com:8980");
        };
        let (tls, default_port) = match scheme {
            "grpc" => (false, 8980),
            "http" => (false, 80),
            "grpcs" | "https" => (true, 443),
            _ => return refuse("it begins with grpc://, grpcs://, http:// or https://"),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return refuse("a name or password in it would be seen by everybody; give a token by environment variable");
        }
        let Some((host, port)) = host_and_port(authority, default_port) else {
            return refuse("its host or port cannot be read");
        };
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let Some(reserved) = segments.iter().find(|segment| RESERVED.contains(segment)) {
            return refuse(&format!("`{reserved}` cannot be in the name of an instance"));
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '%');
        if !segments.iter().all(|segment| segment.chars().all(is_plain)) {
            return refuse("the name of the instance has letters, digits and plain signs only");
        }
        Ok(Address { tls, host, port, instance: segments.join("/") })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "grpcs" } else { "grpc" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}", self.port)?;
        if self.instance.is_empty() { Ok(()) } else { write!(f, "/{}", self.instance) }
    }
}

/// An address as it may be printed: bounded, and without what stands before an `@`.
fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => text,
    }
}

fn host_and_port(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let _: std::net::Ipv6Addr = host.parse().ok()?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port? {
        "" => default_port,
        digits => digits.parse().ok().filter(|port| *port != 0)?,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    (!host.is_empty() && host.len() <= 255 && host.chars().all(is_host)).then(|| (host.to_string(), port))
}

/// A bearer token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    ///
    /// # Errors
    /// It cannot stand in a header: it is empty, too long, or has spaces or other than ASCII in it.
    pub fn new(text: &str) -> Result<Token, Error> {
        let text = text.trim();
        match !text.is_empty() && text.len() <= 8192 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(text.to_string())),
            false => {
                Err(Error::Unusable("the token of the cache is empty, too long, or has strange signs in it".into()))
            }
        }
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How a shared cache is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub address: Address,
    /// Who we are.
    pub token: Option<Token>,
    /// A PEM file with the authorities that may vouch for the server, instead of those that the system trusts.
    pub ca: Option<PathBuf>,
    /// PEM files with a certificate and its key that say who we are, where the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What the server is told of the caller, to stand with what is written: the id of a run.
    pub invocation: String,
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a question is answered.
    pub look_up: Duration,
    /// Without a single byte while content moves.
    pub silence: Duration,
    /// How long a cache that failed is not asked.
    pub rest: Duration,
}

impl Options {
    /// The usual patience: 2 s to connect, 2 s for a look-up, 30 s of silence, 30 s of rest.
    pub fn new(address: Address) -> Options {
        Options {
            address,
            token: None,
            ca: None,
            identity: None,
            invocation: String::new(),
            connect: Duration::from_secs(2),
            look_up: Duration::from_secs(2),
            silence: Duration::from_secs(30),
            rest: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_host_port_and_instance() {
        let read = |text: &str| Address::parse(text).map(|address| address.to_string()).ok();
        for (text, meant) in [
            ("grpc://cache", "grpc://cache:8980"),
            ("grpc://cache:1234/main//pr/17/", "grpc://cache:1234/main/pr/17"),
            ("https://cache.example.com", "grpcs://cache.example.com:443"),
            ("http://[::1]:80", "grpc://[::1]:80"),
            ("http://127.0.0.1", "grpc://127.0.0.1:80"),
        ] {
            assert_eq!(read(text).as_deref(), Some(meant), "{text}");
        }
        for bad in [
            "cache:1",
            "ftp://x",
            "grpc://",
            "grpc://:1",
            "grpc://a:0",
            "grpc://a:70000",
            "grpc://a/x/blobs",
            "grpc://a/b?c",
            "grpc://[zz]:1",
            "grpc://a b",
            "grpc://[::1]x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        let error = Address::parse("grpc://me:hunter2@cache").expect_err("refused").to_string();
        assert!(!error.contains("hunter2") && error.contains("environment"), "{error}");
        assert_eq!(format!("{:?}", Token::new("hunter2").expect("a token")), "Token(…)");
    }
}
