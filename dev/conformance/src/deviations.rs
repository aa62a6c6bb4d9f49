//! What two other servers are known to do otherwise. A check that they pass, or fail, against this table has changed its
//! mind, or is wrong.

use std::collections::BTreeMap;

use crate::{Outcome, Result};

/// A check that a server is known to fail.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// `group/promise`.
    pub check: &'static str,
    /// What it does instead.
    pub reason: &'static str,
}

/// Another server, in a fixed version.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name and version.
    pub name: &'static str,
    /// What it is known to fail.
    pub deviations: &'static [Deviation],
    /// Checks that it passes only at times.
    pub wavering: &'static [Deviation],
}

/// The servers that the checks themselves are checked with.
pub const PEERS: [Peer; 2] = [
    Peer { name: "BuildGrid 0.9.1", deviations: BUILDGRID, wavering: &[] },
    Peer { name: "buildbox-casd 1.4.25", deviations: CASD, wavering: &[] },
];

/// What is not as the table says, in a line each.
pub fn surprises(peer: &Peer, results: &[Result]) -> Vec<String> {
    let mut known: BTreeMap<&str, &str> = peer.deviations.iter().map(|known| (known.check, known.reason)).collect();
    let mut lines = Vec::new();
    for result in results {
        let name = result.check.name();
        let expected = known.remove(name.as_str());
        if peer.wavering.iter().any(|wavering| wavering.check == name) {
            continue;
        }
        match (&result.outcome, expected) {
            (Outcome::Fail(seen), None) => lines.push(format!("{} now fails {name}: {seen}", peer.name)),
            (Outcome::Pass, Some(reason)) => {
                lines.push(format!("{} now passes {name}, known was: {reason}", peer.name))
            }
            (Outcome::NotSupported(what), Some(_)) => lines.push(format!("{} skips {name}: {what}", peer.name)),
            _ => {}
        }
    }
    lines.extend(known.keys().map(|name| format!("there is no check {name}")));
    lines
}

const BUILDGRID: &[Deviation] = &[];

const CASD: &[Deviation] = &[];
