//! The watches, and the loop that drains them.

use std::{collections::HashSet, fmt::Debug, sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::{self, Action, Controller},
        reflector::{self, ObjectRef},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    membership::Member,
    permits,
    reconcile::{Guarded, ReconcileError, again, object_of, reconcile, removed, unwatched},
    triggers::{self, Outlet},
    watching::{News, touched, watching},
};
use crate::{
    api::{RedisExpiryListener, RefKind},
    meters,
    model::ListenerId,
};

/// So many listeners may wait to be looked at again.
const WAITING: usize = 256;
/// So many listeners of a scope are reconciled at once.
pub(super) const AT_ONCE: u16 = 64;
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);

/// Whether every object has been seen once.
pub type Synced = watch::Receiver<bool>;

type Outcome = Result<(ObjectRef<Guarded>, Action), controller::Error<ReconcileError, watcher::Error>>;

/// Reconciles until `stop`; what runs goes on running. `beat` is called whenever the loop comes round.
pub async fn run(context: Arc<Context>, synced: watch::Sender<bool>, beat: impl Fn() + Send, stop: CancellationToken) {
    let scopes: Vec<Option<String>> = match context.settings.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let mut tasks = JoinSet::new();
    let (mut outlets, mut streams, mut listings) = (Vec::new(), Vec::new(), Vec::new());
    let mut stores = Vec::new();
    for namespace in scopes {
        let (tell, told) = mpsc::channel(WAITING);
        outlets.push(Outlet { namespace: namespace.clone(), tell });
        let (listing, store, stream) = scope(&context, namespace.as_deref(), told, stop.clone());
        listings.push(listing);
        stores.push(store);
        streams.push(stream);
    }
    tasks.spawn(triggers::run(Arc::clone(&context), outlets, stop.clone()));
    tasks.spawn(permits::run(Arc::clone(&context), stop.clone()));
    tasks.spawn(async move {
        for mut scope in listings {
            // It fails when the watch has ended: then nothing is synced any more.
            if scope.wait_for(|synced| *synced).await.is_err() {
                return;
            }
        }
        synced.send_replace(true);
        synced.closed().await;
    });
    let leaving = Leaving::of(stores);
    let mut all = stream::select_all(streams);
    let mut tick = tokio::time::interval(AGAIN);
    loop {
        tokio::select! {
            outcome = all.next() => match outcome {
                None => break,
                Some(outcome) => handle(&context, &leaving, &mut tasks, outcome),
            },
            _ = tick.tick() => {
                context.meters.watched.set(leaving.watched.iter().map(reflector::Store::len).sum());
                context.meters.replicas.set(context.roster.borrow().members.len());
            }
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "A task of the controller failed; the process ends.");
                return;
            },
        }
        beat();
    }
    tasks.shutdown().await;
}

fn scope(
    context: &Arc<Context>,
    namespace: Option<&str>,
    told: mpsc::Receiver<ObjectRef<Guarded>>,
    stop: CancellationToken,
) -> (Synced, reflector::Store<Guarded>, BoxStream<'static, Outcome>) {
    let client = context.client.clone();
    let mut config = watcher::Config::default();
    if let Some(selector) = &context.settings.selector {
        config = config.labels(selector);
    }
    // `Controller::new` passes over deletions. Whether it has synced is told by the events themselves: of those who wait for a
    // kube `Store` to be ready, one alone is woken.
    let (reader, writer) = reflector::store();
    let (tell_synced, synced) = watch::channel(false);
    let listeners = watching("listeners", api::<Guarded>(client.clone(), namespace), config);
    let objects = touched(listeners, writer, tell_synced);
    let at_once = controller::Config::default().concurrency(AT_ONCE);
    let secrets = api::<PartialObjectMeta<Secret>>(client.clone(), namespace);
    let config_maps = api::<PartialObjectMeta<ConfigMap>>(client, namespace);
    let stream = Controller::for_stream(objects.map(Ok), reader.clone())
        .with_config(at_once)
        .reconcile_on(users(context, RefKind::Secret, namespace, secrets))
        .reconcile_on(users(context, RefKind::ConfigMap, namespace, config_maps))
        .reconcile_on(stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }))
        .reconcile_all_on(members(context))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, again, Arc::clone(context));
    (synced, reader, stream.boxed())
}

