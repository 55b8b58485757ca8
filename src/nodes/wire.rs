//! The wire format: what we send, and what the frames mean that come back. Pure.

use std::sync::LazyLock;

use redis::{PushKind, Value};

use super::Sort;
use crate::model::{Deadline, Key, Millis, SLOTS, Slot, info_field, slot_of};

/// Appends a command as an array of bulk strings.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    length(out, b'*', words.len());
    for word in words {
        length(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Written for every key that is asked about; `write!` takes ten times as long.
fn length(out: &mut Vec<u8>, sort: u8, mut number: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b"0123456789"[number % 10];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(sort);
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(b"\r\n");
}

/// The latest time that a node may show, in microseconds: the year 74,000 or so.
const LATEST: i64 = i64::MAX / 4;

/// A frame that nobody asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Push {
    /// Something happened to a key that `pattern` covers.
    Keyspace { pattern: Vec<u8>, key: Key, sort: Sort },
    /// Client tracking: something happened to these keys, whatever the database.
    Changed(Vec<Key>),
    /// Client tracking: everything may be gone.
    Flushed,
    /// The answer to a subscription.
    Subscribed,
    /// A shard channel was dropped: its slot leaves the node.
    SlotLeft,
    /// Of no interest.
    Other,
}

/// Reads a push. `prefix` is what the channels of the keyspace begin with: `__keyspace@0__:`.
pub fn push(kind: &PushKind, data: Vec<Value>, prefix: &[u8]) -> Push {
    match kind {
        PushKind::PMessage => keyspace(data, prefix).unwrap_or(Push::Other),
        PushKind::PSubscribe | PushKind::SSubscribe => Push::Subscribed,
        PushKind::SUnsubscribe => Push::SlotLeft,
        PushKind::Invalidate => match data.into_iter().next() {
            Some(Value::Array(keys)) => Push::Changed(keys.into_iter().filter_map(bulk).collect()),
            _ => Push::Flushed,
        },
        _ => Push::Other,
    }
}

fn bulk(value: Value) -> Option<Key> {
    match value {
        Value::BulkString(text) => Some(Key::from(text)),
        _ => None,
    }
}

fn keyspace(data: Vec<Value>, prefix: &[u8]) -> Option<Push> {
    let mut words = data.into_iter();
    let (Value::BulkString(pattern), Value::BulkString(channel), Value::BulkString(event)) =
        (words.next()?, words.next()?, words.next()?)
    else {
        return None;
    };
    keyspace_push(&pattern, &channel, &event, prefix)
}

fn keyspace_push(pattern: &[u8], channel: &[u8], event: &[u8], prefix: &[u8]) -> Option<Push> {
    let key = Key::from(channel.strip_prefix(prefix)?);
    let pattern = pattern.strip_prefix(prefix)?.to_vec();
    Some(Push::Keyspace { pattern, key, sort: sort(event)? })
}

/// A whole frame that is a push of the keyspace, and how many bytes it has; `None` says nothing.
pub fn whole_push(bytes: &[u8], prefix: &[u8]) -> Option<(Push, usize)> {
    let rest = bytes.strip_prefix(b">4\r\n$8\r\npmessage\r\n")?;
    let (pattern, rest) = bulk_string(rest)?;
    let (channel, rest) = bulk_string(rest)?;
    let (event, rest) = bulk_string(rest)?;
    let push = keyspace_push(pattern, channel, event, prefix).unwrap_or(Push::Other);
    Some((push, bytes.len() - rest.len()))
}

fn bulk_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = line(bytes.strip_prefix(b"$")?)?;
    let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((text, rest.strip_prefix(b"\r\n")?))
}

/// What an event says of its key; `None` for one that is about no key that is there (`keymiss` would make each of our
/// own looks at a gone key start another).
fn sort(event: &[u8]) -> Option<Sort> {
    match event {
        b"expired" => Some(Sort::Expired),
        b"del" | b"rename_from" | b"move_from" => Some(Sort::Deleted),
        b"evicted" => Some(Sort::Evicted),
        b"keymiss" => None,
        _ => Some(Sort::Born),
    }
}

/// The command that makes a node tell what happens to keys that begin with `prefix`.
pub fn track(out: &mut Vec<u8>, prefix: &[u8]) {
    command(out, &[b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", prefix]);
}

/// A whole frame that is a number (`:-2\r\n`), and how many bytes it has; `None` says nothing.
pub fn number(bytes: &[u8]) -> Option<(i64, usize)> {
    let (number, rest) = line(bytes.strip_prefix(b":")?)?;
    Some((number, bytes.len() - rest.len()))
}

/// A number, and what comes after its line.
fn line(bytes: &[u8]) -> Option<(i64, &[u8])> {
    // The longest number has 20 bytes.
    let end = bytes.iter().take(21).position(|byte| *byte == b'\r')?;
    let (digits, rest) = bytes.split_at(end);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest.strip_prefix(b"\r\n")?))
}

