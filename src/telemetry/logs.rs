//! Logs go to stderr; stdout is for what the command says.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line, its fields beside `message`: for what collects the logs of a cluster.
    Json,
}

/// Logs what `filter` lets through, else what `RUST_LOG` does, else warnings.
pub fn install(filter: Option<&str>, format: Format) -> anyhow::Result<()> {
    let filter = match filter {
        Some(filter) => EnvFilter::try_new(filter).with_context(|| format!("reading --log {filter:?}"))?,
        None => {
            EnvFilter::builder().with_default_directive(Level::WARN.into()).from_env().context("reading RUST_LOG")?
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
