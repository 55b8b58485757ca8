//! What `/metrics` shows, and what is said of it: the built binary against a Redis Cluster, the documents, the alerts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails, fails its test")]
#![expect(clippy::float_cmp, reason = "counts, which a float holds exactly")]

mod documents;
mod page;
mod process;
mod receiver;
mod running;
