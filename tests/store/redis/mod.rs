//! What only a store in Redis can suffer.

mod crash;
mod failover;
mod keys;
mod moving;
mod network;
mod owners;
mod refused;
pub mod setup;
