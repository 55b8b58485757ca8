//! Compares the truth with what the receiver got. Pure.

use std::collections::{BTreeMap, HashMap};

use redis_expiry_operator::model::{Evidence, Key, Millis, same_deadline};

use super::{
    receiver::Received,
    report::{Report, Span, case},
    truth::{Act, Before, History, Life, Op},
    verdict::{Faults, RECORDING_MS, Verdict},
};

/// One id, as the receiver knows it.
struct Told<'a> {
    first: &'a Received,
    answered: bool,
}

/// How much later than the deadline a push may come that nobody asked for.
const UNASKED_MS: i64 = 1_000;

pub fn judge(histories: &[History], received: &[Received], faults: &Faults, spans: &[Span]) -> Report {
    let watched = histories.iter().filter(|history| history.watched);
    let lives: Vec<(Life, Verdict)> = watched
        .flat_map(History::lives)
        .map(|life| {
            let verdict = faults.verdict(&life);
            (life, verdict)
        })
        .collect();
    let mut by_key: HashMap<&Key, Vec<usize>> = HashMap::new();
    for (index, (life, _)) in lives.iter().enumerate() {
        by_key.entry(&life.key).or_default().push(index);
    }
    let mut report = Report { rate: rate(&lives), ..Report::default() };
    let told = by_id(received, &mut report);
    let mut deadlines: HashMap<&Key, Vec<Millis>> = HashMap::new();
    for event in told.values() {
        deadlines.entry(&event.first.key).or_default().push(event.first.deadline);
    }
    let mut events: HashMap<usize, Vec<&Told>> = HashMap::new();
    for event in told.values() {
        let candidates = by_key.get(&event.first.key).map_or(&[][..], Vec::as_slice);
        let by_itself = |life: &Life| {
            let told = deadlines.get(&life.key).map_or(&[][..], Vec::as_slice);
            told.iter().any(|deadline| same_deadline(*deadline, life.deadline))
        };
        if let Some((index, exact)) = attribute(event.first, candidates, &lives, faults, by_itself) {
            report.by_push += usize::from(!exact);
            events.entry(index).or_default().push(event);
        } else {
            let why = format!("no life has the deadline {}", event.first.deadline.0);
            report.invented.push(case(&event.first.key, why));
        }
    }
    for (index, (life, verdict)) in lives.iter().enumerate() {
        let events = events.get(&index).map_or(&[][..], Vec::as_slice);
        match verdict {
            Verdict::Must | Verdict::Vanished => owed(life, verdict, events, faults, spans, &mut report),
            Verdict::MustNot(op) => not_owed(life, op, events, faults, spans, &mut report),
            Verdict::Uncertain(_) => report.uncertain += 1,
            Verdict::Unpromised(_) => report.unpromised += 1,
            Verdict::Unborn => {}
        }
        if let (false, Some(early)) =
            (matches!(verdict, Verdict::MustNot(_)), early(life, events, 5 + faults.ahead_of(life)))
        {
            report.invented.push(case(&life.key, format!("told {early} ms before its deadline")));
        }
    }
    report.lateness_inside.sort_unstable();
    report.lateness_outside.sort_unstable();
    report
}

fn by_id<'a>(received: &'a [Received], report: &mut Report) -> BTreeMap<&'a str, Told<'a>> {
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for one in received {
        let known = told.entry(&one.id).or_insert(Told { first: one, answered: false });
        report.duplicates += usize::from(known.answered);
        known.answered |= (200..300).contains(&one.answered);
        if (&known.first.key, known.first.deadline) != (&one.key, one.deadline) {
            report.two_ids.push(case(&one.key, "one id for two expiries"));
        }
    }
    told
}

