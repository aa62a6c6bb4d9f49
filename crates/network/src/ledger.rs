//! What a step reached and what it was refused, counted while it runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::limits::REFUSALS_MAX;
use model::{HostTraffic, Refusal, Traffic};

/// Hosts that are listed one by one; what goes to others is added up as [`OTHERS`].
const HOSTS_MAX: usize = 1000;
const OTHERS: &str = "(others)";

/// The counts of one step.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    hosts: BTreeMap<(String, u16), (u64, u64, u64)>,
    refused: Vec<Refusal>,
    refused_more: u64,
}

impl Ledger {
    /// One connection was made and has ended.
    pub(crate) fn reached(&self, host: &str, port: u16, sent: u64, received: u64) {
        let mut counts = self.lock();
        let known = counts.hosts.len() < HOSTS_MAX || counts.hosts.contains_key(&(host.to_owned(), port));
        let key = if known { (host.to_owned(), port) } else { (OTHERS.to_owned(), 0) };
        let of_host = counts.hosts.entry(key).or_default();
        *of_host = (of_host.0 + 1, of_host.1 + sent, of_host.2 + received);
    }

    /// Something was refused. The same again is only counted.
    pub(crate) fn refused(&self, what: &str, why: &str) {
        let mut counts = self.lock();
        if let Some(known) = counts.refused.iter_mut().find(|known| known.what == what && known.why == why) {
            known.count += 1;
        } else if counts.refused.len() < REFUSALS_MAX {
            counts.refused.push(Refusal { what: what.to_owned(), why: why.to_owned(), count: 1 });
        } else {
            counts.refused_more += 1;
        }
    }

    /// All counts so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let counts = self.lock();
        let host = |((host, port), (connections, sent, received)): (&(String, u16), &(u64, u64, u64))| HostTraffic {
            host: host.clone(),
            port: *port,
            connections: *connections,
            received: *received,
            sent: *sent,
        };
        Traffic {
            hosts: counts.hosts.iter().map(host).collect(),
            refused: counts.refused.clone(),
            refused_more: counts.refused_more,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_one_host_are_added_up() {
        let ledger = Ledger::default();
        ledger.reached("b.example.com", 443, 10, 100);
        ledger.reached("a.example.com", 443, 1, 2);
        ledger.reached("b.example.com", 443, 5, 50);
        let hosts = ledger.traffic().hosts;
        assert_eq!(hosts.iter().map(|h| h.host.as_str()).collect::<Vec<_>>(), ["a.example.com", "b.example.com"]);
        assert_eq!((hosts[1].connections, hosts[1].sent, hosts[1].received), (2, 15, 150));
    }

    #[test]
    fn refusals_are_grouped_and_a_flood_becomes_a_number() {
        let ledger = Ledger::default();
        for n in 0..REFUSALS_MAX + 5 {
            ledger.refused(&format!("n{n}:1"), "not in the list");
            ledger.refused("n0:1", "not in the list");
        }
        let traffic = ledger.traffic();
        assert_eq!((traffic.refused.len(), traffic.refused_more), (REFUSALS_MAX, 5));
        assert_eq!(traffic.refused[0].count, 1 + (REFUSALS_MAX as u64) + 5);
    }

    #[test]
    fn a_flood_of_hosts_becomes_one_line() {
        let ledger = Ledger::default();
        for n in 0..HOSTS_MAX + 7 {
            ledger.reached(&format!("n{n:05}"), 1, 1, 0);
        }
        let hosts = ledger.traffic().hosts;
        assert_eq!(hosts.len(), HOSTS_MAX + 1);
        assert_eq!(hosts.iter().find(|h| h.host == OTHERS).map(|h| h.sent), Some(7));
    }
}
