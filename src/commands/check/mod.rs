//! `check -f`: preflight. Follows in the next commit.

use std::process::ExitCode;

use anyhow::bail;

#[derive(Debug, clap::Args)]
pub struct Arguments {}

#[expect(clippy::unused_async, reason = "as the other commands")]
pub async fn check(_: Arguments) -> anyhow::Result<ExitCode> {
    bail!("check is not there yet")
}
