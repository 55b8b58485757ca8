//! What is to be attempted next. Pure: `now` is an argument, in milliseconds of a clock that never goes back.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    mem,
};

use crate::model::{Event, EventId, Millis};

/// An event that waits for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub event: Event,
    /// Attempts that failed.
    pub attempts: u32,
    /// When the first of them was made, by our clock; `None` for a first attempt.
    pub first_attempt: Option<Millis>,
}

impl Waiting {
    pub fn fresh(event: Event) -> Self {
        Self { event, attempts: 0, first_attempt: None }
    }
}

/// How many events are held in memory; the rest lies in the outbox and is read back.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub fresh: usize,
    pub retries: usize,
}

/// What the driver should read back from the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// First attempts, at most so many.
    Fresh(usize),
    /// Whatever is not held, at most so much: there are no first attempts left but those held.
    Any(usize),
}

/// Events by when they may be attempted.
///
/// # Guarantees
/// - First attempts are made in the order in which they came, and go ahead of retries.
/// - Retries have at most three quarters of the places, so that first attempts always find one free soon.
/// - An id is held or under way at most once.
/// - Retries and first attempts have room of their own: no backlog of the one keeps out the other.
/// - What is parked is out of both. While half of the first attempts' room is parked, no more is read back; while all of it is, what
///   comes waits in the outbox.
pub struct Queue {
    capacity: Capacity,
    fresh: VecDeque<Waiting>,
    /// By when they are due; the number tells apart what is due at once.
    retries: BTreeMap<(Millis, u64), Waiting>,
    number: u64,
    /// What nothing can be written down of: by the store's partition, in the order in which it came.
    parked: BTreeMap<usize, VecDeque<Waiting>>,
    /// The ids of all that is held or under way.
    known: HashSet<EventId>,
    /// While the outbox is being read: the ids that left `known` since, which the answer may still name.
    left: Option<HashSet<EventId>>,
    /// The outbox may hold first attempts, or retries, that are not held here.
    more_fresh: bool,
    more_retries: bool,
    /// First attempts are known to wait in the outbox, so what comes now has to wait behind them.
    behind: bool,
}

