//! Servers with TLS: what a listener says of each way in which it goes wrong, and that certificates change while it runs.

use std::time::Duration;

use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options, TlsFiles},
    dial::Dialler,
    model::{Fault, FaultCategory},
    plan::{Plan, RedisPlan},
    tls::{Material, Tls},
};
use tempfile::TempDir;

use crate::{
    certificates::{Authority, Certificate},
    setup::{Receiver, plan, running, until},
};

async fn secured(tls: TlsFiles) -> Cluster {
    Cluster::start(Options { masters: 1, replicas: 0, tls: Some(tls), ..Options::default() }).await.unwrap()
}

fn tls(authority: &Authority, own: Option<&Certificate>, server_name: Option<&str>) -> Tls {
    let material = Material {
        authorities: Some(authority.pem.clone().into_bytes()),
        identity: own.map(|own| (own.certificate.clone().into_bytes(), own.key.clone().into_bytes())),
        server_name: server_name.map(str::to_owned),
    };
    Tls::new(material).unwrap()
}

fn with(seeds: &[String], url: &str, tls: Option<Tls>) -> Plan {
    let plan = plan(seeds, url);
    Plan { redis: RedisPlan { tls, ..plan.redis.clone() }, ..plan }
}

/// What a listener says that does not get through.
async fn trouble(plan: Plan) -> Fault {
    let supervisor = running(Dialler::everything(), plan).await;
    let snapshot = until(&supervisor, "in trouble", |now| now.topology_error.is_some()).await;
    supervisor.stop(Duration::from_secs(5)).await;
    snapshot.topology_error.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_in_which_tls_goes_wrong_has_its_fix() {
    let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
    let cluster = secured(authority.files(directory.path(), "redis.shop.svc")).await;
    let own = authority.vouch_for("redis-expiry-operator");
    let receiver = Receiver::start(Duration::ZERO).await;
    let (secured, plain) = (cluster.tls_seeds(), cluster.seeds());
    let named = Some("redis.shop.svc");
    let whole = Some(tls(&authority, Some(&own), named));
    for (seeds, tls, category, words) in [
        (&secured, None, Some(FaultCategory::Unreachable), "if its port wants TLS, set tls beside the addresses"),
        (
            &secured,
            Some(tls(&Authority::new(), Some(&own), named)),
            Some(FaultCategory::Tls),
            "name who has signed it in tls.caRef",
        ),
        (&secured, Some(tls(&authority, None, named)), None, "see tls.clientCertSecretRef"),
        (&secured, Some(tls(&authority, Some(&own), None)), Some(FaultCategory::Tls), "set tls.serverName"),
        (&plain, whole.clone(), Some(FaultCategory::Tls), "if its port speaks no TLS, use the servers' tls-port"),
    ] {
        let fault = trouble(with(seeds, &receiver.url, tls)).await;
        // Its own word for it may be lost.
        let category = category.is_none_or(|category| fault.category == category);
        assert!(category && fault.message.contains(words), "{words}: {fault:?}");
    }
    let supervisor = running(Dialler::everything(), with(&secured, &receiver.url, whole)).await;
    until(&supervisor, "ready", |now| now.ready).await;
    supervisor.stop(Duration::from_secs(5)).await;
}
