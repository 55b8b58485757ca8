//! What there is to say when the snapshots changed: once a transition, never once an event. Pure.

use serde_json::json;

use crate::{
    commands::output::{
        Happening::{self, DeadLetters, Delivery, Gap, Hold, Listening, NotReady, Ready, Resync, Stopped, Store},
        Line,
    },
    listener::{self, Snapshot, Snapshots},
    model::ListenerId,
};

mod nodes;

/// A single failure is retried in half a second and is not worth a line; so many in a row are.
const FAILING_FROM: u64 = 3;

/// The lines that tell `now` to somebody who was told `before`.
pub fn lines(before: &Snapshots, now: &Snapshots) -> Vec<Line> {
    let mut lines = Vec::new();
    for listener in before.keys().filter(|listener| !now.contains_key(*listener)) {
        lines.push(Line::new(Stopped, Some(listener), "stopped"));
    }
    for (listener, snapshot) in now {
        let mut report = Report { listener, lines: &mut lines };
        if let Some(before) = before.get(listener) {
            report.changes(before, snapshot);
        } else {
            report.say(Listening, "started");
            report.changes(&Snapshot::default(), snapshot);
        }
    }
    lines
}

/// Says things of one listener.
struct Report<'a> {
    listener: &'a ListenerId,
    lines: &'a mut Vec<Line>,
}

