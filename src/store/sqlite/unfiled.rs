//! Which batches of new entries may hold a key, and how a batch is written. No SQL.

use std::{collections::VecDeque, hash::BuildHasher as _};

use foldhash::quality::RandomState;

use crate::model::{Deadline, Millis};

/// Bits that a key sets.
const PROBES: u32 = 6;
/// Keys of a batch at most.
pub const BATCH: usize = 512;
/// Bytes of its keys at most, but for one key that is larger.
pub const BATCH_BYTES: usize = 1 << 20;
/// Keys of a part at most.
const PART: usize = 262_144;
/// Bits of a filter for each key: about one in 700 of the other keys seems to be there.
const BITS: usize = 16;
/// Words of 64 bits that one key's bits lie in: a cache line.
const BLOCK: usize = 8;

/// What may be in a set: "no" is certain. (A Bloom filter in blocks.)
struct Filter(Box<[u64]>);

impl Filter {
    fn of(keys: usize) -> Self {
        let blocks = (keys * BITS).div_ceil(BLOCK * 64).max(1);
        Self(vec![0; blocks * BLOCK].into())
    }
    /// The words of a hash and the bits in them.
    fn bits(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let blocks = (self.0.len() / BLOCK) as u64;
        // Bits of their own for the block, or neighbours in it would be alike.
        let block = (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % blocks;
        let first = usize::try_from(block).unwrap_or_default() * BLOCK;
        (0..PROBES).map(move |turn| {
            let bit = (hash >> (turn * 9)) & 511;
            (first + usize::try_from(bit / 64).unwrap_or_default(), 1 << (bit % 64))
        })
    }
    fn add(&mut self, hash: u64) {
        for (word, bit) in self.bits(hash) {
            self.0[word] |= bit;
        }
    }
    fn may_have(&self, hash: u64) -> bool {
        self.bits(hash).all(|(word, bit)| self.0[word] & bit != 0)
    }
}

struct Batch {
    number: i64,
    filter: Filter,
}

/// Some batches, and a filter of all their keys: most keys are looked for in no batch at all.
struct Part {
    filter: Filter,
    batches: VecDeque<Batch>,
    keys: usize,
}

/// The batches by the keys that they may hold: 4 bytes of memory a key.
#[derive(Default)]
pub struct Unfiled {
    parts: VecDeque<Part>,
    hasher: RandomState,
}

impl Unfiled {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
    /// How many keys were added to the batches that are left.
    pub fn keys(&self) -> usize {
        self.parts.iter().map(|part| part.keys).sum()
    }
    /// The batch that has waited longest.
    pub fn first(&self) -> Option<i64> {
        self.parts.front()?.batches.front().map(|batch| batch.number)
    }
    /// The number of the next batch.
    pub fn next(&self) -> i64 {
        self.parts.back().and_then(|part| part.batches.back()).map_or(1, |batch| batch.number + 1)
    }

    /// A batch with a number greater than any before it.
    pub fn add<'k>(&mut self, number: i64, keys: impl ExactSizeIterator<Item = &'k [u8]>) {
        let count = keys.len();
        if self.parts.back().is_none_or(|part| part.keys + count > PART) {
            self.parts.push_back(Part { filter: Filter::of(PART), batches: VecDeque::new(), keys: 0 });
        }
        let Some(part) = self.parts.back_mut() else { return };
        let mut batch = Batch { number, filter: Filter::of(count) };
        for key in keys {
            let hash = self.hasher.hash_one(key);
            part.filter.add(hash);
            batch.filter.add(hash);
        }
        part.keys += count;
        part.batches.push_back(batch);
    }

    /// Lets go of [`Self::first`].
    pub fn remove_first(&mut self) {
        let Some(part) = self.parts.front_mut() else { return };
        part.batches.pop_front();
        if part.batches.is_empty() {
            self.parts.pop_front();
        }
    }

    /// The batches that may hold the key: mostly none, or the one that does.
    pub fn candidates(&self, key: &[u8]) -> Vec<i64> {
        if self.parts.is_empty() {
            return Vec::new();
        }
        let hash = self.hasher.hash_one(key);
        let parts = self.parts.iter().filter(|part| part.filter.may_have(hash));
        let batches = parts.flat_map(|part| &part.batches).filter(|batch| batch.filter.may_have(hash));
        batches.map(|batch| batch.number).collect()
    }
}

/// Each entry as the length of its key, its deadline, its key.
pub fn write<'k>(entries: impl Iterator<Item = (&'k [u8], Deadline)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, deadline) in entries {
        // Redis's keys are of 512 MB at the most.
        out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&deadline.0.to_le_bytes());
        out.extend_from_slice(key);
    }
    out
}

/// `None`: it was not written by [`write`].
pub fn read(mut bytes: &[u8]) -> Option<Vec<(&[u8], Deadline)>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (deadline, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        entries.push((key, Millis(i64::from_le_bytes(*deadline))));
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        range.map(|number| format!("order:pay:{number}").into_bytes()).collect()
    }
    fn add(unfiled: &mut Unfiled, number: i64, keys: &[Vec<u8>]) {
        unfiled.add(number, keys.iter().map(Vec::as_slice));
    }

    #[test]
    fn a_key_is_looked_for_in_its_batch_and_hardly_anywhere_else() {
        let mut unfiled = Unfiled::default();
        let all = keys(0..200_000);
        for (number, batch) in (1..).zip(all.chunks(BATCH)) {
            assert_eq!(unfiled.next(), number);
            add(&mut unfiled, number, batch);
        }
        for (number, batch) in (1..).zip(all.chunks(BATCH)) {
            assert!(batch.iter().all(|key| unfiled.candidates(key).contains(&number)));
        }
        let wrong: usize = keys(500_000..600_000).iter().map(|key| unfiled.candidates(key).len()).sum();
        assert!(wrong < 1_000, "{wrong} of 100,000 keys that are not there seem to be");
    }

    #[test]
    fn a_batch_that_was_removed_is_not_named_again() {
        let mut unfiled = Unfiled::default();
        add(&mut unfiled, 1, &keys(0..10));
        add(&mut unfiled, 2, &keys(10..20));
        assert_eq!((unfiled.first(), unfiled.keys()), (Some(1), 20));
        unfiled.remove_first();
        assert_eq!(unfiled.candidates(b"order:pay:3"), [0; 0]);
        assert_eq!((unfiled.first(), unfiled.next()), (Some(2), 3));
        unfiled.remove_first();
        assert!(unfiled.is_empty());
    }

    #[test]
    fn a_batch_reads_as_it_was_written_and_a_torn_one_not_at_all() {
        let entries = [(b"k".as_slice(), Millis(7)), (b"".as_slice(), Millis(-1)), (b"\xff\x00".as_slice(), Millis(9))];
        let bytes = write(entries.into_iter());
        assert_eq!(read(&bytes).unwrap(), entries);
        assert_eq!(read(&bytes[..bytes.len() - 1]), None);
        assert_eq!(read(b""), Some(Vec::new()));
    }
}
