//! The entries that are due soonest, and which keys are being looked at. Pure: `now` is an argument.
//!
//! Times are microseconds of ours; deadlines are the owners'. The store holds every entry; the book holds those up to its
//! *horizon*, so that memory does not grow with the ledger.

use std::collections::BTreeSet;

use super::Purpose;
use smallvec::SmallVec;

use crate::{
    model::{Deadline, Key, KeyMap, Millis},
    store::{DueCursor, Entry, Seen},
};

/// The book is read on when it holds fewer entries than this... (With those in flight, [`HIGH`] of them fill a hash map
/// of 65,536 places and do not double it.)
pub const LOW: usize = 14 * 1024;
/// ... by pages of this many, and cut back to [`LOW`] when it holds more than [`HIGH`].
pub const PAGE: usize = LOW;
const HIGH: usize = 2 * PAGE + LOW;
/// Entries that the book holds at the very most, those among them that nobody answers for.
const MOST: usize = 250_000;
/// Keys without answer that are remembered at the most.
const UNANSWERED: usize = 100_000;
/// ... or when its horizon is nearer than this: a page must be read before its first entry is due.
const AHEAD_MS: i64 = 5_000;

/// Whom to tell that a key was looked at.
pub type Waiter = u64;
pub type Waiters = SmallVec<[Waiter; 1]>;

#[derive(Default)]
struct Line {
    /// The entry, where it is known to be in the store; `None` says nothing.
    seen: Option<Seen>,
    /// When to ask.
    fire: Option<i64>,
    /// Few lines are in flight, and there are many lines.
    look: Option<Box<Flight>>,
}

/// A look in flight: asked, being judged, or being stored.
struct Flight {
    purpose: Purpose,
    waiters: Waiters,
    /// It is to be repeated when it is done, and why, and for whom.
    again: Option<(Purpose, Waiters)>,
    /// No answers in a row, and when to ask again.
    unanswered: u32,
    retry: Option<i64>,
}

impl Flight {
    fn new(purpose: Purpose, waiters: Waiters) -> Self {
        Self { purpose, waiters, again: None, unanswered: 0, retry: None }
    }
}

/// What is due, in memory.
#[derive(Default)]
pub struct Book {
    lines: KeyMap<Line>,
    due: BTreeSet<(i64, Key)>,
    /// Entries up to here are all in the book; `None`: all entries are.
    horizon: Option<DueCursor>,
    reading: Option<Reading>,
    /// Keys that got no answer, by when to ask again. They are not counted as in flight: a node that is down must not
    /// keep the others from being asked.
    unanswered: BTreeSet<(i64, Key)>,
    anew: Anew,
    in_flight: usize,
    /// Lines with an entry.
    held: usize,
}

/// Whether the book is to be read from the start. What it has stays until then, and so does its horizon.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Anew {
    #[default]
    No,
    /// Some that nobody answers for were let go of: when most of them are answered for.
    Later,
    Now,
}

/// A page that is being read.
struct Reading {
    /// From behind here.
    from: DueCursor,
    anew: bool,
    /// It was asked for before the store lost something.
    old: bool,
    /// What the store came to have meanwhile behind the horizon: the page may be older.
    late: KeyMap<Option<Seen>>,
}

fn start() -> DueCursor {
    (Millis(i64::MIN), Key::from(""))
}

