//! What an attempt came to: delivered, once more, parked, or nothing more for now. Pure: time and chance are arguments.

use std::time::Duration;

use super::refusals::Refused;
use crate::{
    meters::Attempt,
    model::{Failure, Millis},
    plan::DeliveryPlan,
};

/// A receiver that finds fault with the event itself (400, 413, 415, 422) is asked this often ..
const REFUSALS: u32 = 3;
/// .. over at least this long, since a bad deploy of the receiver is rolled back in less.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Between two of those tries; two of these make up the whole, and jitter only adds.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(300);
const REFUSAL_JITTER: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status {
        code: u16,
        /// The `Retry-After` header as it came.
        retry_after: Option<String>,
    },
    /// No answer, and why, for people: "connection refused".
    None { sort: Attempt, why: String },
}

/// What sort of answer it is; everything else follows from this and from time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Delivered,
    /// The receiver finds fault with this event.
    Refused,
    /// 410: the receiver wants no more of any.
    Gone,
    /// The endpoint is wrong, down or busy.
    Failed,
}

impl Answer {
    pub fn class(&self) -> Class {
        match self {
            Self::Status { code: 200..=299, .. } => Class::Delivered,
            Self::Status { code: 400 | 413 | 415 | 422, .. } => Class::Refused,
            Self::Status { code: 410, .. } => Class::Gone,
            // 401, 403, 404 too: somebody is fixing a credential or a deploy.
            Self::Status { .. } | Self::None { .. } => Class::Failed,
        }
    }

    /// For people: "answered 503".
    pub fn reason(&self) -> String {
        match self {
            Self::Status { code: code @ 300..=399, .. } => format!("answered {code}: redirects are not followed"),
            Self::Status { code, .. } => format!("answered {code}"),
            Self::None { why, .. } => why.clone(),
        }
    }

    /// As it is counted.
    pub const fn sort(&self) -> Attempt {
        match self {
            Self::Status { code, .. } => Attempt::of_status(*code),
            Self::None { sort, .. } => *sort,
        }
    }

    /// For programs; of an answer that is none of [`Class::Delivered`].
    pub fn failure(&self) -> Failure {
        match self {
            Self::Status { code, .. } => Failure::Rejected(*code),
            Self::None { sort, .. } => match sort {
                Attempt::EgressRefused => Failure::EgressRefused,
                Attempt::Tls => Failure::Tls,
                Attempt::Other => Failure::Other,
                _ => Failure::Unreachable,
            },
        }
    }

    fn retry_after(&self, now: Millis, plan: &DeliveryPlan) -> Option<Duration> {
        let Self::Status { retry_after: Some(header), .. } = self else { return None };
        Some(parse_retry_after(header, now)?.min(plan.retry_after_max)).filter(|delay| !delay.is_zero())
    }
}

/// Seconds, or a date as HTTP writes them (by the receiver's clock; a past one is nothing to wait for).
fn parse_retry_after(header: &str, now: Millis) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 has: for ever, which the caller caps.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    Some(date.saturating_sub(now))
}

/// What to do about an attempt that did not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Retry {
        after: Duration,
        /// Nothing at all is to be sent to the endpoint for so long.
        hold: Option<Duration>,
    },
    DeadLetter {
        reason: String,
    },
    /// Send nothing more until the settings change; this attempt does not count.
    Pause,
}

/// One failed attempt.
pub struct Failed<'a> {
    pub answer: &'a Answer,
    /// Attempts of this event that failed, this one included.
    pub attempts: u32,
    /// Its refusals, this one included; `None` if this is none.
    pub refused: Option<Refused>,
    pub settled_at: Millis,
    pub now: Millis,
    /// From 0 up to, not including, 1.
    pub chance: f64,
}

impl Failed<'_> {
    /// An event is given up only on an attempt that failed at or after its deadline, so one that waited out a pause or a
    /// suspension is tried before it is parked; where the next try would come after the deadline, it is moved to it.
    pub fn verdict(&self, plan: &DeliveryPlan) -> Verdict {
        if self.answer.class() == Class::Gone {
            return Verdict::Pause;
        }
        let age = millis(self.now.since(self.settled_at));
        if let Some(refused) = self.refused {
            let over = millis(self.now.since(refused.since));
            if refused.times >= REFUSALS && over >= REFUSED_FOR {
                let times = if refused.times == REFUSALS { "three".to_owned() } else { refused.times.to_string() };
                let reason = format!("{} {times} times over {}", self.answer.reason(), spoken(over));
                return Verdict::DeadLetter { reason };
            }
        }
        if age >= plan.deadline {
            let reason = format!("not delivered within {}: last: {}", spoken(plan.deadline), self.answer.reason());
            return Verdict::DeadLetter { reason };
        }
        let wait = match self.refused {
            Some(_) => BETWEEN_REFUSALS + REFUSAL_JITTER.mul_f64(self.chance),
            None => backoff(plan, self.attempts, self.chance),
        };
        let wait = wait.min(plan.deadline.saturating_sub(age).max(floor(plan)));
        let asked = self.answer.retry_after(self.now, plan);
        let holds = matches!(self.answer, Answer::Status { code: 429 | 503, .. });
        Verdict::Retry { after: wait.max(asked.unwrap_or_default()), hold: asked.filter(|_| holds) }
    }
}

