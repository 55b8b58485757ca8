//! Where a listener's partitions lie. Pure.

use crate::model::{Key, ListenerId, SLOTS, Slot, slot_of};

/// What every key of ours begins with. DESIGN rule 5: such keys are never looked at, whatever the pattern.
pub const PREFIX: &str = "rx:{";

/// What keeps a key of ours from being empty: no key of a ledger begins like this (DESIGN rule 5).
pub(super) const PLACEHOLDER: &str = "rx:{}";

/// The keys of a partition, in the order of keys.lua. What each holds:
///
/// | key | type | holds |
/// |---|---|---|
/// | `head` | hash | schema, partitions, seq, epoch, writer, answers, when one was last delivered, node states, texts |
/// | `due` | sorted set | the ledger: keys by deadline |
/// | `absent` | set | those of them that are absent |
/// | `memory` | sorted set | when a key was settled or forgotten, and by which owner (see `places::memory_score`) |
/// | `outbox` | hash | events and what their delivery came to, by id |
/// | `untried` | sorted set | those without an attempt, by when they were settled |
/// | `putoff` | sorted set | those among them that are to wait, by `not_before` |
/// | `tried` | sorted set | those with an attempt, by `not_before` |
/// | `settled` | sorted set | the same, by when they were settled |
/// | `parked` | sorted set | dead letters by when they were parked |
/// | `letters` | hash | dead letters by id |
const KINDS: [&str; 11] =
    ["head", "due", "absent", "memory", "outbox", "untried", "putoff", "tried", "settled", "parked", "letters"];

/// One of a partition's keys, by its place in [`KINDS`], counted from one as Lua does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Due = 2,
    Outbox = 5,
    Untried = 6,
    PutOff = 7,
    Tried = 8,
    Parked = 10,
    Letters = 11,
}

impl Kind {
    /// Where counts.lua counts it, or what it is a part of.
    pub const fn count(self) -> usize {
        match self {
            Self::Due => 2,
            Self::Outbox | Self::Untried | Self::PutOff => 3,
            Self::Tried => 4,
            Self::Parked | Self::Letters => 5,
        }
    }
}

/// The names of one partition's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub slot: Slot,
    pub keys: Vec<String>,
}

impl Names {
    /// The partitions of a listener lie evenly over the slots, so that each master gets its share of them: the tag of each
    /// has the first number behind it that leads into its part of the slots.
    pub fn of(listener: &ListenerId, partitions: u16) -> Vec<Self> {
        let name = escaped(listener.as_str());
        (0..partitions).map(|index| Self::at(&name, index, partitions)).collect()
    }

    fn at(name: &str, index: u16, partitions: u16) -> Self {
        let bound = |index: u16| u32::from(SLOTS) * u32::from(index) / u32::from(partitions.max(1));
        let part = bound(index)..bound(index + 1);
        let mut number = 0_u32;
        loop {
            let tag = format!("{PREFIX}{name}#{index}.{number}}}");
            let slot = slot_of(tag.as_bytes());
            // A slot in `partitions`, or one try in so many: a thousand times as many do not all miss.
            if part.contains(&u32::from(slot.0)) || number > 1_000 * u32::from(partitions) {
                return Self { slot, keys: KINDS.map(|kind| format!("{tag}{kind}")).into() };
            }
            number += 1;
        }
    }
}

/// Without `}`, which would end the tag before what tells partitions apart.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

/// The partition that a key's entry and events lie in. Not by the key's slot: a hash tag of the user's must not make one
/// partition hold everything.
pub(super) fn partition_of(key: &Key, partitions: usize) -> usize {
    // FNV-1a: it must be the same in every process and release.
    let hash = key
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits alone depend on the low bits of the bytes alone.
    let mixed = hash ^ (hash >> 32);
    usize::try_from(mixed % partitions.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn partitions_are_spread_evenly_over_the_slots_and_keep_together() {
        let names = Names::of(&ListenerId::new("shop", "orders"), 16);
        for (index, names) in (0..).zip(&names) {
            assert!((index * 1024..(index + 1) * 1024).contains(&names.slot.0), "{names:?}");
            assert_eq!(names.keys.len(), 11);
            for key in &names.keys {
                assert!(key.starts_with(PREFIX) && slot_of(key.as_bytes()) == names.slot, "{key}");
            }
        }
        let keys: HashSet<&String> = names.iter().flat_map(|names| &names.keys).collect();
        assert_eq!(keys.len(), 16 * 11);
    }

    #[test]
    fn names_that_would_break_the_tag_are_escaped_and_stay_apart() {
        let first = |name: &str| Names::of(&ListenerId::new("shop", name), 4).remove(0).keys.remove(0);
        let (plain, braced) = (first("a"), first("a}b{"));
        assert_ne!(plain, braced);
        assert_eq!(braced.matches('}').count(), 1);
        assert!(braced.contains("a%7db%7b"), "{braced}");
        // So that one listener's keys never depend on another's.
        assert_ne!(first("a%7d"), first("a}"));
    }

    #[test]
    fn keys_are_spread_evenly_over_the_partitions() {
        let mut counts = [0; 16];
        for number in 0..16_000 {
            counts[partition_of(&Key::from(format!("{{same}}order:pay:{number}").as_str()), 16)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(partition_of(&Key::from("k"), 1), 0);
        // Were this another number, every ledger would have to be moved.
        assert_eq!(
            partition_of(&Key::from("order:pay:42"), 16),
            partition_of(&Key::from(b"order:pay:42".to_vec()), 16)
        );
        assert_eq!(Names::of(&ListenerId::new("shop", "orders"), 16).last().unwrap().slot.0 / 1024, 15);
    }
}