impl Report<'_> {
    fn line(&self, happening: Happening, message: impl Into<String>) -> Line {
        Line::new(happening, Some(self.listener), message)
    }

    fn say(&mut self, happening: Happening, message: impl Into<String>) {
        let line = self.line(happening, message);
        self.lines.push(line);
    }

    /// In the order in which one thing leads to the next, so that `ready` comes last.
    fn changes(&mut self, before: &Snapshot, now: &Snapshot) {
        self.hold(before, now);
        self.store(before, now);
        nodes::changes(self, before, now);
        self.gaps(before, now);
        self.delivery(before, now);
        self.dead_letters(before, now);
        self.readiness(before, now);
    }

    fn hold(&mut self, before: &Snapshot, now: &Snapshot) {
        if before.hold == now.hold {
            return;
        }
        let line = match &now.hold {
            None => self.line(Hold, "goes on").with("held", false),
            Some(listener::Hold::DeploymentChanged { message, .. }) => {
                let message = format!("holds: {}", changed(message));
                self.line(Hold, message).with("held", true).with("reason", "DeploymentChanged")
            }
            Some(listener::Hold::Store { category, message }) => {
                self.line(Hold, format!("holds: {message}")).with("held", true).with("reason", *category)
            }
        };
        self.lines.push(line);
    }

    fn store(&mut self, before: &Snapshot, now: &Snapshot) {
        match (&before.store_error, &now.store_error) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                let line = self.line(Store, format!("the store fails: {error}")).with("ok", false);
                let line = line.with("reason", now.store_category);
                self.lines.push(line);
            }
            (Some(_), None) => {
                let line = self.line(Store, "the store works again").with("ok", true);
                self.lines.push(line);
            }
            _ => {}
        }
    }

    fn gaps(&mut self, before: &Snapshot, now: &Snapshot) {
        if now.gaps > before.gaps {
            let message = format!(
                "{} in what was heard; what may have been missed is looked for ({} since the start)",
                counted(now.gaps - before.gaps, "gap"),
                now.gaps
            );
            let line = self.line(Gap, message).with("gaps", now.gaps);
            self.lines.push(line);
        }
        if now.store_losses > before.store_losses {
            let message = "the store has lost what it had acknowledged (a node of it came back with what it held a while ago): every \
                           master is scanned, and what is known is written anew";
            let line = self.line(Store, message).with("losses", now.store_losses);
            self.lines.push(line);
        }
        if now.resync_found > before.resync_found {
            let message = format!(
                "a periodic scan found {} that should have been known; repaired ({} since the start)",
                counted(now.resync_found - before.resync_found, "key"),
                now.resync_found
            );
            let line = self.line(Resync, message).with("found", now.resync_found);
            self.lines.push(line);
        }
        if now.dropped_by_pattern > before.dropped_by_pattern {
            let dropped = now.dropped_by_pattern - before.dropped_by_pattern;
            let dropped = counted(dropped, "key");
            let message = format!("the pattern no longer covers {dropped} that were tracked; dropped");
            let line = self.line(Store, message).with("droppedByPattern", now.dropped_by_pattern);
            self.lines.push(line);
        }
    }

    fn delivery(&mut self, before: &Snapshot, now: &Snapshot) {
        let (before, after) = (&before.delivery, &now.delivery);
        let pending = now.counts.pending;
        if before.paused != after.paused {
            let line = match &after.paused {
                Some(why) => self.line(Delivery, format!("nothing is sent: {why}")).with("state", "paused"),
                None => self.line(Delivery, "goes on sending").with("state", "resumed"),
            };
            self.lines.push(line.with("pending", pending));
        }
        let failing = |failures: u64| failures >= FAILING_FROM;
        match (failing(before.consecutive_failures), failing(after.consecutive_failures)) {
            (false, true) => {
                let why = after.last_error.as_deref().unwrap_or("no 2xx");
                let message = format!(
                    "the webhook fails: {why}; {} in the outbox: each is tried again until spec.delivery.deadline is over",
                    counted(pending, "event")
                );
                let line = self.line(Delivery, message).with("state", "failing").with("error", why);
                self.lines.push(line.with("pending", pending));
            }
            (true, false) => {
                let message = format!("the webhook works again; {} pending", counted(pending, "event"));
                let line = self.line(Delivery, message).with("state", "recovered");
                self.lines.push(line.with("pending", pending));
            }
            _ => {}
        }
    }

    fn dead_letters(&mut self, before: &Snapshot, now: &Snapshot) {
        let (before, after) = (before.counts.dead_letters, now.counts.dead_letters);
        let message = match after {
            _ if before == after => return,
            0 => "no dead letter is left".to_owned(),
            _ if after > before => format!(
                "{} parked: see `redis-expiry-operator dead-letters list --listener {}`, with the --state-dir of this process ({after} in all)",
                counted(after - before, "event"),
                self.listener
            ),
            _ => format!("{} left", counted(after, "dead letter")),
        };
        let line = self.line(DeadLetters, message).with("deadLetters", after);
        self.lines.push(line);
    }

    fn readiness(&mut self, before: &Snapshot, now: &Snapshot) {
        let masters = json!({"masters": now.masters, "subscribed": now.subscribed_masters});
        if now.ready && !before.ready {
            // Not how many keys are tracked: that is sampled, and would be said to be none.
            let message = format!("ready: {}/{} masters subscribed and scanned", now.subscribed_masters, now.masters);
            let line = self.line(Ready, message).with("nodes", masters);
            self.lines.push(line);
        } else if !now.ready
            && (before.ready || before.topology_error != now.topology_error || deaf(before) != deaf(now))
        {
            // Before the first topology there is nothing to say that `started` did not.
            let Some(why) = why_not_ready(now).or_else(|| before.ready.then(|| "no master is known".to_owned())) else {
                return;
            };
            let line = self.line(NotReady, format!("not ready: {why}")).with("nodes", masters).with("reason", why);
            self.lines.push(line);
        }
    }
}

fn why_not_ready(now: &Snapshot) -> Option<String> {
    if let Some(hold) = &now.hold {
        return Some(match hold {
            listener::Hold::DeploymentChanged { message, .. } => changed(message),
            listener::Hold::Store { message, .. } => message.clone(),
        });
    }
    if let Some(error) = &now.topology_error {
        return Some(error.to_string());
    }
    if let Some(why) = deaf(now) {
        return Some(why.to_owned());
    }
    (now.masters > 0).then(|| format!("{}/{} masters subscribed and scanned", now.subscribed_masters, now.masters))
}

/// What is wrong with the notifications of a node that has nothing else.
fn deaf(now: &Snapshot) -> Option<&str> {
    let faults =
        now.nodes.iter().filter(|node| !node.notifications).filter_map(|node| node.notification_fault.as_ref());
    faults.map(|fault| fault.message().as_ref()).next()
}

/// What to do about a ledger of another deployment.
fn changed(message: &str) -> String {
    format!(
        "{message}: point spec.redis.addresses back, or start once with --on-deployment-change discard to drop the old \
         entries, or keep if this Redis holds the same keys"
    )
}

/// `1 key`, `2 keys`.
fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests;
