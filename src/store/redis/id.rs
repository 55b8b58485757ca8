//! Ids of events as Redis keeps them: 20 bytes instead of 36, in the same order. Pure.

use crate::model::EventId;

const HEAD: &str = "evt_";
const DIGITS: usize = 32;
const PACKED: usize = 20;

/// The five bits of a digit of base32, in the order of the digits as text: so packed ids are ordered as ids are.
fn value(digit: u8) -> Option<u64> {
    match digit {
        b'2'..=b'7' => Some(u64::from(digit - b'2')),
        b'a'..=b'z' => Some(u64::from(digit - b'a') + 6),
        _ => None,
    }
}

fn digit(value: u64) -> char {
    let value = u8::try_from(value & 31).unwrap_or(0);
    char::from(if value < 6 { b'2' + value } else { b'a' + value - 6 })
}

/// Packs an id. One that [`EventId::of`] did not make (somebody typed it) stays as it is, longer than any packed one.
pub fn pack(id: &EventId) -> Vec<u8> {
    canonical(id.as_str()).unwrap_or_else(|| [&[0xFF; PACKED + 1], id.as_str().as_bytes()].concat())
}

fn canonical(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(HEAD)?.as_bytes();
    if digits.len() != DIGITS {
        return None;
    }
    let mut packed = Vec::with_capacity(PACKED);
    for eight in digits.chunks(8) {
        let forty = eight.iter().try_fold(0, |bits, digit| Some(bits << 5 | value(*digit)?))?;
        packed.extend(&forty.to_be_bytes()[3..]);
    }
    Some(packed)
}

/// What [`pack`] had packed.
pub fn unpack(packed: &[u8]) -> Option<EventId> {
    if packed.len() != PACKED {
        let text = packed.strip_prefix(&[0xFF; PACKED + 1])?;
        return std::str::from_utf8(text).ok().map(EventId::from);
    }
    let mut text = String::with_capacity(HEAD.len() + DIGITS);
    text.push_str(HEAD);
    for five in packed.chunks(5) {
        let forty = five.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|place| digit(forty >> (5 * place))));
    }
    Some(EventId::from(text.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ListenerId, Millis};

    fn id(number: i64) -> EventId {
        EventId::of(&ListenerId::new("shop", "orders"), 0, &"k".into(), Millis(number))
    }

    proptest! {
        #[test]
        fn packed_ids_are_short_come_back_and_keep_their_order(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (id(a), id(b));
            prop_assert_eq!(pack(&a).len(), 20);
            prop_assert_eq!(unpack(&pack(&a)), Some(a.clone()));
            prop_assert_eq!(pack(&a).cmp(&pack(&b)), a.cmp(&b));
        }

        #[test]
        fn whatever_somebody_types_comes_back_and_is_no_other_id(text in ".{0,40}") {
            let typed = EventId::from(text.as_str());
            prop_assert_eq!(unpack(&pack(&typed)), Some(typed));
        }
    }

    #[test]
    fn an_id_with_a_digit_that_is_none_is_not_packed() {
        for wrong in ["evt_", "evt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "evt_1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "evt"] {
            assert!(pack(&EventId::from(wrong)).len() > 20, "{wrong}");
        }
    }
}
