//! All namespaces of a server.
//!
//! The engine owns it as its `Application`, which `client` makes it. Namespaces are made by the
//! application's `of`; clients cause those of parents only (`children`), up to a bound. The factory
//! of an adapter and the hooks of new namespaces are the user's, and called without the lock.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::AtomicUsize,
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{task::JoinSet, time::timeout};

use super::{parent::ParentNamespace, rule::Rule};
use crate::{
    engine::Engine,
    seldom::{A_MINUTE, Seldom},
    server::{DisconnectReason, Namespace, Shared, namespace::name::with_slash, recovery::Ordered},
};

/// How long adapters may take to close, and logs to store what is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Is told of each new namespace.
type OnNew = dyn Fn(Namespace) + Send + Sync;

/// The namespaces of a server by their names.
pub(crate) struct Namespaces {
    pub(crate) shared: Arc<Shared>,
    by_name: RwLock<HashMap<Box<str>, Namespace>>,
    /// In the order of their registration.
    parents: ArcSwap<Vec<ParentNamespace>>,
    /// How many namespaces there are that clients have caused. Changed with the lock of all.
    pub(super) caused: AtomicUsize,
    /// Says that there are too many.
    pub(super) too_many_said: Seldom,
    hooks: ArcSwap<Vec<Arc<OnNew>>>,
    /// The engine that owns this, once there is one.
    engine: OnceLock<Weak<Engine>>,
    /// Itself, for the connections that it makes.
    pub(crate) this: Weak<Self>,
}

impl Namespaces {
    /// The main namespace alone: it is always there.
    pub(crate) fn new(shared: Shared) -> Arc<Self> {
        let namespaces = Arc::new_cyclic(|this| Self {
            shared: Arc::new(shared),
            by_name: RwLock::default(),
            parents: ArcSwap::default(),
            caused: AtomicUsize::new(0),
            too_many_said: Seldom::each(A_MINUTE),
            hooks: ArcSwap::default(),
            engine: OnceLock::new(),
            this: Weak::clone(this),
        });
        namespaces.of("/");
        namespaces
    }

    /// It is the application of this engine.
    pub(crate) fn set_engine(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.get()?.upgrade()
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Namespace>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Namespace>> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace of this name, made if there is none. It stays, also if it is a parent's.
    pub(crate) fn of(&self, name: &str) -> Namespace {
        let name = with_slash(name);
        if let Some(namespace) = self.read().get(&*name).inspect(|it| self.pin(it)).cloned() {
            return self.begun(namespace);
        }
        if name.contains([',', '?']) {
            // Those end the name in a packet.
            tracing::warn!(
                name,
                "no client can join a namespace with a comma or question mark"
            );
        }
        let parents = self.parents();
        let parent = parents.iter().find(|parent| match parent.rule() {
            Rule::Pattern(pattern) => pattern.fits(&name),
            Rule::Function(_) => false,
        });
        // Made before the lock is taken: the factory of its adapter is the user's.
        let made = self.make(&name, parent);
        made.set_pinned();
        let mut by_name = self.write();
        let namespace = by_name.entry(name.into()).or_insert(made).clone();
        // Another thread, or a client, may have been first.
        self.pin(&namespace);
        drop(by_name);
        self.begun(namespace)
    }

    pub(super) fn make(&self, name: &str, parent: Option<&ParentNamespace>) -> Namespace {
        Namespace::new(name, Weak::clone(&self.this), &self.shared, parent)
    }

    /// The namespace of this name, if it was made.
    pub(crate) fn get(&self, name: &str) -> Option<Namespace> {
        let namespace = self.read().get(name).cloned();
        namespace.map(|namespace| self.begun(namespace))
    }

    pub(crate) fn all(&self) -> Vec<Namespace> {
        self.read().values().cloned().collect()
    }

    /// Starts the adapter of a namespace and tells the hooks of it, once: nobody is given it before.
    pub(super) fn begun(&self, namespace: Namespace) -> Namespace {
        namespace.begin(|namespace| {
            for hook in &**self.hooks.load() {
                hook(namespace.clone());
            }
        });
        namespace
    }

    /// Hears of each namespace that is made from now on.
    pub(crate) fn on_new(&self, hook: Arc<OnNew>) {
        self.hooks.rcu(|hooks| {
            let mut hooks = Vec::clone(hooks);
            hooks.push(Arc::clone(&hook));
            hooks
        });
    }

    pub(super) fn parents(&self) -> Arc<Vec<ParentNamespace>> {
        self.parents.load_full()
    }

    /// The parent with this rule; the first call with a pattern makes it.
    ///
    /// # Panics
    /// If another parent has taken all names that fit the pattern.
    pub(crate) fn parent(&self, rule: Rule) -> ParentNamespace {
        if let Rule::Pattern(pattern) = &rule {
            for parent in &**self.parents() {
                match parent.rule() {
                    Rule::Pattern(other) if other.as_str() == pattern.as_str() => {
                        return parent.clone();
                    }
                    Rule::Pattern(other) if other.is_alike(pattern) => panic!(
                        "the same names fit the patterns {pattern:?} and {other:?}: write the first one in both places"
                    ),
                    _ => {}
                }
            }
        }
        let parents = self.parents();
        let is_function = |parent: &&ParentNamespace| !parent.rule().is_pattern();
        let number = parents.iter().filter(is_function).count();
        let parent = ParentNamespace::new(rule, number, |name| {
            Namespace::parental(name, Weak::clone(&self.this), &self.shared)
        });
        parent.as_namespace().begin(|_| {});
        self.parents.rcu(|parents| {
            let mut parents = Vec::clone(parents);
            parents.push(parent.clone());
            parents
        });
        parent
    }

    /// The server shuts down.
    pub(crate) fn disconnect_everyone(&self) {
        for socket in self.all().iter().flat_map(Namespace::sockets) {
            socket.close(DisconnectReason::ServerShuttingDown);
        }
    }

    /// What the logs of all namespaces could not store.
    pub(crate) fn log_failures(&self) -> u64 {
        let all = self.all();
        let logs = all.iter().filter_map(Namespace::recovery);
        logs.map(|ordered| ordered.failures()).sum()
    }

    /// Delivers what waits for logs that store first.
    pub(crate) async fn catch_up(&self) {
        let caught_up = |ordered: Arc<Ordered>| async move { ordered.caught_up().await };
        self.with_logs(
            caught_up,
            "events that wait for a log aren't delivered in time",
        )
        .await;
    }

    /// Stores what the logs of all namespaces still have to store.
    pub(crate) async fn flush_logs(&self) {
        let flushed = |ordered: Arc<Ordered>| ordered.flush();
        self.with_logs(flushed, "a log has not been stored in time")
            .await;
    }

    /// Does something with all logs, side by side.
    async fn with_logs<F>(&self, work: impl Fn(Arc<Ordered>) -> F, late: &str)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let all = self.all();
        let logs = all.iter().filter_map(Namespace::recovery);
        let mut working: JoinSet<()> = logs.map(|ordered| work(Arc::clone(ordered))).collect();
        let worked = async { while working.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, worked).await.is_err() {
            tracing::error!("{late}: going on without it");
        }
    }

    /// Closes all adapters, side by side.
    pub(crate) async fn close_adapters(&self) {
        let parents = self.parents();
        let parents = parents.iter().map(ParentNamespace::as_namespace);
        let mut closing: JoinSet<()> = self
            .all()
            .iter()
            .chain(parents)
            .map(|namespace| namespace.adapter().close())
            .collect();
        let closed = async { while closing.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("an adapter has not closed in time: going on without it");
        }
    }
}
