//! What a look means: DESIGN section 2's procedure, line by line. Pure.
//!
//! It was run against a model of Redis and its faults before it was written here; change it only with a simulation that
//! agrees (`tests/simulation.rs`).

use smallvec::SmallVec;

use crate::{
    deployment::{Answer, Heard, Look, Sort},
    model::{Deadline, Event, EventId, Evidence, Key, ListenerId, Millis, SAME_DEADLINE_MS, same_deadline},
    plan::Inferred,
    store::{Change, Epoch, Known, Memory, Seen},
};

/// Why a key is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A hint, a deadline, a periodic scan.
    Ordinary,
    /// A resync: we may have missed pushes, the data is the same.
    AfterGap,
    /// A resync: the data may have gone back or away.
    AfterLoss,
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Ordinary, Self::AfterGap, Self::AfterLoss];
}

/// When to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    No,
    /// At this deadline + 1 ms, by the owner's clock.
    At(Deadline),
    /// Nobody answered.
    Soon,
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub changes: SmallVec<[Change; 1]>,
    pub again: Again,
    /// The entry once the changes are done.
    pub entry: Option<Seen>,
}

/// What an event's id is made of besides the key and the deadline, and whose memory is whose.
#[derive(Clone, Debug)]
pub struct Naming {
    pub listener: ListenerId,
    pub database: u32,
    pub inferred: Inferred,
    /// Ours: a memory under another epoch was left by an earlier process.
    pub epoch: Epoch,
}

/// What a node's clock showed when it told of a change is reckoned.
const RECKONED_MS: i64 = 5;
/// A memory left by an earlier process outlives births up to this much younger: its last pushes and our first looks overlap.
const EARLIER_PROCESS_MS: i64 = 1_000;

/// Decides on a look at a key that the store knows as `known`. `at` is the present by our clock.
pub fn judge(naming: &Naming, known: Known, look: &Look, purpose: Purpose, at: Millis) -> Judgement {
    let births = look.used.heard.iter().filter(|heard| heard.sort == Sort::Born).map(|heard| heard.at.plus(-1));
    let gone_at = births.fold(at, Millis::min);
    let mut judging =
        Judging { naming, key: &look.key, at, gone_at, entry: known.entry, changes: SmallVec::new(), written: false };
    let mut memory = Recall::new(known.memory, naming.epoch, look.used.earlier_birth);
    for heard in &look.used.heard {
        judging.removal(heard, look, &mut memory);
    }
    let again = match look.answer {
        Answer::Alive(deadline) => judging.alive(deadline, look.now),
        Answer::Gone => judging.gone(look.now, purpose, Changes::of(&look.used.heard)),
        Answer::None(_) => Again::Soon,
    };
    Judgement { changes: judging.changes, again, entry: judging.entry }
}

struct Judging<'a> {
    naming: &'a Naming,
    key: &'a Key,
    at: Millis,
    /// What is gone was so before anything that this look has heard being born: that is a new life, which the memory of the
    /// old one must not swallow.
    gone_at: Millis,
    entry: Option<Seen>,
    changes: SmallVec<[Change; 1]>,
    /// This look has heard that it was written, and no removal since.
    written: bool,
}

