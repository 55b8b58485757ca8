//! What became of every order: from the order service's database and from the demo's own record, and from nothing that
//! the engine says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
};

use super::order_service::{
    database::{Armed, Millis, Order, Product, Status, TimedOut, WebhookEvent},
    keys::PREFIX,
};
use crate::model::slot_of;

/// What the demo itself was told, by order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Answered 201.
    pub created: bool,
    /// Answered 200 when it paid.
    pub paid: bool,
    /// And its key was deleted then, so it had not expired.
    pub key_deleted: bool,
}

/// A shard without a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub slots: Vec<RangeInclusive<u16>>,
    /// From the kill until a replica was promoted, and then until the engine had had time to hear of it.
    pub from: Millis,
    pub until: Millis,
}

/// Everything that is known at the end.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub orders: Vec<Order>,
    pub events: Vec<WebhookEvent>,
    pub told: BTreeMap<String, Told>,
    /// When each webhook was answered with 2xx for the first time, by its id.
    pub answered: BTreeMap<String, Millis>,
    /// How many of each product there were.
    pub initial: BTreeMap<String, i64>,
    pub stock: Vec<Product>,
    pub outage: Option<Outage>,
}

/// From an order's deadline to the 2xx for the webhook that cancelled it, by the service's clock; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    pub count: usize,
    pub p50: Millis,
    pub p99: Millis,
    pub max: Millis,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub created: usize,
    pub paid: usize,
    pub cancelled: usize,
    pub outside: Option<Lateness>,
    /// Orders of the killed master's shard that were due while it had no master.
    pub during: Option<Lateness>,
    pub lost: Vec<String>,
    /// Unpaid, past their deadline, and the order service never got a key for them into Redis: not the engine's doing.
    pub unarmed: Vec<String>,
    pub doubled: Vec<String>,
    /// Cancelled ahead of the deadline, or told of ahead of it.
    pub invented: Vec<String>,
    /// Webhooks that came more than once, with one id.
    pub repeated: usize,
    /// Told of under two ids, their key having been set twice.
    pub armed_again: usize,
    /// Webhooks about orders that were paid: at the last moment, or their key could not be deleted.
    pub told_of_paid: usize,
    /// Webhooks about orders that were paid and whose key was deleted: inferred in a gap, or a failover brought it back.
    pub told_of_deleted: usize,
    /// What does not add up.
    pub contradictions: Vec<String>,
}

/// Redis knows a deadline to the millisecond, and the service's clock is read before the database's commit.
const ROUNDING_MS: Millis = 5;

pub fn judge(facts: &Facts) -> Report {
    let mut report = Report { created: facts.orders.len(), ..Report::default() };
    let mut events: BTreeMap<&str, Vec<&WebhookEvent>> = BTreeMap::new();
    for event in &facts.events {
        events.entry(&event.order_id).or_default().push(event);
        report.repeated += usize::from(event.deliveries > 1);
    }
    let (mut outside, mut during) = (Vec::new(), Vec::new());
    for order in &facts.orders {
        let events = events.remove(order.id.as_str()).unwrap_or_default();
        let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
        let cancelled = events.iter().filter(|event| event.outcome == TimedOut::Cancelled).count();
        if ids.len() > 1 && order.arms > 1 {
            report.armed_again += 1;
        }
        let twice = ids.len() > 1 && order.arms <= 1;
        if cancelled > 1 || twice || (cancelled > 0 && order.status != Status::Cancelled) {
            report.doubled.push(order.id.clone());
        }
        let early =
            order.settled_at.is_some_and(|at| order.status == Status::Cancelled && at + ROUNDING_MS < order.deadline);
        if early || events.iter().any(|event| event.outcome == TimedOut::Early) {
            report.invented.push(order.id.clone());
        }
        match (order.status, order.settled_at) {
            (Status::Unpaid, _) if order.armed == Armed::No => report.unarmed.push(order.id.clone()),
            (Status::Unpaid, _) => report.lost.push(order.id.clone()),
            (Status::Paid, _) => {
                report.paid += 1;
                let deleted = facts.told.get(&order.id).is_some_and(|told| told.key_deleted);
                if deleted { report.told_of_deleted += ids.len() } else { report.told_of_paid += ids.len() }
            }
            (Status::Cancelled, _) => {
                report.cancelled += 1;
                let by = events.iter().find(|event| event.outcome == TimedOut::Cancelled);
                let Some(at) = by.and_then(|event| facts.answered.get(&event.id)) else {
                    report.contradictions.push(format!("no webhook cancelled order {}", order.id));
                    continue;
                };
                let late = at - order.deadline;
                let without_master = facts.outage.as_ref().is_some_and(|outage| within(outage, order));
                if without_master { during.push(late) } else { outside.push(late) }
            }
        }
    }
    (report.outside, report.during) = (lateness(outside), lateness(during));
    let strangers = events.keys().map(|order| format!("a webhook about an order {order} that is not there"));
    report.contradictions.extend(strangers);
    report.contradictions.extend(contradictions(facts));
    report
}

