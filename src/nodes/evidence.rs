//! What was pushed about each key and no look has used yet. Pure.
//!
//! The rules are those of DESIGN section 2, in its words; each is there because leaving it out lost or invented an event
//! in simulation. `now` and every time here is by our clock unless it says otherwise.

use std::collections::VecDeque;

use crate::model::{Key, KeyMap, Millis, NodeId};

/// What a push says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A removal: Redis expired it.
    Expired,
    /// A removal: somebody deleted or renamed it, or a slot moved.
    Deleted,
    /// A removal: Redis needed the room.
    Evicted,
    /// Anything else: it is there.
    Born,
    /// By client tracking: it was written, deleted or expired, and nobody says which.
    Changed,
    /// The same, but pushed behind the answer of the look that uses it.
    ChangedSince,
}

impl Sort {
    fn may_bear(self) -> bool {
        matches!(self, Self::Born | Self::Changed)
    }
}

/// One push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub sort: Sort,
    pub node: NodeId,
    /// When, by our clock.
    pub at: Millis,
    /// When at the latest, by the clock of the node that pushed it: never before it did. Of [`Sort::ChangedSince`]: when at the
    /// soonest.
    pub server_at: Millis,
}

/// What we held the pushing node for when it pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A master (an importing one included), and not suspect.
    pub master: bool,
    /// The owner of the key's slot, and not suspect.
    pub owner: bool,
    pub suspect: bool,
}

/// What a look has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Oldest first. A deletion that may be a MIGRATE is not in it.
    pub heard: Vec<Heard>,
    /// The newest birth that an earlier look has used, of the last [`BIRTHS_MS`].
    pub earlier_birth: Option<Millis>,
    /// All that was taken, as it lay there: for [`Evidence::put_back`].
    taken: Vec<Item>,
}

impl Used {
    /// The times of changes by the clock of the node that has answered: it showed `begun` in an earlier turn than it answered in, and
    /// shows `theirs` at `ours` or a little before; it may have gone forward since it was last reckoned.
    #[must_use]
    pub fn heard_by(mut self, ours: Millis, theirs: Millis, begun: Millis) -> Self {
        for heard in &mut self.heard {
            match heard.sort {
                Sort::Changed => heard.server_at = heard.server_at.max(theirs.plus(-ours.since(heard.at))),
                Sort::ChangedSince => heard.server_at = begun,
                _ => {}
            }
        }
        self
    }

    /// Something was told behind the answer.
    pub fn told_since(&self) -> bool {
        self.heard.iter().any(|heard| heard.sort == Sort::ChangedSince)
    }

    /// The node was not seen whole since its last gap: the key may be gone for long, and what was told behind the answer be another
    /// life's birth.
    pub fn in_gap(&mut self) {
        for heard in self.heard.iter_mut().filter(|heard| heard.sort == Sort::ChangedSince) {
            heard.server_at = Millis(i64::MIN);
        }
    }

    /// As if exactly this had been heard.
    pub fn of(heard: Vec<Heard>, earlier_birth: Option<Millis>) -> Self {
        Self { heard, earlier_birth, taken: Vec::new() }
    }
}

/// Who answers a look.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    pub node: &'a NodeId,
    /// When its subscription was opened; under client tracking also, when it was flushed last.
    pub since: Millis,
}

/// A MIGRATE's deletion on the source and the birth on the target lie within this.
const MIGRATE_MS: i64 = 1_000;
/// How long a birth is remembered once a look has used it.
pub const BIRTHS_MS: i64 = 2_000;
/// How long evidence is kept that an answered look left: it came from a node that never became the owner. What no answer
/// has come to yet is kept until one does, however long its owner is away: a `del` that fades is an event too many later,
/// an `expired` one too few.
const UNUSED_MS: i64 = 60_000;
/// Pieces of news a key, over all keys: news of one key piles up too while nobody answers.
const NEWS_A_KEY: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    heard: Heard,
    owner: bool,
    suspect: bool,
    order: u64,
    /// An answered look had no use for it.
    left: bool,
}

