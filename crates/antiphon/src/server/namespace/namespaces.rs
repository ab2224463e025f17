//! All namespaces of a server.
//!
//! The engine owns it as its `Application`, which `client` makes it. Namespaces are made by the
//! application's `of` and by nothing that a client sends. The factory of an adapter is the user's,
//! and called without the lock.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock, Weak},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    engine::Engine,
    server::{DisconnectReason, Namespace, Shared, namespace::with_slash, recovery::Ordered},
};

/// How long adapters may take to close, and logs to store what is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The namespaces of a server by their names.
pub(crate) struct Namespaces {
    pub(crate) shared: Arc<Shared>,
    by_name: RwLock<HashMap<Box<str>, Namespace>>,
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

    /// The namespace of this name, made if there is none.
    pub(crate) fn of(&self, name: &str) -> Namespace {
        let name = with_slash(name);
        if let Some(namespace) = self.get(&name) {
            return namespace;
        }
        if name.contains([',', '?']) {
            // Those end the name in a packet.
            tracing::warn!(
                name,
                "no client can join a namespace with a comma or question mark"
            );
        }
        // Made before the lock is taken: the factory of its adapter is the user's.
        let made = Namespace::new(&name, Weak::clone(&self.this), &self.shared);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let namespace = by_name.entry(name.into()).or_insert(made).clone();
        drop(by_name);
        namespace.started()
    }

    /// The namespace of this name, if it was made.
    pub(crate) fn get(&self, name: &str) -> Option<Namespace> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let namespace = by_name.get(name).cloned();
        drop(by_name);
        namespace.map(Namespace::started)
    }

    pub(crate) fn all(&self) -> Vec<Namespace> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.values().cloned().collect()
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
        let mut closing: JoinSet<()> = self
            .all()
            .iter()
            .map(|namespace| namespace.adapter().close())
            .collect();
        let closed = async { while closing.join_next().await.is_some() {} };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("an adapter has not closed in time: going on without it");
        }
    }
}
