//! Which server has the store, outside of a cluster: the master, as far as they say.
//!
//! # Guarantees
//! - A master is left for one that was promoted from it within [`APART`] and the time that the servers take to say so, though it
//!   goes on taking writes: what it took since then would be gone when it learns of that.

use std::{sync::Weak, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    link::Link,
    refusal::Refusal,
    settings::{Mode, Settings},
};
use crate::{
    model::{Address, Fault, FaultCategory},
    servers::{Answer, Memory, Reach, Sentinels, Server, parse_info},
    store::StoreError,
};

/// How often they are asked.
const APART: Duration = Duration::from_secs(1);

/// One asks at a time: an older answer is not to be taken for a newer one.
pub(super) struct Servers(Mutex<State>);

struct State {
    memory: Memory,
    /// Who say which of them is the master, where there are such.
    sentinels: Option<Sentinels>,
}

impl Servers {
    pub fn new(settings: &Settings) -> Self {
        let sentinels = match settings.mode.clone() {
            Mode::Cluster | Mode::Single => None,
            Mode::Sentinel(watched) => Some(Sentinels::new(Reach {
                addresses: settings.addresses.clone(),
                address_map: settings.address_map.clone(),
                watched,
                dialler: settings.dialler.clone(),
            })),
        };
        Self(Mutex::new(State { memory: Memory::default(), sentinels }))
    }

    /// Asks all that are known, and takes down the master's address.
    pub async fn ask(&self, link: &Link, until: Instant) -> Result<Address, Refusal> {
        let State { memory, sentinels } = &mut *self.0.lock().await;
        // As long as one that answers anybody may take: one that hangs is not waited for longer.
        let until = until.min(Instant::now() + link.settings.attempt * 5 / 4);
        let said = match sentinels {
            Some(sentinels) => Some(Box::pin(sentinels.ask()).await.map_err(|fault| refusal(&fault))?),
            None => None,
        };
        let whom = memory.whom(said.as_ref().map_or(&link.settings.addresses, |said| &said.servers));
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
        let settled = memory.settle(Instant::now(), &answers, named.as_ref());
        let master = settled.servers.iter().find(|server| Some(&server.id) == settled.master.as_ref());
        let Some(address) = master.and_then(|master| master.addresses.first()) else {
            let why = settled.error.map_or_else(|| "it has no master".to_owned(), |error| error.to_string());
            return Err(if matches!(refused, Refusal::Lasting(_)) { refused } else { Refusal::Busy(why) });
        };
        link.routes.all_at(address);
        Ok(link.routes.mapped(address))
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
    let info = link.info(address, &["server", "replication"], until).await?;
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