impl Judging<'_> {
    fn removal(&mut self, heard: &Heard, look: &Look, memory: &mut Recall) {
        let elsewhere = heard.node != look.node;
        let written = std::mem::replace(&mut self.written, heard.sort == Sort::Born);
        match (heard.sort, self.entry) {
            (Sort::Born, _) => memory.born(heard.at),
            // Another node had a copy left, or an earlier life: what the entry is of lives on where it is.
            (Sort::Expired, Some(seen)) if elsewhere && lives_on(seen, &look.answer) => {}
            (Sort::Expired, Some(seen)) => {
                // It came no later than this. Only what was certainly early is a shortened TTL: an expiry at its deadline
                // that was told by the time of the push would have an id that no restart finds again. What was written
                // since we looked and expired late may have had a later deadline, which nobody saw.
                let off = heard.server_at.since(seen.deadline);
                let extended = !seen.absent && written && off > SAME_DEADLINE_MS;
                let deadline = if off < -SAME_DEADLINE_MS || extended { heard.server_at } else { seen.deadline };
                self.settle(deadline, Evidence::Witnessed, heard.at);
                memory.made();
            }
            (Sort::Expired, None) => {
                // A life came and went unseen, unless it is one that we have told of.
                if memory.allows(elsewhere) {
                    self.settle(heard.server_at, Evidence::Witnessed, heard.at);
                    memory.made();
                }
            }
            (Sort::Deleted, Some(seen)) if !seen.absent => {
                self.forget(seen, heard.at);
                memory.made();
            }
            (Sort::Evicted, Some(seen)) if !seen.absent => self.mark_absent(seen),
            // What was changed is there, or it is gone: the answer tells.
            (Sort::Deleted | Sort::Evicted | Sort::Changed | Sort::ChangedSince, _) => {}
        }
    }

    fn alive(&mut self, deadline: Option<Deadline>, now: Millis) -> Again {
        if let Some(seen) = self.entry.filter(|seen| seen.absent && seen.deadline < now) {
            self.settle(seen.deadline, Evidence::Inferred, self.at);
        }
        match (deadline, self.entry) {
            (Some(deadline), Some(seen)) if same_deadline(seen.deadline, deadline) => {
                if seen.absent {
                    self.record(seen.deadline);
                }
                Again::At(deadline)
            }
            (Some(deadline), _) => {
                self.record(deadline);
                Again::At(deadline)
            }
            (None, Some(seen)) => {
                self.forget(seen, self.at);
                Again::No
            }
            (None, None) => Again::No,
        }
    }

    fn gone(&mut self, now: Millis, purpose: Purpose, changes: Changes) -> Again {
        let Some(seen) = self.entry else { return Again::No };
        if let Some(end) = changes.end(seen.deadline, now).filter(|_| !seen.absent) {
            match end {
                End::Deleted => self.forget(seen, self.gone_at),
                End::Expired(evidence) => self.settle(seen.deadline, evidence, self.gone_at),
            }
            return Again::No;
        }
        if seen.deadline < now {
            self.settle(seen.deadline, Evidence::Inferred, self.gone_at);
            return Again::No;
        }
        match purpose {
            Purpose::AfterGap if !seen.absent => {
                self.forget(seen, self.gone_at);
                return Again::No;
            }
            Purpose::AfterLoss if !seen.absent => self.mark_absent(seen),
            Purpose::Ordinary | Purpose::AfterGap | Purpose::AfterLoss => {}
        }
        Again::At(seen.deadline)
    }

    fn settle(&mut self, deadline: Deadline, evidence: Evidence, at: Millis) {
        let saw = self.entry.take();
        if let (Evidence::Inferred, Inferred::Drop, Some(saw)) = (evidence, self.naming.inferred, saw) {
            self.changes.push(Change::Forget { key: self.key.clone(), saw, at });
            return;
        }
        let id = EventId::of(&self.naming.listener, self.naming.database, self.key, deadline);
        let event = Event { id, key: self.key.clone(), deadline, evidence, settled_at: self.at };
        self.changes.push(Change::Settle { saw, event, at });
    }

    fn record(&mut self, deadline: Deadline) {
        self.changes.push(Change::Record { key: self.key.clone(), saw: self.entry, deadline });
        self.entry = Some(Seen { deadline, absent: false });
    }

    fn forget(&mut self, saw: Seen, at: Millis) {
        self.changes.push(Change::Forget { key: self.key.clone(), saw, at });
        self.entry = None;
    }

    fn mark_absent(&mut self, saw: Seen) {
        self.changes.push(Change::MarkAbsent { key: self.key.clone(), saw });
        self.entry = Some(Seen { absent: true, ..saw });
    }
}

/// What client tracking has told of a key that is gone.
#[derive(Clone, Copy)]
struct Changes {
    /// The last of those before the answer: when at the latest, by the clock of the node.
    before: Option<Millis>,
    /// There are some behind the answer; when at the soonest.
    since: Option<Millis>,
}

/// What the end of a life was.
enum End {
    Deleted,
    Expired(Evidence),
}

