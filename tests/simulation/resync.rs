//! What `ledger::resync` and the part of the keeper that starts it do, step by step.

use redis_expiry_operator::{
    ledger::Purpose,
    model::{Key, SlotSet},
    store::{Entry, NodeState},
};

use crate::{
    network::Pid,
    process::Call,
    server::{KeyIndex, NODES, Node},
    world::{Event, World, id_of},
};

/// What a node was when it was last seen whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    pub continuity: u64,
    pub epoch: u64,
    pub slots: SlotSet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Before,
    States,
    Scan(usize),
    Ledger,
    After,
    /// What is gone is looked at again, now that it is sure that the data is the same.
    Gone,
    AfterGone,
    Remember,
}

pub struct Job {
    number: u64,
    whole: bool,
    scope: SlotSet,
    basis: Synced,
    fresh: bool,
    step: Step,
    before: Option<(u32, u64)>,
    /// The state that the store remembers, where the data is the same.
    remembered: Option<NodeState>,
    waiting: usize,
    /// Keys that are gone, though the ledger has them and their deadlines are ahead.
    gone: Vec<Key>,
}

/// A question on the second connection.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    Data,
    Scan(usize),
    Flags,
}

#[derive(Clone, Debug)]
pub enum Result {
    Data(u32, u64),
    Scanned(Vec<KeyIndex>),
    Flags(bool),
    Failed,
}

/// The longest that a call on the second connection may take.
const PATIENCE: i64 = 2_000_000;
const DEAF_INTERVAL: i64 = 10_000_000;

impl World {
    pub fn resync(&mut self, pid: Pid) {
        for node in 0..NODES {
            let (now, interval, tracking) = (self.now, self.resync_interval, self.tracking);
            let Some(process) = self.process(pid) else { return };
            if process.stopping || process.jobs.contains_key(&node) || !process.links[node].open() {
                continue;
            }
            let Some(row) = process.topology.node(&id_of(node)).filter(|row| row.drives()) else { continue };
            let link = &process.links[node];
            let basis = Synced { continuity: link.continuity(), epoch: row.epoch, slots: row.slots.clone() };
            let deaf = (!tracking && !link.notifications.sufficient).then_some(DEAF_INTERVAL);
            let every = [interval, deaf].into_iter().flatten().min();
            let before = process.synced.get(&node);
            let fresh = process.fresh && before.is_none();
            let (whole, scope) = match before {
                Some(before) if before.continuity == basis.continuity && before.epoch == basis.epoch => {
                    let gained = basis.slots.minus(&before.slots);
                    let due =
                        process.scanned.get(&node).is_some_and(|last| every.is_some_and(|every| now - last >= every));
                    if !gained.is_empty() {
                        (true, gained)
                    } else if due {
                        (false, basis.slots.clone())
                    } else {
                        process.synced.insert(node, basis);
                        continue;
                    }
                }
                _ => (true, basis.slots.clone()),
            };
            process.next_number += 1;
            let number = process.next_number;
            let step = if whole { Step::Before } else { Step::Scan(0) };
            let (before, remembered) = (None, None);
            let job =
                Job { number, whole, scope, basis, fresh, step, before, remembered, waiting: 0, gone: Vec::new() };
            process.jobs.insert(node, job);
            let errand = if whole { Errand::Data } else { Errand::Scan(0) };
            self.errand(pid, node, number, errand);
        }
    }

    /// Sends something over the second connection.
    pub fn errand(&mut self, pid: Pid, node: Node, number: u64, errand: Errand) {
        let delay = self.random.delay();
        self.after(delay, Event::Errand { pid, node, number, errand });
        if !matches!(errand, Errand::Flags) {
            let step = self.process(pid).and_then(|process| process.jobs.get(&node)).map(|job| job.step);
            if let Some(step) = step {
                self.after(PATIENCE, Event::ErrandLate { pid, node, number, step: format!("{step:?}") });
            }
        }
    }

    /// It arrives.
    pub fn run_errand(&mut self, pid: Pid, node: Node, number: u64, errand: Errand) {
        let server = &self.servers[node];
        let result = match errand {
            _ if !server.alive => Result::Failed,
            Errand::Data => Result::Data(server.run, server.flushes),
            Errand::Flags => Result::Flags(server.notifies),
            Errand::Scan(page) => Result::Scanned(self.scan(node, page)),
        };
        let delay = self.random.delay();
        self.after(delay, Event::ErrandDone { pid, node, number, result });
    }

    pub fn errand_late(&mut self, pid: Pid, node: Node, number: u64, step: &str) {
        let Some(process) = self.process(pid) else { return };
        if process.jobs.get(&node).is_some_and(|job| {
            job.number == number
                && job.waiting == 0
                && format!("{:?}", job.step) == step
                && !matches!(job.step, Step::Ledger | Step::Gone)
        }) {
            process.jobs.remove(&node);
        }
    }

    fn job(&mut self, pid: Pid, node: Node, number: u64) -> Option<&mut Job> {
        self.process(pid)?.jobs.get_mut(&node).filter(|job| job.number == number)
    }