impl Book {
    /// A book that has read nothing yet.
    pub fn unread() -> Self {
        Self { horizon: Some(start()), ..Self::default() }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
    pub fn held(&self) -> usize {
        self.held
    }

    /// When the next key is to be asked about.
    pub fn next(&self) -> Option<i64> {
        let first = |keys: &BTreeSet<(i64, Key)>| keys.first().map(|(fire, _)| *fire);
        [first(&self.due), first(&self.unanswered)].into_iter().flatten().min()
    }

    /// The entry of a key, where the book has it.
    pub fn seen(&self, key: &Key) -> Option<Seen> {
        self.lines.get(key)?.seen
    }
    /// A key without a line has no entry: the book holds all.
    pub fn complete(&self) -> bool {
        self.horizon.is_none() && self.reading.is_none() && self.anew == Anew::No
    }
    /// Why the key is looked at.
    pub fn purpose(&self, key: &Key) -> Purpose {
        self.lines.get(key).and_then(|line| line.look.as_ref()).map_or(Purpose::Ordinary, |look| look.purpose)
    }

    /// Who waits for the look that is in flight; the first, if there are several.
    pub fn waiter(&self, key: &Key) -> Option<Waiter> {
        self.lines.get(key)?.look.as_ref()?.waiters.first().copied()
    }

    /// Keys to ask about now, at most `limit`: they are in flight from here on.
    pub fn fall_due(&mut self, now: i64, limit: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        while keys.len() < limit && self.due.first().is_some_and(|(fire, _)| *fire <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            if let Some(line) = self.lines.get_mut(&key) {
                line.fire = None;
            }
            if self.want(&key, Purpose::Ordinary, None) {
                keys.push(key);
            }
        }
        // Those that nobody answers for come last, and never take all the room.
        let limit = limit.min(keys.len() + limit / 2 + 1);
        while keys.len() < limit && self.unanswered.first().is_some_and(|(retry, _)| *retry <= now) {
            let Some((_, key)) = self.unanswered.pop_first() else { break };
            if let Some(line) = self.lines.get_mut(&key) {
                if let Some(look) = &mut line.look {
                    look.retry = None;
                }
                self.in_flight += 1;
                keys.push(key);
            }
        }
        keys
    }

    /// Something is to be known of the key: true if it must be asked about now (it is in flight then); a look that is in
    /// flight is repeated instead.
    pub fn want(&mut self, key: &Key, purpose: Purpose, waiter: Option<Waiter>) -> bool {
        let line = self.lines.entry(key.clone()).or_default();
        if let Some(look) = &mut line.look {
            let again = look.again.get_or_insert((purpose, Waiters::new()));
            if purpose != Purpose::Ordinary {
                again.0 = purpose;
            }
            again.1.extend(waiter);
            return false;
        }
        if let Some(fire) = line.fire.take() {
            self.due.remove(&(fire, key.clone()));
        }
        line.look = Some(Box::new(Flight::new(purpose, waiter.into_iter().collect())));
        self.in_flight += 1;
        true
    }

    /// A look got no answer: it stays wanted, and is asked again by [`Book::fall_due`] at `retry`, of how many no answers
    /// in a row there were.
    pub fn no_answer(&mut self, key: &Key, retry: impl Fn(u32) -> i64) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let Some(look) = line.look.as_mut().filter(|look| look.retry.is_none()) else { return };
        look.unanswered = look.unanswered.saturating_add(1);
        // Whoever answers next time may have lost what this resync knows to be the same. What is lost stays so, whoever
        // says it: forgetting that would let the next gap forget the entry.
        if look.purpose == Purpose::AfterGap {
            look.purpose = Purpose::Ordinary;
        }
        // What has no entry is not in the store: nothing would ask about it again.
        let stored = line.seen.is_some();
        if stored && self.unanswered.len() >= UNANSWERED && look.waiters.is_empty() && look.again.is_none() {
            // The store has its entry; it is read again when somebody answers.
            self.held -= usize::from(line.seen.is_some());
            self.in_flight -= 1;
            self.lines.remove(key);
            if self.anew == Anew::No {
                self.anew = Anew::Later;
            }
            return;
        }
        let at = retry(look.unanswered);
        look.retry = Some(at);
        self.unanswered.insert((at, key.clone()));
        self.in_flight -= 1;
    }

    /// Asks about everything that got no answer at once: somebody may answer now.
    pub fn retry_all(&mut self, now: i64) {
        if self.anew == Anew::Later {
            self.anew = Anew::Now;
        }
        let keys: Vec<Key> = std::mem::take(&mut self.unanswered).into_iter().map(|(_, key)| key).collect();
        for key in keys {
            if let Some(look) = self.lines.get_mut(&key).and_then(|line| line.look.as_mut()) {
                (look.retry, look.unanswered) = (Some(now), 0);
                self.unanswered.insert((now, key));
            }
        }
    }

    /// What was read is not what the store has any more: it is read from the start. What is in the book stays.
    pub fn read_anew_soon(&mut self) {
        self.anew = Anew::Now;
        if let Some(reading) = &mut self.reading {
            reading.old = true;
        }
    }

    /// The keys of which the store should have an entry, as far as they are in the book.
    pub fn recorded(&self) -> impl Iterator<Item = Key> {
        self.lines.iter().filter(|(_, line)| line.seen.is_some()).map(|(key, _)| key.clone())
    }

