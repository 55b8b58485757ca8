//! What becomes of one key: its fate, played out command by command and written down.

use rand::Rng;
use redis_expiry_operator::model::{Deadline, Key, Millis};

use super::{
    now,
    routes::{Attempt, Routes},
    sleep_until,
    truth::{Act, Before, Done, History, Op},
    wire::{Command, Reply, command},
};

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Expires,
    /// Deleted some time before the deadline.
    Paid,
    /// Deleted within a few milliseconds of the deadline; the reply says who won.
    PaidAtTheLastMoment,
    Extended,
    Shortened,
    /// Overwritten by a plain SET, which clears the TTL.
    Overwritten,
    /// Renamed within the pattern: the new name expires, the old one does not.
    Renamed,
    /// Renamed out of the pattern.
    RenamedAway,
    /// Deleted, and set again with another deadline.
    Recreated,
    /// Set again after it expired: two events.
    Rearmed,
    /// A key that the pattern does not cover.
    Noise,
}

impl Fate {
    /// Of a hundred orders.
    const MIX: [(Self, u32); 11] = [
        (Self::Expires, 48),
        (Self::Paid, 27),
        (Self::PaidAtTheLastMoment, 3),
        (Self::Extended, 5),
        (Self::Shortened, 4),
        (Self::Overwritten, 3),
        (Self::Renamed, 3),
        (Self::RenamedAway, 1),
        (Self::Recreated, 2),
        (Self::Rearmed, 3),
        (Self::Noise, 1),
    ];

    pub fn any(random: &mut impl Rng) -> Self {
        let mut left = random.random_range(0..Self::MIX.iter().map(|(_, share)| share).sum());
        for (fate, share) in Self::MIX {
            if left < share {
                return fate;
            }
            left -= share;
        }
        Self::Expires
    }

    /// The name of order `number`: some are not UTF-8, some have a hash tag, some of those end up renamed.
    pub fn key(self, number: u64) -> Key {
        match self {
            Self::Renamed | Self::RenamedAway => format!("order:pay:{{t{number}}}:a").as_str().into(),
            Self::Noise => format!("order:paid:{number}").as_str().into(),
            _ if number % 16 == 3 => {
                let mut key = b"order:pay:\xff\xfe\n".to_vec();
                key.extend_from_slice(number.to_string().as_bytes());
                key.into()
            }
            _ if number % 8 == 5 => format!("order:pay:{{t{number}}}").as_str().into(),
            _ => format!("order:pay:{number}").as_str().into(),
        }
    }
}

/// How long a command is tried before the order gives up.
const PATIENCE_MS: i64 = 8_000;

/// One order being played.
pub struct Script<'a> {
    routes: &'a Routes,
    number: u64,
    history: History,
}

impl<'a> Script<'a> {
    pub fn new(routes: &'a Routes, number: u64, fate: Fate) -> Self {
        let history = History { key: fate.key(number), watched: fate != Fate::Noise, ops: Vec::new() };
        Self { routes, number, history }
    }