impl Queue {
    /// Empty, and not knowing what lies in the outbox.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            fresh: VecDeque::new(),
            retries: BTreeMap::new(),
            number: 0,
            parked: BTreeMap::new(),
            known: HashSet::new(),
            left: None,
            more_fresh: true,
            more_retries: true,
            behind: false,
        }
    }

    /// Events that were settled just now.
    pub fn offer(&mut self, events: impl IntoIterator<Item = Event>) {
        let parked = self.parked();
        for event in events {
            if self.behind || self.fresh.len() + parked >= self.capacity.fresh {
                self.behind = true;
                self.more_fresh = true;
            } else if self.known.insert(event.id.clone()) {
                self.fresh.push_back(Waiting::fresh(event));
            }
        }
    }

    /// The outbox has changed: look again.
    pub fn look_again(&mut self) {
        self.more_fresh = true;
        self.more_retries = true;
    }

    /// Takes what is to be attempted now. It counts as under way until [`Self::finished`], [`Self::retry`] or
    /// [`Self::put_back`].
    pub fn next(&mut self, now: Millis, retries_under_way: usize, places: usize) -> Option<Waiting> {
        if let Some(waiting) = self.fresh.pop_front() {
            if self.fresh.is_empty() {
                // A burst's room is given back.
                self.fresh.shrink_to(1024);
            }
            return Some(waiting);
        }
        if retries_under_way >= (places - places / 4).max(1) {
            return None;
        }
        let first = self.retries.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next retry held is due; `None` if there is none.
    pub fn next_due(&self) -> Option<Millis> {
        self.retries.first_key_value().map(|((due, _), _)| *due)
    }

    /// What was under way has left the outbox.
    pub fn finished(&mut self, id: &EventId) {
        if self.known.remove(id)
            && let Some(left) = &mut self.left
        {
            left.insert(id.clone());
        }
    }

    /// What was under way is to be tried again. Where there is no room, what is due last waits in the outbox.
    pub fn retry(&mut self, waiting: Waiting, due: Millis) {
        self.number += 1;
        self.retries.insert((due, self.number), waiting);
        if self.retries.len() > self.capacity.retries
            && let Some((_, last)) = self.retries.pop_last()
        {
            self.finished(&last.event.id);
            self.more_retries = true;
        }
    }

    /// What was under way was not really attempted: it goes where it came from.
    pub fn put_back(&mut self, waiting: Waiting, now: Millis) {
        if waiting.attempts == 0 {
            self.fresh.push_front(waiting);
        } else {
            self.retry(waiting, now);
        }
    }

    /// What was under way was not attempted, and waits for its partition.
    pub fn park(&mut self, partition: usize, waiting: Waiting) {
        self.parked.entry(partition).or_default().push_back(waiting);
    }

    /// The partition's events go on, ahead of those that came later.
    pub fn unpark(&mut self, partition: usize, now: Millis) {
        let Some(parked) = self.parked.remove(&partition) else { return };
        let later = mem::take(&mut self.fresh);
        for waiting in parked {
            if waiting.attempts == 0 {
                self.fresh.push_back(waiting);
            } else {
                self.retry(waiting, now);
            }
        }
        self.fresh.extend(later);
    }

    fn parked(&self) -> usize {
        self.parked.values().map(VecDeque::len).sum()
    }

    /// Whether the outbox should be read, and for what. From an answer `yes` on, [`Self::read`] or
    /// [`Self::read_failed`] must follow before it is asked again. A half must be free first, since each reading has to
    /// name all that is held.
    pub fn start_reading(&mut self) -> Option<ReadBack> {
        if self.left.is_some() || self.parked() > self.capacity.fresh / 2 {
            return None;
        }
        let room = |held: usize, capacity: usize| (held <= capacity / 2).then(|| capacity - held);
        let what = if self.more_fresh {
            let asked = ReadBack::Fresh(room(self.fresh.len(), self.capacity.fresh)?);
            self.more_fresh = false;
            asked
        } else if self.more_retries {
            let asked = ReadBack::Any(room(self.retries.len(), self.capacity.retries)?);
            self.more_retries = false;
            asked
        } else {
            return None;
        };
        self.left = Some(HashSet::new());
        Some(what)
    }

    /// All that is held or under way: what a reading must leave out.
    pub fn known(&self) -> impl Iterator<Item = &EventId> {
        self.known.iter()
    }

    /// The answer to [`Self::start_reading`], each with when it is due.
    pub fn read(&mut self, asked: ReadBack, found: Vec<(Waiting, Millis)>) {
        let left = self.left.take().unwrap_or_default();
        let (ReadBack::Fresh(limit) | ReadBack::Any(limit)) = asked;
        match asked {
            ReadBack::Fresh(_) if found.len() >= limit => self.more_fresh = true,
            // Unless more was left out meanwhile, that was all.
            ReadBack::Fresh(_) => self.behind &= self.more_fresh,
            ReadBack::Any(_) => self.more_retries |= found.len() >= limit,
        }
        for (waiting, due) in found {
            if left.contains(&waiting.event.id) || self.known.contains(&waiting.event.id) {
                continue;
            }
            if waiting.attempts > 0 {
                self.known.insert(waiting.event.id.clone());
                self.retry(waiting, due);
            } else if self.fresh.len() < self.capacity.fresh {
                self.known.insert(waiting.event.id.clone());
                self.fresh.push_back(waiting);
            } else {
                self.more_fresh = true;
            }
        }
    }

    /// The reading came to nothing: it is to be asked again.
    pub fn read_failed(&mut self, asked: ReadBack) {
        self.left = None;
        match asked {
            ReadBack::Fresh(_) => self.more_fresh = true,
            ReadBack::Any(_) => self.more_retries = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Evidence;

    const SMALL: Capacity = Capacity { fresh: 4, retries: 4 };

    fn event(id: &str) -> Event {
        Event {
            id: id.into(),
            key: id.into(),
            deadline: Millis(0),
            evidence: Evidence::Witnessed,
            settled_at: Millis(0),
        }
    }

    fn failed(id: &str) -> Waiting {
        Waiting { event: event(id), attempts: 1, first_attempt: Some(Millis(0)) }
    }

    /// A queue that has read the whole of an empty outbox.
    fn queue(capacity: Capacity) -> Queue {
        let mut queue = Queue::new(capacity);
        while let Some(asked) = queue.start_reading() {
            queue.read(asked, Vec::new());
        }
        queue
    }

    fn take(queue: &mut Queue, now: i64) -> Option<String> {
        queue.next(Millis(now), 0, 64).map(|waiting| waiting.event.id.as_str().to_owned())
    }

    fn fill_with_retries(queue: &mut Queue, ids: &[(&str, i64)]) {
        queue.look_again();
        let found = ids.iter().map(|(id, due)| (failed(id), Millis(*due))).collect();
        queue.more_fresh = false;
        let asked = queue.start_reading().unwrap();
        queue.read(asked, found);
        queue.more_retries = false;
    }

    #[test]
    fn first_attempts_go_in_order_and_ahead_of_retries() {
        let mut queue = queue(SMALL);
        fill_with_retries(&mut queue, &[("r2", 2), ("r1", 1)]);
        queue.offer([event("a"), event("b")]);
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 5)).collect();
        assert_eq!(taken, ["a", "b", "r1", "r2"]);
    }

    #[test]
    fn a_retry_waits_for_its_time() {
        let mut queue = queue(SMALL);
        queue.offer([event("a")]);
        let waiting = queue.next(Millis(0), 0, 64).unwrap();
        queue.retry(waiting, Millis(10));
        assert_eq!(queue.next_due(), Some(Millis(10)));
        assert_eq!(take(&mut queue, 9), None);
        assert_eq!(take(&mut queue, 10).as_deref(), Some("a"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn retries_leave_a_quarter_of_the_places_to_first_attempts() {
        let mut queue = queue(SMALL);
        fill_with_retries(&mut queue, &[("r1", 1), ("r2", 1)]);
        assert!(queue.next(Millis(5), 48, 64).is_none(), "three quarters are taken");
        queue.offer([event("a")]);
        assert!(queue.next(Millis(5), 48, 64).is_some_and(|waiting| waiting.attempts == 0));
        assert!(queue.next(Millis(5), 47, 64).is_some_and(|waiting| waiting.attempts == 1));
        assert!(queue.next(Millis(5), 0, 1).is_some(), "the only place is for retries too");
    }

    #[test]
    fn an_id_is_held_or_under_way_once() {
        let mut queue = queue(SMALL);
        queue.offer([event("a"), event("a")]);
        assert_eq!(take(&mut queue, 0).as_deref(), Some("a"));
        queue.offer([event("a")]);
        assert_eq!(take(&mut queue, 0), None, "it is under way");
        queue.finished(&"a".into());
        queue.offer([event("a")]);
        assert_eq!(take(&mut queue, 0).as_deref(), Some("a"), "it was delivered, and expired again");
    }

    #[test]
    fn what_does_not_fit_is_read_back_when_half_is_free() {
        let mut queue = queue(SMALL);
        queue.offer(["a", "b", "c", "d", "e", "f"].map(event));
        assert_eq!(queue.start_reading(), None, "there is no room yet");
        take(&mut queue, 0);
        assert_eq!(queue.start_reading(), None, "naming all that is held would cost more than it brings");
        take(&mut queue, 0);
        assert_eq!(queue.start_reading(), Some(ReadBack::Fresh(2)));
        assert_eq!(queue.start_reading(), None, "one reading at a time");
        queue.read(
            ReadBack::Fresh(2),
            vec![(Waiting::fresh(event("e")), Millis(0)), (Waiting::fresh(event("f")), Millis(0))],
        );
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 0)).collect();
        assert_eq!(taken, ["c", "d", "e", "f"]);
        assert_eq!(
            queue.start_reading(),
            Some(ReadBack::Fresh(4)),
            "as many came as were asked for: there may be more"
        );
        queue.read(ReadBack::Fresh(4), Vec::new());
        assert_eq!(queue.start_reading(), None);
    }

    #[test]
    fn what_comes_while_others_wait_in_the_outbox_waits_behind_them() {
        let mut queue = queue(SMALL);
        queue.offer(["a", "b", "c", "d", "e"].map(event));
        take(&mut queue, 0);
        queue.offer([event("f")]);
        take(&mut queue, 0);
        let asked = queue.start_reading().unwrap();
        queue.offer([event("g")]);
        queue.read(asked, vec![(Waiting::fresh(event("e")), Millis(0))]);
        queue.offer([event("h")]);
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 0)).collect();
        assert_eq!(taken, ["c", "d", "e"], "f, g and h come back from the outbox in their order");
        let asked = queue.start_reading().unwrap();
        queue.read(asked, ["f", "g", "h"].map(|id| (Waiting::fresh(event(id)), Millis(0))).to_vec());
        queue.offer([event("i")]);
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 0)).collect();
        assert_eq!(taken, ["f", "g", "h", "i"]);
    }

    #[test]
    fn a_backlog_of_retries_keeps_no_first_attempt_out() {
        let mut queue = queue(SMALL);
        fill_with_retries(&mut queue, &[("r1", 1), ("r2", 1), ("r3", 1), ("r4", 1)]);
        queue.look_again();
        assert_eq!(queue.start_reading(), Some(ReadBack::Fresh(4)));
        queue.read(ReadBack::Fresh(4), vec![(Waiting::fresh(event("a")), Millis(0))]);
        assert_eq!(queue.start_reading(), None, "no room for more retries");
        assert_eq!(take(&mut queue, 5).as_deref(), Some("a"));
    }

    #[test]
    fn the_retry_due_last_gives_way_to_one_due_sooner() {
        let mut queue = queue(SMALL);
        fill_with_retries(&mut queue, &[("r1", 100), ("r2", 200), ("r3", 300), ("late", 400)]);
        queue.offer([event("a")]);
        let waiting = queue.next(Millis(0), 0, 64).unwrap();
        queue.retry(waiting, Millis(50));
        assert!(!queue.known().any(|id| id.as_str() == "late"), "it waits in the outbox");
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 500)).collect();
        assert_eq!(taken, ["a", "r1", "r2", "r3"]);
        assert_eq!(queue.start_reading(), Some(ReadBack::Any(4)));
    }

    #[test]
    fn what_was_delivered_while_the_outbox_was_read_is_not_sent_again() {
        let mut queue = queue(SMALL);
        queue.offer([event("a")]);
        take(&mut queue, 0);
        queue.look_again();
        let asked = queue.start_reading().unwrap();
        queue.finished(&"a".into());
        queue.read(asked, vec![(Waiting::fresh(event("a")), Millis(0)), (Waiting::fresh(event("b")), Millis(0))]);
        assert_eq!(take(&mut queue, 0).as_deref(), Some("b"));
        assert_eq!(take(&mut queue, 0), None);
    }

    #[test]
    fn a_reading_that_failed_is_repeated() {
        let mut queue = queue(SMALL);
        queue.look_again();
        let asked = queue.start_reading().unwrap();
        queue.read_failed(asked);
        assert_eq!(queue.start_reading(), Some(asked));
    }

    #[test]
    fn what_was_parked_goes_on_ahead_of_what_came_later() {
        let mut queue = queue(SMALL);
        queue.offer(["a", "b"].map(event));
        fill_with_retries(&mut queue, &[("r1", 1)]);
        for _ in ["a", "b", "r1"] {
            let waiting = queue.next(Millis(5), 0, 64).unwrap();
            queue.park(usize::from(waiting.event.id.as_str() == "b"), waiting);
        }
        queue.offer(["d", "a"].map(event));
        queue.unpark(0, Millis(5));
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut queue, 5)).collect();
        assert_eq!(taken, ["a", "d", "r1"], "a was known, and b waits for its own partition");
        queue.unpark(1, Millis(5));
        assert_eq!(take(&mut queue, 5).as_deref(), Some("b"));
    }

    #[test]
    fn while_much_is_parked_no_more_is_read() {
        let mut queue = queue(SMALL);
        queue.offer(["a", "b", "c"].map(event));
        for _ in 0..3 {
            let waiting = queue.next(Millis(0), 0, 64).unwrap();
            queue.park(7, waiting);
        }
        queue.look_again();
        assert_eq!(queue.start_reading(), None);
        queue.offer([event("d")]);
        assert_eq!(take(&mut queue, 0).as_deref(), Some("d"), "others go on");
        queue.unpark(7, Millis(0));
        take(&mut queue, 0);
        assert_eq!(queue.start_reading(), Some(ReadBack::Fresh(2)));
    }

    #[test]
    fn what_was_not_really_attempted_is_first_again() {
        let mut queue = queue(SMALL);
        queue.offer([event("a"), event("b")]);
        let waiting = queue.next(Millis(0), 0, 64).unwrap();
        queue.put_back(waiting, Millis(0));
        assert_eq!(take(&mut queue, 0).as_deref(), Some("a"));
    }
}
