//! One file a command; each is a composition root.

pub mod load;
