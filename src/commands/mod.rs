//! One file a command; each is a composition root. Here they are told apart.

use std::process::ExitCode;

pub mod check;
pub mod controller;
pub mod crd;
pub mod dead_letters;
pub mod demo;
mod ending;
pub mod load;
pub mod output;
pub mod run;
mod web;

/// What the command line asks for.
#[derive(clap::Subcommand)]
pub enum Command {
    /// The operator: runs the listeners of a Kubernetes cluster, as one of several replicas that share them.
    Controller(controller::Arguments),
    /// Runs listeners until it is told to stop.
    Run(run::Arguments),
    /// Starts a local Redis and an order service, creates orders, kills a master, and shows that nothing is lost.
    Demo(demo::Arguments),
    /// Tells whether listeners can run here, and what to do if not.
    Check(check::Arguments),
    /// Shows, replays or purges the events that could not be delivered.
    DeadLetters(dead_letters::Arguments),
    /// Prints the CustomResourceDefinition.
    Crd(crd::Arguments),
}

impl Command {
    /// Until it has ended, on a runtime of its own. Not in main.rs: a future is compiled where it is polled.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            match self {
                Self::Controller(arguments) => Box::pin(controller::controller(arguments)).await,
                Self::Run(arguments) => run::run(arguments).await,
                Self::Check(arguments) => Box::pin(check::check(arguments)).await,
                Self::Demo(arguments) => demo::demo(arguments).await,
                Self::DeadLetters(arguments) => dead_letters::dead_letters(arguments).await,
                Self::Crd(arguments) => crd::crd(&arguments),
            }
        });
        // Nothing is waited for that was not waited for above: a second signal means now.
        runtime.shutdown_background();
        ended
    }
}
