//! One file a command; each is a composition root.

pub mod check;
pub mod controller;
pub mod crd;
pub mod dead_letters;
pub mod demo;
mod ending;
pub mod load;
pub mod output;
pub mod run;
mod web;
