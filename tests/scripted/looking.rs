//! One node's connection: looks, the barrier, what a node may say.

use std::{sync::Arc, time::Duration};

use redis_expiry_operator::{
    clock,
    deployment::{Answer, Look, NoAnswer, Sort},
    dial::Dialler,
    model::{Key, Millis},
    nodes::{Ask, Connection, Driver, Guidance, Notifications, Setting, Tap},
    plan::{ChangeSource, RedisPlan},
    topology::{Refresh, Topology, merge, parse_nodes},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, Frame, until};

/// The connection to a node `a` that owns all slots.
struct Given {
    fake: Fake,
    driver: Driver,
    tap: Arc<Tap>,
    looks: mpsc::Receiver<Vec<Look>>,
    guidance: watch::Sender<Arc<Guidance>>,
    refresh: Refresh,
    tasks: JoinSet<()>,
}

pub fn plan(seeds: &[&Fake]) -> RedisPlan {
    let addresses = seeds.iter().map(|seed| seed.address.clone()).collect();
    RedisPlan { topology_refresh: Duration::from_millis(100), ..crate::plan::redis(addresses) }
}

fn topology(fake: &Fake, rows: &[String]) -> Arc<Topology> {
    Arc::new(merge(&Topology::default(), &[parse_nodes(&rows.concat(), &fake.address).unwrap()], &[]))
}

fn drive(fake: &Fake, guidance: &watch::Sender<Arc<Guidance>>, refresh: &Refresh, tasks: &mut JoinSet<()>) -> Driver {
    told_by(ChangeSource::KeyspaceEvents, fake, guidance, refresh, tasks)
}

fn told_by(
    change_source: ChangeSource,
    fake: &Fake,
    guidance: &watch::Sender<Arc<Guidance>>,
    refresh: &Refresh,
    tasks: &mut JoinSet<()>,
) -> Driver {
    let (dialled, dial) = watch::channel(vec![fake.address.clone()]);
    let stop = CancellationToken::new();
    let (set, notifications) = watch::channel(Notifications::default());
    let setting = Setting {
        id: fake.id.into(),
        plan: RedisPlan { change_source, ..plan(&[fake]) },
        dialler: Dialler::everything(),
        dial,
        guidance: guidance.subscribe(),
        refresh: refresh.clone(),
        notifications,
    };
    let (driver, task) = Driver::new(setting, stop);
    tasks.spawn(async move {
        task.await;
        drop((dialled, set));
    });
    driver
}

impl Given {
    /// Subscribed, and suspect still.
    async fn suspect() -> Self {
        Self::with(Fake::start("a").await).await
    }
    async fn with(fake: Fake) -> Self {
        Self::by(ChangeSource::KeyspaceEvents, fake).await
    }
    async fn by(change_source: ChangeSource, fake: Fake) -> Self {
        let (tell, looks) = mpsc::channel(64);
        let tap = Arc::new(Tap::new(b"k*".to_vec(), tell));
        let topology = topology(&fake, &[fake.row("master", "-", 1, "0-16383")]);
        let guidance = Guidance { topology, taps: vec![Arc::clone(&tap)], ..Guidance::default() };
        let guidance = watch::Sender::new(Arc::new(guidance));
        let (refresh, mut tasks) = (Refresh::default(), JoinSet::new());
        let driver = told_by(change_source, &fake, &guidance, &refresh, &mut tasks);
        let given = Self { fake, driver, tap, looks, guidance, refresh, tasks };
        given.wait("subscribed", |connection| connection.since.is_some()).await;
        given
    }
    async fn trusted() -> Self {
        let given = Self::suspect().await;
        given.confirm().await;
        given
    }
    async fn wait(&self, what: &str, wanted: impl Fn(&Connection) -> bool) {
        until(what, || wanted(&self.driver.connection.borrow())).await;
    }
    fn guide(&self, change: impl FnOnce(&mut Guidance)) {
        self.guidance.send_modify(|guidance| {
            let mut changed = Guidance::clone(guidance);
            change(&mut changed);
            *guidance = Arc::new(changed);
        });
    }
    async fn confirm(&self) {
        self.guide(|guidance| guidance.confirmed.extend([("a".into(), Instant::now())]));
        self.wait("trusted", |connection| connection.trusted).await;
    }
    fn ask(&self) {
        let ask = Ask { tap: Arc::clone(&self.tap), keys: vec!["k".into()], asking: false };
        self.driver.asks.try_send(ask).ok().unwrap();
    }
    async fn answered(&mut self) -> Look {
        let looks = timeout(Duration::from_secs(5), self.looks.recv()).await;
        looks.unwrap().unwrap().remove(0)
    }
    async fn look(&mut self) -> Look {
        self.ask();
        self.answered().await
    }
    /// Nobody asks for the topology any more.
    async fn quiet(&self) {
        while timeout(Duration::from_millis(50), self.refresh.requested()).await.is_ok() {}
    }
    async fn refreshes(&self) -> bool {
        timeout(Duration::from_secs(5), self.refresh.requested()).await.is_ok()
    }
    async fn hinted(&self) {
        until("a hint", || self.tap.hints(9) == [Key::from("k")]).await;
    }
}

