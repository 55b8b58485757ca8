//! Who is alive, as far as one replica can tell. Pure.
//!
//! A replica renews its Lease and sees that renewal come back through its watch of all Leases. The watch is in order: so when
//! a renewal that was sent at `t` comes back, every change of another Lease before `t` has been seen too. Others are judged as
//! of that moment, [`Observer::read_at`], and never by the time of day: a replica that is cut from the API server, or that was
//! stopped for a minute, sees nobody die, and goes on with what it knew.
//!
//! Wall clocks (`renewTime`) are compared for equality only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// A replica: the name of its pod.
pub type Member = String;

/// One state of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    pub member: Member,
    /// `renewTime` as it is written: another one is another renewal.
    pub stamp: String,
}

/// What one replica saw.
#[derive(Debug)]
pub struct Observer {
    me: Member,
    expiry: Duration,
    seen: BTreeMap<Member, Seen>,
    /// Renewals of ours that did not come back yet: the stamp, and when it was sent.
    sent: Vec<(String, Instant)>,
    read_at: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    stamp: String,
    /// When it was seen to change.
    at: Instant,
    /// It was borne with since.
    borne: bool,
}

/// So many renewals may be under way; older ones will not come back.
const SENT: usize = 16;

impl Observer {
    /// Others are dead when their Lease has not changed for `expiry`.
    pub fn new(me: Member, expiry: Duration) -> Self {
        Self { me, expiry, seen: BTreeMap::new(), sent: Vec::new(), read_at: None }
    }

    /// A renewal of ours is about to be sent.
    pub fn sending(&mut self, stamp: String, now: Instant) {
        if self.sent.len() == SENT {
            self.sent.remove(0);
        }
        self.sent.push((stamp, now));
    }

    /// A Lease was created or has changed.
    pub fn changed(&mut self, renewal: Renewal, now: Instant) {
        if renewal.member == self.me {
            self.came_back(&renewal.stamp);
        }
        let changed = self.seen.get(&renewal.member).is_none_or(|seen| seen.stamp != renewal.stamp);
        if changed {
            self.seen.insert(renewal.member, Seen { stamp: renewal.stamp, at: now, borne: false });
        }
    }

    /// A Lease was deleted: its replica has left.
    pub fn left(&mut self, member: &str) {
        self.seen.remove(member);
    }

    /// Everything was read anew, as after the watch was lost; `renewals` are all there are.
    pub fn all(&mut self, renewals: Vec<Renewal>, now: Instant) {
        let there: BTreeSet<Member> = renewals.iter().map(|renewal| renewal.member.clone()).collect();
        self.seen.retain(|member, _| there.contains(member));
        // Ours last: it says that the others have been seen.
        let (mine, others): (Vec<_>, Vec<_>) = renewals.into_iter().partition(|renewal| renewal.member == self.me);
        for renewal in others.into_iter().chain(mine) {
            self.changed(renewal, now);
        }
    }

    fn came_back(&mut self, stamp: &str) {
        if let Some(index) = self.sent.iter().position(|(sent, _)| sent == stamp) {
            let (_, at) = self.sent[index];
            self.sent.drain(..=index);
            let gap = self.read_at.map(|before| at.saturating_duration_since(before));
            self.read_at = self.read_at.max(Some(at));
            if gap.is_some_and(|gap| gap > self.expiry * 2 / 3) {
                self.bear_with(at);
            }
        }
    }

    /// For a while nothing was seen. If the API server was away nobody could renew, and who is back first would take everything
    /// from the others for a moment: they are given two thirds of a Lease's life. Once for a renewal of theirs: where ours fail
    /// every now and then, each success ends a silence, and the dead would never be.
    fn bear_with(&mut self, at: Instant) {
        let Some(since) = at.checked_sub(self.expiry / 3) else { return };
        for (_, seen) in self.seen.iter_mut().filter(|(member, seen)| **member != self.me && !seen.borne) {
            if seen.at < since {
                (seen.at, seen.borne) = (since, true);
            }
        }
    }

    /// As of when the others are known; `None` before the first renewal came back.
    pub fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Who is alive, ourselves among them; empty before the first renewal came back.
    pub fn live(&self) -> BTreeSet<Member> {
        let Some(read_at) = self.read_at else { return BTreeSet::new() };
        let alive = |seen: &Seen| read_at.saturating_duration_since(seen.at) <= self.expiry;
        let others = self.seen.iter().filter(|(member, seen)| **member != self.me && alive(seen));
        others.map(|(member, _)| member.clone()).chain([self.me.clone()]).collect()
    }

    /// Those whose Lease has not changed for `long`: whatever held them will not come back.
    pub fn dead_for(&self, long: Duration) -> Vec<Member> {
        let Some(read_at) = self.read_at else { return Vec::new() };
        let dead = |seen: &Seen| read_at.saturating_duration_since(seen.at) > long;
        self.seen.iter().filter(|(member, seen)| **member != self.me && dead(seen)).map(|(m, _)| m.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(6);

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn renewal(member: &str, stamp: u64) -> Renewal {
        Renewal { member: member.into(), stamp: stamp.to_string() }
    }

    fn live(observer: &Observer) -> Vec<String> {
        observer.live().into_iter().collect()
    }

    /// A replica whose renewals come back at once.
    fn renewed(observer: &mut Observer, at: Instant, stamp: u64) {
        observer.sending(format!("mine {stamp}"), at);
        observer.changed(Renewal { member: "a".into(), stamp: format!("mine {stamp}") }, at);
    }

    #[test]
    fn nobody_is_alive_before_the_first_renewal_came_back() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.all(vec![renewal("b", 1)], start);
        assert_eq!(live(&observer), Vec::<String>::new());
        renewed(&mut observer, start, 1);
        assert_eq!(live(&observer), ["a", "b"]);
    }

    #[test]
    fn a_replica_that_does_not_renew_for_six_seconds_is_dead() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.changed(renewal("b", 1), start);
        for at in (2..=6).step_by(2) {
            renewed(&mut observer, start + second(at), at);
            assert_eq!(live(&observer), ["a", "b"], "{at} s");
        }
        renewed(&mut observer, start + second(8), 8);
        assert_eq!(live(&observer), ["a"]);
        observer.changed(renewal("b", 2), start + second(9));
        assert_eq!(live(&observer), ["a", "b"], "it is back");
    }

