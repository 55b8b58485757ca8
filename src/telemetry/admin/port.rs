//! What the admin socket asks of the running listeners.

use std::{future::Future, pin::Pin, sync::Weak};

use crate::{
    listener::{Snapshots, Supervisor},
    model::ListenerId,
    store::{DeadLetter, Selection, StoreError},
};

/// What to do with a listener's dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// At most so many.
    List(usize),
    Replay(Selection),
    Purge(Selection),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Letters(Vec<DeadLetter>),
    Count(u64),
}

/// `None`: the listener has no store at the moment.
pub type Acting<'a> = Pin<Box<dyn Future<Output = Option<Result<Answer, StoreError>>> + Send + 'a>>;

/// The running listeners, as the admin socket sees them.
pub trait Parked: Send + Sync + 'static {
    fn snapshots(&self) -> Snapshots;
    fn act<'a>(&'a self, listener: &'a ListenerId, action: Action) -> Acting<'a>;
}

/// Those of a supervisor. Weak, for whoever owns it must be able to stop it while a request is under way.
pub struct Running(pub Weak<Supervisor>);

impl Parked for Running {
    fn snapshots(&self) -> Snapshots {
        self.0.upgrade().map(|supervisor| supervisor.snapshots().borrow().clone()).unwrap_or_default()
    }

    fn act<'a>(&'a self, listener: &'a ListenerId, action: Action) -> Acting<'a> {
        Box::pin(async move {
            let dead_letters = self.0.upgrade()?.dead_letters(listener)?;
            Some(match action {
                Action::List(limit) => dead_letters.list(limit).await.map(Answer::Letters),
                Action::Replay(which) => dead_letters.replay(which).await.map(Answer::Count),
                Action::Purge(which) => dead_letters.purge(which).await.map(Answer::Count),
            })
        })
    }
}