/// An expiry that had to be told: by one id, with a 2xx, with the right evidence.
fn owed(life: &Life, verdict: &Verdict, events: &[&Told], faults: &Faults, spans: &[Span], report: &mut Report) {
    let delivered = events.iter().any(|event| event.answered);
    let inside = inside(life.deadline, spans);
    report.expected += 1;
    report.delivered += usize::from(delivered);
    report.due_inside += usize::from(inside);
    if !delivered {
        report.lost.push(case(&life.key, format!("no 2xx for the deadline {}", life.deadline.0)));
    }
    if let Some(first) = events.iter().map(|event| event.first.at).min() {
        let lateness = if inside { &mut report.lateness_inside } else { &mut report.lateness_outside };
        lateness.push(first.since(life.deadline));
    }
    if events.len() > 1 && faults.resurrects(life) {
        report.resurrected += 1;
    } else if events.len() > 1 {
        report.two_ids.push(case(&life.key, format!("{} under {} ids", life.deadline.0, events.len())));
    }
    if faults.tracked && *verdict == Verdict::Must && !faults.gap_at(life, life.deadline) {
        report.tracked += 1;
        report.tracked_witnessed += usize::from(events.iter().any(|event| event.first.evidence == Evidence::Witnessed));
    }
    for event in events {
        match (event.first.evidence, verdict) {
            (Evidence::Inferred, Verdict::Must) if !faults.blind_at(life, life.deadline) => {
                report.unwitnessed.push(case(&life.key, "Inferred outside every gap"));
            }
            // What Redis lost nobody can have pushed.
            (Evidence::Witnessed, Verdict::Vanished) => {
                report.unwitnessed.push(case(&life.key, "Witnessed, though Redis had lost it"));
            }
            _ => {}
        }
    }
}

/// A life that `op` ended before its deadline: nothing may be told, but what a gap excuses.
fn not_owed(life: &Life, op: &Op, events: &[&Told], faults: &Faults, spans: &[Span], report: &mut Report) {
    let excuse = faults.excuses(life, op);
    report.paid += 1;
    report.paid_inside += usize::from(op.act == Act::Delete && inside(op.end, spans));
    report.excusable += usize::from(excuse);
    for event in events {
        if excuse && event.first.evidence == Evidence::Inferred {
            report.excused += 1;
        } else if faults.hardly_before(life, op) && event.first.evidence == Evidence::Inferred {
            report.at_last += 1;
            report.at_last_but_early += usize::from(life.deadline.since(op.end) > 50);
        } else {
            report.invented.push(case(&life.key, format!("it was ended before {}", life.deadline.0)));
        }
    }
}

fn inside(at: Millis, spans: &[Span]) -> bool {
    spans.iter().any(|span| span.from <= at && at <= span.to)
}

/// By how much the earliest event came too soon.
fn early(life: &Life, events: &[&Told], allowed: i64) -> Option<i64> {
    let first = events.iter().map(|event| event.first.at).min()?;
    Some(life.deadline.since(first)).filter(|early| *early > allowed)
}

/// Which life an event tells of, and whether by its deadline or by the time of the push.
fn attribute(
    event: &Received,
    candidates: &[usize],
    lives: &[(Life, Verdict)],
    faults: &Faults,
    by_itself: impl Fn(&Life) -> bool,
) -> Option<(usize, bool)> {
    let ended = |index: &&usize| matches!(lives[**index].1, Verdict::MustNot(_));
    let exact = |index: &&usize| same_deadline(lives[**index].0.deadline, event.deadline);
    // A key may have nearly the same deadline twice: what had to be told comes first, what was ended last.
    let rank = |index: &&usize| (ended(index), !matches!(lives[**index].1, Verdict::Must | Verdict::Vanished));
    if let Some(index) = candidates.iter().filter(exact).min_by_key(rank) {
        let (life, verdict) = &lives[*index];
        let Verdict::MustNot(op) = verdict else { return Some((*index, true)) };
        // A later life did expire, and is told by the deadline that was known: a gap hid what came between, or the deadline
        // was made sooner and had passed before it could be looked at.
        let back = event.evidence == Evidence::Inferred && faults.comes_back(life, op);
        let hardly =
            !back && op.act.deadline().is_some_and(|to| to < life.deadline && to.since(op.end) <= RECORDING_MS);
        let later = |other: &&usize| *other > index && !ended(other) && lives[**other].0.deadline <= event.at;
        // One that is told by its own deadline needs no other: then the gap hid the end of the earlier one as well.
        let excused = event.evidence == Evidence::Inferred && faults.excuses(life, op);
        let of_later =
            |other: &&usize| (hardly || faults.hides(life, op)) && !(excused && by_itself(&lives[**other].0));
        let told = candidates.iter().find(later).filter(of_later);
        return Some((*told.unwrap_or(index), true));
    }
    let by_push = |index: &&usize| {
        let life = &lives[**index].0;
        let latest = faults.sees_again(life, life.deadline).max(life.born.end);
        let latest = latest.plus(UNASKED_MS + faults.ahead_of(life));
        event.evidence == Evidence::Witnessed && life.deadline < event.deadline && event.deadline <= latest
    };
    let index = candidates.iter().filter(by_push).rfind(|index| !ended(index))?;
    Some((*index, false))
}

