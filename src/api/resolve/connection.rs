//! `spec.redis`, and `spec.store.redis`, which has the same fields as far as they say how to reach it.

use std::time::Duration;

use super::{Check, MINUTE, SECOND, tls};
use crate::{
    api::{
        AddressMapping, ChangeSource, KeyRef, KeyspaceEvents, Mode, RedisSpec, RedisTls, SentinelSpec, StoreRedisSpec,
    },
    model::Address,
    plan::{self, RedisPlan, Secret, SentinelPlan},
};

/// The Redis to watch.
pub(super) fn redis(check: &mut Check<'_>, spec: &RedisSpec) -> RedisPlan {
    if spec.database != 0 && spec.mode == Mode::Cluster {
        check.problem("spec.redis.database", format!("is {}", spec.database), "use 0: a cluster has only 0");
    }
    if spec.database > MOST_DATABASES {
        let fix = format!("use one of 0 to {MOST_DATABASES}");
        check.problem("spec.redis.database", format!("is {}", spec.database), fix);
    }
    if spec.change_source == ChangeSource::ClientTracking && spec.keyspace_events == KeyspaceEvents::Enable {
        let fix = "client tracking needs no keyspace events: use Observe, or changeSource: Auto";
        check.problem("spec.redis.keyspaceEvents", "is Enable", fix);
    }
    check.within("spec.redis.topologyRefresh", spec.topology_refresh.get(), Duration::from_millis(100), MINUTE);
    let reach = Reach {
        prefix: "spec.redis",
        mode: spec.mode,
        sentinel: spec.sentinel.as_ref(),
        addresses: &spec.addresses,
        address_map: &spec.address_map,
        username: spec.username_secret_ref.as_ref(),
        password: spec.password_secret_ref.as_ref(),
        tls: spec.tls.as_ref(),
    };
    RedisPlan {
        database: spec.database,
        change_source: match spec.change_source {
            ChangeSource::Auto => plan::ChangeSource::Auto,
            ChangeSource::KeyspaceEvents => plan::ChangeSource::KeyspaceEvents,
            ChangeSource::ClientTracking => plan::ChangeSource::ClientTracking,
        },
        keyspace_events: match spec.keyspace_events {
            KeyspaceEvents::Observe => plan::KeyspaceEvents::Observe,
            KeyspaceEvents::Enable => plan::KeyspaceEvents::Enable,
        },
        topology_refresh: spec.topology_refresh.get(),
        ..reach.resolve(check)
    }
}

/// Another Redis, for the store.
pub(super) fn store(check: &mut Check<'_>, spec: &StoreRedisSpec) -> RedisPlan {
    let reach = Reach {
        prefix: "spec.store.redis",
        mode: spec.mode,
        sentinel: spec.sentinel.as_ref(),
        addresses: &spec.addresses,
        address_map: &spec.address_map,
        username: spec.username_secret_ref.as_ref(),
        password: spec.password_secret_ref.as_ref(),
        tls: spec.tls.as_ref(),
    };
    reach.resolve(check)
}

const MOST_DATABASES: u32 = 65_535;

/// How a Redis is reached.
struct Reach<'a> {
    /// Of the fields.
    prefix: &'static str,
    mode: Mode,
    sentinel: Option<&'a SentinelSpec>,
    addresses: &'a [String],
    address_map: &'a [AddressMapping],
    username: Option<&'a KeyRef>,
    password: Option<&'a KeyRef>,
    tls: Option<&'a RedisTls>,
}

