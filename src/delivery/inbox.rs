//! What the driver is told by others, who never wait for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::Settings;
use crate::model::Event;

/// What others left for the driver.
#[derive(Default)]
pub struct Letters {
    /// At most the inbox's capacity; what came beyond it lies in the outbox.
    pub events: Vec<Event>,
    /// The outbox holds something that was not told.
    pub look_again: bool,
    /// The latest only.
    pub settings: Option<Settings>,
    /// Take no more; let attempts end for so long.
    pub drain: Option<Duration>,
}

pub struct Inbox {
    capacity: usize,
    letters: Mutex<Letters>,
    arrived: Notify,
}

impl Inbox {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, letters: Mutex::default(), arrived: Notify::new() }
    }

    pub fn offer(&self, mut events: Vec<Event>) {
        let mut letters = self.lock();
        let room = self.capacity - letters.events.len();
        if events.len() > room {
            events.truncate(room);
            letters.look_again = true;
        }
        if letters.events.is_empty() {
            letters.events = events;
        } else {
            letters.events.append(&mut events);
        }
        drop(letters);
        self.arrived.notify_one();
    }

    pub fn change(&self, change: impl FnOnce(&mut Letters)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    pub fn take(&self) -> Letters {
        std::mem::take(&mut *self.lock())
    }

    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Nobody can leave half a change behind, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
