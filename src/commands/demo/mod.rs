//! `demo`: a local Redis Cluster, an order service and the engine, a master killed in the middle, and nothing lost.

pub mod cluster;
pub mod watchdog;
