//! Opens a listener's store, and becomes its owner.

use std::sync::Arc;

use crate::{
    model::ListenerId,
    plan::{RedisPlan, StorePlan},
    store::{
        Epoch, Store, StoreError,
        redis::{Links, Mode, RedisStore, Settings},
        sqlite::{Options, SqliteStore},
    },
};

/// What a store is opened with.
pub(super) struct Opening {
    /// The store of a listener whose store is memory.
    pub memory: Arc<dyn Store>,
    pub links: Arc<Links>,
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
                Arc::new(RedisStore::open_over(&self.links, settings(redis), listener).await?)
            }
        };
        let epoch = store.take_epoch().await?;
        Ok((store, epoch))
    }
}

fn settings(plan: &RedisPlan) -> Settings {
    Settings {
        address_map: plan.address_map.clone(),
        username: plan.username.clone(),
        password: plan.password.as_ref().map(|password| String::from_utf8_lossy(&password.0).into_owned()),
        ..Settings::new(Mode::Cluster, plan.addresses.clone())
    }
}
