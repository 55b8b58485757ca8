//! More expiries than anybody can tell of, for a while: how many a second get their 2xx, and what each costs Redis; and a bare
//! loop that asks and POSTs.

use anyhow::Context as _;

use super::{
    bed::Bed,
    due::{BARE, Keys, ORDERS, Took, bare_loop},
    engine::{Engine, Store},
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
};

/// What a `Round` is called, what is asked of it, and where the ledger lies.
struct Kind {
    store: Store,
    rate: &'static str,
    cost: &'static str,
    /// Of the bare loop's rate, at least.
    least: f64,
    /// Of the CPU that the bare loop costs Redis, at most.
    most: f64,
}

const LOCAL: Kind =
    Kind { store: Store::Local, rate: "Sustained", cost: "CPU of Redis an order", least: 0.6, most: 2.0 };
const REDIS: Kind = Kind {
    store: Store::Redis,
    rate: "Sustained, ledger in Redis",
    cost: "CPU of Redis an order, ledger in Redis",
    least: 0.45,
    most: 6.0,
};

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kind in [LOCAL, REDIS] {
        figures.extend(with(&kind, bed, scale).await.context(kind.rate)?);
    }
    Ok(figures)
}

async fn with(kind: &Kind, bed: &Bed, scale: &Scale) -> anyhow::Result<[Figure; 2]> {
    let Kind { store, rate, cost, least, most } = *kind;
    let receiver = Receiver::start().await?;
    let engine = Engine::with(bed, &[format!("{ORDERS}*")], &receiver.url(), store).await?;
    let over = usize::try_from(scale.sustained_over.as_millis())?;
    let keys = |prefix: &str, round: usize| {
        let after = |number: usize| number * over / scale.sustained;
        Keys::due(&format!("{prefix}sustained{store:?}{round}"), scale.sustained, scale.burst_ahead, after)
    };
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        eprintln!("{rate}, round {}", round + 1);
        let bare = keys(BARE, round)?.told_barely(bed, &receiver).await.context("the bare loop")?;
        let ours = keys(ORDERS, round)?.told(bed, &receiver).await.context("the engine")?;
        let count = f64::from(u32::try_from(scale.sustained)?);
        let a_second = |took: Took| count * 1_000.0 / took.telling;
        rates.push(Round {
            ours: format!("{:.0}/s; {:.0} MiB at the most", a_second(ours), engine.memory()?.peak),
            yardstick: format!("{:.0}/s", a_second(bare)),
            ratio: Some(a_second(ours) / a_second(bare)),
            order: a_second(bare) / a_second(ours),
            met: a_second(ours) >= least * a_second(bare),
            times: None,
        });
        costs.push(Round::ratio(ours.redis * 1e6 / count, bare.redis * 1e6 / count, "µs", most));
    }
    engine.stop().await?;
    Ok([
        Figure {
            name: rate,
            what: format!(
                "{} keys due within {:?}, so that there is always more to tell of: expiries a second that got their 2xx, from \
                 the first deadline to the last 2xx. None is lost or told of twice, and what is due first on a node is settled \
                 first.",
                scale.sustained, scale.sustained_over
            ),
            yardstick: bare_loop(),
            target: format!(">= {least} x"),
            rounds: rates,
        },
        Figure {
            name: cost,
            what: "CPU of all six Redis servers in the same rounds, from the first SET to the last 2xx, for each order: its SET \
                   and its expiry, which every Redis pays for, included; the engine is connected all the while."
                .to_owned(),
            yardstick: "the same with the bare loop".to_owned(),
            target: format!("<= {most} x"),
            rounds: costs,
        },
    ])
}
