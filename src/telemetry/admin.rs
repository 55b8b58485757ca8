//! The admin socket of a running process: `<state-dir>/admin.sock`, for the user that runs it alone.
//!
//! # Guarantees
//! - One process a state directory: the socket of a live one is never replaced, that of a dead one is.
//! - Snapshots hold no secret, and a dead letter is the event without what was answered.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

mod client;
mod port;
mod views;

pub use client::{Client, ClientError};
pub use port::{Action, Answer, Parked, Running};
pub use views::{DeadLetterView, Letters, Request, Scope, Settled};

use crate::{
    model::{EventId, ListenerId},
    store::{Selection, StoreError},
};

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Dead letters that are listed at once, of each listener.
pub const MOST_LISTED: usize = 10_000;

/// Where the socket of a state directory is.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// Makes the state directory and the socket in it.
///
/// # Errors
/// Another process listens there, or the directory cannot be written.
pub async fn bind(state_dir: &Path) -> anyhow::Result<UnixListener> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).with_context(|| {
        format!("creating --state-dir {}: give another directory if this user may not write there", state_dir.display())
    })?;
    let path = socket(state_dir);
    let shown = path.display();
    match timeout(Duration::from_secs(2), UnixStream::connect(&path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        // A socket that nobody listens at, left by a process that was killed.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).with_context(|| format!("removing {shown}, left by a process that has ended"))?;
        }
        Ok(Err(error)) => return Err(error).with_context(|| format!("looking for another process at {shown}")),
        Ok(Ok(_)) | Err(_) => bail!(
            "another process uses --state-dir {} (it answers at {shown}): stop it, or give this one a directory of its \
             own",
            state_dir.display()
        ),
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listening at {shown}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(|| format!("protecting {shown}"))?;
    Ok(listener)
}

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, parked: Arc<dyn Parked>, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/snapshot", get(snapshot))
        .route("/dead-letters", get(list))
        .route("/dead-letters/replay", post(replay))
        .route("/dead-letters/purge", post(purge))
        .with_state(parked);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

type Port = State<Arc<dyn Parked>>;

async fn snapshot(State(parked): Port) -> Json<Value> {
    Json(views::snapshots(&parked.snapshots()))
}

async fn list(State(parked): Port, Query(scope): Query<Scope>) -> Result<Json<Letters>, Refusal> {
    let limit = scope.limit.unwrap_or(MOST_LISTED).min(MOST_LISTED);
    let mut dead_letters = Vec::new();
    for listener in listeners(&*parked, scope.listener.as_ref())? {
        if let Answer::Letters(letters) = act(&*parked, &listener, Action::List(limit)).await? {
            dead_letters.extend(letters.iter().map(|letter| DeadLetterView::new(&listener, letter)));
        }
    }
    Ok(Json(Letters { dead_letters }))
}

async fn replay(State(parked): Port, Json(request): Json<Request>) -> Result<Json<Settled>, Refusal> {
    each(&*parked, request, Action::Replay).await
}

async fn purge(State(parked): Port, Json(request): Json<Request>) -> Result<Json<Settled>, Refusal> {
    each(&*parked, request, Action::Purge).await
}

async fn each(
    parked: &dyn Parked,
    request: Request,
    action: impl Fn(Selection) -> Action,
) -> Result<Json<Settled>, Refusal> {
    let selection = match request.ids {
        None => Selection::All,
        Some(ids) => Selection::Ids(ids.iter().map(|id| EventId::from(id.as_str())).collect()),
    };
    let mut done = 0;
    for listener in listeners(parked, request.listener.as_ref())? {
        if let Answer::Count(count) = act(parked, &listener, action(selection.clone())).await? {
            done += count;
        }
    }
    Ok(Json(Settled { count: done }))
}

/// The listeners that are meant: one that runs, or all that do.
fn listeners(parked: &dyn Parked, wanted: Option<&ListenerId>) -> Result<Vec<ListenerId>, Refusal> {
    let running: Vec<ListenerId> = parked.snapshots().keys().cloned().collect();
    match wanted {
        None => Ok(running),
        Some(wanted) if running.contains(wanted) => Ok(vec![wanted.clone()]),
        Some(wanted) => Err(Refusal::Unknown { wanted: wanted.clone(), running }),
    }
}

async fn act(parked: &dyn Parked, listener: &ListenerId, action: Action) -> Result<Answer, Refusal> {
    match timeout(PATIENCE, parked.act(listener, action)).await {
        Ok(Some(result)) => result.map_err(|error| Refusal::Store(listener.clone(), error)),
        Ok(None) => Err(Refusal::Holding(listener.clone())),
        Err(_) => Err(Refusal::Store(listener.clone(), StoreError::Unavailable(format!("no answer in {PATIENCE:?}")))),
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no listener {wanted} runs here; there are: {}", names(running))]
    Unknown { wanted: ListenerId, running: Vec<ListenerId> },
    #[error("listener {0} has no store at the moment; see what `run` says of it")]
    Holding(ListenerId),
    #[error("listener {0}: {1}")]
    Store(ListenerId, StoreError),
}

fn names(listeners: &[ListenerId]) -> String {
    if listeners.is_empty() {
        return "none".to_owned();
    }
    listeners.iter().map(ListenerId::as_str).collect::<Vec<_>>().join(", ")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Holding(_) => StatusCode::CONFLICT,
            Self::Store(..) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

#[cfg(test)]
mod tests;
