//! The name server inside of a routed step: questions go on to the host's own name servers as they are.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use rustix::event::PollFlags;

use crate::dial::dial;
use crate::gate::{Counted, listen};
use crate::policy::LOOPBACK;
use crate::relay::Relay;
use crate::stop::{Stop, Stopper};

/// Before the next server is asked.
const ANSWER_MAX: Duration = Duration::from_secs(4);
const SERVERS_MAX: usize = 3;
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Questions that wait for an answer; more are not heard, and asked again.
const OPEN_MAX: usize = 128;

/// Forwards until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// With sockets of the step's namespace.
    pub(crate) fn start(tcp: OwnedFd, udp: OwnedFd) -> io::Result<Forwarder> {
        let at = SocketAddrV4::new(LOOPBACK, 53);
        let tcp = listen(tcp, at)?;
        rustix::net::bind(&udp, &at)?;
        let udp = UdpSocket::from(udp);
        udp.set_nonblocking(true)?;
        let (stopper, stop) = Stop::new()?;
        let run = move || {
            let open = AtomicUsize::new(0);
            thread::scope(|scope| serve(&stop, &open, &tcp, &udp, scope));
        };
        let thread = thread::Builder::new().name("names".into()).spawn(run)?;
        Ok(Forwarder { stopper: Some(stopper), thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stopper = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve<'s>(stop: &'s Stop, open: &'s AtomicUsize, tcp: &TcpListener, udp: &'s UdpSocket, scope: &'s Scope<'s, '_>) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    while let Ok(ready) = stop.wait(&[(udp.as_fd(), PollFlags::IN), (tcp.as_fd(), PollFlags::IN)], None) {
        if ready[0]
            && let Ok((length, from)) = udp.recv_from(&mut bytes)
        {
            let question = bytes[..length].to_vec();
            each(open, scope, move || {
                if let Some(answer) = ask(stop, &question) {
                    let _ = udp.send_to(&answer, from);
                }
            });
        }
        if ready[1]
            && let Ok((stream, _)) = tcp.accept()
        {
            each(open, scope, move || pass(stop, &stream));
        }
    }
}

fn each<'s>(open: &'s AtomicUsize, scope: &'s Scope<'s, '_>, work: impl FnOnce() + Send + 's) {
    let counted = Counted::one(open);
    if open.load(Ordering::Relaxed) > OPEN_MAX {
        return;
    }
    let run = move || {
        let _counted = counted;
        work();
    };
    let _ = thread::Builder::new().name("name".into()).spawn_scoped(scope, run);
}

fn ask(stop: &Stop, question: &[u8]) -> Option<Vec<u8>> {
    servers().into_iter().find_map(|server| {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(server, 53)).ok()?;
        socket.send(question).ok()?;
        let mut answer = vec![0; DATAGRAM_BYTES_MAX];
        let length = stop.ready(&socket, PollFlags::IN, ANSWER_MAX).ok()?.then(|| socket.recv(&mut answer).ok())??;
        answer.truncate(length);
        Some(answer)
    })
}

fn pass(stop: &Stop, step: &TcpStream) {
    let Ok(host) = dial(&servers(), 53, stop) else { return };
    if step.set_nonblocking(true).is_ok() {
        Relay { step, host: &host, stop, bucket: None }.run(Vec::new(), None);
    }
}

/// The host's name servers at this moment.
fn servers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named: Vec<IpAddr> = listed(&text).take(SERVERS_MAX).collect();
    if named.is_empty() { vec![LOOPBACK.into()] } else { named }
}

fn listed(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_name_servers_are_read_from_its_file() {
        let text =
            "# a comment\nsearch example.com\nnameserver 127.0.0.53\nnameserver\t2001:db8::1 \nnameserver nonsense\n";
        let found: Vec<String> = listed(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["127.0.0.53", "2001:db8::1"]);
    }
}
