//! What the store has done and a crash, or a disk that is full, may yet undo; and what must not be decided before that is known. Pure.
//!
//! An answer of the store may be about changes that come to nothing, and whoever is told of that may be told of the answer first.

use std::collections::{BTreeMap, BTreeSet};

/// One call, among those of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    partition: usize,
    number: u64,
}

/// `T` waits for what is open now.
pub(super) struct Undurable<T> {
    next: u64,
    open: BTreeMap<usize, BTreeSet<u64>>,
    behind: Vec<(Ticket, T)>,
}

impl<T> Default for Undurable<T> {
    fn default() -> Self {
        Self { next: 0, open: BTreeMap::new(), behind: Vec::new() }
    }
}

impl<T> Undurable<T> {
    /// A call was done and is not durable.
    pub fn open(&mut self, partition: usize) -> Ticket {
        self.next += 1;
        self.open.entry(partition).or_default().insert(self.next);
        Ticket { partition, number: self.next }
    }

    /// It is durable, or was undone. Gives what waited for nothing else.
    pub fn close(&mut self, ticket: Ticket) -> Vec<T> {
        let Ticket { partition, number } = ticket;
        let open = self.open.entry(partition).or_default();
        open.remove(&number);
        let oldest = open.first().copied();
        if oldest.is_none() {
            self.open.remove(&partition);
        }
        let over = |last: &Ticket| last.partition == partition && oldest.is_none_or(|oldest| oldest > last.number);
        self.behind.extract_if(.., |(last, _)| over(last)).map(|(_, waiting)| waiting).collect()
    }

    /// Puts it behind all that is open in the partition; gives it back if nothing is.
    pub fn wait(&mut self, partition: usize, waiting: T) -> Option<T> {
        let Some(number) = self.open.get(&partition).and_then(|open| open.last()).copied() else {
            return Some(waiting);
        };
        self.behind.push((Ticket { partition, number }, waiting));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_waits_for_what_was_open_then_in_its_partition_and_for_nothing_else() {
        let mut undurable = Undurable::default();
        assert_eq!(undurable.wait(1, "nothing is open"), Some("nothing is open"));
        let (first, second, other) = (undurable.open(1), undurable.open(1), undurable.open(2));
        assert_eq!(undurable.wait(1, "behind two"), None);
        let third = undurable.open(1);
        assert_eq!(undurable.close(second), Vec::<&str>::new());
        assert_eq!(undurable.close(other), Vec::<&str>::new());
        assert_eq!(undurable.close(first), ["behind two"]);
        assert_eq!(undurable.wait(1, "behind the third"), None);
        assert_eq!(undurable.close(third), ["behind the third"]);
        assert!(undurable.open.is_empty() && undurable.behind.is_empty());
    }
}
