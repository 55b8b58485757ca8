//! How a store is reached.

use std::time::Duration;

use crate::{dial::Dialler, model::Address, servers::Watched, tls::Tls};

/// How many partitions a listener's store has, unless a test says other. It is part of what lies in Redis: a change is a new
/// schema. More would spread better and cost more scripts: this gives each of a few masters several.
pub const PARTITIONS: u16 = 16;

/// What kind of Redis it lies in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Mode {
    Cluster,
    /// One server, or a master with replicas: it lies on the master.
    Single,
    /// The same; the addresses are those of sentinels.
    Sentinel(Watched),
}

/// Which Redis, and how patient we are with it.
#[derive(Clone)]
pub struct Settings {
    pub mode: Mode,
    /// Any nodes of it.
    pub addresses: Vec<Address>,
    /// Where to dial instead of what a node announces.
    pub address_map: Vec<(Address, Address)>,
    /// What may be dialled of all that.
    pub dialler: Dialler,
    pub username: Option<String>,
    pub password: Option<String>,
    /// `None`: without TLS.
    pub tls: Option<Tls>,
    /// Only 0 in a cluster.
    pub database: u32,
    pub partitions: u16,
    /// How long a node may answer nobody, connecting apart, until what it was asked is asked again: a write is done once.
    pub attempt: Duration,
    /// How long a call is tried in all before it fails.
    pub patience: Duration,
    /// Writes are kept for so long, to be made again should a failover lose them (DESIGN rule 11).
    pub keep_writes: Duration,
    /// ... of all partitions together, in bytes at most.
    pub keep_bytes: usize,
    /// How often a partition that was just written to is asked whether it has lost something.
    pub probe: Duration,
    /// How old may be what the servers say of their eviction policy and persistence.
    pub policy_check: Duration,
}

/// What two settings have in common that lead to the same connections.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Reach {
    mode: Mode,
    addresses: Vec<Address>,
    address_map: Vec<(Address, Address)>,
    username: Option<String>,
    password: Option<String>,
    tls: Option<Tls>,
    database: u32,
}

impl Settings {
    pub(super) fn reach(&self) -> Reach {
        let Self { mode, addresses, address_map, username, password, tls, database, .. } = self.clone();
        Reach { mode, addresses, address_map, username, password, tls, database }
    }

    pub fn new(mode: Mode, addresses: Vec<Address>) -> Self {
        Self {
            mode,
            addresses,
            address_map: Vec::new(),
            dialler: Dialler::everything(),
            username: None,
            password: None,
            tls: None,
            database: 0,
            partitions: PARTITIONS,
            attempt: Duration::from_millis(1_500),
            patience: Duration::from_secs(5),
            keep_writes: Duration::from_secs(30),
            keep_bytes: 64 << 20,
            probe: Duration::from_secs(1),
            policy_check: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::Links, *};

    #[tokio::test]
    async fn stores_share_connections_if_they_reach_the_same_redis_as_the_same_user() {
        let redis = |port| vec![Address::new("redis", port)];
        let login = |username: &str, password: &str| Settings {
            username: Some(username.into()),
            password: Some(password.into()),
            ..Settings::new(Mode::Cluster, redis(1))
        };
        let (links, first) = (Links::default(), login("rx", "sesame"));
        let link = links.of(&first);
        assert!(Arc::ptr_eq(&link, &links.of(&Settings { patience: Duration::ZERO, ..first.clone() })));
        let others = [
            login("rx", "another"),
            login("ry", "sesame"),
            Settings { password: None, username: None, ..first.clone() },
            Settings { addresses: redis(2), ..first.clone() },
            Settings { mode: Mode::Single, ..first.clone() },
            Settings { address_map: vec![(Address::new("a", 1), Address::new("b", 1))], ..first.clone() },
        ];
        for other in &others {
            assert!(!Arc::ptr_eq(&link, &links.of(other)), "{:?} {:?}", other.username, other.addresses);
        }
        // They end with the last store.
        let weak = Arc::downgrade(&link);
        drop(link);
        assert!(weak.upgrade().is_none());
    }
}