    pub fn is_in_flight(&self, key: &Key) -> bool {
        self.lines.get(key).is_some_and(|line| line.look.is_some())
    }

    /// A look is done and stored, and `entry` is what the store has now. Asks again at `fire`, if that is given. Gives
    /// those to tell, and whether the key must be asked about at once (it stays in flight then).
    pub fn done(&mut self, key: &Key, entry: Option<Seen>, fire: Option<i64>) -> (Waiters, bool) {
        let kept = self.kept(key, entry);
        let Some(line) = self.lines.get_mut(key) else { return (Waiters::new(), false) };
        let Some(look) = line.look.take() else { return (Waiters::new(), false) };
        self.held = self.held + usize::from(kept.is_some()) - usize::from(line.seen.is_some());
        line.seen = kept;
        let (waiters, repeated) = if let Some((purpose, waiters)) = look.again {
            line.look = Some(Box::new(Flight::new(purpose, waiters)));
            (look.waiters, true)
        } else {
            self.in_flight -= 1;
            // A key in flight is not in `due`: what it waited for was taken when it was wanted.
            line.fire = fire.filter(|_| kept.is_some());
            match line.fire {
                Some(fire) => drop(self.due.insert((fire, key.clone()))),
                None if kept.is_none() => drop(self.lines.remove(key)),
                None => {}
            }
            (look.waiters, false)
        };
        self.cut_if_full();
        (waiters, repeated)
    }

    /// What the book holds of an entry that the store has: nothing, if it lies beyond the horizon.
    fn kept(&mut self, key: &Key, entry: Option<Seen>) -> Option<Seen> {
        let kept = entry.filter(|seen| !self.beyond(seen.deadline, key));
        if let (None, Some(reading)) = (kept, &mut self.reading) {
            reading.late.insert(key.clone(), entry);
        }
        kept
    }

    fn cut_if_full(&mut self) {
        if self.answered() > HIGH || self.held > MOST {
            self.cut();
        }
    }

    fn drop_if_idle(&mut self, key: &Key) {
        if self.lines.get(key).is_some_and(|line| line.seen.is_none() && line.fire.is_none() && line.look.is_none()) {
            self.lines.remove(key);
        }
    }

    fn beyond(&self, deadline: Deadline, key: &Key) -> bool {
        self.horizon.as_ref().is_some_and(|(last, at)| (deadline, key) > (*last, at))
    }

    /// Whether to read a page, and from where: call [`Book::read`] with it. `now` is the latest of the owners' clocks.
    pub fn wants_page(&mut self, now: Deadline) -> Option<DueCursor> {
        let answered = self.unanswered.len() < UNANSWERED / 2;
        let anew = self.anew == Anew::Now || (self.anew == Anew::Later && answered);
        let from = if anew { start() } else { self.horizon.clone()? };
        let near = from.0.since(now) < AHEAD_MS;
        let full = self.answered() + PAGE > HIGH || self.held + PAGE > MOST;
        if self.reading.is_some() || (!anew && (full || (self.answered() >= LOW && !near))) {
            return None;
        }
        if anew {
            self.anew = Anew::No;
        }
        self.reading = Some(Reading { from: from.clone(), anew, old: false, late: KeyMap::default() });
        Some(from)
    }

    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Entries whose owners answer.
    fn answered(&self) -> usize {
        self.held.saturating_sub(self.unanswered.len())
    }

    /// A page was read: entries from behind the horizon. `fire` says when each is to be asked about.
    pub fn read(&mut self, page: Vec<Entry>, fire: impl Fn(&Key, Deadline) -> i64) {
        if self.reading.as_ref().is_some_and(|reading| reading.old) {
            return self.unreadable();
        }
        let Some(Reading { from, anew, late, .. }) = self.reading.take() else { return };
        if !anew && self.horizon.as_ref() != Some(&from) {
            return; // The book was cut meanwhile: the page no longer joins on.
        }
        let last = page.last().map(|entry| (entry.seen.deadline, entry.key.clone()));
        self.horizon = if page.len() < PAGE { None } else { last };
        let page = page.into_iter().filter(|entry| !late.contains_key(&entry.key)).collect::<Vec<_>>();
        let late = late.into_iter().filter_map(|(key, entry)| entry.map(|seen| Entry { key, seen }));
        for Entry { key, seen } in late.chain(page) {
            if self.beyond(seen.deadline, &key) {
                continue;
            }
            let line = self.lines.entry(key.clone()).or_default();
            // What is in the book, and what was recorded while the page was read, is newer than the page.
            if line.seen.is_some() {
                continue;
            }
            line.seen = Some(seen);
            self.held += 1;
            // A key in flight is put down when its look is done. That look may find it gone: then there must be an entry.
            if line.look.is_none() {
                let at = fire(&key, seen.deadline);
                line.fire = Some(at);
                self.due.insert((at, key));
            }
        }
        self.cut_if_full();
    }