/// How long after the first order deadlines fall due as fast as orders are created.
const RAMP_MS: i64 = 2_500;

/// Deadlines a second, from when they come steadily until the last order was created.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn rate(lives: &[(Life, Verdict)]) -> f64 {
    let new =
        |life: &Life| matches!(life.born.act, Act::Arm(_)) && life.born.done.is_none_or(|d| d.before == Before::Untold);
    let born = || lives.iter().filter(|(life, _)| new(life)).map(|(life, _)| life.born.start);
    let (Some(first), Some(last)) = (born().min(), born().max()) else { return 0.0 };
    let (from, to) = (first.plus(RAMP_MS), last);
    let due = lives.iter().filter(|(life, verdict)| {
        !matches!(verdict, Verdict::MustNot(_)) && from <= life.deadline && life.deadline <= to
    });
    due.count() as f64 * 1000.0 / to.since(from).max(1) as f64
}

#[cfg(test)]
mod tests {
    use redis_expiry_operator::model::{Address, SlotSet};

    use super::*;
    use crate::support::{
        truth::{Done, Op},
        verdict::{Demotion, Kind, Window, Wipe},
    };

    const KEY: &str = "order:pay:1";

    fn op(act: Act, at: i64, before: Before) -> Op {
        let done = Some(Done { before, replicated: true });
        Op { act, start: Millis(at), end: Millis(at + 1), node: Address::new("127.0.0.1", 7000), done }
    }
    fn armed(deadline: i64, at: i64) -> Op {
        op(Act::Arm(Millis(deadline)), at, Before::Untold)
    }
    fn paid(at: i64) -> Op {
        op(Act::Delete, at, Before::Alive)
    }
    fn told(deadline: i64, at: i64, evidence: Evidence, answered: u16) -> Received {
        let id = format!("evt_{deadline}");
        Received { at: Millis(at), id, key: KEY.into(), deadline: Millis(deadline), evidence, answered }
    }
    fn window(from: i64, to: i64, kind: Kind) -> Faults {
        let window = Window { from: Millis(from), to: Millis(to), slots: SlotSet::all(), kind };
        Faults { windows: vec![window], ..Faults::default() }
    }
    /// How many were lost, invented, told under two ids, told with the wrong evidence.
    fn judged(ops: Vec<Op>, received: &[Received], faults: &Faults) -> [usize; 4] {
        let report = judge(&[History { key: KEY.into(), watched: true, ops }], received, faults, &[]);
        [report.lost, report.invented, report.two_ids, report.unwitnessed].map(|cases| cases.len())
    }
    const WITNESSED: Evidence = Evidence::Witnessed;
    const INFERRED: Evidence = Evidence::Inferred;

