//! Which server has the store, outside of a cluster: the master, as far as they say.
//!
//! # Guarantees
//! - A master is left for one that was promoted from it within [`APART`] and the time that the servers take to say so, though it
//!   goes on taking writes: what it took since then would be gone when it learns of that.

use std::{
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use redis::cmd;
use tokio::time::{Instant, sleep};

use super::{link::Link, refusal::Refusal, settings::Settings};
use crate::{
    model::{Address, Fault, FaultCategory},
    servers::{Answer, Memory, Reach, Sentinels, Server, parse_info},
    store::StoreError,
};

/// How often they are asked.
const APART: Duration = Duration::from_secs(1);

pub(super) struct Servers {
    memory: Mutex<Memory>,
    /// An older answer is not to be taken for a newer one.
    asking: tokio::sync::Mutex<()>,
    /// Who say which of them is the master, where there are such.
    sentinels: Option<tokio::sync::Mutex<Sentinels>>,
}

impl Servers {
    pub fn new(settings: &Settings) -> Self {
        let sentinels = settings.sentinel.clone().map(|(master_name, username, password)| {
            let (addresses, address_map) = (settings.addresses.clone(), settings.address_map.clone());
            let dialler = settings.dialler.clone();
            let reach = Reach { addresses, address_map, master_name, username, password, dialler };
            tokio::sync::Mutex::new(Sentinels::new(reach))
        });
        Self { memory: Mutex::default(), asking: tokio::sync::Mutex::default(), sentinels }
    }

    /// Asks all that are known, and takes down the master's address.
    pub async fn ask(&self, link: &Link, until: Instant) -> Result<Address, Refusal> {
        let _asking = self.asking.lock().await;
        // As long as one that answers anybody may take: one that hangs is not waited for longer.
        let until = until.min(Instant::now() + link.settings.attempt * 5 / 4);
        let said = match &self.sentinels {
            Some(sentinels) => {
                Some(Box::pin(async { sentinels.lock().await.ask().await }).await.map_err(|fault| refusal(&fault))?)
            }
            None => None,
        };
        let whom = self.memory().whom(said.as_ref().map_or(&link.settings.addresses, |said| &said.servers));
        let named = said.and_then(|said| said.named);
        let asked = join_all(whom.into_iter().map(|address| async move {
            let asked_at = Instant::now();
            let server = ask(link, &link.routes.mapped(&address), until).await;
            (address, asked_at, server)
        }));
        let (mut answers, mut refused) = (Vec::new(), Refusal::Away("it has no servers".to_owned()));
        for (address, asked_at, server) in asked.await {
            // What stays so until somebody does something is told rather than who is away.
            if let Err(why) = &server
                && !matches!(refused, Refusal::Lasting(_))
            {
                refused = why.clone();
            }
            answers.push(Answer { address, asked_at, server: server.ok() });
        }
        if answers.iter().all(|answer| answer.server.is_none()) {
            return Err(refused);
        }
        let settled = self.memory().settle(Instant::now(), &answers, named.as_ref());
        let master = settled.servers.iter().find(|server| Some(&server.id) == settled.master.as_ref());
        let Some(address) = master.and_then(|master| master.addresses.first()) else {
            let why = settled.error.map_or_else(|| "it has no master".to_owned(), |error| error.to_string());
            return Err(if matches!(refused, Refusal::Lasting(_)) { refused } else { Refusal::Busy(why) });
        };
        link.routes.all_at(address);
        Ok(link.routes.mapped(address))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why sentinels name nobody.
fn refusal(fault: &Fault) -> Refusal {
    let why = fault.to_string();
    match fault.category {
        FaultCategory::Authentication => Refusal::Lasting(StoreError::Authentication(why)),
        FaultCategory::Permission => Refusal::Lasting(StoreError::Denied(why)),
        FaultCategory::EgressRefused => Refusal::Egress(why),
        _ => Refusal::Away(why),
    }
}

async fn ask(link: &Link, address: &Address, until: Instant) -> Result<Server, Refusal> {
    let mut info = String::new();
    // One by one: before 7.0, INFO takes one section.
    for section in ["server", "replication"] {
        let answer = link.attempt(address, cmd("INFO").arg(section), false, until).await?;
        let text: String = redis::from_redis_value(answer).map_err(|error| Refusal::Busy(error.to_string()))?;
        info.push_str(&text);
        info.push('\n');
    }
    parse_info(&info).map_err(|what| Refusal::Busy(format!("{address}: {what}")))
}

/// Asks now and then, until the link is gone.
pub(super) async fn watch(link: Weak<Link>) {
    loop {
        sleep(APART).await;
        let Some(link) = link.upgrade() else { return };
        let until = Instant::now() + link.settings.patience;
        if let Err(why) = link.servers.ask(&link, until).await {
            tracing::debug!(?why, "The servers of a store do not say which of them is the master.");
        }
    }
}
