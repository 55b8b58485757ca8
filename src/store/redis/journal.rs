//! What was written lately, to be written again should a failover lose it (DESIGN rule 11). Pure.
//!
//! # How a loss is known
//! Each write of a partition counts `seq` up by one, in the same script and the same slot. Redis replicates a script's
//! effects as one transaction and in order, so a replica that became master has a prefix of the writes and says which: all
//! up to its `seq`. The master's run id, replication id or role would tell that something happened, and not what was lost;
//! INFO would have to be asked before each write to know it in time, and a flush by hand changes none of them.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    budget::Share,
    jobs::{Args, BATCH, together},
};

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
    kept: Share,
    /// No write up to this is kept.
    forgotten: u64,
    keep: Duration,
    most_bytes: usize,
}

/// So many writes without an answer are remembered.
const DOUBTFUL: usize = 8;

impl Journal {
    pub fn new(keep: Duration, most_bytes: usize, kept: Share) -> Self {
        Self { entries: VecDeque::new(), doubtful: VecDeque::new(), kept, forgotten: 0, keep, most_bytes }
    }

    /// A write was done, behind the newest one that was `found` there.
    pub fn done(&mut self, seq: u64, found: u64, args: Args, now: Instant) {
        while let Some(entry) = self.doubtful.pop_front() {
            if entry.seq <= found {
                self.entries.push_back(entry);
            } else {
                self.kept.give_back(entry.bytes);
            }
        }
        let entry = entry(seq, args, now);
        self.kept.add(entry.bytes);
        self.entries.push_back(entry);
        self.trim(now);
    }

    /// No answer came to a write.
    pub fn doubtful(&mut self, seq: u64, args: Args, now: Instant) {
        let entry = entry(seq, args, now);
        self.kept.add(entry.bytes);
        self.doubtful.push_back(entry);
        if self.doubtful.len() > DOUBTFUL
            && let Some(first) = self.doubtful.pop_front()
        {
            self.kept.give_back(first.bytes);
        }
    }

    pub fn trim(&mut self, now: Instant) {
        let most = self.most_bytes;
        // However much all keep together, one may keep its newest.
        let full = |kept: &Share, more: bool| kept.bytes() > most || (more && kept.is_over());
        // What was acknowledged is what this is for: what was not yields to it.
        while full(&self.kept, true)
            && let Some(first) = self.doubtful.pop_front()
        {
            self.kept.give_back(first.bytes);
        }
        while let Some(first) = self.entries.front()
            && (full(&self.kept, self.entries.len() > 1) || now.saturating_duration_since(first.at) > self.keep)
        {
            self.kept.give_back(first.bytes);
            self.forgotten = first.seq;
            self.entries.pop_front();
        }
    }

    /// What was written up to `seq` is another's to keep.
    pub fn clear(&mut self, seq: u64) {
        self.forgotten = seq;
        self.entries.clear();
        self.doubtful.clear();
        self.kept.give_back(self.kept.bytes());
    }

    /// Redis has the writes up to `seq`. How many are kept of those behind it, and whether that is all of them. They keep their
    /// numbers: should a second failover lead to a replica that the first had passed by, its `seq` means the same writes.
    pub fn lost_behind(&mut self, seq: u64) -> (usize, bool) {
        self.forget_doubtful();
        let kept = self.entries.partition_point(|entry| entry.seq <= seq);
        (self.entries.len() - kept, self.forgotten <= seq)
    }

    /// Nothing can be said of what Redis has: all is counted on from `seq`. Gives the last number.
    pub fn lost_all(&mut self, seq: u64) -> u64 {
        self.forget_doubtful();
        let mut last = seq;
        for entry in &mut self.entries {
            last += 1;
            entry.seq = last;
        }
        last
    }

    fn forget_doubtful(&mut self) {
        for entry in self.doubtful.drain(..) {
            self.kept.give_back(entry.bytes);
        }
    }

