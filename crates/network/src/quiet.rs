//! Networks that reach nothing, made once and used by one step after another: half of what a sandbox costs.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use sandbox::{Net, Sockets};

use crate::NetworkError;
use crate::open::furnishing;
use crate::route::loopback_packets;

/// A namespace with loopback and nothing else.
#[derive(Debug)]
pub struct Quiet {
    net: Arc<Net>,
    route: OwnedFd,
}

impl Quiet {
    /// Makes one.
    ///
    /// # Errors
    /// The host gives no namespace.
    pub fn new() -> Result<Quiet, NetworkError> {
        let (net, sockets) = Net::new(Sockets { tcp: 0, udp: 0, netlink: true })?;
        let missing = || furnishing::<ErrorKind>("make the sockets")(ErrorKind::Unsupported);
        Ok(Quiet { net: Arc::new(net), route: sockets.route.ok_or_else(missing)? })
    }

    /// For sandboxes.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// Not a single packet ever went over its loopback. Then nothing is left of whoever was in it: sockets end with their
    /// processes, connections that linger (TIME_WAIT) and counters come with packets only, and nobody inside may
    /// configure anything.
    pub fn is_untouched(&self) -> bool {
        loopback_packets(self.route.as_fd()) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_network_is_untouched_until_its_first_packet() {
        let quiet = Quiet::new().expect("a namespace");
        assert!(quiet.is_untouched());
        let listening = quiet.net().tcp_socket().expect("a socket");
        rustix::net::bind(&listening, &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("bound");
        rustix::net::listen(&listening, 1).expect("listening");
        assert!(quiet.is_untouched(), "a listener that nobody talks to leaves nothing");
        let address = TcpListener::from(listening.try_clone().expect("a copy")).local_addr().expect("an address");
        let client = quiet.net().tcp_socket().expect("a socket");
        rustix::net::connect(&client, &address).expect("connected");
        assert!(!quiet.is_untouched());
    }
}
