//! A shop's order service that lets Redis expire unpaid orders and trusts nobody but its own database.
//!
//! ```text
//!   POST /orders ──▶ database (order, stock) ──▶ SET order:pay:{id} PX ttl ──▶ Redis
//!   POST /orders/{id}/pay ──▶ database decides ──▶ DEL order:pay:{id}             │ expires
//!   POST /internal/order-timeouts ◀── redis-expiry-operator ◀──────────────────────┘
//!        └──▶ database: still unpaid? cancel, put the stock back, once
//! ```
//!
//! Redis says *when* to look at an order; what is to become of it is decided by one conditional `UPDATE`.

pub mod arming;
pub mod database;
pub mod front;
pub mod keys;
mod master;
mod records;
pub mod serve;
pub mod service;
mod sql;
pub mod verify;
mod writer;
