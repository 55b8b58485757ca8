//! What a store reads back: records, ids, node states and answers of scripts in Redis, batches in a file. What it has written
//! reads as it was, and what it reads is written as it reads.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redis::Value;
use redis_expiry_operator::{
    fuzzing::{
        Done, PLACE, appended, done, head, letter, node_field, number, pack, pending, read_batch, read_known,
        read_node, sum, unpack, write_batch, write_node,
    },
    model::{Deadline, Event, EventId, Evidence, Key, ListenerId, Millis, SLOTS},
    store::{Counts, DeadLetter, Pending},
};

fuzz_target!(|input: &[u8]| {
    stored(input);
    written(input);
    if let Ok(value) = redis::parse_redis_value(input) {
        number(&value);
        if let Value::Array(answer) = &value {
            answered(answer);
        }
    }
});

/// The input as what lies in the store.
fn stored(input: &[u8]) {
    if let Some(Pending { event, .. }) = pending("evt_a".into(), input) {
        assert_same(&event);
    }
    if let Some(DeadLetter { event, .. }) = letter("evt_a".into(), input) {
        assert_same(&event);
    }
    if let Some(id) = unpack(input) {
        assert_eq!(unpack(&pack(&id)), Some(id.clone()));
        assert!(input.len() != 20 || pack(&id) == input);
    }
    if let Some(entries) = read_batch(input) {
        assert_eq!(write_batch(entries.into_iter()), input);
    }
    if let Some(state) = read_node("node:a", input) {
        assert!(state.slots.ranges().all(|(first, last)| first <= last && last < SLOTS));
        assert_eq!(state.slots.minus(&state.slots).len(), 0);
        assert_eq!(read_node(&node_field(&state.node), &write_node(&state)), Some(state));
    }
}

/// The input as what is to be stored.
fn written(input: &[u8]) {
    let Some((numbers, key)) = input.split_first_chunk::<16>() else { return };
    let [deadline, settled_at] = [0, 8].map(|at| i64::from_le_bytes(numbers[at..at + 8].try_into().unwrap()));
    let key = Key::from(key);
    let event = Event {
        id: EventId::of(&ListenerId::new("shop", "orders"), 0, &key, Millis(deadline)),
        key: key.clone(),
        deadline: Millis(deadline),
        evidence: if deadline % 2 == 0 { Evidence::Witnessed } else { Evidence::Inferred },
        settled_at: Millis(settled_at),
    };
    assert_same(&event);
    assert_eq!(pack(&event.id).len(), 20);
    assert_eq!(unpack(&pack(&event.id)), Some(event.id));
    let batch: Vec<(&[u8], Deadline)> = key.as_bytes().chunks(5).map(|key| (key, Millis(deadline))).collect();
    assert_eq!(read_batch(&write_batch(batch.iter().copied())), Some(batch));
    if let Some(text) = key.as_str() {
        assert_eq!(unpack(&pack(&text.into())), Some(text.into()));
    }
}

/// As it is appended, and as a dead letter has it.
fn assert_same(event: &Event) {
    let record = appended(event, &[b' '; PLACE]);
    let again = Pending { event: event.clone(), attempts: 0, first_attempt: None, not_before: Millis(0) };
    assert_eq!(pending(event.id.clone(), &record), Some(again));
    let head = format!("0 - 0 {} ", event.settled_at.0).len() + PLACE;
    let (reason, settled_at) = ("answered 422", event.settled_at.0);
    let mut record = [format!("3 70 {settled_at} {} {reason}", reason.len()).as_bytes(), &record[head..]].concat();
    let parked = DeadLetter { event: event.clone(), attempts: 3, reason: reason.to_owned(), at: Millis(70) };
    assert_eq!(letter(event.id.clone(), &record).as_ref(), Some(&parked));
    // A key may end anywhere: what is torn before it is none.
    record.truncate(record.len() - event.key.as_bytes().len() - 1);
    assert_eq!(letter(event.id.clone(), &record), None);
}

/// The input as what a script says.
fn answered(answer: &[Value]) {
    // Lua counts by doubles.
    let exact = |number: u64| number <= 1 << 53;
    assert!(head(answer).is_none_or(|(seq, epoch)| exact(seq) && exact(epoch.0)));
    match done(answer) {
        Ok(Done::Yes(outcome) | Done::Fenced(outcome)) => {
            assert!(outcome.answers(3).len() <= 3);
            assert!(exact(outcome.seq) && exact(outcome.epoch.0));
        }
        Ok(Done::Ahead(seq)) => assert!(exact(seq)),
        Ok(Done::Lost) | Err(_) => {}
    }
    let _ = read_known(answer, Millis(0));
    sum(sum(Counts::default(), answer), answer);
}
