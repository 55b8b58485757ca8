//! Opens a listener's store, and becomes its owner.

use std::sync::Arc;

use crate::store::redis::{Links, Mode, RedisStore, Settings};
use crate::{
    dial::Dialler,
    model::ListenerId,
    plan::{self, RedisPlan, Secret, SentinelPlan, StorePlan},
    servers::Watched,
    store::{
        Epoch, Store, StoreError,
        sqlite::{Options, SqliteStore},
    },
};

/// What a store is opened with.
pub(super) struct Opening {
    /// The store of a listener whose store is memory.
    pub memory: Arc<dyn Store>,
    pub links: Arc<Links>,
    /// Opens every connection of the listener that is not its deployment's.
    pub dialler: Dialler,
}

impl Opening {
    pub async fn open(&self, listener: &ListenerId, plan: &StorePlan) -> Result<(Arc<dyn Store>, Epoch), StoreError> {
        let store: Arc<dyn Store> = match plan {
            StorePlan::Memory => Arc::clone(&self.memory),
            StorePlan::Local { path } => {
                let path = path.clone();
                let opening = tokio::task::spawn_blocking(move || SqliteStore::open(&path, &Options::default()));
                Arc::new(opening.await.map_err(|error| StoreError::Unavailable(error.to_string()))??)
            }
            StorePlan::Redis { redis } => {
                Arc::new(RedisStore::open_over(&self.links, settings(redis, &self.dialler), listener).await?)
            }
        };
        let epoch = store.take_epoch().await?;
        Ok((store, epoch))
    }
}

/// How the Redis of a store is reached. The same for two that list the same addresses, so that they share their connections.
pub fn settings(plan: &RedisPlan, dialler: &Dialler) -> Settings {
    let plan = plan.in_any_order();
    let mode = match plan.mode {
        plan::Mode::Cluster => Mode::Cluster,
        plan::Mode::Standalone => Mode::Single,
        plan::Mode::Sentinel(SentinelPlan { master_name, username, password, tls }) => {
            Mode::Sentinel(Watched { master_name, username, password: password.as_ref().map(Secret::text), tls })
        }
    };
    Settings {
        dialler: dialler.clone(),
        address_map: plan.address_map,
        username: plan.username,
        password: plan.password.as_ref().map(Secret::text),
        tls: plan.tls,
        database: plan.database,
        ..Settings::new(mode, plan.addresses)
    }
}
