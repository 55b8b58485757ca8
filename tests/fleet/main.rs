//! What is measured has the machine to itself: a program of its own, on the bed of tests/kubernetes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests are made of may fail as tests do; clippy only knows of functions marked as tests"
)]

#[path = "../kubernetes/bed/mod.rs"]
#[allow(dead_code, reason = "tests/kubernetes uses all of it")]
mod bed;
mod fleet;

mod support;