/// What a node says of a key, before anybody asks whether it may say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Alive(Option<Deadline>),
    /// Alive for this many more milliseconds (`PTTL`): the deadline follows from TIME.
    AliveFor(i64),
    Gone,
    Moved,
    /// Where to ask; without a host: where we asked, at that port.
    Ask(Option<String>, u16),
    /// No answer, with Redis's word for why.
    None(String),
}

/// Reads the answer to `PEXPIRETIME` (`relative: false`) or `PTTL`.
pub fn reply(value: &Value, relative: bool) -> Reply {
    match value {
        Value::Int(-2) => Reply::Gone,
        Value::Int(-1) => Reply::Alive(None),
        Value::Int(milliseconds) if relative => Reply::AliveFor(*milliseconds),
        Value::Int(milliseconds) => Reply::Alive(Some(Millis(*milliseconds))),
        Value::ServerError(error) => match error.code() {
            "MOVED" => Reply::Moved,
            "ASK" => error
                .details()
                .and_then(|details| details.split_whitespace().nth(1)?.rsplit_once(':'))
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .map_or(Reply::None("ASK".into()), |(host, port)| {
                    Reply::Ask((!matches!(host, "" | "?")).then(|| host.to_owned()), port)
                }),
            code => Reply::None(code.to_owned()),
        },
        _ => Reply::None("unexpected answer".into()),
    }
}

/// Reads `TIME`: microseconds since the epoch by the node's clock. What no clock shows is no answer, so that sums and differences
/// of what it gives are numbers.
pub fn time(value: &Value) -> Option<i64> {
    let number = |value: &Value| match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok(),
        Value::Int(number) => Some(*number),
        _ => None,
    };
    match value {
        Value::Array(parts) => match parts.as_slice() {
            [seconds, micros] => number(seconds)?
                .checked_mul(1_000_000)?
                .checked_add(number(micros)?)
                .filter(|micros| (0..=LATEST).contains(micros)),
            _ => None,
        },
        _ => None,
    }
}

/// Reads `ROLE`: whether it is a master; `None`: it does not say.
pub fn role(value: &Value) -> Option<bool> {
    let Value::Array(parts) = value else { return None };
    match parts.first()? {
        Value::BulkString(role) => Some(role == b"master"),
        Value::SimpleString(role) => Some(role == "master"),
        _ => None,
    }
}

/// Who answers: reads `CLUSTER MYID`, or outside of a cluster `INFO server`; `None`: it does not say.
pub fn identity(value: &Value, clustered: bool) -> Option<&[u8]> {
    let text = match value {
        Value::BulkString(text) => text.as_slice(),
        Value::VerbatimString { text, .. } => text.as_bytes(),
        _ => return None,
    };
    if clustered {
        return Some(text);
    }
    info_field(std::str::from_utf8(text).ok()?, "run_id").map(str::as_bytes)
}

/// The shard channel that we subscribe to for a slot, for the one purpose of losing it when the slot moves.
pub fn slot_channel(slot: Slot) -> String {
    format!("rx:{{{}}}", TAGS[usize::from(slot.0)])
}

