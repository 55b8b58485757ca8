//! An order service whose unpaid orders expire in Redis: `cargo run --example order-service -- --help`.

use clap::{Parser, Subcommand};

#[path = "mod.rs"]
mod order_service;

use order_service::{front, serve};

/// Takes orders, lets Redis expire the unpaid ones, and cancels them when the webhook says so.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Command {
    #[command(flatten)]
    serve: Option<serve::Arguments>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Only takes the webhooks, checks them and passes them on.
    Webhooks(front::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Command::parse();
    match (arguments.part, arguments.serve) {
        (Some(Part::Webhooks(arguments)), _) => front::serve(arguments).await,
        (None, Some(arguments)) => serve::serve(arguments).await,
        // Some of its arguments are required.
        (None, None) => anyhow::bail!("no arguments: see --help"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn its_arguments_are_sound() {
        super::Command::command().debug_assert();
    }
}