/// The newest birth that a node has pushed.
struct Birth {
    node: NodeId,
    at: Millis,
    order: u64,
    /// The one before it.
    before: Option<Millis>,
}

impl Birth {
    /// When the node bore last, of what may have been a MIGRATE's that came before the answer: its own pushes are in order with that.
    fn before(&self, answering: Answering<'_>, answered: u64) -> Option<Millis> {
        if self.node == *answering.node && self.order > answered { self.before } else { Some(self.at) }
    }
}

#[derive(Default)]
struct Record {
    items: Vec<Item>,
    /// There is news that no look has been started for.
    hinted: bool,
}

/// One listener's evidence.
pub struct Evidence {
    records: KeyMap<Record>,
    hints: VecDeque<Key>,
    births: KeyMap<Vec<Birth>>,
    /// The last removal heard, of the last [`BIRTHS_MS`].
    removals: KeyMap<Millis>,
    /// The newest birth that a look has used, of the last [`BIRTHS_MS`].
    used_births: KeyMap<Millis>,
    order: u64,
    /// How many items all records have.
    items: usize,
    limit: usize,
}

/// The evidence is full: what was pushed is not in it. That is a gap of the node.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Evidence {
    /// Keeps news of at most `limit` keys, and of each a few pieces on average.
    pub fn new(limit: usize) -> Self {
        Self {
            records: KeyMap::default(),
            hints: VecDeque::new(),
            births: KeyMap::default(),
            removals: KeyMap::default(),
            used_births: KeyMap::default(),
            order: 0,
            items: 0,
            limit,
        }
    }

    /// A push. "Only pushes of nodes count that we then knew as masters and not suspect, an importing one included; of any
    /// other node only `expired`, which none but a master publishes: it tells of a promotion."
    pub fn hear(&mut self, key: &Key, mut heard: Heard, standing: Standing) -> Result<(), Full> {
        if !standing.master && heard.sort != Sort::Expired {
            return Ok(());
        }
        let another = self.records.len() >= self.limit && !self.records.contains_key(key);
        if another || self.items >= self.limit * NEWS_A_KEY {
            return Err(Full);
        }
        if heard.sort.may_bear() {
            // What is read at once has one time. A birth behind a removal must be younger than it: the memory of the removal
            // would swallow the new life's expiry.
            if let Some(removed) = self.removals.get(key) {
                heard.at = heard.at.max(removed.plus(1));
            }
            let births = self.births.entry(key.clone()).or_default();
            // While a deletion waits for an answer, so does what may tell it for a MIGRATE.
            let waits = self.records.contains_key(key);
            let before = births.iter().find(|birth| birth.node == heard.node).map(|birth| birth.at);
            births.retain(|birth| birth.node != heard.node && (waits || heard.at.since(birth.at) <= BIRTHS_MS));
            births.push(Birth { node: heard.node.clone(), at: heard.at, order: self.order + 1, before });
        } else {
            self.removals.insert(key.clone(), heard.at);
        }
        self.order += 1;
        let record = self.records.entry(key.clone()).or_default();
        // Births of one node in a row say what the last of them says.
        match record.items.last_mut() {
            Some(last)
                if last.heard.sort == Sort::Born && heard.sort == Sort::Born && last.heard.node == heard.node =>
            {
                (last.heard, last.order) = (heard, self.order);
            }
            _ => {
                let Standing { owner, suspect, .. } = standing;
                record.items.push(Item { heard, owner, suspect, order: self.order, left: false });
                self.items += 1;
            }
        }
        if !record.hinted {
            record.hinted = true;
            self.hints.push_back(key.clone());
        }
        Ok(())
    }

    /// Keys with news, at most `limit`; each is handed out once, until there is more.
    pub fn hints(&mut self, limit: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        while keys.len() < limit {
            let Some(key) = self.hints.pop_front() else { break };
            if let Some(record) = self.records.get_mut(&key).filter(|record| record.hinted) {
                record.hinted = false;
                keys.push(key);
            }
        }
        keys
    }

    /// [`Evidence::hints`] has more.
    pub fn has_hints(&self) -> bool {
        !self.hints.is_empty()
    }

    /// Where the evidence of the moment ends: [`Evidence::take`] tells by it what came after an answer.
    pub fn mark(&self) -> u64 {
        self.order
    }

    /// Takes out what a look may use that `answering` has answered. `answered` is the [`Evidence::mark`] of the moment
    /// the answer was read: what may be a birth behind it leaves a hint.
    ///
    /// What is only known to have changed something says so of the node that answers, and on that connection: another's
    /// may have been a MIGRATE, and what was flushed since is not what was changed.
    pub fn take(&mut self, key: &Key, answering: Answering<'_>, answered: u64) -> Used {
        let births = self.births.get(key);
        let earlier_birth = self.used_births.get(key).copied();
        let Some(record) = self.records.get_mut(key) else {
            return Used::of(Vec::new(), earlier_birth);
        };
        let (counted, others): (Vec<Item>, Vec<Item>) = std::mem::take(&mut record.items)
            .into_iter()
            .partition(|item| item.owner || item.heard.node == *answering.node);
        // The owner has answered behind what a suspect node pushed: a thawed ex-master spoke of a life that goes on here. If
        // it is made the owner again, that must not come up.
        let (suspect, mut kept): (Vec<Item>, Vec<Item>) = others.into_iter().partition(|item| item.suspect);
        for item in &mut kept {
            item.left = true;
        }
        self.items -= counted.len() + suspect.len();
        let behind = counted.iter().any(|item| item.heard.sort.may_bear() && item.order > answered);
        if kept.is_empty() && !behind {
            self.records.remove(key);
        } else {
            record.items = kept;
            if behind && !record.hinted {
                record.hinted = true;
                self.hints.push_back(key.clone());
            }
        }
        let newest = counted.iter().filter(|item| item.heard.sort == Sort::Born).map(|item| item.heard.at).max();
        if let Some(newest) = newest.max(earlier_birth) {
            self.used_births.insert(key.clone(), newest);
        }
        let heard = counted
            .iter()
            .filter(|item| match item.heard.sort {
                Sort::Changed => item.heard.node == *answering.node && item.heard.at > answering.since,
                _ => !may_be_a_migrate(&item.heard, &counted, births, (answering, answered)),
            })
            .map(|item| match item.heard.sort {
                Sort::Changed if item.order > answered => Heard { sort: Sort::ChangedSince, ..item.heard.clone() },
                _ => item.heard.clone(),
            })
            .collect();
        let taken = counted.into_iter().chain(suspect).collect();
        Used { heard, earlier_birth, taken }
    }

    /// Puts back what was taken for a look that then got no answer.
    pub fn put_back(&mut self, key: &Key, used: Used) {
        match used.earlier_birth {
            Some(earlier) => drop(self.used_births.insert(key.clone(), earlier)),
            None => drop(self.used_births.remove(key)),
        }
        if let Some(record) = self.records.get_mut(key) {
            for item in &mut record.items {
                item.left = false;
            }
        }
        if used.taken.is_empty() {
            return;
        }
        self.items += used.taken.len();
        let record = self.records.entry(key.clone()).or_default();
        record.items.extend(used.taken);
        record.items.sort_by_key(|item| item.order);
        if !record.hinted {
            record.hinted = true;
            self.hints.push_back(key.clone());
        }
    }

    /// The node is a replica, and nobody knows since when. What it pushed without owning the key may be what it was told of by its
    /// master: the end of an earlier life, behind which the birth of the next is not heard of it any more. Should it become the
    /// owner, that must not come up.
    pub fn demoted(&mut self, node: &NodeId) {
        for record in self.records.values_mut() {
            let before = record.items.len();
            record.items.retain(|item| item.owner || item.heard.node != *node || item.heard.sort == Sort::Expired);
            self.items -= before - record.items.len();
        }
    }

    /// Forgets births that were used, and evidence that nobody could use.
    pub fn fade(&mut self, now: Millis) {
        let mut items = 0;
        self.records.retain(|_, record| {
            record.items.retain(|item| !item.left || now.since(item.heard.at) <= UNUSED_MS);
            items += record.items.len();
            !record.items.is_empty() || record.hinted
        });
        self.items = items;
        self.births.retain(|key, births| {
            births.retain(|birth| self.records.contains_key(key) || now.since(birth.at) <= BIRTHS_MS);
            !births.is_empty()
        });
        self.used_births.retain(|_, at| now.since(*at) <= BIRTHS_MS);
        self.removals.retain(|_, at| now.since(*at) <= BIRTHS_MS);
    }

    /// Keys with evidence.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// "A `del` that may be a MIGRATE does not count when another node answers: another shard pushed a birth of K since a
