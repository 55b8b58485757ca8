//! What was told against what is true.

use redis_expiry_operator::{
    model::{Evidence, Millis},
    plan::Inferred,
    store::Store as _,
};

use crate::{
    process::ready,
    server::KeyIndex,
    truth::{End, Expiry, Life, LifeId, Truth},
    world::{BASE, World},
};

/// Two readings of one deadline (DESIGN rule 7), and the rounding of MIGRATE.
const SAME_MS: i64 = 6;
/// A push's time is that of its arrival, by an offset that is off by half a slow exchange.
const PUSH_MS: std::ops::RangeInclusive<i64> = -45..=90;

/// Under client tracking: how late we may read of a change. What is paid so shortly before its deadline may be told, `Inferred`; what
/// is set again so soon behind its expiry, or expires so soon after it was set, may go untold.
const BEHIND: i64 = 100_000;

/// A key that was changed is looked at by then, a look before it that is slow included.
const LOOKED_AT: i64 = 100_000;

/// What is wrong with a run.
#[derive(Clone, Debug)]
pub struct Violation {
    pub key: Option<KeyIndex>,
    pub what: String,
}

/// An event, as told.
#[derive(Debug)]
struct Told {
    key: KeyIndex,
    deadline: i64,
    at: i64,
    evidence: Evidence,
}

impl Told {
    fn names(&self, life: &Life, expiry: Option<usize>) -> bool {
        let deadline = life.deadlines.iter().any(|(_, deadline)| (deadline - self.deadline).abs() <= SAME_MS);
        let push = expiry.is_some_and(|expiry| {
            let after = self.deadline - life.expiries[expiry].server_at;
            PUSH_MS.contains(&after)
        });
        self.key == life.key && (deadline || push)
    }
}

impl World {
    pub fn violations(&mut self) -> Vec<Violation> {
        let mut found = Vec::new();
        let events = ready(self.store.pending(Millis(i64::MAX), Vec::new(), usize::MAX)).expect("a read");
        let told: Vec<Told> = events
            .into_iter()
            .map(|pending| Told {
                key: self.index_of(&pending.event.key),
                deadline: pending.event.deadline.0,
                at: self.settled_at[&pending.event.id],
                evidence: pending.event.evidence,
            })
            .collect();
        for event in &told {
            let text = format!("{:?} {} was told at {:.3} ms", event.evidence, event.deadline, event.at as f64 / 1e3);
            self.note(event.key, || format!("(in the end) {text}"));
        }
        lost(&self.truth, &told, self.inferred, self.tracking, &mut found);
        let offsets: Vec<i64> = self.servers.iter().map(|server| server.offset).collect();
        invented(&self.truth, &told, (self.inferred, self.tracking), &offsets, &mut found);
        self.unsettled(&mut found);
        found
    }

    /// Nothing stays in flight, nothing is left of what is past.
    fn unsettled(&mut self, found: &mut Vec<Violation>) {
        let current = self.current;
        for entry in ready(self.store.due(None, usize::MAX)).expect("a read") {
            let key = Some(self.index_of(&entry.key));
            found.push(Violation { key, what: format!("an entry is left: {entry:?}") });
        }
        let healthy = self.healthy();
        let in_flight = self.process(current).map(|process| (process.book.in_flight(), process.evidence.len()));
        if in_flight.is_none_or(|(in_flight, _)| in_flight > 0) || !healthy {
            let what = format!("it does not settle: in flight {in_flight:?}, healthy {healthy}");
            found.push(Violation { key: None, what });
        }
    }
}

