//! The addresses of names, asked of the host as its own programs ask.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::stop::{Stop, Stopped};

/// The C library gives up after two servers, twice five seconds each.
const LOOKUP_MAX: Duration = Duration::from_secs(20);
/// Long enough for the connections of one page or one install, short enough for a name that moves.
const KEPT: Duration = Duration::from_secs(30);
const KEPT_MISSING: Duration = Duration::from_secs(3);
const KEPT_NAMES_MAX: usize = 4096;
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;
const STACK_BYTES: usize = 512 << 10;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAddress {
    /// There is no such name.
    NoSuchName,
    /// Asking failed; the resolver's own words.
    Failed(String),
    /// The gate is closing.
    Stopped,
}

impl From<Stopped> for NoAddress {
    fn from(Stopped: Stopped) -> NoAddress {
        NoAddress::Stopped
    }
}

type Found = Result<Vec<IpAddr>, NoAddress>;

/// Asks, and remembers for a while.
#[derive(Debug, Default)]
pub(crate) struct Lookup(Mutex<BTreeMap<String, (Instant, Found)>>);

impl Lookup {
    /// What is remembered of this name.
    pub(crate) fn remembered(&self, name: &str) -> Option<Found> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, found) = known.get(name)?;
        let kept = if found.is_ok() { KEPT } else { KEPT_MISSING };
        (at.elapsed() < kept).then(|| found.clone())
    }

    /// The addresses of this name, at least one.
    pub(crate) fn addresses(&self, name: &str, stop: &Stop) -> Found {
        if let Some(found) = self.remembered(name) {
            return found;
        }
        let found = ask(name, stop);
        if found != Err(NoAddress::Stopped) {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= KEPT_NAMES_MAX {
                known.clear();
            }
            known.insert(name.to_owned(), (Instant::now(), found.clone()));
        }
        found
    }
}

/// Asks on a thread of its own: the C library's call cannot be interrupted, and a gate that closes does not wait for a
/// dead name server. Such a thread holds nothing of the gate and ends with its answer.
fn ask(name: &str, stop: &Stop) -> Found {
    let failed = |error: io::Error| NoAddress::Failed(error.to_string());
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let (answer, answered) = mpsc::channel();
    // As it is, without a dot at the end: with one, /etc/hosts would not be asked.
    let name = name.to_owned();
    let asking = move || {
        let _ = answer.send(resolve(&name));
        drop(theirs); // which wakes up who waits
    };
    thread::Builder::new().name("lookup".into()).stack_size(STACK_BYTES).spawn(asking).map_err(failed)?;
    stop.ready(&ours, PollFlags::IN, LOOKUP_MAX)?;
    match answered.try_recv() {
        Ok(found) => found,
        Err(TryRecvError::Empty | TryRecvError::Disconnected) => Err(NoAddress::Failed("no answer in time".into())),
    }
}

fn resolve(name: &str) -> Found {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|found| found.ip()) {
                if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err(NoAddress::NoSuchName) } else { Ok(addresses) }
        }
        Err(error) => Err(reason(&error.to_string())),
    }
}

/// The standard library hands the resolver's verdict on as text only.
fn reason(text: &str) -> NoAddress {
    let missing = ["Name or service not known", "No address associated with hostname", "Name does not resolve"];
    if missing.iter().any(|missing| text.contains(missing)) {
        return NoAddress::NoSuchName;
    }
    NoAddress::Failed(text.strip_prefix("failed to lookup address information: ").unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_closes_does_not_wait_for_an_answer() {
        let (stopper, stop) = Stop::new().expect("a pipe");
        drop(stopper);
        assert_eq!(Lookup::default().addresses("localhost", &stop), Err(NoAddress::Stopped));
    }

    #[test]
    fn an_answer_is_remembered() {
        let (_stopper, stop) = Stop::new().expect("a pipe");
        let lookup = Lookup::default();
        assert_eq!(lookup.remembered("localhost"), None);
        let found = lookup.addresses("localhost", &stop);
        assert_eq!(lookup.remembered("localhost"), Some(found));
    }

    #[test]
    fn the_words_of_the_resolver_are_told_apart() {
        assert_eq!(reason("failed to lookup address information: Name or service not known"), NoAddress::NoSuchName);
        assert_eq!(
            reason("failed to lookup address information: Temporary failure in name resolution"),
            NoAddress::Failed("Temporary failure in name resolution".into())
        );
    }
}