    #[test]
    fn a_lease_seen_again_unchanged_is_no_renewal() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.changed(renewal("b", 1), start);
        observer.changed(renewal("b", 1), start + second(7));
        renewed(&mut observer, start + second(7), 7);
        assert_eq!(live(&observer), ["a"]);
    }

    #[test]
    fn a_replica_that_hears_nothing_sees_nobody_die() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        renewed(&mut observer, start, 0);
        observer.changed(renewal("b", 1), start);
        for at in 1..60 {
            observer.sending(format!("lost {at}"), start + second(at));
        }
        assert_eq!(live(&observer), ["a", "b"]);
        assert_eq!(observer.read_at(), Some(start));
        // The watch is back: b has renewed all the while.
        observer.sending("mine 60".into(), start + second(60));
        observer
            .all(vec![Renewal { member: "a".into(), stamp: "mine 60".into() }, renewal("b", 30)], start + second(61));
        assert_eq!(live(&observer), ["a", "b"]);
    }

    #[test]
    fn after_a_silence_the_dead_are_those_that_do_not_renew_after_it_either() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        renewed(&mut observer, start, 0);
        observer.changed(renewal("b", 1), start);
        observer.changed(renewal("c", 1), start);
        observer.sending("mine 60".into(), start + second(60));
        let mine = Renewal { member: "a".into(), stamp: "mine 60".into() };
        observer.all(vec![mine, renewal("b", 2), renewal("c", 1)], start + second(61));
        // The API server may have been away for all of them.
        assert_eq!(live(&observer), ["a", "b", "c"]);
        for at in [62, 64] {
            renewed(&mut observer, start + second(at), at);
            assert_eq!(live(&observer), ["a", "b", "c"], "{at} s");
        }
        observer.changed(renewal("b", 3), start + second(65));
        renewed(&mut observer, start + second(66), 66);
        assert_eq!(live(&observer), ["a", "b"]);
        renewed(&mut observer, start + second(69), 69);
        assert_eq!(observer.dead_for(second(10)), ["c"]);
    }

    #[test]
    fn who_is_dead_is_so_in_the_end_though_ours_come_back_only_now_and_then() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        renewed(&mut observer, start, 0);
        observer.changed(renewal("b", 1), start);
        observer.changed(renewal("c", 1), start);
        for at in [5, 10, 15] {
            observer.changed(renewal("b", at), start + second(at));
            renewed(&mut observer, start + second(at), at);
            let alive: &[&str] = if at == 5 { &["a", "b", "c"] } else { &["a", "b"] };
            assert_eq!(live(&observer), alive, "{at} s");
        }
        // One that is heard of again is borne with again.
        observer.changed(renewal("c", 2), start + second(16));
        renewed(&mut observer, start + second(60), 60);
        assert_eq!(live(&observer), ["a", "b", "c"]);
        renewed(&mut observer, start + second(65), 65);
        assert_eq!(live(&observer), ["a"]);
    }

    #[test]
    fn who_leaves_is_gone_at_once() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.changed(renewal("b", 1), start);
        renewed(&mut observer, start, 1);
        observer.left("b");
        assert_eq!(live(&observer), ["a"]);
    }

    #[test]
    fn an_older_renewal_of_ours_does_not_count_as_a_newer_one() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.sending("1".into(), start);
        observer.sending("2".into(), start + second(2));
        observer.changed(renewal("a", 1), start + second(3));
        assert_eq!(observer.read_at(), Some(start));
        observer.changed(renewal("a", 2), start + second(3));
        assert_eq!(observer.read_at(), Some(start + second(2)));
        observer.sending("3".into(), start + second(4));
        observer.changed(Renewal { member: "a".into(), stamp: "another process's".into() }, start + second(4));
        assert_eq!(observer.read_at(), Some(start + second(2)));
    }

    #[test]
    fn who_left_while_nothing_was_heard_is_gone_when_everything_is_read_anew() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        observer.changed(renewal("b", 1), start);
        renewed(&mut observer, start, 1);
        observer.sending("mine 2".into(), start + second(2));
        observer.all(vec![Renewal { member: "a".into(), stamp: "mine 2".into() }], start + second(2));
        assert_eq!(live(&observer), ["a"]);
        assert_eq!(observer.dead_for(second(0)), Vec::<String>::new());
    }

    #[test]
    fn who_reads_is_alive_whatever_became_of_its_own_lease_and_never_removes_it() {
        let start = Instant::now();
        let mut observer = Observer::new("a".into(), EXPIRY);
        renewed(&mut observer, start, 1);
        observer.left("a");
        assert_eq!(live(&observer), ["a"]);
        // Its own changes come late, and it is not for itself to take them for its death.
        renewed(&mut observer, start, 2);
        observer.sending("mine 3".into(), start + second(600));
        observer.came_back("mine 3");
        assert_eq!((live(&observer), observer.dead_for(second(300))), (vec!["a".to_owned()], Vec::new()));
    }
}
