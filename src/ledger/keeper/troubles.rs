//! Which of the store's calls fail, and why. Pure.
//!
//! A call that failed is made again until it does not; what another partition answers meanwhile says nothing of it.

use std::collections::BTreeMap;

use crate::store::StoreError;

/// What was asked of the store, and of which partition: reading may do where writing does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Read(usize),
    Write(usize),
    /// Entries of all partitions.
    Page,
    /// What a store that has lost something is told.
    Anew,
}

impl Call {
    /// 0 of what is about all of them.
    pub fn partition(self) -> usize {
        match self {
            Self::Read(partition) | Self::Write(partition) => partition,
            Self::Page | Self::Anew => 0,
        }
    }
}

#[derive(Default)]
pub(super) struct Troubles {
    errors: BTreeMap<Call, StoreError>,
    /// How many works of each the store has refused and not taken since: another that passes, as one that frees memory, does not make
    /// them well.
    owed: BTreeMap<Call, usize>,
}

impl Troubles {
    /// Says whether none of the others fails like that: it is news then.
    pub fn failed(&mut self, call: Call, error: StoreError) -> bool {
        let known = self.errors.values().any(|other| other.category() == error.category());
        self.errors.insert(call, error);
        !known
    }

    /// Says whether it had failed.
    pub fn done(&mut self, call: Call) -> bool {
        self.errors.remove(&call).is_some()
    }

    pub fn owed(&mut self, call: Call) {
        *self.owed.entry(call).or_default() += 1;
    }

    /// Works were taken, so many of which had been refused before. Says whether none are owed any more.
    pub fn paid(&mut self, call: Call, refused: usize) -> bool {
        let Some(count) = self.owed.get_mut(&call) else { return true };
        *count -= refused;
        let none = *count == 0;
        if none {
            self.owed.remove(&call);
        }
        none
    }

    /// One of them: what cannot be written comes first.
    pub fn worst(&self) -> Option<&StoreError> {
        let written = self.errors.iter().find(|(call, _)| matches!(call, Call::Write(_) | Call::Anew));
        written.or_else(|| self.errors.first_key_value()).map(|(_, error)| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_that_is_well_does_not_hide_another_that_is_away() {
        let mut troubles = Troubles::default();
        let away = || StoreError::Unavailable("redis-1 does not answer".into());
        assert!(troubles.failed(Call::Read(3), away()));
        assert!(!troubles.failed(Call::Write(3), away()) && !troubles.failed(Call::Page, away()));
        assert!(!troubles.done(Call::Read(4)) && !troubles.done(Call::Write(4)));
        assert_eq!(troubles.worst(), Some(&away()));
        assert!(troubles.failed(Call::Write(5), StoreError::OutOfMemory("redis-2".into())));
        for call in [Call::Read(3), Call::Page, Call::Write(3)] {
            assert!(troubles.done(call));
        }
        assert_eq!(troubles.worst().map(StoreError::category), Some("OutOfMemory"));
        assert!(troubles.done(Call::Write(5)));
        assert_eq!(troubles.worst(), None);
    }

    #[test]
    fn what_cannot_be_written_is_told_before_what_cannot_be_read() {
        let mut troubles = Troubles::default();
        troubles.failed(Call::Read(0), StoreError::Unavailable("redis-1".into()));
        troubles.failed(Call::Write(9), StoreError::OutOfMemory("redis-2".into()));
        assert_eq!(troubles.worst().map(StoreError::category), Some("OutOfMemory"));
    }

    #[test]
    fn works_that_pass_do_not_make_well_what_is_refused_beside_them() {
        let mut troubles = Troubles::default();
        let call = Call::Write(3);
        assert!(troubles.paid(call, 0), "nothing is owed");
        troubles.owed(call);
        troubles.owed(call);
        assert!(!troubles.paid(call, 0) && troubles.paid(Call::Write(4), 0));
        assert!(!troubles.paid(call, 1) && !troubles.paid(call, 0));
        assert!(troubles.paid(call, 1) && troubles.paid(call, 0));
    }
}
