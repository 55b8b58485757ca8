//! What a listener is to do, for tests that run one in their own process: each sets what it is about.

use std::time::Duration;

use redis_expiry_operator::{
    model::{Address, ListenerId},
    plan::{
        ChangeSource, DeliveryPlan, Glob, IdTemplate, Inferred, KeyspaceEvents, Mode, Plan, RedisPlan, StorePlan,
        WebhookPlan,
    },
};

/// A cluster without a password.
pub fn redis(addresses: Vec<Address>) -> RedisPlan {
    RedisPlan {
        mode: Mode::Cluster,
        addresses,
        address_map: Vec::new(),
        database: 0,
        username: None,
        password: None,
        tls: None,
        change_source: ChangeSource::KeyspaceEvents,
        keyspace_events: KeyspaceEvents::Observe,
        topology_refresh: Duration::from_secs(1),
    }
}

/// `shop/orders`, kept in memory, which tells `url` of one key of `pattern` at a time.
pub fn plan(redis: RedisPlan, pattern: &[u8], url: &str) -> Plan {
    Plan {
        listener: ListenerId::new("shop", "orders"),
        suspend: false,
        redis,
        pattern: Glob::new(pattern).unwrap(),
        id_template: IdTemplate::FirstStar,
        inferred: Inferred::Deliver,
        resync_interval: None,
        webhook: WebhookPlan {
            url: url.to_owned(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            event_type: "expired".into(),
            headers: Vec::new(),
            bearer: None,
            tls: None,
            signing_keys: Vec::new(),
        },
        delivery: DeliveryPlan {
            max_in_flight: 1,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(1),
            retry_after_max: Duration::ZERO,
            deadline: Duration::from_secs(60),
        },
        store: StorePlan::Memory,
        answer: None,
    }
}
