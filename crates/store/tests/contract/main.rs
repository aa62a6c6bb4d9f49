//! What a store promises, held against every backend.

mod backend;
mod facts;
mod promises;

use backend::Home;

/// Each promise is a test on each backend.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[test] fn $promise() { crate::promises::$promise(&mut crate::Home::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $promise() {
                if let Some(mut home) = crate::Home::postgres() {
                    crate::promises::$promise(&mut home);
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
}
