//! Everything that needs a Kubernetes API: the resource, its chart, its rights, the controller. The server is real; see [`bed`].

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]

mod bed;
mod beds;
mod controlling;
mod deployment_changed;
mod lifecycle;
mod modes;
#[path = "../support/paths.rs"]
mod paths;
mod probing;
mod refusing;
mod replicas;
mod resource;
mod rights;
mod scoping;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the fault suite uses all of it")]
mod support;
mod telling;
mod unreadable;
mod watching;
