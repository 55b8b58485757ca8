//! What a node answers about its cluster, read. Pure.

use redis::Value;

use crate::model::{Address, NodeId, SlotSet};

/// What one node says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The node that was asked, where it says.
    pub myself: Option<NodeId>,
    pub rows: Vec<Row>,
}

/// What a view says of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: NodeId,
    /// Where it announces itself, the best first: its IP address, then its host name. Empty: it is concealed.
    pub announced: Vec<Address>,
    /// The master that it replicates; `None` for a master.
    pub replica_of: Option<NodeId>,
    pub slots: SlotSet,
    /// Orders claims to a slot: the higher is the newer.
    pub epoch: u64,
    /// A majority of the masters holds it for dead.
    pub failed: bool,
    /// Slots are on their way to it or from it.
    pub moving: bool,
}

/// Reads `CLUSTER NODES`: a line a node,
/// `<id> <ip:port@cport[,hostname[,aux=value]*]> <flags> <master> <ping> <pong> <epoch> <link> <slot> ...`.
/// Source: `clusterGenNodeDescription` in `cluster_legacy.c`.
/// `asked` stands in for the address of the node itself where it does not know that: a node that has met nobody.
pub fn parse_nodes(text: &str, asked: &Address) -> Result<View, String> {
    let mut view = View::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, endpoint, flags, master, _, _, epoch, _, slots @ ..] = words.as_slice() else {
            return Err(format!("CLUSTER NODES has a line of {} words: {line:?}", words.len()));
        };
        let flags: Vec<&str> = flags.split(',').collect();
        if flags.contains(&"handshake") {
            continue; // Not a member yet: its id is made up until it answers.
        }
        let id = NodeId::from(*id);
        let mut announced = if flags.contains(&"noaddr") { Vec::new() } else { parse_endpoint(endpoint) };
        if flags.contains(&"myself") {
            view.myself = Some(id.clone());
            if announced.is_empty() {
                announced.push(asked.clone());
            }
        }
        let (slots, moving) = parse_slot_words(slots)?;
        view.rows.push(Row {
            id,
            announced,
            replica_of: (flags.contains(&"slave") && *master != "-").then(|| NodeId::from(*master)),
            slots,
            epoch: epoch.parse().map_err(|_| format!("CLUSTER NODES has the epoch {epoch:?}"))?,
            failed: flags.contains(&"fail"),
            moving,
        });
    }
    if view.rows.is_empty() { Err("CLUSTER NODES is empty".into()) } else { Ok(view) }
}

/// `ip:port@cport[,hostname[,aux=value]*]`; an IPv6 address has no brackets there.
fn parse_endpoint(endpoint: &str) -> Vec<Address> {
    let mut parts = endpoint.split(',');
    let address = parts.next().unwrap_or_default();
    let hostname = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
    let address = address.split('@').next().unwrap_or_default();
    let Some((ip, port)) = address.rsplit_once(':') else { return Vec::new() };
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else { return Vec::new() };
    [Some(ip), hostname].into_iter().flatten().filter(|host| known(host)).map(|host| Address::new(host, port)).collect()
}

/// `?` stands for a host name that is preferred and not set, the empty text for one that the node does not know.
fn known(host: &str) -> bool {
    !host.is_empty() && host != "?"
}

fn parse_slot_words(words: &[&str]) -> Result<(SlotSet, bool), String> {
    let mut slots = Vec::new();
    let mut moving = false;
    for word in words {
        if word.starts_with('[') {
            moving = true;
            continue;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|slot| *slot < crate::model::SLOTS)
                .ok_or_else(|| format!("bad slot {word:?}"))
        };
        slots.push((number(first)?, number(last)?));
    }
    Ok((slots.into_iter().collect(), moving))
}

/// Reads `CLUSTER SHARDS` (7.0 and later): where NODES is denied. It has no epochs; `epoch` is the
/// `cluster_current_epoch` of the same node's CLUSTER INFO, 0 if that is denied too. `asked` stands in for an endpoint of
/// NULL or "": "the address that you asked". Unlike the others it tells both ports of a node, of which `tls` chooses.
pub fn parse_shards(value: &Value, asked: &Address, epoch: u64, tls: bool) -> Result<View, String> {
    let mut view = View::default();
    for shard in list(value, "CLUSTER SHARDS")? {
        let ranges = list(field(shard, "slots").ok_or("CLUSTER SHARDS has a shard without slots")?, "slots")?;
        let mut slots = Vec::new();
        for pair in ranges.chunks(2) {
            let [first, last] = pair else { return Err("CLUSTER SHARDS has an odd slot range".into()) };
            slots.push((slot_number(first)?, slot_number(last)?));
        }
        let nodes = list(field(shard, "nodes").ok_or("CLUSTER SHARDS has a shard without nodes")?, "nodes")?;
        let word = |node: &Value, name: &str| field(node, name).and_then(text);
        let failed = |node: &Value| word(node, "health").as_deref() == Some("fail");
        // After a failover a shard may list two masters, the dead one among them; the slots are the living one's.
        let master = nodes
            .iter()
            .filter(|node| word(node, "role").as_deref() == Some("master"))
            .min_by_key(|node| failed(node))
            .and_then(|node| word(node, "id"));
        for node in nodes {
            let id = word(node, "id").ok_or("CLUSTER SHARDS has a node without id")?;
            let ports = if tls { ["tls-port", "port"] } else { ["port", "tls-port"] };
            let port = ports
                .iter()
                .find_map(|port| field(node, port))
                .and_then(number)
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(0);
            let is_master = master.as_deref() == Some(&id);
            let hosts = [
                endpoint_host(field(node, "endpoint"), asked),
                word(node, "ip").filter(|ip| known(ip)),
                word(node, "hostname").filter(|name| known(name)),
            ];
            view.rows.push(Row {
                id: NodeId::from(id.as_str()),
                announced: addresses(hosts, port),
                replica_of: if is_master || word(node, "role").as_deref() == Some("master") {
                    None
                } else {
                    master.as_deref().map(NodeId::from)
                },
                slots: if is_master { slots.iter().copied().collect() } else { SlotSet::default() },
                epoch,
                failed: failed(node),
                moving: false,
            });
        }
    }
    Ok(view)
}