fn within(outage: &Outage, order: &Order) -> bool {
    let slot = slot_of(format!("{PREFIX}{}", order.id).as_bytes()).0;
    (outage.from..=outage.until).contains(&order.deadline) && outage.slots.iter().any(|slots| slots.contains(&slot))
}

pub fn lateness(mut all: Vec<Millis>) -> Option<Lateness> {
    all.sort_unstable();
    // Nearest rank.
    let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Lateness { count: all.len(), p50: rank(50)?, p99: rank(99)?, max: *all.last()? })
}

fn contradictions(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let orders: BTreeMap<_, _> = facts.orders.iter().map(|order| (order.id.as_str(), order.status)).collect();
    for (id, told) in &facts.told {
        let status = orders.get(id.as_str());
        if told.created && status.is_none() {
            found.push(format!("order {id} was answered with 201 and is not there"));
        }
        if told.paid && status != Some(&Status::Paid) {
            found.push(format!("order {id} was paid and is {status:?}"));
        }
    }
    let mut sold: BTreeMap<&str, i64> = BTreeMap::new();
    for order in facts.orders.iter().filter(|order| order.status != Status::Cancelled) {
        for line in &order.lines {
            *sold.entry(&line.sku).or_default() += i64::from(line.quantity);
        }
    }
    for product in &facts.stock {
        let Product { sku, available, sold: counted, .. } = product;
        let (expected, initial) = (sold.get(sku.as_str()).copied().unwrap_or(0), facts.initial.get(sku));
        if *counted != expected || initial != Some(&(available + counted)) {
            found.push(format!(
                "{sku}: {available} left and {counted} sold of {initial:?}, of which {expected} in orders"
            ));
        }
    }
    found
}

impl Report {
    /// Nothing lost, nothing doubled, nothing invented, and all adds up.
    pub fn sound(&self) -> bool {
        [&self.lost, &self.unarmed, &self.doubled, &self.invented, &self.contradictions]
            .iter()
            .all(|list| list.is_empty())
    }
}