    /// A page could not be read.
    pub fn unreadable(&mut self) {
        if self.reading.take().is_some_and(|reading| reading.anew) {
            self.anew = Anew::Now;
        }
    }

    /// Lets go of the entries that are due last.
    fn cut(&mut self) {
        let mut by_deadline: Vec<(Deadline, Key)> =
            self.lines.iter().filter_map(|(key, line)| Some((line.seen?.deadline, key.clone()))).collect();
        by_deadline.sort_unstable();
        let Some(last) = by_deadline.get(LOW.saturating_sub(1)).cloned() else { return };
        for (_, key) in by_deadline.drain(LOW..) {
            let Some(line) = self.lines.get_mut(&key) else { continue };
            line.seen = None;
            self.held -= 1;
            if let Some(fire) = line.fire.take() {
                self.due.remove(&(fire, key.clone()));
            }
            self.drop_if_idle(&key);
        }
        self.horizon = Some(last);
    }

    /// Forgets what is known of a key's entry: it was changed by somebody else.
    pub fn distrust(&mut self, key: &Key) {
        if let Some(line) = self.lines.get_mut(key)
            && line.seen.take().is_some()
        {
            self.held -= 1;
        }
    }

    /// Sets anew when each key is asked about: an owner or a clock has changed.
    pub fn rearm(&mut self, fire: impl Fn(&Key, Deadline) -> i64) {
        self.due.clear();
        for (key, line) in &mut self.lines {
            if let (Some(_), Some(seen), None) = (line.fire, line.seen, &line.look) {
                let at = fire(key, seen.deadline);
                line.fire = Some(at);
                self.due.insert((at, key.clone()));
            } else {
                line.fire = None;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_wrap, clippy::unnecessary_wraps, reason = "small numbers; as the book takes them")]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::from(format!("k{number:06}").as_str())
    }
    fn seen(deadline: i64) -> Option<Seen> {
        Some(Seen { deadline: Millis(deadline), absent: false })
    }
    fn entry(number: usize) -> Entry {
        Entry { key: key(number), seen: Seen { deadline: Millis(number as i64), absent: false } }
    }
    fn fire(_: &Key, deadline: Deadline) -> i64 {
        deadline.0 * 1_000 + 1_000
    }
    fn book() -> Book {
        let mut book = Book::unread();
        assert!(book.wants_page(Millis(0)).is_some());
        book.read(Vec::new(), fire);
        book
    }
    /// Looks at the key and finds an entry.
    fn put(book: &mut Book, number: usize, deadline: i64) {
        assert!(book.want(&key(number), Purpose::Ordinary, None));
        book.done(&key(number), seen(deadline), Some(deadline * 1_000 + 1_000));
    }

    #[test]
    fn a_key_falls_due_once_and_is_in_flight_until_done() {
        let mut book = book();
        put(&mut book, 1, 10);
        assert_eq!(book.next(), Some(11_000));
        assert!(book.fall_due(10_999, 9).is_empty());
        assert_eq!(book.fall_due(11_000, 9), [key(1)]);
        assert!(book.fall_due(20_000, 9).is_empty());
        assert_eq!((book.in_flight(), book.seen(&key(1))), (1, seen(10)));
        assert_eq!(book.done(&key(1), None, None), (Waiters::new(), false));
        assert_eq!((book.in_flight(), book.held(), book.lines.len()), (0, 0, 0));
    }

    #[test]
    fn a_hint_that_arrives_meanwhile_repeats_the_look_for_whoever_wanted_it() {
        let mut book = book();
        assert!(book.want(&key(1), Purpose::Ordinary, None));
        assert!(!book.want(&key(1), Purpose::Ordinary, None));
        assert!(!book.want(&key(1), Purpose::AfterLoss, Some(7)));
        assert_eq!(book.purpose(&key(1)), Purpose::Ordinary);
        assert_eq!(book.done(&key(1), seen(5), Some(6_000)), (Waiters::new(), true));
        assert_eq!((book.purpose(&key(1)), book.in_flight(), book.next()), (Purpose::AfterLoss, 1, None));
        assert_eq!(book.done(&key(1), seen(5), Some(6_000)), (Waiters::from_elem(7, 1), false));
        assert_eq!(book.next(), Some(6_000));
    }

