//! What became of the orders, told apart by what was going on when they were due. Pure.

use std::{collections::BTreeMap, fmt};

use super::super::{
    order_service::database::{Millis, Status, WebhookEvent},
    report::{Facts, Lateness, Report, judge, lateness},
};

/// From now on something is going on, until the next mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub name: String,
    pub at: Millis,
    /// Nothing is being broken.
    pub quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    pub mark: Mark,
    pub until: Millis,
    /// Orders that nobody had paid by their deadline, which lies in the phase.
    pub due: usize,
    /// Orders paid in the phase, whose key was deleted then.
    pub paid: usize,
    /// From the deadline to the order service's commit.
    pub lateness: Option<Lateness>,
    /// Webhooks about the orders due that came more than once, with one id.
    pub repeated: usize,
    /// Webhooks about the orders due that say `Inferred`.
    pub inferred: usize,
    /// Webhooks about orders paid in the phase: of keys that somebody had deleted.
    pub told_of_deleted: usize,
}

pub struct Verdict {
    pub report: Report,
    pub phases: Vec<Phase>,
    /// Why it is not as promised, beside what the report says.
    pub complaints: Vec<String>,
}

/// Fewer prove little.
const LEAST_DUE: usize = 300;
const LEAST_PAID: usize = 100;

/// Of the keys that were deleted while something was broken, one in so many at most may be told of.
const ONE_TOLD_OF: usize = 20;

/// A deletion so shortly before something is broken may not have been noted yet, and a webhook may be on the way: they
/// count as the next phase's.
const RECORDING_MS: Millis = 1000;

pub fn verdict(facts: &Facts, marks: &[Mark], end: Millis) -> Verdict {
    let mut phases = Vec::new();
    for (number, mark) in marks.iter().enumerate() {
        let until = marks.get(number + 1).map_or(end, |next| next.at);
        phases.push(Phase {
            mark: mark.clone(),
            until,
            due: 0,
            paid: 0,
            lateness: None,
            repeated: 0,
            inferred: 0,
            told_of_deleted: 0,
        });
    }
    let mut late: Vec<Vec<Millis>> = vec![Vec::new(); phases.len()];
    let mut events: BTreeMap<&str, Vec<&WebhookEvent>> = BTreeMap::new();
    for event in &facts.events {
        events.entry(&event.order_id).or_default().push(event);
    }
    let at = |moment: Millis| marks.iter().rposition(|mark| mark.at <= moment);
    let mut complaints = Vec::new();
    for order in &facts.orders {
        let events = events.get(order.id.as_str()).map_or(&[][..], Vec::as_slice);
        if order.status != Status::Paid {
            let first = events.iter().map(|event| event.received_at).min();
            // Due just before something was broken, and told of after that: it was on the way.
            let on_the_way = first.is_none_or(|first| at(first) > at(order.deadline));
            let Some(number) = at(if on_the_way { order.deadline + RECORDING_MS } else { order.deadline }) else {
                continue;
            };
            let phase = &mut phases[number];
            phase.due += 1;
            phase.repeated += events.iter().filter(|event| event.deliveries > 1).count();
            phase.inferred += events.iter().filter(|event| inferred(event)).count();
            late[number].extend(first.map(|first| first - order.deadline));
            continue;
        }
        let deleted = facts.told.get(&order.id).is_some_and(|told| told.key_deleted);
        // A key that was set twice may have been set after its deletion.
        let Some(paid_at) = order.settled_at.filter(|_| deleted && order.arms <= 1) else { continue };
        if let Some(number) = at(paid_at) {
            phases[number].paid += 1;
        }
        if events.is_empty() {
            continue;
        }
        if let Some(number) = at(paid_at + RECORDING_MS) {
            let phase = &mut phases[number];
            phase.told_of_deleted += events.len();
            if phase.mark.quiet || !events.iter().all(|event| inferred(event)) {
                let id = &order.id;
                complaints.push(format!("told of order {id}, whose key was deleted, in {:?}", phase.mark.name));
            }
        }
    }
    for (phase, late) in phases.iter_mut().zip(late) {
        phase.lateness = lateness(late);
        if phase.due < LEAST_DUE || phase.paid < LEAST_PAID {
            let (name, due, paid) = (&phase.mark.name, phase.due, phase.paid);
            complaints.push(format!("{name:?} proves little: {due} orders were due and {paid} paid"));
        }
        if phase.told_of_deleted * ONE_TOLD_OF > phase.paid {
            let (name, told, paid) = (&phase.mark.name, phase.told_of_deleted, phase.paid);
            complaints.push(format!("{name:?}: told of {told} keys of {paid} that were deleted"));
        }
    }
    if phases.is_empty() {
        complaints.push("nothing was marked".to_owned());
    }
    Verdict { report: judge(facts), phases, complaints }
}

fn inferred(event: &WebhookEvent) -> bool {
    event.evidence.as_deref() == Some("Inferred")
}