    pub fn errand_done(&mut self, pid: Pid, node: Node, number: u64, result: Result) {
        if let Result::Flags(on) = result {
            return self.flags_read(pid, node, on);
        }
        let Some(job) = self.job(pid, node, number) else { return };
        match (job.step, result) {
            (Step::Before, Result::Data(run, flushes)) => {
                job.before = Some((run, flushes));
                job.step = Step::States;
                self.call(pid, Call::States(node, number));
            }
            (Step::Scan(page), Result::Scanned(keys)) => {
                let keys: Vec<Key> = keys.into_iter().map(|key| self.keys[key].clone()).collect();
                self.request(pid, node, number, keys);
                if page == 0 {
                    self.step(pid, node, number, Step::Scan(1));
                    self.errand(pid, node, number, Errand::Scan(1));
                } else {
                    self.step(pid, node, number, Step::Scan(2));
                    self.all_answered(pid, node, number);
                }
            }
            (Step::After, Result::Data(run, flushes))
                if job.before == Some((run, flushes)) && job.remembered.is_some() && !job.gone.is_empty() =>
            {
                job.step = Step::Gone;
                let gone = std::mem::take(&mut job.gone);
                self.request(pid, node, number, gone);
                self.all_answered(pid, node, number);
            }
            (Step::After | Step::AfterGone, Result::Data(run, flushes)) if job.before == Some((run, flushes)) => {
                let state = NodeState {
                    node: id_of(node),
                    run_id: run.to_string(),
                    config_epoch: job.basis.epoch,
                    flushes,
                    slots: job.basis.slots.clone(),
                };
                job.step = Step::Remember;
                self.call(pid, Call::Remember(node, number, state));
            }
            _ => {
                if let Some(process) = self.process(pid) {
                    process.jobs.remove(&node);
                }
            }
        }
    }

    fn step(&mut self, pid: Pid, node: Node, number: u64, step: Step) {
        if let Some(job) = self.job(pid, node, number) {
            job.step = step;
        }
    }

    pub fn job_states(&mut self, pid: Pid, node: Node, number: u64, states: &[NodeState]) {
        let Some(job) = self.job(pid, node, number) else { return };
        let (run, flushes) = job.before.expect("states are read after the data");
        job.remembered = states
            .iter()
            .find(|state| state.node == id_of(node))
            .filter(|state| {
                state.run_id == run.to_string() && state.flushes == flushes && state.config_epoch == job.basis.epoch
            })
            .cloned();
        job.step = Step::Scan(0);
        self.errand(pid, node, number, Errand::Scan(0));
    }

    /// Has keys looked at for a resync.
    fn request(&mut self, pid: Pid, node: Node, number: u64, mut keys: Vec<Key>) {
        let slot = self.slot;
        let Some(process) = self.process(pid) else { return };
        let Some(job) = process.jobs.get_mut(&node).filter(|job| job.number == number) else { return };
        let purpose = match &job.remembered {
            _ if !job.whole => Purpose::Ordinary,
            Some(state) if !state.slots.contains(slot) => Purpose::AfterLoss,
            Some(_) if job.step == Step::Gone => Purpose::AfterGap,
            Some(_) => Purpose::Ordinary,
            None => Purpose::AfterLoss,
        };
        keys.retain(|key| job.scope.contains(key.slot()));
        if keys.is_empty() {
            return;
        }
        job.waiting += 1;
        process.next_number += 1;
        let waiter = process.next_number;
        process.pending.insert(waiter, (keys.len(), node, number));
        keys.retain(|key| process.book.want(key, purpose, Some(waiter)));
        self.ask(pid, keys);
    }

    /// One key of a request was looked at.
    pub fn looked_at(&mut self, pid: Pid, waiter: u64, gone: Option<Key>) {
        let Some(process) = self.process(pid) else { return };
        let Some((left, node, number)) = process.pending.get_mut(&waiter) else { return };
        *left -= 1;
        let job = process.jobs.get_mut(node).filter(|job| job.number == *number);
        if let (Some(job), Some(gone)) = (job, gone) {
            job.gone.push(gone);
        }
        if *left > 0 {
            return;
        }
        let (node, number) = (*node, *number);
        process.pending.remove(&waiter);
        if let Some(job) = self.job(pid, node, number) {
            job.waiting -= 1;
            self.all_answered(pid, node, number);
        }
    }

    fn all_answered(&mut self, pid: Pid, node: Node, number: u64) {
        let Some(job) = self.job(pid, node, number) else { return };
        if job.waiting > 0 {
            return;
        }
        match job.step {
            Step::Scan(2) if !job.whole => self.job_done(pid, node, number),
            Step::Scan(2) if job.fresh => {
                job.step = Step::After;
                self.errand(pid, node, number, Errand::Data);
            }
            Step::Scan(2) => {
                job.step = Step::Ledger;
                self.call(pid, Call::Ledger(node, number));
            }
            Step::Ledger | Step::Gone => {
                job.step = if job.step == Step::Gone { Step::AfterGone } else { Step::After };
                self.errand(pid, node, number, Errand::Data);
            }
            _ => {}
        }
    }

    pub fn job_ledger(&mut self, pid: Pid, node: Node, number: u64, entries: Vec<Entry>) {
        self.request(pid, node, number, entries.into_iter().map(|entry| entry.key).collect());
        self.all_answered(pid, node, number);
    }

    pub fn job_done(&mut self, pid: Pid, node: Node, number: u64) {
        let now = self.now;
        if self.job(pid, node, number).is_none() {
            return;
        }
        let Some(process) = self.process(pid) else { return };
        if let Some(job) = process.jobs.remove(&node) {
            process.scanned.insert(node, now);
            process.synced.insert(node, job.basis);
        }
        self.note_all(|| format!("process {pid} has seen {} whole", crate::server::name(node)));
        self.resync(pid);
    }
}
