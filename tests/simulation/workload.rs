//! The application: arms keys, pays, extends, shortens, overwrites, renames; most of it within 6 ms of a deadline.

use redis_expiry_operator::nodes::Sort;

use crate::{
    server::{KeyIndex, Node, Value},
    truth::End,
    world::{BASE, Event, KEYS, World},
};

impl World {
    pub fn operate(&mut self, key: KeyIndex) {
        if self.now > self.until {
            return;
        }
        let node = self.authority(key);
        if self.writable(node) {
            self.operations += 1;
            // A lookup expires what is due, but not on a node that the slot leaves (see `answer`).
            if self.servers[node].migrating.is_none() {
                self.expire_if_due(node, key);
            }
            self.act(node, key);
        }
        let next = self.next_operation(node, key);
        self.after(next, Event::Operate(key));
    }

    fn writable(&self, node: Node) -> bool {
        let server = &self.servers[node];
        server.serves() && !server.paused && self.masters(node)
    }

    fn act(&mut self, node: Node, key: KeyIndex) {
        let Some(value) = self.servers[node].data.get(&key).cloned() else {
            if self.random.percent(85) {
                let ttl = self.ttl();
                self.arm(node, key, Some(ttl));
            }
            return;
        };
        match self.random.below(100) {
            0..25 => self.pay(node, key, &value, Sort::Deleted, End::Removed),
            25..40 => {
                let ttl = self.ttl();
                self.set_deadline(node, key, &value, ttl + 200);
            }
            40..48 => {
                let ttl = self.random.between(1, 30);
                self.set_deadline(node, key, &value, ttl);
            }
            48..60 => {
                let ttl = self.ttl();
                self.set_deadline(node, key, &value, ttl);
            }
            60..67 => self.overwrite(node, key, &value),
            67..77 => {
                self.pay(node, key, &value, Sort::Deleted, End::Removed);
                let ttl = self.ttl();
                self.arm(node, key, Some(ttl));
            }
            77..83 => self.rename(node, key, &value),
            _ => self.note(key, || "the application reads it".into()),
        }
    }

    fn ttl(&mut self) -> i64 {
        match self.random.below(10) {
            0..2 => self.random.between(3, 20),
            2..7 => self.random.between(20, 300),
            _ => self.random.between(300, 1_200),
        }
    }

    fn arm(&mut self, node: Node, key: KeyIndex, ttl: Option<i64>) {
        let now = self.now;
        let life = self.truth.born(key, now);
        let deadline = ttl.map(|ttl| self.server_millis(node) + ttl);
        if let Some(deadline) = deadline {
            self.truth.armed(life, now, deadline);
        }
        let value = Value { deadline, life };
        self.note(key, || format!("the application creates it on {}: {value:?}", crate::server::name(node)));
        self.put(node, key, &value);
    }

    /// Another deadline for the same life.
    fn set_deadline(&mut self, node: Node, key: KeyIndex, value: &Value, ttl: i64) {
        if value.deadline.is_none() {
            // It lived on without a deadline: to us this is a new life.
            return self.arm(node, key, Some(ttl));
        }
        let (now, deadline) = (self.now, self.server_millis(node) + ttl);
        self.truth.armed(value.life, now, deadline);
        let value = Value { deadline: Some(deadline), life: value.life };
        self.note(key, || format!("the application gives it another deadline: {value:?}"));
        self.put(node, key, &value);
    }

    /// SET without a TTL.
    fn overwrite(&mut self, node: Node, key: KeyIndex, value: &Value) {
        let now = self.now;
        self.truth.ended(value.life, now, End::Removed);
        self.note(key, || "the application overwrites it without a TTL".into());
        self.arm(node, key, None);
    }

    pub fn pay(&mut self, node: Node, key: KeyIndex, value: &Value, sort: Sort, end: End) {
        let now = self.now;
        self.note(key, || format!("it is removed on {} ({sort:?}): {value:?}", crate::server::name(node)));
        self.truth.ended(value.life, now, end);
        self.delete(node, key, sort);
    }

    fn rename(&mut self, node: Node, key: KeyIndex, value: &Value) {
        let to = (key + 1 + self.random.below(KEYS - 1)) % KEYS;
        if self.servers[node].migrating.is_some() || self.servers[node].importing {
            return;
        }
        let now = self.now;
        self.expire_if_due(node, to);
        self.truth.ended(value.life, now, End::Removed);
        self.note(key, || format!("the application renames it to key {to}"));
        self.delete(node, key, Sort::Deleted);
        // No `del` tells of what was there before; to us it lives on with another deadline, or with none.
        let life = match self.servers[node].data.get(&to) {
            Some(old) if old.deadline.is_some() && value.deadline.is_some() => old.life,
            Some(old) => {
                let old = old.life;
                self.truth.ended(old, now, End::Removed);
                self.truth.born(to, now)
            }
            None => self.truth.born(to, now),
        };
        if let Some(deadline) = value.deadline {
            self.truth.armed(life, now, deadline);
        }
        let value = Value { deadline: value.deadline, life };
        self.note(to, || format!("key {key} is renamed to it: {value:?}"));
        self.put(node, to, &value);
    }

    /// How long until something happens to the key again: mostly within 6 ms of its deadline.
    fn next_operation(&mut self, node: Node, key: KeyIndex) -> i64 {
        let deadline = self.servers[node].data.get(&key).and_then(|value| value.deadline);
        let Some(deadline) = deadline else { return self.random.between(500, 150_000) };
        let left = deadline * 1_000 - self.servers[node].offset - BASE - self.now;
        let next = match self.random.below(100) {
            0..60 => left + self.random.between(-6_000, 6_000),
            60..72 => self.random.between(100, left.max(200)),
            _ => left + self.random.between(6_000, 300_000),
        };
        next.max(self.random.between(100, 3_000))
    }
}
