//! One watch: it fails and waits by itself, and tells of an object when the store has it.

use std::{future::ready, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, store::Writer},
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::Instant};

/// The API server ends a watch after so many seconds. One that it has not ended 5 s later is dead (kube's watcher), as when a
/// firewall has forgotten it: with kube's own 290 s a listener would be overlooked for five minutes.
const ENDS: u32 = 25;
/// After a failure; doubled with each in a row.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// What went well for so long had been mended.
const WELL: Duration = Duration::from_secs(30);

/// What a watch has to say.
#[derive(Debug)]
pub enum News<K> {
    Event(Event<K>),
    /// The API server answered, and what it said was no event: what happens to the objects is not told for a while.
    Refused,
}

/// Watches until it is dropped. kube's [`Controller`](kube::runtime::Controller) would let all of its watches wait for the one
/// that failed, for up to a minute: it is given none that fails.
pub fn watching<K>(what: &'static str, api: Api<K>, config: watcher::Config) -> impl Stream<Item = News<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    attended(what, watcher(api, config.timeout(ENDS)))
}

fn attended<K>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = News<K>> + Send
where
    K: Send,
{
    let mut failing = false;
    events.backoff(Pause::default()).filter_map(move |event| {
        ready(match event {
            Ok(event) => {
                // `Init` comes before anything was asked.
                if failing && !matches!(event, Event::Init) {
                    tracing::info!("The watch of {what} goes on.");
                    failing = false;
                }
                Some(News::Event(event))
            }
            Err(error) => {
                if failing {
                    tracing::debug!(%error, "The watch of {what} fails.");
                } else {
                    tracing::warn!(%error, "The watch of {what} fails; it is tried again, every 5 s at last.");
                }
                failing = true;
                is_answer(&error).then_some(News::Refused)
            }
        })
    })
}

/// Whether the API server is there. While it is away nothing is overlooked: the watch goes on where it was.
fn is_answer(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => matches!(error, kube::Error::Api(_)),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => true,
    }
}

/// Keeps the store as the events say, and passes on each object that is another there, or is not there any more: when it is so.
/// A list comes in pages of 500 and is in the store when it has come whole. Told of an object of an early page at once, as kube
/// does, the controller looks for it in the store, finds none or the old one, and is never told again.
pub fn touched<K>(
    events: impl Stream<Item = News<K>> + Send,
    mut writer: Writer<K>,
    synced: watch::Sender<bool>,
) -> impl Stream<Item = K> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let reader = writer.as_reader();
    let changed = events.map(move |news| {
        let News::Event(event) = news else { return Vec::new() };
        let before = if matches!(event, Event::InitDone) { reader.state() } else { Vec::new() };
        writer.apply_watcher_event(&event);
        match event {
            Event::Apply(object) | Event::Delete(object) => vec![object],
            Event::Init | Event::InitApply(_) => Vec::new(),
            Event::InitDone => {
                synced.send_replace(true);
                let gone = before.into_iter().filter(|old| reader.get(&ObjectRef::from_obj(&**old)).is_none());
                let there = reader.state();
                gone.chain(there).map(|object| K::clone(&object)).collect()
            }
        }
    });
    changed.flat_map(stream::iter)
}

/// How long a watch that failed waits.
#[derive(Debug, Default)]
struct Pause {
    longest: Duration,
    /// When the last wait was over.
    until: Option<Instant>,
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let well = self.until.is_none_or(|until| now.saturating_duration_since(until) >= WELL);
        self.longest = if well { AGAIN.0 } else { AGAIN.1.min(self.longest * 2) };
        let wait = self.longest.mul_f64(rand::random_range(0.75..1.0));
        self.until = Some(now + wait);
        Some(wait)
    }
}

impl Backoff for Pause {
    /// Each event asks for this, and a list that fails begins with one: how long it went well is looked at instead.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests;
