//! What nodes, servers and sentinels say of each other. Input: text as CLUSTER NODES or INFO answers it, of several servers
//! with a line `=` between them; or what SLOTS, SHARDS or a sentinel answer (all its answers in one list), as it is sent.

#![no_main]

use std::slice;

use libfuzzer_sys::fuzz_target;
use redis::Value;
use redis_expiry_operator::{
    fuzzing::view,
    model::{Address, NodeId, SLOTS, Slot, SlotSet},
    servers::{Answer, Memory, Named, parse_info},
    topology::{Topology, View, merge, parse_nodes, parse_shards, parse_slots},
};
use tokio::time::Instant;

fuzz_target!(|input: &[u8]| {
    let asked = Address::new("seed", 7000);
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(view) = parse_nodes(text, &asked) {
            check(&view);
            assert_eq!(parse_nodes(&written(&view), &asked), Ok(view));
        }
        servers(text);
    }
    if let Ok(value) = redis::parse_redis_value(input) {
        for tls in [false, true] {
            if let Ok(view) = parse_shards(&value, &asked, 1, tls) {
                check(&view);
            }
        }
        if let Ok(view) = parse_slots(&value, &asked, 1) {
            check(&view);
        }
        if let Value::Array(answers) = &value {
            sentinels(answers);
        }
    }
});

fn check(view: &View) {
    for row in &view.rows {
        assert!(row.announced.iter().all(usable));
        assert_eq!(row.slots.ranges().collect::<SlotSet>(), row.slots);
        assert!(row.slots.ranges().all(|(first, last)| first <= last && last < SLOTS));
    }
    let topology = merge(&Topology::default(), slice::from_ref(view), &[]);
    // The same said again changes nothing.
    assert_eq!(merge(&topology, slice::from_ref(view), &[]), topology);
    let mut owned = 0;
    for node in topology.nodes() {
        owned += node.slots.len();
        assert!(node.slots.is_empty() || node.is_master());
        for (first, last) in node.slots.ranges() {
            assert!(topology.owns(&node.id, Slot(first)) && topology.owns(&node.id, Slot(last)));
        }
    }
    assert_eq!(topology.covered(), owned == usize::from(SLOTS));
    topology.confirmed_by(view);
}

fn usable(address: &Address) -> bool {
    !address.host.is_empty() && address.port != 0
}

/// A view as CLUSTER NODES tells it.
fn written(view: &View) -> String {
    let mut myself = view.myself.as_ref();
    let mut text = String::new();
    for row in &view.rows {
        let endpoint = match row.announced.as_slice() {
            [] => ":0@0".to_owned(),
            // A name; else it would end there.
            [name] if name.host.contains('@') => format!("?:{}@1,{}", name.port, name.host),
            [address] => format!("{}:{}@1", address.host, address.port),
            [address, name, ..] => format!("{}:{}@1,{}", address.host, address.port, name.host),
        };
        let mut flags = vec![if row.replica_of.is_some() { "slave" } else { "master" }];
        if let Some(_) = myself.take_if(|id| **id == row.id && !row.announced.is_empty()) {
            flags.push("myself");
        }
        if row.failed {
            flags.push("fail");
        }
        let master = row.replica_of.as_ref().map_or("-", |id| id.as_str());
        let slots = row.slots.to_string().replace(',', " ");
        let moving = if row.moving { " [7->-a]" } else { "" };
        let (id, flags, epoch) = (&row.id, flags.join(","), row.epoch);
        text += &format!("{id} {endpoint} {flags} {master} 0 0 {epoch} connected {slots}{moving}\n");
    }
    text
}

/// Two looks at the servers, the second of which finds them in each other's places; sentinels name the second.
fn servers(text: &str) {
    let server = |text| parse_info(text).ok();
    let mut servers: Vec<_> = text.split("\n=\n").take(6).map(server).collect();
    if servers.iter().all(Option::is_none) {
        return;
    }
    let (mut memory, mut now) = (Memory::default(), Instant::now());
    for named in [None, Some(Address::new("10.0.0.1", 6379))] {
        let answer = |(number, server): (usize, &Option<_>)| {
            let address = Address::new(&format!("10.0.0.{number}"), 6379);
            Answer { address, asked_at: now, server: server.clone() }
        };
        let answers: Vec<Answer> = servers.iter().enumerate().map(answer).collect();
        assert!(answers.iter().filter_map(|it| it.server.as_ref()).flat_map(|it| &it.replicas).all(usable));
        let named = named.map(|master| Named { master, epoch: 1, asked_at: now });
        let settled = memory.settle(now, &answers, named.as_ref());
        let known = |id: &NodeId| settled.servers.iter().any(|server| server.id == *id);
        assert!(settled.master.as_ref().is_none_or(known));
        assert!(settled.master.is_some() || settled.error.is_some());
        assert!(settled.servers.iter().all(|server| !server.addresses.is_empty()));
        assert!(settled.confirmed.iter().all(|(_, since)| *since <= now));
        servers.rotate_left(1);
        now += std::time::Duration::from_secs(1);
    }
}

fn sentinels(answers: &[Value]) {
    if let Some(view) = view(answers) {
        assert!(usable(&view.master));
        assert!(view.replicas.iter().chain(&view.sentinels).all(usable));
    }
}
