//! One run of the fault suite: a cluster, a receiver, the binary between them, and orders all the while.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, MASTER_NAME, Node, Options, Sentinel},
    model::{Address, Millis, Slot, SlotSet},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    acl::{self, Login},
    certificates::Authority,
    generator::{Generator, last_deadline},
    judge::judge,
    listener::{Listener, Settings, TLS},
    now,
    receiver::{Received, Receiver},
    report::{Report, Span, story},
    sleep_until,
    truth::History,
    verdict::{Demotion, Faults, Kind, Window, Wipe},
};

/// Three at a time, where there are threads for them: each runs eight processes.
static AT_ONCE: Semaphore = Semaphore::const_new(3);

/// How long orders are created at least: enough for 2,000 deadlines.
const LEAST_MS: i64 = 10_000;

/// How long what is owed may take to come after the last deadline.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long after the store is back it takes at most until nothing waits for it any more, on a slow machine.
const CAUGHT_UP_MS: i64 = 2_500;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct Scenario {
    name: &'static str,
    store: Store,
    login: Option<Login>,
    pub cluster: Cluster,
    /// The store's, if that is another.
    pub other: Option<Cluster>,
    pub receiver: Receiver,
    pub listener: Listener,
    pub generator: Generator,
    pub faults: Faults,
    spans: Vec<Span>,
    /// For how long orders are created at least, in milliseconds.
    pub least: i64,
    generating: Millis,
    began: tokio::time::Instant,
    directory: TempDir,
    _turn: SemaphorePermit<'static>,
}

/// What a scenario may have otherwise than the rest.
pub struct Setup {
    pub cluster: Options,
    pub keyspace_events: &'static str,
    pub change_source: &'static str,
    pub store: Store,
    /// To the watched cluster the listener is a user of manifests/examples/acl.yaml, with its rights and no others. `Enable` needs
    /// one more.
    pub least_rights: bool,
    /// `host:port` at which the listener serves its metrics.
    pub admin: Option<String>,
    /// The listener's state lies on a disk of its own, of so many MiB.
    pub disk: Option<u32>,
    /// The watched servers, and their sentinels, are spoken to with TLS, and want a certificate.
    pub tls: bool,
}

/// Where the ledger lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In a file.
    Local,
    /// In the watched cluster.
    Watched,
    /// In another cluster, which has replicas too.
    Another,
    /// In another cluster without replicas.
    Alone,
}

impl Default for Setup {
    fn default() -> Self {
        let cluster = Options { notify_keyspace_events: "KA".into(), ..Options::default() };
        Self {
            cluster,
            keyspace_events: "Observe",
            change_source: "Auto",
            store: Store::Local,
            least_rights: false,
            admin: None,
            disk: None,
            tls: false,
        }
    }
}

impl Setup {
    pub fn with(store: Store) -> Self {
        Self { store, ..Self::default() }
    }
}

