//! What a running process shows of itself: logs, the admin socket, and the admin HTTP server with metrics and probes.

pub mod admin;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod probes;
