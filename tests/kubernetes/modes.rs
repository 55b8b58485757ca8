//! Redis outside of a cluster, with the ledger in it: what expires is told, also once another has taken the master's place.

use std::time::Duration;

use redis_expiry_operator::commands::demo::cluster::{Cluster, MASTER_NAME, Options, Sentinel};

use crate::{
    bed::{
        given::{KEY, account, listener_at, operator, order},
        kubernetes::Kubernetes,
        observed::Observed,
    },
    support::receiver::Receiver,
    telling::{delivers, told_of},
};

/// `sentinels`: how many promote; none: we do.
async fn told_before_and_after(name: &'static str, sentinels: usize) {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace(name).await;
    let kubeconfig = space.token_kubeconfig(&account(&space).await).await;
    let cluster =
        Cluster::start(Options { clustered: false, masters: 1, sentinels, ..Options::default() }).await.unwrap();
    let receiver = Receiver::start(KEY, &format!("{}/order-timeouts", space.name)).await;
    space.secret("webhook-key", &[("secret", KEY)]).await;
    let (addresses, mode) = if sentinels == 0 {
        (cluster.seeds(), "    mode: Standalone".to_owned())
    } else {
        let sentinels = cluster.sentinels().iter().map(Sentinel::address).collect();
        (sentinels, format!("    mode: Sentinel\n    sentinel: {{masterName: {MASTER_NAME}}}"))
    };
    space.apply(&listener_at(&addresses, &receiver.url(), &mode)).await.ok();
    let mut operator = operator(&space, kubeconfig, "operator-a", "1").await;
    operator.wait_ready().await;
    let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");
    seen.wait_ready().await;
    delivers(&cluster, &receiver, "order:pay:before").await;

    let (master, _) = cluster.masters().await.unwrap().remove(0);
    let replica = cluster.replicas_of(&master).await.unwrap().remove(0);
    // It falls due while there is no master.
    order(&cluster, "order:pay:between", Duration::from_secs(2)).await;
    master.query::<u32>(redis::cmd("WAIT").arg(1).arg(1_000)).await.unwrap();
    cluster.kill(&master).unwrap();
    if sentinels == 0 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.promote(&replica).await.unwrap();
    }
    told_of(&receiver, "order:pay:between").await;
    cluster.comes_back(&master, &replica).await.unwrap();
    cluster.wait_ok().await.unwrap();
    seen.wait_ready().await;
    delivers(&cluster, &receiver, "order:pay:after").await;
    assert!(receiver.wrong().is_empty(), "{:?}", receiver.wrong());
    operator.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_replica_is_promoted_by_hand() {
    told_before_and_after("standalone", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_sentinels() {
    told_before_and_after("sentinels", 3).await;
}
