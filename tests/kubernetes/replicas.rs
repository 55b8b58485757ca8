//! Three replicas share the listeners; orders fall due all the while, and their truth is known.

use std::{net::SocketAddr, time::Duration};

use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Options},
    model::{Millis, SlotSet},
};

use crate::{
    bed::{
        cut::Cut,
        given::{KEY, account, listener, operator},
        kubernetes::Kubernetes,
        observed::Observed,
        operator::Operator,
        proxy::{Line, Proxy},
        space::Space,
    },
    support::{
        generator::{Generator, last_deadline},
        now,
        receiver::Receiver,
        report::{Span, story},
        scenario::{address, all_told},
        sleep_until,
        verdict::{Faults, Kind, Window},
    },
};

const PODS: [&str; 3] = ["operator-a", "operator-b", "operator-c"];

async fn cluster() -> Cluster {
    Cluster::start(Options { notify_keyspace_events: "KA".into(), ..Options::default() }).await.unwrap()
}

/// A run: a cluster, a receiver, three replicas, orders.
struct Run<'a> {
    space: Space<'a>,
    cluster: Cluster,
    receiver: Receiver,
    operators: Vec<Operator>,
    proxies: Vec<Proxy>,
    seen: Observed,
    generator: Generator,
    faults: Faults,
    spans: Vec<Span>,
}

impl<'a> Run<'a> {
    async fn start(kubernetes: &'a Kubernetes, name: &str) -> Self {
        Self::over(kubernetes, name, cluster().await, |listener| listener).await
    }

    /// `written` makes of the listener what is applied.
    async fn over(
        kubernetes: &'a Kubernetes,
        name: &str,
        cluster: Cluster,
        written: impl FnOnce(String) -> String,
    ) -> Self {
        let space = kubernetes.namespace(name).await;
        let account = account(&space).await;
        let receiver = Receiver::start(KEY, &format!("{}/order-timeouts", space.name)).await;
        space.secret("webhook-key", &[("secret", KEY)]).await;
        space.apply(&written(listener(&cluster, &receiver.url(), ""))).await.ok();
        let (mut operators, mut proxies) = (Vec::new(), Vec::new());
        for pod in PODS {
            let proxy = Proxy::start(kubernetes.address()).await;
            let kubeconfig = kubernetes.token_kubeconfig(&space.name, &account, proxy.address()).await;
            operators.push(operator(&space, kubeconfig, pod, "3").await);
            proxies.push(proxy);
        }
        for operator in &mut operators {
            operator.wait_ready().await;
        }
        let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");
        seen.wait_ready().await;
        let seeds = cluster.nodes().iter().map(address).collect();
        let generator = Generator::start(true, seeds, rand::random());
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let (faults, spans) = (Faults::default(), Vec::new());
        Self { space, cluster, receiver, operators, proxies, seen, generator, faults, spans }
    }

    /// Which replica owns it, when that is settled.
    async fn owner(&self) -> usize {
        let stood = self.seen.wait_owner(&PODS, Duration::from_secs(30)).await;
        PODS.iter().position(|pod| Some(*pod) == stood.owner.as_deref()).unwrap()
    }

