//! A network between us and a node that loses answers and delivers late.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::cmd;
use redis_expiry_operator::{
    commands::demo::cluster::{Cluster, Node},
    model::{Address, ListenerId, slot_of},
    store::{
        Store, StoreError,
        redis::{RedisStore, Settings},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::setup::{Redis, cluster, settings, shared, wait};
use crate::given::{FIRST, Fresh, apply, entry, entry_of, record, settle};

const PIECE: usize = 32;
const PIECES_APART: Duration = Duration::from_millis(60);

/// Passes connections on to a node.
#[derive(Clone)]
struct Proxy {
    port: u16,
    /// What clients send on the connections of now is kept until it is released.
    holding: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    release: watch::Sender<bool>,
    /// So many answers that a script has done something are lost with their connections.
    losing: Arc<AtomicUsize>,
    /// Answers come in small pieces, [`PIECE`] bytes each [`PIECES_APART`].
    slow: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    /// What was sent last to raise an epoch where another partition had decided on it.
    raise: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            holding: Arc::default(),
            held: Arc::default(),
            release: watch::channel(false).0,
            losing: Arc::default(),
            slow: Arc::default(),
            connections: Arc::default(),
            raise: Arc::default(),
        };
        let all = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(all.clone().pass(client, to.clone()));
            }
        });
        proxy
    }

    async fn pass(self, mut client: TcpStream, to: String) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut server = TcpStream::connect(to).await.unwrap();
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let there = async {
            let mut bytes = vec![0; 65_536];
            loop {
                let read = from_client.read(&mut bytes).await.unwrap_or(0);
                if bytes[..read].windows(6).any(|six| six == b"\nnext\r") {
                    *self.raise.lock().unwrap() = bytes[..read].to_vec();
                }
                let hold = self.holding.load(Ordering::SeqCst) && bytes[..read].windows(4).any(|four| four == b"EVAL");
                if hold {
                    self.held.fetch_add(1, Ordering::SeqCst);
                    self.release.subscribe().wait_for(|released| *released).await.unwrap();
                }
                if read == 0 || to_server.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
                if hold {
                    // The client has long gone; the node reads it all the same.
                    let _ = copy(&mut from_client, &mut to_server).await;
                }
            }
        };
        let back = async {
            let mut bytes = vec![0; 65_536];
            loop {
                let read = from_server.read(&mut bytes).await.unwrap_or(0);
                let done = bytes[..read].windows(6).any(|six| six == b"\ndone\r");
                let lose = |left: usize| left.checked_sub(1);
                if done && self.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                    return;
                }
                if read == 0 {
                    return;
                }
                let slow = self.slow.load(Ordering::SeqCst);
                for piece in bytes[..read].chunks(if slow { PIECE } else { read }) {
                    if to_client.write_all(piece).await.is_err() {
                        return;
                    }
                    if slow {
                        tokio::time::sleep(PIECES_APART).await;
                    }
                }
            }
        };
        tokio::select! { () = there => {}, () = back => {} }
    }
}

/// A store in one partition, with the proxy between us and its master.
async fn given() -> (Redis, Proxy) {
    given_in(shared().await, 1).await
}

/// ... in some, and the proxy before the master of the last.
async fn given_in(cluster: &Cluster, partitions: u16) -> (Redis, Proxy) {
    let direct = Redis::with(Settings { partitions, ..settings(cluster) }).await;
    let owner = direct.master(cluster, usize::from(partitions) - 1).await;
    let proxy = Proxy::start(owner.address()).await;
    let map = vec![(Address::parse(&owner.address()).unwrap(), Address::new("127.0.0.1", proxy.port))];
    let mut settings = Settings { address_map: map, ..direct.settings.clone() };
    (settings.attempt, settings.patience) = (Duration::from_millis(200), Duration::from_millis(700));
    // The probe would be one more that is held.
    settings.probe = Duration::from_secs(60);
    let mut redis = direct;
    redis.settings = settings;
    redis.reopen().await;
    (redis, proxy)
}

/// Whichever partition gives up first.
#[tokio::test]
async fn nodes_that_nobody_answers_at_are_named() {
    // One takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Address::new("127.0.0.1", silent.local_addr().unwrap().port());
    for nowhere in [Address::new("127.0.0.1", 1), silent] {
        let (attempt, patience) = (Duration::from_millis(400), Duration::from_millis(700));
        let addresses = vec![nowhere.clone()];
        let settings = Settings { addresses, attempt, patience, partitions: 8, ..settings(shared().await) };
        for _ in 0..3 {
            let opened = RedisStore::open(settings.clone(), &ListenerId::new("shop", "orders")).await;
            let Err(StoreError::Unavailable(why)) = opened else { panic!("it is there") };
            assert!(why.contains(&nowhere.to_string()), "{why}");
        }
    }
}

