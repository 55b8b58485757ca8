//! `spec.redis`, and `spec.store.redis`, which has the same fields as far as they say how to reach it.

use std::time::Duration;

use super::{Check, MINUTE, SECOND};
use crate::{
    api::{AddressMapping, KeyRef, KeyspaceEvents, Mode, RedisSpec, StoreRedisSpec},
    model::Address,
    plan::{self, RedisPlan, Secret},
};

/// The Redis to watch.
pub(super) fn redis(check: &mut Check<'_>, spec: &RedisSpec) -> RedisPlan {
    if spec.database != 0 {
        let why = if spec.mode == Mode::Cluster { "a cluster has only 0" } else { "only 0 is enforced yet" };
        check.problem("spec.redis.database", format!("is {}", spec.database), format!("use 0: {why}"));
    }
    check.within("spec.redis.topologyRefresh", spec.topology_refresh.get(), Duration::from_millis(100), MINUTE);
    let reach = Reach {
        prefix: "spec.redis",
        addresses: &spec.addresses,
        address_map: &spec.address_map,
        username: spec.username_secret_ref.as_ref(),
        password: spec.password_secret_ref.as_ref(),
    };
    RedisPlan {
        database: spec.database,
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
        addresses: &spec.addresses,
        address_map: &spec.address_map,
        username: spec.username_secret_ref.as_ref(),
        password: spec.password_secret_ref.as_ref(),
    };
    reach.resolve(check)
}

/// How a Redis is reached.
struct Reach<'a> {
    /// Of the fields.
    prefix: &'static str,
    addresses: &'a [String],
    address_map: &'a [AddressMapping],
    username: Option<&'a KeyRef>,
    password: Option<&'a KeyRef>,
}

impl Reach<'_> {
    /// What is not said here is as it is by default.
    fn resolve(&self, check: &mut Check<'_>) -> RedisPlan {
        let addresses = self.addresses(check);
        let address_map = self.address_map(check);
        let username = self.username.and_then(|reference| {
            let field = self.field("usernameSecretRef");
            if self.password.is_none() {
                check.problem(field.as_str(), "is without a password", "set passwordSecretRef too");
            }
            check.secret_text(&field, reference)
        });
        let password =
            self.password.and_then(|reference| check.secret_text(&self.field("passwordSecretRef"), reference));
        RedisPlan {
            addresses,
            address_map,
            database: 0,
            username,
            password: password.map(|text| Secret(text.into_bytes())),
            keyspace_events: plan::KeyspaceEvents::Observe,
            topology_refresh: SECOND,
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
