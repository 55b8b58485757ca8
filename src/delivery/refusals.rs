//! How often the receiver refused which event, so that it takes three refusals over ten minutes to park one. Pure.

use std::collections::HashMap;

use crate::model::{EventId, Millis};

/// What is remembered at most. An event beyond that starts anew with each refusal: it is parked by its deadline, or once
/// there is room, but not on too little.
const CAPACITY: usize = 65_536;

/// The refusals of one event, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub times: u32,
    pub since: Millis,
}

/// Kept in memory and not in the store: after a restart an event is refused three times more, which loses nothing. The
/// store's count of attempts will not do, since it counts an outage's failures too: a receiver that comes back with a bad
/// deploy would have the whole backlog parked at its first answers.
#[derive(Default)]
pub struct Refusals {
    known: HashMap<EventId, Refused>,
}

impl Refusals {
    /// Takes down one more refusal.
    pub fn count(&mut self, id: &EventId, now: Millis) -> Refused {
        if let Some(refused) = self.known.get_mut(id) {
            refused.times = refused.times.saturating_add(1);
            return *refused;
        }
        let first = Refused { times: 1, since: now };
        if self.known.len() < CAPACITY {
            self.known.insert(id.clone(), first);
        }
        first
    }

    /// The event is out of the outbox.
    pub fn forget(&mut self, id: &EventId) {
        // Nearly always empty, and this is called for each event.
        if !self.known.is_empty() {
            self.known.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_add_up_until_the_event_is_gone() {
        let mut refusals = Refusals::default();
        let (a, b) = (EventId::from("evt_a"), EventId::from("evt_b"));
        assert_eq!(refusals.count(&a, Millis(1)), Refused { times: 1, since: Millis(1) });
        assert_eq!(refusals.count(&a, Millis(5)), Refused { times: 2, since: Millis(1) });
        assert_eq!(refusals.count(&b, Millis(6)), Refused { times: 1, since: Millis(6) });
        refusals.forget(&a);
        assert_eq!(refusals.count(&a, Millis(9)), Refused { times: 1, since: Millis(9) });
    }

    #[test]
    fn what_does_not_fit_starts_anew_each_time() {
        let mut refusals = Refusals::default();
        for number in 0..CAPACITY {
            refusals.count(&EventId::from(number.to_string().as_str()), Millis(0));
        }
        let late = EventId::from("late");
        refusals.count(&late, Millis(1));
        assert_eq!(refusals.count(&late, Millis(2)), Refused { times: 1, since: Millis(2) });
        assert_eq!(refusals.known.len(), CAPACITY);
    }
}