/// "Every key that was recorded (a scan or a push saw it alive) and then expires yields at least one event."
fn lost(truth: &Truth, told: &[Told], inferred: Inferred, tracking: bool, found: &mut Vec<Violation>) {
    let owed =
        |life: &LifeId| owed(truth, *life, inferred) && !(tracking && untold_by_tracking(truth, *life, inferred));
    let owed: Vec<LifeId> = (0..truth.lives.len()).filter(owed).collect();
    let fits: Vec<Vec<usize>> = owed
        .iter()
        .map(|id| {
            let life = &truth.lives[*id];
            let fits = |event: &Told| {
                event.at >= life.born
                    && (event.names(life, None)
                        || (0..life.expiries.len()).any(|expiry| event.names(life, Some(expiry))))
            };
            (0..told.len()).filter(|index| fits(&told[*index])).collect()
        })
        .collect();
    for unmatched in unmatched(&fits, told.len()) {
        let life = &truth.lives[owed[unmatched]];
        // An earlier life, shortened unseen, was told by the time of its push; this one falls due at that moment, by the same id.
        let shared = |event: &Told| {
            let by_push = |other: &Life| (0..other.expiries.len()).any(|expiry| event.names(other, Some(expiry)));
            let earlier = |other: &Life| other.born < life.born && !event.names(other, None) && by_push(other);
            event.names(life, None) && truth.lives.iter().any(earlier)
        };
        if !told.iter().any(shared) {
            found.push(Violation { key: Some(life.key), what: format!("lost: {life:?}") });
        }
    }
}

/// Whether an event is owed for a life: it was seen, it expired, and rule 15 does not exclude it.
fn owed(truth: &Truth, id: LifeId, inferred: Inferred) -> bool {
    let life = &truth.lives[id];
    let Some(expiry) = life.expiries.first() else { return owed_for_lost_data(truth, id, inferred) };
    // Once deleted and once expired, before and after a failover: either may be told.
    if life.ends.iter().any(|(at, _)| *at < expiry.at) {
        return false;
    }
    let recorded = life.recorded.is_some_and(|recorded| recorded <= expiry.at);
    // A birth that was heard is recorded by the look that follows it, if we live to do it.
    let heard =
        life.heard.is_some_and(|heard| heard <= expiry.at) && !truth.gap_between(life.born, expiry.at + 200_000);
    // Rule 9: "a memory left by an earlier process: more than 1 s since"; a life that no look has seen needs a memory.
    let overlapped = truth.starts.iter().skip(1).any(|start| (0..=1_100_000).contains(&(life.born - start)));
    if !(recorded || (heard && !overlapped)) {
        return false;
    }
    if inferred == Inferred::Drop
        && (truth.gap_between(life.born, expiry.at + 200_000) || moved(truth, life, expiry.at))
    {
        return false;
    }
    // "Not promised: a key born and gone, ... inside one gap"
    if truth.in_one_gap(life.born, expiry.at) {
        return false;
    }
    // "shortened ... inside one gap"
    let shortened =
        life.deadlines.windows(2).any(|pair| pair[1].1 < pair[0].1 && truth.in_one_gap(pair[1].0, expiry.at));
    if shortened {
        return false;
    }
    let next = next_birth(truth, life);
    // "or expired and re-created inside one gap"
    let recreated_in_gap = next.is_some_and(|next| truth.in_one_gap(expiry.at.min(next), next));
    // "or re-created at its deadline while its slot moves (its old life on the source)"
    !(recreated_in_gap || recreated_in_move(truth, life, expiry.due))
}

/// What nobody can tell who is told that something happened, and not what.
fn untold_by_tracking(truth: &Truth, id: LifeId, inferred: Inferred) -> bool {
    let life = &truth.lives[id];
    // An eviction looks like a deletion.
    let Some(expiry) = life.expiries.first() else { return life.evicted };
    let set = life.deadlines.iter().map(|(at, _)| *at).filter(|at| *at <= expiry.at).max().unwrap_or(life.born);
    // Any expiry may have been a deletion in the last moment.
    inferred == Inferred::Drop
        || life.recorded.is_none_or(|recorded| recorded > expiry.at)
        || expiry.at - set <= BEHIND
        || next_birth(truth, life).is_some_and(|next| next - expiry.at <= BEHIND)
}