impl Changes {
    fn of(heard: &[Heard]) -> Self {
        let of = |sort| heard.iter().filter(move |heard| heard.sort == sort);
        Self {
            before: of(Sort::Changed).map(|heard| heard.server_at).max(),
            since: of(Sort::ChangedSince).map(|heard| heard.server_at).min(),
        }
    }

    /// What became of a key that is gone at `now`, by the clock of the node. `None`: nothing was told.
    ///
    /// Whatever ends a life is told, and an expiry no sooner than its deadline, which may be a little sooner than the one that is
    /// recorded. Where nothing was told before the answer, and what was told behind it happened past the deadline, the look itself
    /// made it expire. What was told before may have been a deletion in the last moment, however late we read of it.
    fn end(self, deadline: Deadline, now: Millis) -> Option<End> {
        let sooner = |at: Millis, than: i64| at.since(deadline) < -than;
        Some(match (self.before, self.since) {
            (None, None) => return None,
            _ if sooner(now, SAME_DEADLINE_MS) => End::Deleted,
            (None, Some(since)) if since > deadline => End::Expired(Evidence::Witnessed),
            (Some(last), None) if sooner(last, SAME_DEADLINE_MS + RECKONED_MS) => End::Deleted,
            _ => End::Expired(Evidence::Inferred),
        })
    }
}

/// The answer is of the life that the entry is of.
fn lives_on(seen: Seen, answer: &Answer) -> bool {
    !seen.absent && matches!(answer, Answer::Alive(Some(deadline)) if same_deadline(seen.deadline, *deadline))
}

/// "An `expired` without entry is told only if a birth was heard since" the key was last settled or forgotten (rule 9).
struct Recall {
    memory: Option<Remembered>,
    /// A birth was heard since.
    born: bool,
}

enum Remembered {
    /// By us, before this look or in it. Whatever is heard now is younger than what an earlier look has used.
    Ours,
    /// By an earlier process, until then.
    Theirs { until: Millis },
}

