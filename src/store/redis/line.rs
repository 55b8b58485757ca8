//! The connection to one node, for all who ask it.
//!
//! # Guarantees
//! - One task connects at a time, and those that wait get what came of it: a node that is down is dialled once, not once by
//!   each partition of each listener.
//! - Who found a connection broken ends that one, and not the one that another has made since.
//! - A node is silent when it answers nobody. Answers come in the order of what was asked, so while others get theirs, ours is
//!   on its way: with hundreds of listeners on a busy machine, one that ended the connection would take everybody's answers
//!   with it, and all would ask anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{RedisError, Value, cmd};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    refusal::{Refusal, classify},
    routes::{Routes, strange},
    settings::{Mode, Settings},
};
use crate::{
    dial::{Connection, Login, is_broken},
    model::Address,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_millis(750);
/// A node that took no connection is dialled again after this.
const APART: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// How many there were.
    made: u64,
    failed: Option<(Instant, Refusal)>,
}

/// A connection, and which of those to its node it is.
#[derive(Clone)]
pub(super) struct Open {
    number: u64,
    pub connection: Connection,
    pub heard: Heard,
}

/// When anybody was last answered on a connection.
#[derive(Clone)]
pub(super) struct Heard {
    opened: Instant,
    /// Microseconds since then.
    last: Arc<AtomicU64>,
}

impl Heard {
    fn new() -> Self {
        Self { opened: Instant::now(), last: Arc::default() }
    }
    pub fn answered(&self) {
        let since = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(since, Ordering::Relaxed);
    }
    pub fn last(&self) -> Instant {
        self.opened + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}

impl Line {
    pub async fn open(&self, node: &Address, settings: &Settings, routes: &Routes) -> Result<Open, Refusal> {
        let mut state = self.0.lock().await;
        if let Some(open) = &state.open {
            return Ok(open.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < APART
        {
            return Err(why.clone());
        }
        let silent = |_| Err(Refusal::Away(format!("{node} does not take connections")));
        let connected = timeout(CONNECT, connect(node, settings, routes)).await.unwrap_or_else(silent);
        match connected {
            Ok(connection) => {
                state.made += 1;
                let open = Open { number: state.made, connection, heard: Heard::new() };
                state.open = Some(open.clone());
                Ok(open)
            }
            Err(why) => {
                state.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// This one is of no use any more.
    pub async fn end(&self, broken: &Open) {
        let mut state = self.0.lock().await;
        if state.open.as_ref().is_some_and(|open| open.number == broken.number) {
            state.open = None;
        }
    }
}

/// To a node of the cluster, and to no other that has its address now.
async fn connect(node: &Address, settings: &Settings, routes: &Routes) -> Result<Connection, Refusal> {
    let (username, password) = (settings.username.clone(), settings.password.clone());
    let login = Login { username, password, database: settings.database, tls: settings.tls.clone() };
    let refused = |error: RedisError| classify(&error, &node.to_string());
    // Who asks knows how long to wait.
    let mut connection = settings.dialler.redis(node, login, CONNECT * 9 / 10, None).await.map_err(refused)?;
    if settings.mode == Mode::Cluster {
        match cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await {
            Ok(answer) if !routes.admits(&answer) => return Err(strange(node)),
            Err(error) if is_broken(&error) => return Err(refused(error)),
            // What it refuses it will refuse again, to who can say so.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(connection)
}
