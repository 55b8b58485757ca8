use std::pin::pin;

use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt as _, runtime::reflector};
use tokio::{sync::mpsc, time::advance};

use super::*;

fn map(name: &str, version: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("shop".into());
    map.metadata.resource_version = Some(version.into());
    map
}

fn shown(object: &ConfigMap) -> String {
    format!("{} {}", object.name_any(), object.resource_version().unwrap())
}

fn channel<T: Send>() -> (mpsc::UnboundedSender<T>, impl Stream<Item = T> + Send) {
    let (tell, told) = mpsc::unbounded_channel();
    (tell, stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }))
}

#[tokio::test]
async fn a_list_is_told_of_when_it_has_come_whole_and_with_it_what_is_in_it_no_more() {
    let (tell, events) = channel();
    let tell = |event| tell.send(News::Event(event)).unwrap();
    let (reader, writer) = reflector::store();
    let (synced, is_synced) = watch::channel(false);
    let mut touched = pin!(touched(events, writer, synced));
    let mut told = || -> Vec<String> {
        let mut told: Vec<_> = std::iter::from_fn(|| touched.next().now_or_never()?).map(|map| shown(&map)).collect();
        told.sort();
        told
    };
    tell(Event::Init);
    tell(Event::InitApply(map("a", "1")));
    assert!(told().is_empty(), "it is not in the store yet");
    assert!(!*is_synced.borrow());
    tell(Event::InitApply(map("b", "2")));
    tell(Event::InitDone);
    assert_eq!(told(), ["a 1", "b 2"]);
    assert!(*is_synced.borrow());
    tell(Event::Apply(map("a", "3")));
    assert_eq!(told(), ["a 3"]);
    // Once more, as after a watch that was lost: a page of it has come, and the next is asked for.
    tell(Event::Init);
    tell(Event::InitApply(map("a", "4")));
    tell(Event::InitApply(map("new", "5")));
    assert!(told().is_empty());
    assert_eq!(reader.state().len(), 2, "what is there is the old list");
    tell(Event::InitDone);
    assert_eq!(told(), ["a 4", "b 2", "new 5"]);
    let there = |name: &str| reader.get(&ObjectRef::new(name).within("shop")).map(|map| shown(&map));
    assert_eq!((there("a"), there("b"), there("new")), (Some("a 4".into()), None, Some("new 5".into())));
    tell(Event::Delete(map("a", "6")));
    assert_eq!(told(), ["a 6"]);
    assert_eq!(there("a"), None);
}

fn refused() -> watcher::Error {
    let status = kube::core::Status::failure("secrets is forbidden", "Forbidden").with_code(403);
    watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
}

/// A list that fails whenever it is tried: as kube's watcher tells of it.
fn failing() -> impl Stream<Item = watcher::Result<Event<ConfigMap>>> + Send {
    stream::iter([true, false].into_iter().cycle()).map(|begins| if begins { Ok(Event::Init) } else { Err(refused()) })
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_waits_longer_each_time_up_to_five_seconds_and_tells_of_no_error() {
    let mut news = pin!(attended("Secrets", failing()));
    let mut waits = Vec::new();
    let mut last = Instant::now();
    for _ in 0..8 {
        assert!(matches!(news.next().await, Some(News::Event(Event::Init))));
        waits.push(last.elapsed());
        last = Instant::now();
        assert!(matches!(news.next().await, Some(News::Refused)));
    }
    let bounds = |wait: Duration, most: Duration| wait <= most && wait >= most.mul_f64(0.74);
    let expected = [0, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000].map(Duration::from_millis);
    assert!(waits.iter().zip(expected).all(|(wait, most)| bounds(*wait, most)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_makes_no_other_wait() {
    let (tell, events) = channel();
    let bad = attended("Secrets", failing()).map(|_| None).boxed();
    let good = attended("listeners", events).map(Some).boxed();
    let mut both = stream::select_all([bad, good]);
    for number in 0..40 {
        let sent = Instant::now();
        tell.send(Ok(Event::Apply(map("a", &number.to_string())))).unwrap();
        while both.next().await.unwrap().is_none() {}
        assert_eq!(sent.elapsed(), Duration::ZERO);
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_well_for_long_begins_with_a_short_wait_again() {
    let mut pause = Pause::default();
    let longest = std::iter::from_fn(|| pause.next()).take(6).last().unwrap();
    assert!(longest > AGAIN.1 / 2);
    pause.reset();
    assert!(pause.next().unwrap() > AGAIN.1 / 2, "an event alone does not make it well");
    advance(WELL + AGAIN.1).await;
    assert!(pause.next().unwrap() <= AGAIN.0);
}

#[tokio::test]
async fn while_the_api_server_is_away_nothing_is_refused() {
    let away = watcher::Error::WatchStartFailed(kube::Error::Service("connection refused".into()));
    assert!(!is_answer(&away));
    assert!(is_answer(&refused()));
}
