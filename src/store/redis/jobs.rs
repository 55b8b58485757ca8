//! What a partition is asked to do. Pure.

use std::collections::VecDeque;

use tokio::sync::{oneshot, watch};

use super::{names::Kind, script::Script};
use crate::store::{Epoch, StoreError};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// Arguments of a script.
pub(super) type Args = Vec<Vec<u8>>;

/// Changes that are made together or not at all.
pub(super) struct Write {
    pub epoch: Epoch,
    /// Operations of write.lua, one behind the other.
    pub args: Args,
    pub answer: Answer<String>,
}

pub(super) enum Job {
    Write(Write),
    /// The same operation again and again until it has little left to do: it does at most [`CHUNK`] things at a time.
    Repeated {
        epoch: Epoch,
        args: Args,
        answer: Answer<u64>,
    },
    Read {
        script: &'static Script,
        args: Args,
        answer: Answer<Vec<redis::Value>>,
    },
    /// A page of a set, by page.lua.
    Page {
        set: Kind,
        args: Args,
        answer: Answer<Vec<redis::Value>>,
    },
    /// Whether the owner still is one and may write.
    Check {
        epoch: Epoch,
        answer: Answer<String>,
    },
    /// How much there is.
    Count(Answer<Vec<redis::Value>>),
    Raise(Raise),
    Close(Answer<()>),
}

/// What write.lua does at most in one step of an operation without bound.
pub(super) const CHUNK: u64 = 1_000;

/// A partition's part in taking an epoch: see [`super::epoch`].
pub(super) struct Raise {
    pub role: Role,
    pub answer: Answer<Epoch>,
}

pub(super) enum Role {
    /// Decides, on what all partitions say.
    First {
        epochs: Vec<oneshot::Receiver<Result<Vec<redis::Value>, StoreError>>>,
        told: watch::Sender<Decision>,
    },
    Next(watch::Receiver<Decision>),
}

/// `None` until it is decided.
pub(super) type Decision = Option<Result<Epoch, StoreError>>;

/// A script with so many arguments takes Redis some milliseconds: more jobs wait for the next.
pub(super) const BATCH: usize = 4_000;
/// The same in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// What is done next, in one script.
pub(super) enum Next {
    Writes(Vec<Write>),
    Other(Job),
}

/// Takes what is done next: writes together, as far as nothing else is between them.
pub(super) fn take(queue: &mut VecDeque<Job>) -> Option<Next> {
    let first = match queue.pop_front()? {
        Job::Write(write) => write,
        other => return Some(Next::Other(other)),
    };
    let bytes = |write: &Write| write.args.iter().map(Vec::len).sum::<usize>();
    let (mut args, mut size) = (first.args.len(), bytes(&first));
    let mut writes = vec![first];
    while let Some(Job::Write(next)) = queue.front() {
        args += next.args.len();
        size += bytes(next);
        if args > BATCH || size > BATCH_BYTES {
            break;
        }
        if let Some(Job::Write(next)) = queue.pop_front() {
            writes.push(next);
        }
    }
    Some(Next::Writes(writes))
}

/// The writes as arguments of write.lua.
pub(super) fn written(writes: &[Write]) -> Args {
    let mut args = vec![text(writes.len())];
    for write in writes {
        args.push(text(write.epoch.0));
        args.push(text(write.args.len()));
        args.extend_from_slice(&write.args);
    }
    args
}

/// Several of those as one.
pub(super) fn together(batches: &[&[Vec<u8>]]) -> Args {
    let count =
        |batch: &[Vec<u8>]| batch.first().and_then(|count| std::str::from_utf8(count).ok()?.parse::<usize>().ok());
    let mut args = vec![text(batches.iter().filter_map(|batch| count(batch)).sum::<usize>())];
    args.extend(batches.iter().flat_map(|batch| batch.iter().skip(1).cloned()));
    args
}

pub(super) fn text(number: impl std::fmt::Display) -> Vec<u8> {
    format!("{number}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(args: usize, bytes: usize) -> Job {
        let (answer, _) = oneshot::channel();
        Job::Write(Write { epoch: Epoch(1), args: vec![vec![0; bytes]; args], answer })
    }

    fn taken(queue: &mut VecDeque<Job>) -> Vec<usize> {
        let mut counts = Vec::new();
        while let Some(next) = take(queue) {
            counts.push(match next {
                Next::Writes(writes) => writes.len(),
                Next::Other(_) => 0,
            });
        }
        counts
    }

    #[test]
    fn writes_go_together_up_to_what_is_not_a_write() {
        let (answer, _) = oneshot::channel();
        let mut queue = VecDeque::from([write(4, 8), write(4, 8), Job::Close(answer), write(4, 8)]);
        assert_eq!(taken(&mut queue), [2, 0, 1]);
    }

    #[test]
    fn a_batch_is_bounded_and_a_job_never_divided() {
        let mut queue = VecDeque::from([write(3_000, 1), write(3_000, 1), write(9_000, 1), write(1, 9), write(1, 9)]);
        assert_eq!(taken(&mut queue), [1, 1, 1, 2]);
        let mut queue = VecDeque::from([write(1, 600_000), write(1, 600_000)]);
        assert_eq!(taken(&mut queue), [1, 1]);
    }

    #[test]
    fn a_job_says_how_long_it_is() {
        let Next::Writes(writes) = take(&mut VecDeque::from([write(2, 1), write(0, 1)])).unwrap() else {
            unreachable!("they are writes")
        };
        let zero = vec![0];
        let expected = [text(2), text(1), text(2), zero.clone(), zero, text(1), text(0)];
        assert_eq!(written(&writes), expected);
    }
}
