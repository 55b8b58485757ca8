//! Outcomes that the store does not have yet. Each of its partitions has a lane: one that is away holds back no other. Pure: `now`
//! is an argument, in milliseconds of a clock that never goes back.

use crate::{
    model::{EventId, Millis},
    store::{Delivery, Outcome},
};

/// Batches go to the store when so much has gathered in all lanes ..
const BATCH: usize = 512;
/// .. or one when it is this old. One write of many costs the store little more than one write of one; a crash meanwhile repeats these
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
/// What cannot be written down is not to grow without end. Each lane has its share of this; where it is used up, no more attempts
/// are made of events of that partition.
const LIMIT: usize = 16_384;

/// A lane's batch is with the store one at a time; what comes meanwhile makes the next.
pub struct Unstored {
    /// By partition.
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    gathered: Vec<Delivery>,
    sent: Vec<Delivery>,
    /// When the next batch may go, if there is anything for it and they do not come fast.
    due: Option<Millis>,
    /// The store refused the last batch: the next waits for its time, however large it is.
    refused: bool,
}

impl Unstored {
    pub fn new(partitions: usize) -> Self {
        Self { lanes: (0..partitions.max(1)).map(|_| Lane::default()).collect() }
    }

    pub fn push(&mut self, partition: usize, delivery: Delivery, now: Millis) {
        let failed = matches!(delivery.outcome, Outcome::Retry { .. });
        let due = now.plus(if failed { GATHER_FAILED_MS } else { GATHER_MS });
        let lane = &mut self.lanes[partition];
        lane.gathered.push(delivery);
        // A batch that was refused waits for its time.
        lane.due = match lane.due {
            Some(before) if lane.refused => Some(before),
            Some(before) => Some(before.min(due)),
            None => Some(due),
        };
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// Whether what becomes of one more attempt can be kept. Those under way may go beyond the limit.
    pub fn has_room(&self, partition: usize) -> bool {
        self.lanes[partition].len() < LIMIT / self.lanes.len()
    }

    /// How many partitions have no room, of how many.
    pub fn full(&self) -> (usize, usize) {
        (self.lanes.iter().enumerate().filter(|(partition, _)| !self.has_room(*partition)).count(), self.lanes.len())
    }

    /// The store refused a batch, and has not taken it since.
    pub fn is_refused(&self) -> bool {
        self.lanes.iter().any(|lane| lane.refused)
    }

    /// When [`Self::batches`] has something, if only time is missing.
    pub fn next(&self) -> Option<Millis> {
        let gathered = self.gathered();
        self.lanes.iter().filter(|lane| lane.sent.is_empty()).filter_map(|lane| lane.ripe(gathered)).min()
    }

    /// How many wait for nothing but their time.
    fn gathered(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.is_free()).map(|lane| lane.gathered.len()).sum()
    }

    /// The batches to send now, each with its partition; they are with the store until [`Self::stored`] or [`Self::refused`].
    /// `hurry` waits for no more, except where the store has refused.
    pub fn batches(&mut self, now: Millis, hurry: bool) -> Vec<(usize, Vec<Delivery>)> {
        let gathered = self.gathered();
        let batch = |(partition, lane): (usize, &mut Lane)| {
            let ripe = lane.ripe(gathered)? <= now || (lane.is_free() && (gathered >= BATCH || hurry));
            (ripe && lane.sent.is_empty()).then(|| (partition, lane.send()))
        };
        self.lanes.iter_mut().enumerate().filter_map(batch).collect()
    }

    pub fn stored(&mut self, partition: usize) {
        let lane = &mut self.lanes[partition];
        lane.refused = false;
        lane.sent = Vec::new();
    }

    /// The batch is to be sent again, before anything newer.
    pub fn refused(&mut self, partition: usize, now: Millis) {
        let lane = &mut self.lanes[partition];
        let newer = std::mem::replace(&mut lane.gathered, std::mem::take(&mut lane.sent));
        lane.gathered.extend(newer);
        lane.due = Some(now.plus(AGAIN_MS));
        lane.refused = true;
    }

    pub fn ids(&self) -> impl Iterator<Item = &EventId> {
        self.lanes.iter().flat_map(|lane| lane.gathered.iter().chain(&lane.sent)).map(|delivery| &delivery.id)
    }
}

impl Lane {
    fn len(&self) -> usize {
        self.gathered.len() + self.sent.len()
    }

    fn is_free(&self) -> bool {
        self.sent.is_empty() && !self.refused
    }

    /// When its batch may go, where so many of all lanes have gathered.
    fn ripe(&self, gathered: usize) -> Option<Millis> {
        let busy = gathered >= BUSY && !self.refused;
        self.due.map(|due| due.plus(if busy { GATHER_BUSY_MS - GATHER_MS } else { 0 }))
    }

