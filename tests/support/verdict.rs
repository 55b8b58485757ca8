//! What the listener owes for a life, given the faults that were injected (DESIGN sections 2, 3 and 9). Pure.

use redis_expiry_operator::model::{Address, Millis, SlotSet};

use super::truth::{Before, Ending, Life, Op};

/// A stretch of time in which something was wrong with some slots.
#[derive(Clone, Debug)]
pub struct Window {
    pub from: Millis,
    pub to: Millis,
    pub slots: SlotSet,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another master takes over with everything, and the listener is subscribed to both: it misses nothing, but may
    /// find a key gone before it hears why.
    Handover,
    /// The store takes nothing: pushes are heard, but a key whose last change waits for the store is not looked at again until it is
    /// back. What became of it meanwhile is told by the deadline that was known before.
    Held,
    /// The store, and not the data, went at the end of it back to what it was at its beginning, and nobody has all that was written
    /// meanwhile. No push is missed; but entries come back, of what was told (it is told again, by the same id) and of what was
    /// paid or extended (that may be told, `Inferred`).
    Rewound,
    /// The listener may miss pushes. The data stayed the same (DESIGN rule 8, *gap*).
    Gap,
    /// The data may have gone back or away (*loss*).
    Loss,
}

/// A wipe of the data of some slots, between `from` and `to`.
#[derive(Clone, Debug)]
pub struct Wipe {
    pub from: Millis,
    pub to: Millis,
    pub slots: SlotSet,
}

/// A master whose unreplicated writes until `until` are gone: it died, or was demoted without being asked.
#[derive(Clone, Debug)]
pub struct Demotion {
    pub node: Address,
    pub until: Millis,
}

/// A server whose clock is ahead of ours has the slots from then on: what it has expires by its clock (DESIGN rule 7).
#[derive(Clone, Debug)]
pub struct Ahead {
    pub from: Millis,
    pub slots: SlotSet,
    pub milliseconds: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub windows: Vec<Window>,
    pub wipes: Vec<Wipe>,
    pub demotions: Vec<Demotion>,
    /// Replicas that became masters. What one of them pushes in the instant before we know does not count (DESIGN section 2).
    pub promotions: Vec<Address>,
    pub ahead: Option<Ahead>,
    /// Client tracking tells of changes: that something happened to a key, and not what.
    pub tracked: bool,
}