/// Reads `CLUSTER SLOTS`: `[first, last, [endpoint, port, id, metadata], ...]` a range, the master first. Masters without
/// slots are not in it. For `asked` and `epoch` see [`parse_shards`].
pub fn parse_slots(value: &Value, asked: &Address, epoch: u64) -> Result<View, String> {
    let mut owned: Vec<(Row, Vec<(u16, u16)>)> = Vec::new();
    for range in list(value, "CLUSTER SLOTS")? {
        let [first, last, nodes @ ..] = list(range, "CLUSTER SLOTS")? else {
            return Err("CLUSTER SLOTS has a range without nodes".into());
        };
        let slots = (slot_number(first)?, slot_number(last)?);
        let mut master = None;
        for (index, node) in nodes.iter().enumerate() {
            let [endpoint, port, id, more @ ..] = list(node, "CLUSTER SLOTS")? else {
                return Err("CLUSTER SLOTS has a node without id".into());
            };
            let id = NodeId::from(text(id).ok_or("CLUSTER SLOTS has a node without id")?.as_str());
            let port = number(port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            let extra =
                |name: &str| more.first().and_then(|more| field(more, name)).and_then(text).filter(|host| known(host));
            if index == 0 {
                master = Some(id.clone());
            }
            let at = owned.iter().position(|(row, _)| row.id == id).unwrap_or_else(|| {
                let announced = addresses([endpoint_host(Some(endpoint), asked), extra("ip"), extra("hostname")], port);
                let replica_of = if index == 0 { None } else { master.clone() };
                let slots = SlotSet::default();
                owned.push((Row { id, announced, replica_of, slots, epoch, failed: false, moving: false }, Vec::new()));
                owned.len() - 1
            });
            if index == 0 {
                owned[at].1.push(slots);
            }
        }
    }
    let rows = owned.into_iter().map(|(row, slots)| Row { slots: slots.into_iter().collect(), ..row }).collect();
    Ok(View { myself: None, rows })
}

fn addresses(hosts: [Option<String>; 3], port: u16) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    for host in hosts.into_iter().flatten() {
        let address = Address::new(&host, port);
        if port != 0 && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// NULL: "the address that you asked"; "": the node does not know its own, so the same holds; `?`: concealed.
fn endpoint_host(endpoint: Option<&Value>, asked: &Address) -> Option<String> {
    match endpoint {
        None => None,
        Some(Value::Nil) => Some(asked.host.to_string()),
        Some(value) => match text(value)?.as_str() {
            "" => Some(asked.host.to_string()),
            "?" => None,
            host => Some(host.to_owned()),
        },
    }
}

fn list<'v>(value: &'v Value, what: &str) -> Result<&'v [Value], String> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        other => Err(format!("{what} has {other:?} where a list was expected")),
    }
}

/// A field of a RESP3 map, or of the flat list that RESP2 sends for one.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value),
        Value::Array(items) => items.chunks(2).find_map(|pair| match pair {
            [key, value] if text(key).as_deref() == Some(name) => Some(value),
            _ => None,
        }),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