impl Reach<'_> {
    /// What is not said here is as it is by default.
    fn resolve(&self, check: &mut Check<'_>) -> RedisPlan {
        let addresses = self.addresses(check);
        let address_map = self.address_map(check);
        let mode = self.mode(check);
        let (username, password) = login(check, self.prefix, self.username, self.password);
        let tls = tls::redis(check, &self.field("tls"), self.tls);
        RedisPlan {
            mode,
            addresses,
            address_map,
            database: 0,
            username,
            password,
            tls,
            change_source: plan::ChangeSource::Auto,
            keyspace_events: plan::KeyspaceEvents::Observe,
            topology_refresh: SECOND,
        }
    }

    fn mode(&self, check: &mut Check<'_>) -> plan::Mode {
        let field = self.field("sentinel");
        match (self.mode, self.sentinel) {
            (Mode::Cluster, None) => plan::Mode::Cluster,
            (Mode::Standalone, None) => plan::Mode::Standalone,
            (Mode::Sentinel, None) => {
                check.problem(
                    field,
                    "is missing",
                    "mode Sentinel needs sentinel.masterName: what the sentinels call the master",
                );
                plan::Mode::Standalone
            }
            (Mode::Cluster | Mode::Standalone, Some(_)) => {
                check.problem(field, "is for mode Sentinel only", "remove it, or use mode Sentinel");
                plan::Mode::Standalone
            }
            (Mode::Sentinel, Some(sentinel)) => {
                let name = sentinel.master_name.clone();
                if name.is_empty() || name.chars().count() > 255 {
                    let found = format!("has {} characters", name.chars().count());
                    check.problem(format!("{field}.masterName"), found, "write 1 to 255");
                }
                let (username, password) =
                    login(check, &field, sentinel.username_secret_ref.as_ref(), sentinel.password_secret_ref.as_ref());
                let tls = tls::redis(check, &format!("{field}.tls"), sentinel.tls.as_ref());
                plan::Mode::Sentinel(SentinelPlan { master_name: name, username, password, tls })
            }
        }
    }

    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn addresses(&self, check: &mut Check<'_>) -> Vec<Address> {
        let field = self.field("addresses");
        check.count(&field, self.addresses.len(), 1, 64, "addresses");
        let mut found: Vec<Address> = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let field = format!("{field}[{index}]");
            let Some(address) = address(check, &field, text) else { continue };
            if found.contains(&address) {
                check.problem(field, format!("is {text}, which is there already"), "remove one");
            } else {
                found.push(address);
            }
        }
        found
    }

    fn address_map(&self, check: &mut Check<'_>) -> Vec<(Address, Address)> {
        let field = self.field("addressMap");
        check.count(&field, self.address_map.len(), 0, 1024, "entries");
        let mut found: Vec<(Address, Address)> = Vec::new();
        for (index, mapping) in self.address_map.iter().enumerate() {
            let announced = address(check, &format!("{field}[{index}].announced"), &mapping.announced);
            let dial = address(check, &format!("{field}[{index}].dial"), &mapping.dial);
            let (Some(announced), Some(dial)) = (announced, dial) else { continue };
            if found.iter().any(|(other, _)| *other == announced) {
                let field = format!("{field}[{index}].announced");
                check.problem(field, format!("is {}, which is there already", mapping.announced), "remove one");
            } else {
                found.push((announced, dial));
            }
        }
        found
    }
}

/// Who we are: user and password, from the fields below `prefix`.
fn login(
    check: &mut Check<'_>,
    prefix: &str,
    username: Option<&KeyRef>,
    password: Option<&KeyRef>,
) -> (Option<String>, Option<Secret>) {
    let username = username.and_then(|reference| {
        let field = format!("{prefix}.usernameSecretRef");
        if password.is_none() {
            check.problem(field.as_str(), "is without a password", "set passwordSecretRef too");
        }
        check.secret_text(&field, reference)
    });
    let password = password.and_then(|reference| check.secret_text(&format!("{prefix}.passwordSecretRef"), reference));
    (username, password.map(|text| Secret(text.into_bytes())))
}

fn address(check: &mut Check<'_>, field: &str, text: &str) -> Option<Address> {
    let address = Address::parse(text).filter(|address| {
        let host = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b'[' | b']');
        address.host.len() <= 253 && address.host.bytes().all(host)
    });
    if address.is_none() {
        check.problem(field, format!("is {text:?}"), "write host:port, such as redis-0.shop.svc:6379 or [::1]:6379");
    }
    address
}
