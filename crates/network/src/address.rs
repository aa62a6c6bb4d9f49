//! Addresses that no step reaches, whatever its list or the domain name system says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Services of clouds that hand credentials to whoever asks from this machine and are not link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
];
/// Amazon's, by IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Why this address is never dialled, as a clause, or `None`. The host's loopback is where services listen that trust
/// everybody who can reach them; its other addresses can be reached by every machine beside it, so a step may as well.
pub(crate) fn never(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => never_v4(v4),
        IpAddr::V6(v6) => never_v6(v6),
    }
}

fn never_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = address.octets();
    match address {
        _ if address.is_loopback() => Some("the host's loopback"),
        _ if first == 0 => Some("an unspecified address"),
        _ if address.is_link_local() => Some("a link-local address, where clouds keep their metadata service"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if first >= 240 => Some("a broadcast or reserved address"),
        _ if METADATA_V4.contains(&address) => Some("a cloud's metadata service"),
        _ if crate::names::is_ours(address) => Some("an address that only means something inside of a step"),
        _ => None,
    }
}

fn never_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("the host's loopback"),
        _ if address.is_unspecified() => Some("an unspecified address"),
        _ if address.is_unicast_link_local() => Some("a link-local address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address == METADATA_V6 => Some("a cloud's metadata service"),
        _ => embedded(address).and_then(never_v4),
    }
}

/// The IPv4 address that a kernel or a translator on the way would talk to: mapped, compatible, NAT64 and 6to4 forms.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_loopback_link_local_or_metadata_is_dialled() {
        for text in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "198.18.0.9",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(never(text.parse().expect("an address")).is_some(), "{text} would be dialled");
        }
    }

    #[test]
    fn public_and_private_addresses_are_dialled() {
        for text in [
            "10.0.0.5",
            "192.168.1.1",
            "172.16.0.1",
            "1.1.1.1",
            "203.0.113.7",
            "2001:db8::1",
            "fd12::1",
            "::ffff:10.0.0.5",
        ] {
            assert_eq!(never(text.parse().expect("an address")), None, "{text}");
        }
    }
}
