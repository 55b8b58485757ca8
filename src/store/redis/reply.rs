//! What the scripts answer. Pure.

use redis::Value;

use crate::store::{Epoch, StoreError};

/// What write.lua says of a job whose epoch is too old.
pub const FENCED: &str = "fenced";

/// What write.lua came to.
pub enum Done {
    Yes(Outcome),
    /// Nothing: all jobs were of an owner that another has followed.
    Fenced(Outcome),
    /// Nothing: another process has written, up to this.
    Ahead(u64),
    /// Nothing: what was written before is not there any more.
    Lost,
}

/// The answers to a batch.
pub struct Outcome {
    /// The newest write before this one.
    pub seq: u64,
    /// The newest epoch taken.
    pub epoch: Epoch,
    /// `None`: all are refused.
    told: Option<String>,
}

impl Outcome {
    /// One for each job, of which there are at most `jobs`.
    pub fn answers(&self, jobs: usize) -> Vec<String> {
        match &self.told {
            Some(told) => told.split(',').take(jobs).map(str::to_owned).collect(),
            None => vec![FENCED.to_owned(); jobs],
        }
    }
}

pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

/// A whole number, however it is written: scores come as `17`, `1.7e+13` or a double.
#[expect(clippy::cast_possible_truncation, reason = "scores are whole numbers that a double holds exactly")]
pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Double(number) => Some(*number as i64),
        value => {
            let text = text(value)?;
            text.parse().ok().or_else(|| Some(text.parse::<f64>().ok().filter(|number| number.is_finite())? as i64))
        }
    }
}

/// The newest write and epoch that a script found; `None` where there is no partition any more, or what counts them is no number that a
/// script counts to: Lua's are doubles, exact up to 2^53.
pub fn head(answer: &[Value]) -> Option<(u64, Epoch)> {
    let [seq, epoch, ..] = answer else { return None };
    let count = |value| text(value)?.parse().ok().filter(|count| *count <= 1 << 53);
    Some((count(seq)?, Epoch(count(epoch)?)))
}

pub fn done(answer: &[Value]) -> Result<Done, StoreError> {
    let [_, _, what, told] = answer else { return Err(unexpected(answer)) };
    let outcome =
        |told| head(answer).map(|(seq, epoch)| Outcome { seq, epoch, told }).ok_or_else(|| unexpected(answer));
    match text(what) {
        Some("lost") => Ok(Done::Lost),
        Some("ahead") => outcome(None).map(|outcome| Done::Ahead(outcome.seq)),
        Some("fenced") => outcome(None).map(Done::Fenced),
        Some("done") => outcome(Some(text(told).unwrap_or_default().to_owned())).map(Done::Yes),
        _ => Err(unexpected(answer)),
    }
}

pub fn unexpected(answer: &[Value]) -> StoreError {
    StoreError::Refused(format!("a script answered {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn scores_are_read_however_a_server_writes_them() {
        for score in [bulk("1795328020119"), bulk("1.795328020119e+12"), Value::Double(1_795_328_020_119.0)] {
            assert_eq!(number(&score), Some(1_795_328_020_119));
        }
        assert_eq!((number(&bulk("inf")), number(&bulk("")), number(&Value::Nil)), (None, None, None));
    }

    #[test]
    fn each_job_has_its_answer_an_empty_one_too() {
        let answer = [bulk("7"), bulk("3"), bulk("done"), bulk("01,,fenced")];
        let Done::Yes(outcome) = done(&answer).unwrap() else { unreachable!("it is done") };
        assert_eq!(outcome.answers(9), ["01", "", "fenced"]);
        let Done::Fenced(outcome) = done(&[bulk("7"), bulk("3"), bulk("fenced"), bulk("")]).unwrap() else {
            unreachable!("it is refused")
        };
        assert_eq!(outcome.answers(2), [FENCED, FENCED]);
        assert!(done(&[Value::Nil, Value::Nil, bulk("lost"), bulk("")]).is_ok());
        assert!(done(&[bulk("7"), bulk("3"), bulk("what"), bulk("")]).is_err());
        assert_eq!(head(&[Value::Nil, Value::Nil]), None);
    }

    #[test]
    fn what_no_script_counts_to_is_no_count() {
        assert_eq!(head(&[bulk("9007199254740992"), bulk("1")]), Some((1 << 53, Epoch(1))));
        assert_eq!(head(&[bulk("18446744073709551615"), bulk("1")]), None);
        assert_eq!(head(&[bulk("1"), bulk("18446744073709551615")]), None);
        assert!(done(&[bulk("18446744073709551615"), bulk("3"), bulk("done"), bulk("")]).is_err());
    }
}