/// What must come of a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It expired: one id.
    Must,
    /// It was ended before its deadline by this command: nothing.
    MustNot(Op),
    /// Redis lost it after it was recorded: one id, `Inferred`.
    Vanished,
    /// Redis itself may have lost or undone it: one event or none.
    Uncertain(&'static str),
    /// Nobody confirmed that it was ever set: one event or none.
    Unborn,
    /// DESIGN rule 15 promises nothing: one event or none.
    Unpromised(&'static str),
}

/// Under client tracking: how late a listener may read, on a slow machine, of what happened. What is paid so shortly before its
/// deadline may be told of, `Inferred`.
pub const BEHIND_MS: i64 = 1_000;

/// How long a new deadline may not yet have been recorded: the push, the look, the commit.
pub const RECORDING_MS: i64 = 250;

impl Faults {
    pub fn verdict(&self, life: &Life) -> Verdict {
        if life.born.done.is_none() {
            return Verdict::Unborn;
        }
        if let Ending::Unknown(reason) = life.ending {
            return Verdict::Uncertain(reason);
        }
        if self.undone(&life.born) {
            return Verdict::Uncertain("no replica had the deadline when its master was lost");
        }
        let fast = self.fast(life).map(|ahead| ahead.from.plus(-RECORDING_MS));
        if fast.is_some_and(|from| life.born.end >= from) {
            return Verdict::Unpromised("by the clock of its server its deadline may have passed when it was set");
        }
        if let (Some(from), Ending::By(op)) = (fast, &life.ending)
            && op.end >= from
        {
            return Verdict::Unpromised("by the clock of its server it may have been over before");
        }
        if let Ending::By(op) = &life.ending {
            return if self.undone(op) {
                Verdict::Uncertain("no replica had what ended it when its master was lost")
            } else {
                Verdict::MustNot(op.clone())
            };
        }
        if let Some(reason) = self.unpromised(life) {
            return Verdict::Unpromised(reason);
        }
        if let Some(wipe) = self.wiped(life) {
            return if life.born.end >= wipe.from.plus(-RECORDING_MS) {
                Verdict::Unpromised("born just before its data was wiped")
            } else if life.set_again.is_some_and(|again| again < life.deadline) {
                Verdict::Unpromised("wiped, and set again before its deadline")
            } else {
                Verdict::Vanished
            };
        }
        match life.ending {
            Ending::Vanished(_) if fast.is_none() => Verdict::Uncertain("gone before its deadline"),
            _ => Verdict::Must,
        }
    }

    fn fast(&self, life: &Life) -> Option<&Ahead> {
        self.ahead.as_ref().filter(|ahead| ahead.slots.contains(life.key.slot()) && life.deadline >= ahead.from)
    }

    /// How far its server's clock is ahead of ours, in milliseconds.
    pub fn ahead_of(&self, life: &Life) -> i64 {
        self.fast(life).map_or(0, |ahead| ahead.milliseconds)
    }

    /// What DESIGN rule 15 leaves out.
    fn unpromised(&self, life: &Life) -> Option<&'static str> {
        if self.tracked && life.deadline.since(life.born.end) <= RECORDING_MS {
            return Some("under client tracking its deadline passed as soon as it was set");
        }
        if self.tracked && life.set_again.is_some_and(|again| again.since(life.deadline) <= RECORDING_MS) {
            return Some("under client tracking it was set again as soon as it had expired");
        }
        for window in self.around(life).filter(|window| self.tracked && window.kind == Kind::Held) {
            // A key whose last change waits for the store is not looked at, and nobody says what became of it meanwhile.
            let inside = |at: Millis| window.from.plus(-RECORDING_MS) <= at && at <= window.to;
            let first = life.born.done.is_some_and(|done| done.before == Before::Untold);
            if inside(life.deadline) && ((!first && inside(life.born.end)) || life.set_again.is_some_and(inside)) {
                return Some("under client tracking a key that waits for the store is not looked at");
            }
        }
        for window in self.around(life).filter(|window| matches!(window.kind, Kind::Gap | Kind::Loss)) {
            let inside = |at: Millis| window.from.plus(-RECORDING_MS) <= at && at <= window.to;
            if inside(life.born.end) && inside(life.deadline) {
                return Some("its deadline was set and passed inside one gap");
            }
            if inside(life.deadline) && life.set_again.is_some_and(inside) {
                return Some("it expired and was set again inside one gap");
            }
        }
        None
    }

    /// Whether an `Inferred` event for a life that `op` ended is excused: the end fell into a gap that also holds the
    /// deadline, or into a loss of data.
    pub fn excuses(&self, life: &Life, op: &Op) -> bool {
        self.around(life).any(|window| {
            let inside = op.end >= window.from.plus(-RECORDING_MS) && op.start <= window.to;
            inside
                && match window.kind {
                    Kind::Handover => self.promotions.contains(&op.node),
                    Kind::Held => false,
                    Kind::Gap => life.deadline <= window.to,
                    Kind::Loss | Kind::Rewound => true,
                }
        })
    }

    /// Whether nobody could tell that `op` came before the deadline.
    pub fn hardly_before(&self, life: &Life, op: &Op) -> bool {
        self.tracked && life.deadline.since(op.end) <= BEHIND_MS
    }

    /// Whether the store may have gone back to before `op` ended the life.
    pub fn comes_back(&self, life: &Life, op: &Op) -> bool {
        let mut rewound = self.around(life).filter(|window| window.kind == Kind::Rewound);
        rewound.any(|window| op.end >= window.from.plus(-RECORDING_MS) && op.start <= window.to)
    }

    /// Whether the listener may have missed what `op` did to the life.
    pub fn hides(&self, life: &Life, op: &Op) -> bool {
        let mut hiding = self.around(life).filter(|window| window.kind != Kind::Rewound);
        hiding.any(|window| op.end >= window.from.plus(-RECORDING_MS) && op.start <= window.to)
    }

    /// Whether the listener may have missed the push at this life's deadline.
    pub fn blind_at(&self, life: &Life, at: Millis) -> bool {
        self.tracked || self.gap_at(life, at)
    }

    /// Whether a push for this life may have been missed then.
    pub fn gap_at(&self, life: &Life, at: Millis) -> bool {
        self.unheard(life).any(|window| window.from.plus(-RECORDING_MS) <= at && at <= window.to)
    }

    /// Whether a failover may have brought the life back after it was over.
    pub fn resurrects(&self, life: &Life) -> bool {
        self.around(life).any(|window| {
            let inside = window.from.plus(-RECORDING_MS) <= life.deadline && life.deadline <= window.to;
            inside && window.kind == Kind::Loss && !self.demotions.is_empty()
        })
    }

    /// The end of the last window that began before `at` for this life's slot, if it is later than `at`.
    pub fn sees_again(&self, life: &Life, at: Millis) -> Millis {
        let waits = self.around(life).filter(|window| window.kind != Kind::Rewound);
        waits.filter(|window| window.from <= at).map(|window| window.to).fold(at, Ord::max)
    }

    /// In which a push may not be heard.
    fn unheard<'a>(&'a self, life: &'a Life) -> impl Iterator<Item = &'a Window> {
        self.around(life).filter(|window| !matches!(window.kind, Kind::Held | Kind::Rewound))
    }

    fn around<'a>(&'a self, life: &'a Life) -> impl Iterator<Item = &'a Window> {
        self.windows.iter().filter(|window| window.slots.contains(life.key.slot()))
    }

    fn undone(&self, op: &Op) -> bool {
        let unconfirmed = op.done.is_none_or(|done| !done.replicated);
        unconfirmed && self.demotions.iter().any(|lost| lost.node == op.node && op.start <= lost.until)
    }

    fn wiped(&self, life: &Life) -> Option<&Wipe> {
        self.wipes.iter().find(|wipe| {
            // What fell due during the wipe may have expired just before it: that is an expiry like any other in a gap.
            wipe.slots.contains(life.key.slot()) && life.born.start <= wipe.to && life.deadline > wipe.to
        })
    }
}
