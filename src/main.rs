use std::process::ExitCode;

use clap::Parser;
use redis_expiry_operator::{commands::Command, telemetry::logs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns Redis key expiry into webhooks: on time, none lost, none invented.
#[derive(Parser)]
// Of a flag that is given twice the last counts: so the chart's extraArgs can change what the chart gives.
#[command(version, propagate_version = true, args_override_self = true)]
struct Arguments {
    /// What to log to stderr, such as `info` or `redis_expiry_operator=debug`. Default: `RUST_LOG`, else warnings.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// What a line of the log looks like.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: logs::Format,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The demo breaks things on purpose; what its clients say to that would bury the show.
    let quiet = matches!(&arguments.command, Command::Demo(it) if it.part.is_none()).then_some("error");
    let ended =
        logs::install(arguments.log.as_deref().or(quiet), arguments.log_format).and_then(|()| arguments.command.run());
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
