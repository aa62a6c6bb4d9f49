//! Checks whether a server keeps to the Bazel Remote Execution API, version 2: one named check for each sentence.
//!
//! Every check stands on a sentence of the protocol (told in our words), makes its own data, needs nothing of another check
//! and leaves nothing behind that would matter to one, so that a server with a full store is as good as an empty one.

mod action_cache;
mod batch;
mod bytestream;
mod capabilities;
mod check;
mod chunking;
mod compressed;
mod data;
mod deviations;
mod digest_functions;
mod errors;
mod find_missing;
mod report;
mod server;
mod traps;
mod tree;

pub use check::{Check, Level, Outcome, Result, run};
pub use deviations::{Deviation, PEERS, Peer, surprises};
pub use report::{json, table};
pub use server::{Server, Target};

/// All checks, group by group.
pub fn all() -> Vec<&'static Check> {
    let groups: [&'static [Check]; 11] = [
        capabilities::CHECKS,
        find_missing::CHECKS,
        batch::CHECKS,
        tree::CHECKS,
        bytestream::CHECKS,
        compressed::CHECKS,
        action_cache::CHECKS,
        chunking::CHECKS,
        digest_functions::CHECKS,
        errors::CHECKS,
        traps::CHECKS,
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_a_name_of_its_own_and_a_sentence() {
        let names: BTreeSet<String> = super::all().iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), super::all().len());
        assert!(super::all().iter().all(|check| check.rule.len() > 20));
    }
}
