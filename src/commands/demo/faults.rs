//! What is done to the cluster while orders come in.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use redis::pipe;
use tokio::time::{Instant, sleep};

use super::{Mode, cluster::Cluster, order_service::service::now, progress::Progress, report::Outage};
use crate::model::slot_of;

/// How long somebody who watches takes to promote a replica.
const BY_HAND: Duration = Duration::from_secs(2);

/// Other keys with a TTL, as any real Redis has: Redis's own expiry takes turns with them, and with enough of them
/// plain notifications come tens of seconds late.
pub async fn add_other_keys(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    const BATCH: usize = 2000;
    let masters = cluster.masters().await?;
    let mut connections = Vec::new();
    for (node, _) in &masters {
        connections.push((node.connect(Duration::from_secs(10)).await?, Vec::new()));
    }
    for number in 0..count {
        let key = format!("session:{number}");
        let slot = slot_of(key.as_bytes()).0;
        let owner = masters.iter().position(|(_, seen)| seen.owns(slot)).context("a slot without owner")?;
        connections[owner].1.push(key);
        for (connection, keys) in &mut connections {
            if keys.len() >= BATCH || number + 1 == count {
                let mut sets = pipe();
                for key in keys.drain(..) {
                    sets.cmd("SET").arg(key).arg("1").arg("PX").arg(rand::random_range(600_000..3_600_000)).ignore();
                }
                let () = sets.query_async(connection).await.context("writing other keys")?;
            }
        }
    }
    Ok(())
}

/// Kills a master, waits until its replica has been promoted, and lets it come back as a replica.
pub async fn kill_a_master(cluster: &Cluster, mode: Mode, progress: &Progress) -> anyhow::Result<Outage> {
    let (master, seen) = cluster.masters().await?.into_iter().next().context("no master")?;
    let slot = *seen.slots.first().context("a master without slots")?.start();
    let replica = cluster.replicas_of(&master).await?.into_iter().next().context("a master without replica")?;
    cluster.kill(&master)?;
    let killed = Instant::now();
    let from = now();
    let whose = if mode == Mode::Cluster { "a third of the orders have" } else { "the orders have" };
    progress.say(&format!("killed master {master} (SIGKILL): {whose} no master now"));
    if mode == Mode::Standalone {
        sleep(BY_HAND).await;
        cluster.promote(&replica).await?;
    }
    let promoted = loop {
        match cluster.owner(slot).await {
            Ok(owner) if owner != master => break owner,
            _ => sleep(Duration::from_millis(20)).await,
        }
        ensure!(killed.elapsed() < Duration::from_secs(30), "no replica was promoted within 30 s");
    };
    let until = now();
    let took = killed.elapsed().as_secs_f32();
    let by = match mode {
        Mode::Cluster => "elected by the other masters",
        Mode::Sentinel => "chosen by the sentinels",
        Mode::Standalone => "by us: REPLICAOF NO ONE",
    };
    progress.say(&format!("{promoted} was promoted after {took:.1} s, {by}"));
    cluster.comes_back(&master, &promoted).await?;
    cluster.wait_ok().await?;
    progress.say(&format!("{master} is back, as a replica"));
    Ok(Outage { slots: seen.slots, from, until })
}

/// Moves a part of one master's slots to another.
pub async fn move_slots(cluster: &Cluster, progress: &Progress) -> anyhow::Result<()> {
    // Each makes every master write its table of nodes to the disk, some times over.
    const SLOTS: u16 = 150;
    let masters = cluster.masters().await?;
    let [.., (from, seen), (to, _)] = masters.as_slice() else { anyhow::bail!("want two masters") };
    let range = seen.slots.first().context("a master without slots")?;
    let first = *range.start();
    let last = (*range.end()).min(first + SLOTS - 1);
    let keys = cluster.move_slots(from, to, first..=last).await?;
    progress.say(&format!("moved slots {first} to {last} with {keys} keys from {from} to {to}, under load"));
    cluster.wait_ok().await
}
