//! Of the faults of the other modes, of TLS and of client tracking, those that `make test` has the time for; `tests/every_mode.rs` has the others.

use crate::{
    standalone,
    support::scenario::Store::{Local, Watched},
    tls, tracked,
};

put_through! {
    a_server_is_killed_and_its_replica_promoted: standalone::the_master_is_killed_and_its_replica_promoted(Watched);
    a_server_hangs_until_it_is_replaced_and_thaws: standalone::the_master_hangs_until_it_is_replaced_and_thaws(Local);
    a_master_is_killed_and_sentinels_promote_another: standalone::the_master_is_killed_and_sentinels_promote_another(Local);
    a_master_that_speaks_tls_is_killed: tls::a_master_is_killed();
    the_certificates_are_all_replaced: tls::the_certificates_are_all_replaced();
    killed_and_restarted_five_times_under_client_tracking: tracked::killed_and_restarted_five_times_once_inside_a_burst();
    notifications_are_cleared_on_one_node_and_client_tracking_takes_over:
        tracked::notifications_are_cleared_on_one_node_and_client_tracking_takes_over();
}
