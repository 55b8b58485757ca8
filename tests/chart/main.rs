//! The chart and the manifests, as helm renders them: `make kube-tools` and `make chart-tools` bring what this needs.
//! `UPDATE=1 cargo test --test chart` writes the generated files anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

mod alerts;
mod cases;
#[path = "../support/certificates.rs"]
mod certificates;
mod examples;
mod firing;
mod generated;
mod helm;
mod joined;
mod readme;
mod rendered;
mod schema;
mod values;
