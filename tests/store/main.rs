//! What every store must do. One suite, run for each; then what only a file can suffer.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod crash;
mod dead_letters;
mod files;
mod given;
mod ledger;
mod outbox;
mod owner;
mod random;
mod redis;
#[path = "../support/rights.rs"]
mod rights;
mod slow_disk;

/// Runs each function of the suite for each store: a new store is one more line here.
macro_rules! suite {
    ($($module:ident { $($name:ident)* })*) => {
        mod sqlite {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::given::Sqlite::fresh()).await;
            })*)*
        }
        mod sqlite_unfiled {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::given::Sqlite::unfiled()).await;
            })*)*
        }
        mod sqlite_filing {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::given::Sqlite::filing()).await;
            })*)*
        }
        mod redis_cluster {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::redis::setup::Redis::fresh().await).await;
            })*)*
        }
        mod redis_few_partitions {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::redis::setup::Redis::few().await).await;
            })*)*
        }
        mod memory {
            $($(#[tokio::test]
            async fn $name() {
                crate::$module::$name(crate::given::Memory::fresh()).await;
            })*)*
        }
    };
}

suite! {
    ledger {
        a_record_is_there_at_once_and_after_reopening
        a_change_does_nothing_where_it_saw_another_entry
        a_change_does_what_it_says_where_it_saw_the_entry
        calls_take_effect_in_the_order_in_which_they_were_made
        changes_of_one_call_see_each_other_in_order
        a_call_whose_answers_are_dropped_is_done_all_the_same
        settling_moves_the_entry_to_the_outbox_or_does_nothing
        settling_without_entry_appends_the_event
        a_settled_or_forgotten_key_is_remembered_with_its_owner
        a_memory_is_kept_for_a_while_and_not_for_ever
        a_refused_settle_leaves_no_memory
        what_is_due_is_paged_by_deadline_then_key
        keys_are_any_bytes
        known_answers_in_the_order_asked
        nothing_to_do_is_done
    }
    outbox {
        events_come_by_when_they_were_settled_then_by_when_they_may_be_tried
        events_in_flight_and_those_too_early_are_left_out
        the_next_attempt_is_the_soonest_of_those_not_in_flight
        an_id_is_not_in_the_outbox_twice
        a_delivered_event_is_gone_and_may_come_again
        a_retry_keeps_what_its_delivery_came_to
        outcomes_of_unknown_events_are_passed_over
        outcomes_take_effect_in_order
        counts_follow_every_step
    }
    dead_letters {
        a_dead_letter_is_out_of_the_outbox_and_keeps_its_reason
        an_event_among_the_dead_letters_is_not_appended_again
        dead_letters_are_paged_by_when_they_were_parked
        replayed_letters_are_as_if_never_tried
        purged_letters_are_gone_for_good
    }
    owner {
        each_owner_takes_a_greater_epoch
        an_older_owner_is_refused_and_changes_nothing
        an_older_owner_may_still_read
        node_states_are_remembered_replaced_and_forgotten
        named_texts_are_kept
        a_discarded_ledger_leaves_the_outbox_and_the_dead_letters
        a_destroyed_store_leaves_nothing_and_an_older_owner_cannot_destroy_it
        a_store_says_whether_it_is_durable
        a_closed_store_finishes_what_was_enqueued_and_takes_no_more
    }
}
