//! The gate of one step: its listeners inside, and the threads that serve them from outside.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Scope};
use std::time::{Duration, Instant};

use model::Traffic;
use rustix::event::PollFlags;

use crate::bucket::Bucket;
use crate::ledger::Ledger;
use crate::lookup::Lookup;
use crate::names::Names;
use crate::policy::{Allow, LOOPBACK, Policy};
use crate::stop::{Stop, Stopper, Want};
use crate::{connection, dns};

/// Where the HTTP proxy listens inside.
pub(crate) const PROXY_PORT: u16 = 3128;
/// Look-ups at once; programs ask again.
const LOOKUPS_MAX: usize = 64;
/// Datagrams that are read before somebody else has a turn.
const DATAGRAMS_AT_ONCE: usize = 64;
const STACK_BYTES: usize = 256 << 10;
/// How long to wait for a descriptor or for the end of one of too many connections.
const PAUSE: Duration = Duration::from_millis(20);

/// What all threads of a gate share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) policy: Policy,
    pub(crate) lookup: Lookup,
    pub(crate) ledger: Ledger,
    pub(crate) bucket: Option<Mutex<Bucket>>,
    pub(crate) stop: Stop,
    names: Mutex<Names>,
    connections: AtomicUsize,
    lookups: AtomicUsize,
}

impl Inner {
    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name was refused. Programs ask for both kinds of address; that is one refusal.
    pub(crate) fn refused_name(&self, name: &str, address: bool, why: &str) {
        if address {
            self.ledger.refused(name, why);
        }
    }
}

/// The listeners inside, ready.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) dns_udp: UdpSocket,
    pub(crate) dns_tcp: TcpListener,
    pub(crate) proxy: TcpListener,
    pub(crate) transparent: Vec<TcpListener>,
    /// All connections come to one listener, and the kernel knows where they wanted to go.
    pub(crate) redirected: bool,
}

/// What stands between a step and the network. Dropping it closes it.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<Inner>,
    redirected: bool,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    pub(crate) fn serve(policy: Policy, doors: Doors) -> io::Result<Gate> {
        let (stopper, stop) = Stop::new()?;
        let bucket = policy.rate.map(|rate| Mutex::new(Bucket::new(rate, Instant::now())));
        let redirected = doors.redirected;
        let inner = Arc::new(Inner {
            policy,
            lookup: Lookup::default(),
            ledger: Ledger::default(),
            bucket,
            stop,
            names: Mutex::default(),
            connections: AtomicUsize::new(0),
            lookups: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&inner);
        let run = move || thread::scope(|scope| serve(&shared, &doors, scope));
        let thread = thread::Builder::new().name("gate".into()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Gate { inner, redirected, stopper: Some(stopper), thread: Some(thread) })
    }

    /// What the step finds as `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> String {
        resolv_conf()
    }

    /// Variables for the step: where its HTTP proxy is. On a kernel that cannot redirect connections ([`Gate::everywhere`])
    /// and without a list to know the ports from, programs are told to use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let proxy = format!("http://{LOOPBACK}:{PROXY_PORT}");
        let mut variables = vec![("PACE_PROXY".to_owned(), proxy.clone())];
        if !self.redirected && matches!(self.inner.policy.allow, Allow::All) {
            let usual = ["http_proxy", "https_proxy", "HTTPS_PROXY"];
            variables.extend(usual.map(|name| (name.to_owned(), proxy.clone())));
            variables
                .extend(["no_proxy", "NO_PROXY"].map(|name| (name.to_owned(), "localhost,127.0.0.1,::1".to_owned())));
        }
        variables
    }

    /// Whether connections to every port come here. If not, the kernel has no nf_tables in a user's namespace, and only
    /// connections to the ports of the list and to common ones do; others are refused by the kernel and not listed.
    pub fn everywhere(&self) -> bool {
        self.redirected
    }

    /// What went over it so far. A connection is counted when it ends.
    pub fn traffic(&self) -> Traffic {
        self.inner.ledger.traffic()
    }

    /// Closes it: all connections are reset, all threads end. Says what went over it.
    pub fn finish(mut self) -> Traffic {
        self.close();
        self.traffic()
    }

    fn close(&mut self) {
        self.stopper = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

/// Its name server is inside. It waits for the host's own resolver, which has its own idea of how long to try.
pub(crate) fn resolv_conf() -> String {
    format!("nameserver {LOOPBACK}\noptions timeout:25 attempts:1\n")
}

/// What a step finds as `/etc/hosts`: itself, and `names` (its services) for the same address, on the loopback that they
/// share. The host's own file would name addresses that the list does not know.
pub fn hosts_file<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: String = names.into_iter().map(|name| format!(" {name}")).collect();
    format!("{LOOPBACK} localhost{names}\n::1 localhost ip6-localhost\n")
}