fn next_birth(truth: &Truth, life: &Life) -> Option<i64> {
    truth.lives.iter().filter(|other| other.key == life.key && other.born > life.born).map(|other| other.born).min()
}

fn recreated_in_move(truth: &Truth, life: &Life, due: i64) -> bool {
    next_birth(truth, life).is_some_and(|next| {
        truth.moves.iter().any(|moving| (moving.0..=moving.1).contains(&next)) && (next - due).abs() < 1_000_000
    })
}

fn moved(truth: &Truth, life: &Life, until: i64) -> bool {
    truth.moving_between(life.born, until)
}

/// "A key ... whose data was lost, evicted or flushed ... is reported, Inferred": where nobody re-created it before its
/// deadline, and where the loss itself was to be known (an eviction is told by its push alone).
fn owed_for_lost_data(truth: &Truth, id: LifeId, inferred: Inferred) -> bool {
    let life = &truth.lives[id];
    let (Some((at, End::DataGone)), 1) = (life.ends.last().copied(), life.ends.len()) else { return false };
    let recorded = life.recorded.is_some_and(|recorded| recorded < at);
    let last = life.deadlines.last().map_or(0, |(_, deadline)| *deadline * 1_000 - BASE);
    // Before we could look, that is: nobody could from a gap's beginning to its end.
    let before_a_look =
        |other: &Life| other.born < last + 900_000 || (other.born > last && truth.in_one_gap(last, other.born));
    let recreated =
        truth.lives.iter().any(|other| other.key == life.key && other.born > life.born && before_a_look(other));
    let armed_in_gap =
        life.deadlines.last().is_some_and(|(armed, _)| truth.in_one_gap(*armed, at)) || truth.in_one_gap(life.born, at);
    inferred == Inferred::Deliver
        && recorded
        && !recreated
        && !armed_in_gap
        && !truth.in_gap(at)
        && !moved(truth, life, last)
}

/// Each event has an expiry of its own, or is `Inferred` and excused.
fn invented(
    truth: &Truth,
    told: &[Told],
    (inferred, tracking): (Inferred, bool),
    offsets: &[i64],
    found: &mut Vec<Violation>,
) {
    // Ended, or given another deadline, in its last moment.
    let at_last = |event: &Told| {
        let hardly_before = |at: i64| {
            let left = |offset: &i64| event.deadline * 1_000 - BASE - offset - at;
            offsets.iter().map(left).any(|left| (-SAME_MS * 1_000..=BEHIND).contains(&left))
        };
        let mut lives = truth.lives.iter().filter(|life| event.names(life, None));
        tracking
            && lives.any(|life| {
                life.ends.iter().any(|(at, _)| hardly_before(*at))
                    || life.deadlines.iter().skip(1).any(|(at, _)| hardly_before(*at))
            })
    };
    let expiries: Vec<(LifeId, usize)> = truth
        .lives
        .iter()
        .enumerate()
        .flat_map(|(id, life)| (0..life.expiries.len()).map(move |expiry| (id, expiry)))
        .collect();
    // Witnessed events choose first: they have no excuse.
    let mut order: Vec<usize> = (0..told.len()).collect();
    order.sort_by_key(|index| (told[*index].evidence == Evidence::Inferred, told[*index].at));
    let fits: Vec<Vec<usize>> = order
        .iter()
        .map(|index| {
            let event = &told[*index];
            let fits = |(id, expiry): &(LifeId, usize)| {
                let life = &truth.lives[*id];
                let Expiry { at, due, .. } = life.expiries[*expiry];
                // An expiry in a gap may be taken for that of an earlier life which ended in it unheard.
                let mistaken = || {
                    let earlier = |other: &Life| other.born < life.born && event.names(other, None);
                    truth.in_one_gap(life.born, at) && truth.lives.iter().any(earlier)
                };
                event.at >= due && (event.names(life, Some(*expiry)) || (event.key == life.key && mistaken()))
            };
            (0..expiries.len()).filter(|slot| fits(&expiries[*slot])).collect()
        })
        .collect();
    for unmatched in unmatched(&fits, expiries.len()) {
        let event = &told[order[unmatched]];
        if event.evidence == Evidence::Witnessed
            || !(excused(truth, event) || skewed(offsets, truth, event) || at_last(event))
        {
            found.push(Violation { key: Some(event.key), what: format!("invented, or told twice: {event:?}") });
        }
    }
    for event in told.iter().filter(|event| event.evidence == Evidence::Inferred) {
        if inferred == Inferred::Drop {
            found.push(Violation { key: Some(event.key), what: format!("inferred in spite of Drop: {event:?}") });
        }
        // "and evidence `Witnessed` for everything outside gaps"
        let lives = || truth.lives.iter().filter(|life| event.names(life, None));
        let whole = |life: &Life| {
            let to = event.at + 50_000;
            !truth.gap_between(life.born, to)
                && !truth.moving_between(life.born, to)
                && !life.ends.iter().any(|(_, end)| *end == End::DataGone)
                && !overwritten_and_lost(truth, life)
        };
        if !tracking && lives().all(whole) && !truth.gap_between(event.at - 300_000, event.at) {
            found.push(Violation { key: Some(event.key), what: format!("inferred without a gap: {event:?}") });
        }
    }
}

