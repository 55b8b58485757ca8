//! Five hundred listeners over five deployments, on one operator.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, time::Duration};

use futures_util::{StreamExt as _, pin_mut};
use kube::{
    ResourceExt as _,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
};
use redis::cmd;
use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::bed::{
    given::{KEY, account, listener, operator},
    kubernetes::Kubernetes,
    observed::{condition, listeners},
    operator::Operator,
    space::Space,
};

const LISTENERS: usize = 500;
const DEPLOYMENTS: usize = 5;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// In MiB, of a debug build; the program that ships takes less.
const MOST_MEMORY: u64 = 256;
/// How often: to list them all is work for the API server, on the two cores that all of this shares.
const LOOKED_AT: Duration = Duration::from_secs(1);

fn name(number: usize) -> String {
    format!("listener-{number}")
}

/// All of them; each has a pattern of its own.
fn all(clusters: &[Cluster]) -> String {
    let mut text = String::new();
    for number in 0..LISTENERS {
        let one = listener(&clusters[number % DEPLOYMENTS], "http://127.0.0.1:9/", "")
            .replace("order-timeouts", &name(number))
            .replace("order:pay:*", &format!("order{number}:*"));
        write!(text, "---\n{one}").unwrap();
    }
    text
}

struct Fleet<'a> {
    space: Space<'a>,
    clusters: Vec<Cluster>,
}

impl<'a> Fleet<'a> {
    async fn start(kubernetes: &'a Kubernetes) -> Self {
        let space = kubernetes.namespace("fleet").await;
        let mut clusters = Vec::new();
        for _ in 0..DEPLOYMENTS {
            let directives = vec![("appendonly".to_owned(), "yes".to_owned())];
            let options =
                Options { replicas: 0, notify_keyspace_events: "KA".into(), directives, ..Options::default() };
            clusters.push(Cluster::start(options).await.unwrap());
        }
        space.secret("webhook-key", &[("secret", KEY)]).await;
        space.apply(&all(&clusters)).await.ok();
        Self { space, clusters }
    }

    async fn objects(&self) -> BTreeMap<String, DynamicObject> {
        let listed = listeners(self.space.client.clone(), &self.space.name).list(&ListParams::default()).await;
        listed.unwrap().items.into_iter().map(|object| (object.name_any(), object)).collect()
    }

    /// Waits until every status says Ready, and every listener is heard, by the operator's own word.
    async fn ready(&self, operator: &Operator, began: Instant) {
        loop {
            let objects = self.objects().await;
            let waits = objects.values().find(|object| !is_ready(object));
            // Asked last: a page of metrics of so many listeners is work for it.
            let heard = if waits.is_none() { heard_by(operator).await } else { 0 };
            if heard == LISTENERS {
                return;
            }
            assert!(
                began.elapsed() < READY_WITHIN,
                "{heard} are heard after {READY_WITHIN:?}; {}; {} are Ready, one is not: {:?}\n{}",
                self.requests().await,
                objects.values().filter(|object| is_ready(object)).count(),
                waits.map(|object| &object.data["status"]),
                operator.tail()
            );
            sleep(LOOKED_AT).await;
        }
    }

