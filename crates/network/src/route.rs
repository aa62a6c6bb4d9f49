//! Addresses and routes of a step's namespace, over its routing socket.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::netlink::{ACK, CREATE, EXCL, Message, tell};

const AF_INET: u8 = 2;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_LOCAL: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const RTA_OIF: u16 = 4;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
/// The first interface of every namespace.
const LOOPBACK_INDEX: u32 = 1;

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

fn add_address(interface: u32, address: Ipv4Addr, bits: u8) -> Message {
    let head = [&[AF_INET, bits, 0, RT_SCOPE_UNIVERSE][..], &interface.to_ne_bytes()].concat();
    Message::new(RTM_NEWADDR, ACK | CREATE | EXCL, &head)
        .with(IFA_LOCAL, &address.octets())
        .with(IFA_ADDRESS, &address.octets())
}
