//! Of the faults of the other modes, of TLS and of client tracking, those that `make test` has the time for; `tests/every_mode.rs` has the others.

use crate::{
    standalone,
    support::scenario::Store::{Local, Watched},
    tls, tracked,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_and_its_replica_promoted() {
    standalone::the_master_is_killed_and_its_replica_promoted(Watched).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_hangs_until_it_is_replaced_and_thaws() {
    standalone::the_master_hangs_until_it_is_replaced_and_thaws(Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed_and_sentinels_promote_another() {
    standalone::the_master_is_killed_and_sentinels_promote_another(Local).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_speaks_tls_is_killed() {
    tls::a_master_is_killed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificates_are_all_replaced() {
    tls::the_certificates_are_all_replaced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_five_times_under_client_tracking() {
    tracked::killed_and_restarted_five_times_once_inside_a_burst().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_cleared_on_one_node_and_client_tracking_takes_over() {
    tracked::notifications_are_cleared_on_one_node_and_client_tracking_takes_over().await;
}
