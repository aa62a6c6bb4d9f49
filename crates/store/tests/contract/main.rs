//! What a store promises, held against every backend.
#![allow(clippy::unwrap_used)]

mod backend;
mod facts;
mod promises;
mod property;
mod upkeep;

use backend::Home;

mod all {
    pub use crate::promises::*;
    pub use crate::property::*;
    pub use crate::upkeep::*;
}

/// Each promise is a test on each backend.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[test] fn $promise() { crate::all::$promise(&mut crate::Home::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $promise() {
                if let Some(mut home) = crate::Home::postgres() {
                    crate::all::$promise(&mut home);
                }
            })*
        }
    };
}

promises! {
    a_new_store_is_empty
    facts_come_back_in_order_and_with_their_numbers
    lists_of_runs_answer_every_filter_and_page
    a_run_is_asked_for_once
    a_fact_of_an_unknown_run_is_refused
    facts_and_logs_need_the_leader_and_an_older_epoch_is_refused
    an_epoch_is_never_given_twice
    a_refused_batch_changes_nothing_and_does_not_hurt_its_neighbours
    records_are_changed_only_as_expected
    records_are_listed_by_prefix_and_page
    a_delivery_is_kept_once_and_settled_once
    logs_take_overlaps_and_refuse_gaps
    a_large_log_is_read_in_parts
    an_errand_replaces_the_one_before_it
    artifacts_and_timings_follow_from_results
    everything_is_there_after_a_restart
    the_audit_tells_who_did_what
    the_chain_verifies_while_it_grows
    many_threads_append_at_once_and_nothing_is_lost
    names_that_no_index_takes_are_refused
    retention_removes_what_old_runs_left_and_the_chain_still_verifies
    a_changed_log_is_found_out
    read_models_made_anew_equal_the_tables
    an_export_is_imported_into_either_backend
    an_export_that_was_edited_or_cut_is_refused
    a_backup_of_a_busy_store_is_restored
    a_store_that_is_read_only_writes_nothing
    replay_equals_live_for_random_batches
}
