//! Hash slots: how Redis Cluster divides its keys.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// A hash slot, 0 to 16383.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

/// The slot of a key: CRC16 (XMODEM) of what lies between the first `{` and the next `}`, if that is not empty,
/// else of the whole key. Source: the Redis Cluster specification, "Hash tags"; `keyHashSlot` in cluster.c.
pub fn slot_of(key: &[u8]) -> Slot {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inner = &key[open + 1..];
        let close = inner.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &inner[..close])
    });
    Slot(crc16(tagged.unwrap_or(key)) % SLOTS)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the index is below 256; try_from is not const")]
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// A set of slots, as sorted ranges without overlap (both ends included).
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub struct SlotSet(Vec<(u16, u16)>);

impl SlotSet {
    pub fn all() -> Self {
        Self(vec![(0, SLOTS - 1)])
    }
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= slot.0);
        after > 0 && self.0[after - 1].1 >= slot.0
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|(first, last)| (*first..=*last).map(Slot))
    }
    /// First and last slot of each run, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }
    /// The slots that are in `self` and not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in &self.0 {
            let mut from = *first;
            let meeting = other.0.partition_point(|(_, end)| end < first);
            for (begin, end) in other.0[meeting..].iter().take_while(|(begin, _)| begin <= last) {
                if from < *begin {
                    left.push((from, begin - 1));
                }
                from = end + 1;
            }
            if from <= *last {
                left.push((from, *last));
            }
        }
        Self(left)
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().map(|Slot(slot)| (slot, slot)).collect()
    }
}

/// Of runs, each with its first and last slot, in any order.
impl FromIterator<(u16, u16)> for SlotSet {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(runs: I) -> Self {
        let mut runs: Vec<(u16, u16)> = runs.into_iter().filter(|(first, last)| first <= last).collect();
        runs.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (first, last) in runs {
            match ranges.last_mut() {
                Some((_, end)) if *end >= first || *end + 1 == first => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Self(ranges)
    }
}

/// Of runs that were kept somewhere: a store's file or Redis.
impl TryFrom<Vec<(u16, u16)>> for SlotSet {
    type Error = String;

    fn try_from(runs: Vec<(u16, u16)>) -> Result<Self, String> {
        match runs.iter().find(|(first, last)| first > last || *last >= SLOTS) {
            Some((first, last)) => Err(format!("there is no run of slots {first} to {last}")),
            None => Ok(runs.into_iter().collect()),
        }
    }
}

impl From<SlotSet> for Vec<(u16, u16)> {
    fn from(slots: SlotSet) -> Self {
        slots.0
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}
impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), Slot(0x31C3 % SLOTS));
        assert_eq!(slot_of(b"foo"), Slot(12182));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), Slot(crc16(b"foo{}{bar}") % SLOTS));
        assert_eq!(slot_of(b"foo{{bar}}zap"), Slot(crc16(b"{bar") % SLOTS));
        assert_eq!(slot_of(b"foo{bar}{zap}"), Slot(crc16(b"bar") % SLOTS));
    }

    #[test]
    fn a_slot_set_holds_what_was_put_in() {
        let set: SlotSet = [5, 1, 2, 3, 9, 9].into_iter().map(Slot).collect();
        assert_eq!(set.to_string(), "1-3,5,9");
        assert_eq!(set.len(), 5);
        assert!(set.contains(Slot(3)) && !set.contains(Slot(4)) && !set.contains(Slot(0)) && set.contains(Slot(9)));
        assert_eq!(SlotSet::all().minus(&set).len(), usize::from(SLOTS) - 5);
    }

    #[test]
    fn what_is_kept_reads_as_it_was_and_no_slots_that_there_are_not() {
        let set: SlotSet = [(0, 3), (5, 5), (16_000, 16_383)].into_iter().collect();
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, "[[0,3],[5,5],[16000,16383]]");
        assert_eq!(serde_json::from_str::<SlotSet>(&text).unwrap(), set);
        assert_eq!(serde_json::from_str::<SlotSet>("[[4,5],[1,4]]").unwrap().to_string(), "1-5");
        for wrong in ["[[5,3]]", "[[0,16384]]", "[[0,65535]]"] {
            assert!(serde_json::from_str::<SlotSet>(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_away_is_not_left_and_all_else_is(
            set in proptest::collection::btree_set(0u16..40, 0..30),
            other in proptest::collection::btree_set(0u16..40, 0..30),
        ) {
            let of = |slots: &std::collections::BTreeSet<u16>| -> SlotSet { slots.iter().copied().map(Slot).collect() };
            let left: SlotSet = set.difference(&other).copied().map(Slot).collect();
            proptest::prop_assert_eq!(of(&set).minus(&of(&other)), left);
        }

        #[test]
        fn runs_are_the_slots_in_them(runs in proptest::collection::vec((0u16..60, 0u16..60), 0..12)) {
            let slots: SlotSet = runs.iter().flat_map(|(first, last)| (*first..=*last).map(Slot)).collect();
            proptest::prop_assert_eq!(runs.iter().copied().collect::<SlotSet>(), slots.clone());
            proptest::prop_assert_eq!(slots.ranges().collect::<SlotSet>(), slots);
        }
    }
}
