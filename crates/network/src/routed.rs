//! `network: full` with everything that is not TCP, for root on a host that forwards anyway: a pair of interfaces, the
//! host's address for the world, and nothing in the way but what no step reaches.
//!
//! What the kernel holds for it is tied to descriptors of ours: a process that is killed leaves neither interface (it
//! goes with the step's namespace) nor rule (the table belongs to the socket that made it).

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use model::Traffic;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, netdevice, netlink, socket_with};
use sandbox::{Net, Sockets};

use crate::forward::Forwarder;
use crate::nft::{self, Block};
use crate::open::{NetworkError, furnishing};
use crate::route;

/// Networks of four addresses out of 198.19.0.0/16, which is set aside for tests of devices.
const NETWORKS: u32 = 1 << 14;
const BASE: u32 = u32::from_be_bytes([198, 19, 0, 0]);
const BITS: u8 = 30;
const MASK: [u8; 4] = [255, 255, 255, 252];
/// What no step reaches, as [`crate::address`] has it; the first is all steps' own addresses, and those of the host
/// towards them.
const FORBIDDEN: [Block; 8] = [
    ([198, 18, 0, 0], [255, 254, 0, 0]),
    ([127, 0, 0, 0], [255, 0, 0, 0]),
    ([169, 254, 0, 0], [255, 255, 0, 0]),
    ([224, 0, 0, 0], [224, 0, 0, 0]),
    ([0, 0, 0, 0], [255, 0, 0, 0]),
    ([100, 100, 100, 200], [255; 4]),
    ([168, 63, 129, 16], [255; 4]),
    ([192, 0, 0, 192], [255; 4]),
];

/// A step's way into the world. Dropping it closes it.
#[derive(Debug)]
pub struct Routed {
    forwarder: Forwarder,
    // In this order: first nothing passes any more, then there is nothing to pass.
    _rules: OwnedFd,
    _pair: Pair,
}

/// Why no step can be routed here, as a clause with what to do, or `None`.
pub fn why_not_routed() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can give a step an interface of its own; TCP is passed on by a gate instead".into());
    }
    match fs::read_to_string("/proc/sys/net/ipv4/ip_forward") {
        Ok(text) if text.trim() == "1" => None,
        _ => Some(
            "this host does not forward packets, and Paceline does not change that; TCP is passed on by a gate instead. If \
             steps need UDP or ICMP: sysctl -w net.ipv4.ip_forward=1"
                .into(),
        ),
    }
}

/// Makes a network for one step that is routed into the world.
///
/// A host whose own firewall drops what it forwards (Docker sets that up) drops this too; therefore it is for those who
/// ask for it, and [`crate::open`] for everybody.
///
/// # Errors
/// When [`why_not_routed`] says why, or the kernel (before 5.12, or without veth or nf_tables) refuses.
pub fn routed() -> Result<(Net, Routed), NetworkError> {
    if let Some(why) = why_not_routed() {
        return Err(NetworkError::NotRouted(why));
    }
    let (net, mut sockets) = Net::new(Sockets { tcp: 1, udp: 1, netlink: true })?;
    let missing = || furnishing("make the sockets")(io::Error::from(io::ErrorKind::Unsupported));
    let (inside, tcp, udp) = match (sockets.route.take(), sockets.tcp.pop(), sockets.udp.pop()) {
        (Some(inside), Some(tcp), Some(udp)) => (inside, tcp, udp),
        _ => return Err(missing()),
    };
    let outside = host_socket(None).map_err(furnishing("make the sockets"))?;
    let pair = Pair::new(outside, &net).map_err(furnishing("make the interfaces"))?;
    pair.bring_up(&inside).map_err(furnishing("bring up the interfaces"))?;
    let rules = host_socket(Some(netlink::NETFILTER)).map_err(furnishing("make the sockets"))?;
    nft::masquerade(rules.as_fd(), &pair.name, (pair.address(0).octets(), MASK), &FORBIDDEN)
        .map_err(furnishing("set the packet filter"))?;
    let forwarder = Forwarder::start(tcp, udp).map_err(furnishing("start the name server"))?;
    Ok((net, Routed { forwarder, _rules: rules, _pair: pair }))
}

/// Without a protocol it is the one for interfaces and routes, `NETLINK_ROUTE`: its number is 0.
fn host_socket(protocol: Option<Protocol>) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
}

impl Routed {
    /// As [`crate::Gate::resolv_conf`].
    pub fn resolv_conf(&self) -> String {
        crate::gate::resolv_conf()
    }

    /// Closes it. Packets are not counted by host: the result is empty.
    pub fn finish(self) -> Traffic {
        drop(self.forwarder);
        Traffic::default()
    }
}

/// Two interfaces: one of the host, one of the step. Dropping it removes both.
#[derive(Debug)]
struct Pair {
    route: OwnedFd,
    name: String,
    number: u32,
    index: u32,
}

impl Pair {
    fn new(route: OwnedFd, net: &Net) -> io::Result<Pair> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // The kernel says which numbers are taken, by other processes too; these begin somewhere else.
        let begin = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        for number in (0..NETWORKS).map(|step| begin.wrapping_add(step) % NETWORKS) {
            let name = format!("pace{number}");
            match route::add_pair(route.as_fd(), &name, net.as_fd()) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
                Ok(()) => {
                    let index = netdevice::name_to_index(&route, &name)?;
                    return Ok(Pair { route, name, number, index });
                }
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Its network, and the addresses in it: 1 is the host's, 2 the step's.
    fn address(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(BASE + self.number * 4 + place)
    }

    fn bring_up(&self, inside: &OwnedFd) -> io::Result<()> {
        // Or the step would reach what listens on the host's IPv6 addresses. A host without IPv6 has no such file.
        match fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name), "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        route::bring_up(self.route.as_fd(), self.index, self.address(1), BITS, None)?;
        route::bring_up(inside.as_fd(), route::PEER_INDEX, self.address(2), BITS, Some(self.address(1)))?;
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = route::remove(self.route.as_fd(), self.index);
    }
}
