//! Logs go to stderr; stdout is for what the command says.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// Logs what `filter` lets through, else what `RUST_LOG` does, else warnings.
pub fn install(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match filter {
        Some(filter) => EnvFilter::try_new(filter).with_context(|| format!("reading --log {filter:?}"))?,
        None => {
            EnvFilter::builder().with_default_directive(Level::WARN.into()).from_env().context("reading RUST_LOG")?
        }
    };
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(io::stderr).init();
    Ok(())
}
