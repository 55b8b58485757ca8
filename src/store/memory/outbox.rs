//! The outbox and the dead letters.

use std::{collections::HashSet, ops::Bound};

use super::state::{Place, State};
use crate::{
    model::{Event, EventId, Millis},
    store::{DeadLetter, Delivery, Outcome, Pending, Selection},
};

/// Where an event comes among those that are pending.
fn rank(pending: &Pending, place: Place) -> (bool, Millis, Place) {
    if pending.attempts > 0 { (true, pending.not_before, place) } else { (false, pending.event.settled_at, place) }
}

impl State {
    /// Appends an event, unless its id is in the outbox or among the dead letters.
    pub fn append(&mut self, event: Event) {
        if self.places.contains_key(&event.id) || self.parked_at.contains_key(&event.id) {
            return;
        }
        let place = self.outbox.last_key_value().map_or(0, |(last, _)| last + 1);
        self.insert(place, Pending { event, attempts: 0, first_attempt: None, not_before: Millis(0) });
    }

    fn insert(&mut self, place: Place, pending: Pending) {
        self.order.insert(rank(&pending, place));
        self.soonest.insert((pending.not_before, place));
        self.oldest.insert((pending.event.settled_at, place));
        self.places.insert(pending.event.id.clone(), place);
        self.outbox.insert(place, pending);
    }

    fn take(&mut self, id: &EventId) -> Option<(Place, Pending)> {
        let place = self.places.remove(id)?;
        let pending = self.outbox.remove(&place)?;
        self.order.remove(&rank(&pending, place));
        self.soonest.remove(&(pending.not_before, place));
        self.oldest.remove(&(pending.event.settled_at, place));
        Some((place, pending))
    }

    pub fn pending(&self, ready: Millis, but: &[EventId], limit: usize) -> Vec<Pending> {
        let but: HashSet<&EventId> = but.iter().collect();
        let ordered = self.order.iter().filter_map(|(_, _, place)| self.outbox.get(place));
        ordered
            // Those tried come by `not_before`: behind the first that is too early, all are.
            .take_while(|pending| pending.attempts == 0 || pending.not_before <= ready)
            .filter(|pending| pending.not_before <= ready && !but.contains(&pending.event.id))
            .take(limit)
            .cloned()
            .collect()
    }

    pub fn next_pending(&self, but: &[EventId]) -> Option<Millis> {
        let but: HashSet<&EventId> = but.iter().collect();
        let mut free = self
            .soonest
            .iter()
            .filter(|(_, place)| self.outbox.get(place).is_some_and(|pending| !but.contains(&pending.event.id)));
        free.next().map(|(not_before, _)| *not_before)
    }

    pub fn delivered(&mut self, Delivery { id, outcome, .. }: Delivery) {
        match outcome {
            Outcome::Delivered { at } => {
                if self.take(&id).is_some() {
                    self.last_delivered = self.last_delivered.max(Some(at));
                }
            }
            Outcome::Retry { attempts, first_attempt, not_before } => {
                if let Some((place, pending)) = self.take(&id) {
                    let first_attempt = Some(first_attempt);
                    self.insert(place, Pending { attempts, first_attempt, not_before, ..pending });
                }
            }
            Outcome::DeadLetter { attempts, reason, at } => {
                if let Some((_, Pending { event, .. })) = self.take(&id) {
                    self.parked_at.insert(id.clone(), at);
                    self.parked.insert((at, id), DeadLetter { event, attempts, reason, at });
                }
            }
        }
    }

    pub fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Vec<DeadLetter> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.parked.range((from, Bound::Unbounded)).take(limit).map(|(_, letter)| letter.clone()).collect()
    }

    pub fn replay(&mut self, which: Selection) -> u64 {
        let letters = self.take_parked(which);
        let count = letters.len() as u64;
        for letter in letters {
            self.append(letter.event);
        }
        count
    }

    /// Removes dead letters: all by when they were parked, or those named in the order given.
    pub fn take_parked(&mut self, which: Selection) -> Vec<DeadLetter> {
        match which {
            Selection::All => {
                self.parked_at.clear();
                std::mem::take(&mut self.parked).into_values().collect()
            }
            Selection::Ids(ids) => ids
                .into_iter()
                .filter_map(|id| {
                    let at = self.parked_at.remove(&id)?;
                    self.parked.remove(&(at, id))
                })
                .collect(),
        }
    }
}
