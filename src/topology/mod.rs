//! Who the nodes are: parse (pure), merge and diff (pure), discover (loop).
//!
//! # Guarantees
//! - A slot's owner is the claim with the highest epoch among the views of two nodes and what we knew (DESIGN rule 2).
//! - A node whose address cannot be told is an error that names it, never one node fewer.

mod discover;
mod info;
mod merge;
mod parse;
mod replicated;

pub use discover::{Discovery, Refresh, Sighting, connect, explain};
pub use info::{Replicates, Server, parse_info};
pub use merge::{Node, Role, Topology, merge};
pub use parse::{Row, View, parse_nodes, parse_shards, parse_slots};
pub use replicated::{Answer, Memory, Settled};
