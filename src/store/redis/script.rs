//! The scripts, which lie beside this file as Lua.

use std::sync::LazyLock;

/// A script and the name by which a server that has seen it knows it.
pub struct Script {
    pub source: &'static str,
    pub hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub static $name: LazyLock<Script> = LazyLock::new(|| {
            let source = concat!(include_str!("lua/keys.lua"), include_str!($file));
            Script { source, hash: redis::Script::new(source).get_hash().to_owned() }
        });)*
    };
}

scripts! {
    INIT "lua/init.lua"
    RAISE "lua/raise.lua"
    WRITE "lua/write.lua"
    KNOWN "lua/known.lua"
    PAGE "lua/page.lua"
    COUNTS "lua/counts.lua"
    HEAD "lua/head.lua"
    EXPIRE "lua/expire.lua"
    PROBE "lua/probe.lua"
    CHECK "lua/check.lua"
    TRIAL "lua/trial.lua"
}