    #[test]
    fn an_expiry_is_owed_one_event_with_a_2xx() {
        let none = Faults::default();
        let ops = || vec![armed(5_000, 0)];
        assert_eq!(judged(ops(), &[told(5_000, 5_004, WITNESSED, 200)], &none), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &[], &none), [1, 0, 0, 0]);
        assert_eq!(judged(ops(), &[told(5_000, 5_004, WITNESSED, 500)], &none), [1, 0, 0, 0]);
        let repeated = [told(5_000, 5_004, WITNESSED, 500), told(5_000, 5_900, WITNESSED, 200)];
        assert_eq!(judged(ops(), &repeated, &none), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &[told(5_000, 4_900, WITNESSED, 200)], &none), [0, 1, 0, 0]);
        assert_eq!(judged(ops(), &[told(5_000, 5_004, INFERRED, 200)], &none), [0, 0, 0, 1]);
    }

    #[test]
    fn one_expiry_must_not_come_under_two_ids() {
        let twice = [told(5_000, 5_004, WITNESSED, 200), told(5_003, 5_006, WITNESSED, 200)];
        assert_eq!(judged(vec![armed(5_000, 0)], &twice, &Faults::default()), [0, 0, 1, 0]);
    }

    #[test]
    fn an_event_for_a_paid_order_is_invented_unless_a_gap_hid_the_payment_and_the_deadline() {
        let ops = || vec![armed(5_000, 0), paid(3_000)];
        let inferred = [told(5_000, 5_004, INFERRED, 200)];
        let witnessed = [told(5_000, 5_004, WITNESSED, 200)];
        assert_eq!(judged(ops(), &[], &Faults::default()), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &inferred, &Faults::default()), [0, 1, 0, 0]);
        assert_eq!(judged(ops(), &inferred, &window(2_900, 6_000, Kind::Gap)), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &witnessed, &window(2_900, 6_000, Kind::Gap)), [0, 1, 0, 0]);
        assert_eq!(judged(ops(), &inferred, &window(2_900, 4_000, Kind::Gap)), [0, 1, 0, 0]);
        assert_eq!(judged(ops(), &inferred, &window(2_900, 4_000, Kind::Loss)), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &inferred, &window(3_500, 6_000, Kind::Loss)), [0, 1, 0, 0]);
    }

    #[test]
    fn an_extended_order_is_told_of_once_by_its_new_deadline() {
        let ops = || vec![armed(5_000, 0), op(Act::Move(Millis(8_000)), 3_000, Before::Alive)];
        assert_eq!(judged(ops(), &[told(8_000, 8_004, WITNESSED, 200)], &Faults::default()), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &[told(5_000, 8_004, WITNESSED, 200)], &Faults::default()), [1, 1, 0, 0]);
    }

    #[test]
    fn a_shortened_order_may_be_told_of_by_the_time_of_its_push() {
        let ops = || vec![armed(9_000, 0), op(Act::Move(Millis(5_000)), 3_000, Before::Alive)];
        assert_eq!(judged(ops(), &[told(5_090, 5_094, WITNESSED, 200)], &Faults::default()), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &[told(9_000, 9_004, WITNESSED, 200)], &Faults::default()), [1, 1, 0, 0]);
        let hardly = vec![armed(5_100, 0), op(Act::Move(Millis(5_000)), 4_800, Before::Alive)];
        assert_eq!(judged(hardly, &[told(5_100, 5_104, WITNESSED, 200)], &Faults::default()), [0, 0, 0, 0]);
        let hidden = window(2_900, 3_500, Kind::Gap);
        assert_eq!(judged(ops(), &[told(9_000, 9_004, INFERRED, 200)], &hidden)[..2], [0, 0]);
    }

    #[test]
    fn a_gap_that_hid_a_payment_may_tell_of_the_next_life_by_the_deadline_it_knew() {
        let ops = || vec![armed(9_000, 0), paid(3_000), op(Act::Arm(Millis(7_000)), 3_100, Before::Gone)];
        let one = [told(9_000, 9_004, WITNESSED, 200)];
        assert_eq!(judged(ops(), &one, &Faults::default()), [1, 1, 0, 0]);
        assert_eq!(judged(ops(), &one, &window(2_900, 8_000, Kind::Gap)), [0, 0, 0, 0]);
    }

    #[test]
    fn an_order_that_was_paid_and_made_anew_inside_a_gap_may_be_told_of_for_both() {
        let ops = || vec![armed(4_000, 0), paid(3_000), op(Act::Arm(Millis(7_000)), 4_500, Before::Gone)];
        let both = [told(4_000, 7_050, INFERRED, 200), told(7_000, 7_060, WITNESSED, 200)];
        assert_eq!(judged(ops(), &both, &window(2_900, 5_000, Kind::Gap)), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &both, &window(2_900, 3_900, Kind::Gap)), [0, 0, 1, 1]);
        assert_eq!(judged(ops(), &both, &Faults::default()), [0, 1, 0, 0]);
    }

    #[test]
    fn what_a_replica_does_that_has_just_become_master_may_not_count_yet() {
        let ops = || vec![armed(5_000, 0), paid(3_000)];
        let inferred = [told(5_000, 5_004, INFERRED, 200)];
        let handover = window(2_900, 3_200, Kind::Handover);
        assert_eq!(judged(ops(), &inferred, &handover), [0, 1, 0, 0]);
        let faults = Faults { promotions: vec![ops()[1].node.clone()], ..handover };
        assert_eq!(judged(ops(), &inferred, &faults), [0, 0, 0, 0]);
        assert_eq!(judged(vec![armed(5_000, 0), paid(3_500)], &inferred, &faults), [0, 1, 0, 0]);
    }

    #[test]
    fn nothing_is_promised_for_a_life_inside_one_gap() {
        assert_eq!(judged(vec![armed(5_000, 3_000)], &[], &window(2_900, 6_000, Kind::Gap)), [0, 0, 0, 0]);
        assert_eq!(judged(vec![armed(5_000, 3_000)], &[], &window(2_900, 4_900, Kind::Gap)), [1, 0, 0, 0]);
        assert_eq!(judged(vec![armed(5_000, 2_000)], &[], &window(2_900, 6_000, Kind::Gap)), [1, 0, 0, 0]);
    }

    #[test]
    fn what_was_wiped_is_owed_an_inferred_event() {
        let wipe = Wipe { from: Millis(3_000), to: Millis(3_001), slots: SlotSet::all() };
        let faults = Faults { wipes: vec![wipe], ..window(3_000, 3_900, Kind::Loss) };
        let ops = || vec![armed(5_000, 0)];
        assert_eq!(judged(ops(), &[told(5_000, 5_004, INFERRED, 200)], &faults), [0, 0, 0, 0]);
        assert_eq!(judged(ops(), &[], &faults), [1, 0, 0, 0]);
        assert_eq!(judged(ops(), &[told(5_000, 5_004, WITNESSED, 200)], &faults), [0, 0, 0, 1]);
    }

    #[test]
    fn a_write_that_no_replica_had_is_uncertain_only_if_its_master_was_lost() {
        let mut unconfirmed = armed(5_000, 0);
        unconfirmed.done = Some(Done { before: Before::Untold, replicated: false });
        assert_eq!(judged(vec![unconfirmed.clone()], &[], &Faults::default()), [1, 0, 0, 0]);
        let node = unconfirmed.node.clone();
        let faults = Faults { demotions: vec![Demotion { node, until: Millis(900) }], ..Faults::default() };
        assert_eq!(judged(vec![unconfirmed], &[], &faults), [0, 0, 0, 0]);
        assert_eq!(judged(vec![armed(5_000, 0)], &[], &faults), [1, 0, 0, 0]);
    }

    #[test]
    fn an_event_for_a_key_that_never_was_is_invented() {
        let one = [told(5_000, 5_004, WITNESSED, 200)];
        let other = History { key: "order:pay:2".into(), watched: true, ops: vec![armed(5_000, 0), paid(10)] };
        let report = judge(&[other], &one, &Faults::default(), &[]);
        assert_eq!(report.invented.len(), 1);
    }

    #[test]
    fn too_small_a_run_does_not_count() {
        let history = History { key: KEY.into(), watched: true, ops: vec![armed(5_000, 0)] };
        let report = judge(&[history], &[told(5_000, 5_004, WITNESSED, 200)], &Faults::default(), &[]);
        assert_eq!(report.complaints(|_| String::new()).len(), 4);
    }
}
