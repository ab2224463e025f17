//! The router of a server in a cluster with Node: one for all its namespaces, between their adapters
//! and the broker.
//!
//! The adapters own it, and so does the user's [`NodeCluster`](crate::node::NodeCluster); its tasks end
//! with it. Namespaces publish by its [`Link`]. What the broker hears is given to the namespace that
//! it is for; entries of a stream that were lost concern all. Its [`Machine`] knows no other
//! servers, since on Node's wires each namespace knows its own: it says how the connection is.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use antiphon::recovery::Bounds;

use super::{log::NodeLog, namespace::Namespace, wire::NodeWire};
use crate::{
    Health,
    broker::{Broker, Event, entry},
    link::{Ears, Link},
    log::Logs,
    machine::{Machine, Output},
};

/// How long servers have for their answers by default, in milliseconds: `requestsTimeout` of Node's
/// classic adapter, and a constant of the others.
const REQUESTS_TIMEOUT: u64 = 5_000;

/// What the adapters of a server have in common.
pub(super) struct Router {
    pub(super) wire: NodeWire,
    pub(super) link: Arc<Link>,
    /// How long servers have for their answers, in milliseconds.
    requests_timeout: AtomicU64,
    /// Knows nobody, since each namespace has servers of its own: it says how the connection is.
    machine: Mutex<Machine>,
    health: watch::Sender<Health>,
    namespaces: RwLock<HashMap<Arc<str>, Weak<Namespace>>>,
    /// The logs of namespaces with recovery.
    pub(super) logs: Logs<NodeLog>,
}

impl Router {
    /// A router on the current runtime, which begins to connect.
    pub(super) fn start(broker: Arc<dyn Broker>, wire: NodeWire) -> Arc<Self> {
        let router = Arc::new(Self {
            wire,
            link: Arc::new(Link::new(broker)),
            requests_timeout: AtomicU64::new(REQUESTS_TIMEOUT),
            machine: Mutex::new(Machine::silent(Instant::now())),
            health: watch::Sender::new(Health::Starting),
            namespaces: RwLock::default(),
            logs: Logs::default(),
        });
        Link::start(&router);
        router
    }

    /// How long servers have for their answers.
    pub(super) fn requests_timeout(&self) -> Duration {
        Duration::from_millis(self.requests_timeout.load(Ordering::Relaxed))
    }

    pub(super) fn set_requests_timeout(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.requests_timeout.store(time, Ordering::Relaxed);
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Resolves when the broker has been reached.
    pub(super) async fn started(&self) {
        let mut health = self.health();
        // The sender is here.
        let _ = health.wait_for(|health| *health != Health::Starting).await;
    }

    /// The log of a namespace, if the servers share one. The same for each who asks.
    pub(super) fn log(&self, name: &str, bounds: Bounds) -> Option<Arc<NodeLog>> {
        let make = || NodeLog::new(name, bounds, &self.wire, &self.link);
        self.logs.get_or(name, make)
    }

    /// The log of a namespace, if it has one.
    pub(super) fn log_of(&self, name: &str) -> Option<Arc<NodeLog>> {
        self.logs.get(name)
    }

    /// A namespace begins to hear.
    pub(super) fn enter(&self, namespace: &Arc<Namespace>) {
        let mut namespaces = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let name = Arc::clone(&namespace.name);
        namespaces.insert(name, Arc::downgrade(namespace));
    }

    /// A namespace hears no more.
    pub(super) fn leave(&self, namespace: &Arc<Namespace>) {
        let mut namespaces = self
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let entered = namespaces.get(&namespace.name);
        if entered.is_some_and(|entered| entered.as_ptr() == Arc::as_ptr(namespace)) {
            namespaces.remove(&namespace.name);
        }
    }

    /// Tells a namespace what has become of the connection.
    pub(super) fn connect(&self, namespace: &Namespace, now: Instant) {
        let machine = self.machine();
        let confirmed = machine.is_up().then(|| machine.confirmed());
        drop(machine);
        namespace.connected(confirmed, now);
    }

    fn connect_all(&self, now: Instant) {
        for namespace in self.namespaces() {
            self.connect(&namespace, now);
        }
    }

    /// Says goodbye, and gives up the connection.
    pub(super) async fn close(&self) {
        for namespace in self.namespaces() {
            namespace.leave();
        }
        self.with_machine(Machine::close);
        self.link.close().await;
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.values().filter_map(Weak::upgrade).collect()
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        let namespaces = self
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.get(name)?.upgrade()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_machine(&self, change: impl FnOnce(&mut Machine)) {
        let mut machine = self.machine();
        change(&mut machine);
        while let Some(output) = machine.poll() {
            if let Output::Health(health) = output {
                health.log();
                self.health.send_replace(health);
            }
        }
    }
}

impl Ears for Router {
    fn link(&self) -> &Link {
        &self.link
    }

    fn heard(self: &Arc<Self>, event: Event) {
        let now = Instant::now();
        let version = self.link.wanted.version();
        match event {
            Event::Frame { topic, bytes, .. } => {
                if [entry::TRIMMED, entry::ANEW].contains(&&*bytes) && self.wire.is_stream(&topic) {
                    // Entries were lost, whoever they were for.
                    let namespaces = self.namespaces().into_iter();
                    return namespaces.for_each(|namespace| namespace.heard(&topic, &bytes));
                }
                match self.wire.namespace_of(&topic, &bytes) {
                    // One that this server doesn't have concerns it no more than another's key.
                    Ok(name) => {
                        if let Some(namespace) = name.and_then(|name| self.namespace(name)) {
                            namespace.heard(&topic, &bytes);
                        }
                    }
                    Err(error) => self.link.malformed(&topic, &error),
                }
            }
            Event::Subscribed { version } => {
                self.with_machine(|machine| machine.subscribed(version, now));
                self.connect_all(now);
            }
            Event::Up => {
                self.with_machine(|machine| machine.up(version, now));
                self.connect_all(now);
            }
            Event::Down { reason } => {
                self.with_machine(|machine| machine.down(reason));
                self.connect_all(now);
            }
            Event::Dropped { .. } => self.with_machine(|machine| machine.dropped(version, now)),
            Event::Refusing { reason } => {
                self.with_machine(|machine| machine.refusing(reason, now));
            }
            Event::Refused {
                from,
                number,
                reason,
                ..
            } => {
                for namespace in self.namespaces() {
                    namespace.refused(&from, number, &reason);
                }
            }
            // The link has counted it.
            Event::Lost { .. } => {}
        }
    }

    fn late(&self, is_late: bool) {
        self.with_machine(|machine| machine.lagging(is_late));
    }

    fn look(&self) {
        let slowest = self.logs.slowest();
        self.with_machine(|machine| machine.logs(slowest));
    }

    fn tick(&self, now: Instant) -> Instant {
        let version = self.link.wanted.version();
        self.with_machine(|machine| machine.tick(version, now));
        let namespaces = self.namespaces();
        let expiries = namespaces
            .iter()
            .filter_map(|namespace| namespace.tick(now));
        let deadline = self.machine().deadline();
        expiries
            .min()
            .map_or(deadline, |expiry| expiry.min(deadline))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("wire", &self.wire)
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}