    #[test]
    fn a_key_without_answer_is_asked_again_and_does_not_count_as_in_flight_meanwhile() {
        let mut book = book();
        put(&mut book, 1, 10);
        book.fall_due(11_000, 9);
        book.no_answer(&key(1), |times| 11_000 + i64::from(times) * 5_000);
        assert_eq!((book.in_flight(), book.next()), (0, Some(16_000)));
        assert!(!book.want(&key(1), Purpose::Ordinary, None));
        assert_eq!(book.fall_due(16_000, 9), [key(1)]);
        book.lines.get_mut(&key(1)).unwrap().look.as_mut().unwrap().purpose = Purpose::AfterGap;
        book.no_answer(&key(1), |times| 16_000 + i64::from(times) * 5_000);
        assert_eq!(book.next(), Some(26_000));
        book.retry_all(17_000);
        assert_eq!(book.purpose(&key(1)), Purpose::Ordinary);
        assert_eq!((book.fall_due(17_000, 9), book.in_flight()), (vec![key(1)], 1));
    }

    #[test]
    fn those_that_nobody_answers_for_have_half_of_the_room_at_most_and_what_is_due_goes_first() {
        let mut book = book();
        for number in 100..120 {
            put(&mut book, number, 10);
        }
        assert_eq!(book.fall_due(11_000, 20).len(), 20);
        for number in 100..120 {
            book.no_answer(&key(number), |_| 12_000);
        }
        for number in 0..5 {
            put(&mut book, number, 12);
        }
        let numbers = |keys: Vec<Key>| {
            let number = |key: &Key| key.as_str().unwrap()[1..].parse::<usize>().unwrap();
            keys.iter().map(number).partition::<Vec<_>, _>(|number| *number >= 100)
        };
        assert_eq!(book.fall_due(11_999, 9), [""; 0].map(Key::from));
        let (waiting, due) = numbers(book.fall_due(12_999, 4));
        assert_eq!((waiting.len(), due.len()), (3, 0));
        let (waiting, due) = numbers(book.fall_due(13_000, 2));
        assert_eq!((waiting.len(), due), (0, vec![0, 1]));
        let (waiting, due) = numbers(book.fall_due(13_000, 8));
        assert_eq!((waiting.len(), due), (5, vec![2, 3, 4]));
    }

    #[test]
    fn whoever_waits_first_is_named() {
        let mut book = book();
        assert_eq!(book.waiter(&key(1)), None);
        assert!(book.want(&key(1), Purpose::AfterGap, Some(7)));
        assert!(!book.want(&key(1), Purpose::Ordinary, Some(8)));
        assert_eq!(book.waiter(&key(1)), Some(7));
    }

    #[test]
    fn what_nobody_answers_for_is_let_go_of_only_if_the_store_has_it_and_is_read_again() {
        let mut book = book();
        for number in 0..=UNANSWERED {
            book.lines.insert(key(number), Line { seen: seen(5), ..Line::default() });
            book.held += 1;
            assert!(book.want(&key(number), Purpose::Ordinary, None));
        }
        assert!(book.want(&key(900_000), Purpose::Ordinary, None));
        for number in (0..=UNANSWERED).chain([900_000]) {
            book.no_answer(&key(number), |_| 10_000);
        }
        assert!(!book.lines.contains_key(&key(UNANSWERED)) && !book.complete());
        assert!(book.lines.contains_key(&key(900_000)));
        loop {
            let keys = book.fall_due(10_000, usize::MAX / 2);
            if keys.is_empty() {
                break;
            }
            for key in keys {
                book.done(&key, None, None);
            }
        }
        assert_eq!(book.wants_page(Millis(0)), Some((Millis(i64::MIN), Key::from(""))));
    }

