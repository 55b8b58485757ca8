//! The door of `fuzz/`: what reads bytes from outside and is nobody else's to name. Only `cargo fuzz` builds it.

pub use crate::{
    delivery::request::{body, fixed_headers},
    nodes::{
        frames::{Frame, Frames},
        wire::{Push, Reply, identity, push, reply, role, time},
    },
    plan::template::Part,
    servers::sentinels::view,
    store::{
        redis::{
            calls::{read_known, sum},
            id::{pack, unpack},
            ops::{node_field, read_node, write_node},
            record::{PLACE, appended, letter, pending},
            reply::{Done, done, head, number},
        },
        sqlite::unfiled::{read as read_batch, write as write_batch},
    },
};
