//! A network namespace that is made ahead.

use std::io::{Read, Write};
use std::mem::size_of;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use sandbox::{Exit, Net, Network, Sockets, Spec};

use crate::scene::{bare, helper, run, start};
use crate::{can_sandbox, fs, needs_sandbox};

fn shared(step: Spec, net: &Arc<Net>) -> Spec {
    Spec { network: Network::Shared(Arc::clone(net)), ..step }
}

fn net(sockets: Sockets) -> (Arc<Net>, sandbox::NetSockets) {
    let (net, sockets) = Net::new(sockets).expect("the host has network namespaces");
    (Arc::new(net), sockets)
}

/// Makes a socket that belongs to the namespace listen there.
fn listen(socket: OwnedFd, address: Ipv4Addr, port: u16) -> TcpListener {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the address lives on this stack and its size goes with it.
    unsafe {
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size), 0, "bound");
        assert_eq!(libc::listen(socket.as_raw_fd(), 16), 0, "listens");
    }
    TcpListener::from(socket)
}

#[test]
fn the_supervisor_listens_inside_and_the_step_connects() {
    needs_sandbox!();
    let (net, mut sockets) = net(Sockets { tcp: 2, udp: 1, netlink: true });
    assert_eq!((sockets.tcp.len(), sockets.udp.len(), sockets.route.is_some()), (2, 1, true));
    let listener = listen(sockets.tcp.remove(0), Ipv4Addr::LOCALHOST, 80);
    assert!(TcpStream::connect("127.0.0.1:80").is_err() || listener.set_nonblocking(true).is_ok());
    listener.set_nonblocking(false).expect("is a socket");
    let (mut child, mut output) = start(shared(helper("connect 80"), &net)).expect("it starts");
    let (mut stream, _) = listener.accept().expect("the step connects");
    stream.write_all(b"hello from outside").expect("it reads");
    drop(stream);
    let mut text = String::new();
    output.read_to_string(&mut text).expect("a pipe");
    assert!(text.contains("SAYS hello from outside"), "{text}");
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Code(0));
}

#[test]
fn two_sandboxes_in_one_network_talk_and_a_third_elsewhere_does_not() {
    needs_sandbox!();
    let (net, _) = net(Sockets::default());
    let (_service, mut output) = start(shared(helper("serve 80"), &net)).expect("it starts");
    crate::read_until(&mut output, "SAYS listening");
    assert!(run(shared(helper("connect 80"), &net)).output.contains("SAYS served"), "a step reaches its service");
    let (other, _) = self::net(Sockets::default());
    assert!(run(shared(helper("connect 80"), &other)).output.contains("SAYS refused"), "another network does not");
    assert!(run(helper("connect 80")).output.contains("SAYS refused"), "nor one of its own");
}

#[test]
fn a_network_is_used_by_one_sandbox_after_another() {
    needs_sandbox!();
    let (net, _) = net(Sockets::default());
    let inode = |step| run(step).output;
    let first = inode(shared(bare(&["readlink", "/proc/self/ns/net"]), &net));
    assert_eq!(inode(shared(bare(&["readlink", "/proc/self/ns/net"]), &net)), first);
    let ours = fs::read_link("/proc/self/ns/net").expect("is there");
    assert!(first.starts_with("net:[") && first.trim() != ours.to_string_lossy(), "{first}");
}

#[test]
fn a_sandbox_has_no_rights_over_the_network_it_is_in() {
    needs_sandbox!();
    let (net, _) = net(Sockets::default());
    let output = run(shared(helper("network rights"), &net)).output;
    assert!(output.contains("SAYS lo down: 1, route: 1"), "{output}");
    let owner = |step| run(step).output;
    let user = owner(shared(bare(&["readlink", "/proc/self/ns/user"]), &net));
    assert_ne!(user, owner(shared(bare(&["readlink", "/proc/self/ns/user"]), &net)), "each has a namespace of its own");
}

#[test]
fn joining_a_network_changes_nothing_of_the_supervisor() {
    needs_sandbox!();
    let spaces =
        || ["net", "user"].map(|kind| fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("is there"));
    let before = spaces();
    let (net, _) = net(Sockets::default());
    let mut child = shared(bare(&["sleep", "100"]), &net).spawn().expect("it starts");
    assert_eq!(spaces(), before);
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).expect("it runs");
    assert!(status.contains(&format!("\nPPid:\t{}\n", std::process::id())), "process 1 is our child: {status}");
    child.kill();
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(9));
}

#[test]
fn a_network_that_is_dropped_stays_for_those_inside() {
    needs_sandbox!();
    let (net, mut sockets) = net(Sockets { tcp: 1, ..Sockets::default() });
    let listener = listen(sockets.tcp.remove(0), Ipv4Addr::LOCALHOST, 81);
    let (mut child, mut output) = start(shared(helper("connect 81"), &net)).expect("it starts");
    drop(net);
    listener.accept().expect("the step connects").0.write_all(b"still there").expect("it reads");
    assert!(crate::read_until(&mut output, "SAYS still there").contains("still"));
    child.wait().expect("nobody else waits");
}

#[test]
fn too_many_sockets_are_refused() {
    let error = Net::new(Sockets { tcp: 2000, ..Sockets::default() }).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("cannot start the process: 2000 sockets in one network, more than 1024"));
}
