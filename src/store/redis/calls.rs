//! The store's calls: each enqueues before it returns.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use redis::Value;
use tokio::{sync::oneshot, time::Instant};

use super::{
    RedisStore, epoch, facts,
    id::{pack, unpack},
    jobs::{Args, Job, Write, text},
    names::{Kind, partition_of},
    ops,
    pages::{Query, Reading},
    places::{deadline_score, memory_of},
    queues::{all, of},
    record::{self, PLACE},
    reply,
    script::KNOWN,
};
use crate::{
    model::{EventId, Key, Millis, NodeId},
    store::{
        Applying, Change, Counts, DeadLetter, Delivery, DueCursor, Durability, Entry, Epoch, Known, Losses, NodeState,
        Pending, Reply, Seen, Selection, Store, StoreError,
    },
};

/// How long it is remembered that a deleted listener had later owners: one that hung meanwhile must not bring it back.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// As many keys as one script looks up.
const LOOKED_UP: usize = 512;

impl Store for RedisStore {
    fn take_epoch(&self) -> Reply<Epoch> {
        let parts = epoch::enqueue(&self.shared.queues);
        self.shared.counting.changed();
        Box::pin(async move { epoch::taken(parts?).await })
    }

    fn known(&self, keys: Vec<Key>) -> Reply<Vec<Known>> {
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.partitions()];
        for (place, key) in keys.iter().enumerate() {
            places[partition_of(key, self.partitions())].push(place);
        }
        let lots = places
            .iter()
            .enumerate()
            .flat_map(|(partition, places)| places.chunks(LOOKED_UP).map(move |lot| (partition, lot.to_vec())));
        let lots: Vec<(usize, Vec<usize>)> = lots.collect();
        let args = |places: &[usize]| places.iter().map(|place| keys[*place].as_bytes().to_vec()).collect();
        let parts = self.shared.queues.read(&KNOWN, lots.iter().map(|(partition, lot)| (*partition, args(lot))));
        let oldest = self.shared.newest.bound();
        Box::pin(async move {
            let mut found = vec![Known::default(); keys.len()];
            for ((_, places), part) in lots.into_iter().zip(parts?) {
                for (place, known) in places.into_iter().zip(read_known(&of(part).await?, oldest)?) {
                    found[place] = known;
                }
            }
            Ok(found)
        })
    }

    fn due(&self, after: Option<DueCursor>, limit: usize) -> Reply<Vec<Entry>> {
        let query = Query::new(Kind::Due, None, Millis(i64::MAX), limit, self.partitions());
        let after = after.as_ref().map(|(deadline, key)| (deadline_score(*deadline), key.as_bytes()));
        let reading = Reading::start(&self.shared, query, after);
        Box::pin(async move {
            let entry = |row: super::pages::Row| {
                let seen = Seen { deadline: Millis(row.score), absent: !row.other.is_empty() };
                Some(Entry { key: Key::from(row.member), seen })
            };
            reading?.first(limit, entry).await
        })
    }

    fn apply(&self, epoch: Epoch, changes: Vec<Change>) -> Applying {
        let mut parts = vec![Args::new(); self.partitions()];
        let homes: Vec<usize> = changes.iter().map(|change| partition_of(change.key(), self.partitions())).collect();
        for (change, home) in changes.iter().zip(&homes) {
            if let Some(at) = ops::remembered(change) {
                self.shared.newest.saw(at);
            }
            parts[*home].extend(ops::change(change, epoch, || self.appended.place()));
        }
        let parts = self.write(epoch, parts);
        let done = async move {
            let (mut answers, mut failed) = (Vec::new(), None);
            for part in parts? {
                match part.map(of) {
                    None => answers.push(Vec::new().into_iter()),
                    Some(answer) => match answer.await {
                        Ok(answer) => answers.push(answer.into_bytes().into_iter()),
                        Err(error @ StoreError::Fenced { .. }) => failed = Some(error),
                        Err(error) => failed = failed.or(Some(error)),
                    },
                }
            }
            failed.map_or(Ok(()), Err)?;
            Ok(homes.into_iter().map(|home| answers[home].next() == Some(b'1')).collect())
        };
        // Whichever of the two is awaited first, or alone, must bring both.
        let shared = futures_util::FutureExt::shared(Box::pin(done) as Reply<Vec<bool>>);
        let other = shared.clone();
        Applying { done: Box::pin(shared), durable: Box::pin(async move { other.await.map(drop) }) }
    }

    fn pending(&self, ready: Millis, but: Vec<EventId>, limit: usize) -> Reply<Vec<Pending>> {
        let ever = Millis(i64::MAX);
        let untried = Reading::start(&self.shared, self.outbox_query(Kind::Untried, ever, limit), None);
        let tried = Reading::start(&self.shared, self.outbox_query(Kind::Tried, ready, limit), None);
        Box::pin(async move {
            let but: HashSet<Vec<u8>> = but.iter().map(pack).collect();
            let keep = |row: super::pages::Row| {
                let id = row.member.get(PLACE..).filter(|id| !but.contains(*id))?;
                let pending = record::pending(unpack(id)?, &row.other)?;
                (pending.not_before <= ready).then_some(pending)
            };
            let mut found = untried?.first(limit, &keep).await?;
            found.extend(tried?.first(limit - found.len(), &keep).await?);
            Ok(found)
        })
    }

    fn next_pending(&self, but: Vec<EventId>) -> Reply<Option<Millis>> {
        let kinds = [Kind::Untried, Kind::PutOff, Kind::Tried];
        let start =
            |kind| Reading::start(&self.shared, self.outbox_query(kind, Millis(i64::MAX), 2 * but.len() + 1), None);
        let [untried, put_off, tried] = kinds.map(start);
        Box::pin(async move {
            let but: HashSet<Vec<u8>> = but.iter().map(pack).collect();
            let other = |row: &super::pages::Row| row.member.get(PLACE..).is_some_and(|id| !but.contains(id));
            // Among the untried, those that are put off have a place of their own.
            let at_once = |row: super::pages::Row| {
                let pending = record::pending(unpack(row.member.get(PLACE..)?)?, &row.other)?;
                (other(&row) && pending.not_before == Millis(0)).then_some(Millis(0))
            };
            let later = |row: super::pages::Row| other(&row).then_some(Millis(row.score));
            let mut soonest = untried?.first(1, at_once).await?;
            soonest.extend(put_off?.first(1, later).await?);
            soonest.extend(tried?.first(1, later).await?);
            Ok(soonest.into_iter().min())
        })
    }

    fn delivered(&self, epoch: Epoch, outcomes: Vec<Delivery>) -> Reply<()> {
        let mut parts = vec![Args::new(); self.partitions()];
        for outcome in &outcomes {
            parts[partition_of(&outcome.key, self.partitions())].extend(ops::outcome(outcome));
        }
        self.tell(epoch, parts)
    }

    fn dead_letters(&self, after: Option<(Millis, EventId)>, limit: usize) -> Reply<Vec<DeadLetter>> {
        let query = Query::new(Kind::Parked, Some((Kind::Letters, 0)), Millis(i64::MAX), limit, self.partitions());
        let after = after.map(|(at, id)| (at.0, pack(&id)));
        let after = after.as_ref().map(|(at, id)| (*at, id.as_slice()));
        let reading = Reading::start(&self.shared, query, after);
        Box::pin(async move { reading?.first(limit, |row| record::letter(unpack(&row.member)?, &row.other)).await })
    }

    fn replay(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        match which {
            Selection::All => self.everywhere(epoch, &vec!["replay_some".into(), self.appended.next().to_vec()]),
            Selection::Ids(ids) => {
                self.on_events(epoch, &ids, |id| vec!["replay".into(), pack(id), self.appended.place().to_vec()])
            }
        }
    }
    fn purge(&self, epoch: Epoch, which: Selection) -> Reply<u64> {
        match which {
            Selection::All => self.everywhere(epoch, &vec!["purge_some".into()]),
            Selection::Ids(ids) => self.on_events(epoch, &ids, |id| vec!["purge".into(), pack(id)]),
        }
    }

    fn node_states(&self) -> Reply<Vec<NodeState>> {
        self.read_head(|fields| fields.iter().filter_map(|(field, value)| ops::read_node(field, value)).collect())
    }
    fn remember_node(&self, epoch: Epoch, state: NodeState) -> Reply<()> {
        let field = ops::node_field(&state.node).into_bytes();
        self.tell_head(epoch, vec!["set".into(), field, ops::write_node(&state)])
    }
    fn forget_node(&self, epoch: Epoch, node: NodeId) -> Reply<()> {
        self.tell_head(epoch, vec!["unset".into(), ops::node_field(&node).into_bytes()])
    }

    fn meta(&self, name: &'static str) -> Reply<Option<String>> {
        self.read_head(move |fields| {
            let field = ops::text_field(name);
            let (_, value) = fields.into_iter().find(|(other, _)| *other == field)?;
            String::from_utf8(value).ok()
        })
    }
    fn set_meta(&self, epoch: Epoch, name: &'static str, value: String) -> Reply<()> {
        self.tell_head(epoch, vec!["set".into(), ops::text_field(name).into_bytes(), value.into_bytes()])
    }
    fn discard_ledger(&self, epoch: Epoch) -> Reply<u64> {
        self.everywhere(epoch, &vec!["discard_some".into()])
    }

    fn partitions(&self) -> usize {
        self.shared.queues.partitions()
    }
    fn partition_of(&self, key: &Key) -> usize {
        partition_of(key, self.partitions())
    }
    fn losses(&self) -> Losses {
        self.shared.losses.so_far()
    }
    fn counts(&self) -> Reply<Counts> {
        if let (Ok(()), Some(counts)) = (self.shared.queues.open(), self.shared.counting.found()) {
            return Box::pin(std::future::ready(Ok(counts)));
        }
        let (shared, changes) = (Arc::clone(&self.shared), self.shared.counting.changes());
        let parts = self.fan(Job::Count);
        Box::pin(async move {
            let counts = all(parts?).await?.iter().fold(Counts::default(), |counts, part| sum(counts, part));
            shared.counting.keep(changes, counts);
            Ok(counts)
        })
    }
    fn durability(&self) -> Reply<Durability> {
        let (shared, slots) = (Arc::clone(&self.shared), self.slots.clone());
        let open = self.shared.queues.open();
        Box::pin(async move {
            open?;
            let until = Instant::now() + shared.settings.patience;
            let mut servers = BTreeMap::new();
            for slot in slots {
                let (node, facts) = shared.link.facts(slot, shared.settings.policy_check / 2, until).await?;
                facts.policy.clone().trusted(&node)?;
                servers.insert(node, facts);
            }
            Ok(facts::durability(&servers.into_iter().collect::<Vec<_>>()))
        })
    }
    fn destroy(&self, epoch: Epoch) -> Reply<()> {
        let emptied = self.everywhere(epoch, &vec!["destroy_some".into()]);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            emptied.await?;
            // What is called behind this is refused.
            let (mut jobs, mut buried, mut closed) = (Vec::new(), Vec::new(), Vec::new());
            for partition in 0..shared.queues.partitions() {
                let args = vec!["bury".into(), text(REMEMBERED.as_millis())];
                let ((answer, told), (close, end)) = (oneshot::channel(), oneshot::channel());
                jobs.push((partition, Job::Write(Write { epoch, args, answer })));
                jobs.push((partition, Job::Close(close)));
                buried.push(told);
                closed.push(end);
            }
            shared.queues.put(jobs)?;
            let buried = all(buried).await;
            all(closed).await?;
            buried.map(drop)
        })
    }
    fn close(&self) -> Reply<()> {
        let parts = self.fan(Job::Close);
        Box::pin(async move { all(parts?).await.map(drop) })
    }
}

