//! The Leases: ours renewed, all of them watched.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    CALL, Settings, Shared,
    roster::{Member, Renewal},
};

/// Marks the Leases of replicas, of whatever release.
const LABEL: &str = "redisexpiry.io/replica";
const FIELD_MANAGER: &str = "rel-membership";
const PREFIX: &str = "redis-expiry-operator-";
/// After an error of the watch.
const AGAIN: Duration = Duration::from_millis(500);
/// A Lease that was not renewed for so long is of a replica that was killed: nobody else removes it.
const REMOVE_AFTER: Duration = Duration::from_secs(300);

/// A Lease's name. A pod's name has at most 253 bytes, a Lease's too; those of a Deployment are far shorter.
pub(super) fn name(member: &str) -> String {
    PREFIX.chars().chain(member.chars()).take(253).collect()
}

/// Renews ours until `stop`, from when we are `able` on: one that cannot see the listeners would be given some, and run none.
pub(super) async fn renew(
    shared: Arc<Shared>,
    leases: Api<Lease>,
    mut able: Receiver<bool>,
    beat: impl Fn() + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let started = Timestamp::now();
    let mut tick = interval(shared.settings.renew);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            Ok(()) = able.changed() => {}
        }
        beat();
        if !*able.borrow_and_update() {
            continue;
        }
        let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or_else(|_| Timestamp::now());
        shared.observe(|observer| observer.sending(stamp(now), Instant::now()));
        let renewal = lease(&shared.settings, started, now);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let name = name(&shared.settings.me);
        let patch = Patch::Apply(&renewal);
        let renewing = timeout(CALL, leases.patch(&name, &parameters, &patch));
        let failed = match stop.run_until_cancelled(renewing).await {
            None => return,
            Some(Ok(Ok(_))) => None,
            Some(Ok(Err(error))) => Some(error.to_string()),
            Some(Err(_)) => Some(format!("no answer within {CALL:?}")),
        };
        match failed {
            None if failures > 0 => {
                tracing::info!(failures, "The Lease is renewed again.");
                failures = 0;
            }
            None => {}
            Some(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%error, "The Lease could not be renewed; the listeners go on.");
                }
            }
        }
        remove_dead(&shared, &leases).await;
    }
}

fn lease(settings: &Settings, started: Timestamp, now: Timestamp) -> serde_json::Value {
    let me = &*settings.me;
    let micro = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    // Gone with its pod, however that ends: `helm uninstall` takes the right to delete it before the pod has ended.
    let pod = |uid: &String| json!({ "apiVersion": "v1", "kind": "Pod", "name": me, "uid": uid });
    let owners: Vec<serde_json::Value> = settings.pod_uid.iter().map(pod).collect();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name(me),
            "labels": { LABEL: "true", "app.kubernetes.io/name": "redis-expiry-operator" },
            "ownerReferences": owners,
        },
        "spec": {
            "holderIdentity": me,
            "leaseDurationSeconds": settings.expiry.as_secs().max(1),
            "acquireTime": micro(started),
            "renewTime": micro(now),
        },
    })
}

fn stamp(at: Timestamp) -> String {
    at.as_microsecond().to_string()
}

async fn remove_dead(shared: &Shared, leases: &Api<Lease>) {
    let mut dead = Vec::new();
    shared.observe(|observer| dead = observer.dead_for(REMOVE_AFTER));
    for member in dead {
        let (name, parameters) = (name(&member), DeleteParams::default());
        if let Ok(Err(error)) = timeout(CALL, leases.delete(&name, &parameters)).await {
            tracing::debug!(%member, %error, "The Lease of a dead replica could not be removed.");
        }
    }
}

/// Watches all until `stop`. A watch that says nothing for as long as a Lease lives is given up: ours is renewed more often.
pub(super) async fn watch(shared: Arc<Shared>, leases: Api<Lease>, stop: CancellationToken) {
    let selector = watcher::Config::default().labels(&format!("{LABEL}=true"));
    while !stop.is_cancelled() {
        let mut events = std::pin::pin!(watcher(leases.clone(), selector.clone()));
        let mut listed = Vec::new();
        loop {
            let event = match stop.run_until_cancelled(timeout(shared.settings.expiry, events.try_next())).await {
                None => return,
                Some(Err(_)) => {
                    tracing::debug!("The watch of Leases is silent; it begins again.");
                    break;
                }
                Some(Ok(Ok(None))) => break,
                Some(Ok(Ok(Some(event)))) => event,
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "The watch of Leases failed.");
                    sleep(AGAIN).await;
                    // The stream begins again where it can, else with everything.
                    continue;
                }
            };
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(lease) => listed.extend(renewal(&lease)),
                Event::InitDone => {
                    let listed = std::mem::take(&mut listed);
                    shared.observe(|observer| observer.all(listed, Instant::now()));
                }
                Event::Apply(lease) => {
                    if let Some(renewal) = renewal(&lease) {
                        shared.observe(|observer| observer.changed(renewal, Instant::now()));
                    }
                }
                Event::Delete(lease) => {
                    if let Some(member) = member(&lease) {
                        shared.observe(|observer| observer.left(&member));
                    }
                }
            }
        }
        sleep(AGAIN).await;
    }
}

/// `None`: not one of ours, whatever its label says.
fn renewal(lease: &Lease) -> Option<Renewal> {
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(Renewal { member: member(lease)?, stamp: stamp(renewed.0) })
}

fn member(lease: &Lease) -> Option<Member> {
    let holder = lease.spec.as_ref()?.holder_identity.clone()?;
    (name(&holder) == lease.name_any()).then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_written_is_read_back_as_the_same_renewal() {
        let at = Timestamp::from_microsecond(1_795_328_020_123_456).unwrap();
        let settings = Settings {
            me: "operator-5d9c7b-x2x9k".into(),
            pod_uid: Some("0a1b".into()),
            renew: Duration::from_secs(2),
            expiry: Duration::from_secs(6),
        };
        let read: Lease = serde_json::from_value(lease(&settings, at, at)).unwrap();
        let owner = &read.metadata.owner_references.as_deref().unwrap()[0];
        assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("Pod", &*settings.me, "0a1b"), "it goes with its pod");
        let unowned = lease(&Settings { pod_uid: None, ..settings }, at, at);
        assert_eq!(unowned["metadata"]["ownerReferences"], json!([]));
        let expected = Renewal { member: "operator-5d9c7b-x2x9k".into(), stamp: stamp(at) };
        assert_eq!(renewal(&read), Some(expected));
        let foreign =
            Lease { metadata: kube::api::ObjectMeta { name: Some("other".into()), ..Default::default() }, ..read };
        assert_eq!(renewal(&foreign), None);
    }

    #[test]
    fn a_lease_is_named_after_its_pod_and_no_longer_than_allowed() {
        assert_eq!(name("operator-0"), "redis-expiry-operator-operator-0");
        assert_eq!(name(&"x".repeat(253)).len(), 253);
    }
}
