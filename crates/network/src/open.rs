//! Makes a step's network and the gate to it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use sandbox::{Net, NetSockets, Sockets, SpawnError};

use crate::gate::{Gate, Inside};
use crate::names::OWN;
use crate::policy::Policy;
use crate::{nft, route};

/// Without redirection there is a listener for each port that the list names, and for these: so that what is refused there
/// is on record, and so that `network: full` reaches what is mostly asked for.
const COMMON_PORTS: [u16; 12] = [21, 22, 80, 443, 873, 3306, 5432, 6379, 8080, 8443, 9418, 11371];
/// Name server and proxy.
const OWN_LISTENERS: usize = 2;

/// Why a step has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The list has an entry that no step may reach.
    #[error(
        "`{entry}` is in the step's network list, but no step reaches it: it is {why}; leave it out, or start what listens there as a service of the step"
    )]
    Never {
        /// As in the list.
        entry: String,
        /// What it is, as a clause.
        why: &'static str,
    },
    /// No step can be routed on this host.
    #[error("a step cannot be given an interface of its own: {0}")]
    NotRouted(String),
    /// The host gives no namespace.
    #[error(transparent)]
    Namespace(#[from] SpawnError),
    /// The namespace is there and could not be furnished.
    #[error("cannot {what} of the step's network: {source}")]
    Furnish {
        /// The act and its object.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Makes a network for one step, and the gate that stands before it. Nothing needs to be root.
///
/// # Errors
/// When the list names what no step reaches, or the host gives no namespace, socket or thread.
pub fn open(policy: Policy) -> Result<(Net, Gate), NetworkError> {
    // Said once by the kernel, true until it is another.
    static CANNOT_REDIRECT: AtomicBool = AtomicBool::new(false);
    if !CANNOT_REDIRECT.load(Ordering::Relaxed) {
        if let Some(opened) = open_redirecting(&policy)? {
            return Ok(opened);
        }
        CANNOT_REDIRECT.store(true, Ordering::Relaxed);
    }
    open_by_port(policy)
}

/// `None` when this kernel has no nf_tables for user namespaces, or not all of what we need of it.
fn open_redirecting(policy: &Policy) -> Result<Option<(Net, Gate)>, NetworkError> {
    let (net, inside, sockets) = furnish(policy, OWN_LISTENERS + 1)?;
    let doors = inside.doors(None).map_err(furnishing("bind the listeners"))?;
    let redirected = doors.transparent[0].local_addr().map_err(furnishing("bind the listeners"))?;
    let told = sockets
        .netfilter
        .as_ref()
        .ok_or(Errno::PROTONOSUPPORT)
        .and_then(|netfilter| nft::redirect(netfilter.as_fd(), OWN, redirected.port()));
    if told.is_err() {
        return Ok(None);
    }
    let gate = Gate::serve(policy.clone(), doors).map_err(furnishing("start the gate"))?;
    Ok(Some((net, gate)))
}

/// As [`open`] does it on a kernel without nf_tables: see [`Gate::everywhere`].
///
/// # Errors
/// As [`open`].
pub fn open_by_port(policy: Policy) -> Result<(Net, Gate), NetworkError> {
    let mut ports = policy.ports();
    ports.extend(COMMON_PORTS);
    ports.sort_unstable();
    ports.dedup();
    ports.retain(|port| *port != 53);
    let (net, inside, _sockets) = furnish(&policy, OWN_LISTENERS + ports.len())?;
    let doors = inside.doors(Some(&ports)).map_err(furnishing("bind the listeners"))?;
    let gate = Gate::serve(policy, doors).map_err(furnishing("start the gate"))?;
    Ok((net, gate))
}

fn furnish(policy: &Policy, tcp: usize) -> Result<(Net, Inside, NetSockets), NetworkError> {
    if let Some((entry, why)) = policy.in_vain() {
        return Err(NetworkError::Never { entry: entry.to_string(), why });
    }
    let (net, mut sockets) = Net::new(Sockets { tcp, udp: 1, netlink: true })?;
    let missing = || furnishing("make the sockets")(io::Error::from(io::ErrorKind::Unsupported));
    let route = sockets.route.as_ref().ok_or_else(missing)?;
    route::everything_is_local(route.as_fd(), OWN).map_err(furnishing("set the routes"))?;
    let inside = Inside { tcp: std::mem::take(&mut sockets.tcp), udp: sockets.udp.pop().ok_or_else(missing)? };
    Ok((net, inside, sockets))
}

pub(crate) fn furnishing<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> NetworkError {
    move |source| NetworkError::Furnish { what, source: source.into() }
}
