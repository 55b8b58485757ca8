//! Events as they lie in the outbox and among the dead letters. Pure; write.lua reads and writes the same.
//!
//! A record of the outbox is `attempts first_attempt not_before settled_at `, the place (16 bytes), the event; a dead
//! letter is `attempts at settled_at length `, the reason of that length, the event. An event is `deadline evidence `
//! and the key, which may be any bytes. The id is the name under which it lies.

use crate::{
    model::{Event, EventId, Evidence, Key, Millis},
    store::{DeadLetter, Pending},
};

/// Where an event stands among those that were settled in the same millisecond: 8 bytes of when it was appended, 8 of
/// when it was parked if it came back by a replay.
pub const PLACE: usize = 16;

/// A record without an attempt, as it is appended.
pub fn appended(event: &Event, place: &[u8; PLACE]) -> Vec<u8> {
    let mut record = format!("0 - 0 {} ", event.settled_at.0).into_bytes();
    record.extend(place);
    let evidence = match event.evidence {
        Evidence::Witnessed => 'W',
        Evidence::Inferred => 'I',
    };
    record.extend(format!("{} {evidence} ", event.deadline.0).as_bytes());
    record.extend(event.key.as_bytes());
    record
}

/// The next word, and what follows the space behind it.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b' ')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (text, rest) = word(bytes)?;
    Some((text.parse().ok()?, rest))
}

fn event(id: EventId, settled_at: i64, bytes: &[u8]) -> Option<Event> {
    let (deadline, rest) = number(bytes)?;
    let (evidence, key) = word(rest)?;
    let evidence = match evidence {
        "W" => Evidence::Witnessed,
        "I" => Evidence::Inferred,
        _ => return None,
    };
    Some(Event { id, key: Key::from(key), deadline: Millis(deadline), evidence, settled_at: Millis(settled_at) })
}

/// Reads a record of the outbox.
pub fn pending(id: EventId, record: &[u8]) -> Option<Pending> {
    let (attempts, rest) = number(record)?;
    let (first, rest) = word(rest)?;
    let first_attempt = if first == "-" { None } else { Some(Millis(first.parse().ok()?)) };
    let (not_before, rest) = number(rest)?;
    let (settled_at, rest) = number(rest)?;
    let event = event(id, settled_at, rest.get(PLACE..)?)?;
    Some(Pending { event, attempts, first_attempt, not_before: Millis(not_before) })
}

/// Reads a dead letter.
pub fn letter(id: EventId, record: &[u8]) -> Option<DeadLetter> {
    let (attempts, rest) = number(record)?;
    let (at, rest) = number(rest)?;
    let (settled_at, rest) = number(rest)?;
    let (length, rest): (usize, _) = number(rest)?;
    let (reason, rest) = rest.split_at_checked(length)?;
    let event = event(id, settled_at, rest)?;
    Some(DeadLetter { event, attempts, reason: String::from_utf8_lossy(reason).into_owned(), at: Millis(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: "evt_a".into(),
            key: Key::from(&b" \xff \0 "[..]),
            deadline: Millis(-7),
            evidence: Evidence::Inferred,
            settled_at: Millis(9),
        }
    }

    #[test]
    fn an_event_reads_as_it_was_appended() {
        let record = appended(&event(), &[b' '; PLACE]);
        let expected = Pending { event: event(), attempts: 0, first_attempt: None, not_before: Millis(0) };
        assert_eq!(pending("evt_a".into(), &record), Some(expected));
    }

    #[test]
    fn a_letter_keeps_a_reason_with_spaces_and_an_empty_one() {
        for reason in ["answered 422 three times", "", "\u{e9}"] {
            let mut record = format!("3 70 9 {} {reason}", reason.len()).into_bytes();
            record.extend(&appended(&event(), &[0; PLACE])[8 + PLACE..]);
            let expected = DeadLetter { event: event(), attempts: 3, reason: reason.into(), at: Millis(70) };
            assert_eq!(letter("evt_a".into(), &record), Some(expected));
        }
    }

    #[test]
    fn a_torn_record_is_none() {
        let record = appended(&event(), &[0; PLACE]);
        assert_eq!(pending("evt_a".into(), &record[..8 + PLACE + 3]), None);
        assert_eq!(pending("evt_a".into(), b"0 - 0 9 short"), None);
        assert_eq!(letter("evt_a".into(), b"3 70 9 99 short"), None);
    }
}