    #[test]
    fn the_book_is_cut_to_what_is_due_soonest_and_read_on() {
        let mut book = book();
        for number in 0..=HIGH {
            put(&mut book, number, number as i64);
        }
        assert_eq!(book.held(), LOW);
        assert_eq!((book.seen(&key(LOW - 1)), book.seen(&key(LOW))), (seen(LOW as i64 - 1), None));
        assert!(book.wants_page(Millis(0)).is_none());
        let now = LOW as i64 - 1_000;
        let from = book.wants_page(Millis(now)).unwrap();
        assert_eq!(from, (Millis(LOW as i64 - 1), key(LOW - 1)));
        let late = LOW + PAGE / 2;
        put(&mut book, 900_000, late as i64);
        put(&mut book, 900_001, i64::MAX / 1_000 - 2);
        book.read((LOW..LOW + PAGE).map(entry).collect(), fire);
        assert_eq!(book.held(), LOW + PAGE + 1);
        assert_eq!((book.seen(&key(900_000)), book.seen(&key(900_001))), (seen(late as i64), None));
    }

    #[test]
    fn what_is_over_before_its_page_arrives_does_not_come_back_with_it() {
        let mut book = Book::unread();
        book.wants_page(Millis(0)).unwrap();
        for (number, after) in [(1, None), (2, seen(70)), (3, seen(80))] {
            assert!(book.want(&key(number), Purpose::Ordinary, None));
            book.done(&key(number), after, Some(1));
        }
        assert!(book.want(&key(3), Purpose::Ordinary, None));
        book.done(&key(3), None, None);
        // The store said so before it was asked for that.
        book.read((0..=4).map(entry).collect(), fire);
        let held: Vec<_> = (0..=4).map(|number| book.seen(&key(number))).collect();
        assert_eq!(held, [seen(0), None, seen(70), None, seen(4)]);
        assert_eq!(book.held(), 3);
    }

    #[test]
    fn a_key_that_is_looked_at_while_its_page_arrives_has_the_entry_of_the_page() {
        let mut book = Book::unread();
        book.wants_page(Millis(0)).unwrap();
        for number in [1, 2] {
            assert!(book.want(&key(number), Purpose::Ordinary, None));
        }
        book.read(vec![entry(1), entry(2)], fire);
        assert_eq!((book.seen(&key(1)), book.next(), book.held(), book.complete()), (seen(1), None, 2, true));
        book.done(&key(1), None, None);
        book.done(&key(2), seen(2), Some(3_000));
        assert_eq!((book.seen(&key(1)), book.next(), book.held()), (None, Some(3_000), 1));
    }

    #[test]
    fn until_it_is_read_anew_the_book_keeps_what_it_has_and_what_it_gets() {
        let mut book = book();
        put(&mut book, 1, 10);
        book.read_anew_soon();
        assert_eq!(book.wants_page(Millis(0)), Some(start()));
        put(&mut book, 2, 20);
        book.unreadable();
        put(&mut book, 3, 30);
        assert!(!book.complete());
        assert_eq!(book.wants_page(Millis(0)), Some(start()));
        // Once more, while it is read: what comes now was asked for too early.
        book.read_anew_soon();
        book.read(vec![entry(4)], fire);
        assert_eq!((book.seen(&key(4)), book.complete()), (None, false));
        assert_eq!(book.wants_page(Millis(0)), Some(start()));
        book.read(vec![entry(1), entry(5)], fire);
        let held: Vec<_> = (1..=5).map(|number| book.seen(&key(number))).collect();
        assert_eq!(held, [seen(10), seen(20), seen(30), None, seen(5)]);
        assert!(book.complete() && book.wants_page(Millis(0)).is_none());
    }

    #[test]
    fn a_page_that_no_longer_joins_on_is_passed_over() {
        let mut book = Book::unread();
        book.wants_page(Millis(0)).unwrap();
        book.read((0..PAGE).map(entry).collect(), fire);
        let from = book.wants_page(Millis(PAGE as i64)).unwrap();
        for number in 0..=HIGH {
            put(&mut book, 500_000 + number, 1);
        }
        assert!(book.horizon.as_ref().unwrap() < &from);
        let held = book.held();
        book.read((PAGE..2 * PAGE).map(entry).collect(), fire);
        assert_eq!(book.held(), held);
    }

    #[test]
    fn a_new_clock_moves_every_deadline() {
        let mut book = book();
        put(&mut book, 1, 10);
        book.rearm(|_, deadline| deadline.0 * 1_000 - 4_000);
        assert_eq!(book.next(), Some(6_000));
    }
}