    /// The writes behind `from` up to `to` were made again.
    pub fn made_again(&mut self, from: u64, to: u64, now: Instant) {
        for entry in self.entries.iter_mut().filter(|entry| (from + 1..=to).contains(&entry.seq)) {
            entry.at = now;
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Writes that follow `seq`, as one that has the number of the last of them: as many as go into a script, and none from beyond
    /// `holed` together with one from before it.
    pub fn after(&self, seq: u64, holed: u64) -> Option<(u64, Args)> {
        let mut next = self.entries.range(self.entries.partition_point(|entry| entry.seq <= seq)..);
        let first = next.next()?;
        let (mut last, mut jobs) = (first.seq, vec![first.args.as_slice()]);
        let mut room = BATCH.saturating_sub(first.args.len());
        for entry in next {
            if (first.seq <= holed) != (entry.seq <= holed) || entry.args.len() > room {
                break;
            }
            room -= entry.args.len();
            last = entry.seq;
            jobs.push(&entry.args);
        }
        Some((last, together(&jobs)))
    }
}

fn entry(seq: u64, args: Args, at: Instant) -> Entry {
    // A `Vec` is 24 bytes, and what it points to some more than its length.
    let bytes = args.iter().map(|arg| arg.len() + 40).sum::<usize>() + 64;
    Entry { seq, at, bytes, args }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::budget::Budget, *};

    fn journal(most_bytes: usize) -> Journal {
        Journal::new(Duration::from_secs(30), most_bytes, Share::new(Arc::default()))
    }
    fn args(name: u8) -> Args {
        vec![b"1".to_vec(), vec![name]]
    }
    fn all(journal: &Journal) -> Vec<(u64, u8)> {
        journal.entries.iter().map(|entry| (entry.seq, entry.args[1][0])).collect()
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
        assert_eq!(journal.kept.bytes(), 0);
    }

    #[test]
    fn who_keeps_much_while_all_keep_too_much_keeps_its_newest() {
        let (budget, now) = (Arc::new(Budget::of(300_000)), Instant::now());
        let journal = || Journal::new(Duration::from_secs(30), 1_000_000, Share::new(Arc::clone(&budget)));
        let (mut first, mut second) = (journal(), journal());
        let large = || vec![vec![7; 100_000]];
        first.done(1, 0, large(), now);
        second.done(1, 0, vec![vec![7; 10_000]], now);
        first.done(2, 1, large(), now);
        assert_eq!((first.len(), second.len()), (2, 1));
        first.done(3, 2, large(), now);
        second.done(2, 1, vec![vec![7; 10_000]], now);
        assert_eq!((first.len(), second.len()), (2, 2), "who has little keeps it");
        first.done(4, 3, vec![vec![7; 400_000]], now);
        assert_eq!((first.len(), first.forgotten), (1, 3));
    }

    #[test]
    fn what_was_not_acknowledged_does_not_push_out_what_was() {
        let now = Instant::now();
        let mut journal = journal(4_000_000);
        journal.done(1, 0, args(1), now);
        for seq in 2..10 {
            journal.doubtful(seq, vec![vec![7; 1_000_000]], now);
        }
        journal.trim(now);
        assert_eq!((journal.len(), journal.lost_behind(0)), (1, (1, true)));
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
        let bytes = |entries: &VecDeque<Entry>| entries.iter().map(|entry| entry.bytes).sum::<usize>();
        assert_eq!(journal.kept.bytes(), bytes(&journal.entries) + bytes(&journal.doubtful));
        journal.lost_behind(4);
        assert_eq!(journal.kept.bytes(), bytes(&journal.entries));
        journal.doubtful(100, args(b'x'), now);
        journal.clear(100);
        assert_eq!(journal.kept.bytes(), 0);
    }

    #[test]
    fn what_was_lost_keeps_its_numbers_and_it_is_known_whether_all_of_it_is_there() {
        let now = Instant::now();
        let mut journal = journal(1_000_000);
        journal.clear(2);
        for seq in [3, 4, 6, 7_u8] {
            journal.done(seq.into(), 0, args(seq), now);
        }
        assert_eq!(journal.lost_behind(3), (3, true));
        let jobs = |names: &[u8]| {
            let count = vec![names.len().to_string().into_bytes()];
            count.into_iter().chain(names.iter().map(|name| vec![*name])).collect::<Args>()
        };
        assert_eq!(journal.after(3, 0).unwrap(), (7, jobs(&[4, 6, 7])));
        // What was made on what is lost goes apart.
        assert_eq!(journal.after(3, 4).unwrap(), (4, jobs(&[4])));
        assert_eq!(journal.after(4, 4).unwrap(), (7, jobs(&[6, 7])));
        assert!(journal.after(7, 0).is_none());
        journal.done(8, 7, vec![b"1".to_vec(); BATCH - 4], now);
        assert_eq!(journal.after(3, 0).unwrap().0, 7);
        assert_eq!(journal.after(7, 0).unwrap().0, 8);
        assert_eq!(journal.lost_behind(2), (5, true));
        let later = now + Duration::from_secs(40);
        journal.made_again(2, 7, later);
        journal.trim(later);
        assert_eq!(journal.len(), 5, "what was made again is as young as that");
        // One before ours is gone, and nobody has it.
        assert_eq!(journal.lost_behind(1), (5, false));
        journal.trim(later + Duration::from_secs(31));
        assert_eq!(journal.lost_behind(6), (0, false));
    }

    #[test]
    fn where_nothing_can_be_said_all_is_counted_on() {
        let now = Instant::now();
        let mut journal = journal(100_000);
        for seq in [3, 4, 6_u8] {
            journal.done(seq.into(), 0, args(seq), now);
        }
        assert_eq!(journal.lost_all(40), 43);
        assert_eq!(all(&journal), [(41, 3), (42, 4), (43, 6)]);
    }
}
