//! From a key's deadline to its 2xx, beside many other keys with a TTL; and what a plain subscriber hears meanwhile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    bed::Bed,
    due::ORDERS,
    engine::Engine,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
    statistics::{Sample, late, micros, millis, sleep_until},
};

/// A twin of each order, with the same deadline, that nobody asks about: what the plain subscriber is to hear.
pub const TWINS: &str = "twin:pay:";
/// The subscriber hears, and the engine delivers, until this long after the last deadline.
const AFTER: Duration = Duration::from_secs(5);

/// How many orders, and what is asked of them.
struct Load {
    name: &'static str,
    a_second: u32,
    lasting: Duration,
    p50_ms: f64,
    p99_ms: f64,
}

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<[Figure; 2]> {
    let few =
        Load { name: "Lateness", a_second: scale.orders_a_second, lasting: scale.lateness, p50_ms: 3.0, p99_ms: 12.0 };
    let many = Load {
        name: "Lateness of many",
        a_second: scale.many_a_second,
        lasting: scale.many,
        p50_ms: 12.0,
        p99_ms: 25.0,
    };
    Ok([under(&few, bed, scale).await?, under(&many, bed, scale).await?])
}

/// The same, shortly, beside more and more other keys.
pub async fn beside(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let load = Load {
        name: "Lateness as other keys grow in number",
        a_second: scale.orders_a_second,
        lasting: scale.beside_for,
        p50_ms: 3.0,
        p99_ms: 12.0,
    };
    let receiver = Receiver::start().await?;
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &receiver.url()).await?;
    let mut rounds = Vec::new();
    for others in scale.beside {
        bed.fill(*others).await?;
        let round = one(&load, bed, &receiver, *others).await?;
        // The most of them are what counts.
        let order = -f64::from(u32::try_from(*others)?);
        rounds.push(Round { ours: format!("beside {others}: {}", round.ours), order, ..round });
    }
    engine.stop().await?;
    Ok(Figure {
        name: load.name,
        what: format!(
            "From a key's deadline to the 2xx, at {} orders/s for {:?} beside so many other keys with a TTL.",
            load.a_second, load.lasting
        ),
        yardstick: format!(
            "a plain subscriber to `expired` on every master, in the same run, until {AFTER:?} after the last"
        ),
        target: format!("p50 <= {} ms, p99 <= {} ms", load.p50_ms, load.p99_ms),
        rounds,
    })
}

async fn under(load: &Load, bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let receiver = Receiver::start().await?;
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &receiver.url()).await?;
    let mut rounds = Vec::new();
    for round in 0..scale.rounds {
        rounds.push(one(load, bed, &receiver, round).await?);
    }
    engine.stop().await?;
    let Load { name, a_second, lasting, p50_ms, p99_ms } = load;
    Ok(Figure {
        name,
        what: format!(
            "From a key's deadline to the 2xx, at {a_second} orders/s for {lasting:?} beside {} other keys with a TTL.",
            scale.others
        ),
        yardstick: format!(
            "a plain subscriber to `expired` on every master, in the same run: what it heard of as many twins of the \
             orders, with the same deadlines, until {AFTER:?} after the last"
        ),
        target: format!("p50 <= {p50_ms} ms, p99 <= {p99_ms} ms"),
        rounds,
    })
}

/// Sets orders and their twins at a steady rate, and tells `also` of each; gives each order's deadline by its name without prefix.
pub async fn orders(
    bed: &Bed,
    rate: u32,
    lasting: Duration,
    name: &str,
    twins: bool,
    also: impl Fn(&str, i64),
) -> anyhow::Result<HashMap<String, i64>> {
    let mut deadlines = HashMap::new();
    let mut tick = interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let count = u32::try_from(lasting.as_millis() * u128::from(rate) / 1_000)?;
    for number in 0..count {
        tick.tick().await;
        // 3 to 5 s, all residues alike.
        let deadline = millis() + 3_000 + i64::from(number.wrapping_mul(2_654_435_761) % 2_000);
        let id = format!("{name}-{number:08}");
        for prefix in [ORDERS, TWINS].into_iter().take(1 + usize::from(twins)) {
            let key = format!("{prefix}{id}");
            let mut connection = bed.masters[bed.owner(&key)?].connection.clone();
            let () = redis::cmd("SET").arg(&key).arg(1).arg("PXAT").arg(deadline).query_async(&mut connection).await?;
        }
        also(&id, deadline);
        deadlines.insert(id, deadline);
    }
    Ok(deadlines)
}

async fn one(load: &Load, bed: &Bed, receiver: &Receiver, round: usize) -> anyhow::Result<Round> {
    eprintln!("{}: {round}", load.name);
    let heard = Arc::new(Mutex::new(HashMap::new()));
    let mut subscribers = JoinSet::new();
    for master in &bed.masters {
        let client = redis::Client::open(format!("redis://{}", master.node.address()))?;
        let mut subscription = client.get_async_pubsub().await?;
        subscription.psubscribe(format!("__keyspace@0__:{TWINS}*")).await?;
        let heard = Arc::clone(&heard);
        subscribers.spawn(async move {
            let mut messages = subscription.into_on_message();
            while let Some(message) = messages.next().await {
                let at = micros();
                if message.get_payload_bytes() == b"expired"
                    && let Some((_, id)) = message.get_channel_name().split_once(TWINS)
                {
                    heard.lock().await.entry(id.to_owned()).or_insert(at);
                }
            }
        });
    }
    let name = format!("late{}-{round}", load.a_second);
    let deadlines = orders(bed, load.a_second, load.lasting, &name, true, |_, _| {}).await?;
    let last = deadlines.values().copied().max().unwrap_or(0);
    sleep_until(last + i64::try_from(AFTER.as_millis())?).await;
    subscribers.shutdown().await;
    receiver.wait(deadlines.len(), Duration::from_secs(10)).await?;
    let told = receiver.told()?;
    let lateness = deadlines.iter().filter_map(|(id, deadline)| {
        let told = told.get(&format!("{ORDERS}{id}"))?;
        Some(late(told.at, *deadline))
    });
    let ours = Sample::new(lateness.collect());
    let heard = heard.lock().await;
    let theirs = deadlines.iter().filter_map(|(id, deadline)| Some(late(*heard.get(id)?, *deadline)));
    let theirs = Sample::new(theirs.collect());
    anyhow::ensure!(ours.len() == deadlines.len(), "{} of {} came", ours.len(), deadlines.len());
    bed.remove(deadlines.keys().map(|id| format!("{TWINS}{id}"))).await?;
    let (p50, p99) = (ours.percentile(50), ours.percentile(99));
    let plain = if theirs.len() == 0 {
        format!("heard 0 of {}", deadlines.len())
    } else {
        format!(
            "heard {} of {}, p50 {:.0} ms and p99 {:.0} ms late",
            theirs.len(),
            deadlines.len(),
            theirs.percentile(50),
            theirs.percentile(99)
        )
    };
    Ok(Round {
        ours: format!(
            "p50 {p50:.1} ms, p99 {p99:.1} ms, max {:.1} ms; {} of {}",
            ours.most(),
            ours.len(),
            deadlines.len()
        ),
        yardstick: plain,
        ratio: None,
        order: (p50 / load.p50_ms).max(p99 / load.p99_ms),
        met: p50 <= load.p50_ms && p99 <= load.p99_ms,
        times: None,
    })
}
