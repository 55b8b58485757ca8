//! The figures of docs/benchmarks.md, each beside its yardstick in the same run.
//!
//! `cargo bench --bench figures` measures and writes the page; `-- --quick` (or being run by `cargo test`) goes through
//! the same motions with small numbers and writes nothing; `-- --only burst` measures one.

use std::{env, path::Path};

use anyhow::{Context as _, bail};

mod bed;
mod burst;
mod due;
mod engine;
mod first_scan;
mod growth;
mod idle;
mod lateness;
mod machine;
mod outage;
mod peers;
mod receiver;
mod report;
mod scale;
mod statistics;
mod sustained;

use bed::Bed;
use report::Figure;
use scale::Scale;

/// The engine's own: a yardstick is to have what it has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");

struct Arguments {
    quick: bool,
    only: Option<String>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut given = Arguments { quick: true, only: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // By this cargo says that it was `cargo bench`.
            "--bench" => given.quick = false,
            "--quick" => {}
            "--only" => given.only = Some(words.next().context("--only wants the name of a figure")?),
            other => bail!("unknown argument {other}: there are --quick and --only <figure>"),
        }
    }
    // Wherever it stands.
    given.quick |= env::args().any(|word| word == "--quick");
    Ok(given)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { quick, only } = arguments()?;
    let scale = if quick { Scale::QUICK } else { Scale::FULL };
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let bed = Bed::make().await?;
    let mut figures: Vec<Figure> = Vec::new();
    if wanted("beside") {
        figures.push(lateness::beside(&bed, &scale).await.context("lateness beside other keys")?);
    }
    bed.fill(scale.others).await?;
    if wanted("lateness") {
        figures.extend(lateness::measure(&bed, &scale).await.context("lateness")?);
    }
    // They are not there for who only tries whether it works.
    if (wanted("peers") && !quick) || only.as_deref() == Some("peers") {
        figures.push(peers::measure(&bed, &scale).await.context("peers")?);
    }
    if wanted("burst") {
        figures.extend(burst::measure(&bed, &scale).await.context("burst")?);
    }
    if wanted("outage") {
        figures.push(outage::measure(&bed, &scale).await.context("outage")?);
    }
    if wanted("sustained") {
        figures.extend(sustained::measure(&bed, &scale).await.context("sustained")?);
    }
    if wanted("idle") {
        figures.push(idle::measure(&bed, &scale).await.context("idle")?);
    }
    // The last: what it leaves to the disk to write would be felt by whatever follows.
    if wanted("first-scan") {
        figures.extend(first_scan::measure(&bed, &scale).await.context("first scan")?);
    }
    if wanted("growth") {
        figures.push(growth::measure(&bed, &scale).await.context("growth")?);
    }
    anyhow::ensure!(
        !figures.is_empty(),
        "no figure has that name: beside, lateness, peers, burst, outage, sustained, idle, first-scan, growth"
    );
    let page = report::page(&figures, &machine::describe(&bed).await?, &scale);
    println!("\n{page}");
    if !quick && only.is_none() {
        std::fs::create_dir_all(Path::new(PAGE).parent().context("the page has a folder")?)?;
        std::fs::write(PAGE, page).with_context(|| format!("writing {PAGE}"))?;
    }
    Ok(())
}
