//! Outcomes that the store does not have yet. Pure: `now` is an argument, in milliseconds of a clock that never goes back.

use crate::{
    model::{EventId, Millis},
    store,
};

/// A batch goes to the store when it is this large ..
const BATCH: usize = 512;
/// .. or this old. One write of many costs the store little more than one write of one; a crash meanwhile repeats these
/// deliveries, with the same ids.
const GATHER_MS: i64 = 5;
/// Where so many have gathered by then, they come fast: it waits for [`BATCH`] of them, but no longer than this.
const BUSY: usize = 32;
const GATHER_BUSY_MS: i64 = 30;
/// Failed attempts gather for longer: a crash before they are stored makes the next attempt come early, and that is all. A
/// receiver that is down makes many of them, and the disk is needed for what expires meanwhile.
const GATHER_FAILED_MS: i64 = 50;
/// After the store refused a batch.
const AGAIN_MS: i64 = 500;
/// At this many no more attempts are made: what cannot be written down is not to grow without end.
const LIMIT: usize = 16_384;

/// One batch is with the store at a time; what comes meanwhile makes the next.
#[derive(Default)]
pub struct Unstored {
    gathered: Vec<store::Delivery>,
    sent: Vec<store::Delivery>,
    /// When the next batch may go, if there is anything for it and it does not come fast.
    due: Option<Millis>,
    /// The store refused the last batch: the next waits for its time, however large it is.
    refused: bool,
}

impl Unstored {
    pub fn push(&mut self, outcome: store::Delivery, now: Millis) {
        let failed = matches!(outcome, store::Delivery::Retry { .. });
        let due = now.plus(if failed { GATHER_FAILED_MS } else { GATHER_MS });
        self.gathered.push(outcome);
        // A batch that was refused waits for its time.
        self.due = match self.due {
            Some(before) if self.refused => Some(before),
            Some(before) => Some(before.min(due)),
            None => Some(due),
        };
    }

    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.sent.is_empty()
    }

    pub fn len(&self) -> usize {
        self.gathered.len() + self.sent.len()
    }

    /// How many more attempts may be under way.
    pub fn room(&self) -> usize {
        LIMIT.saturating_sub(self.len())
    }

    /// When [`Self::batch`] has something, if only time is missing.
    pub fn next(&self) -> Option<Millis> {
        self.ripe().filter(|_| self.sent.is_empty())
    }

    fn ripe(&self) -> Option<Millis> {
        let busy = self.gathered.len() >= BUSY && !self.refused;
        self.due.map(|due| due.plus(if busy { GATHER_BUSY_MS - GATHER_MS } else { 0 }))
    }

    /// The batch to send now; it is with the store until [`Self::stored`] or [`Self::refused`]. `hurry` waits for no more.
    pub fn batch(&mut self, now: Millis, hurry: bool) -> Option<Vec<store::Delivery>> {
        let due = self.ripe()? <= now || (self.gathered.len() >= BATCH && !self.refused) || hurry;
        if !due || !self.sent.is_empty() {
            return None;
        }
        self.due = None;
        self.sent = std::mem::take(&mut self.gathered);
        Some(self.sent.clone())
    }

    pub fn stored(&mut self) {
        self.refused = false;
        self.sent.clear();
        // What a burst needed is given back.
        self.sent.shrink_to(BATCH);
    }

    /// The batch is to be sent again, before anything newer.
    pub fn refused(&mut self, now: Millis) {
        let newer = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.sent));
        self.gathered.extend(newer);
        self.due = Some(now.plus(AGAIN_MS));
        self.refused = true;
    }

    pub fn ids(&self) -> impl Iterator<Item = &EventId> {
        self.gathered.iter().chain(&self.sent).map(|outcome| match outcome {
            store::Delivery::Delivered { id, .. }
            | store::Delivery::Retry { id, .. }
            | store::Delivery::DeadLetter { id, .. } => id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(id: &str) -> store::Delivery {
        store::Delivery::Delivered { id: id.into(), at: Millis(0) }
    }

    fn ids(batch: Option<Vec<store::Delivery>>) -> Vec<String> {
        let mut unstored = Unstored { gathered: batch.unwrap_or_default(), ..Unstored::default() };
        let ids = unstored.ids().map(|id| id.as_str().to_owned()).collect();
        unstored.stored();
        ids
    }

    #[test]
    fn outcomes_gather_for_a_moment_and_go_together() {
        let mut unstored = Unstored::default();
        unstored.push(delivered("a"), Millis(0));
        unstored.push(delivered("b"), Millis(3));
        assert_eq!(unstored.next(), Some(Millis(GATHER_MS)));
        assert_eq!(unstored.batch(Millis(GATHER_MS - 1), false), None);
        assert_eq!(ids(unstored.batch(Millis(GATHER_MS), false)), ["a", "b"]);
        unstored.push(delivered("c"), Millis(9));
        assert_eq!(unstored.batch(Millis(99), true), None, "one batch at a time");
        assert_eq!(unstored.ids().count(), 3);
        unstored.stored();
        assert_eq!(ids(unstored.batch(Millis(99), false)), ["c"]);
        unstored.stored();
        assert!(unstored.is_empty());
    }

    #[test]
    fn failed_attempts_gather_for_longer_unless_a_delivered_one_follows() {
        let retry = |id: &str| store::Delivery::Retry {
            id: id.into(),
            attempts: 1,
            first_attempt: Millis(0),
            not_before: Millis(9),
        };
        let mut unstored = Unstored::default();
        unstored.push(retry("a"), Millis(0));
        assert_eq!(unstored.next(), Some(Millis(GATHER_FAILED_MS)));
        unstored.push(delivered("b"), Millis(7));
        assert_eq!(unstored.next(), Some(Millis(7 + GATHER_MS)));
    }

    #[test]
    fn outcomes_that_come_fast_gather_for_longer() {
        let mut unstored = Unstored::default();
        (0..BUSY).for_each(|_| unstored.push(delivered("a"), Millis(0)));
        assert_eq!((unstored.next(), unstored.batch(Millis(GATHER_MS), false)), (Some(Millis(GATHER_BUSY_MS)), None));
        assert_eq!(ids(unstored.batch(Millis(GATHER_BUSY_MS), false)).len(), BUSY);
    }

    #[test]
    fn a_full_batch_waits_for_nothing() {
        let mut unstored = Unstored::default();
        (0..BATCH).for_each(|_| unstored.push(delivered("a"), Millis(0)));
        assert_eq!(ids(unstored.batch(Millis(0), false)).len(), BATCH);
    }

    #[test]
    fn a_refused_batch_goes_again_in_order_and_not_at_once() {
        let mut unstored = Unstored::default();
        unstored.push(delivered("a"), Millis(0));
        unstored.batch(Millis(10), false).unwrap();
        unstored.push(delivered("b"), Millis(11));
        unstored.refused(Millis(20));
        assert_eq!(unstored.next(), Some(Millis(20 + AGAIN_MS)));
        assert_eq!(unstored.batch(Millis(20), false), None);
        assert_eq!(ids(unstored.batch(Millis(20 + AGAIN_MS), false)), ["a", "b"]);
    }

    #[test]
    fn what_the_store_does_not_take_stops_attempts_at_the_limit() {
        let mut unstored = Unstored::default();
        (0..LIMIT - 1).for_each(|_| unstored.push(delivered("a"), Millis(0)));
        assert_eq!(unstored.room(), 1);
        unstored.batch(Millis(0), true).unwrap();
        unstored.push(delivered("b"), Millis(0));
        assert_eq!(unstored.room(), 0);
    }
}
