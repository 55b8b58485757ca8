//! The families of listeners. A family is whole before the next, so each goes through all listeners.

use std::{fmt, sync::LazyLock};

use super::{
    Page, Sample, flag, float, float64,
    names::{self, Family},
};
use crate::{
    listener::{Hold, Snapshot, Snapshots},
    meters::{Call, Counter, Histogram, Label, Meters, Table},
    model::{ListenerId, Millis},
};

/// Of a listener whose stages never ran.
static NONE: LazyLock<Meters> = LazyLock::new(Meters::default);

pub fn write(page: &mut Page, snapshots: &Snapshots, now: Millis) -> fmt::Result {
    let mut listeners = Listeners { page, snapshots };
    listeners.state()?;
    listeners.ledger()?;
    listeners.store()?;
    listeners.delivery(now)
}

struct Listeners<'a, 'p, 'e> {
    page: &'p mut Page<'e>,
    snapshots: &'a Snapshots,
}

impl Listeners<'_, '_, '_> {
    fn state(&mut self) -> fmt::Result {
        self.gauge(&names::READY, |of| flag(of.ready))?;
        self.gauge(&names::HELD, |of| flag(of.hold.is_some()))?;
        self.gauge(&names::MASTERS, |of| float(of.masters))?;
        self.gauge(&names::SUBSCRIBED_MASTERS, |of| float(of.subscribed_masters))?;
        self.gauge(&names::TOPOLOGY_FAILING, |of| flag(of.topology_error.is_some()))?;
        self.counter(&names::TOPOLOGY_ERRORS, |meters| &meters.topology_errors)?;
        self.gauge(&names::PATTERNS, |of| float(of.patterns))
    }

    fn ledger(&mut self) -> fmt::Result {
        self.gauge(&names::TRACKED, |of| float64(of.counts.tracked))?;
        self.table(&names::LOOKS, |meters| &meters.ledger.looks)?;
        self.gauge(&names::LOOKS_IN_FLIGHT, |of| float64(meters(of).ledger.in_flight.get()))?;
        self.table(&names::SETTLED, |meters| &meters.ledger.settled)?;
        self.histogram(&names::LATENESS, |meters| &meters.ledger.lateness)?;
        self.counter(&names::GAPS, |meters| &meters.ledger.gaps)?;
        self.counter(&names::LOSSES, |meters| &meters.ledger.losses)?;
        self.counter(&names::STORE_LOSSES, |meters| &meters.ledger.store_losses)?;
        self.resyncs()?;
        self.counter(&names::RESYNC_KEYS, |meters| &meters.ledger.resync_keys)?;
        self.counter(&names::RESYNC_FOUND, |meters| &meters.ledger.resync_found)?;
        self.counter(&names::DROPPED_BY_PATTERN, |meters| &meters.ledger.dropped_by_pattern)
    }

    fn resyncs(&mut self) -> fmt::Result {
        let mut samples = Vec::new();
        for (listener, snapshot) in self.snapshots {
            let ledger = &meters(snapshot).ledger;
            for (kind, table) in [("whole", &ledger.resyncs), ("periodic", &ledger.periodic)] {
                samples.extend(table.read().map(|(result, value)| with(listener, &[kind, result], value)));
            }
        }
        self.page.counters(&names::RESYNCS, samples)
    }

    fn store(&mut self) -> fmt::Result {
        let mut samples = Vec::new();
        for (listener, snapshot) in self.snapshots {
            let store = &meters(snapshot).store;
            samples.extend(Call::ALL.iter().map(|call| with(listener, &[call.as_str()], store.time(*call).read())));
        }
        self.page.histograms(&names::STORE_CALL, samples)?;
        self.table(&names::STORE_ERRORS, |meters| &meters.store.errors)?;
        let failing = self.snapshots.iter().filter_map(|(id, of)| Some(with(id, &[category(of)?], 1.0)));
        self.page.gauges(&names::STORE_ERROR, failing.collect())?;
        self.gauge(&names::HELD_KEYS, |of| float64(meters(of).ledger.held.get()))?;
        self.gauge(&names::HELD_OUTCOMES, |of| float64(meters(of).delivery.unstored.get()))
    }

    fn delivery(&mut self, now: Millis) -> fmt::Result {
        self.gauge(&names::OUTBOX, |of| float64(of.counts.pending))?;
        self.gauge(&names::OUTBOX_AGE, |of| {
            of.counts.oldest_pending.map_or(0.0, |settled_at| seconds(now.since(settled_at)).max(0.0))
        })?;
        self.gauge(&names::DEAD_LETTERS, |of| float64(of.counts.dead_letters))?;
        self.counter(&names::DEAD_LETTERED, |meters| &meters.delivery.dead_lettered)?;
        self.table(&names::ATTEMPTS, |meters| &meters.delivery.attempts)?;
        self.gauge(&names::ATTEMPTS_IN_FLIGHT, |of| float(of.delivery.in_flight))?;
        self.histogram(&names::ATTEMPT_TIME, |meters| &meters.delivery.attempt_time)?;
        self.histogram(&names::DELIVERY_TIME, |meters| &meters.delivery.delivery_time)?;
        self.gauge(&names::CONSECUTIVE_FAILURES, |of| float64(of.delivery.consecutive_failures))?;
        self.gauge(&names::DELIVERY_PAUSED, |of| flag(of.delivery.paused.is_some()))?;
        let last = self.snapshots.iter().filter_map(|(listener, of)| {
            let at = of.delivery.last_delivered.or(of.counts.last_delivered)?;
            Some(with(listener, &[], seconds(at.0)))
        });
        self.page.gauges(&names::LAST_DELIVERED, last.collect())
    }

    fn gauge(&mut self, family: &Family, value: impl Fn(&Snapshot) -> f64) -> fmt::Result {
        let samples = self.snapshots.iter().map(|(listener, of)| with(listener, &[], value(of)));
        self.page.gauges(family, samples.collect())
    }

    fn counter(&mut self, family: &Family, of: impl Fn(&Meters) -> &Counter) -> fmt::Result {
        let samples = self.snapshots.iter().map(|(id, snapshot)| with(id, &[], of(meters(snapshot)).get()));
        self.page.counters(family, samples.collect())
    }

    fn histogram(&mut self, family: &Family, of: impl Fn(&Meters) -> &Histogram) -> fmt::Result {
        let samples = self.snapshots.iter().map(|(id, snapshot)| with(id, &[], of(meters(snapshot)).read()));
        self.page.histograms(family, samples.collect())
    }

    fn table<L: Label>(&mut self, family: &Family, of: impl Fn(&Meters) -> &Table<L>) -> fmt::Result {
        let mut samples = Vec::new();
        for (id, snapshot) in self.snapshots {
            samples.extend(of(meters(snapshot)).read().map(|(word, count)| with(id, &[word], count)));
        }
        self.page.counters(family, samples)
    }
}

fn meters(snapshot: &Snapshot) -> &Meters {
    snapshot.meters.as_deref().unwrap_or(&NONE)
}

/// What the store fails with now, whether it was opened or not.
fn category(snapshot: &Snapshot) -> Option<&'static str> {
    match &snapshot.hold {
        Some(Hold::Store { category, .. }) => Some(category),
        Some(Hold::DeploymentChanged { .. }) | None => snapshot.store_category,
    }
}

/// A sample of a listener, with more labels.
pub fn with<V>(listener: &ListenerId, more: &[&str], value: V) -> Sample<V> {
    let (namespace, name) = listener.as_str().split_once('/').unwrap_or(("", listener.as_str()));
    let labels = [namespace, name].into_iter().chain(more.iter().copied()).map(str::to_owned).collect();
    Sample { labels, value }
}

#[expect(clippy::cast_precision_loss, reason = "a time between now and 1970")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}
