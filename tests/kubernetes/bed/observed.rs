//! What the API server says of an object, looked at all the while: when its status said what.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use redis_expiry_operator::model::Millis;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::now;

/// How a RedisExpiryListener stood from `at` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Stood {
    pub at: Millis,
    /// `Ready` is True for the generation that is there.
    pub ready: bool,
    /// `status.owner`, a pod's name.
    pub owner: Option<String>,
    pub status: Value,
}

/// Reads the object ten times a second until it is dropped; while the API server is away nothing is written down.
pub struct Observed {
    name: String,
    seen: Arc<Mutex<Vec<Stood>>>,
    _reading: JoinSet<()>,
}

/// How long a condition may take. What runs asks the store every 10 s whether it may still write.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn listeners(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("redisexpiry.io", "v1alpha1", "RedisExpiryListener");
    Api::namespaced_with(client, namespace, &ApiResource::from_gvk(&kind))
}

impl Observed {
    pub fn start(client: Client, namespace: &str, name: &str) -> Self {
        let api = listeners(client, namespace);
        let seen = Arc::new(Mutex::new(Vec::<Stood>::new()));
        let (of, writes) = (name.to_owned(), Arc::clone(&seen));
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            loop {
                let read = tokio::time::timeout(Duration::from_secs(2), api.get_opt(&of)).await;
                if let Ok(Ok(Some(object))) = read {
                    let stood = stood(&object);
                    let mut seen = writes.lock().unwrap();
                    if seen.last().is_none_or(|last| last.status != stood.status || last.ready != stood.ready) {
                        seen.push(stood);
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { name: name.into(), seen, _reading: reading }
    }

    /// All that it was, oldest first.
    pub fn seen(&self) -> Vec<Stood> {
        self.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Option<Stood> {
        self.seen.lock().unwrap().last().cloned()
    }

    /// Waits until it stands as `wanted` says; what it was before does not count.
    pub async fn wait(&self, what: &str, patience: Duration, wanted: impl Fn(&Stood) -> bool) -> Stood {
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            if let Some(stood) = self.last().filter(|stood| wanted(stood)) {
                return stood;
            }
            assert!(tokio::time::Instant::now() < give_up, "not {what} within {patience:?}: {}", self.story());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn wait_ready(&self) -> Stood {
        self.wait("Ready", Duration::from_secs(30), |stood| stood.ready).await
    }

    /// Waits until somebody of these owns it and it is Ready.
    pub async fn wait_owner(&self, pods: &[&str], patience: Duration) -> Stood {
        let owned = |stood: &Stood| stood.ready && stood.owner.as_deref().is_some_and(|owner| pods.contains(&owner));
        self.wait(&format!("Ready and owned by one of {pods:?}"), patience, owned).await
    }

    /// Waits until the condition has this status and reason; its message.
    pub async fn says(&self, kind: &str, status: &str, reason: &str) -> String {
        let said = |stood: &Stood| {
            condition(&stood.status, kind).filter(|(is, why, _)| (is.as_str(), why.as_str()) == (status, reason))
        };
        let stood = self.wait(&format!("{kind} {status} {reason}"), PATIENCE, |stood| said(stood).is_some()).await;
        said(&stood).unwrap().2
    }

    /// The condition as it is now: (status, reason, message).
    pub fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        condition(&self.last()?.status, kind)
    }

    /// How it stood and when.
    pub fn story(&self) -> String {
        let lines = self.seen().into_iter().map(|stood| {
            let why = condition(&stood.status, "Ready").map(|(_, reason, message)| format!("{reason}: {message}"));
            let (ready, owner) = (stood.ready, stood.owner.unwrap_or_else(|| "nobody".into()));
            format!("  {} ready {ready}, owner {owner}, {}\n", stood.at.0, why.unwrap_or_default())
        });
        format!("{} was:\n{}", self.name, lines.collect::<String>())
    }
}

fn stood(object: &DynamicObject) -> Stood {
    let status = object.data.get("status").cloned().unwrap_or_default();
    let current = status["observedGeneration"].as_i64() == object.metadata.generation;
    let ready = condition(&status, "Ready").is_some_and(|(status, _, _)| status == "True");
    let owner = status["owner"].as_str().map(ToOwned::to_owned);
    Stood { at: now(), ready: ready && current, owner, status }
}

/// (status, reason, message) of a condition.
pub fn condition(status: &Value, kind: &str) -> Option<(String, String, String)> {
    let found = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}
