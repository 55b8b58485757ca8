//! Reads what lies in many partitions as if it lay in one: a page of each, merged, and more of those that ran out.
//!
//! The first pages have their place among the calls. Later ones may show what was done meanwhile: no more than a call made a
//! moment later would.

use std::{collections::VecDeque, sync::Arc};

use redis::Value;

use super::{
    jobs::{Args, text},
    names::Kind,
    queues::{Part, of},
    reply,
    worker::Shared,
};
use crate::{model::Millis, store::StoreError};

/// A page is between so many.
const FEWEST: usize = 8;
const MOST: usize = 512;

/// Which sorted set, and what belongs to its members.
#[derive(Clone, Copy)]
pub(super) struct Query {
    pub set: Kind,
    /// No score above this.
    pub most: Millis,
    /// The hash that has more under the member from this byte on; `None`: whether it is absent.
    pub hash: Option<(Kind, usize)>,
    page: usize,
}

/// A member, in the order of the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub score: i64,
    pub member: Vec<u8>,
    /// What belongs to it; empty for nothing.
    pub other: Vec<u8>,
}

/// What was read of one partition.
struct Stream {
    partition: usize,
    part: Option<Part<Vec<Value>>>,
    rows: VecDeque<Row>,
    more: bool,
}

/// A set that is being read from all partitions.
pub(super) struct Reading {
    shared: Arc<Shared>,
    query: Query,
    streams: Vec<Stream>,
}

impl Query {
    /// For about `limit` of all partitions together.
    pub fn new(set: Kind, hash: Option<(Kind, usize)>, most: Millis, limit: usize, partitions: usize) -> Self {
        let page = (limit.saturating_mul(2) / partitions.max(1)).clamp(FEWEST, MOST).min(limit.max(1));
        Self { set, most, hash, page }
    }

    fn args(&self, after: Option<(i64, &[u8])>) -> Args {
        let (score, member) = after.map_or((Vec::new(), Vec::new()), |(score, member)| (text(score), member.to_vec()));
        let (hash, from) = self.hash.map_or(("absent".into(), 1), |(hash, from)| (text(hash as i32), from + 1));
        vec![text(self.set as i32), score, member, text(self.page), text(self.most.0), hash, text(from)]
    }
}

impl Reading {
    /// Enqueues the first pages.
    pub fn start(shared: &Arc<Shared>, query: Query, after: Option<(i64, &[u8])>) -> Result<Self, StoreError> {
        let partitions = 0..shared.queues.partitions();
        let parts =
            shared.queues.pages(query.set, partitions.clone().map(|partition| (partition, query.args(after))))?;
        let stream = |(partition, part)| Stream { partition, part: Some(part), rows: VecDeque::new(), more: true };
        let streams = partitions.zip(parts).map(stream).collect();
        Ok(Self { shared: Arc::clone(shared), query, streams })
    }

    /// The first `limit` of what `keep` makes of the rows.
    pub async fn first<T>(
        mut self,
        limit: usize,
        mut keep: impl FnMut(Row) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit {
            self.fill().await?;
            let first = self.streams.iter_mut().filter(|stream| !stream.rows.is_empty());
            let Some(first) = first.min_by(|a, b| a.rows.front().cmp(&b.rows.front())) else { break };
            let Some(row) = first.rows.pop_front() else { break };
            if first.rows.is_empty() && first.more {
                let args = self.query.args(Some((row.score, &row.member)));
                first.part = self.shared.queues.pages(self.query.set, [(first.partition, args)])?.pop();
            }
            found.extend(keep(row));
        }
        Ok(found)
    }

    /// Waits for the pages that were asked for.
    async fn fill(&mut self) -> Result<(), StoreError> {
        for stream in &mut self.streams {
            let Some(part) = stream.part.take() else { continue };
            let answer = of(part).await?;
            let [_, _, more, rows @ ..] = answer.as_slice() else { return Err(reply::unexpected(&answer)) };
            stream.more = reply::number(more) == Some(1);
            stream.rows.extend(rows.chunks_exact(3).filter_map(row));
        }
        Ok(())
    }
}

fn row(fields: &[Value]) -> Option<Row> {
    let [member, score, other] = fields else { return None };
    let other = match other {
        Value::Int(1) => vec![1],
        other => reply::bytes(other).unwrap_or_default().to_vec(),
    };
    Some(Row { score: reply::number(score)?, member: reply::bytes(member)?.to_vec(), other })
}
