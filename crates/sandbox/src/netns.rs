//! A network namespace that is made ahead and that several sandboxes join: a step with its services, or one step after
//! another. It costs as much as half of all the rest of a sandbox.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_void};

use crate::launch::Stack;
use crate::sys::{self, Errno};
use crate::{SpawnError, error, inside};

/// Sockets that one namespace may be given.
const SOCKETS_MAX: usize = 1024;

/// A network namespace with loopback up and nothing else, and the user namespace that owns it. Its ports below 1024 are
/// for everybody. It is gone when this is dropped and the last sandbox in it has ended.
#[derive(Debug)]
pub struct Net {
    user: OwnedFd,
    net: OwnedFd,
}

/// How many sockets to make inside. They are not bound; a socket belongs to the namespace that it was made in, wherever
/// it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// For TCP over IPv4.
    pub tcp: usize,
    /// For UDP over IPv4.
    pub udp: usize,
    /// For configuration: routes, and the packet filter if the kernel has one.
    pub netlink: bool,
}

/// Sockets of a [`Net`].
#[derive(Debug, Default)]
pub struct NetSockets {
    /// As many as were asked for.
    pub tcp: Vec<OwnedFd>,
    /// As many as were asked for.
    pub udp: Vec<OwnedFd>,
    /// `NETLINK_ROUTE`, when asked for.
    pub route: Option<OwnedFd>,
    /// `NETLINK_NETFILTER`, when asked for and the kernel has it.
    pub netfilter: Option<OwnedFd>,
}

impl Net {
    /// Makes a namespace, by a process that ends at once: the namespace lives by its descriptors alone. The caller owns it,
    /// so it may bind and configure the sockets; what runs in a sandbox has no right over it.
    ///
    /// # Errors
    /// When the host refuses namespaces, or more than 1,024 sockets were asked for, or descriptors run out.
    pub fn new(sockets: Sockets) -> Result<(Net, NetSockets), SpawnError> {
        let count = sockets.tcp.saturating_add(sockets.udp);
        if count > SOCKETS_MAX {
            return Err(SpawnError::Invalid(format!("{count} sockets in one network, more than {SOCKETS_MAX}")));
        }
        // SAFETY: both always succeed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let map = |id: u32| CString::new(format!("{id} {id} 1")).expect("digits and spaces");
        let mut made =
            Making { uid: map(uid), gid: map(gid), sockets, fds: Vec::with_capacity(count + 4), failed: None };
        let ran = in_borrowed_process(libc::CLONE_NEWUSER | libc::CLONE_NEWNET, make, &mut made);
        // SAFETY: the process made these descriptors in the table that it shared with us.
        let fds = made.fds.iter().map(|fd| (*fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(*fd) })).collect();
        ran.map_err(error::no_namespaces)?;
        if let Some((what, errno)) = made.failed {
            let source = io::Error::from_raw_os_error(errno);
            return Err(match errno {
                libc::EPERM | libc::EACCES => error::no_namespaces(source),
                _ => SpawnError::Setup { what: format!("{what} of a network namespace"), source },
            });
        }
        sorted(fds, sockets).ok_or_else(|| SpawnError::Setup {
            what: "make a network namespace".into(),
            source: io::Error::other("its process ended early"),
        })
    }

    /// Another TCP socket over IPv4 inside: what connects through it sees what a sandbox in this network would see.
    ///
    /// # Errors
    /// When the kernel has no process or no descriptor to give.
    pub fn tcp_socket(&self) -> io::Result<OwnedFd> {
        struct Asked<'a> {
            net: &'a Net,
            made: Result<c_int, Errno>,
        }
        fn make(asked: &mut Asked<'_>) {
            let socket = |()| sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            asked.made = asked.net.join().and_then(socket).map(|fd| {
                let number = fd.0;
                std::mem::forget(fd);
                number
            });
        }
        let mut asked = Asked { net: self, made: Err(libc::ESRCH) };
        in_borrowed_process(0, make, &mut asked)?;
        let fd = asked.made.map_err(io::Error::from_raw_os_error)?;
        // SAFETY: the process made this descriptor in the table that it shared with us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes the calling process, which must have one thread and end soon, into it.
    pub(crate) fn join(&self) -> Result<(), Errno> {
        match join(&self.net, libc::CLONE_NEWNET) {
            // Root needs nobody's permission; others are root in the namespace that owns the network.
            Err(libc::EPERM) => {
                join(&self.user, libc::CLONE_NEWUSER)?;
                join(&self.net, libc::CLONE_NEWNET)
            }
            result => result,
        }
    }
}

