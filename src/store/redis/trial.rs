//! What a listener's store would meet, tried without opening it: for `check`.
//!
//! # Guarantees
//! - No partition is made, no epoch is taken, no lifetime is changed: whoever owns the listener goes on.
//! - What is written is written and removed within one script, on keys that no store has.

use std::collections::BTreeMap;

use redis::Value;
use tokio::time::Instant;

use super::{
    facts::{self, Facts},
    link::{Call, Link},
    mend::{SCHEMA, as_many},
    names::Names,
    refusal::{Refusal, classify},
    reply,
    script::{HEAD, TRIAL},
    settings::Settings,
    upkeep::Policy,
};
use crate::{
    model::{Address, ListenerId},
    store::{Durability, StoreError},
};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The masters that have the partitions, as far as they may be asked what they are.
    pub servers: Vec<Address>,
    /// What the user may not, each once.
    pub refused: Vec<Refused>,
    /// `None`: INFO is denied, so neither this nor the eviction policy is known.
    pub durability: Option<Durability>,
    /// Some masters evict keys that have a TTL: ours will have none.
    pub evicts_volatile: bool,
    /// Partitions of this listener that are there already, and of how many.
    pub present: (usize, usize),
}

/// A command that is denied within a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub command: String,
    pub why: String,
}

/// Tries all that a store needs, on each of the masters that it would lie on.
///
/// # Errors
/// As opening it would fail, but for rights within scripts, which [`Trial::refused`] lists all at once.
pub async fn trial(settings: Settings, listener: &ListenerId) -> Result<Trial, StoreError> {
    let names = Names::of(listener, settings.partitions);
    let mut tried =
        Trying { link: Link::new(settings.clone()), settings, servers: BTreeMap::new(), refused: Vec::new() };
    let (mut present, mut silent) = (0, false);
    // One after the other: what keeps the first from answering would keep the others.
    for names in &names {
        silent |= !tried.facts(names).await?;
        tried.commands(names).await?;
        present += usize::from(tried.is_there(names).await?);
    }
    let servers: Vec<(Address, Facts)> = tried.servers.into_iter().collect();
    Ok(Trial {
        durability: (!silent).then(|| facts::durability(&servers)),
        evicts_volatile: servers.iter().any(|(_, facts)| facts.policy == Policy::EvictsVolatile),
        servers: servers.into_iter().map(|(address, _)| address).collect(),
        refused: tried.refused,
        present: (present, names.len()),
    })
}

struct Trying {
    link: Link,
    settings: Settings,
    servers: BTreeMap<Address, Facts>,
    refused: Vec<Refused>,
}

impl Trying {
    fn until(&self) -> Instant {
        Instant::now() + self.settings.patience
    }