fn slot_number(value: &Value) -> Result<u16, String> {
    number(value)
        .and_then(|slot| u16::try_from(slot).ok())
        .filter(|slot| *slot < crate::model::SLOTS)
        .ok_or_else(|| format!("bad slot {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host-4 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002,,shard-id=abc master - 0 1426238316232 2 connected 5461-10922 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f :0@0 master,fail,noaddr - 0 1426238318243 3 disconnected 10923-16382 16383
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca ::1:30001@31001 myself,master - 0 0 1 connected 0-5460
5aaaa 127.0.0.1:30009@31009 handshake - 0 0 0 connected
";

    #[test]
    fn cluster_nodes_is_read_with_host_names_moving_slots_and_concealed_nodes() {
        let view = parse_nodes(NODES, &Address::new("seed", 7000)).unwrap();
        assert_eq!(view.rows.len(), 4);
        assert_eq!(view.myself.as_ref().map(NodeId::as_str), Some("e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"));
        assert_eq!(view.rows[0].announced, [Address::new("127.0.0.1", 30004), Address::new("host-4", 30004)]);
        assert_eq!(view.rows[0].replica_of, view.myself);
        assert_eq!(view.rows[1].announced, [Address::new("127.0.0.1", 30002)]);
        assert!(view.rows[1].moving && !view.rows[0].moving);
        assert_eq!(view.rows[1].slots.len(), 5462);
        assert!(view.rows[2].announced.is_empty() && view.rows[2].failed);
        assert_eq!(view.rows[2].slots.to_string(), "10923-16383");
        assert_eq!(view.rows[3].announced, [Address::new("::1", 30001)]);
    }

    #[test]
    fn a_node_that_has_met_nobody_is_where_it_was_asked() {
        let seed = Address::new("seed", 7000);
        let view = parse_nodes("a :7000@17000 myself,master - 0 0 0 connected 0-16383", &seed).unwrap();
        assert_eq!(view.rows[0].announced, [seed]);
    }

    #[test]
    fn what_is_not_a_topology_is_an_error() {
        for wrong in [
            "",
            "hello",
            "a b c d e f g h 99999",
            "a 1:1@1 master - 0 0 x connected",
            "a 1:1@1 master - 0 0 1 connected 5-x",
        ] {
            assert!(parse_nodes(wrong, &Address::new("seed", 7000)).is_err(), "{wrong}");
        }
        assert!(parse_slots(&Value::Int(1), &Address::new("h", 1), 0).is_err());
        assert!(parse_shards(&Value::Array(vec![Value::Int(1)]), &Address::new("h", 1), 0, false).is_err());
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn cluster_slots_gives_masters_replicas_and_every_form_of_endpoint() {
        let asked = Address::new("seed", 7000);
        let node = |endpoint: Value, port: i64, id: &str| {
            Value::Array(vec![endpoint, Value::Int(port), bulk(id), Value::Array(vec![])])
        };
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let view = parse_slots(
            &Value::Array(vec![
                range(0, 99, vec![node(Value::Nil, 7001, "a"), node(bulk("10.0.0.2"), 7002, "b")]),
                range(100, 199, vec![node(bulk(""), 7003, "c"), node(bulk("?"), 7004, "d")]),
                range(200, 16383, vec![node(Value::Nil, 7001, "a")]),
            ]),
            &asked,
            9,
        )
        .unwrap();
        let hosts: Vec<_> =
            view.rows.iter().map(|row| (row.id.as_str(), row.announced.first().map(ToString::to_string))).collect();
        assert_eq!(
            hosts,
            [
                ("a", Some("seed:7001".into())),
                ("b", Some("10.0.0.2:7002".into())),
                ("c", Some("seed:7003".into())),
                ("d", None)
            ]
        );
        assert_eq!(view.rows[0].slots.to_string(), "0-99,200-16383");
        assert_eq!(view.rows[1].replica_of, Some("a".into()));
        assert!(view.rows.iter().all(|row| row.epoch == 9));
    }

    #[test]
    fn cluster_shards_gives_the_slots_to_the_living_master() {
        let node = |id: &str, role: &str, health: &str, port: i64| {
            Value::Array(vec![
                bulk("id"),
                bulk(id),
                bulk("port"),
                Value::Int(port),
                bulk("tls-port"),
                Value::Int(7),
                bulk("ip"),
                bulk("10.0.0.9"),
                bulk("endpoint"),
                bulk("10.0.0.9"),
                bulk("role"),
                bulk(role),
                bulk("health"),
                bulk(health),
            ])
        };
        let shard = |slots: Vec<Value>, nodes| {
            Value::Array(vec![bulk("slots"), Value::Array(slots), bulk("nodes"), Value::Array(nodes)])
        };
        let shards = Value::Array(vec![
            shard(
                vec![Value::Int(0), Value::Int(16383)],
                vec![
                    node("dead", "master", "fail", 1),
                    node("new", "master", "online", 2),
                    node("r", "replica", "online", 3),
                ],
            ),
            shard(vec![], vec![node("empty", "master", "online", 4)]),
        ]);
        let read = |tls| parse_shards(&shards, &Address::new("seed", 1), 3, tls).unwrap();
        let view = read(false);
        let of = |id: &str| view.rows.iter().find(|row| row.id.as_str() == id).unwrap();
        assert_eq!(of("new").slots.len(), 16384);
        assert!(of("dead").slots.is_empty() && of("dead").failed);
        assert_eq!(of("r").replica_of, Some("new".into()));
        assert!(of("empty").replica_of.is_none());
        assert_eq!(of("new").announced, [Address::new("10.0.0.9", 2)]);
        let secured = read(true);
        assert!(secured.rows.iter().all(|row| row.announced == [Address::new("10.0.0.9", 7)]));
    }
}
