//! What listeners cost that have nothing to do.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    bed::Bed,
    engine::{Engine, Store},
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
};

/// Of one core, for a hundred listeners.
const MOST: f64 = 0.01;
/// What a start still has to do.
const AFTER: Duration = Duration::from_secs(5);

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let receiver = Receiver::start().await?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        eprintln!("idle, round {}", round + 1);
        let one = share(bed, scale, &receiver, 1).await?;
        let all = share(bed, scale, &receiver, scale.listeners).await?;
        rounds.push(Round {
            ours: format!("{:.2} % of a core", all * 100.0),
            yardstick: format!("{:.2} %", one * 100.0),
            ratio: Some(all / MOST),
            order: all,
            met: all <= MOST,
            times: None,
        });
    }
    Ok(Figure {
        name: "Idle",
        what: format!(
            "CPU of the process with {} listeners of one Redis Cluster that have no keys, over {:?}.",
            scale.listeners, scale.idle
        ),
        yardstick: "the same with one listener; the ratio is to the target".to_owned(),
        target: format!("<= {} % of a core", MOST * 100.0),
        rounds,
    })
}

async fn share(bed: &Bed, scale: &Scale, receiver: &Receiver, listeners: usize) -> anyhow::Result<f64> {
    let patterns: Vec<String> = (0..listeners).map(|number| format!("idle:{number}:*")).collect();
    let engine = Engine::with(bed, &patterns, &receiver.url(), Store::Local).await?;
    sleep(AFTER.min(scale.idle)).await;
    let before = engine.cpu()?;
    sleep(scale.idle).await;
    let took = engine.cpu()? - before;
    engine.stop().await?;
    Ok(took / scale.idle.as_secs_f64())
}