pub fn read_known(answer: &[Value], oldest: Millis) -> Result<Vec<Known>, StoreError> {
    let unexpected = || reply::unexpected(answer);
    let [_, _, Value::Array(deadlines), Value::Array(absent), Value::Array(memories)] = answer else {
        return Err(unexpected());
    };
    let (_, newest) = reply::head(answer).ok_or_else(unexpected)?;
    let known = |(place, (deadline, memory)): (usize, (&Value, &Value))| Known {
        entry: reply::number(deadline)
            .map(|deadline| Seen { deadline: Millis(deadline), absent: absent.get(place) == Some(&Value::Int(1)) }),
        memory: reply::number(memory).map(|score| memory_of(score, newest)).filter(|memory| memory.at >= oldest),
    };
    Ok(deadlines.iter().zip(memories).enumerate().map(known).collect())
}

pub fn sum(counts: Counts, part: &[Value]) -> Counts {
    let number = |place: usize| part.get(place).and_then(reply::number);
    let count = |place| number(place).map_or(0, i64::unsigned_abs);
    let oldest = [counts.oldest_pending, number(6).map(Millis), number(7).map(Millis)];
    Counts {
        tracked: counts.tracked.saturating_add(count(2)),
        pending: counts.pending.saturating_add(count(3)).saturating_add(count(4)),
        dead_letters: counts.dead_letters.saturating_add(count(5)),
        oldest_pending: oldest.into_iter().flatten().min(),
        last_delivered: counts.last_delivered.max(number(8).map(Millis)),
    }
}
