//! What goes wrong, and how it comes right again.

use redis_expiry_operator::{
    model::{Key, Millis},
    nodes::Sort,
    store::{Change, Epoch, MEMORY_MS, Seen, Store as _},
};

use crate::{
    network::Pid,
    process::ready,
    server::{A, B, C, KeyIndex, NODES, Node, Value, name},
    truth::End,
    world::{Event, KEYS, World},
};

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    OurCrash,
    Terminated,
    Cut,
    PlannedFailover,
    CrashFailover,
    ShortFreeze,
    LongFreeze,
    Migration,
    RestartEmpty,
    FlushAndEvict,
    NotificationsOff,
    /// A process of ours hangs while another takes over, then goes on.
    Zombie,
    /// A slot is on its way for longer than memories are kept. Takes minutes of its own: not among [`ALL`].
    StuckMigration,
}

/// How long that is.
pub const STUCK: i64 = (MEMORY_MS + 2_000) * 1_000;

pub const ALL: [Fault; 12] = [
    Fault::OurCrash,
    Fault::Terminated,
    Fault::Cut,
    Fault::PlannedFailover,
    Fault::CrashFailover,
    Fault::ShortFreeze,
    Fault::LongFreeze,
    Fault::Migration,
    Fault::RestartEmpty,
    Fault::FlushAndEvict,
    Fault::NotificationsOff,
    Fault::Zombie,
];

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Begin(Fault),
    StartProcess,
    /// A process has begun on a busy machine: what comes now is read together, a little later.
    Doze(Pid),
    Wake(Pid),
    /// The replica has caught up: it takes over as planned.
    Hand(Node, Node),
    Promote(Node, Node),
    Back(Node),
    Demote(Node),
    Thaw(Node),
    NotificationsOn(Node),
    Move(Node),
}

impl World {
    pub fn fault(&mut self, step: Step) {
        match step {
            Step::Begin(fault) => self.begin(fault),
            Step::StartProcess => {
                let before = self.current;
                match self.process(before) {
                    // Another has been started meanwhile.
                    Some(process) if (!process.hangs || process.dozes) && !process.stopping => {}
                    Some(process) if process.stopping => {
                        self.stop_process(before);
                        self.start_process();
                    }
                    _ => self.start_process(),
                }
            }
            Step::Doze(pid) => {
                if let Some(process) = self.process(pid).filter(|process| !process.hangs) {
                    (process.hangs, process.dozes) = (true, true);
                    let wake = self.random.between(2_000, 80_000);
                    self.after(wake, Event::Fault(Step::Wake(pid)));
                }
            }
            Step::Wake(pid) => self.wake(pid),
            Step::Hand(from, to) => self.hand_over(from, to),
            Step::Promote(from, to) => self.promote(from, to),
            Step::Back(node) => self.back(node),
            Step::Demote(node) => self.demote(node),
            Step::Thaw(node) => self.thaw(node),
            Step::NotificationsOn(node) => {
                self.note_all(|| format!("-- notifications of {} are on again", name(node)));
                self.servers[node].notifies = true;
            }
            Step::Move(from) => self.move_on(from),
        }
    }

    /// A process that has just begun is busy now and then.
    pub fn doze(&mut self, pid: Pid) {
        if self.random.percent(60) {
            let from = self.random.between(1_000, 60_000);
            self.after(from, Event::Fault(Step::Doze(pid)));
        }
    }

    /// Evidence that was taken and not yet stored, and pushes under way, were heard in vain: a gap begins earlier.
    pub fn gap(&mut self) {
        let from = self.now - 150_000;
        self.truth.gap_begins(from);
    }

    /// A replica of the owner that could take over, while nothing else is wrong with the cluster.
    fn heir(&self, owner: Node) -> Option<Node> {
        let config = &self.configs[self.configs.len() - 1];
        let settled = self.servers.iter().all(|server| server.serves() && !server.paused && server.migrating.is_none());
        let known = self.servers.iter().all(|server| server.seen == self.configs.len() - 1);
        (0..NODES)
            .find(|node| config[*node].replica_of == Some(owner) && self.servers[*node].follows == Some(owner))
            .filter(|_| settled && known)
    }