/// second before it, or the answering connection is younger than that." Nor does it when the node that answers has itself
/// expired the key: a demoted master announces that as `del`, and two connections keep no order between them.
///
/// What the node that answers has borne behind its answer is no MIGRATE's: it was asked because the other had the key no more.
fn may_be_a_migrate(
    deletion: &Heard,
    counted: &[Item],
    births: Option<&Vec<Birth>>,
    (answering, answered): (Answering<'_>, u64),
) -> bool {
    if deletion.sort != Sort::Deleted || deletion.node == *answering.node {
        return false;
    }
    let since = deletion.at.plus(-MIGRATE_MS);
    answering.since > since
        || births.is_some_and(|births| {
            let others = births.iter().filter(|birth| birth.node != deletion.node);
            others.filter_map(|birth| birth.before(answering, answered)).any(|at| at >= since)
        })
        || counted.iter().any(|item| {
            item.heard.sort == Sort::Expired && item.heard.node == *answering.node && item.heard.at >= since
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Standing = Standing { master: true, owner: true, suspect: false };
    const MASTER: Standing = Standing { master: true, owner: false, suspect: false };
    const REPLICA: Standing = Standing { master: false, owner: false, suspect: false };

    fn heard(node: &str, sort: Sort, at: i64) -> Heard {
        Heard { sort, node: node.into(), at: Millis(at), server_at: Millis(at) }
    }
    fn sorts(used: &Used) -> Vec<Sort> {
        used.heard.iter().map(|heard| heard.sort).collect()
    }
    struct Case(Evidence);
    impl Case {
        fn new() -> Self {
            Self(Evidence::new(10))
        }
        fn hear(mut self, node: &str, sort: Sort, at: i64, standing: Standing) -> Self {
            self.0.hear(&"k".into(), heard(node, sort, at), standing).unwrap();
            self
        }
        fn look(&mut self, node: &str, since: i64) -> Used {
            let mark = self.0.mark();
            self.0.take(&"k".into(), Answering { node: &node.into(), since: Millis(since) }, mark)
        }
        fn take(&mut self, node: &str, since: i64) -> Vec<Sort> {
            sorts(&self.look(node, since))
        }
    }

    #[test]
    fn a_look_uses_what_the_answering_node_pushed_once_and_in_order() {
        let mut case = Case::new().hear("a", Sort::Expired, 5000, OWNER).hear("a", Sort::Born, 5001, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Expired, Sort::Born]);
        assert_eq!(case.take("a", 0), []);
    }

    #[test]
    fn what_a_replica_pushed_that_we_took_for_a_master_does_not_come_up_when_it_is_promoted() {
        let pushed = || {
            let case = Case::new().hear("x", Sort::Deleted, 5000, MASTER).hear("x", Sort::Expired, 5001, MASTER);
            case.hear("x", Sort::Deleted, 4000, OWNER)
        };
        assert_eq!(pushed().take("x", 0), [Sort::Deleted, Sort::Expired, Sort::Deleted]);
        let mut case = pushed();
        case.0.demoted(&"other".into());
        assert_eq!(case.0.items, 3);
        case.0.demoted(&"x".into());
        // None but a master publishes `expired`; and what it pushed as the owner counted then.
        assert_eq!(case.take("x", 0), [Sort::Expired, Sort::Deleted]);
        assert_eq!(case.0.items, 0);
    }

    #[test]
    fn a_replica_is_heard_only_for_expired_and_only_once_it_answers() {
        let mut case = Case::new().hear("r", Sort::Deleted, 5000, REPLICA).hear("r", Sort::Expired, 5001, REPLICA);
        assert_eq!(case.take("a", 0), []);
        assert_eq!(case.take("r", 0), [Sort::Expired]);
    }

    #[test]
    fn a_change_counts_of_the_node_that_answers_on_the_same_connection() {
        let changed = || Case::new().hear("a", Sort::Changed, 5000, OWNER);
        assert_eq!(changed().take("a", 4999), [Sort::Changed]);
        assert_eq!(changed().take("a", 5000), [], "it was connected to, or flushed, since");
        assert_eq!(changed().take("b", 0), [], "it may have moved");
        assert_eq!(Case::new().hear("r", Sort::Changed, 5000, REPLICA).take("r", 0), []);
    }

    #[test]
    fn a_change_behind_the_answer_is_told_apart_and_looked_at_again() {
        let mut case = Case::new().hear("a", Sort::Changed, 5000, OWNER);
        assert_eq!(case.0.hints(9).len(), 1);
        let answered = case.0.mark();
        case = case.hear("a", Sort::Changed, 5001, OWNER);
        assert_eq!(case.0.hints(9).len(), 1);
        let used = case.0.take(&"k".into(), Answering { node: &"a".into(), since: Millis(0) }, answered);
        assert_eq!(sorts(&used), [Sort::Changed, Sort::ChangedSince]);
        assert!(used.told_since() && !Used::of(vec![heard("a", Sort::Changed, 0)], None).told_since());
        let mut in_gap = used.clone();
        in_gap.in_gap();
        assert_eq!(in_gap.heard.iter().map(|heard| heard.server_at.0).collect::<Vec<_>>(), [5000, i64::MIN]);
        assert_eq!(case.0.hints(9).len(), 1, "it may be a birth");
        case.0.put_back(&"k".into(), used);
        assert_eq!(case.take("a", 0), [Sort::Changed, Sort::Changed], "as it was");
    }

    #[test]
    fn a_change_came_no_sooner_than_the_clock_of_the_answer_allows() {
        let used =
            |at| Used::of(vec![heard("a", Sort::Changed, at)], None).heard_by(Millis(5_010), Millis(5_060), Millis(1));
        assert_eq!(used(5_000).heard[0].server_at, Millis(5_050), "the clock has gone forward by 50 ms");
        let behind =
            Used::of(vec![heard("a", Sort::Changed, 5_000)], None).heard_by(Millis(5_010), Millis(4_000), Millis(1));
        assert_eq!(behind.heard[0].server_at, Millis(5_000));
        let since = Used::of(vec![heard("a", Sort::ChangedSince, 5_000)], None);
        assert_eq!(since.heard_by(Millis(5_010), Millis(5_060), Millis(4_998)).heard[0].server_at, Millis(4_998));
    }

    #[test]
    fn a_change_of_another_shards_key_may_be_a_migrate() {
        let mut moved = Case::new().hear("b", Sort::Changed, 4100, MASTER).hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(moved.take("b", 0), [Sort::Changed]);
    }

    #[test]
    fn what_a_thawed_ex_master_pushed_does_not_come_up_when_it_is_the_owner_again() {
        let thawed = Standing { master: false, owner: false, suspect: true };
        let mut case = Case::new().hear("a", Sort::Expired, 5000, thawed);
        assert_eq!(case.take("b", 0), []);
        assert_eq!(case.take("a", 0), []);
    }

    #[test]
    fn the_owner_of_the_time_counts_when_another_answers() {
        let mut case = Case::new().hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(case.take("b", 0), [Sort::Deleted]);
        for sort in [Sort::Expired, Sort::Deleted] {
            let mut case = Case::new().hear("c", sort, 5000, MASTER);
            assert_eq!(case.take("b", 0), []);
        }
    }

    #[test]
    fn a_deletion_that_may_be_a_migrate_does_not_count_when_another_answers() {
        let mut moved = Case::new().hear("b", Sort::Born, 4100, MASTER).hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(moved.take("b", 0), [Sort::Born]);
        let mut long_ago = Case::new().hear("b", Sort::Born, 3900, MASTER).hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(long_ago.take("b", 0), [Sort::Born, Sort::Deleted]);
        let mut young = Case::new().hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(young.take("b", 4001), []);
        let mut own = Case::new().hear("b", Sort::Born, 4900, OWNER).hear("b", Sort::Deleted, 5000, OWNER);
        assert_eq!(own.take("b", 4999), [Sort::Born, Sort::Deleted]);
    }

    #[test]
    fn what_is_born_behind_the_answer_is_no_migrates() {
        let take = |mut case: Case, node: &str, answered| {
            sorts(&case.0.take(&"k".into(), Answering { node: &node.into(), since: Millis(0) }, answered))
        };
        let deleted = || Case::new().hear("a", Sort::Deleted, 5000, OWNER);
        let case = deleted();
        let answered = case.0.mark();
        let case = case.hear("b", Sort::Born, 5002, MASTER);
        assert_eq!(take(case, "b", answered), [Sort::Deleted, Sort::Born]);
        // Of another node nobody knows what came first.
        let case = deleted().hear("c", Sort::Born, 5002, MASTER);
        assert_eq!(take(case, "b", answered), []);
        // Nor does it hide that another came before the answer.
        let case = Case::new().hear("b", Sort::Born, 4900, MASTER).hear("a", Sort::Deleted, 5000, OWNER);
        let answered = case.0.mark();
        let case = case.hear("b", Sort::Born, 5002, MASTER);
        assert_eq!(take(case, "b", answered), [Sort::Born, Sort::Born]);
    }

    #[test]
    fn a_birth_that_a_look_has_used_still_tells_a_migrate() {
        let mut case = Case::new().hear("b", Sort::Born, 4500, MASTER);
        assert_eq!(case.take("b", 0), [Sort::Born]);
        let mut case = case.hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(case.take("b", 0), []);
    }

    #[test]
    fn each_nodes_last_birth_tells_a_migrate_for_two_seconds() {
        // What another bears meanwhile is no reason to forget it, whether a look has used it or not.
        let mut unused = Case::new().hear("b", Sort::Born, 4500, MASTER).hear("c", Sort::Born, 4600, MASTER);
        unused = unused.hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(unused.take("b", 0), [Sort::Born]);
        let mut used = Case::new().hear("b", Sort::Born, 4500, MASTER);
        assert_eq!(used.take("b", 0), [Sort::Born]);
        used.0.fade(Millis(4500 + BIRTHS_MS));
        let mut used = used.hear("c", Sort::Born, 4600, OWNER);
        assert_eq!(used.take("c", 0), [Sort::Born]);
        let mut used = used.hear("a", Sort::Deleted, 5000, OWNER);
        assert_eq!(used.take("b", 0), []);
        used.0.fade(Millis(4600 + BIRTHS_MS + 1));
        assert!(used.0.births.is_empty());
        // One each, and none that is old.
        let case = Case::new().hear("b", Sort::Born, 1, MASTER).hear("b", Sort::Born, 2, MASTER);
        assert_eq!(case.0.births[&Key::from("k")].len(), 1);
        let mut case = Case::new().hear("b", Sort::Born, 0, MASTER);
        assert_eq!(case.take("b", 0), [Sort::Born]);
        let case = case.hear("c", Sort::Born, BIRTHS_MS + 1, MASTER);
        assert_eq!(case.0.births[&Key::from("k")].len(), 1);
    }

    #[test]
    fn births_of_one_node_in_a_row_are_one_and_those_of_two_are_two() {
        let mut case = Case::new().hear("a", Sort::Born, 1, OWNER).hear("a", Sort::Born, 2, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Born]);
        let mut case = Case::new().hear("a", Sort::Born, 1, OWNER).hear("b", Sort::Born, 2, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Born, Sort::Born]);
        let mut case = Case::new().hear("a", Sort::Born, 1, OWNER).hear("a", Sort::Expired, 2, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Born, Sort::Expired]);
    }

    #[test]
    fn what_was_used_is_remembered_for_two_seconds() {
        let mut case = Case::new().hear("a", Sort::Born, 5000, OWNER);
        case.look("a", 0);
        case.0.fade(Millis(5000 + BIRTHS_MS));
        assert_eq!(case.look("a", 0).earlier_birth, Some(Millis(5000)));
        case.0.fade(Millis(5000 + BIRTHS_MS + 1));
        assert_eq!(case.look("a", 0).earlier_birth, None);
        let born_behind = |fade| {
            let mut case = Case::new().hear("a", Sort::Expired, 5000, OWNER);
            case.look("a", 0);
            case.0.fade(Millis(fade));
            case.hear("a", Sort::Born, 5000, OWNER).look("a", 0).heard[0].at
        };
        assert_eq!((born_behind(5000 + BIRTHS_MS), born_behind(5001 + BIRTHS_MS)), (Millis(5001), Millis(5000)));
    }

    #[test]
    fn a_key_is_hinted_at_once_for_all_its_news() {
        let mut case = Case::new().hear("a", Sort::Born, 1, OWNER).hear("a", Sort::Expired, 2, OWNER);
        case.0.hear(&"l".into(), heard("a", Sort::Born, 3), OWNER).unwrap();
        assert!(case.0.has_hints() && !case.0.is_empty());
        assert_eq!((case.0.len(), case.0.hints(1)), (2, vec!["k".into()]));
        assert_eq!(case.0.hints(9), [Key::from("l")]);
        assert!(!case.0.has_hints());
        // What is left over, and a birth before the answer, are no news; what is put back is.
        let mut case = Case::new().hear("r", Sort::Expired, 1, REPLICA).hear("a", Sort::Born, 2, OWNER);
        case.0.hints(9);
        let used = case.look("a", 0);
        assert_eq!((sorts(&used), case.0.has_hints()), (vec![Sort::Born], false));
        case.0.put_back(&"k".into(), used);
        assert_eq!(case.0.hints(9), [Key::from("k")]);
    }

    #[test]
    fn a_birth_is_younger_than_the_removal_that_came_before_it_in_the_same_millisecond() {
        let mut case = Case::new().hear("a", Sort::Expired, 5000, OWNER).hear("a", Sort::Born, 5000, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Expired, Sort::Born]);
        let later = case.look("a", 0);
        assert_eq!(later.earlier_birth, Some(Millis(5001)));
    }

    #[test]
    fn a_birth_that_a_look_has_used_is_remembered_when_another_follows() {
        let mut case = Case::new().hear("a", Sort::Born, 5000, OWNER);
        assert_eq!(case.take("a", 0), [Sort::Born]);
        let mut case = case.hear("a", Sort::Expired, 5010, OWNER).hear("a", Sort::Born, 5020, OWNER);
        let used = case.look("a", 0);
        assert_eq!((sorts(&used), used.earlier_birth), (vec![Sort::Expired, Sort::Born], Some(Millis(5000))));
        case.0.put_back(&"k".into(), used);
        let again = case.look("a", 0);
        assert_eq!(again.earlier_birth, Some(Millis(5000)));
    }

    #[test]
    fn what_is_put_back_is_as_it_was() {
        // A deletion that did not count for one answer counts for that of its own node ...
        let mut case = Case::new().hear("b", Sort::Born, 4500, MASTER).hear("a", Sort::Deleted, 5000, OWNER);
        let used = case.look("b", 0);
        assert_eq!(sorts(&used), [Sort::Born]);
        case.0.put_back(&"k".into(), used);
        assert_eq!(case.take("a", 0), [Sort::Deleted]);
        // ... and what counted only for the answer of its own node does not count for another's.
        let mut case = Case::new().hear("b", Sort::Expired, 5000, MASTER);
        let used = case.look("b", 0);
        assert_eq!(sorts(&used), [Sort::Expired]);
        case.0.put_back(&"k".into(), used);
        assert_eq!(case.take("a", 0), []);
        assert_eq!(case.take("b", 0), [Sort::Expired]);
    }

    #[test]
    fn a_demoted_masters_del_does_not_hide_the_expiry_on_the_promoted_one() {
        let mut case = Case::new().hear("a", Sort::Deleted, 5000, OWNER).hear("b", Sort::Expired, 5000, REPLICA);
        assert_eq!(case.take("b", 0), [Sort::Expired]);
    }

    #[test]
    fn a_birth_behind_the_answer_leaves_a_hint_and_one_before_it_does_not() {
        let mut evidence = Evidence::new(10);
        let key = Key::from("k");
        let node = NodeId::from("a");
        evidence.hear(&key, heard("a", Sort::Born, 1), OWNER).unwrap();
        assert_eq!(evidence.hints(9), std::slice::from_ref(&key));
        evidence.hear(&key, heard("a", Sort::Expired, 2), OWNER).unwrap();
        let mark = evidence.mark();
        evidence.take(&key, Answering { node: &node, since: Millis(0) }, mark);
        assert_eq!(evidence.hints(9), []);
        let mark = evidence.mark();
        evidence.hear(&key, heard("a", Sort::Born, 3), OWNER).unwrap();
        let used = evidence.take(&key, Answering { node: &node, since: Millis(0) }, mark);
        assert_eq!(sorts(&used), [Sort::Born]);
        assert_eq!(evidence.hints(9), [key]);
    }

    #[test]
    fn what_an_answered_look_left_fades() {
        let mut case = Case::new().hear("r", Sort::Expired, 0, REPLICA);
        assert_eq!(case.take("a", 0), []);
        case.0.hints(9);
        case.0.fade(Millis(UNUSED_MS));
        assert_eq!(case.0.len(), 1);
        case.0.fade(Millis(UNUSED_MS + 1));
        assert!(case.0.is_empty());
    }

    #[test]
    fn what_no_answer_has_come_to_does_not_fade() {
        let late = Millis(100 * UNUSED_MS);
        let mut case = Case::new().hear("a", Sort::Deleted, 0, OWNER);
        case.0.hints(9);
        case.0.fade(late);
        assert_eq!(case.take("a", 0), [Sort::Deleted]);
        // Nor does what tells it for a MIGRATE.
        let mut case = Case::new().hear("a", Sort::Deleted, 0, OWNER).hear("b", Sort::Born, 5, MASTER);
        case.0.hints(9);
        case.0.fade(late);
        assert_eq!(case.take("c", -1_001), [Sort::Born; 0]);
        // An answer that did not count leaves what it could not have used as it was.
        let mut case = Case::new().hear("r", Sort::Expired, 0, REPLICA);
        let used = case.look("a", 0);
        case.0.put_back(&"k".into(), used);
        case.0.hints(9);
        case.0.fade(late);
        assert_eq!(case.take("r", 0), [Sort::Expired]);
    }

    #[test]
    fn news_of_too_many_keys_or_too_much_of_a_few_is_told() {
        let mut evidence = Evidence::new(1);
        let key = Key::from("k");
        evidence.hear(&key, heard("a", Sort::Expired, 0), OWNER).unwrap();
        assert_eq!(evidence.hear(&"l".into(), heard("a", Sort::Expired, 0), OWNER), Err(Full));
        for at in 1..4 {
            evidence.hear(&key, heard("a", Sort::Expired, at), OWNER).unwrap();
        }
        assert_eq!(evidence.hear(&key, heard("a", Sort::Expired, 4), OWNER), Err(Full));
        // What is used makes room, and what is put back takes it again.
        let mark = evidence.mark();
        let used = evidence.take(&key, Answering { node: &"a".into(), since: Millis(0) }, mark);
        evidence.put_back(&key, used);
        assert_eq!(evidence.hear(&key, heard("a", Sort::Expired, 4), OWNER), Err(Full));
        evidence.fade(Millis(4));
        assert_eq!(evidence.hear(&key, heard("a", Sort::Expired, 4), OWNER), Err(Full));
        let mark = evidence.mark();
        evidence.take(&key, Answering { node: &"a".into(), since: Millis(0) }, mark);
        evidence.hear(&key, heard("a", Sort::Expired, 5), OWNER).unwrap();
    }
}
