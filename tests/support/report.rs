//! How a run went, in numbers and in cases. Pure.

use std::fmt::Write as _;

use redis_expiry_operator::model::{Key, Millis};

use super::{receiver::Received, truth::History, verdict::Faults};

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
    /// Under client tracking: events for keys that were deleted in their last moment, those of them that were deleted more than 50 ms
    /// before their deadline; and expiries that were due outside of any gap,
    /// with those of them that are Witnessed.
    pub at_last: usize,
    pub at_last_but_early: usize,
    pub tracked: usize,
    pub tracked_witnessed: usize,
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

pub fn case(key: &Key, why: impl Into<String>) -> Case {
    Case { key: key.clone(), why: why.into() }
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
        // Many are ended within milliseconds of their deadline, on purpose.
        if self.at_last * 10 > self.paid || self.at_last_but_early * 100 > self.paid {
            let (told, early) = (self.at_last, self.at_last_but_early);
            complaints.push(format!(
                "{told} of {} that were ended in time were told of, {early} of them not so late",
                self.paid
            ));
        }
        // Redis comes before us only now and then.
        if self.tracked_witnessed * 2 < self.tracked {
            complaints.push(format!("only {} of {} are Witnessed", self.tracked_witnessed, self.tracked));
        }
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
             wrong evidence {}; uncertain {}, unpromised {}, excused {} of {}, at last {}, witnessed {} of {} tracked, by push {}, resurrected {}, repeated {}; \
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
            self.at_last,
            self.tracked_witnessed,
            self.tracked,
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
        let _ = writeln!(
            text,
            "    told {at}: deadline {deadline}, {:?}, {}, answered {}",
            one.evidence, one.id, one.answered
        );
    }
    text
}