/// The network namespace, for those who put an interface into it.
impl AsFd for Net {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

fn join(namespace: &OwnedFd, kind: c_int) -> Result<(), Errno> {
    // SAFETY: only numbers change hands.
    sys::check(c_long::from(unsafe { libc::setns(namespace.as_raw_fd(), kind) })).map(|_| ())
}

fn sorted(fds: Vec<Option<OwnedFd>>, sockets: Sockets) -> Option<(Net, NetSockets)> {
    let mut fds = fds.into_iter();
    let net = Net { user: fds.next()??, net: fds.next()?? };
    let tcp = fds.by_ref().take(sockets.tcp).collect::<Option<Vec<_>>>()?;
    let udp = fds.by_ref().take(sockets.udp).collect::<Option<Vec<_>>>()?;
    let (route, netfilter) = if sockets.netlink { (Some(fds.next()??), fds.next()?) } else { (None, None) };
    Some((net, NetSockets { tcp, udp, route, netfilter }))
}

/// What the process that makes a namespace needs and leaves.
struct Making {
    uid: CString,
    gid: CString,
    sockets: Sockets,
    /// Room for all of them; nothing here may allocate. In the order of [`sorted`], -1 for what the kernel lacks.
    fds: Vec<c_int>,
    failed: Option<(&'static str, Errno)>,
}

/// Runs in the new namespaces.
fn make(making: &mut Making) {
    if let Err(failed) = furnish(making) {
        making.failed = Some(failed);
    }
}

fn furnish(making: &mut Making) -> Result<(), (&'static str, Errno)> {
    inside::map_ids(&making.uid, &making.gid).map_err(|errno| ("map the user", errno))?;
    inside::loopback_up().map_err(|errno| ("bring up the loopback interface", errno))?;
    // There is nobody in it who needs protection from a process that listens on port 80. Kernels without this setting
    // have it compiled out together with the need.
    let _ = sys::write_file(c"/proc/sys/net/ipv4/ip_unprivileged_port_start", c"0");
    for path in [c"/proc/thread-self/ns/user", c"/proc/thread-self/ns/net"] {
        let fd = sys::open(path, libc::O_RDONLY).map_err(|errno| ("open the descriptors", errno))?;
        keep(making, fd);
    }
    let Sockets { tcp, udp, netlink } = making.sockets;
    for _ in 0..tcp {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map_err(|errno| ("make a TCP socket", errno))?;
        keep(making, fd);
    }
    for _ in 0..udp {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(|errno| ("make a UDP socket", errno))?;
        keep(making, fd);
    }
    if netlink {
        let netlink = |protocol| sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol);
        keep(making, netlink(libc::NETLINK_ROUTE).map_err(|errno| ("make a netlink socket", errno))?);
        match netlink(libc::NETLINK_NETFILTER) {
            Ok(fd) => keep(making, fd),
            Err(_) => making.fds.push(-1),
        }
    }
    Ok(())
}

fn keep(making: &mut Making, fd: sys::Fd) {
    making.fds.push(fd.0);
    std::mem::forget(fd);
}

/// Runs `work` in a process of its own that borrows this thread's memory and descriptors until it ends, as `vfork` does,
/// and waits for it. What the process changes about itself, its namespaces for instance, ends with it. `work` must not
/// allocate, lock or panic.
pub(crate) fn in_borrowed_process<T>(flags: c_int, work: fn(&mut T), state: &mut T) -> io::Result<()> {
    struct Call<'a, T> {
        work: fn(&mut T),
        state: &'a mut T,
    }
    extern "C" fn body<T>(call: *mut c_void) -> c_int {
        // SAFETY: it is the `Call` below, and the thread that made it waits for us.
        let call = unsafe { &mut *call.cast::<Call<T>>() };
        (call.work)(call.state);
        0
    }
    let stack = Stack::new();
    let mut call = Call { work, state };
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    let mask = sys::block_signals();
    // SAFETY: the stack is ours and unused; `call` and the stack outlive the process because CLONE_VFORK suspends this
    // thread until it has ended. No exit signal: nobody else's `wait` takes it away.
    let pid = unsafe { libc::clone(body::<T>, stack.top(), flags, (&raw mut call).cast::<c_void>()) };
    let failed = io::Error::last_os_error();
    sys::set_signal_mask(mask);
    if pid < 0 {
        return Err(failed);
    }
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours to be filled.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        // It has ended in any case; somebody else may have taken it away.
        if waited >= 0 || sys::errno() != libc::EINTR {
            return Ok(());
        }
    }
}
