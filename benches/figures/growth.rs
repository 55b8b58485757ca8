//! The memory of the process as the keys that it tracks grow in number.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    bed::Bed,
    engine::Engine,
    receiver::Receiver,
    report::{Figure, Round},
    scale::Scale,
    statistics::millis,
};

const PREFIX: &str = "grow:";
const TTL_MS: i64 = 8 * 3_600_000;
/// With the most keys, and the program itself and its start included.
const MOST_MIB: f64 = 90.0;

pub async fn measure(bed: &Bed, scale: &Scale) -> anyhow::Result<Figure> {
    let receiver = Receiver::start().await?;
    let (mut rounds, mut there) = (Vec::new(), 0);
    for tracked in scale.tracked {
        eprintln!("growth, {tracked} keys");
        let now = millis();
        let deadline = |number: usize| now + TTL_MS + i64::try_from(number * 7_919 % 14_400_000).unwrap_or(0);
        bed.arm((there..*tracked).map(|number| (format!("{PREFIX}{number:012}"), deadline(number)))).await?;
        there = *tracked;
        bed.cluster.wait_ok().await?;
        let engine = Engine::start(bed, &format!("{PREFIX}*"), &receiver.url()).await?;
        sleep(Duration::from_secs(3)).await;
        let memory = engine.memory()?;
        let start_up = engine.start_up.as_secs_f64();
        let found = engine.stop().await?;
        anyhow::ensure!(found == there, "{found} of {there} keys were tracked");
        let each = memory.peak * f64::from(1 << 20) / f64::from(u32::try_from(there)?);
        rounds.push(Round {
            ours: format!(
                "{tracked} keys: {:.1} MiB resident, {:.1} MiB at the most, ready after {start_up:.2} s",
                memory.resident, memory.peak
            ),
            yardstick: format!("{each:.0} bytes a key"),
            ratio: Some(memory.peak / MOST_MIB),
            // The most keys are what counts.
            order: -f64::from(u32::try_from(there)?),
            met: memory.peak <= MOST_MIB,
            times: None,
        });
    }
    bed.remove((0..there).map(|number| format!("{PREFIX}{number:012}"))).await?;
    Ok(Figure {
        name: "Memory as it grows",
        what: "The process with so many keys tracked, in the order of the rounds.".to_owned(),
        yardstick: "what that is a tracked key, the program itself included; the ratio is to the target".to_owned(),
        target: format!("<= {MOST_MIB} MiB with the most of them, start-up included"),
        rounds,
    })
}
