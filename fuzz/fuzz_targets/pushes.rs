//! What a node sends over the connection for pushes and looks: frame by frame, whole and in pieces, by the short ways and by
//! the parser alone, it is the same.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use redis::{Value, ValueCodec};
use redis_expiry_operator::fuzzing::{Frame, Frames, identity, push, reply, role, time};
use tokio_util::codec::Decoder as _;

const PREFIX: &[u8] = b"__keyspace@0__:";

fuzz_target!(|input: &[u8]| {
    let (frames, whole) = read(input, input.len().max(1));
    for frame in &frames {
        if let Frame::Reply(value) = frame {
            understand(value);
        }
    }
    let frames = said(frames);
    let (again, all) = parsed(input);
    assert_eq!((said(again), all), (frames.clone(), whole));
    for piece in [1, 5] {
        let (again, all) = read(input, piece);
        let again = said(again);
        // A byte that begins no frame is passed over by the parser if it is the last that has arrived (redis 1.8): what follows it
        // is another reading then.
        if whole {
            assert_eq!((again, all), (frames.clone(), true));
        } else {
            assert!(again.starts_with(&frames), "{again:?} {frames:?}");
        }
    }
});

/// Compared by what they say: a number that is none equals nothing.
fn said(frames: Vec<Frame>) -> Vec<String> {
    frames.iter().map(|frame| format!("{frame:?}")).collect()
}

/// The frames, as they come out when the bytes arrive in pieces of a size; `false`: then something that is none.
fn read(input: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut received = Frames::with_capacity(64);
    let mut frames = Vec::new();
    for piece in input.chunks(piece) {
        received.inbox.extend_from_slice(piece);
        loop {
            match received.next(PREFIX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// The same by the parser alone.
fn parsed(input: &[u8]) -> (Vec<Frame>, bool) {
    let (mut codec, mut inbox) = (ValueCodec::default(), BytesMut::from(input));
    let mut frames = Vec::new();
    while !inbox.is_empty() {
        match codec.decode(&mut inbox) {
            Ok(Some(Value::Push { kind, data })) => frames.push(Frame::Push(push(&kind, data, PREFIX))),
            Ok(Some(value)) => frames.push(Frame::Reply(value)),
            Ok(None) => break,
            Err(_) => return (frames, false),
        }
    }
    (frames, true)
}

/// All that a reply may be taken for.
fn understand(value: &Value) {
    for relative in [false, true] {
        reply(value, relative);
    }
    // Whatever is added to it or taken from it is a number.
    assert!(time(value).is_none_or(|time| (0..i64::MAX / 2).contains(&time)));
    role(value);
    for clustered in [false, true] {
        identity(value, clustered);
    }
}