impl Recall {
    fn new(memory: Option<Memory>, epoch: Epoch, earlier_birth: Option<Millis>) -> Self {
        let Some(Memory { at, epoch: whose }) = memory else {
            return Self { memory: None, born: earlier_birth.is_some() };
        };
        if whose == epoch {
            let born = earlier_birth.is_some_and(|birth| birth > at);
            Self { memory: Some(Remembered::Ours), born }
        } else {
            let until = at.plus(EARLIER_PROCESS_MS);
            let born = earlier_birth.is_some_and(|birth| birth > until);
            Self { memory: Some(Remembered::Theirs { until }), born }
        }
    }
    fn born(&mut self, at: Millis) {
        self.born |= match &self.memory {
            Some(Remembered::Theirs { until }) => at > *until,
            Some(Remembered::Ours) | None => true,
        };
    }
    fn made(&mut self) {
        (self.memory, self.born) = (Some(Remembered::Ours), false);
    }
    /// No memory says that the life is one that nobody saw, if the node that answers pushed it. Another may have had what
    /// this one said to be gone for longer than memories are kept: the source of a slot that is on its way tells of a key
    /// that is due what it tells of one that is gone (ASK), and expires it when it likes.
    fn allows(&self, elsewhere: bool) -> bool {
        self.born || (self.memory.is_none() && !elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deployment::{NoAnswer, Used},
        store::MEMORY_MS,
    };

    const D: Millis = Millis(100_000);
    const PAST: Millis = Millis(100_001);
    const AHEAD: Millis = Millis(99_000);

    fn naming() -> Naming {
        Naming {
            listener: ListenerId::new("shop", "orders"),
            database: 0,
            inferred: Inferred::Deliver,
            epoch: Epoch(2),
        }
    }
    fn entry(deadline: Millis) -> Known {
        Known { entry: Some(Seen { deadline, absent: false }), memory: None }
    }
    fn absent(deadline: Millis) -> Known {
        Known { entry: Some(Seen { deadline, absent: true }), memory: None }
    }
    fn remembered(at: i64, epoch: u64) -> Known {
        Known { entry: None, memory: Some(Memory { at: Millis(at), epoch: Epoch(epoch) }) }
    }
    fn heard(sort: Sort, at: i64) -> Heard {
        Heard { sort, node: "a".into(), at: Millis(at), server_at: Millis(at) }
    }
    fn look(answer: Answer, now: Millis, heard: Vec<Heard>) -> Look {
        Look { key: "k".into(), node: "a".into(), answer, now, used: Used::of(heard, None) }
    }
    /// What happened, in short: `settle W 100000`, `record 5`, ...
    fn told(judgement: &Judgement) -> Vec<String> {
        judgement
            .changes
            .iter()
            .map(|change| match change {
                Change::Settle { event, .. } => {
                    format!("settle {} {}", &event.evidence.as_str()[..1], event.deadline.0)
                }
                Change::Record { deadline, .. } => format!("record {}", deadline.0),
                Change::Forget { .. } => "forget".into(),
                Change::MarkAbsent { .. } => "absent".into(),
            })
            .collect()
    }
    fn judged(known: Known, look: &Look, purpose: Purpose) -> (Vec<String>, Again) {
        let judgement = judge(&naming(), known, look, purpose, Millis(100_010));
        (told(&judgement), judgement.again)
    }

    #[test]
    fn expired_settles_the_entry_as_witnessed_with_its_deadline() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Expired, 100_001)]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary), (vec!["settle W 100000".into()], Again::No));
    }

    #[test]
    fn what_was_changed_and_is_gone_was_deleted_or_expired_as_far_as_can_be_told() {
        let changed = |at| heard(Sort::Changed, at);
        let since = || heard(Sort::ChangedSince, 100_001);
        let gone = |now, heard| judged(entry(D), &look(Answer::Gone, now, heard), Purpose::Ordinary);
        // Before its deadline, whenever we read of it.
        assert_eq!(gone(AHEAD, vec![changed(98_990)]), (vec!["forget".into()], Again::No));
        assert_eq!(gone(AHEAD, vec![since()]), (vec!["forget".into()], Again::No));
        assert_eq!(gone(PAST, vec![changed(99_989)]), (vec!["forget".into()], Again::No));
        // Hardly before it, or behind it. The deadline may be 5 ms sooner than the one that is recorded.
        assert_eq!(gone(PAST, vec![changed(99_990)]).0, ["settle I 100000"]);
        assert_eq!(gone(Millis(99_995), vec![heard(Sort::ChangedSince, 99_994)]).0, ["settle I 100000"]);
        assert_eq!(gone(Millis(99_994), vec![since()]).0, ["forget"]);
        assert_eq!(gone(PAST, vec![changed(100_900)]).0, ["settle I 100000"]);
        assert_eq!(gone(D, vec![changed(100_000)]).0, ["settle I 100000"]);
        // It was there until we looked; it was written before, and then it may have been deleted.
        assert_eq!(gone(PAST, vec![since()]).0, ["settle W 100000"]);
        assert_eq!(gone(PAST, vec![changed(98_000), since()]).0, ["settle I 100000"]);
        // It may have been deleted in the turn of the answer, before its deadline.
        assert_eq!(gone(PAST, vec![heard(Sort::ChangedSince, 100_000)]).0, ["settle I 100000"]);
        let mut in_a_gap = look(Answer::Gone, PAST, vec![since()]);
        in_a_gap.used.in_gap();
        assert_eq!(judged(entry(D), &in_a_gap, Purpose::Ordinary).0, ["settle I 100000"]);
    }

    #[test]
    fn what_was_changed_and_lives_is_what_it_is_now() {
        let alive = |deadline| look(Answer::Alive(deadline), PAST, vec![heard(Sort::Changed, 99_000)]);
        let judged = |look: &Look| judged(entry(D), look, Purpose::Ordinary).0;
        assert_eq!(judged(&alive(Some(D))), [""; 0]);
        assert_eq!(judged(&alive(Some(Millis(200_000)))), ["record 200000"]);
        assert_eq!(judged(&alive(None)), ["forget"]);
    }

    #[test]
    fn what_was_lost_is_not_taken_for_deleted_because_it_was_changed() {
        let gone = |now| look(Answer::Gone, now, vec![heard(Sort::Changed, 98_000)]);
        assert_eq!(judged(absent(D), &gone(AHEAD), Purpose::Ordinary), (vec![], Again::At(D)));
        assert_eq!(judged(absent(D), &gone(PAST), Purpose::Ordinary).0, ["settle I 100000"]);
        assert_eq!(judged(Known::default(), &gone(PAST), Purpose::Ordinary).0, [""; 0]);
    }

    #[test]
    fn an_event_is_named_by_its_deadline_whenever_it_is_settled() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Expired, 100_001)]);
        for at in [100_001, 100_999] {
            let judgement = judge(&naming(), entry(D), &look, Purpose::Ordinary, Millis(at));
            let id = EventId::of(&naming().listener, 0, &"k".into(), D);
            assert!(matches!(&judgement.changes[..], [Change::Settle { event, .. }] if event.id == id));
        }
    }

    #[test]
    fn expired_before_the_deadline_tells_of_a_shortened_ttl_and_carries_the_time_of_the_push() {
        let look = look(Answer::Gone, AHEAD, vec![heard(Sort::Expired, 98_000)]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary), (vec!["settle W 98000".into()], Again::No));
    }

    #[test]
    fn expired_within_the_rounding_of_a_deadline_keeps_it() {
        let look = look(Answer::Gone, AHEAD, vec![heard(Sort::Expired, 99_995)]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary).0, ["settle W 100000"]);
    }

    #[test]
    fn expired_late_and_written_since_we_looked_carries_the_time_of_the_push() {
        let heard_of = |at, sort| vec![heard(sort, 99_990), heard(Sort::Expired, at)];
        let told = |known, heard| judged(known, &look(Answer::Gone, PAST, heard), Purpose::Ordinary).0;
        assert_eq!(told(entry(D), heard_of(100_006, Sort::Born)), ["settle W 100006"]);
        assert_eq!(told(entry(D), heard_of(100_005, Sort::Born)), ["settle W 100000"]);
        assert_eq!(told(entry(D), vec![heard(Sort::Expired, 100_900)]), ["settle W 100000"]);
        assert_eq!(told(absent(D), heard_of(100_006, Sort::Born)), ["settle W 100000"]);
        let mut before = look(Answer::Gone, PAST, vec![heard(Sort::Expired, 100_900)]);
        before.used.earlier_birth = Some(Millis(99_990));
        assert_eq!(judged(entry(D), &before, Purpose::Ordinary).0, ["settle W 100000"]);
    }

    #[test]
    fn expired_without_entry_is_a_life_unseen() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Expired, 99_500)]);
        assert_eq!(judged(Known::default(), &look, Purpose::Ordinary).0, ["settle W 99500"]);
    }

    #[test]
    fn expired_without_entry_is_not_told_twice_but_a_new_life_is() {
        let gone = |heard| look(Answer::Gone, PAST, heard);
        let ours = remembered(99_000, 2);
        assert_eq!(judged(ours, &gone(vec![heard(Sort::Expired, 99_500)]), Purpose::Ordinary).0, [""; 0]);
        let again = gone(vec![heard(Sort::Born, 99_400), heard(Sort::Expired, 99_500)]);
        assert_eq!(judged(ours, &again, Purpose::Ordinary).0, ["settle W 99500"]);
        let twice = gone(vec![heard(Sort::Expired, 99_400), heard(Sort::Expired, 99_500)]);
        assert_eq!(judged(Known::default(), &twice, Purpose::Ordinary).0, ["settle W 99400"]);
        let mut earlier = gone(vec![heard(Sort::Expired, 99_500)]);
        earlier.used.earlier_birth = Some(Millis(99_001));
        assert_eq!(judged(ours, &earlier, Purpose::Ordinary).0, ["settle W 99500"]);
        earlier.used.earlier_birth = Some(Millis(99_000));
        assert_eq!(judged(ours, &earlier, Purpose::Ordinary).0, [""; 0]);
        const { assert!(MEMORY_MS > 160_000) };
    }

    #[test]
    fn what_another_node_expires_than_the_one_that_answers_is_a_life_unseen_only_if_its_birth_was_heard() {
        let of = |node: &str, heard: Heard| Heard { node: node.into(), ..heard };
        let source = vec![of("source", heard(Sort::Expired, 99_500))];
        let mut gone = look(Answer::Gone, PAST, source.clone());
        assert_eq!(judged(Known::default(), &gone, Purpose::Ordinary).0, [""; 0]);
        gone.used.earlier_birth = Some(Millis(99_000));
        assert_eq!(judged(Known::default(), &gone, Purpose::Ordinary).0, ["settle W 99500"]);
        let born = [vec![of("source", heard(Sort::Born, 99_400))], source].concat();
        let gone = look(Answer::Gone, PAST, born);
        assert_eq!(judged(Known::default(), &gone, Purpose::Ordinary).0, ["settle W 99500"]);
        assert_eq!(judged(entry(D), &gone, Purpose::Ordinary).0, ["settle W 99500"]);
    }

    #[test]
    fn what_another_node_expires_is_not_what_lives_on_where_the_answer_comes_from() {
        let source = vec![Heard { node: "source".into(), ..heard(Sort::Expired, 99_500) }];
        let alive = |deadline| look(Answer::Alive(Some(deadline)), AHEAD, source.clone());
        assert_eq!(judged(entry(D), &alive(D.plus(5)), Purpose::Ordinary).0, [""; 0]);
        assert_eq!(judged(entry(D), &alive(D.plus(6)), Purpose::Ordinary).0, ["settle W 99500", "record 100006"]);
        assert_eq!(judged(absent(D), &alive(D), Purpose::Ordinary).0, ["settle W 99500", "record 100000"]);
        let own = look(Answer::Alive(Some(D)), AHEAD, vec![heard(Sort::Expired, 99_500)]);
        assert_eq!(judged(entry(D), &own, Purpose::Ordinary).0, ["settle W 99500", "record 100000"]);
    }

    #[test]
    fn a_memory_left_by_an_earlier_process_wants_a_birth_more_than_a_second_younger() {
        let theirs = remembered(99_000, 1);
        let born = |at| look(Answer::Gone, PAST, vec![heard(Sort::Born, at), heard(Sort::Expired, 100_100)]);
        assert_eq!(judged(theirs, &born(100_000), Purpose::Ordinary).0, [""; 0]);
        assert_eq!(judged(theirs, &born(100_001), Purpose::Ordinary).0, ["settle W 100100"]);
    }

    #[test]
    fn deletion_seen_before_the_deadline_is_not_an_expiry() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Deleted, 99_000)]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary), (vec!["forget".into()], Again::No));
    }

    #[test]
    fn a_deletion_does_not_forget_an_absent_entry() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Deleted, 99_000)]);
        assert_eq!(judged(absent(D), &look, Purpose::Ordinary).0, ["settle I 100000"]);
    }

    #[test]
    fn an_evicted_key_is_settled_at_its_deadline_and_not_before() {
        let evicted = vec![heard(Sort::Evicted, 98_000)];
        let ahead = look(Answer::Gone, AHEAD, evicted);
        assert_eq!(judged(entry(D), &ahead, Purpose::Ordinary), (vec!["absent".into()], Again::At(D)));
        assert_eq!(judged(absent(D), &ahead, Purpose::Ordinary), (vec![], Again::At(D)));
        let then = judge(&naming(), entry(D), &ahead, Purpose::Ordinary, AHEAD).entry;
        assert_eq!(then, Some(Seen { deadline: D, absent: true }));
        let due = look(Answer::Gone, PAST, vec![]);
        assert_eq!(judged(absent(D), &due, Purpose::Ordinary).0, ["settle I 100000"]);
    }

    #[test]
    fn a_living_key_is_recorded_and_asked_about_again_at_its_deadline() {
        let look = look(Answer::Alive(Some(D)), AHEAD, vec![heard(Sort::Born, 98_000)]);
        assert_eq!(judged(Known::default(), &look, Purpose::Ordinary), (vec!["record 100000".into()], Again::At(D)));
        assert_eq!(judged(entry(Millis(50_000)), &look, Purpose::Ordinary).0, ["record 100000"]);
    }

    #[test]
    fn readings_within_five_milliseconds_are_one_deadline_and_the_first_stays() {
        let near = look(Answer::Alive(Some(Millis(100_005))), AHEAD, vec![]);
        assert_eq!(judged(entry(D), &near, Purpose::Ordinary), (vec![], Again::At(Millis(100_005))));
        let other = look(Answer::Alive(Some(Millis(100_006))), AHEAD, vec![]);
        assert_eq!(judged(entry(D), &other, Purpose::Ordinary).0, ["record 100006"]);
        assert_eq!(judged(absent(D), &near, Purpose::Ordinary).0, ["record 100000"]);
    }

    #[test]
    fn a_living_key_without_ttl_is_forgotten() {
        let look = look(Answer::Alive(None), AHEAD, vec![]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary), (vec!["forget".into()], Again::No));
        assert_eq!(judged(Known::default(), &look, Purpose::Ordinary), (vec![], Again::No));
    }

    #[test]
    fn a_living_key_settles_an_absent_entry_that_is_past() {
        let look = look(Answer::Alive(Some(Millis(200_000))), PAST, vec![]);
        assert_eq!(judged(absent(D), &look, Purpose::Ordinary).0, ["settle I 100000", "record 200000"]);
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary).0, ["record 200000"]);
        // It was set anew before it was due.
        let at_the_deadline = Look { now: D, ..look };
        assert_eq!(judged(absent(D), &at_the_deadline, Purpose::Ordinary).0, ["record 200000"]);
    }

    #[test]
    fn gone_and_past_is_inferred_and_gone_and_ahead_is_kept() {
        let past = look(Answer::Gone, PAST, vec![]);
        assert_eq!(judged(entry(D), &past, Purpose::Ordinary), (vec!["settle I 100000".into()], Again::No));
        let at_the_deadline = look(Answer::Gone, D, vec![]);
        assert_eq!(judged(entry(D), &at_the_deadline, Purpose::Ordinary), (vec![], Again::At(D)));
    }

    #[test]
    fn a_life_that_began_between_the_answer_and_its_barrier_is_younger_than_the_memory_of_the_one_before() {
        let look = look(Answer::Gone, PAST, vec![heard(Sort::Born, 100_001)]);
        let judgement = judge(&naming(), entry(D), &look, Purpose::Ordinary, Millis(100_010));
        assert_eq!(told(&judgement), ["settle I 100000"]);
        assert!(matches!(&judgement.changes[..], [Change::Settle { at: Millis(100_000), .. }]));
    }

    #[test]
    fn in_a_resync_gone_and_ahead_is_absent_after_a_loss_and_forgotten_after_a_gap() {
        let ahead = look(Answer::Gone, AHEAD, vec![]);
        assert_eq!(judged(entry(D), &ahead, Purpose::AfterLoss), (vec!["absent".into()], Again::At(D)));
        assert_eq!(judged(entry(D), &ahead, Purpose::AfterGap), (vec!["forget".into()], Again::No));
        assert_eq!(judged(absent(D), &ahead, Purpose::AfterGap), (vec![], Again::At(D)));
        assert_eq!(judged(absent(D), &ahead, Purpose::AfterLoss), (vec![], Again::At(D)));
    }

    #[test]
    fn silence_settles_nothing() {
        let silent = look(Answer::None(NoAnswer::Late), PAST, vec![]);
        assert_eq!(judged(entry(D), &silent, Purpose::AfterGap), (vec![], Again::Soon));
    }

    #[test]
    fn a_key_that_expired_and_came_back_is_settled_and_recorded_in_one_look() {
        let look = look(
            Answer::Alive(Some(Millis(200_000))),
            PAST,
            vec![heard(Sort::Expired, 100_001), heard(Sort::Born, 100_001)],
        );
        assert_eq!(judged(entry(D), &look, Purpose::Ordinary).0, ["settle W 100000", "record 200000"]);
    }

    #[test]
    fn with_drop_an_inferred_expiry_is_forgotten_and_a_witnessed_one_is_told() {
        let naming = Naming { inferred: Inferred::Drop, ..naming() };
        let past = look(Answer::Gone, PAST, vec![]);
        assert_eq!(told(&judge(&naming, entry(D), &past, Purpose::Ordinary, PAST)), ["forget"]);
        let witnessed = look(Answer::Gone, PAST, vec![heard(Sort::Expired, 100_001)]);
        assert_eq!(told(&judge(&naming, entry(D), &witnessed, Purpose::Ordinary, PAST)), ["settle W 100000"]);
    }
}
