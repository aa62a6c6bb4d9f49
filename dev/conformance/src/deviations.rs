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
    Peer { name: "BuildGrid 0.9.1", deviations: BUILDGRID, wavering: BUILDGRID_WAVERING },
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

const BUILDGRID: &[Deviation] = &[
    Deviation { check: "find-missing/the_size_belongs_to_the_digest", reason: "finds blobs by hash alone" },
    Deviation { check: "find-missing/a_negative_size_is_no_digest", reason: "finds blobs by hash alone" },
    Deviation { check: "find-missing/a_hash_that_is_too_short_is_refused", reason: "looks for any string" },
    Deviation { check: "find-missing/a_hash_that_is_not_hexadecimal_is_refused", reason: "looks for any string" },
    Deviation {
        check: "find-missing/a_request_without_a_digest_in_it_is_no_crash",
        reason: "takes a digest without hash and size for the empty blob",
    },
    Deviation { check: "batch/reading_with_a_wrong_size_gives_nothing", reason: "finds blobs by hash alone" },
    Deviation { check: "batch/an_unknown_compressor_is_refused", reason: "does not look at the compressor" },
    Deviation { check: "tree/pages_together_are_the_tree", reason: "does not look at page_token" },
    Deviation { check: "tree/a_root_that_is_no_directory_is_refused", reason: "INTERNAL for what does not decode" },
    Deviation { check: "tree/a_token_that_nobody_gave_is_refused", reason: "does not look at page_token" },
    Deviation {
        check: "bytestream/another_name_in_a_later_message_is_refused",
        reason: "looks at the first name only",
    },
    Deviation { check: "bytestream/a_wrong_offset_is_refused", reason: "does not look at write_offset" },
    Deviation {
        check: "bytestream/a_first_offset_beyond_what_is_committed_is_refused",
        reason: "does not look at write_offset",
    },
    Deviation { check: "bytestream/too_few_bytes_are_refused", reason: "UNIMPLEMENTED for a wrong length" },
    Deviation { check: "bytestream/too_many_bytes_are_refused", reason: "UNIMPLEMENTED for a wrong length" },
    Deviation {
        check: "bytestream/a_name_that_says_nothing_is_refused",
        reason: "INTERNAL for a size that is no 64-bit number",
    },
    Deviation { check: "bytestream/a_finished_write_is_complete", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/an_unknown_write_is_not_found_or_empty", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/an_interrupted_write_can_be_resumed", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/a_resumed_write_is_verified_as_a_whole", reason: "has no QueryWriteStatus" },
    Deviation {
        check: "bytestream/an_offset_beyond_the_end_is_out_of_range",
        reason: "INTERNAL for an offset out of range",
    },
    Deviation { check: "bytestream/a_negative_offset_is_out_of_range", reason: "INTERNAL for an offset out of range" },
    Deviation { check: "bytestream/a_wrong_size_names_nothing", reason: "finds blobs by hash alone" },
    Deviation {
        check: "action-cache/a_result_with_a_tree_that_is_none_is_not_given",
        reason: "INTERNAL for what does not decode",
    },
    Deviation {
        check: "action-cache/an_action_without_a_hash_is_refused",
        reason: "looks for any string, and shows the path that it looked at",
    },
    Deviation { check: "action-cache/an_update_without_a_result_is_refused", reason: "stores an empty result" },
    Deviation {
        check: "action-cache/an_output_with_a_broken_digest_is_refused",
        reason: "stores it and never gives it",
    },
    Deviation {
        check: "digest-functions/a_function_that_is_not_offered_is_refused",
        reason: "does not look at digest_function",
    },
    Deviation {
        check: "traps/an_action_may_be_anything",
        reason: "decodes the action and answers INTERNAL when it is none",
    },
    Deviation {
        check: "traps/an_instance_may_have_several_segments",
        reason: "serves the instances of its configuration",
    },
];

const BUILDGRID_WAVERING: &[Deviation] = &[
    Deviation {
        check: "errors/many_calls_at_once_are_answered",
        reason: "has a thread for each call and refuses calls when none is free",
    },
    Deviation {
        check: "errors/a_message_that_is_too_large_leaves_the_connection_alive",
        reason: "refuses calls while it is busy",
    },
];

const CASD: &[Deviation] = &[
    Deviation { check: "capabilities/batch_limit_fits_a_message", reason: "tells no limit" },
    Deviation { check: "find-missing/the_size_belongs_to_the_digest", reason: "finds blobs by hash alone" },
    Deviation { check: "find-missing/a_negative_size_is_no_digest", reason: "finds blobs by hash alone" },
    Deviation { check: "find-missing/a_hash_that_is_too_short_is_refused", reason: "looks for any string" },
    Deviation { check: "find-missing/a_hash_that_is_not_hexadecimal_is_refused", reason: "looks for any string" },
    Deviation {
        check: "find-missing/a_request_without_a_digest_in_it_is_no_crash",
        reason: "UNKNOWN: an exception in the handler",
    },
    Deviation { check: "batch/a_size_that_lies_is_refused", reason: "INTERNAL when the size is wrong" },
    Deviation { check: "batch/an_upload_without_a_digest_is_refused", reason: "UNKNOWN: an exception in the handler" },
    Deviation { check: "batch/an_unknown_compressor_is_refused", reason: "does not look at the compressor" },
    Deviation { check: "bytestream/a_wrong_offset_is_refused", reason: "does not look at write_offset" },
    Deviation {
        check: "bytestream/a_first_offset_beyond_what_is_committed_is_refused",
        reason: "does not look at write_offset",
    },
    Deviation {
        check: "bytestream/a_name_that_says_nothing_is_refused",
        reason: "UNKNOWN: an exception in the handler",
    },
    Deviation { check: "bytestream/a_finished_write_is_complete", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/an_unknown_write_is_not_found_or_empty", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/an_interrupted_write_can_be_resumed", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/a_resumed_write_is_verified_as_a_whole", reason: "has no QueryWriteStatus" },
    Deviation { check: "bytestream/a_read_ends_at_its_limit", reason: "refuses a limit that reaches beyond the end" },
    Deviation { check: "bytestream/a_wrong_size_names_nothing", reason: "finds blobs by hash alone" },
    Deviation {
        check: "action-cache/a_result_with_a_whole_tree_is_given",
        reason: "wants the directories of a Tree as blobs, too",
    },
    Deviation {
        check: "action-cache/a_result_with_a_tree_that_is_none_is_not_given",
        reason: "takes what does not decode for an empty tree",
    },
    Deviation {
        check: "action-cache/an_action_without_a_hash_is_refused",
        reason: "UNKNOWN: an exception in the handler",
    },
    Deviation { check: "action-cache/an_update_without_a_result_is_refused", reason: "stores an empty result" },
    Deviation {
        check: "action-cache/an_output_with_a_broken_digest_is_refused",
        reason: "stores it and never gives it",
    },
    Deviation { check: "traps/old_bazel_is_welcome", reason: "speaks 2.1 and later" },
    Deviation { check: "traps/names_may_begin_with_a_slash", reason: "takes what is before the slash for an instance" },
    Deviation { check: "traps/the_empty_instance_is_served", reason: "serves the instance that it is told" },
    Deviation { check: "traps/an_instance_may_have_several_segments", reason: "serves the instance that it is told" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_deviation_is_one_of_a_check() {
        let names: std::collections::BTreeSet<String> = crate::all().iter().map(|check| check.name()).collect();
        let rows = PEERS.iter().flat_map(|peer| peer.deviations.iter().chain(peer.wavering));
        let strange: Vec<&str> = rows.map(|row| row.check).filter(|check| !names.contains(*check)).collect();
        assert_eq!(strange, [""; 0]);
    }
}
