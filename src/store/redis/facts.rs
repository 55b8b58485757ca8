//! What a server says of itself that a store must know: whether it evicts, and whether it forgets. Pure.

use super::upkeep::Policy;
use crate::{
    model::{Address, info_field},
    store::Durability,
};

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub policy: Policy,
    aof: bool,
    /// RDB files are written now and then; `None` if it does not say.
    rdb: Option<bool>,
    /// Those that have all it has.
    replicas: usize,
}

impl Facts {
    /// Reads the sections memory, persistence and replication of INFO, and the answer to `CONFIG GET save` if there is one.
    pub fn read(info: &str, saves: Option<&[String]>) -> Self {
        let online = |line: &&str| line.starts_with("slave") && line.contains("state=online");
        Self {
            policy: Policy::read(info),
            aof: info_field(info, "aof_enabled") == Some("1"),
            rdb: saves.and_then(|saves| Some(!saves.get(1)?.trim().is_empty())),
            replicas: info.lines().filter(online).count(),
        }
    }

    pub fn durable(&self) -> bool {
        self.aof || self.rdb == Some(true) || self.replicas > 0
    }
}

/// What all the servers of a store together come to.
pub fn durability(servers: &[(Address, Facts)]) -> Durability {
    let volatile: Vec<&(Address, Facts)> = servers.iter().filter(|(_, facts)| !facts.durable()).collect();
    if volatile.is_empty() {
        return Durability::Durable;
    }
    let names: Vec<String> = volatile.iter().map(|(address, _)| address.to_string()).collect();
    let silent = volatile.iter().any(|(_, facts)| facts.rdb.is_none());
    let (rdb, grant) = if silent {
        (", and whether it saves RDB files it may not tell", "; if it does save, grant +config|get")
    } else {
        (", no RDB file", "")
    };
    Durability::Volatile {
        reason: format!(
            "the Redis of the store would forget the ledger in a crash: {} has no AOF, no replica{rdb}",
            names.join(", ")
        ),
        fix: format!(
            "run CONFIG SET appendonly yes there (and put it into its configuration), or give it a replica, or name \
             another Redis in spec.store.redis{grant}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str =
        "maxmemory_policy:noeviction\r\nrdb_saves:0\r\naof_enabled:0\r\nrole:master\r\nconnected_slaves:0\r\n";

    fn of(info: &str, save: Option<&str>) -> Durability {
        let saves = save.map(|save| ["save".to_owned(), save.to_owned()]);
        let facts = Facts::read(info, saves.as_ref().map(<[String; 2]>::as_slice));
        durability(&[(Address::new("redis-0", 6379), facts)])
    }

    #[test]
    fn an_aof_an_rdb_file_or_a_replica_is_enough() {
        let replica = "slave0:ip=10.0.0.2,port=6379,state=online,offset=7,lag=0\r\n";
        assert_eq!(of(&BARE.replace("aof_enabled:0", "aof_enabled:1"), Some("")), Durability::Durable);
        assert_eq!(of(BARE, Some("3600 1 300 100")), Durability::Durable);
        assert_eq!(of(&format!("{BARE}{replica}"), Some("")), Durability::Durable);
        let loading = replica.replace("online", "wait_bgsave");
        assert!(matches!(of(&format!("{BARE}{loading}"), Some("")), Durability::Volatile { .. }));
    }

    #[test]
    fn a_server_without_any_is_named_with_what_to_do() {
        let Durability::Volatile { reason, fix } = of(BARE, Some("")) else { unreachable!("it has none") };
        assert!(reason.contains("redis-0:6379") && fix.contains("appendonly yes"), "{reason}; {fix}");
        assert!(!fix.contains("config|get"), "{fix}");
        let Durability::Volatile { reason, fix } = of(BARE, None) else { unreachable!("it does not say") };
        assert!(reason.contains("may not tell") && fix.contains("+config|get"), "{reason}; {fix}");
    }

    #[test]
    fn one_server_without_any_is_enough() {
        let facts = |aof| Facts::read(&BARE.replace("aof_enabled:0", aof), Some(&["save".into(), String::new()]));
        let servers = [("a", "aof_enabled:1"), ("b", "aof_enabled:0")];
        let servers = servers.map(|(host, aof)| (Address::new(host, 1), facts(aof)));
        let Durability::Volatile { reason, .. } = durability(&servers) else { unreachable!("b forgets") };
        assert!(reason.contains("b:1") && !reason.contains("a:1"), "{reason}");
    }
}