    /// Waits until this replica hears every master and has looked at all that is there. The status is no witness of that: through
    /// a restart it stays as it was.
    async fn heard_by(&self, replica: usize) {
        let labels = format!("namespace={:?},name=\"order-timeouts\"", self.space.name);
        let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.operators[replica].metric("redis_expiry_listener_ready", &labels).await != Some(1.0) {
            let who = &self.operators[replica];
            assert!(tokio::time::Instant::now() < give_up, "not ready within 30 s\n{}", who.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `replica` owns it again and hears everything; the time since `from` is a gap.
    async fn regained(&mut self, replica: usize, from: Millis) {
        self.seen.wait_owner(&[PODS[replica]], Duration::from_secs(60)).await;
        self.heard_by(replica).await;
        self.window(from, now().plus(500));
    }

    /// Waits until another than `old`, which was gone at `gone`, owns it and the first webhook has come; the time since `from` is a
    /// gap.
    async fn taken_over(&mut self, old: usize, from: Millis, gone: Millis, within: i64) {
        let others: Vec<&str> = PODS.iter().copied().filter(|pod| *pod != PODS[old]).collect();
        let stood = self.seen.wait_owner(&others, Duration::from_secs(30)).await;
        // What the old one had under way may still have come before, and it goes on for a while when it is told to stop.
        let after = stood.at.max(gone);
        let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
        let first = loop {
            let first = self.receiver.received().iter().map(|received| received.at).find(|at| *at >= after);
            if let Some(first) = first {
                break first;
            }
            assert!(tokio::time::Instant::now() < give_up, "no webhook comes\n{}", self.seen.story());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        println!("taken over after {} ms", first.since(from));
        assert!(
            first.since(from) <= within,
            "the first webhook came {} ms after\n{}",
            first.since(from),
            self.seen.story()
        );
        let owner = PODS.iter().position(|pod| Some(*pod) == stood.owner.as_deref()).unwrap();
        self.heard_by(owner).await;
        self.window(from, now().plus(500));
    }

    fn window(&mut self, from: Millis, to: Millis) {
        self.faults.windows.push(Window { from, to, slots: SlotSet::all(), kind: Kind::Gap });
        self.spans.push(Span { from, to: to.max(from.plus(2_500)) });
    }

    async fn judge(mut self) {
        // What both falls due and is set inside a gap does not count, and a takeover is a long one.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let histories = self.generator.finish().await;
        sleep_until(last_deadline(&histories)).await;
        let patience = Duration::from_secs(15);
        let (received, report) = all_told(&histories, &self.receiver, &self.faults, &self.spans, patience).await;
        println!("{}: {}", self.space.name, report.summary());
        let complaints = report.complaints(|key| story(key, &histories, &received, &self.faults));
        let wrong = self.receiver.wrong();
        let tails: Vec<String> = self.operators.iter().map(Operator::tail).collect();
        assert!(
            complaints.is_empty() && wrong.is_empty(),
            "{complaints:#?}\n{wrong:?}\n{}\n{}",
            self.seen.story(),
            tails.join("\n")
        );
        drop(self.cluster);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_inside_a_burst_and_terminated() {
    let mut run = Run::start(Kubernetes::shared().await, "killed").await;
    // Long enough before that all of them are set and recorded, on a slow machine too.
    run.generator.burst_after(Duration::from_secs(2), 800, Duration::from_millis(300)).await;
    tokio::time::sleep(Duration::from_millis(2_150)).await;
    let (old, from) = (run.owner().await, now());
    run.operators[old].kill();
    // In the middle of 800 expiries it is some time behind with what is set, on a slow machine 0.4 s.
    run.window(from.plus(-750), from);
    run.taken_over(old, from, from, 12_000).await;
    let from = now();
    run.operators[old].start_again();
    // Rendezvous gives it back to whom it had.
    run.regained(old, from).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (old, from) = (run.owner().await, now());
    run.operators[old].terminate().await;
    let gone = now();
    run.taken_over(old, from, gone, 2_000).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_past_its_lease_and_thawed() {
    let mut run = Run::start(Kubernetes::shared().await, "stopped").await;
    let (old, from) = (run.owner().await, now());
    run.operators[old].stop();
    run.taken_over(old, from, from, 12_000).await;
    let from = now();
    run.operators[old].cont();
    // Its late writes are refused, and it owns it again when the others have seen that it is alive.
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    while !run.operators[old].logged().contains("Fenced") {
        assert!(tokio::time::Instant::now() < give_up, "it is not fenced\n{}", run.operators[old].tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.regained(old, from).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_from_the_api_server() {
    let mut run = Run::start(Kubernetes::shared().await, "cut").await;
    let (old, from) = (run.owner().await, now());
    run.proxies[old].set(Line::Hangs).await;
    run.taken_over(old, from, from, 14_000).await;
    let from = now();
    run.proxies[old].set(Line::Passes).await;
    run.regained(old, from).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_from_redis() {
    let cluster = cluster().await;
    let nodes = cluster.nodes().iter().map(|node| node.address().parse().unwrap()).collect();
    let cut = Cut::before(nodes).await;
    let dialled_through = |listener: String| {
        let seeds =
            |text: String, (node, dial): &(SocketAddr, SocketAddr)| text.replace(&node.to_string(), &dial.to_string());
        let listener = cut.addresses.iter().fold(listener, seeds);
        let map = cut.addresses.iter().map(|(node, dial)| format!("{{announced: \"{node}\", dial: \"{dial}\"}}"));
        let map = map.collect::<Vec<_>>().join(", ");
        listener.replace("  keyPattern:", &format!("    addressMap: [{map}]\n  keyPattern:"))
    };
    let mut run = Run::over(Kubernetes::shared().await, "parted", cluster, dialled_through).await;
    let (old, from) = (run.owner().await, now());
    cut.off(run.operators[old].process());
    run.seen.wait("not Ready", Duration::from_secs(30), |stood| !stood.ready).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    // It lives, so the listener stays its own; what fell due meanwhile is told of when it hears again.
    cut.heal();
    run.regained(old, from).await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_down_for_a_while() {
    let kubernetes = Kubernetes::own().await;
    kubernetes.install_crd().await;
    let mut run = Run::start(&kubernetes, "down").await;
    let before = run.owner().await;
    let from = now();
    kubernetes.stop_api_server();
    // Longer than a task may go without coming round (30 s): the API server's absence is no illness of theirs.
    tokio::time::sleep(Duration::from_secs(45)).await;
    for operator in &run.operators {
        for probe in ["/livez", "/readyz"] {
            let (status, text) = operator.get(probe).await.unwrap();
            assert_eq!(status, 200, "{probe} of {}: {text}", operator.pod_name);
        }
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    // Nobody stopped, nobody took anything: orders were told of all the while, on time.
    let late = run
        .receiver
        .received()
        .iter()
        .filter(|received| received.at >= from)
        .map(|received| received.at.since(received.deadline))
        .max();
    assert!(late.is_some_and(|late| late < 2_000), "late by {late:?} ms");
    kubernetes.start_api_server().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    run.seen.wait_ready().await;
    assert_eq!(run.owner().await, before, "{}", run.seen.story());
    // No window: nothing was missed, so nothing is excused.
    run.spans.push(Span { from, to: now() });
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_see_the_listeners_joins_nobody() {
    let kubernetes = Kubernetes::shared().await;
    let space = kubernetes.namespace("blind").await;
    space.service_account("blind").await;
    space.kubectl(&["create", "role", "leases", "--verb=*", "--resource=leases.coordination.k8s.io"]).await.ok();
    let account = format!("--serviceaccount={}:blind", space.name);
    space.kubectl(&["create", "rolebinding", "leases", "--role=leases", &account]).await.ok();
    let blind = operator(&space, space.token_kubeconfig("blind").await, "operator-blind", "2").await;
    let sighted = self::account(&space).await;
    let mut other = operator(&space, space.token_kubeconfig(&sighted).await, "operator-a", "2").await;
    other.wait_ready().await;
    // Its Lease would have been renewed twice by now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let leases = space.kubectl(&["get", "leases", "-o", "name"]).await.ok();
    assert!(leases.contains("operator-a") && !leases.contains("operator-blind"), "{leases}");
    let (status, why) = blind.get("/readyz").await.unwrap();
    assert!(status == 503 && why.contains("may the operator list them"), "{status} {why}");
    assert_eq!(blind.get("/livez").await.unwrap().0, 200);
}
