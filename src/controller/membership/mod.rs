//! Which replicas of the operator are alive (DESIGN section 5). No leader: every replica renews a Lease of its own and watches
//! the others', and the store's epoch decides what this cannot. So its timings may be short, and nothing stops when the API
//! server does.

mod lease;
mod rendezvous;
mod roster;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
pub use rendezvous::owner;
pub use roster::Member;
use roster::Observer;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// One call to the API server.
const CALL: Duration = Duration::from_secs(2);

/// How membership is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this replica's pod.
    pub me: Member,
    /// Of that pod, which the Lease goes with; `None` where there is no pod.
    pub pod_uid: Option<String>,
    /// From one renewal of its Lease to the next.
    pub renew: Duration,
    /// Others whose Lease did not change for so long are dead.
    pub expiry: Duration,
}

/// Who is alive, as of when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Empty until something is known.
    pub members: BTreeSet<Member>,
    /// Everything that happened before is in it.
    pub read_at: Option<Instant>,
}

/// A running membership; it ends, without leaving, when it is dropped.
pub struct Membership {
    settings: Settings,
    leases: Api<Lease>,
    roster: watch::Receiver<Roster>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// What the two tasks share.
struct Shared {
    settings: Settings,
    observer: Mutex<Observer>,
    publish: watch::Sender<Roster>,
}

impl Shared {
    fn observe(&self, act: impl FnOnce(&mut Observer)) {
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut observer);
        let now = Roster { members: observer.live(), read_at: observer.read_at() };
        self.publish.send_if_modified(|roster| {
            if roster.members != now.members {
                tracing::info!(members = ?now.members, "The replicas that are alive.");
            }
            let changed = *roster != now;
            *roster = now;
            changed
        });
    }
}

impl Membership {
    /// Begins to watch, and to renew once this replica is `able` to run listeners; by a client that does not retry by itself
    /// (kube's retries last for up to 1000 s). `beat` is called whenever a task of it has come round.
    pub fn start(
        client: Client,
        namespace: &str,
        settings: Settings,
        able: watch::Receiver<bool>,
        beat: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let leases = Api::namespaced(client, namespace);
        let observer = Observer::new(settings.me.clone(), settings.expiry);
        let (publish, roster) = watch::channel(Roster::default());
        let shared = Arc::new(Shared { settings: settings.clone(), observer: Mutex::new(observer), publish });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(lease::renew(Arc::clone(&shared), leases.clone(), able, beat, stop.clone()));
        tasks.spawn(lease::watch(shared, leases.clone(), stop.clone()));
        Self { settings, leases, roster, tasks, stop }
    }

    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.roster.clone()
    }

    /// When a task has ended that should not have; says why.
    pub async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) => "it ended".to_owned(),
            None => std::future::pending().await,
        }
    }

    /// Stops renewing and takes the Lease away, so that the others take over at once.
    pub async fn leave(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let name = lease::name(&self.settings.me);
        match timeout(CALL, self.leases.delete(&name, &kube::api::DeleteParams::default())).await {
            Ok(Ok(_)) => tracing::info!("Handed over."),
            Ok(Err(error)) => {
                tracing::warn!(%error, "The Lease was not deleted; the others take over when it expires.");
            }
            Err(_) => tracing::warn!("The API server does not answer; the others take over when the Lease expires."),
        }
    }
}
