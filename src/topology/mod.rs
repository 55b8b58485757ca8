//! Who the nodes are: parse (pure), merge and diff (pure), discover (loop).
//!
//! # Guarantees
//! - A slot's owner is the claim with the highest epoch among the views of two nodes and what we knew (DESIGN rule 2).
//! - A node whose address cannot be told is an error that names it, never one node fewer.

mod connecting;
mod discover;
mod merge;
mod parse;

pub use connecting::{connect, explain};
pub use discover::{Discovery, Refresh, Sighting};
pub use merge::{Node, Role, Topology, merge};
pub use parse::{Row, View, parse_nodes, parse_shards, parse_slots};