impl Scenario {
    /// Starts everything; returns when orders have been falling due for a while.
    pub async fn start(name: &'static str, mut setup: Setup) -> Self {
        let turn = AT_ONCE.acquire().await.unwrap();
        let began = tokio::time::Instant::now();
        let directory = tempfile::Builder::new().prefix("faults-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let clustered = setup.cluster.clustered;
        // Where nobody may be told of keyspace events, client tracking it is.
        let tracked = setup.change_source == "ClientTracking" || setup.cluster.notify_keyspace_events.is_empty();
        let login = (setup.least_rights && acl::known()).then(acl::login);
        if login.is_some() {
            // Every server reads it when it starts, those that are added or come back too.
            let users = directory.path().join("users.acl");
            fs::write(&users, acl::users()).unwrap();
            setup.cluster.directives.push(("aclfile".to_owned(), users.display().to_string()));
        }
        let authority = setup.tls.then(Authority::new);
        setup.cluster.tls = authority.as_ref().map(|authority| authority.files(directory.path(), "127.0.0.1"));
        let own = authority.as_ref().map(|authority| authority.vouch_for("redis-expiry-operator"));
        let tls = setup.cluster.tls.clone();
        let cluster = Cluster::start(setup.cluster).await.unwrap();
        let other = match setup.store {
            Store::Another | Store::Alone => {
                let replicas = usize::from(setup.store == Store::Another);
                let quiet = Options { replicas, notify_keyspace_events: String::new(), tls, ..Options::default() };
                Some(Cluster::start(quiet).await.unwrap())
            }
            Store::Local | Store::Watched => None,
        };
        let store = match (setup.store, &other) {
            (Store::Local, _) => "{type: Local}".to_owned(),
            (_, None) => "{type: Redis}".to_owned(),
            (_, Some(other)) if setup.tls => {
                format!("{{type: Redis, redis: {{addresses: {:?}, {TLS}}}}}", other.tls_seeds())
            }
            (_, Some(other)) => format!("{{type: Redis, redis: {{addresses: {:?}}}}}", other.seeds()),
        };
        let receiver = Receiver::start(SECRET, "shop/order-timeouts").await;
        let seeds = if setup.tls { cluster.tls_seeds() } else { cluster.seeds() };
        let sentinels = cluster.sentinels();
        let sentinels: Vec<String> = if setup.tls {
            sentinels.iter().filter_map(Sentinel::tls_address).collect()
        } else {
            sentinels.iter().map(Sentinel::address).collect()
        };
        let (mode, seeds) = match (clustered, sentinels.is_empty()) {
            (true, _) => ("Cluster".to_owned(), seeds),
            (false, true) => ("Standalone".to_owned(), seeds),
            (false, false) => {
                let tls = if setup.tls { format!(", {TLS}") } else { String::new() };
                (format!("Sentinel\n    sentinel: {{masterName: {MASTER_NAME}{tls}}}"), sentinels)
            }
        };
        let settings = Settings {
            mode: &mode,
            seeds: &seeds,
            url: &receiver.url(),
            secret: SECRET,
            keyspace_events: setup.keyspace_events,
            change_source: setup.change_source,
            store: &store,
            login: login.as_ref(),
            admin: setup.admin.as_deref(),
            disk: setup.disk,
            tls: authority.as_ref().zip(own.as_ref()).map(|(authority, own)| (authority.pem.as_str(), own)),
        };
        let mut listener = Listener::start(directory.path(), &settings);
        listener.wait_ready(Millis(0)).await;
        let seed = rand::random();
        println!("{name}: seed {seed}");
        let nodes = cluster.nodes().iter().map(address).collect();
        let (generator, generating) = (Generator::start(clustered, nodes, seed), now());
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Self {
            name,
            store: setup.store,
            login,
            cluster,
            other,
            receiver,
            listener,
            generator,
            faults: Faults { tracked, ..Faults::default() },
            spans: Vec::new(),
            least: LEAST_MS,
            generating,
            began,
            directory,
            _turn: turn,
        }
    }

    /// Where the listener's files lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until the cluster and the listener are over what was done from `from` until now, and writes the time between down: as
    /// a window in which pushes of `slots` may have been missed, and as the span that counts.
    pub async fn recovered(&mut self, from: Millis, slots: &SlotSet, kind: Kind) -> Millis {
        let done = now();
        self.cluster.wait_ok().await.unwrap();
        let whole = now();
        let ready = self.settled(done).await;
        // Until the cluster agrees on an owner nobody knows whose data will stay.
        let until = if kind == Kind::Loss { ready.max(whole) } else { ready };
        self.window(from, until, slots, kind);
        self.counts(from, until);
        until
    }

    /// Waits until the listener has been ready for a while after `from`, and says since when.
    pub async fn settled(&mut self, from: Millis) -> Millis {
        let give_up = now().plus(30_000);
        loop {
            self.listener.wait_ready(Millis(0)).await;
            let since = self.listener.ready().map_or(now(), |at| at.max(from.plus(300)));
            if now().since(since) >= 700 {
                return since;
            }
            assert!(now() < give_up, "the listener does not settle\n{}", self.listener.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Pushes of `slots` may have been missed between the two.
    pub fn window(&mut self, from: Millis, to: Millis, slots: &SlotSet, kind: Kind) {
        self.faults.windows.push(Window { from, to, slots: slots.clone(), kind });
    }

    /// The store may have taken nothing between the two: what lies in the watched cluster fails with it. It is over once all that
    /// waited for it has been seen to, which nobody tells.
    pub fn store_held(&mut self, from: Millis, to: Millis) {
        if self.store != Store::Local {
            self.window(from, to.plus(CAUGHT_UP_MS), &SlotSet::all(), Kind::Held);
        }
    }

    /// What falls due and is paid between the two counts as inside the fault; two and a half seconds at least are looked at.
    pub fn counts(&mut self, from: Millis, to: Millis) {
        self.spans.push(Span { from, to: to.max(from.plus(2_500)) });
    }

    /// The master dies or is demoted without being asked: what no replica had by `until` is gone.
    pub fn demoted(&mut self, node: &Node, until: Millis) {
        self.faults.demotions.push(Demotion { node: address(node), until });
    }

    pub fn wiped(&mut self, from: Millis, to: Millis, slots: &SlotSet) {
        self.faults.wipes.push(Wipe { from, to, slots: slots.clone() });
    }

    /// The masters with their slots.
    pub async fn masters(&self) -> Vec<(Node, SlotSet)> {
        let masters = self.cluster.masters().await.unwrap().into_iter();
        masters
            .map(|(node, seen)| (node, seen.slots.iter().flat_map(|range| range.clone().map(Slot)).collect()))
            .collect()
    }

    #[allow(dead_code, reason = "tests/soak.rs wants it")]
    /// When orders began.
    pub fn began_at(&self) -> Millis {
        self.generating
    }

    /// Ends the orders, waits until all that was owed has come (or `PATIENCE` has passed), and judges.
    pub async fn judge(self) -> Report {
        self.judge_within(PATIENCE).await
    }

    pub async fn judge_within(mut self, patience: Duration) -> Report {
        // Enough after the last fault to see that all is well again.
        let last = self.spans.iter().map(|span| span.to).max().unwrap_or(now());
        sleep_until(last.plus(1_500).max(self.generating.plus(self.least))).await;
        let histories = self.generator.finish().await;
        sleep_until(last_deadline(&histories)).await;
        let (received, report) = all_told(&histories, &self.receiver, &self.faults, &self.spans, patience).await;
        println!("{}: {:.0?}: {}", self.name, self.began.elapsed(), report.summary());
        let wrong = self.receiver.wrong();
        let complaints = report.complaints(|key| story(key, &histories, &received, &self.faults));
        if let Some(login) = &self.login {
            acl::nothing_was_refused(&self.cluster, &login.username).await;
            assert!(!self.listener.has_said("NOPERM"), "something was refused\n{}", self.listener.tail());
        }
        self.listener.terminate().await;
        assert!(complaints.is_empty() && wrong.is_empty(), "{}", self.everything(&complaints, &wrong, &report));
        report
    }

    fn everything(&self, complaints: &[String], wrong: &[String], report: &Report) -> String {
        let mut text = format!("{}\n{}\n", self.name, report.summary());
        for window in &self.faults.windows {
            let _ = writeln!(text, "{:?} {}..{} {} slots", window.kind, window.from.0, window.to.0, window.slots.len());
        }
        for complaint in complaints.iter().chain(wrong.iter().take(5)) {
            let _ = writeln!(text, "{complaint}");
        }
        text.push_str(&self.listener.tail());
        text
    }
}

/// Waits until all that was owed has come, or `patience` has passed, and gives what must not come its chance too.
pub async fn all_told(
    histories: &[History],
    receiver: &Receiver,
    faults: &Faults,
    spans: &[Span],
    patience: Duration,
) -> (Vec<Received>, Report) {
    let give_up = tokio::time::Instant::now() + patience;
    loop {
        let report = judge(histories, &receiver.received(), faults, spans);
        if report.lost.is_empty() || tokio::time::Instant::now() > give_up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let all = receiver.received();
    let report = judge(histories, &all, faults, spans);
    (all, report)
}

pub fn address(node: &Node) -> Address {
    Address::new("127.0.0.1", node.port())
}
