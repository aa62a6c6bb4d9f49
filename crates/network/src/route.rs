//! Addresses and routes of a step's namespace, over its routing socket.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::netlink::{ACK, CREATE, EXCL, Message, ask, attribute, tell};

const AF_INET: u8 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_LOCAL: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
/// `ifinfomsg`.
const INTERFACE_HEAD_BYTES: usize = 16;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
/// The first interface of every namespace.
const LOOPBACK_INDEX: u32 = 1;
/// The second.
pub(crate) const PEER_INDEX: u32 = 2;

/// Gives loopback this address too, and makes every address there is a local one: a connection to anywhere arrives at
/// a listener of this very namespace.
pub(crate) fn everything_is_local(route: BorrowedFd<'_>, own: Ipv4Addr) -> Result<(), Errno> {
    let any = Message::new(
        RTM_NEWROUTE,
        ACK | CREATE | EXCL,
        &[AF_INET, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0],
    );
    tell(route, vec![add_address(LOOPBACK_INDEX, own, 32), any.with(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes())])
}

/// Packets that ever went over loopback.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn loopback_packets(route: BorrowedFd<'_>) -> Result<u64, Errno> {
    const RTM_GETLINK: u16 = 18;
    let answer = ask(route, Message::new(RTM_GETLINK, 0, &interface(LOOPBACK_INDEX, false)))?;
    // `rtnl_link_stats64` begins with received packets.
    let stats = attribute(&answer, INTERFACE_HEAD_BYTES, IFLA_STATS64).ok_or(Errno::NODATA)?;
    let received = stats.first_chunk::<8>().ok_or(Errno::NODATA)?;
    Ok(u64::from_ne_bytes(*received))
}

/// Makes a pair of interfaces: `name` here, and the other end in the namespace `net`, as its interface number
/// [`PEER_INDEX`].
pub(crate) fn add_pair(route: BorrowedFd<'_>, name: &str, net: BorrowedFd<'_>) -> Result<(), Errno> {
    let fd = u32::try_from(net.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let peer = move |data: Message| {
        let peer = |peer: Message| {
            peer.raw(&interface(PEER_INDEX, false)).text(IFLA_IFNAME, "eth0").with(IFLA_NET_NS_FD, &fd.to_ne_bytes())
        };
        data.nest(VETH_INFO_PEER, peer)
    };
    let pair = Message::new(RTM_NEWLINK, ACK | CREATE | EXCL, &interface(0, false))
        .text(IFLA_IFNAME, name)
        .nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, peer));
    tell(route, vec![pair])
}

/// Gives an interface its address and brings it up; `gateway` becomes the way to everywhere.
pub(crate) fn bring_up(
    route: BorrowedFd<'_>,
    index: u32,
    address: Ipv4Addr,
    bits: u8,
    gateway: Option<Ipv4Addr>,
) -> Result<(), Errno> {
    let up = Message::new(RTM_NEWLINK, ACK, &interface(index, true));
    tell(route, vec![add_address(index, address, bits), up])?;
    let Some(gateway) = gateway else { return Ok(()) };
    let head = [AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0];
    let default = Message::new(RTM_NEWROUTE, ACK | CREATE | EXCL, &head).with(RTA_GATEWAY, &gateway.octets());
    tell(route, vec![default])
}

/// Removes an interface, and with it its other end.
pub(crate) fn remove(route: BorrowedFd<'_>, index: u32) -> Result<(), Errno> {
    tell(route, vec![Message::new(RTM_DELLINK, ACK, &interface(index, false))])
}

/// `ifinfomsg`, with the wish to be up.
fn interface(index: u32, up: bool) -> Vec<u8> {
    let up = u32::from(up) * IFF_UP;
    [[0; 4], index.to_ne_bytes(), up.to_ne_bytes(), up.to_ne_bytes()].concat()
}

fn add_address(interface: u32, address: Ipv4Addr, bits: u8) -> Message {
    let head = [&[AF_INET, bits, 0, RT_SCOPE_UNIVERSE][..], &interface.to_ne_bytes()].concat();
    Message::new(RTM_NEWADDR, ACK | CREATE | EXCL, &head)
        .with(IFA_LOCAL, &address.octets())
        .with(IFA_ADDRESS, &address.octets())
}