/// For each slot a number whose decimal digits hash to it.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![u32::MAX; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0.. {
        let tag = &mut tags[usize::from(slot_of(number.to_string().as_bytes()).0)];
        if *tag == u32::MAX {
            *tag = number;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&mut out, &[b"PEXPIRETIME", b"a\r\n\xff"]);
        assert_eq!(out, b"*2\r\n$11\r\nPEXPIRETIME\r\n$4\r\na\r\n\xff\r\n");
    }

    #[test]
    fn a_number_is_read_only_when_it_is_whole() {
        assert_eq!(number(b":-2\r\n:5"), Some((-2, 5)));
        assert_eq!(number(b":1795328020123\r\n"), Some((1_795_328_020_123, 16)));
        for part in [&b""[..], b":", b":17", b":17\r", b"$5\r\nhello\r\n", b":\r\n", b":1x\r\n", b">3\r\n"] {
            assert_eq!(number(part), None);
        }
    }

    #[test]
    fn each_slot_has_a_channel_that_lies_in_it() {
        for slot in [0, 1, 8191, 16383] {
            assert_eq!(slot_of(slot_channel(Slot(slot)).as_bytes()), Slot(slot));
        }
    }

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    #[test]
    fn a_keyspace_push_gives_the_key_as_bytes_and_what_became_of_it() {
        let read = |event: &[u8]| {
            push(
                &PushKind::PMessage,
                vec![bulk(b"__keyspace@0__:a*"), bulk(b"__keyspace@0__:a:\xff:b"), bulk(event)],
                b"__keyspace@0__:",
            )
        };
        for (event, sort) in [
            (&b"expired"[..], Sort::Expired),
            (b"del", Sort::Deleted),
            (b"rename_from", Sort::Deleted),
            (b"evicted", Sort::Evicted),
            (b"set", Sort::Born),
            (b"restore", Sort::Born),
        ] {
            assert_eq!(read(event), Push::Keyspace { pattern: b"a*".to_vec(), key: Key::from(&b"a:\xff:b"[..]), sort });
        }
        assert_eq!(read(b"keymiss"), Push::Other);
    }

    #[test]
    fn client_tracking_names_the_keys_or_none_for_all() {
        let read = |frame: &[u8]| match redis::parse_redis_value(frame).unwrap() {
            Value::Push { kind, data } => push(&kind, data, b"__keyspace@0__:"),
            other => panic!("{other:?}"),
        };
        let keys = vec![Key::from("a"), Key::from(&b"\xff"[..])];
        assert_eq!(read(b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\n\xff\r\n"), Push::Changed(keys));
        assert_eq!(read(b">2\r\n$10\r\ninvalidate\r\n_\r\n"), Push::Flushed);
    }

    #[test]
    fn a_push_of_the_keyspace_is_read_only_when_it_is_whole() {
        let prefix = b"__keyspace@0__:";
        let frame =
            b">4\r\n$8\r\npmessage\r\n$17\r\n__keyspace@0__:a*\r\n$19\r\n__keyspace@0__:a\r\n\xff\r\n$3\r\ndel\r\n";
        let push = Push::Keyspace { pattern: b"a*".to_vec(), key: Key::from(&b"a\r\n\xff"[..]), sort: Sort::Deleted };
        let followed = [&frame[..], b":5\r\n"].concat();
        assert_eq!(whole_push(&followed, prefix), Some((push, frame.len())));
        for end in 0..frame.len() {
            assert_eq!(whole_push(&frame[..end], prefix), None);
        }
        assert_eq!(whole_push(frame, b"__keyspace@1__:"), Some((Push::Other, frame.len())));
        assert_eq!(whole_push(b">3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n", prefix), None);
        assert_eq!(whole_push(b">4\r\n$8\r\npmessage\r\n$-1\r\n$1\r\na\r\n$1\r\na\r\n", prefix), None);
    }

    #[test]
    fn a_time_that_no_clock_shows_is_none() {
        let read =
            |seconds: &str, micros: &str| time(&Value::Array([seconds, micros].map(|it| bulk(it.as_bytes())).into()));
        assert_eq!(read("1795328020", "123456"), Some(1_795_328_020_123_456));
        for (seconds, micros) in [
            ("9223372036854775807", "0"),
            ("9223372036854", "9223372036854775807"),
            ("9223372036854", "0"),
            ("-1", "0"),
        ] {
            assert_eq!(read(seconds, micros), None, "{seconds} {micros}");
        }
    }

    #[test]
    fn an_answer_is_told_from_a_redirection_and_from_none() {
        let error = |text: &str| redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        assert_eq!(reply(&Value::Int(-2), false), Reply::Gone);
        assert_eq!(reply(&Value::Int(-1), false), Reply::Alive(None));
        assert_eq!(reply(&Value::Int(77), false), Reply::Alive(Some(Millis(77))));
        assert_eq!(reply(&Value::Int(77), true), Reply::AliveFor(77));
        assert_eq!(reply(&error("MOVED 3999 127.0.0.1:6381"), false), Reply::Moved);
        assert_eq!(reply(&error("ASK 3999 127.0.0.1:6381"), false), Reply::Ask(Some("127.0.0.1".into()), 6381));
        assert_eq!(reply(&error("ASK 3999 ::1:6381"), false), Reply::Ask(Some("::1".into()), 6381));
        assert_eq!(reply(&error("ASK 3999 :6381"), false), Reply::Ask(None, 6381));
        for code in ["CLUSTERDOWN", "LOADING", "BUSY", "TRYAGAIN", "READONLY", "NOPERM"] {
            assert_eq!(reply(&error(&format!("{code} for a reason")), false), Reply::None(code.into()));
        }
    }
}
