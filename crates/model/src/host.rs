//! One entry of a `network` list: which host, at which port.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

/// Bytes of a host name, as in the domain name system.
pub const HOST_NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host, or all hosts below a name, at one port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Which host.
    pub host: Host,
    /// Which port; never 0.
    pub port: u16,
}

/// Which host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The one with this name: lower case, without a dot at its end.
    Name(String),
    /// All with one or more labels before this name: `*.example.com` has `example.com` here.
    Below(String),
    /// The one with this address.
    Address(IpAddr),
}

/// Why a text is not a [`HostPort`], as a whole sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPortError {
    text: String,
    why: &'static str,
}

impl fmt::Display for HostPortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a `host:port`: {}", self.text, self.why)
    }
}

impl core::error::Error for HostPortError {}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<HostPort, HostPortError> {
        let wrong = |why| HostPortError { text: text.chars().take(80).collect(), why };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("there is no port"))?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port =
            port.parse().ok().filter(|&port| digits && port > 0).ok_or_else(|| wrong("the port is not 1 to 65535"))?;
        Ok(HostPort { host: parse_host(host).map_err(wrong)?, port })
    }
}

fn parse_host(host: &str) -> Result<Host, &'static str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse()
            .map(|v6| Host::Address(IpAddr::V6(v6)))
            .map_err(|_| "there is no IPv6 address in the brackets");
    }
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets");
    }
    if let Ok(address) = host.parse() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    let (below, rest) = host.strip_prefix("*.").map_or((false, host), |rest| (true, rest));
    let name = host_name(rest).ok_or("that is neither a host's name nor an address")?;
    Ok(if below { Host::Below(name) } else { Host::Name(name) })
}

/// The name as we compare it: lower case, no dot at its end. `None` when it cannot be a host's name.
pub fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (text.len() <= HOST_NAME_BYTES_MAX && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

impl Host {
    /// Whether `name`, in the form that [`host_name`] gives, is meant.
    pub fn means(&self, name: &str) -> bool {
        match self {
            Host::Name(own) => own == name,
            Host::Below(suffix) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Host::Address(_) => false,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Below(suffix) => write!(f, "*.{suffix}:{}", self.port),
            Host::Address(IpAddr::V4(v4)) => write!(f, "{v4}:{}", self.port),
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn parsed(text: &str) -> String {
        text.parse::<HostPort>().map_or_else(|error| error.why.to_string(), |entry| entry.to_string())
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        assert_eq!(parsed("Example.COM.:443"), "example.com:443");
        assert_eq!(parsed("*.example.com:443"), "*.example.com:443");
        assert_eq!(parsed("10.0.0.5:5432"), "10.0.0.5:5432");
        assert_eq!(parsed("[2001:DB8::5]:443"), "[2001:db8::5]:443");
    }

    #[test]
    fn what_is_no_entry_says_why() {
        assert_eq!(parsed("example.com"), "there is no port");
        assert_eq!(parsed("example.com:0"), "the port is not 1 to 65535");
        assert_eq!(parsed("example.com:+80"), "the port is not 1 to 65535");
        assert_eq!(parsed("2001:db8::5:443"), "an IPv6 address stands in brackets");
        assert_eq!(parsed("*:443"), "that is neither a host's name nor an address");
        assert_eq!(parsed("a.*.com:443"), "that is neither a host's name nor an address");
        assert_eq!(parsed("a..com:443"), "that is neither a host's name nor an address");
        assert_eq!(parsed(":443"), "that is neither a host's name nor an address");
    }

    #[test]
    fn a_star_means_one_label_or_more_and_never_the_name_itself() {
        let below = parse_host("*.example.com").expect("fits");
        assert!(below.means("a.example.com") && below.means("a.b.example.com"));
        assert!(!below.means("example.com") && !below.means("badexample.com") && !below.means(".example.com"));
    }
}
