//! Compares the truth with what the receiver got. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use redis_expiry_operator::model::{Evidence, Key, Millis, same_deadline};

use super::{
    receiver::Received,
    truth::{Act, Before, History, Life},
    verdict::{Faults, Verdict},
};

/// Between the injection of a fault and the recovery from it: what must fall into it for the run to count.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Millis,
    pub to: Millis,
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Report {
    /// Lives that had to yield an event, and did, and had their deadline inside a fault's span.
    pub expected: usize,
    pub delivered: usize,
    pub due_inside: usize,
    /// Lives that were ended before their deadline, and those that were inside a fault's span.
    pub paid: usize,
    pub paid_inside: usize,
    pub uncertain: usize,
    pub unpromised: usize,
    /// Events for deleted keys that a gap excuses, and how many there could be.
    pub excused: usize,
    pub excusable: usize,
    /// Requests that repeated an id.
    pub duplicates: usize,
    /// Events that tell of an expiry by the time of its push.
    pub by_push: usize,
    pub resurrected: usize,
    pub rate: f64,
    pub lateness_outside: Vec<i64>,
    pub lateness_inside: Vec<i64>,
    /// What must be empty.
    pub lost: Vec<Case>,
    pub invented: Vec<Case>,
    pub two_ids: Vec<Case>,
    pub unwitnessed: Vec<Case>,
}

/// Something wrong about a key.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    pub key: Key,
    pub why: String,
}

fn case(key: &Key, why: impl Into<String>) -> Case {
    Case { key: key.clone(), why: why.into() }
}

/// One id, as the receiver knows it.
struct Told<'a> {
    first: &'a Received,
    answered: bool,
}

/// How much later than the deadline a push may come that nobody asked for.
const UNASKED_MS: i64 = 1_000;

pub fn judge(histories: &[History], received: &[Received], faults: &Faults, spans: &[Span]) -> Report {
    let mut report = Report::default();
    let lives: Vec<(Life, Verdict)> = histories
        .iter()
        .filter(|history| history.watched)
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
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for one in received {
        let known = told.entry(&one.id).or_insert(Told { first: one, answered: false });
        report.duplicates += usize::from(known.answered);
        known.answered |= (200..300).contains(&one.answered);
        if (&known.first.key, known.first.deadline) != (&one.key, one.deadline) {
            report.two_ids.push(case(&one.key, "one id for two expiries"));
        }
    }

    let mut events: HashMap<usize, Vec<&Told>> = HashMap::new();
    for event in told.values() {
        let candidates = by_key.get(&event.first.key).map_or(&[][..], Vec::as_slice);
        match attribute(event.first, candidates, &lives, faults) {
            Some((index, exact)) => {
                report.by_push += usize::from(!exact);
                events.entry(index).or_default().push(event);
            }
            None => {
                let why = format!("no life has the deadline {}", event.first.deadline.0);
                report.invented.push(case(&event.first.key, why));
            }
        }
    }

    let inside = |at: Millis| spans.iter().any(|span| span.from <= at && at <= span.to);
    for (index, (life, verdict)) in lives.iter().enumerate() {
        let events = events.get(&index).map_or(&[][..], Vec::as_slice);
        let delivered = events.iter().any(|event| event.answered);
        for event in events.iter().filter(|event| event.first.at < life.deadline.plus(-5)) {
            let early = life.deadline.since(event.first.at);
            if !matches!(verdict, Verdict::MustNot(_)) {
                report.invented.push(case(&life.key, format!("told {early} ms before its deadline")));
            }
        }
        if events.len() > 1 && matches!(verdict, Verdict::Must | Verdict::Vanished) {
            if faults.resurrects(life) {
                report.resurrected += 1;
            } else {
                report.two_ids.push(case(&life.key, format!("{} under {} ids", life.deadline.0, events.len())));
            }
        }
        match verdict {
            Verdict::Must | Verdict::Vanished => {
                report.expected += 1;
                report.delivered += usize::from(delivered);
                report.due_inside += usize::from(inside(life.deadline));
                if !delivered {
                    report.lost.push(case(&life.key, format!("no 2xx for the deadline {}", life.deadline.0)));
                }
                let arrived = events.iter().map(|event| event.first.at).min();
                if let Some(late) = arrived.map(|at| at.since(life.deadline)) {
                    let lateness =
                        if inside(life.deadline) { &mut report.lateness_inside } else { &mut report.lateness_outside };
                    lateness.push(late);
                }
            }
            Verdict::MustNot(op) => {
                report.paid += 1;
                report.paid_inside += usize::from(inside(op.end));
                let excuse = faults.excuses(life, op);
                report.excusable += usize::from(excuse);
                for event in events {
                    if excuse && event.first.evidence == Evidence::Inferred {
                        report.excused += 1;
                    } else {
                        report.invented.push(case(&life.key, format!("it was ended before {}", life.deadline.0)));
                    }
                }
            }
            Verdict::Uncertain(_) => report.uncertain += 1,
            Verdict::Unpromised(_) => report.unpromised += 1,
        }
        for event in events.iter().filter(|_| *verdict == Verdict::Must) {
            if event.first.evidence == Evidence::Inferred && !faults.blind_at(life, life.deadline) {
                report.unwitnessed.push(case(&life.key, "Inferred outside every gap"));
            }
        }
        for event in events.iter().filter(|_| *verdict == Verdict::Vanished) {
            if event.first.evidence == Evidence::Witnessed {
                report.unwitnessed.push(case(&life.key, "Witnessed, though Redis had lost it"));
            }
        }
    }
    report.rate = rate(&lives);
    report.lateness_inside.sort_unstable();
    report.lateness_outside.sort_unstable();
    report
}