/// Full jitter over what doubles with each attempt, up to the limit; but not less than the floor, lest it be a hot loop.
fn backoff(plan: &DeliveryPlan, attempts: u32, chance: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(30);
    let ceiling = plan.initial_backoff.saturating_mul(1 << doublings).min(plan.max_backoff);
    let floor = floor(plan).min(ceiling);
    floor + ceiling.saturating_sub(floor).mul_f64(chance)
}

fn floor(plan: &DeliveryPlan) -> Duration {
    (plan.initial_backoff / 2).min(plan.max_backoff).max(Duration::from_millis(1))
}

/// The longest that a retry of ours can lie ahead; what a store says beyond is a clock that was set back.
pub fn longest_wait(plan: &DeliveryPlan) -> Duration {
    plan.max_backoff.max(plan.retry_after_max).max(BETWEEN_REFUSALS + REFUSAL_JITTER)
}

fn millis(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

/// "24h", "1h30m", "10m", "45s", "300ms": the two greatest units.
fn spoken(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Millis = Millis(1_795_328_020_000);
    const MINUTE: i64 = 60_000;

    fn plan() -> DeliveryPlan {
        DeliveryPlan {
            max_in_flight: 64,
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
            deadline: Duration::from_secs(86_400),
        }
    }

    fn refused() -> Answer {
        Answer::None { sort: Attempt::ConnectionRefused, why: "connection refused".to_owned() }
    }

    fn answered(code: u16, retry_after: Option<&str>) -> Answer {
        Answer::Status { code, retry_after: retry_after.map(str::to_owned) }
    }

    /// The verdict on a first attempt, right after the event was settled.
    fn first(answer: &Answer, chance: f64) -> Verdict {
        let refused = (answer.class() == Class::Refused).then_some(Refused { times: 1, since: NOW });
        Failed { answer, attempts: 1, refused, settled_at: NOW, now: NOW, chance }.verdict(&plan())
    }

    fn wait(verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::Retry { after, .. } => *after,
            other => panic!("{other:?} is no retry"),
        }
    }

    #[test]
    fn every_status_has_its_class() {
        for code in 100..=599 {
            let expected = match code {
                200..=299 => Class::Delivered,
                400 | 413 | 415 | 422 => Class::Refused,
                410 => Class::Gone,
                _ => Class::Failed,
            };
            assert_eq!(answered(code, None).class(), expected, "{code}");
        }
        assert_eq!(refused().class(), Class::Failed);
    }

    #[test]
    fn reasons_are_for_people() {
        assert_eq!(answered(503, None).reason(), "answered 503");
        assert_eq!(answered(302, None).reason(), "answered 302: redirects are not followed");
        assert_eq!(refused().reason(), "connection refused");
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_never_falls_below_half_the_first() {
        let at = |attempts, chance| backoff(&plan(), attempts, chance).as_millis();
        assert_eq!((at(1, 0.0), at(1, 0.999_999_9)), (250, 499));
        assert_eq!((at(2, 0.0), at(2, 0.999_999_9)), (250, 999));
        assert_eq!((at(8, 0.0), at(8, 0.999_999_99)), (250, 59_999));
        assert_eq!((at(u32::MAX, 0.0), at(u32::MAX, 0.999_999_99)), (250, 59_999));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_is_capped() {
        let parse = |text| parse_retry_after(text, NOW);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 22 Nov 2026 06:14:00 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(parse("Sun, 22 Nov 2025 06:14:00 GMT"), None, "the weekday is wrong");
        assert_eq!(parse("Sat, 22 Nov 2025 06:14:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "-1", "1.5", "soon"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
        assert_eq!(wait(&first(&answered(500, Some("999999")), 0.0)), Duration::from_secs(300));
        assert_eq!(wait(&first(&answered(500, Some("0")), 0.0)), Duration::from_millis(250));
        let ignoring = DeliveryPlan { retry_after_max: Duration::ZERO, ..plan() };
        let answer = answered(503, Some("60"));
        let failed = Failed { answer: &answer, attempts: 1, refused: None, settled_at: NOW, now: NOW, chance: 0.0 };
        assert_eq!(failed.verdict(&ignoring), Verdict::Retry { after: Duration::from_millis(250), hold: None });
    }

    #[test]
    fn only_429_and_503_with_retry_after_hold_the_whole_endpoint() {
        let hold = |code, header| match first(&answered(code, header), 0.0) {
            Verdict::Retry { hold, .. } => hold,
            other => panic!("{other:?}"),
        };
        assert_eq!(hold(429, Some("20")), Some(Duration::from_secs(20)));
        assert_eq!(hold(503, Some("20")), Some(Duration::from_secs(20)));
        assert_eq!(hold(500, Some("20")), None);
        assert_eq!(hold(429, None), None);
    }

    #[test]
    fn gone_pauses_and_parks_nothing() {
        assert_eq!(first(&answered(410, None), 0.5), Verdict::Pause);
    }

    #[test]
    fn a_refused_event_is_parked_on_the_third_try_and_not_before_ten_minutes() {
        let answer = answered(422, None);
        let verdict = |times, minutes: i64, chance| {
            let refused = Some(Refused { times, since: NOW });
            let now = NOW.plus(minutes * MINUTE);
            Failed { answer: &answer, attempts: times, refused, settled_at: NOW, now, chance }.verdict(&plan())
        };
        for chance in [0.0, 0.5, 0.99] {
            assert!(wait(&verdict(1, 0, chance)) >= BETWEEN_REFUSALS);
            assert!(wait(&verdict(2, 5, chance)) >= BETWEEN_REFUSALS);
        }
        let reason = "answered 422 three times over 10m".to_owned();
        assert_eq!(verdict(3, 10, 0.0), Verdict::DeadLetter { reason });
        assert!(matches!(verdict(3, 9, 0.0), Verdict::Retry { .. }), "three tries, but too close together");
        assert!(matches!(verdict(2, 60, 0.0), Verdict::Retry { .. }), "long enough, but two tries");
    }

    #[test]
    fn one_refusal_after_a_long_outage_parks_nothing() {
        let answer = answered(400, None);
        let now = NOW.plus(60 * MINUTE);
        let refused = Some(Refused { times: 1, since: now });
        let failed = Failed { answer: &answer, attempts: 50, refused, settled_at: NOW, now, chance: 0.0 };
        assert!(matches!(failed.verdict(&plan()), Verdict::Retry { .. }));
    }

    #[test]
    fn past_its_deadline_a_failed_event_is_parked_and_says_what_came_last() {
        let answer = answered(503, Some("60"));
        let at = |milliseconds| {
            let now = NOW.plus(milliseconds);
            Failed { answer: &answer, attempts: 9, refused: None, settled_at: NOW, now, chance: 0.9 }.verdict(&plan())
        };
        let day = 24 * 60 * MINUTE;
        assert!(matches!(at(day - 1), Verdict::Retry { .. }));
        assert_eq!(at(day), Verdict::DeadLetter { reason: "not delivered within 24h: last: answered 503".to_owned() });
    }

    #[test]
    fn the_last_try_is_at_the_deadline_and_not_long_after_it() {
        let short = DeliveryPlan { deadline: Duration::from_secs(10), ..plan() };
        let answer = answered(422, None);
        let refused = Some(Refused { times: 1, since: NOW });
        let failed =
            Failed { answer: &answer, attempts: 1, refused, settled_at: NOW, now: NOW.plus(4_000), chance: 0.9 };
        assert_eq!(wait(&failed.verdict(&short)), Duration::from_secs(6));
    }

    #[test]
    fn times_are_spoken_in_their_two_greatest_units() {
        for (milliseconds, expected) in [
            (300, "300ms"),
            (45_000, "45s"),
            (600_500, "10m"),
            (90_000, "1m30s"),
            (86_400_000, "24h"),
            (5_400_000, "1h30m"),
        ] {
            assert_eq!(spoken(Duration::from_millis(milliseconds)), expected);
        }
    }

    proptest! {
        #[test]
        fn no_retry_is_hot_and_none_waits_longer_than_said(
            code in 300_u16..600, header in prop::option::of("[0-9]{1,30}"), attempts in 1_u32.., times in 1_u32..9,
            age in 0_i64..200_000_000, chance in 0.0_f64..1.0, initial in 1_u64..60_000, max in 1_u64..3_600_000,
        ) {
            let plan = DeliveryPlan {
                initial_backoff: Duration::from_millis(initial),
                max_backoff: Duration::from_millis(max),
                ..plan()
            };
            let answer = answered(code, header.as_deref());
            let refused = (answer.class() == Class::Refused).then_some(Refused { times, since: NOW });
            let failed = Failed { answer: &answer, attempts, refused, settled_at: NOW, now: NOW.plus(age), chance };
            if let Verdict::Retry { after, hold } = failed.verdict(&plan) {
                prop_assert!(after >= floor(&plan));
                prop_assert!(after <= longest_wait(&plan));
                prop_assert!(hold.unwrap_or_default() <= plan.retry_after_max);
            }
        }
    }
}
