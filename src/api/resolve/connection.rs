//! `spec.redis`.

use std::time::Duration;

use super::{Check, MINUTE};
use crate::{
    api::{KeyspaceEvents, Mode, RedisSpec},
    model::Address,
    plan::{self, RedisPlan, Secret},
};

pub(super) fn redis(check: &mut Check<'_>, spec: &RedisSpec) -> RedisPlan {
    let addresses = addresses(check, spec);
    let address_map = address_map(check, spec);
    if spec.database != 0 {
        let why = if spec.mode == Mode::Cluster { "a cluster has only 0" } else { "only 0 is enforced yet" };
        check.problem("spec.redis.database", format!("is {}", spec.database), format!("use 0: {why}"));
    }
    let username = spec.username_secret_ref.as_ref().and_then(|reference| {
        if spec.password_secret_ref.is_none() {
            check.problem("spec.redis.usernameSecretRef", "is without a password", "set passwordSecretRef too");
        }
        check.secret_text("spec.redis.usernameSecretRef", reference)
    });
    let password = spec.password_secret_ref.as_ref();
    let password = password.and_then(|reference| check.secret_text("spec.redis.passwordSecretRef", reference));
    check.within("spec.redis.topologyRefresh", spec.topology_refresh.get(), Duration::from_millis(100), MINUTE);
    RedisPlan {
        addresses,
        address_map,
        database: spec.database,
        username,
        password: password.map(|text| Secret(text.into_bytes())),
        keyspace_events: match spec.keyspace_events {
            KeyspaceEvents::Observe => plan::KeyspaceEvents::Observe,
            KeyspaceEvents::Enable => plan::KeyspaceEvents::Enable,
        },
        topology_refresh: spec.topology_refresh.get(),
    }
}

fn addresses(check: &mut Check<'_>, spec: &RedisSpec) -> Vec<Address> {
    let field = "spec.redis.addresses";
    check.count(field, spec.addresses.len(), 1, 64, "addresses");
    let mut found: Vec<Address> = Vec::new();
    for (index, text) in spec.addresses.iter().enumerate() {
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

fn address_map(check: &mut Check<'_>, spec: &RedisSpec) -> Vec<(Address, Address)> {
    let field = "spec.redis.addressMap";
    check.count(field, spec.address_map.len(), 0, 1024, "entries");
    let mut found: Vec<(Address, Address)> = Vec::new();
    for (index, mapping) in spec.address_map.iter().enumerate() {
        let announced = address(check, &format!("{field}[{index}].announced"), &mapping.announced);
        let dial = address(check, &format!("{field}[{index}].dial"), &mapping.dial);
        let (Some(announced), Some(dial)) = (announced, dial) else { continue };
        if found.iter().any(|(other, _)| *other == announced) {
            let text = &mapping.announced;
            check.problem(
                format!("{field}[{index}].announced"),
                format!("is {text}, which is there already"),
                "remove one",
            );
        } else {
            found.push((announced, dial));
        }
    }
    found
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
