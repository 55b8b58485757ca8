//! What a server says of itself outside of a cluster, read. Pure.

use crate::model::{Address, NodeId, info_field};

/// A server, going by its INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The process (`run_id`): another one after each restart.
    pub process: NodeId,
    pub role: Replicates,
    /// The name of what it has (`master_replid`): a replica has its master's, and a promotion gives another one.
    pub lineage: String,
    /// What it had before it was promoted (`master_replid2`).
    pub before: Option<String>,
    /// The replicas that are linked to it, at the addresses that it knows.
    pub replicas: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replicates {
    /// A master.
    Nobody,
    /// `of` is what it was told, perhaps by a name; `linked`: it gets what that one does.
    Master { of: Address, linked: bool },
}

impl Server {
    pub fn is_master(&self) -> bool {
        self.role == Replicates::Nobody
    }
}

/// Reads the sections `server` and `replication` of INFO, in any order, other sections among them.
/// Source: `genRedisInfoString` in `server.c`.
///
/// # Errors
/// What is missing, or that it is no plain server, for people.
pub fn parse_info(text: &str) -> Result<Server, String> {
    let field = |name: &str| info_field(text, name);
    let needed = |name: &str| field(name).filter(|it| !it.is_empty()).ok_or_else(|| format!("INFO has no {name}"));
    match field("redis_mode").or_else(|| field("server_mode")) {
        Some("cluster") => return Err("this server is a node of a Redis Cluster; set mode: Cluster".to_owned()),
        Some("sentinel") => {
            return Err("this server is a sentinel; set mode: Sentinel, or name the servers themselves".to_owned());
        }
        _ => {}
    }
    let role = match needed("role")? {
        "master" => Replicates::Nobody,
        "slave" | "replica" => {
            let port =
                needed("master_port")?.parse().map_err(|_| "INFO has a master_port that is no port".to_owned())?;
            let of = Address::new(needed("master_host")?, port);
            Replicates::Master { of, linked: field("master_link_status") == Some("up") }
        }
        other => return Err(format!("INFO has the role {other:?}")),
    };
    let none = |lineage: &&str| lineage.bytes().all(|byte| byte == b'0');
    Ok(Server {
        process: NodeId::from(needed("run_id")?),
        role,
        lineage: needed("master_replid")?.to_owned(),
        before: field("master_replid2").filter(|before| !none(before)).map(str::to_owned),
        replicas: text.lines().filter_map(replica).collect(),
    })
}

/// `slave0:ip=10.0.0.5,port=6379,state=online,offset=..,lag=..`
fn replica(line: &str) -> Option<Address> {
    let (name, words) = line.trim_end().split_once(':')?;
    let number = name.strip_prefix("slave").or_else(|| name.strip_prefix("replica"))?;
    number.parse::<u32>().ok()?;
    let word = |name: &str| words.split(',').find_map(|word| word.split_once('=').filter(|(it, _)| *it == name));
    let port = word("port")?.1.parse().ok().filter(|port| *port != 0)?;
    let host = word("ip")?.1;
    (!host.is_empty()).then(|| Address::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As redis-server 7.0 says it, cut down.
    const MASTER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nprocess_id:7\r\n\
        run_id:5c7fd3b9d6ff2cd5bd1ad7cb97bd1d57fd1b8a7e\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=127.0.0.1,port=7001,state=online,offset=14,lag=0\r\nslave1:ip=::1,port=7002,state=wait_bgsave,offset=0,lag=1\r\n\
        master_failover_state:no-failover\r\nmaster_replid:8e1c0a7b8a6b7b6c2d4e5f60718293a4b5c6d7e8\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\n";
    const REPLICA: &str = "# Replication\nrole:slave\nmaster_host:redis-0.redis\nmaster_port:6379\nmaster_link_status:down\n\
        slave_repl_offset:1\nslave_priority:100\nconnected_slaves:0\nmaster_replid:aa\nmaster_replid2:bb\n# Server\nrun_id:cc\n";

    #[test]
    fn a_master_tells_its_name_and_its_replicas() {
        let server = parse_info(MASTER).unwrap();
        assert!(server.is_master());
        assert_eq!(server.process, NodeId::from("5c7fd3b9d6ff2cd5bd1ad7cb97bd1d57fd1b8a7e"));
        assert_eq!(server.lineage, "8e1c0a7b8a6b7b6c2d4e5f60718293a4b5c6d7e8");
        assert_eq!(server.before, None, "all zeros are nothing");
        assert_eq!(server.replicas, [Address::new("127.0.0.1", 7001), Address::new("::1", 7002)]);
    }

    #[test]
    fn a_replica_tells_whose_it_is_and_nothing_else_counts_as_one_of_its_own() {
        let server = parse_info(REPLICA).unwrap();
        let of = Address::new("redis-0.redis", 6379);
        assert_eq!(server.role, Replicates::Master { of, linked: false });
        assert_eq!((server.before.as_deref(), server.replicas.len()), (Some("bb"), 0));
    }

    #[test]
    fn what_is_no_plain_server_or_says_too_little_is_an_error_that_says_so() {
        let error = |text: &str| parse_info(text).unwrap_err();
        assert!(error(&MASTER.replace("standalone", "cluster")).contains("set mode: Cluster"));
        assert!(error(&MASTER.replace("standalone", "sentinel")).contains("set mode: Sentinel"));
        for (line, left) in
            [("run_id:", "run"), ("master_replid:", "replid"), ("role:", "of"), ("master_port:", "port")]
        {
            let text = if line == "master_port:" { REPLICA } else { MASTER };
            assert_eq!(error(&text.replace(line, left)), format!("INFO has no {}", line.trim_end_matches(':')));
        }
        assert!(error(&REPLICA.replace("6379", "no")).contains("no port"));
        assert!(error("").contains("INFO has no role"));
    }
}
