//! What was written lately, to be written again should a failover lose it (DESIGN rule 11). Pure.
//!
//! # How a loss is known
//! Each write of a partition counts `seq` up by one, in the same script and the same slot. Redis replicates a script's
//! effects as one transaction and in order, so a replica that became master has a prefix of the writes and says which: all
//! up to its `seq`. The master's run id, replication id or role would tell that something happened, and not what was lost;
//! INFO would have to be asked before each write to know it in time, and a flush by hand changes none of them.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::jobs::Args;

pub(super) struct Entry {
    pub seq: u64,
    pub at: Instant,
    pub bytes: usize,
    pub args: Args,
}

pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// Written, but no answer came: they are in Redis or will never be.
    doubtful: VecDeque<Entry>,
    bytes: usize,
    keep: Duration,
    most_bytes: usize,
}

/// So many writes without an answer are remembered.
const DOUBTFUL: usize = 8;

impl Journal {
    pub fn new(keep: Duration, most_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), doubtful: VecDeque::new(), bytes: 0, keep, most_bytes }
    }

    /// A write was done, behind the newest one that was `found` there.
    pub fn done(&mut self, seq: u64, found: u64, args: Args, now: Instant) {
        while let Some(entry) = self.doubtful.pop_front() {
            if entry.seq <= found {
                self.bytes += entry.bytes;
                self.entries.push_back(entry);
            }
        }
        let entry = entry(seq, args, now);
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        self.trim(now);
    }

    /// No answer came to a write.
    pub fn doubtful(&mut self, seq: u64, args: Args, now: Instant) {
        self.doubtful.push_back(entry(seq, args, now));
        if self.doubtful.len() > DOUBTFUL {
            self.doubtful.pop_front();
        }
    }

    pub fn trim(&mut self, now: Instant) {
        while let Some(first) = self.entries.front()
            && (self.bytes > self.most_bytes || now.saturating_duration_since(first.at) > self.keep)
        {
            self.bytes -= first.bytes;
            self.entries.pop_front();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.doubtful.clear();
        self.bytes = 0;
    }

    /// What is behind `seq`, which is all that is left of the writes, is counted on from there. How many that are, and
    /// whether the first of them had followed `seq`.
    pub fn lost_behind(&mut self, seq: u64) -> (u64, bool) {
        self.doubtful.clear();
        let kept = self.entries.partition_point(|entry| entry.seq <= seq);
        let whole = self.entries.get(kept).is_some_and(|entry| entry.seq == seq + 1);
        (self.renumber(kept, seq), whole)
    }

    /// Nothing can be said of what is left: all is counted on from `seq`.
    pub fn lost_all(&mut self, seq: u64) -> u64 {
        self.doubtful.clear();
        self.renumber(0, seq)
    }

    fn renumber(&mut self, from: usize, seq: u64) -> u64 {
        let mut count = 0;
        for entry in self.entries.iter_mut().skip(from) {
            count += 1;
            entry.seq = seq + count;
        }
        count
    }

    /// The write that follows `seq`.
    pub fn after(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(self.entries.partition_point(|entry| entry.seq <= seq))
    }
}

fn entry(seq: u64, args: Args, at: Instant) -> Entry {
    // A `Vec` is 24 bytes, and what it points to some more than its length.
    let bytes = args.iter().map(|arg| arg.len() + 40).sum::<usize>() + 64;
    Entry { seq, at, bytes, args }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(most_bytes: usize) -> Journal {
        Journal::new(Duration::from_secs(30), most_bytes)
    }
    fn args(name: u8) -> Args {
        vec![vec![name]]
    }
    fn all(journal: &Journal) -> Vec<(u64, u8)> {
        journal.entries.iter().map(|entry| (entry.seq, entry.args[0][0])).collect()
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten_oldest_first() {
        let start = Instant::now();
        let mut journal = journal(1_000);
        for seq in 1..=4_u8 {
            let at = start + Duration::from_secs(10 * u64::from(seq));
            journal.done(seq.into(), u64::from(seq) - 1, args(seq), at);
        }
        assert_eq!(all(&journal), [(1, 1), (2, 2), (3, 3), (4, 4)]);
        journal.trim(start + Duration::from_secs(51));
        assert_eq!(all(&journal), [(3, 3), (4, 4)]);
        journal.done(5, 4, vec![vec![5; 900]], start + Duration::from_secs(51));
        assert_eq!(all(&journal), []);
        assert_eq!(journal.bytes, 0);
    }

    #[test]
    fn a_write_without_answer_counts_if_it_was_found() {
        let now = Instant::now();
        let mut journal = journal(100_000);
        journal.doubtful(1, args(b'a'), now);
        journal.done(2, 1, args(b'b'), now);
        journal.doubtful(3, args(b'c'), now);
        journal.done(4, 2, args(b'd'), now);
        assert_eq!(all(&journal), [(1, b'a'), (2, b'b'), (4, b'd')]);
        for number in 5..100 {
            journal.doubtful(number, args(b'x'), now);
        }
        assert_eq!(journal.doubtful.len(), DOUBTFUL);
    }

    #[test]
    fn what_was_lost_is_counted_on_from_what_is_left() {
        let now = Instant::now();
        let mut journal = journal(100_000);
        for seq in [3, 4, 6, 7_u8] {
            journal.done(seq.into(), 0, args(seq), now);
        }
        assert_eq!(journal.lost_behind(3), (3, true));
        assert_eq!(all(&journal), [(3, 3), (4, 4), (5, 6), (6, 7)]);
        assert_eq!(journal.after(4).unwrap().args, args(6));
        assert!(journal.after(6).is_none());
        // Older ones are gone, and nobody has them.
        assert_eq!(journal.lost_behind(1), (4, false));
        assert_eq!(journal.lost_all(40), 4);
        assert_eq!(all(&journal), [(41, 3), (42, 4), (43, 6), (44, 7)]);
    }
}
