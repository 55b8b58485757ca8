//! What is remembered of each listener that is ours, and whose turn it is with it.
//!
//! A reconciliation and the news of a deletion may meet: each takes a turn, and looks at what the other has left. So what is
//! done about one object, known by its uid, is never done to another that has its name by now.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use super::context::Remembered;
use crate::model::ListenerId;

/// `None`: it is not ours.
type Slot = Arc<tokio::sync::Mutex<Option<Remembered>>>;

#[derive(Default)]
pub struct Turns(Mutex<HashMap<ListenerId, Slot>>);

/// Nobody else has to do with the listener until it is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    id: ListenerId,
    slot: OwnedMutexGuard<Option<Remembered>>,
}

impl Turns {
    /// Waits until nobody else has to do with the listener. Cancel-safe.
    pub async fn take(&self, id: &ListenerId) -> Turn<'_> {
        let slot = Arc::clone(self.slots().entry(id.clone()).or_default());
        Turn { turns: self, id: id.clone(), slot: slot.lock_owned().await }
    }

    /// Counts one more failure; how many there are in a row.
    pub fn failed(&self, id: &ListenerId) -> u32 {
        let slots = self.slots();
        let Some(mut of) = slots.get(id).and_then(|slot| slot.try_lock().ok()) else { return 1 };
        let Some(of) = of.as_mut() else { return 1 };
        of.failures += 1;
        of.failures
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ListenerId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The object that it is.
    pub fn uid(&self) -> Option<&str> {
        self.slot.as_ref()?.uid.as_deref()
    }
}

impl Deref for Turn<'_> {
    type Target = Option<Remembered>;
    fn deref(&self) -> &Option<Remembered> {
        &self.slot
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Option<Remembered> {
        &mut self.slot
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut slots = self.turns.slots();
        // The map's and ours: else somebody waits for it.
        if self.slot.is_none() && Arc::strong_count(OwnedMutexGuard::mutex(&self.slot)) == 2 {
            slots.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_one_after_another_and_what_is_not_ours_leaves_nothing() {
        let (turns, id) = (Turns::default(), ListenerId::new("shop", "orders"));
        let mut first = turns.take(&id).await;
        let mut second = std::pin::pin!(turns.take(&id));
        assert!(second.as_mut().now_or_never().is_none());
        *first = Some(Remembered { uid: Some("one".into()), ..Remembered::default() });
        drop(first);
        let mut second = second.await;
        assert_eq!(second.uid(), Some("one"));
        *second = None;
        drop(second);
        assert!(turns.slots().is_empty());
        assert_eq!(turns.failed(&id), 1);
    }
}