    #[expect(clippy::too_many_lines, reason = "one arm a fault: to be read side by side")]
    fn begin(&mut self, fault: Fault) {
        self.note_all(|| format!("-- {fault:?} begins"));
        let owner = self.owner();
        let heir = self.heir(owner);
        let later = |world: &mut Self| {
            // Another fault is in the way.
            world.note_all(|| "-- not yet".into());
            if world.now < world.until {
                world.after(200_000, Event::Fault(Step::Begin(fault)));
            }
        };
        let calm = self.servers.iter().all(|server| server.serves() && server.migrating.is_none());
        match fault {
            Fault::OurCrash => {
                self.gap();
                let current = self.current;
                self.stop_process(current);
                let away = self.random.between(5_000, 1_500_000);
                self.after(away, Event::Fault(Step::StartProcess));
            }
            Fault::Terminated => {
                self.gap();
                let current = self.current;
                // What was decided is on its way to the store, and gets there.
                if let Some(process) = self.process(current) {
                    process.stopping = true;
                }
                for line in self.lines.keys().copied().filter(|line| line.pid == current).collect::<Vec<_>>() {
                    self.cut(line, false);
                }
                let away = self.random.between(60_000, 800_000);
                self.after(away, Event::Fault(Step::StartProcess));
            }
            Fault::Zombie => {
                self.gap();
                let current = self.current;
                if let Some(process) = self.process(current) {
                    process.hangs = true;
                }
                let away = self.random.between(20_000, 600_000);
                self.after(away, Event::Fault(Step::StartProcess));
                let wake = away + self.random.between(1_000, 900_000);
                self.after(wake, Event::Fault(Step::Wake(current)));
            }
            Fault::Cut => {
                self.gap();
                let all = self.random.percent(30);
                let which = self.random.below(NODES);
                for node in 0..NODES {
                    if all || node == which {
                        let heard = self.random.percent(85);
                        for line in self.lines_of(node) {
                            self.cut(line, heard);
                        }
                    }
                }
            }
            Fault::PlannedFailover => match heir {
                None => later(self),
                Some(heir) => {
                    self.gap();
                    self.servers[owner].paused = true;
                    self.after(1_000, Event::Fault(Step::Hand(owner, heir)));
                }
            },
            Fault::CrashFailover => match heir {
                None => later(self),
                Some(heir) => {
                    self.gap();
                    self.crash(owner);
                    let election = self.random.between(300_000, 1_500_000);
                    self.after(election, Event::Fault(Step::Promote(owner, heir)));
                    let back = election + self.random.between(200_000, 1_500_000);
                    self.after(back, Event::Fault(Step::Back(owner)));
                }
            },
            Fault::ShortFreeze if calm => {
                self.gap();
                self.servers[owner].frozen = true;
                let frozen = self.random.between(20_000, 2_200_000);
                self.after(frozen, Event::Fault(Step::Thaw(owner)));
            }
            Fault::LongFreeze => match heir {
                None => later(self),
                Some(heir) => {
                    self.gap();
                    self.servers[owner].frozen = true;
                    // Nobody is replaced before the others have waited longer than it takes us to suspect it.
                    let election = self.random.between(1_700_000, 3_000_000);
                    self.after(election, Event::Fault(Step::Promote(owner, heir)));
                    let thaw = election + self.random.between(70_000, 1_500_000);
                    self.after(thaw, Event::Fault(Step::Thaw(owner)));
                }
            },
            Fault::Migration | Fault::StuckMigration => {
                if heir.is_none() || owner == C {
                    return later(self);
                }
                self.servers[owner].migrating = Some(C);
                self.servers[C].importing = true;
                let now = self.now;
                self.truth.move_begins(now);
                let stuck = fault == Fault::StuckMigration;
                self.servers[owner].sluggish = stuck;
                self.after(if stuck { STUCK } else { 5_000 }, Event::Fault(Step::Move(owner)));
            }
            Fault::RestartEmpty if calm => {
                self.gap();
                let now = self.now;
                for value in std::mem::take(&mut self.servers[owner].data).into_values() {
                    self.truth.ended(value.life, now, End::DataGone);
                }
                self.crash(owner);
                let away = self.random.between(50_000, 800_000);
                self.after(away, Event::Fault(Step::Back(owner)));
            }
            Fault::FlushAndEvict if calm => {
                if self.random.percent(40) {
                    self.flush(owner);
                } else {
                    let key: KeyIndex = self.random.below(KEYS);
                    if let Some(value) = self.servers[owner].data.get(&key).cloned() {
                        let value: Value = value;
                        self.truth.lives[value.life].evicted = true;
                        self.pay(owner, key, &value, Sort::Evicted, End::DataGone);
                    }
                }
            }
            Fault::NotificationsOff => {
                self.gap();
                self.servers[owner].notifies = false;
                // Shorter than we look, and nobody could tell.
                let off = self.random.between(2_300_000, 3_500_000);
                self.after(off, Event::Fault(Step::NotificationsOn(owner)));
            }
            Fault::ShortFreeze | Fault::RestartEmpty | Fault::FlushAndEvict => later(self),
        }
    }

    fn wake(&mut self, pid: Pid) {
        self.note_all(|| format!("-- process {pid} goes on"));
        let Some(process) = self.process(pid) else { return };
        (process.hangs, process.dozes) = (false, false);
        let deferred = std::mem::take(&mut process.deferred);
        for (order, event) in (0..).zip(deferred) {
            self.after(order, event);
        }
    }

    fn crash(&mut self, node: Node) {
        self.note_all(|| format!("-- {} dies", name(node)));
        self.servers[node].alive = false;
        for line in self.lines_of(node) {
            self.cut(line, true);
        }
    }

    /// A planned failover waits for the replica.
    fn hand_over(&mut self, from: Node, to: Node) {
        if !self.servers[from].alive || !self.servers[from].paused || self.owner() != from {
            return;
        }
        // One that hangs meanwhile goes on with it.
        if self.servers[from].serves() && self.servers[to].stream.is_empty() {
            self.promote(from, to);
        } else {
            self.after(1_000, Event::Fault(Step::Hand(from, to)));
        }
    }