    /// Whether the partition's master says what it is. One that would evict the ledger is an error.
    async fn facts(&mut self, names: &Names) -> Result<bool, StoreError> {
        match self.link.facts(names.slot, self.settings.policy_check, self.until()).await {
            Ok((node, facts)) => {
                facts.policy.clone().trusted(&node)?;
                self.servers.insert(node, facts);
                Ok(true)
            }
            Err(StoreError::Denied(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tries the commands, if what they put there can be taken away.
    async fn commands(&mut self, names: &Names) -> Result<(), StoreError> {
        if self.refusals(names, "sweep").await? { Ok(()) } else { self.refusals(names, "all").await.map(drop) }
    }

    /// Whether any was refused.
    async fn refusals(&mut self, names: &Names, which: &str) -> Result<bool, StoreError> {
        let keys: Vec<String> = names.keys.first().map(|head| scratch(head)).into_iter().collect();
        let call = Call { slot: names.slot, script: &TRIAL, keys: &keys, args: &[which.into()] };
        let answer = self.link.run(&call, self.until()).await?;
        for pair in answer.chunks(2) {
            let [Some(command), Some(why)] = [0, 1].map(|at| pair.get(at).and_then(reply::text)) else {
                return Err(reply::unexpected(&answer));
            };
            match told(command, why).into_error() {
                StoreError::Denied(why) => {
                    let refused = Refused { command: command.to_lowercase(), why };
                    if self.refused.iter().all(|known| known.command != refused.command) {
                        self.refused.push(refused);
                    }
                }
                other => return Err(other),
            }
        }
        Ok(!answer.is_empty())
    }

    /// Whether the partition is there, as a program of this release knows it.
    async fn is_there(&self, names: &Names) -> Result<bool, StoreError> {
        let call = Call { slot: names.slot, script: &HEAD, keys: &names.keys, args: &[] };
        let answer = match self.link.run(&call, self.until()).await {
            // What it may not is listed already.
            Err(StoreError::Denied(_)) if !self.refused.is_empty() => return Ok(false),
            answer => answer?,
        };
        let fields: Vec<&Value> = match answer.get(2) {
            Some(Value::Array(fields)) => fields.iter().collect(),
            Some(Value::Map(fields)) => fields.iter().flat_map(|(name, value)| [name, value]).collect(),
            _ => return Err(reply::unexpected(&answer)),
        };
        let number = |wanted: &str| {
            let field = fields.chunks(2).find(|pair| pair.first().and_then(|name| reply::text(name)) == Some(wanted));
            field.and_then(|pair| reply::number(pair.get(1)?))
        };
        let Some(found) = number("schema") else { return Ok(false) };
        if found > SCHEMA {
            let path = names.keys.first().cloned().unwrap_or_default().into();
            return Err(StoreError::Newer { path, found, known: SCHEMA });
        }
        as_many(number("partitions"), self.settings.partitions)?;
        Ok(true)
    }
}

/// Beside the partition's keys, in the same slot.
fn scratch(head: &str) -> String {
    let tag = head.rsplit_once('}').map_or(head, |(tag, _)| tag);
    format!("{tag}}}trial")
}

/// What an error that a script was told means: it comes without what the protocol puts before it, and before 7.0 without a code.
fn told(command: &str, error: &str) -> Refusal {
    let error = error.trim_start_matches('-').replace(['\r', '\n'], " ");
    let first = error.split(' ').next().unwrap_or_default();
    let has_code = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_uppercase());
    let line = if has_code { format!("-{error}\r\n") } else { format!("-ERR {error}\r\n") };
    match redis::parse_redis_value(line.as_bytes()) {
        Ok(Value::ServerError(error)) => classify(&error.into(), command),
        _ => Refusal::Lasting(StoreError::Refused(format!("{command}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::slot_of;

    /// What the scripts beside this file call.
    fn commands_of(source: &str) -> BTreeSet<String> {
        let after = |opening: &str| -> Vec<String> {
            let calls = source.split(opening).skip(1);
            calls.filter_map(|rest| Some(rest.split_once('\'')?.0.to_owned())).collect()
        };
        [after("call('"), after("all('"), after("try('")].concat().into_iter().collect()
    }

    #[test]
    fn every_command_of_the_scripts_is_tried_and_no_other() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis/lua");
        let mut used = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("trial.lua") {
                used.extend(commands_of(&std::fs::read_to_string(path).unwrap()));
            }
        }
        assert!(used.len() > 15, "{used:?}");
        assert_eq!(commands_of(TRIAL.source), used);
    }

    #[test]
    fn the_key_that_is_tried_lies_with_the_partition_and_is_none_of_it() {
        for names in Names::of(&ListenerId::new("shop", "orders"), 4) {
            let key = scratch(&names.keys[0]);
            assert_eq!(slot_of(key.as_bytes()), names.slot);
            assert!(!names.keys.contains(&key) && key.starts_with(super::super::PREFIX), "{key}");
        }
    }

    #[test]
    fn what_a_script_is_told_is_understood_whatever_stands_before_it() {
        for denied in [
            "NOPERM this user has no permissions to run the 'zadd' command",
            "-NOPERM this user has no permissions to run the 'zadd' command",
            "ERR ACL failure in script: User rx has no permissions to run the 'zadd' command",
            "ERR The user executing the script can't run this command or subcommand",
            "@user_script: 5: The user executing the script can't run this command or subcommand",
            "ERR unknown command 'ZADD', with args beginning with:",
        ] {
            assert!(matches!(told("ZADD", denied).into_error(), StoreError::Denied(_)), "{denied}");
        }
        let full = told("ZADD", "OOM command not allowed when used memory > 'maxmemory'.").into_error();
        assert!(matches!(full, StoreError::OutOfMemory(_)));
        assert!(matches!(told("ZADD", "").into_error(), StoreError::Refused(_)));
    }
}
