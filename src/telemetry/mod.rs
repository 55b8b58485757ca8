//! What a running process shows of itself: logs, and the admin socket.

pub mod admin;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod probes;
