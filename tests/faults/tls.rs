//! Servers that are spoken to with TLS alone, and want a certificate; the ledger lies in them, or in others of that kind.

use redis_expiry_operator::{commands::demo::cluster::Options, model::SlotSet};

use crate::{
    standalone,
    support::{
        certificates::Authority,
        faults,
        listener::Listener,
        now,
        scenario::{Scenario, Setup, Store, address},
        verdict::Kind,
        wire::ask,
    },
};

fn secured(setup: Setup) -> Setup {
    Setup { tls: true, ..setup }
}

pub async fn a_master_is_killed() {
    faults::a_master_is_killed(secured(Setup::with(Store::Watched))).await;
}

pub async fn a_replica_takes_over_as_planned_and_the_ledger_lies_in_another_cluster() {
    faults::a_replica_takes_over_as_planned(secured(Setup::with(Store::Another))).await;
}

pub async fn the_master_is_killed_and_sentinels_promote_another() {
    standalone::killed_before_sentinels(secured(standalone::sentinels(Store::Watched))).await;
}

/// Servers and listener get certificates of another authority, the servers first.
pub async fn the_certificates_are_all_replaced() {
    let cluster = Options { masters: 2, notify_keyspace_events: "KA".into(), ..Options::default() };
    let mut run =
        Scenario::start("certificates replaced", secured(Setup { cluster, ..Setup::with(Store::Watched) })).await;
    // Nothing counts while nobody can be heard.
    run.least = 20_000;
    let authority = Authority::new();
    let files = authority.files(run.directory(), "127.0.0.1");
    let [ca, certificate, key] = [files.authority, files.certificate, files.key].map(|path| path.display().to_string());
    let from = now();
    for node in run.cluster.nodes() {
        // The same paths may hold something else by now: it is read again.
        let set = ["CONFIG", "SET", "tls-ca-cert-file", &ca, "tls-cert-file", &certificate, "tls-key-file", &key];
        ask(&address(&node), &set).await.unwrap();
    }
    for node in run.cluster.nodes() {
        for kind in ["normal", "pubsub"] {
            // Whoever came in with TLS; replicas are of another type.
            let at = node.tls_address().expect("there is TLS");
            ask(&address(&node), &["CLIENT", "KILL", "LADDR", &at, "TYPE", kind]).await.unwrap();
        }
    }
    run.listener.wait_says(from, &["UnknownIssuer", "tls.caRef"]).await;
    Listener::write_tls(run.directory(), &authority.pem, &authority.vouch_for("redis-expiry-operator"));
    let until = run.recovered(from, &SlotSet::all(), Kind::Gap).await;
    run.store_held(from, until);
    run.judge().await;
}
