//! Changes and outcomes as arguments of write.lua. Pure.

use super::{
    id::pack,
    jobs::{Args, text},
    places::{deadline_score, memory_score},
    record::{PLACE, appended},
};
use crate::{
    model::{Event, Key, Millis, NodeId},
    store::{Change, Delivery, Epoch, NodeState, Outcome, Seen},
};

/// What was seen: its deadline, empty for no entry, and whether it was absent.
fn seen(saw: Option<Seen>) -> [Vec<u8>; 2] {
    saw.map_or([Vec::new(), b"0".to_vec()], |seen| [text(deadline_score(seen.deadline)), text(i32::from(seen.absent))])
}

fn on_key(operation: &str, key: &Key, saw: Option<Seen>) -> Args {
    let [deadline, absent] = seen(saw);
    vec![operation.into(), key.as_bytes().to_vec(), deadline, absent]
}

/// One change; an event that it settles is put at `place`.
pub(super) fn change(change: &Change, epoch: Epoch, place: impl FnOnce() -> [u8; PLACE]) -> Args {
    let mut args = match change {
        Change::Record { key, saw, .. } => on_key("record", key, *saw),
        Change::Forget { key, saw, .. } => on_key("forget", key, Some(*saw)),
        Change::MarkAbsent { key, saw } => on_key("absent", key, Some(*saw)),
        Change::Settle { saw, event, .. } => on_key("settle", &event.key, *saw),
    };
    match change {
        Change::Record { deadline, .. } => args.push(text(deadline_score(*deadline))),
        Change::Forget { at, .. } => args.push(text(memory_score(*at, epoch))),
        Change::MarkAbsent { .. } => {}
        Change::Settle { event, at, .. } => {
            args.push(text(memory_score(*at, epoch)));
            args.extend(append(event, &place()));
        }
    }
    args
}

fn append(event: &Event, place: &[u8; PLACE]) -> [Vec<u8>; 4] {
    let id = pack(&event.id);
    let member = [place.as_slice(), &id].concat();
    [id, appended(event, place), text(event.settled_at.0), member]
}

/// When the change is remembered, if it is.
pub(super) const fn remembered(change: &Change) -> Option<Millis> {
    match change {
        Change::Forget { at, .. } | Change::Settle { at, .. } => Some(*at),
        Change::Record { .. } | Change::MarkAbsent { .. } => None,
    }
}

pub(super) fn outcome(delivery: &Delivery) -> Args {
    let id = pack(&delivery.id);
    match &delivery.outcome {
        Outcome::Delivered { at } => vec!["delivered".into(), id, text(at.0)],
        Outcome::Retry { attempts, first_attempt, not_before } => {
            vec!["retry".into(), id, text(attempts), text(first_attempt.0), text(not_before.0)]
        }
        Outcome::DeadLetter { attempts, reason, at } => {
            vec!["park".into(), id, text(attempts), text(at.0), reason.clone().into_bytes()]
        }
    }
}

/// The field of the head that a node's state lies in.
pub fn node_field(node: &NodeId) -> String {
    format!("node:{node}")
}

/// The field of the head that a named text lies in.
pub(super) fn text_field(name: &str) -> String {
    format!("text:{name}")
}

/// A node's state but for its name.
pub fn write_node(state: &NodeState) -> Vec<u8> {
    serde_json::json!([state.run_id, state.config_epoch, state.flushes, state.slots]).to_string().into_bytes()
}

pub fn read_node(field: &str, value: &[u8]) -> Option<NodeState> {
    let node = NodeId::from(field.strip_prefix("node:")?);
    let (run_id, config_epoch, flushes, slots) = serde_json::from_slice(value).ok()?;
    Some(NodeState { node, run_id, config_epoch, flushes, slots })
}
