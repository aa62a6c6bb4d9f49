//! Connections from the host to the world.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

use crate::stop::{Stop, Stopped};

/// For the last address of a name.
const DIAL_MAX: Duration = Duration::from_secs(20);
/// For an address after which there is another: a broken IPv6 network is common and answers nothing.
const DIAL_NEXT: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// The last address' reason.
    Failed(io::Error),
    /// The gate is closing.
    Stopped,
}

/// Connects to the first of these addresses that answers. The stream does not block.
pub(crate) fn dial(addresses: &[IpAddr], port: u16, stop: &Stop) -> Result<TcpStream, NoConnection> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (place, address) in addresses.iter().enumerate() {
        let time = if place + 1 < addresses.len() { DIAL_NEXT } else { DIAL_MAX };
        match dial_one(SocketAddr::new(*address, port), time, stop) {
            Err(NoConnection::Failed(error)) => last = error,
            connected_or_stopped => return connected_or_stopped,
        }
    }
    Err(NoConnection::Failed(last))
}

fn dial_one(to: SocketAddr, time: Duration, stop: &Stop) -> Result<TcpStream, NoConnection> {
    let failed = |errno: Errno| NoConnection::Failed(errno.into());
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(failed)?;
    match connect(&socket, &to) {
        Ok(()) => return Ok(socket.into()),
        Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(failed(errno)),
    }
    match stop.ready(&socket, PollFlags::OUT, time) {
        Err(Stopped) => Err(NoConnection::Stopped),
        Ok(false) => Err(failed(Errno::TIMEDOUT)),
        Ok(true) => match sockopt::socket_error(&socket) {
            Ok(Ok(())) => Ok(socket.into()),
            Ok(Err(errno)) | Err(errno) => Err(failed(errno)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (_stopper, stop) = Stop::new().expect("a pipe");
        let addresses = ["127.0.0.2", "::1", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        let stream = dial(&addresses, port, &stop).expect("the last one listens");
        assert_eq!(stream.peer_addr().expect("connected").to_string(), format!("127.0.0.1:{port}"));
        assert!(matches!(dial(&addresses[..2], port, &stop), Err(NoConnection::Failed(_))));
        assert!(matches!(dial(&[], port, &stop), Err(NoConnection::Failed(_))));
    }

    #[test]
    fn a_gate_that_closes_does_not_wait_for_who_never_answers() {
        // A listener whose queue is full answers nothing.
        let flags = SocketFlags::CLOEXEC;
        let silent = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
        rustix::net::bind(&silent, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        rustix::net::listen(&silent, 0).expect("bound");
        let port =
            std::net::TcpListener::from(silent.try_clone().expect("a descriptor")).local_addr().expect("bound").port();
        let filling = TcpListener::from(silent);
        let at = ["127.0.0.1".parse().expect("an address")];
        let (stopper, stop) = Stop::new().expect("a pipe");
        let (_filled, _stream) = (filling, dial(&at, port, &stop).expect("there is room for one"));
        drop(stopper);
        assert!(matches!(dial(&at, port, &stop), Err(NoConnection::Stopped)));
    }
}
