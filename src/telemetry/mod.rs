//! What a running process shows of itself: logs, and the admin socket.

pub mod admin;
pub mod logs;