    /// Plays the fate of a key that is set now and falls due at `deadline`; `random` is a number from 0 to 1.
    pub async fn play(mut self, fate: Fate, deadline: Deadline, random: f64) -> Vec<History> {
        let set = now();
        if !self.arm(deadline).await {
            return vec![self.history];
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a few seconds in milliseconds"
        )]
        let within = |least: i64, most: i64| least + ((most - least) as f64 * random) as i64;
        let early = set.plus(within(20, deadline.since(set) - 20).max(0));
        match fate {
            Fate::Expires | Fate::Noise => {}
            Fate::Paid => self.delete(early).await,
            Fate::PaidAtTheLastMoment => self.delete(deadline.plus(within(-8, 6))).await,
            Fate::Extended => self.shift(early, deadline.plus(within(300, 2500))).await,
            Fate::Shortened => {
                let sooner = early.plus(within(60, deadline.since(early).max(61)));
                self.shift(early, sooner.min(deadline.plus(-20))).await;
            }
            Fate::Overwritten => self.overwrite(early).await,
            Fate::Renamed => {
                let to = Key::from(format!("order:pay:{{t{}}}:b", self.number).as_str());
                return self.rename(early, to, true).await;
            }
            Fate::RenamedAway => {
                let to = Key::from(format!("order:kept:{{t{}}}", self.number).as_str());
                return self.rename(early, to, false).await;
            }
            Fate::Recreated => {
                self.delete(early).await;
                sleep_until(now().plus(within(0, 500))).await;
                self.arm(now().plus(within(300, 3000))).await;
            }
            Fate::Rearmed => {
                sleep_until(deadline.plus(within(300, 1200))).await;
                self.arm(now().plus(within(300, 3000))).await;
            }
        }
        vec![self.history]
    }

    /// Sets the key; `false`: it may not be there.
    async fn arm(&mut self, deadline: Deadline) -> bool {
        let key = self.history.key.as_bytes().to_vec();
        let at = deadline.0.to_string().into_bytes();
        let with = |words: &[&str], rest: &[&[u8]]| -> Command {
            let (name, after) = words.split_first().expect("a command has a name");
            let mut command = vec![name.as_bytes().to_vec(), key.clone()];
            command.extend(after.iter().map(|word| word.as_bytes().to_vec()));
            command.extend(rest.iter().map(|word| word.to_vec()));
            command
        };
        let first = self.history.ops.is_empty();
        let expire = with(&["PEXPIREAT"], &[&at]);
        let commands = match self.number % 20 {
            4 if first => vec![with(&["HSET", "total", "12"], &[]), expire],
            9 if first => vec![with(&["RPUSH", "a", "b"], &[]), expire],
            14 if first => vec![with(&["SADD", "a", "b"], &[]), expire],
            19 if first => vec![with(&["ZADD", "1", "a"], &[]), expire],
            _ if first => vec![with(&["SET", "unpaid", "PXAT"], &[&at])],
            _ => vec![with(&["PTTL"], &[]), with(&["SET", "unpaid", "PXAT"], &[&at])],
        };
        let before = if first { |_: &[Reply]| Before::Untold } else { before };
        self.run(&Act::Arm(deadline), &commands, deadline.plus(-50), before).await.is_some()
    }

    async fn delete(&mut self, at: Millis) {
        sleep_until(at).await;
        let commands = [self.command("DEL", &[])];
        self.run(&Act::Delete, &commands, now().plus(PATIENCE_MS), found).await;
    }

    async fn shift(&mut self, at: Millis, deadline: Deadline) {
        sleep_until(at).await;
        let commands = [self.command("PEXPIREAT", &[deadline.0.to_string().as_bytes()])];
        self.run(&Act::Move(deadline), &commands, deadline.plus(-20), found).await;
    }

    async fn overwrite(&mut self, at: Millis) {
        sleep_until(at).await;
        let commands = [self.command("PTTL", &[]), self.command("SET", &[b"kept"])];
        self.run(&Act::Overwrite, &commands, now().plus(PATIENCE_MS), before).await;
    }

    /// Renames the key if it is there; its deadline goes along.
    async fn rename(mut self, at: Millis, to: Key, watched: bool) -> Vec<History> {
        sleep_until(at).await;
        let name = to.as_bytes().to_vec();
        let commands = [self.command("PTTL", &[]), self.command("RENAME", &[&name])];
        self.run(&Act::RenameTo(to.clone()), &commands, now().plus(PATIENCE_MS), before).await;
        // Every attempt on the old name, seen from the new one.
        let from = self.history.key.clone();
        let deadline = self.history.ops[0].act.deadline().expect("the first command set a deadline");
        let mut ops = Vec::new();
        for op in &self.history.ops[1..] {
            let gone = op.done.is_some_and(|done| done.before == Before::Gone);
            if !gone {
                let done = op.done.map(|done| Done { before: Before::Gone, ..done });
                ops.push(Op { act: Act::RenamedFrom(from.clone(), deadline), done, ..op.clone() });
            }
        }
        vec![self.history, History { key: to, watched, ops }]
    }

    fn command(&self, name: &str, rest: &[&[u8]]) -> Command {
        let mut command = command([name]);
        command.push(self.history.key.as_bytes().to_vec());
        command.extend(rest.iter().map(|word| word.to_vec()));
        command
    }

    /// Runs one act to its end and writes down every attempt; the replies, if it was answered.
    async fn run(
        &mut self,
        act: &Act,
        commands: &[Command],
        until: Millis,
        before: fn(&[Reply]) -> Before,
    ) -> Option<Vec<Reply>> {
        let mut replies = None;
        for Attempt { node, start, end, answer } in self.routes.run(&self.history.key, commands, until).await {
            let done = answer.as_ref().map(|a| Done { before: before(&a.replies), replicated: a.replicated });
            self.history.ops.push(Op { act: act.clone(), start, end, node, done });
            replies = answer.map(|answer| answer.replies);
        }
        replies
    }
}

/// By the number that DEL, PEXPIREAT answer.
fn found(replies: &[Reply]) -> Before {
    if replies[0].integer() == Some(1) { Before::Alive } else { Before::Gone }
}

/// By the PTTL at the front of the transaction.
fn before(replies: &[Reply]) -> Before {
    if replies[0].integer().is_some_and(|at| at >= 0) { Before::Alive } else { Before::Gone }
}