impl Report {
    /// One line for each count.
    pub fn totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display, note: &str| {
            writeln!(f, "  {name:<28}{:>8}   {note}", value.to_string())
        };
        line("orders created", &self.created, "")?;
        line("paid", &self.paid, "")?;
        line("cancelled by webhook", &self.cancelled, "")?;
        line("lost", &self.lost.len(), "unpaid, past their deadline, never told of")?;
        line("never armed", &self.unarmed.len(), "unpaid, past their deadline: Redis never got their key")?;
        line("doubled", &self.doubled.len(), "cancelled twice, paid and cancelled, or told of under two ids")?;
        line("invented", &self.invented.len(), "cancelled or told of ahead of the deadline")?;
        line("webhooks repeated", &self.repeated, "the same id again: at least once, answered 2xx")?;
        let why = "two ids: their key was set twice, a first SET having been given up on";
        line("told of twice", &self.armed_again, why)?;
        let why = "their key expired: paid at the last moment, or while it could not be deleted";
        line("webhooks about paid orders", &self.told_of_paid, why)?;
        let why = "their key had been deleted: not seen in a gap, or brought back by the failover";
        line("  and of deleted keys", &self.told_of_deleted, why)?;
        let stock = if self.contradictions.is_empty() { "ok" } else { "WRONG" };
        line("stock and records", &stock, "every unit is on the shelf or in a paid order")
    }

    /// What is wrong with which orders, the first of them.
    pub fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("lost", &self.lost), ("never armed", &self.unarmed), ("doubled", &self.doubled)];
        for (name, list) in lists.into_iter().chain([("invented", &self.invented), ("wrong", &self.contradictions)]) {
            for item in list.iter().take(10) {
                writeln!(f, "  {name}: {item}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.totals(f)?;
        writeln!(f)?;
        writeln!(f, "  {:<34}{:>7}{:>10}{:>10}{:>10}", "deadline to 2xx, ms", "orders", "p50", "p99", "max")?;
        let rows = [("all but the following", self.outside), ("due while their shard had no master", self.during)];
        for (name, row) in rows.into_iter().filter_map(|(name, row)| Some((name, row?))) {
            writeln!(f, "  {name:<34}{:>7}{:>10}{:>10}{:>10}", row.count, row.p50, row.p99, row.max)?;
        }
        self.details(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::order_service::database::Line;

    fn order(id: &str, status: Status, settled_at: Option<Millis>) -> Order {
        let lines = vec![Line { sku: "tea".into(), quantity: 2 }];
        let (created_at, deadline, armed_at) = (0, 1000, Some(1));
        Order {
            id: id.into(),
            status,
            created_at,
            deadline,
            armed: Armed::Confirmed,
            armed_at,
            arms: 1,
            settled_at,
            lines,
        }
    }
    fn event(id: &str, order: &str, outcome: TimedOut) -> WebhookEvent {
        let (evidence, received_at, deliveries) = (Some("Witnessed".into()), 1003, 1);
        WebhookEvent { id: id.into(), order_id: order.into(), outcome, evidence, received_at, deliveries }
    }
    fn facts(orders: Vec<Order>, events: Vec<WebhookEvent>, sold: i64) -> Facts {
        let stock = vec![Product { sku: "tea".into(), name: "Tea".into(), available: 10 - sold, sold }];
        let answered = events.iter().map(|event| (event.id.clone(), 1003)).collect();
        Facts { orders, events, answered, stock, initial: [("tea".into(), 10)].into(), ..Facts::default() }
    }

    #[test]
    fn what_went_well_is_sound() {
        let orders = vec![order("a", Status::Cancelled, Some(1003)), order("b", Status::Paid, Some(900))];
        let events = vec![event("1", "a", TimedOut::Cancelled), event("2", "b", TimedOut::Settled)];
        let mut facts = facts(orders, events, 2);
        facts.told = [("b".into(), Told { created: true, paid: true, key_deleted: false })].into();
        let report = judge(&facts);
        assert!(report.sound(), "{report}");
        assert_eq!((report.created, report.paid, report.cancelled, report.told_of_paid), (2, 1, 1, 1));
        assert_eq!(report.outside, Some(Lateness { count: 1, p50: 3, p99: 3, max: 3 }));
    }

    #[test]
    fn an_order_that_nobody_was_told_of_is_lost() {
        let report = judge(&facts(vec![order("a", Status::Unpaid, None)], vec![], 2));
        assert_eq!(report.lost, ["a"]);
        assert!(!report.sound());
        let unarmed = Order { armed: Armed::No, armed_at: None, ..order("a", Status::Unpaid, None) };
        let report = judge(&facts(vec![unarmed], vec![], 2));
        assert_eq!((report.lost.len(), report.unarmed.len()), (0, 1));
        assert!(!report.sound());
    }

    #[test]
    fn an_order_told_of_under_two_ids_is_doubled_unless_it_was_armed_twice() {
        let events = || vec![event("1", "a", TimedOut::Cancelled), event("2", "a", TimedOut::Settled)];
        let once = order("a", Status::Cancelled, Some(1003));
        assert_eq!(judge(&facts(vec![once.clone()], events(), 0)).doubled, ["a"]);
        let twice = Order { arms: 2, ..once };
        assert!(judge(&facts(vec![twice], events(), 0)).sound());
    }

    #[test]
    fn paid_and_cancelled_or_ahead_of_time_is_wrong() {
        let paid = facts(vec![order("a", Status::Paid, Some(900))], vec![event("1", "a", TimedOut::Cancelled)], 2);
        assert_eq!(judge(&paid).doubled, ["a"]);
        let early =
            facts(vec![order("a", Status::Cancelled, Some(990))], vec![event("1", "a", TimedOut::Cancelled)], 0);
        assert_eq!(judge(&early).invented, ["a"]);
    }

    #[test]
    fn stock_and_records_must_add_up() {
        let stock = judge(&facts(vec![order("a", Status::Paid, Some(900))], vec![], 4));
        assert_eq!(stock.contradictions.len(), 1);
        let alone = judge(&facts(vec![order("a", Status::Cancelled, Some(1003))], vec![], 0));
        assert_eq!(alone.contradictions, ["no webhook cancelled order a"]);
        let mut vanished = facts(vec![], vec![], 0);
        vanished.told = [("a".into(), Told { created: true, ..Told::default() })].into();
        assert_eq!(judge(&vanished).contradictions, ["order a was answered with 201 and is not there"]);
    }

    #[test]
    fn an_order_of_a_shard_without_master_is_counted_apart() {
        let slot = slot_of(b"order:pay:a").0;
        let outage = Outage { slots: vec![slot..=slot], from: 900, until: 3000 };
        let cancelled = order("a", Status::Cancelled, Some(3003));
        let mut facts = facts(vec![cancelled], vec![event("1", "a", TimedOut::Cancelled)], 0);
        facts.outage = Some(outage);
        facts.answered = [("1".into(), 3003)].into();
        let report = judge(&facts);
        assert_eq!((report.outside, report.during.map(|during| during.max)), (None, Some(2003)));
    }
}