    fn send(&mut self) -> Vec<Delivery> {
        self.due = None;
        self.sent = std::mem::take(&mut self.gathered);
        self.sent.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(id: &str) -> Delivery {
        Delivery { id: id.into(), key: id.into(), deadline: Millis(0), outcome: Outcome::Delivered { at: Millis(0) } }
    }

    type Batches = Vec<(usize, Vec<Delivery>)>;

    /// The ids of the batch of the one lane there is.
    fn ids(mut batches: Batches) -> Vec<String> {
        let batch = batches.pop().unwrap_or_default().1;
        assert!(batches.is_empty());
        batch.iter().map(|delivery| delivery.id.as_str().to_owned()).collect()
    }

    fn one_lane() -> Unstored {
        Unstored::new(1)
    }

    #[test]
    fn outcomes_gather_for_a_moment_and_go_together() {
        let mut unstored = one_lane();
        unstored.push(0, delivered("a"), Millis(0));
        unstored.push(0, delivered("b"), Millis(3));
        assert_eq!(unstored.next(), Some(Millis(GATHER_MS)));
        assert_eq!(unstored.batches(Millis(GATHER_MS - 1), false), []);
        assert_eq!(ids(unstored.batches(Millis(GATHER_MS), false)), ["a", "b"]);
        unstored.push(0, delivered("c"), Millis(9));
        assert_eq!(unstored.batches(Millis(99), true), [], "one batch at a time");
        assert_eq!(unstored.ids().count(), 3);
        unstored.stored(0);
        assert_eq!(ids(unstored.batches(Millis(99), false)), ["c"]);
        unstored.stored(0);
        assert!(unstored.is_empty());
    }

    #[test]
    fn failed_attempts_gather_for_longer_unless_a_delivered_one_follows() {
        let outcome = Outcome::Retry { attempts: 1, first_attempt: Millis(0), not_before: Millis(9) };
        let mut unstored = one_lane();
        unstored.push(0, Delivery { outcome, ..delivered("a") }, Millis(0));
        assert_eq!(unstored.next(), Some(Millis(GATHER_FAILED_MS)));
        unstored.push(0, delivered("b"), Millis(7));
        assert_eq!(unstored.next(), Some(Millis(7 + GATHER_MS)));
    }

    #[test]
    fn outcomes_that_come_fast_gather_for_longer() {
        let mut unstored = Unstored::new(2);
        (0..BUSY).for_each(|number| unstored.push(number % 2, delivered("a"), Millis(0)));
        assert_eq!(
            (unstored.next(), unstored.batches(Millis(GATHER_MS), false)),
            (Some(Millis(GATHER_BUSY_MS)), vec![])
        );
        let batches = unstored.batches(Millis(GATHER_BUSY_MS), false);
        assert_eq!(
            batches.iter().map(|(lane, batch)| (*lane, batch.len())).collect::<Vec<_>>(),
            [(0, BUSY / 2), (1, BUSY / 2)]
        );
    }

    #[test]
    fn a_full_batch_waits_for_nothing() {
        let mut unstored = one_lane();
        (0..BATCH).for_each(|_| unstored.push(0, delivered("a"), Millis(0)));
        assert_eq!(ids(unstored.batches(Millis(0), false)).len(), BATCH);
    }

    #[test]
    fn a_refused_batch_goes_again_in_order_and_not_at_once() {
        let mut unstored = one_lane();
        unstored.push(0, delivered("a"), Millis(0));
        assert_eq!(unstored.batches(Millis(10), false).len(), 1);
        unstored.push(0, delivered("b"), Millis(11));
        unstored.refused(0, Millis(20));
        assert_eq!(unstored.next(), Some(Millis(20 + AGAIN_MS)));
        assert_eq!(unstored.batches(Millis(20), true), []);
        assert_eq!(ids(unstored.batches(Millis(20 + AGAIN_MS), false)), ["a", "b"]);
    }

    #[test]
    fn what_the_store_does_not_take_stops_attempts_at_the_limit() {
        let mut unstored = one_lane();
        (0..LIMIT - 1).for_each(|_| unstored.push(0, delivered("a"), Millis(0)));
        assert_eq!(unstored.full(), (0, 1));
        assert_eq!(unstored.batches(Millis(0), true).len(), 1);
        unstored.push(0, delivered("b"), Millis(0));
        assert_eq!(unstored.full(), (1, 1));
    }

    #[test]
    fn a_partition_that_is_away_holds_back_no_other() {
        let mut unstored = Unstored::new(2);
        unstored.push(1, delivered("away"), Millis(0));
        assert_eq!(unstored.batches(Millis(GATHER_MS), false).len(), 1);
        // It does not answer, and what gathers behind it makes nobody wait.
        (0..LIMIT / 2).for_each(|_| unstored.push(1, delivered("away"), Millis(6)));
        assert_eq!((unstored.has_room(0), unstored.has_room(1), unstored.full()), (true, false, (1, 2)));
        unstored.push(0, delivered("a"), Millis(10));
        assert_eq!(unstored.next(), Some(Millis(10 + GATHER_MS)));
        assert_eq!(ids(unstored.batches(Millis(10 + GATHER_MS), false)), ["a"]);
        unstored.stored(0);
        unstored.refused(1, Millis(20));
        unstored.push(0, delivered("b"), Millis(30));
        assert_eq!(
            ids(unstored.batches(Millis(30 + GATHER_MS), false)),
            ["b"],
            "the refused one waits for its own time"
        );
        assert_eq!(unstored.len(), 1 + LIMIT / 2 + 1);
    }
}