fn push(event: &'static str) -> Frame {
    Frame::Push("k".into(), event)
}
fn reply(text: &str) -> Frame {
    Frame::Reply(text.into())
}
fn sorts(look: &Look) -> Vec<Sort> {
    look.used.heard.iter().map(|heard| heard.sort).collect()
}

#[tokio::test]
async fn a_gone_answer_uses_what_comes_between_it_and_its_barrier() {
    let mut given = Given::trusted().await;
    given.fake.script("k", &[push("set"), reply(":-2"), push("expired")]);
    let look = given.look().await;
    assert_eq!((&look.answer, sorts(&look)), (&Answer::Gone, vec![Sort::Born, Sort::Expired]));
}

#[tokio::test]
async fn what_a_node_tells_that_was_replaced_behind_its_answer_is_not_of_that_answer() {
    let mut given = Given::by(ChangeSource::ClientTracking, Fake::start("a").await).await;
    given.confirm().await;
    let told = reply(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk");
    // The look has made it expire: it is the owner still, and says so again.
    given.fake.script("k", &[reply(":-2")]);
    given.fake.script("k", &[told.clone(), reply(":-2")]);
    let look = given.look().await;
    assert_eq!((&look.answer, sorts(&look)), (&Answer::Gone, vec![Sort::ChangedSince]));
    // It kept to itself what was due, was replaced, and tells what its new master has made of the key.
    given.quiet().await;
    given.fake.script("k", &[reply(":-2")]);
    given.fake.script("k", &[told, reply("-MOVED 11 127.0.0.1:1")]);
    let look = given.look().await;
    assert_eq!((&look.answer, sorts(&look)), (&Answer::None(NoAnswer::NotOwner), vec![]));
    assert!(given.refreshes().await);
}

#[tokio::test]
async fn an_alive_answer_uses_what_came_before_it_and_what_follows_starts_the_next_look() {
    let mut given = Given::trusted().await;
    given.fake.script("k", &[push("set"), reply(":99999999999999"), push("expired")]);
    let look = given.look().await;
    let alive = Answer::Alive(Some(Millis(99_999_999_999_999)));
    assert_eq!((&look.answer, sorts(&look)), (&alive, vec![Sort::Born]));
    given.hinted().await;
    let next = given.look().await;
    assert_eq!((&next.answer, sorts(&next)), (&Answer::Gone, vec![Sort::Expired]));
}

#[tokio::test]
async fn an_answer_after_half_a_second_is_none_and_its_evidence_is_kept_for_the_next() {
    let mut given = Given::trusted().await;
    given.fake.push("k", "set");
    given.hinted().await;
    given.fake.hang();
    // It is read before the hang is over: an alive answer would use the evidence up.
    given.fake.script("k", &[reply(":99999999999999")]);
    given.ask();
    let look = given.answered().await;
    assert_eq!(look.answer, Answer::None(NoAnswer::Late));
    given.fake.resume();
    let next = given.look().await;
    assert_eq!((&next.answer, sorts(&next)), (&Answer::Gone, vec![Sort::Born]));
}

#[tokio::test]
async fn evidence_that_an_alive_answer_took_is_put_back_when_the_answer_does_not_count() {
    let mut given = Given::trusted().await;
    given.fake.push("k", "expired");
    given.hinted().await;
    given.fake.hang();
    given.fake.script("k", &[reply(":99999999999999")]);
    given.ask();
    until("asked", || given.fake.times_asked("PEXPIRETIME") == 1).await;
    given.guide(|guidance| guidance.topology = Arc::default());
    given.fake.resume();
    assert_eq!(given.answered().await.answer, Answer::None(NoAnswer::NotOwner));
    let topology = topology(&given.fake, &[given.fake.row("master", "-", 1, "0-16383")]);
    given.guide(|guidance| guidance.topology = topology);
    let next = given.look().await;
    assert_eq!((&next.answer, sorts(&next)), (&Answer::Gone, vec![Sort::Expired]));
}

#[tokio::test]
async fn what_was_heard_does_not_fade_while_nobody_answers() {
    let mut given = Given::trusted().await;
    given.fake.push("k", "del");
    given.hinted().await;
    given.fake.script("k", &[reply("-LOADING for a while")]);
    assert_eq!(given.look().await.answer, Answer::None(NoAnswer::Error("LOADING".into())));
    given.tap.fade(clock::now().plus(600_000));
    let next = given.look().await;
    assert_eq!((&next.answer, sorts(&next)), (&Answer::Gone, vec![Sort::Deleted]));
}

#[tokio::test]
async fn a_node_that_lost_the_slot_between_question_and_answer_has_said_nothing() {
    let mut given = Given::trusted().await;
    given.fake.hang();
    given.ask();
    until("asked", || given.fake.times_asked("PEXPIRETIME") == 1).await;
    let other = Fake::start("b").await;
    let rows = [given.fake.row("master", "-", 1, ""), other.row("master", "-", 2, "0-16383")];
    let moved = topology(&given.fake, &rows);
    given.guide(|guidance| guidance.topology = moved);
    given.fake.resume();
    assert_eq!(given.answered().await.answer, Answer::None(NoAnswer::NotOwner));
}

#[tokio::test]
async fn a_suspect_node_settles_nothing_and_its_del_does_not_count_later() {
    let mut given = Given::suspect().await;
    assert_eq!(given.look().await.answer, Answer::None(NoAnswer::Suspect));
    given.fake.push("k", "del");
    given.fake.push("k", "expired");
    given.hinted().await;
    given.confirm().await;
    let look = given.look().await;
    assert_eq!((&look.answer, sorts(&look)), (&Answer::Gone, vec![Sort::Expired]));
}

#[tokio::test]
async fn a_node_that_is_silent_for_two_seconds_is_connected_anew_and_one_that_answers_is_not() {
    let given = Given::trusted().await;
    let before = given.driver.connection.borrow().continuity;
    let began = Instant::now();
    until("two seconds", || began.elapsed() > Duration::from_millis(2_300)).await;
    let connection = given.driver.connection.borrow().clone();
    assert!(connection.trusted && connection.continuity == before, "{connection:?}");
    assert_eq!(given.fake.times_asked("HELLO"), 1);
    given.fake.hang();
    given.wait("given up", |connection| connection.since.is_none()).await;
    given.fake.resume();
    given.wait("connected anew", |connection| connection.since.is_some()).await;
    assert!(given.driver.connection.borrow().continuity > before);
}

#[tokio::test]
async fn an_error_is_no_answer_and_moved_asks_for_the_topology() {
    let mut given = Given::trusted().await;
    for code in ["CLUSTERDOWN", "LOADING", "READONLY", "NOPERM"] {
        given.fake.script("k", &[reply(&format!("-{code} for a reason"))]);
        assert_eq!(given.look().await.answer, Answer::None(NoAnswer::Error(code.into())));
    }
    given.quiet().await;
    given.fake.script("k", &[reply("-MOVED 5 127.0.0.1:1")]);
    assert_eq!(given.look().await.answer, Answer::None(NoAnswer::NotOwner));
    assert!(given.refreshes().await);
}

#[tokio::test]
async fn whoever_asks_a_node_that_has_gone_gets_no_answer_and_the_topology_is_read_again() {
    let mut given = Given::trusted().await;
    given.quiet().await;
    given.fake.leave();
    assert!(given.refreshes().await);
    given.wait("gone", |connection| connection.since.is_none()).await;
    assert_eq!(given.look().await.answer, Answer::None(NoAnswer::Disconnected));
}

#[tokio::test]
async fn losing_a_slots_shard_channel_asks_for_the_topology() {
    let fake = Fake::start("a").await;
    fake.state().sharded = true;
    let given = Given::with(fake).await;
    until("every slot's channel", || given.fake.times_asked("SSUBSCRIBE rx:{") == 16_384).await;
    given.quiet().await;
    given.fake.send(">3\r\n$12\r\nsunsubscribe\r\n$4\r\nrx:0\r\n:0\r\n");
    assert!(given.refreshes().await);
}

#[tokio::test]
async fn ask_is_followed_to_the_importing_node_with_asking() {
    let mut given = Given::trusted().await;
    let other = Fake::start("b").await;
    other.state().keys.insert("k".into(), None);
    let rows = [given.fake.row("master", "-", 1, "0-16383"), other.row("master", "-", 2, "")];
    let both = topology(&given.fake, &rows);
    let importing = drive(&other, &given.guidance, &given.refresh, &mut given.tasks);
    given.guide(|guidance| {
        guidance.topology = both;
        guidance.asks.insert("b".into(), importing.asks.clone());
        guidance.confirmed.extend(["a", "b"].map(|id| (id.into(), Instant::now() + Duration::from_secs(60))));
    });
    until("both trusted", || importing.connection.borrow().trusted && given.driver.connection.borrow().trusted).await;
    given.fake.script("k", &[reply(&format!("-ASK 5 {}", other.address))]);
    let look = given.look().await;
    assert_eq!((look.node.as_str(), look.answer), ("b", Answer::Alive(None)));
    let asked = other.state().asked.clone();
    let at = asked.iter().position(|asked| asked == "PEXPIRETIME k").unwrap();
    assert_eq!(asked[at - 1], "ASKING");
}

#[tokio::test]
async fn keys_of_a_store_of_ours_are_not_heard() {
    let given = Given::trusted().await;
    given.fake.push("rx:{0}:due", "set");
    given.fake.push("k", "set");
    given.hinted().await;
    assert_eq!(given.tap.hints(9), []);
}

#[tokio::test]
async fn more_news_than_is_kept_is_a_gap() {
    let given = Given::trusted().await;
    let before = given.driver.connection.borrow().continuity;
    for number in 0..=200_000 {
        given.fake.push(&format!("k{number}"), "set");
        if number % 500 == 0 {
            // A silence would be a gap too.
            tokio::task::yield_now().await;
        }
    }
    given.wait("a gap, and no silence", |connection| connection.continuity > before && connection.trusted).await;
    // What is not kept within the second after that is in no resync that began before.
    let before = given.driver.connection.borrow().continuity;
    given.fake.push("another", "set");
    given.wait("another gap", |connection| connection.continuity > before && connection.trusted).await;
}
