//! `dead-letters list|replay|purge`: the parked events, through the admin socket of the running process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand};

use super::output::{Output, say};
use crate::{
    model::ListenerId,
    telemetry::admin::{Client, DeadLetterView, Request, Scope, Settled, socket},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows them, the oldest first.
    List {
        #[command(flatten)]
        place: Place,
        /// At most so many of each listener.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Puts them back into the outbox, to be delivered as if never tried. The ids stay the same. Those that are older than
    /// spec.delivery.deadline are tried once more each: raise it first.
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
    /// Removes them for good.
    Purge {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// That of the running process.
    #[arg(long, value_name = "DIR", default_value = "./redis-expiry-state")]
    state_dir: PathBuf,
    /// Default: every listener's.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = listener)]
    listener: Option<ListenerId>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    #[arg(long)]
    all: bool,
    /// Ids as `list` shows them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

fn listener(text: &str) -> Result<ListenerId, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ListenerId::new(namespace, name))
        }
        None if !text.is_empty() => Ok(ListenerId::new("default", text)),
        _ => Err("write namespace/name".to_owned()),
    }
}

pub async fn dead_letters(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::List { place, limit } => list(&place, limit).await,
        Action::Replay { place, which } => {
            let request = which.request(&place);
            let settled = client(&place).await?.replay(&request).await?;
            done(&place, &request, settled, "replayed")
        }
        Action::Purge { place, which } => {
            let request = which.request(&place);
            let settled = client(&place).await?.purge(&request).await?;
            done(&place, &request, settled, "purged")
        }
    }
}

impl Which {
    fn request(self, place: &Place) -> Request {
        Request { listener: place.listener.clone(), ids: (!self.all).then_some(self.ids) }
    }
}

async fn client(place: &Place) -> anyhow::Result<Client> {
    Ok(Client::connect(socket(&place.state_dir)).await?)
}

async fn list(place: &Place, limit: usize) -> anyhow::Result<ExitCode> {
    let scope = Scope { listener: place.listener.clone(), limit: Some(limit) };
    let letters = client(place).await?.list(&scope).await?;
    match place.output {
        Output::Json => {
            for letter in &letters.dead_letters {
                say(&serde_json::to_string(letter)?);
            }
        }
        Output::Text if letters.dead_letters.is_empty() => say("no dead letters"),
        Output::Text => table(&letters.dead_letters),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(letters: &[DeadLetterView]) {
    let shown = |letter: &DeadLetterView| letter.key.clone().or(letter.key_base64.clone()).unwrap_or_default();
    let width = |of: fn(&DeadLetterView) -> usize, least: usize| letters.iter().map(of).max().unwrap_or(0).max(least);
    let listener = width(|letter| letter.listener.as_str().len(), 8);
    let key = letters.iter().map(|letter| shown(letter).chars().count()).max().unwrap_or(0).max(3);
    say(&format!("{:<36}  {:<listener$}  {:<key$}  {:<24}  TRIES  REASON", "ID", "LISTENER", "KEY", "DEADLINE"));
    for letter in letters {
        say(&format!(
            "{:<36}  {:<listener$}  {:<key$}  {:<24}  {:>5}  {}",
            letter.id,
            letter.listener.as_str(),
            shown(letter),
            letter.deadline,
            letter.attempts,
            letter.reason
        ));
    }
}

fn done(place: &Place, request: &Request, settled: Settled, what: &str) -> anyhow::Result<ExitCode> {
    match place.output {
        Output::Json => say(&serde_json::to_string(&settled)?),
        Output::Text => say(&format!("{} {what}", settled.count)),
    }
    // An id that was mistyped, or replayed already, is not passed over in silence.
    if let Some(ids) = &request.ids
        && settled.count < ids.len() as u64
    {
        bail!(
            "{} of {} ids: no such dead letters of a listener that runs here; see `dead-letters list`",
            ids.len() as u64 - settled.count,
            ids.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}