fn api<K>(client: kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// The listeners that name an object of this kind, whenever one that they name has changed.
fn users<K>(
    context: &Arc<Context>,
    kind: RefKind,
    within: Option<&str>,
    objects: Api<K>,
) -> impl Stream<Item = ObjectRef<Guarded>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (context, within) = (Arc::clone(context), within.map(ToOwned::to_owned));
    let what = match kind {
        RefKind::Secret => "Secrets",
        RefKind::ConfigMap => "ConfigMaps",
    };
    let mut listed = HashSet::new();
    let named = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    let concerned = watching(what, objects, watcher::Config::default()).map(move |news| {
        let references = &context.references;
        let listeners: Vec<ListenerId> = match news {
            News::Event(Event::Apply(object) | Event::Delete(object)) => {
                let (namespace, name) = named(&object);
                references.changed(kind, &namespace, &name)
            }
            News::Event(Event::InitApply(object)) => {
                let (namespace, name) = named(&object);
                let users = references.changed(kind, &namespace, &name);
                listed.insert((namespace, name));
                users
            }
            News::Event(Event::Init) => {
                listed.clear();
                Vec::new()
            }
            News::Event(Event::InitDone) => {
                references.listed(kind, within.as_deref(), &std::mem::take(&mut listed)).into_iter().collect()
            }
            News::Refused => {
                references.doubt(kind, within.as_deref());
                Vec::new()
            }
        };
        stream::iter(listeners.iter().map(object_of).collect::<Vec<_>>())
    });
    concerned.flatten()
}

/// An item whenever other replicas are alive than before.
fn members(context: &Context) -> impl futures_util::Stream<Item = ()> + Send + 'static {
    let known: std::collections::BTreeSet<Member> = std::collections::BTreeSet::new();
    stream::unfold((context.roster.clone(), known), |(mut roster, known)| async move {
        loop {
            let now = roster.borrow_and_update().members.clone();
            if now != known {
                return Some(((), (roster, now)));
            }
            roster.changed().await.ok()?;
        }
    })
}

fn handle(context: &Arc<Context>, leaving: &Leaving, tasks: &mut JoinSet<()>, outcome: Outcome) {
    match outcome {
        // A failure is logged where it is put off.
        Ok(_) => context.meters.reconciles.add(meters::Outcome::Ok, 1),
        Err(controller::Error::ReconcilerFailed(..)) => context.meters.reconciles.add(meters::Outcome::Error, 1),
        Err(controller::Error::ObjectNotFound(object)) => {
            let id = ListenerId::new(object.namespace.as_deref().unwrap_or("default"), &object.name);
            tasks.spawn(gone(Arc::clone(context), leaving.clone(), id));
        }
        // No watch of ours ends, and none passes on its failures.
        Err(error) => tracing::error!(%error, "The controller's loop failed."),
    }
}

/// What is asked about those that left the watch.
#[derive(Clone)]
pub(super) struct Leaving {
    /// Those that are watched.
    watched: Arc<[reflector::Store<Guarded>]>,
    /// A namespace with a thousand of them may be deleted at once.
    room: Arc<Semaphore>,
}

impl Leaving {
    pub(super) fn of(watched: Vec<reflector::Store<Guarded>>) -> Self {
        Self { watched: watched.into(), room: Arc::new(Semaphore::new(AT_ONCE.into())) }
    }

    fn is_back(&self, id: &ListenerId) -> bool {
        self.watched.iter().any(|store| store.get(&object_of(id)).is_some())
    }
}

/// An object left the watch: deleted, or its labels have changed. Only the API server's word that there is none, or that
/// another has its name, removes what is kept.
pub(super) async fn gone(context: Arc<Context>, leaving: Leaving, id: ListenerId) {
    let api = Api::<PartialObjectMeta<RedisExpiryListener>>::namespaced(context.client.clone(), id.namespace());
    let Some(uid) = context.turns.take(&id).await.uid().map(ToOwned::to_owned) else { return };
    loop {
        // It is closed by nobody, so this does not fail.
        let room = leaving.room.acquire().await;
        let found = timeout(PATIENCE, api.get_metadata_opt(id.name())).await;
        drop(room);
        let mut turn = context.turns.take(&id).await;
        // Made anew meanwhile, it is another object, and its reconciliation has known what to do with the old one.
        if turn.uid() != Some(&uid) {
            return;
        }
        match found {
            Ok(Ok(Some(object))) if object.metadata.uid.as_deref() == Some(&uid) => {
                let labelled = context.settings.selector.is_some();
                // Labelled again it is watched again, and has been reconciled or is about to be: nobody would begin it anew.
                if labelled && object.metadata.deletion_timestamp.is_none() && !leaving.is_back(&id) {
                    unwatched(&context, &id, &mut turn).await;
                }
                return;
            }
            Ok(Ok(_)) => return removed(&context, &id, &mut turn).await,
            Ok(Err(error)) => tracing::debug!(listener = %id, %error, "Whether it was deleted is not known yet."),
            Err(_) => {}
        }
        drop(turn);
        sleep(AGAIN).await;
    }
}
