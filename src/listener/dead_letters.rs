//! What an operator does with parked events.

use super::pipeline::Access;
use crate::store::{DeadLetter, Selection, StoreError};

/// A running listener's dead letters.
pub struct DeadLetters(pub(super) Access);

impl DeadLetters {
    /// The oldest `limit` of them.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.0.store.dead_letters(None, limit).await
    }
    /// Puts them back into the outbox as if never tried; says how many.
    pub async fn replay(&self, which: Selection) -> Result<u64, StoreError> {
        let count = self.0.store.replay(self.0.epoch, which).await?;
        if let Some(delivery) = self.0.delivery.upgrade() {
            delivery.wake();
        }
        Ok(count)
    }
    /// Removes them for good; says how many.
    pub async fn purge(&self, which: Selection) -> Result<u64, StoreError> {
        self.0.store.purge(self.0.epoch, which).await
    }
}
