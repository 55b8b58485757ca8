use std::process::ExitCode;

use clap::{Parser, Subcommand};
use redis_expiry_operator::{
    commands::{check, controller, crd, dead_letters, demo, run},
    telemetry::logs,
};

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

#[derive(Subcommand)]
enum Command {
    /// The operator: runs the listeners of a Kubernetes cluster, as one of several replicas that share them.
    Controller(controller::Arguments),
    /// Runs listeners until it is told to stop.
    Run(run::Arguments),
    /// Starts a local Redis Cluster and an order service, creates orders, kills a master, and shows that nothing is lost.
    Demo(demo::Arguments),
    /// Tells whether listeners can run here, and what to do if not.
    Check(check::Arguments),
    /// Shows, replays or purges the events that could not be delivered.
    DeadLetters(dead_letters::Arguments),
    /// Prints the CustomResourceDefinition.
    Crd(crd::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The demo breaks things on purpose; what its clients say to that would bury the show.
    let quiet = matches!(&arguments.command, Command::Demo(it) if it.part.is_none()).then_some("error");
    let ended = logs::install(arguments.log.as_deref().or(quiet), arguments.log_format).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            match arguments.command {
                Command::Controller(arguments) => Box::pin(controller::controller(arguments)).await,
                Command::Run(arguments) => run::run(arguments).await,
                Command::Check(arguments) => Box::pin(check::check(arguments)).await,
                Command::Demo(arguments) => demo::demo(arguments).await,
                Command::DeadLetters(arguments) => dead_letters::dead_letters(arguments).await,
                Command::Crd(arguments) => crd::crd(&arguments),
            }
        });
        // Nothing is waited for that was not waited for above: a second signal means now.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
