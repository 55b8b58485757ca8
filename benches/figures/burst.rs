//! Many keys due at one instant, until the last 2xx; and a bare loop that asks and POSTs as many.

use anyhow::Context as _;

use super::{
    bed::Bed,
    due::{BARE, Keys, ORDERS, bare_loop},
    engine::Engine,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
};

const RATIO: f64 = 1.7;
/// While very many are due.
const MOST_MIB: f64 = 200.0;

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<[Figure; 3]> {
    let few = |name: &str| Keys::due(name, scale.burst, scale.burst_ahead, |_| 0);
    let (few, _) = rounds("Burst", few, bed, scale).await?;
    // What is due behind the instant, one each millisecond, may not come before it.
    let many = |name: &str| {
        let after = |number: usize| number.saturating_sub(scale.great_burst);
        Keys::due(name, scale.great_burst + scale.behind, scale.burst_ahead, after)
    };
    let (many, memory) = rounds("Great burst", many, bed, scale).await?;
    Ok([
        Figure {
            name: "Burst",
            what: format!("{} keys due at one instant: from the deadline to the last 2xx.", scale.burst),
            yardstick: bare_loop(),
            target: format!("<= {RATIO} x"),
            rounds: few,
        },
        Figure {
            name: "Great burst",
            what: format!(
                "{} keys due at one instant, and {} in the time behind it, one each millisecond: from the instant to the last \
                 2xx. None is lost or told of twice, and what is due first on a node is settled first.",
                scale.great_burst, scale.behind
            ),
            yardstick: bare_loop(),
            target: format!("<= {RATIO} x"),
            rounds: many,
        },
        Figure {
            name: "Memory in a great burst",
            what: "The most that the process ever had (VmHWM), after each of those rounds.".to_owned(),
            yardstick: "what that is a key, the program itself included; the ratio is to the target".to_owned(),
            target: format!("<= {MOST_MIB} MiB"),
            rounds: memory,
        },
    ])
}

/// The times, and the memory.
async fn rounds(
    name: &str,
    keys: impl Fn(&str) -> anyhow::Result<Keys>,
    bed: &Bed,
    scale: &Scale,
) -> anyhow::Result<(Vec<Round>, Vec<Round>)> {
    let receiver = Receiver::start().await?;
    let engine = Engine::start(bed, &format!("{ORDERS}*"), &receiver.url()).await?;
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        eprintln!("{name}, round {}", round + 1);
        let bare = keys(&format!("{BARE}{name}{round}"))?;
        let bare = bare.told_barely(bed, &receiver).await.with_context(|| format!("{name}: the bare loop"))?;
        let ours = keys(&format!("{ORDERS}{name}{round}"))?;
        let count = f64::from(u32::try_from(ours.len())?);
        let ours = ours.told(bed, &receiver).await.with_context(|| format!("{name}: the engine"))?;
        times.push(Round::ratio(ours.telling, bare.telling, "ms", RATIO));
        let peak = engine.memory()?.peak;
        memories.push(Round {
            ours: format!("{peak:.1} MiB at the most"),
            yardstick: format!("{:.0} bytes a key", peak * f64::from(1 << 20) / count),
            ratio: Some(peak / MOST_MIB),
            // The last has all that came before.
            order: -peak,
            met: peak <= MOST_MIB,
            times: None,
        });
    }
    engine.stop().await?;
    Ok((times, memories))
}
