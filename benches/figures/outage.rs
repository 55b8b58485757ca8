//! From a key's deadline to its settling, with the receiver down; and with it up.

use std::{collections::HashMap, time::Duration};

use super::{
    bed::Bed,
    due::ORDERS,
    engine::Engine,
    lateness::orders,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
    statistics::{Sample, millis, sleep_until},
};

pub const RATIO: f64 = 1.2;
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let mut receiver = Receiver::start().await?;
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &receiver.url()).await?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        eprintln!("outage, round {}", round + 1);
        let name = format!("up{round}");
        let deadlines = orders(bed, scale.orders_a_second, scale.outage, &name, false, |_, _| {}).await?;
        let up = settled(&receiver, &deadlines).await?;
        receiver.down();
        let name = format!("down{round}");
        let deadlines = orders(bed, scale.orders_a_second, scale.outage, &name, false, |_, _| {}).await?;
        let last = deadlines.values().copied().max().unwrap_or_else(millis);
        sleep_until(last + 1_000).await;
        receiver.up().await?;
        let down = settled(&receiver, &deadlines).await?;
        rounds.push(Round::ratio(down.percentile(99), up.percentile(99), "ms", RATIO));
    }
    engine.stop().await?;
    Ok(Figure {
        name: "Outage",
        what: format!(
            "From a key's deadline to its settling (`timestamp` in the payload: whole milliseconds, so those within one are \
             taken as spread over it), p99, at {} orders/s for {:?} with the receiver down.",
            scale.orders_a_second, scale.outage
        ),
        yardstick: "the same with the receiver up, just before".to_owned(),
        target: format!("<= {RATIO} x"),
        rounds,
    })
}

async fn settled(receiver: &Receiver, deadlines: &HashMap<String, i64>) -> anyhow::Result<Sample> {
    receiver.wait(deadlines.len(), PATIENCE).await?;
    let told = receiver.told()?;
    let lateness: Vec<f64> = told.values().map(|told| late(told.settled_at, told.deadline)).collect();
    anyhow::ensure!(lateness.len() == deadlines.len(), "{} of {} came", lateness.len(), deadlines.len());
    Ok(Sample::of_whole(lateness))
}

#[expect(clippy::cast_precision_loss, reason = "lateness is some milliseconds")]
fn late(settled_at: i64, deadline: i64) -> f64 {
    (settled_at - deadline) as f64
}