/// After a failover a deadline comes early or late by as much as two clocks differ (facts/redis.md 7 and 10): it was past by
/// one of them.
fn skewed(offsets: &[i64], truth: &Truth, event: &Told) -> bool {
    let past = |offset: &i64| BASE + event.at + offset >= event.deadline * 1_000;
    truth.in_gap(event.at) && offsets.iter().any(past) && !offsets.iter().all(past)
}

/// "Invented" does not mean "an `Inferred` one whose deletion fell into a gap or a loss of data".
fn excused(truth: &Truth, event: &Told) -> bool {
    truth.lives.iter().filter(|life| event.names(life, None) && life.born <= event.at).any(|life| {
        // "A `del` that may be a MIGRATE does not count when ... the answering connection is younger" than a second.
        // The slot may have begun to move behind the `del`: another node answers the look all the same.
        let young = |at: i64| truth.moving_between(at, at + LOOKED_AT) && truth.gap_between(at - 1_000_000, at);
        let ended = life.ends.iter().any(|(at, end)| *end == End::DataGone || truth.in_gap(*at) || young(*at));
        // Extended in a gap, or to be expired by a master with another clock.
        let changed = life.deadlines.iter().skip(1).any(|(at, _)| truth.in_gap(*at));
        ended
            || changed
            || overwritten_and_lost(truth, life)
            || life.expiries.iter().any(|expiry| recreated_in_move(truth, life, expiry.due))
            || life.expiries.iter().any(|expiry| truth.in_gap(expiry.at))
    })
}

/// What it was overwritten with, without a deadline, was flushed or evicted before we could look: to us the old data was lost.
fn overwritten_and_lost(truth: &Truth, life: &Life) -> bool {
    let soon_lost =
        |other: &Life| other.ends.iter().any(|(at, end)| *end == End::DataGone && *at - other.born <= LOOKED_AT);
    let overwritten = |at: i64| life.ends.contains(&(at, End::Removed));
    let mut others = truth.lives.iter().filter(|other| other.key == life.key && other.deadlines.is_empty());
    others.any(|other| overwritten(other.born) && soon_lost(other))
}

/// Which of `fits` get none of `slots` when as many as possible get one, the first ones first (augmenting paths).
fn unmatched(fits: &[Vec<usize>], slots: usize) -> Vec<usize> {
    fn place(who: usize, fits: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for slot in &fits[who] {
            if std::mem::replace(&mut tried[*slot], true) {
                continue;
            }
            if taken[*slot].is_none_or(|other| place(other, fits, taken, tried)) {
                taken[*slot] = Some(who);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; slots];
    (0..fits.len()).filter(|who| !place(*who, fits, &mut taken, &mut vec![false; slots])).collect()
}
