//! Redis Clusters to test with, and stores in them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node, Options},
    model::{Address, ListenerId},
    store::redis::{Mode, RedisStore, Settings},
};
use tokio::{sync::OnceCell, time::Instant};

use crate::given::Fresh;

/// One for all tests that do it no harm. It ends with the process.
pub async fn shared() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| cluster(0)).await
}

/// Three masters with so many replicas each.
pub async fn cluster(replicas: usize) -> Cluster {
    let options = Options { replicas, notify_keyspace_events: String::new(), ..Options::default() };
    Cluster::start(options).await.unwrap()
}

pub fn settings(cluster: &Cluster) -> Settings {
    let addresses = cluster.seeds().iter().map(|seed| Address::parse(seed).unwrap()).collect();
    Settings::new(Mode::Cluster, addresses)
}

/// A listener that nobody else has.
pub fn listener() -> ListenerId {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    ListenerId::new("test", &format!("l{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// A store in a Redis, by a listener of its own.
pub struct Redis {
    store: Option<RedisStore>,
    pub settings: Settings,
    pub listener: ListenerId,
}

impl Redis {
    pub async fn fresh() -> Self {
        Self::with(settings(shared().await)).await
    }
    /// In few partitions.
    pub async fn few() -> Self {
        Self::with(Settings { partitions: 2, ..settings(shared().await) }).await
    }
    pub async fn with(settings: Settings) -> Self {
        let mut fresh = Self { store: None, settings, listener: listener() };
        fresh.open().await;
        fresh
    }
    async fn open(&mut self) {
        self.store = Some(RedisStore::open(self.settings.clone(), &self.listener).await.unwrap());
    }
    /// Another process on the same ledger.
    pub async fn another(&self) -> RedisStore {
        RedisStore::open(self.settings.clone(), &self.listener).await.unwrap()
    }
    pub fn keys(&self) -> Vec<String> {
        self.store().keys(&self.listener)
    }
    /// Who has the partition's slot.
    pub async fn master(&self, cluster: &Cluster, partition: usize) -> Node {
        let slot = redis_expiry_operator::model::slot_of(self.keys()[partition * 11].as_bytes());
        cluster.owner(slot.0).await.unwrap()
    }
}

impl Fresh for Redis {
    type Store = RedisStore;
    fn store(&self) -> &RedisStore {
        self.store.as_ref().unwrap()
    }
    async fn reopen(&mut self) {
        use redis_expiry_operator::store::Store as _;
        self.store().close().await.unwrap();
        self.open().await;
    }
    async fn again(&mut self) {
        self.open().await;
    }
    /// What tells later owners from earlier ones stays for an hour.
    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for key in self.keys() {
            let owner = shared().await.owner(redis_expiry_operator::model::slot_of(key.as_bytes()).0).await.unwrap();
            let lifetime: i64 = owner.query(redis::cmd("PTTL").arg(&key)).await.unwrap();
            let stays = key.ends_with("}head") && (1..=60 * 60 * 1_000).contains(&lifetime);
            left.extend((lifetime != -2 && !stays).then_some(key));
        }
        left
    }
    /// Without replicas, and nothing is written to disk.
    fn durable(&self) -> bool {
        false
    }
}

/// Waits until `check` says so.
pub async fn wait(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(Instant::now() < end, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