/// As where a node has died, and its address was given to one of another cluster.
#[tokio::test]
async fn an_address_that_is_now_another_clusters_is_not_written_to() {
    let (ours, theirs) = tokio::join!(cluster(0), cluster(0));
    let direct = Redis::with(Settings { partitions: 1, ..settings(&ours) }).await;
    let slot = slot_of(direct.keys()[0].as_bytes());
    let (owner, other) = (direct.master(&ours, 0).await, theirs.owner(slot.0).await.unwrap());
    let at = |node: &Node| Address::parse(&node.address()).unwrap();
    // Whom the slot belongs to is learnt from another of ours.
    let addresses = settings(&ours).addresses.into_iter().filter(|seed| *seed != at(&owner)).collect();
    let address_map = vec![(at(&owner), at(&other))];
    let settings = Settings { addresses, address_map, ..direct.settings.clone() };
    let opened = RedisStore::open(settings, &direct.listener).await;
    let Err(StoreError::Unavailable(why)) = opened else { panic!("it was opened in another cluster") };
    assert!(why.contains(&other.address()) && why.contains("another cluster"), "{why}");
    for node in theirs.nodes() {
        assert_eq!(node.query::<Vec<String>>(cmd("KEYS").arg("*")).await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_answers_as_if_it_had_arrived() {
    let (redis, proxy) = given().await;
    let store = redis.store();
    for round in 0..5 {
        let key = format!("k{round}");
        proxy.losing.store(2, Ordering::SeqCst);
        assert_eq!(apply(store, vec![record(&key, 5), record(&key, 6)]).await, [true, false]);
        assert_eq!(proxy.losing.load(Ordering::SeqCst), 0, "nothing was lost");
        proxy.losing.store(1, Ordering::SeqCst);
        assert_eq!(apply(store, vec![settle(&key, entry(5), 5, 9)]).await, [true]);
    }
    assert_eq!(store.counts().await.unwrap().pending, 5);
    assert_eq!(store.reapplied(), 0);
}

#[tokio::test]
async fn a_write_that_was_given_up_and_arrives_after_later_ones_does_nothing() {
    let (redis, proxy) = given().await;
    let store = redis.store();
    apply(store, vec![record("a", 5)]).await;
    proxy.holding.store(true, Ordering::SeqCst);
    let error = store.apply(FIRST, vec![settle("a", entry(5), 5, 9), record("ghost", 5)]).done.await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(proxy.held.load(Ordering::SeqCst) > 1);
    // Connections that are made from now on are not held.
    proxy.holding.store(false, Ordering::SeqCst);
    apply(store, vec![record("b", 5)]).await;
    proxy.release.send_replace(true);
    // They have arrived when a write behind them has: it is on another connection, so some time is given.
    tokio::time::sleep(Duration::from_millis(300)).await;
    apply(store, vec![record("c", 5)]).await;
    assert_eq!((entry_of(store, "a").await, entry_of(store, "ghost").await), (Some(entry(5)), None));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.tracked, counts.pending, store.reapplied()), (3, 0, 0));
}

#[tokio::test]
async fn a_raise_that_arrives_once_more_before_the_first_write_does_not_answer_for_it() {
    let (redis, proxy) = given_in(shared().await, 2).await;
    let store = redis.store();
    let epoch = store.take_epoch().await.unwrap();
    let raise = proxy.raise.lock().unwrap().clone();
    let mut late = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    late.write_all(&raise).await.unwrap();
    let answered = late.read(&mut [0; 1_024]).await.unwrap();
    assert!(!raise.is_empty() && answered > 0, "nothing was sent again");
    let records = (0..50).map(|number| record(&format!("k{number}"), 5)).collect();
    assert_eq!(store.apply(epoch, records).done.await.unwrap(), vec![true; 50]);
    assert_eq!(store.counts().await.unwrap().tracked, 50);
}

#[tokio::test]
async fn a_node_that_answers_slowly_keeps_its_connection_and_is_waited_for() {
    let (mut redis, proxy) = given_in(shared().await, 48).await;
    let records = |of: &str| (0..480).map(|number| record(&format!("{of}{number}"), 5)).collect();
    let connections = || proxy.connections.load(Ordering::SeqCst);
    proxy.slow.store(true, Ordering::SeqCst);
    let before = connections();
    // Who gives up takes nobody else's answers away.
    let error = redis.store().apply(FIRST, records("given up ")).done.await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("answers others")), "{error}");
    proxy.slow.store(false, Ordering::SeqCst);
    wait("an answer behind all that was asked", async || redis.store().counts().await.is_ok()).await;
    assert_eq!(connections(), before, "who gave up has ended the connection");

    redis.settings.patience = Duration::from_secs(20);
    redis.reopen().await;
    proxy.slow.store(true, Ordering::SeqCst);
    let (before, began) = (connections(), Instant::now());
    assert_eq!(redis.store().apply(FIRST, records("k")).done.await.unwrap(), vec![true; 480]);
    let took = began.elapsed();
    assert!(took > 3 * redis.settings.attempt, "it was not slow: {took:?}");
    assert_eq!(connections(), before, "it has connected anew");
}