    /// How often the API server was asked for what a listener needs of it, by verb.
    async fn requests(&self) -> String {
        let metrics = self.space.kubectl(&["get", "--raw", "/metrics"]).await.ok();
        let counts = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")).filter_map(|line| {
            let (labels, count) = line.rsplit_once(' ')?;
            let of = |name: &str| Some(labels.split_once(&format!("{name}=\""))?.1.split_once('"')?.0);
            let (resource, verb, part) = (of("resource")?, of("verb")?, of("subresource")?);
            let ours = ["redisexpirylisteners", "events", "secrets"].contains(&resource);
            let many = count.parse::<f64>().is_ok_and(|count| count >= 20.0);
            (ours && many).then(|| format!("{verb} {resource} {part} {count}"))
        });
        counts.collect::<Vec<_>>().join(", ")
    }

    /// How many each of them owns, when all listeners are Ready, and heard by who is said to own them.
    async fn shared_by(&self, operators: &[Operator]) -> BTreeMap<String, usize> {
        let began = Instant::now();
        loop {
            let mut shares = BTreeMap::<String, usize>::new();
            let objects = self.objects().await;
            for object in objects.values() {
                *shares.entry(object.data["status"]["owner"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            let mut heard = Vec::new();
            if objects.values().all(is_ready) {
                for operator in operators {
                    heard.push(shares.get(&operator.pod_name) == Some(&heard_by(operator).await));
                }
            }
            if !heard.is_empty() && heard.iter().all(|heard| *heard) {
                return shares;
            }
            assert!(began.elapsed() < READY_WITHIN, "{shares:?}, heard {heard:?}");
            sleep(LOOKED_AT).await;
        }
    }

    /// What tells on each node's side that something was begun anew: subscriptions, and each listener's owner in the store.
    async fn begun(&self) -> (Vec<Vec<u64>>, BTreeMap<String, BTreeMap<String, String>>) {
        let (mut subscriptions, mut heads) = (Vec::new(), BTreeMap::new());
        for cluster in &self.clusters {
            let mut calls = Vec::new();
            for node in cluster.nodes() {
                let info: String = node.query(cmd("INFO").arg("commandstats")).await.unwrap();
                let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_psubscribe:calls=")).unwrap();
                calls.push(line.split(',').next().unwrap().parse().unwrap());
                for key in node.query::<Vec<String>>(cmd("KEYS").arg("rx:*}head")).await.unwrap() {
                    heads.insert(key.clone(), node.query(cmd("HGETALL").arg(&key)).await.unwrap());
                }
            }
            subscriptions.push(calls);
        }
        (subscriptions, heads)
    }

    /// The same, once it stays so: what a scan has learnt is written down after its listener is Ready.
    async fn settled(&self) -> (Vec<Vec<u64>>, BTreeMap<String, BTreeMap<String, String>>) {
        let began = Instant::now();
        let mut before = self.begun().await;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.begun().await;
            if now == before {
                return now;
            }
            assert!(began.elapsed() < READY_WITHIN, "it is written on and on");
            before = now;
        }
    }
}

/// How many listeners it says that it hears.
async fn heard_by(operator: &Operator) -> usize {
    let heard = operator.metric("redis_expiry_listeners", "ready=\"true\"").await;
    heard.map_or(0, |heard| format!("{heard}").parse().unwrap())
}

fn resident_bytes(operator: &Operator) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a memory");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

fn is_ready(object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    status["observedGeneration"].as_i64() == object.metadata.generation
        && condition(status, "Ready").is_some_and(|(status, _, _)| status == "True")
}

fn without_owner(object: &DynamicObject) -> Value {
    let mut status = object.data["status"].clone();
    status["owner"].take();
    status
}

async fn started(space: &Space<'_>, kubeconfig: PathBuf, pod: &str) -> Operator {
    let mut operator = operator(space, kubeconfig, pod, "1").await;
    operator.wait_ready().await;
    operator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_listeners_are_ready_soon_and_a_restart_or_a_change_of_one_disturbs_no_other() {
    let kubernetes = Kubernetes::shared().await;
    let fleet = Fleet::start(kubernetes).await;
    let kubeconfig = fleet.space.token_kubeconfig(&account(&fleet.space).await).await;

    let began = Instant::now();
    let mut first = started(&fleet.space, kubeconfig.clone(), "operator-a").await;
    fleet.ready(&first, began).await;
    println!("{LISTENERS} listeners over {DEPLOYMENTS} deployments are Ready after {:.1?}", began.elapsed());
    println!("asked of the API server: {}", fleet.requests().await);
    let resident = resident_bytes(&first) >> 20;
    println!("resident memory: {resident} MiB");
    assert!(resident < MOST_MEMORY, "{resident} MiB");
    let mut most = 0;
    for node in fleet.clusters.iter().flat_map(Cluster::nodes) {
        let clients: usize = node.info("clients", "connected_clients").await.unwrap().parse().unwrap();
        // Ours, which asks, is one of them.
        most = most.max(clients - 1);
    }
    println!("connections of the operator to a node: at most {most}");
    assert!(most <= 5, "{most} connections to one node");
    // What so many patterns cost is said once for each deployment.
    let warned = first.logged().matches("is matched against every pattern").count();
    assert_eq!(warned, DEPLOYMENTS, "{}", first.tail());

    // One changes: only its own is begun anew.
    let (subscribed, heads) = fleet.settled().await;
    let before = fleet.objects().await;
    let change = r#"{"spec":{"keyPattern":"elsewhere:*"}}"#;
    fleet.space.kubectl(&["patch", "rel", &name(7), "--type=merge", "-p", change]).await.ok();
    fleet.ready(&first, Instant::now()).await;
    let after = fleet.objects().await;
    for (name, object) in after.iter().filter(|(at, _)| **at != name(7)) {
        assert_eq!(object.resource_version(), before[name].resource_version(), "{name} was written");
    }
    let (then_subscribed, then_heads) = fleet.begun().await;
    for (deployment, (calls, then)) in subscribed.iter().zip(&then_subscribed).enumerate() {
        let more = u64::from(deployment == 7 % DEPLOYMENTS);
        assert!(
            calls.iter().zip(then).all(|(calls, then)| calls + more == *then),
            "{subscribed:?} {then_subscribed:?}"
        );
    }
    let own = format!("rx:{{{}/{}#", fleet.space.name, name(7));
    for (key, head) in &then_heads {
        assert_eq!(heads[key] == *head, !key.starts_with(&own), "{key}: {:?}, then {head:?}", heads[key]);
    }

    // Another replica follows: no status says anything new but whose it is, and each is written once.
    let before = fleet.objects().await;
    let api = listeners(fleet.space.client.clone(), &fleet.space.name);
    let from = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    first.terminate().await;
    let began = Instant::now();
    let second = started(&fleet.space, kubeconfig.clone(), "operator-b").await;
    fleet.ready(&second, began).await;
    println!("a successor hears all of them after {:.1?}", began.elapsed());
    // What it knew not yet when it started it knows by now, and says if it is news.
    sleep(Duration::from_secs(20)).await;
    let after = fleet.objects().await;
    for (name, object) in &after {
        assert_eq!(without_owner(object), without_owner(&before[name]), "{name}");
        assert_eq!(object.data["status"]["owner"], "operator-b", "{name}");
    }
    let watched = api.watch(&WatchParams::default().timeout(5), &from).await.unwrap();
    pin_mut!(watched);
    let mut writes = BTreeMap::<String, usize>::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(2), watched.next()).await {
        if let WatchEvent::Modified(object) = event.unwrap() {
            *writes.entry(object.name_any()).or_default() += 1;
        }
    }
    assert_eq!(writes.len(), LISTENERS);
    let again = writes.iter().find(|(_, count)| **count != 1);
    assert!(again.is_none(), "{again:?}");

    // Two more come: each has its share, within four standard deviations of what chance would give it.
    let mut three = vec![second];
    for pod in ["operator-c", "operator-d"] {
        three.push(started(&fleet.space, kubeconfig.clone(), pod).await);
    }
    let shares = fleet.shared_by(&three).await;
    println!("three replicas own {shares:?}");
    assert!(shares.values().all(|share| (125..=208).contains(share)), "{shares:?}");
    for operator in &mut three {
        operator.terminate().await;
    }
}
