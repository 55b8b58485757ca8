//! Whether a node is to be believed, going by when it was last heard. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How often a node is asked for a sign of life.
pub const BEAT: Duration = Duration::from_millis(500);
/// A node that was silent this long is suspect.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);
/// A connection that was silent this long is given up.
pub const DEAD_AFTER: Duration = Duration::from_secs(2);

/// What the watch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Trusted,
    /// Nothing it says or pushes settles anything until another master, asked afterwards, names it the owner.
    Suspect,
    Dead,
}

/// The state of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    heard: Instant,
    /// The silence since then was counted.
    lapsed: bool,
    suspect_since: Option<Instant>,
    /// How many times it became suspect: each is a gap.
    lapses: u64,
}

impl Watch {
    /// A connection that was opened just now is suspect.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, lapsed: false, suspect_since: Some(now), lapses: 0 }
    }

    /// The node sent something.
    pub fn heard(&mut self, now: Instant) {
        // What comes after a silence does not undo it.
        self.lapse(now);
        if self.lapsed {
            // Whoever named it during the silence may have known no better.
            self.suspect_since = Some(now);
        }
        (self.heard, self.lapsed) = (now, false);
    }

    /// Another master that was asked at `asked_at` named this node what we hold it for.
    pub fn confirmed(&mut self, asked_at: Instant) {
        if !self.lapsed && self.suspect_since.is_some_and(|since| asked_at >= since) {
            self.suspect_since = None;
        }
    }

    pub fn verdict(&mut self, now: Instant) -> Verdict {
        self.lapse(now);
        if now.duration_since(self.heard) >= DEAD_AFTER {
            Verdict::Dead
        } else if self.suspect_since.is_some() {
            Verdict::Suspect
        } else {
            Verdict::Trusted
        }
    }

    pub fn suspect(&self) -> bool {
        self.suspect_since.is_some()
    }
    pub fn lapses(&self) -> u64 {
        self.lapses
    }

    fn lapse(&mut self, now: Instant) {
        if !self.lapsed && now.duration_since(self.heard) >= SUSPECT_AFTER {
            // From now, not from when the silence began: whoever was asked during it may have known no better.
            (self.lapsed, self.suspect_since) = (true, Some(now));
            self.lapses += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_new_connection_is_suspect_until_another_master_asked_afterwards_confirms_it() {
        let start = Instant::now();
        let mut watch = Watch::new(at(start, 10));
        watch.confirmed(at(start, 9));
        assert_eq!(watch.verdict(at(start, 11)), Verdict::Suspect);
        watch.confirmed(at(start, 10));
        assert_eq!(watch.verdict(at(start, 12)), Verdict::Trusted);
    }

    #[test]
    fn silence_makes_suspect_and_a_late_word_does_not_undo_it() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.confirmed(start);
        assert_eq!(watch.verdict(at(start, 1_499)), Verdict::Trusted);
        watch.heard(at(start, 1_600));
        assert_eq!((watch.verdict(at(start, 1_601)), watch.lapses()), (Verdict::Suspect, 1));
        watch.confirmed(at(start, 1_599));
        assert_eq!(watch.verdict(at(start, 1_602)), Verdict::Suspect);
        watch.confirmed(at(start, 1_700));
        assert_eq!(watch.verdict(at(start, 1_701)), Verdict::Trusted);
    }

    #[test]
    fn a_node_that_is_named_while_it_is_silent_is_suspect_when_it_thaws() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.confirmed(start);
        assert_eq!(watch.verdict(at(start, 1_510)), Verdict::Suspect);
        watch.confirmed(at(start, 1_600));
        watch.heard(at(start, 1_900));
        watch.confirmed(at(start, 1_899));
        assert_eq!((watch.verdict(at(start, 1_901)), watch.lapses()), (Verdict::Suspect, 1));
        watch.confirmed(at(start, 1_901));
        assert_eq!(watch.verdict(at(start, 1_902)), Verdict::Trusted);
    }

    #[test]
    fn a_connection_that_is_silent_for_two_seconds_is_dead() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.heard(at(start, 100));
        assert_eq!(watch.verdict(at(start, 2_099)), Verdict::Suspect);
        assert_eq!(watch.verdict(at(start, 2_100)), Verdict::Dead);
    }
}