/// Waits at all doors at once, and gives whoever comes a thread of its own: a relay is two sockets and a wait, threads
/// are few and end with the step, and no connection can hold up another.
fn serve<'s>(inner: &'s Inner, doors: &'s Doors, scope: &'s Scope<'s, '_>) {
    loop {
        let full = inner.connections.load(Ordering::Relaxed) >= inner.policy.connections_max.max(1);
        let mut wants: Vec<Want<'_>> = vec![(doors.dns_udp.as_fd(), PollFlags::IN)];
        if !full {
            let listeners = [&doors.dns_tcp, &doors.proxy].into_iter().chain(&doors.transparent);
            wants.extend(listeners.map(|listener| (listener.as_fd(), PollFlags::IN)));
        }
        let Ok(ready) = inner.stop.wait(&wants, full.then_some(PAUSE)) else { return };
        if ready[0] {
            answer_datagrams(inner, &doors.dns_udp, scope);
        }
        let is_ready = |place: usize| ready.get(place).copied().unwrap_or(false);
        if is_ready(1) {
            admit(inner, &doors.dns_tcp, scope, |stream| dns::serve_connection(inner, stream));
        }
        if is_ready(2) {
            admit(inner, &doors.proxy, scope, |stream| connection::proxied(inner, stream));
        }
        for (listener, _) in doors.transparent.iter().zip(3..).filter(|(_, place)| is_ready(*place)) {
            admit(inner, listener, scope, |stream| {
                // Without an original destination it is a connection to the listener itself: nobody we know.
                if let Some(at) = wanted(&stream, doors.redirected) {
                    connection::transparent(inner, stream, at);
                }
            });
        }
    }
}

fn wanted(stream: &TcpStream, redirected: bool) -> Option<SocketAddrV4> {
    if redirected {
        return rustix::net::sockopt::ip_original_dst(stream).ok();
    }
    match stream.local_addr().ok()? {
        SocketAddr::V4(at) => Some(at),
        SocketAddr::V6(_) => None,
    }
}

fn admit<'s>(
    inner: &'s Inner,
    door: &TcpListener,
    scope: &'s Scope<'s, '_>,
    serve: impl FnOnce(TcpStream) + Send + 's,
) {
    let Ok((stream, _)) =
        door.accept().and_then(|(stream, from)| stream.set_nonblocking(true).map(|()| (stream, from)))
    else {
        // Out of descriptors, most likely: it will be there again when one is free.
        let _ = inner.stop.wait(&[], Some(PAUSE));
        return;
    };
    let counted = Counted::one(&inner.connections);
    let run = move || {
        let _counted = counted;
        serve(stream);
    };
    // Without a thread the stream is dropped, and the program sees its connection closed.
    let _ = thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES).spawn_scoped(scope, run);
}

/// One of something, until it is dropped.
pub(crate) struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    pub(crate) fn one(counter: &'c AtomicUsize) -> Counted<'c> {
        counter.fetch_add(1, Ordering::Relaxed);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer_datagrams<'s>(inner: &'s Inner, socket: &'s UdpSocket, scope: &'s Scope<'s, '_>) {
    let mut bytes = [0; dns::MESSAGE_BYTES_MAX + 1];
    for _ in 0..DATAGRAMS_AT_ONCE {
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { return };
        let Some(question) = dns::read(&bytes[..length]) else { continue };
        if let Some(answer) = dns::at_once(inner, &question) {
            let _ = socket.send_to(&dns::write(&question, answer), from);
            continue;
        }
        let counted = Counted::one(&inner.lookups);
        if inner.lookups.load(Ordering::Relaxed) > LOOKUPS_MAX {
            let _ = socket.send_to(&dns::write(&question, dns::Answer::Failed), from);
            continue;
        }
        let run = move || {
            let _counted = counted;
            dns::answer_later(inner, socket, &question, from);
        };
        let _ = thread::Builder::new().name("name".into()).stack_size(STACK_BYTES).spawn_scoped(scope, run);
    }
}

/// Unbound sockets that were made inside of the step's namespace.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) tcp: Vec<OwnedFd>,
    pub(crate) udp: OwnedFd,
}

impl Inside {
    /// Binds them: name server and proxy on loopback; then, for connections to anywhere, one listener that they are
    /// redirected to, or one for each of these ports.
    pub(crate) fn doors(self, ports: Option<&[u16]>) -> io::Result<Doors> {
        let mut tcp = self.tcp.into_iter();
        let mut listen = |address: Ipv4Addr, port: u16| {
            let socket = tcp.next().ok_or(io::ErrorKind::InvalidInput)?;
            listen(socket, SocketAddrV4::new(address, port))
        };
        let (dns_tcp, proxy) = (listen(LOOPBACK, 53)?, listen(LOOPBACK, PROXY_PORT)?);
        let transparent = match ports {
            None => vec![listen(LOOPBACK, 0)?],
            Some(ports) => ports.iter().map(|&port| listen(Ipv4Addr::UNSPECIFIED, port)).collect::<io::Result<_>>()?,
        };
        rustix::net::bind(&self.udp, &SocketAddrV4::new(LOOPBACK, 53))?;
        let dns_udp = UdpSocket::from(self.udp);
        dns_udp.set_nonblocking(true)?;
        Ok(Doors { dns_udp, dns_tcp, proxy, transparent, redirected: ports.is_none() })
    }
}

pub(crate) fn listen(socket: OwnedFd, at: SocketAddrV4) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 1024;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
