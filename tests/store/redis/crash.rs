//! A process that is killed between any two steps: see [`crate::crash`]. A script is atomic, so in one partition what is
//! left is whole calls, in order.
