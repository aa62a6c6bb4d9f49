//! What a step may reach: decisions only, nothing is dialled here.

use std::net::{IpAddr, Ipv4Addr};

use model::host::host_name;
use model::{Host, HostPort};

use crate::address::never;

/// Ports where the first bytes name the server: in the ClientHello of TLS, or the head of HTTP.
const NAMED_PORTS: [u16; 2] = [80, 443];
/// Connections at once, unless the policy says otherwise.
pub const CONNECTIONS_MAX: usize = 512;
pub(crate) const NOT_LISTED: &str = "not in the step's network list";

/// What a step may reach and how much.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which hosts.
    pub allow: Allow,
    /// Bytes a second, both directions and all connections together; `None` is as fast as it goes.
    pub rate: Option<u64>,
    /// Connections at once; more wait until one ends. At least 1, usually [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

/// Which hosts a step may reach.
#[derive(Clone, Debug)]
pub enum Allow {
    /// These.
    Hosts(Vec<HostPort>),
    /// All but what no step reaches: the host's loopback, link-local and multicast addresses, metadata services.
    All,
}

/// Where a connection wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the host of this name.
    Name(String),
    /// To this address.
    Address(IpAddr),
}

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Dial,
    /// It is made, and ends when its first bytes name a server that is not allowed.
    DialAndCheck,
    /// Its first bytes decide: they have to name a server that is allowed.
    AskFirst,
    /// It is not made, for this reason.
    Refuse(&'static str),
}

impl Destination {
    /// From the text of a URL or a `Host` header, without port. `None` when it is neither name nor address.
    pub(crate) fn parse(text: &str) -> Option<Destination> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Destination::Address).ok().or_else(|| host_name(text).map(Destination::Name))
    }

    /// As shown to people, without port.
    pub(crate) fn host(&self) -> String {
        match self {
            Destination::Name(name) => name.clone(),
            Destination::Address(address) => address.to_string(),
        }
    }

    /// As shown to people, with port.
    pub(crate) fn at(&self, port: u16) -> String {
        match self {
            Destination::Address(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
            _ => format!("{}:{port}", self.host()),
        }
    }
}

impl Policy {
    /// Whether an address for this name is to be had at all, at whatever port.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.any(|entry| entry.host.means(name))
    }

    /// Whether this host may be reached at this port, if it is not an address that is never dialled.
    pub(crate) fn lists(&self, to: &Destination, port: u16) -> bool {
        self.any(|entry| {
            entry.port == port
                && match to {
                    Destination::Name(name) => entry.host.means(name),
                    Destination::Address(address) => entry.host == Host::Address(*address),
                }
        })
    }

    fn any(&self, fits: impl Fn(&HostPort) -> bool) -> bool {
        match &self.allow {
            Allow::All => true,
            Allow::Hosts(hosts) => hosts.iter().any(fits),
        }
    }

    /// What happens to a connection to this place.
    pub(crate) fn decide(&self, to: &Destination, port: u16) -> Verdict {
        if let Destination::Address(address) = to
            && let Some(why) = never(*address)
        {
            return Verdict::Refuse(why);
        }
        let everything = matches!(self.allow, Allow::All);
        match (self.lists(to, port), to) {
            (true, Destination::Name(_)) if !everything && NAMED_PORTS.contains(&port) => Verdict::DialAndCheck,
            // Who lists an address means the machine that has it, whatever name it is called by.
            (true, _) => Verdict::Dial,
            (false, Destination::Address(_)) if NAMED_PORTS.contains(&port) => Verdict::AskFirst,
            (false, _) => Verdict::Refuse(NOT_LISTED),
        }
    }

    /// The ports of the list, each once.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let Allow::Hosts(hosts) = &self.allow else { return Vec::new() };
        let ports: std::collections::BTreeSet<u16> = hosts.iter().map(|entry| entry.port).collect();
        ports.into_iter().collect()
    }

    /// An entry that can never be reached, and why.
    pub(crate) fn in_vain(&self) -> Option<(&HostPort, &'static str)> {
        let Allow::Hosts(hosts) = &self.allow else { return None };
        hosts.iter().find_map(|entry| match &entry.host {
            Host::Address(address) => never(*address).map(|why| (entry, why)),
            Host::Name(name) | Host::Below(name) if is_localhost(name) => Some((entry, "the host's loopback")),
            Host::Name(_) | Host::Below(_) => None,
        })
    }
}

/// Whether the name means the machine that asks (RFC 6761): inside of a step its own loopback.
pub(crate) fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// The step's own loopback.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Policy {
        let hosts = entries.iter().map(|entry| entry.parse().expect("an entry")).collect();
        Policy { allow: Allow::Hosts(hosts), rate: None, connections_max: CONNECTIONS_MAX }
    }

    fn decided(policy: &Policy, to: &str, port: u16) -> Verdict {
        policy.decide(&Destination::parse(to).expect("a host"), port)
    }

    #[test]
    fn a_list_allows_its_hosts_at_their_ports_and_nothing_else() {
        let policy = list(&["git.example.com:22", "*.example.org:443", "10.0.0.5:5432"]);
        assert_eq!(decided(&policy, "GIT.example.com.", 22), Verdict::Dial);
        assert_eq!(decided(&policy, "a.b.example.org", 443), Verdict::DialAndCheck);
        assert_eq!(decided(&policy, "10.0.0.5", 5432), Verdict::Dial);
        assert_eq!(decided(&policy, "git.example.com", 23), Verdict::Refuse(NOT_LISTED));
        assert_eq!(decided(&policy, "example.org", 443), Verdict::Refuse(NOT_LISTED));
        assert_eq!(decided(&policy, "10.0.0.6", 5432), Verdict::Refuse(NOT_LISTED));
        assert_eq!(decided(&policy, "10.0.0.5", 443), Verdict::AskFirst);
    }

    #[test]
    fn what_is_never_dialled_is_refused_under_every_policy() {
        let all = Policy { allow: Allow::All, ..list(&[]) };
        for policy in [all, list(&["127.0.0.1:80", "169.254.169.254:80", "[::1]:80"])] {
            for address in ["127.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0", "::ffff:127.0.0.1"] {
                assert!(matches!(decided(&policy, address, 80), Verdict::Refuse(_)), "{address}");
            }
        }
    }

    #[test]
    fn an_entry_that_cannot_work_is_found() {
        let vain = |entry| list(&["example.com:1", entry]).in_vain().map(|(entry, _)| entry.to_string());
        assert_eq!(vain("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(vain("localhost:80").as_deref(), Some("localhost:80"));
        assert_eq!(vain("[fe80::1]:80").as_deref(), Some("[fe80::1]:80"));
        assert_eq!(vain("10.0.0.1:80"), None);
    }
}
