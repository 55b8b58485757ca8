//! `crd`: the CustomResourceDefinition, for `kubectl apply --server-side -f -`.

use std::{io::Write, process::ExitCode};

use anyhow::Context;

use crate::api;

/// Prints the CustomResourceDefinition as YAML.
#[derive(clap::Args)]
pub struct Arguments {}

/// Prints it.
pub fn crd(_: &Arguments) -> anyhow::Result<ExitCode> {
    let text = api::crd_yaml().context("writing the CustomResourceDefinition as YAML")?;
    // Not print!, which panics when the reader has gone.
    std::io::stdout().write_all(text.as_bytes()).context("printing the CustomResourceDefinition")?;
    Ok(ExitCode::SUCCESS)
}
