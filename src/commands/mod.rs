//! One file a command; each is a composition root.

pub mod demo;
pub mod load;
