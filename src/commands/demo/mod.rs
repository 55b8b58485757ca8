//! `demo`: a local Redis Cluster, an order service and the engine, a master killed in the middle, and nothing lost.

pub mod cluster;
pub mod watchdog;

/// The example, and no copy of it: what the demo shows is what a reader of the example gets.
#[path = "../../../examples/order-service/mod.rs"]
pub mod order_service;
