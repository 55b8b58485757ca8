//! Faults that `make test` has no time for, of the modes other than a cluster, of TLS and of client tracking, and those that are
//! rarer: `make test-all` runs them too.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]
#![allow(dead_code, reason = "tests/faults.rs has the rest")]

#[macro_use]
#[path = "faults/put_through.rs"]
mod put_through;
mod support;

#[path = "faults/rarer.rs"]
mod rarer;
#[path = "faults/standalone.rs"]
mod standalone;
#[path = "faults/tls.rs"]
mod tls;
#[path = "faults/tracked.rs"]
mod tracked;

mod in_a_file {
    use crate::{standalone::*, support::scenario::Store::Local};

    put_through! {
        killed: killed_and_restarted_five_times_once_inside_a_burst(Local);
        replica_promoted: the_master_is_killed_and_its_replica_promoted(Local);
        replica_promoted_as_planned: a_replica_is_promoted_and_the_old_master_made_its_replica(Local);
        notifications_cleared: notifications_are_cleared_and_enabled_again_by_the_listener(Local);
        sentinels_replace_a_master_that_hangs: the_master_hangs_until_sentinels_replace_it_and_thaws(Local);
        restarted_empty: a_server_alone_restarts_empty();
    }
}

mod in_redis {
    use crate::{standalone::*, support::scenario::Store::Watched};

    put_through! {
        killed: killed_and_restarted_five_times_once_inside_a_burst(Watched);
        replica_promoted_as_planned: a_replica_is_promoted_and_the_old_master_made_its_replica(Watched);
        hangs_until_replaced: the_master_hangs_until_it_is_replaced_and_thaws(Watched);
        notifications_cleared: notifications_are_cleared_and_enabled_again_by_the_listener(Watched);
        sentinels_replace_a_master: the_master_is_killed_and_sentinels_promote_another(Watched);
        sentinels_replace_a_master_that_hangs: the_master_hangs_until_sentinels_replace_it_and_thaws(Watched);
    }
}

mod secured {
    use crate::tls::*;

    put_through! {
        replaced_as_planned: a_replica_takes_over_as_planned_and_the_ledger_lies_in_another_cluster();
        sentinels_replace_a_master: the_master_is_killed_and_sentinels_promote_another();
    }
}

mod under_client_tracking {
    use crate::{
        support::scenario::Store::{Local, Watched},
        tracked::*,
    };

    put_through! {
        killed: a_master_is_killed(Local);
        killed_with_a_third_of_the_ledger: a_master_is_killed(Watched);
        replaced_as_planned: a_replica_takes_over_as_planned();
        slots_move: a_master_is_added_and_slots_move_to_it_under_load();
        flushed: every_master_is_flushed();
    }
}

mod rare {
    use crate::rarer::*;

    put_through! {
        clients_paused: a_master_pauses_all_its_clients();
        writes_paused: every_master_pauses_writes();
        script_blocks: a_script_blocks_the_server_for_six_seconds();
        databases_swapped: the_databases_are_swapped();
        output_buffer_overflows: the_servers_output_buffer_overflows();
        evicted: keys_are_evicted();
        master_killed_while_the_receiver_is_down: a_master_is_killed_while_the_receiver_is_down();
        process_killed_while_slots_move: the_process_is_killed_while_slots_move();
        failover_during_a_resync: a_replica_takes_over_during_a_resync();
        receiver_answers_429: the_receiver_wants_to_be_left_alone_for_a_while();
        restarted_from_its_disk: a_server_restarts_from_its_disk();
        killed_soon_after_it_took_over: a_master_is_killed_soon_after_it_took_over();
        restarted_from_its_snapshot: a_server_restarts_from_its_snapshot();
        drained_and_removed: a_master_is_drained_and_removed();
        receiver_slow: the_receiver_is_slow();
        disk_full: the_disk_of_the_store_is_full();
        clock_ahead: a_replica_whose_clock_is_five_seconds_ahead_takes_over();
    }
}