    fn promote(&mut self, from: Node, to: Node) {
        self.note_all(|| format!("-- {} is promoted in place of {}", name(to), name(from)));
        let planned = self.servers[from].paused;
        let now = self.now;
        self.attach(to, None);
        let (old, new) = (self.servers[from].data.clone(), self.servers[to].data.clone());
        self.truth.promoted(now, &old, &new);
        self.reconfigure(&[to], |config| {
            let epoch = config.iter().map(|row| row.epoch).max().unwrap_or(0) + 1;
            config[to] = crate::server::Row { replica_of: None, epoch, owns: true, failed: false };
            config[from] =
                crate::server::Row { replica_of: None, epoch: config[from].epoch, owns: false, failed: true };
            if planned {
                config[from] = crate::server::Row { replica_of: Some(to), epoch, owns: false, failed: false };
            }
        });
        if planned {
            self.attach(from, Some(to));
        }
    }

    /// A dead node is back, empty: as a replica if it was replaced.
    fn back(&mut self, node: Node) {
        self.note_all(|| format!("-- {} is back", name(node)));
        let server = &mut self.servers[node];
        (server.alive, server.migrating, server.importing) = (true, None, false);
        // That it was about to hand over is forgotten.
        server.paused = false;
        server.data.clear();
        server.run += 1;
        server.flushes = 0;
        if self.owner() == node {
            // Its replicas ask for everything anew.
            for replica in [A, B] {
                if self.servers[replica].follows == Some(node) {
                    self.servers[replica].data.clear();
                    self.attach(replica, Some(node));
                }
            }
        } else {
            self.demote(node);
        }
    }

    /// A node that hears that it was replaced makes itself a replica; then the others hear of that.
    fn demote(&mut self, node: Node) {
        let owner = self.owner();
        if owner == node {
            return;
        }
        let epoch = self.configs[self.configs.len() - 1][owner].epoch;
        self.reconfigure(&[node], |config| {
            config[node] = crate::server::Row { replica_of: Some(owner), epoch, owns: false, failed: false };
        });
    }

    fn thaw(&mut self, node: Node) {
        self.note_all(|| format!("-- {} thaws", name(node)));
        self.servers[node].frozen = false;
        let deferred = std::mem::take(&mut self.servers[node].deferred);
        let learns = self.random.between(500, 60_000);
        for (order, event) in (0..).zip(deferred) {
            let wait = if matches!(event, Event::Learn { .. }) { learns } else { 0 };
            self.after(order + wait, event);
        }
        // Its own cron runs at once.
        for _ in 0..3 {
            let wait = self.random.between(0, 30_000);
            self.after(wait, Event::ActiveExpiryOnce(node));
        }
        if self.owner() != node {
            self.after(learns + 100, Event::Fault(Step::Demote(node)));
        }
    }

    /// Another key is forgotten: with it all memories that need no longer be kept.
    fn prune_memories(&mut self) {
        let (key, saw) = (Key::from("another"), Seen { deadline: Millis(1), absent: false });
        let record = Change::Record { key: key.clone(), saw: None, deadline: saw.deadline };
        let forget = Change::Forget { key, saw, at: Millis(self.ours().div_euclid(1_000)) };
        ready(self.store.apply(Epoch(u64::MAX), vec![record, forget]).done).expect("the newest epoch");
    }

    /// MIGRATE, key by key, then the slot.
    fn move_on(&mut self, from: Node) {
        let to = C;
        if self.servers[from].migrating != Some(to) {
            return;
        }
        if std::mem::take(&mut self.servers[from].sluggish) {
            self.prune_memories();
        }
        let keys: Vec<KeyIndex> = self.servers[from].data.keys().copied().collect();
        if keys.is_empty() {
            self.note_all(|| format!("-- the slot is {}'s", name(to)));
            self.reconfigure(&[to], |config| {
                let epoch = config.iter().map(|row| row.epoch).max().unwrap_or(0) + 1;
                config[from].owns = false;
                (config[to].owns, config[to].epoch) = (true, epoch);
            });
            self.servers[to].importing = false;
            let now = self.now;
            self.truth.move_ends(now + 1_000_000);
            return;
        }
        let key = keys[self.random.below(keys.len())];
        self.expire_if_due(from, key);
        if let Some(value) = self.servers[from].data.get(&key).cloned() {
            let now = self.now;
            let deadline = value.deadline.map(|deadline| {
                let left = (deadline - self.server_millis(from)).max(1);
                self.server_millis(to) + left
            });
            if let Some(deadline) = deadline {
                self.truth.armed(value.life, now, deadline);
            }
            self.note(key, || format!("MIGRATE takes it from {} to {}: {deadline:?}", name(from), name(to)));
            self.put(to, key, &Value { deadline, life: value.life });
            self.delete(from, key, Sort::Deleted);
        }
        let pause = self.random.between(200, 30_000);
        self.after(pause, Event::Fault(Step::Move(from)));
    }
}
