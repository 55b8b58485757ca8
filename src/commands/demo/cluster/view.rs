//! What a node says of its cluster. Kept apart from `crate::topology`, so that tests which use the launcher do not
//! take the code under test for the truth.

use std::ops::RangeInclusive;

use crate::model::{SLOTS, info_field};

/// One line of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each on its own, as Redis prints them")]
pub struct Seen {
    pub id: String,
    pub port: u16,
    /// By its own view of itself the node that was asked.
    pub myself: bool,
    pub master: bool,
    /// Failed, or suspected to have.
    pub failed: bool,
    /// Whom it replicates.
    pub master_id: Option<String>,
    pub link: bool,
    pub slots: Vec<RangeInclusive<u16>>,
}

impl Seen {
    pub fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

/// Reads `CLUSTER NODES`; nodes still shaking hands are left out. Slots being moved (`[..]`) are not owned slots.
pub fn parse(text: &str) -> Vec<Seen> {
    text.lines().filter_map(node).collect()
}

/// What a server outside of a cluster is called.
pub fn name_of(port: u16) -> String {
    format!("server-{port}")
}

/// Reads `INFO replication` of one that is outside of a cluster; a master has all slots.
pub fn of_server(id: &str, port: u16, text: &str) -> Seen {
    let field = |name: &str| info_field(text, name);
    let master = field("role") == Some("master");
    Seen {
        id: id.to_owned(),
        port,
        myself: true,
        master,
        failed: false,
        master_id: field("master_port").and_then(|port| Some(name_of(port.parse().ok()?))),
        link: master || field("master_link_status") == Some("up"),
        slots: if master { vec![0..=SLOTS - 1] } else { Vec::new() },
    }
}

fn node(text: &str) -> Option<Seen> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [name, address, flags, master, _, _, _, link, slots @ ..] = fields.as_slice() else { return None };
    let flags: Vec<&str> = flags.split(',').collect();
    if flags.contains(&"handshake") || flags.contains(&"noaddr") {
        return None;
    }
    let port = address.split(['@', ',']).next()?.rsplit(':').next()?.parse().ok()?;
    Some(Seen {
        id: (*name).to_owned(),
        port,
        myself: flags.contains(&"myself"),
        master: flags.contains(&"master"),
        failed: flags.iter().any(|flag| flag.starts_with("fail")),
        master_id: (*master != "-").then(|| (*master).to_owned()),
        link: *link == "connected",
        slots: slots.iter().filter_map(|range| slot_range(range)).collect(),
    })
}

fn slot_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_in_the_midst_of_a_move_owns_what_it_lists_outside_brackets() {
        let nodes = parse(
            "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n\
             e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93->-292f]\n\
             6ec2 127.0.0.1:30005@31005 master,fail? - 0 0 1 disconnected\n\
             824f :0@0 master,noaddr - 0 0 1 disconnected\n",
        );
        assert_eq!(nodes.len(), 3);
        assert_eq!((nodes[0].port, nodes[0].master, nodes[0].master_id.as_deref()), (30004, false, Some("e7d1")));
        assert_eq!(nodes[1].slots, [0..=5460, 7000..=7000]);
        assert!(nodes[1].myself && nodes[1].owns(7000) && !nodes[1].owns(93 + 16_000));
        assert!(nodes[2].failed && !nodes[2].link);
    }
}
