//! The scripts, which lie beside this file as Lua.

use std::sync::LazyLock;

/// A script and the name by which a server that has seen it knows it.
pub struct Script {
    pub source: &'static str,
    pub hash: String,
    /// Sent by EVAL even to a server that knows it: so a right that is missing for that is told at once, and not when a replica
    /// that knows no script takes over.
    pub whole: bool,
}

macro_rules! scripts {
    ($($name:ident $file:literal $(, $whole:ident)?)*) => {
        $(pub static $name: LazyLock<Script> = LazyLock::new(|| {
            let source = concat!(include_str!("lua/keys.lua"), include_str!($file));
            let whole = !stringify!($($whole)?).is_empty();
            Script { source, hash: redis::Script::new(source).get_hash().to_owned(), whole }
        });)*
    };
}

scripts! {
    INIT "lua/init.lua", whole
    RAISE "lua/raise.lua"
    WRITE "lua/write.lua"
    KNOWN "lua/known.lua"
    PAGE "lua/page.lua"
    COUNTS "lua/counts.lua"
    HEAD "lua/head.lua"
    EXPIRE "lua/expire.lua"
    PROBE "lua/probe.lua"
    CHECK "lua/check.lua"
    TRIAL "lua/trial.lua", whole
}
