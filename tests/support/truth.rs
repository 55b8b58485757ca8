//! What was done to each key and what Redis answered, and from that the key's *lives*: each from a deadline being set
//! to its end. Pure.

use std::fmt;

use redis_expiry_operator::model::{Address, Deadline, Key, Millis};

/// What a command meant to do to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sets the key with a deadline, whatever was there.
    Arm(Deadline),
    /// Moves the deadline of a living key (PEXPIREAT).
    Move(Deadline),
    Delete,
    /// A plain SET: the key lives on without a TTL.
    Overwrite,
    RenameTo(Key),
    /// A rename onto this name; the deadline came along.
    RenamedFrom(Key, Deadline),
}

impl Act {
    /// The deadline that it gives the key.
    pub fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Arm(deadline) | Self::Move(deadline) | Self::RenamedFrom(_, deadline) => Some(*deadline),
            Self::Delete | Self::Overwrite | Self::RenameTo(_) => None,
        }
    }
    /// Whether the key is there afterwards, whatever was there before.
    fn sets(&self) -> bool {
        matches!(self, Self::Arm(_) | Self::Overwrite | Self::RenamedFrom(..))
    }
}

/// What the key was just before a command, by the command's own reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Alive,
    Gone,
    /// The reply does not say.
    Untold,
}

/// One command that may have changed a key: between `start` and `end`, at `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub act: Act,
    pub start: Millis,
    pub end: Millis,
    pub node: Address,
    /// `None`: sent, and no answer came.
    pub done: Option<Done>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub before: Before,
    /// A replica confirmed it: a failover cannot undo it.
    pub replicated: bool,
}

/// Everything that was done to a key, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub key: Key,
    /// Whether the listener's pattern covers the key.
    pub watched: bool,
    pub ops: Vec<Op>,
}

/// From one deadline being set to the end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub key: Key,
    pub deadline: Deadline,
    /// The command that set the deadline.
    pub born: Op,
    pub ending: Ending,
    /// When a command next set the key anew, whether it was still there or not.
    pub set_again: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nobody touched it before its deadline.
    Expiry,
    /// A command ended it while it was alive.
    By(Op),
    /// A command found it gone before its deadline: Redis lost it.
    Vanished(Op),
    /// It can't be known.
    Unknown(&'static str),
}

const NO_ANSWER: &str = "a command's outcome is not known";

impl History {
    pub fn lives(&self) -> Vec<Life> {
        let mut lives: Vec<Life> = Vec::new();
        // Whether the last of `lives` still goes on.
        let mut alive = false;
        // An attempt without an answer may still be carried out when a hung node thaws: nothing after it is certain.
        let mut unknown = false;
        for op in &self.ops {
            unknown |= op.done.is_none();
            let before = op.done.map_or(Before::Untold, |done| done.before);
            if let (Some(life), true) = (lives.last_mut(), alive) {
                // A deletion that found the key alive ended it, whatever became of an earlier try of the same.
                let certain = !unknown || (op.act == Act::Delete && before == Before::Alive);
                match end_of(life.deadline, op, before) {
                    Some(ending) if certain => life.ending = ending,
                    Some(_) => life.ending = Ending::Unknown(NO_ANSWER),
                    None => {}
                }
            }
            if let Some(life) = lives.last_mut().filter(|life| life.set_again.is_none() && op.act.sets()) {
                life.set_again = Some(op.start);
            }
            let missed = matches!(op.act, Act::Move(_)) && before == Before::Gone;
            let Some(deadline) = op.act.deadline().filter(|_| !missed) else {
                alive &= op.done.is_none();
                continue;
            };
            let ending = if unknown {
                Ending::Unknown(NO_ANSWER)
            } else if op.end >= deadline.plus(-2) {
                Ending::Unknown("it reached Redis when its deadline had passed")
            } else {
                Ending::Expiry
            };
            lives.push(Life { key: self.key.clone(), deadline, born: op.clone(), ending, set_again: None });
            alive = true;
        }
        lives
    }
}