impl Verdict {
    pub fn sound(&self) -> bool {
        self.report.sound() && self.complaints.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.totals(f)?;
        writeln!(f)?;
        write!(f, "  {:<40}{:>5}{:>7}{:>7}", "deadline to the shop's commit, ms", "s", "due", "paid")?;
        writeln!(f, "{:>8}{:>8}{:>8}{:>10}{:>10}{:>9}", "p50", "p99", "max", "repeated", "inferred", "deleted")?;
        for phase in &self.phases {
            let Phase { mark, until, due, paid, repeated, inferred, told_of_deleted, .. } = phase;
            write!(f, "  {:<40}{:>5}{due:>7}{paid:>7}", mark.name, (until - mark.at) / 1000)?;
            match phase.lateness {
                Some(late) => write!(f, "{:>8}{:>8}{:>8}", late.p50, late.p99, late.max)?,
                None => write!(f, "{:>8}{:>8}{:>8}", "-", "-", "-")?,
            }
            writeln!(f, "{repeated:>10}{inferred:>10}{told_of_deleted:>9}")?;
        }
        self.report.details(f)?;
        for complaint in self.complaints.iter().take(20) {
            writeln!(f, "  wrong: {complaint}")?;
        }
        let sound = if self.sound() { "Nothing lost, nothing doubled, nothing invented." } else { "NOT as promised." };
        writeln!(f, "\n{sound}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::{
        order_service::database::{Armed, Order, TimedOut},
        report::Told,
    };

    const END: Millis = 100_000;

    fn order(id: &str, status: Status, deadline: Millis, settled_at: Millis) -> Order {
        Order {
            id: id.into(),
            status,
            created_at: 0,
            deadline,
            armed: Armed::Confirmed,
            armed_at: Some(1),
            arms: 1,
            settled_at: Some(settled_at),
            lines: Vec::new(),
        }
    }
    fn event(order: &str, outcome: TimedOut, evidence: &str, received_at: Millis) -> WebhookEvent {
        let (id, order_id, evidence) = (format!("evt_{order}"), order.into(), Some(evidence.into()));
        WebhookEvent { id, order_id, outcome, evidence, received_at, deliveries: 1 }
    }
    fn mark(name: &str, at: Millis, quiet: bool) -> Mark {
        Mark { name: name.into(), at, quiet }
    }
    /// Enough orders for each phase: `due` and `paid` in the middle of it.
    fn facts(marks: &[Mark], due: usize, paid: usize) -> Facts {
        let mut facts = Facts::default();
        for (number, mark) in marks.iter().enumerate() {
            let at = mark.at + 2000;
            for other in 0..due {
                let id = format!("due-{number}-{other}");
                facts.orders.push(order(&id, Status::Cancelled, at, at + 3));
                add(&mut facts, event(&id, TimedOut::Cancelled, "Witnessed", at + 3));
            }
            for other in 0..paid {
                pay(&mut facts, &format!("paid-{number}-{other}"), at);
            }
        }
        facts
    }
    fn add(facts: &mut Facts, event: WebhookEvent) {
        facts.answered.insert(event.id.clone(), event.received_at);
        facts.events.push(event);
    }
    fn pay(facts: &mut Facts, id: &str, at: Millis) {
        facts.orders.push(order(id, Status::Paid, at + 5000, at));
        facts.told.insert(id.into(), Told { created: true, paid: true, key_deleted: true });
    }
    fn two() -> [Mark; 2] {
        [mark("quiet", 10_000, true), mark("fault", 20_000, false)]
    }

    #[test]
    fn each_order_counts_where_it_was_due_and_each_payment_where_it_was_made() {
        let marks = two();
        let verdict = verdict(&facts(&marks, 300, 100), &marks, END);
        assert!(verdict.sound(), "{verdict}");
        let late = Some(Lateness { count: 300, p50: 3, p99: 3, max: 3 });
        for phase in verdict.phases {
            assert_eq!((phase.due, phase.paid, phase.lateness), (300, 100, late));
        }
    }

    #[test]
    fn a_phase_with_few_orders_proves_nothing() {
        let marks = two();
        assert_eq!(verdict(&facts(&marks, 299, 100), &marks, END).complaints.len(), 2);
        assert_eq!(verdict(&facts(&marks, 300, 99), &marks, END).complaints.len(), 2);
        assert!(!verdict(&facts(&marks, 300, 100), &[], END).sound());
    }

    #[test]
    fn what_was_on_the_way_when_something_broke_is_counted_there() {
        let marks = two();
        let phase_of = |deadline: Millis, told: Millis| {
            let mut facts = facts(&marks, 300, 100);
            facts.orders.push(order("odd", Status::Cancelled, deadline, told));
            add(&mut facts, event("odd", TimedOut::Cancelled, "Witnessed", told));
            verdict(&facts, &marks, END).phases.iter().position(|phase| phase.due == 301)
        };
        assert_eq!(phase_of(19_900, 19_950), Some(0));
        assert_eq!(phase_of(19_900, 29_000), Some(1));
        // That is no excuse for a webhook that was late already.
        assert_eq!(phase_of(18_000, 29_000), Some(0));
    }

    #[test]
    fn a_deleted_key_may_be_told_of_only_as_inferred_and_only_when_something_was_broken() {
        let marks = two();
        let judged = |at: Millis, evidence: &str| {
            let mut facts = facts(&marks, 300, 100);
            pay(&mut facts, "odd", at);
            add(&mut facts, event("odd", TimedOut::Settled, evidence, at + 6000));
            verdict(&facts, &marks, END).sound()
        };
        assert!(judged(21_000, "Inferred"));
        assert!(!judged(21_000, "Witnessed"));
        assert!(!judged(15_000, "Inferred"));
        // Not noted yet when it broke.
        assert!(judged(19_500, "Inferred"));
    }

    #[test]
    fn few_of_the_deleted_keys_may_be_told_of() {
        let marks = two();
        let told_of = |many: usize| {
            let mut facts = facts(&marks, 300, 100);
            for number in 0..many {
                let id = format!("odd{number}");
                pay(&mut facts, &id, 21_000);
                add(&mut facts, event(&id, TimedOut::Settled, "Inferred", 27_000));
            }
            verdict(&facts, &marks, END).sound()
        };
        assert!(told_of(5) && !told_of(6), "one in twenty");
    }
}
