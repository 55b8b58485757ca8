//! What a user of Redis needs for a store, as docs/resource.md and the errors say it.

pub const RIGHTS: [&str; 11] = [
    "~rx:*",
    "+eval",
    "+evalsha",
    "+@hash",
    "+@sortedset",
    "+@set",
    "+persist",
    "+pexpire",
    "+info",
    "+cluster|slots",
    "+asking",
];