/// How a life ended if `op` is the next command on its key; `None`: it was over by then, or was before.
fn end_of(deadline: Deadline, op: &Op, before: Before) -> Option<Ending> {
    match before {
        Before::Alive => Some(Ending::By(op.clone())),
        Before::Gone if op.end < deadline => Some(Ending::Vanished(op.clone())),
        Before::Gone => None,
        Before::Untold if op.start > deadline.plus(1) => None,
        Before::Untold if op.done.is_some() && op.end < deadline => Some(Ending::By(op.clone())),
        Before::Untold => Some(Ending::Unknown(NO_ANSWER)),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} at {}: {:?}", self.start.0, self.end.0, self.node, self.act)?;
        match self.done {
            None => write!(f, ", NO ANSWER"),
            Some(done) => {
                let replicated = if done.replicated { "" } else { ", not confirmed by a replica" };
                write!(f, ", found {:?}{replicated}", done.before)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(act: Act, at: i64, before: Before) -> Op {
        let node = Address::new("127.0.0.1", 7000);
        let done = Some(Done { before, replicated: true });
        Op { act, start: Millis(at), end: Millis(at + 1), node, done }
    }

    fn endings(ops: Vec<Op>) -> Vec<(i64, Ending)> {
        let history = History { key: "order:pay:1".into(), watched: true, ops };
        history.lives().into_iter().map(|life| (life.deadline.0, life.ending)).collect()
    }

    #[test]
    fn a_key_that_nobody_touched_expires() {
        let armed = op(Act::Arm(Millis(1000)), 0, Before::Untold);
        assert_eq!(endings(vec![armed]), [(1000, Ending::Expiry)]);
    }

    #[test]
    fn a_reply_says_whether_a_late_payment_came_in_time() {
        let armed = op(Act::Arm(Millis(1000)), 0, Before::Untold);
        let paid = op(Act::Delete, 999, Before::Alive);
        assert_eq!(endings(vec![armed.clone(), paid.clone()]), [(1000, Ending::By(paid))]);
        let late = op(Act::Delete, 999, Before::Gone);
        assert_eq!(endings(vec![armed, late]), [(1000, Ending::Expiry)]);
    }

    #[test]
    fn a_key_that_is_gone_before_its_deadline_vanished() {
        let armed = op(Act::Arm(Millis(1000)), 0, Before::Untold);
        let paid = op(Act::Delete, 500, Before::Gone);
        assert_eq!(endings(vec![armed, paid.clone()]), [(1000, Ending::Vanished(paid))]);
    }

    #[test]
    fn an_extension_ends_one_life_and_begins_another() {
        let armed = op(Act::Arm(Millis(1000)), 0, Before::Untold);
        let moved = op(Act::Move(Millis(2000)), 500, Before::Alive);
        assert_eq!(endings(vec![armed.clone(), moved.clone()]), [(1000, Ending::By(moved)), (2000, Ending::Expiry)]);
        let late = op(Act::Move(Millis(2000)), 1001, Before::Gone);
        assert_eq!(endings(vec![armed, late]), [(1000, Ending::Expiry)]);
    }

    #[test]
    fn a_key_armed_again_after_its_expiry_expires_twice() {
        let ops = vec![op(Act::Arm(Millis(1000)), 0, Before::Untold), op(Act::Arm(Millis(3000)), 1500, Before::Gone)];
        assert_eq!(endings(ops), [(1000, Ending::Expiry), (3000, Ending::Expiry)]);
    }

    #[test]
    fn nothing_is_certain_after_an_attempt_without_an_answer() {
        let mut lost = op(Act::Delete, 500, Before::Untold);
        lost.done = None;
        let ops = vec![op(Act::Arm(Millis(1000)), 0, Before::Untold), lost, op(Act::Delete, 600, Before::Gone)];
        assert!(matches!(endings(ops)[..], [(1000, Ending::Unknown(_))]));
    }

    #[test]
    fn a_repeated_deletion_that_found_the_key_is_certain() {
        let mut lost = op(Act::Delete, 500, Before::Untold);
        lost.done = None;
        let again = op(Act::Delete, 600, Before::Alive);
        let ops = vec![op(Act::Arm(Millis(1000)), 0, Before::Untold), lost, again.clone()];
        assert_eq!(endings(ops), [(1000, Ending::By(again))]);
    }
}