/// Which life an event tells of, and whether by its deadline or by the time of the push.
fn attribute(event: &Received, candidates: &[usize], lives: &[(Life, Verdict)], faults: &Faults) -> Option<(usize, bool)> {
    let ended = |index: &&usize| matches!(lives[**index].1, Verdict::MustNot(_));
    let exact = |index: &&usize| same_deadline(lives[**index].0.deadline, event.deadline);
    // A key may have the same deadline twice: what expired comes before what was ended.
    if let Some(index) = candidates.iter().filter(exact).min_by_key(|index| ended(index)) {
        return Some((*index, true));
    }
    let by_push = |index: &&usize| {
        let life = &lives[**index].0;
        let latest = faults.sees_again(life, life.deadline).plus(UNASKED_MS);
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
    let new = |life: &Life| matches!(life.born.act, Act::Arm(_)) && life.born.done.is_none_or(|d| d.before == Before::Untold);
    let born = || lives.iter().filter(|(life, _)| new(life)).map(|(life, _)| life.born.start);
    let (Some(first), Some(last)) = (born().min(), born().max()) else { return 0.0 };
    let (from, to) = (first.plus(RAMP_MS), last);
    let due = lives.iter().filter(|(life, verdict)| {
        !matches!(verdict, Verdict::MustNot(_)) && from <= life.deadline && life.deadline <= to
    });
    due.count() as f64 * 1000.0 / to.since(from).max(1) as f64
}

/// All that is known of a key: what was done to it, what was owed, and what was told.
pub fn story(key: &Key, histories: &[History], received: &[Received], faults: &Faults) -> String {
    let mut text = format!("  {key} (slot {})\n", key.slot().0);
    for history in histories.iter().filter(|history| history.key == *key) {
        for op in &history.ops {
            let _ = writeln!(text, "    did  {op}");
        }
        for life in history.lives() {
            let _ = writeln!(text, "    owed {}: {:?}", life.deadline.0, faults.verdict(&life));
        }
    }
    for one in received.iter().filter(|one| one.key == *key) {
        let (at, deadline) = (one.at.0, one.deadline.0);
        let _ = writeln!(text, "    told {at}: deadline {deadline}, {:?}, {}, answered {}", one.evidence, one.id, one.answered);
    }
    text
}

impl Report {
    /// What is wrong with the run; empty: it counts, and nothing was lost or invented.
    pub fn complaints(&self, story: impl Fn(&Key) -> String) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut least = |what: &str, count: usize, least: usize| {
            if count < least {
                complaints.push(format!("the run does not count: {what}: {count}, at least {least} are needed"));
            }
        };
        least("deadlines", self.expected, 2_000);
        least("deadlines inside the fault", self.due_inside, 300);
        least("paid inside the fault", self.paid_inside, 100);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
        least("deadlines a second", self.rate as usize, 200);
        let all = self.expected + self.paid + self.uncertain + self.unpromised;
        if self.uncertain * 10 > all {
            complaints.push(format!("the run does not count: {} of {all} lives are uncertain", self.uncertain));
        }
        for (what, cases) in [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("under two ids", &self.two_ids),
            ("with the wrong evidence", &self.unwitnessed),
        ] {
            if !cases.is_empty() {
                let few = cases.iter().take(8).map(|case| format!("  {}:\n{}", case.why, story(&case.key)));
                complaints.push(format!("{} {what}, the first of them:\n{}", cases.len(), few.collect::<String>()));
            }
        }
        complaints
    }

    pub fn summary(&self) -> String {
        format!(
            "{} expected, {} delivered ({} inside), {} paid ({} inside), {:.0}/s; lost {}, invented {}, two ids {}, \
             wrong evidence {}; uncertain {}, unpromised {}, excused {} of {}, by push {}, resurrected {}, repeated {}; \
             late outside {}, inside {}",
            self.expected,
            self.delivered,
            self.due_inside,
            self.paid,
            self.paid_inside,
            self.rate,
            self.lost.len(),
            self.invented.len(),
            self.two_ids.len(),
            self.unwitnessed.len(),
            self.uncertain,
            self.unpromised,
            self.excused,
            self.excusable,
            self.by_push,
            self.resurrected,
            self.duplicates,
            percentiles(&self.lateness_outside),
            percentiles(&self.lateness_inside),
        )
    }
}

fn percentiles(sorted: &[i64]) -> String {
    let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
    match (at(50), at(99), sorted.last()) {
        (Some(p50), Some(p99), Some(max)) => format!("p50 {p50} p99 {p99} max {max} ms"),
        _ => "-".into(),
    }
}
