//! [`Cluster`]: what users put into their server's builder.
//!
//! A handle to the [`Router`], which does the work; the crates of brokers have a type of their own
//! around it. A server of a broker that can't be reached starts all the same: its [`Health`] says so.

use std::{fmt, sync::Arc};

use antiphon::{
    adapter::{Adapter, AdapterFactory, Local, NodeId, Relay},
    recovery::{Bounds, Log},
};
use antiphon_protocol::cluster::native;
use tokio::sync::watch;

use crate::{
    Address, ClusterStats, Health, adapter::Namespaced, broker::Broker, random_id, router::Router,
};

/// Connects a server with others by a broker: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, by which one also
/// sees how it goes.
///
/// One cluster belongs to one server.
///
/// ```
/// use antiphon_cluster::{Cluster, Health, broker::memory::Hub};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::new();
/// let cluster = Cluster::new(hub.broker());
/// let io = antiphon::Server::builder().adapter(cluster.clone()).build();
/// cluster.started().await;
/// assert_eq!(cluster.health(), Health::Ready);
/// assert_eq!(cluster.servers().len(), 1);
/// # io.close().await;
/// # }
/// ```
#[derive(Clone)]
pub struct Cluster(Arc<Router>);

/// The names of topics begin so.
pub(crate) const PREFIX: &str = "antiphon";

impl Cluster {
    /// A server of the cluster that meets at a broker. It begins to connect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self::named(broker, PREFIX)
    }

    /// As [`new`](Self::new), for one of several clusters at the same broker: the names of its
    /// topics begin with `prefix`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn named(broker: Arc<dyn Broker>, prefix: &str) -> Self {
        Self::builder(broker).prefix(prefix).start()
    }

    /// As [`new`](Self::new), with options.
    pub fn builder(broker: Arc<dyn Broker>) -> ClusterBuilder {
        ClusterBuilder {
            broker,
            prefix: PREFIX.to_owned(),
            address: None,
        }
    }

    /// The name of this server.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        self.0.member.me()
    }

    /// All servers that are there, this one first.
    #[must_use]
    pub fn servers(&self) -> Vec<NodeId> {
        self.0.member.servers()
    }

    /// How it stands to the others now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.watch_health().borrow().clone()
    }

    /// How it stands to the others, and each change of that.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.0.member.health()
    }

    /// Resolves when the broker has been reached and it is known who is there.
    pub async fn started(&self) {
        self.0.member.started().await;
    }

    /// Resolves when what this server's sockets have joined so far has been subscribed to: from
    /// then on no event of others to these rooms is missed, as long as the connection holds.
    ///
    /// A handler that tells others to emit to a room which its socket has just joined, for instance by
    /// its acknowledgement, waits for this before.
    pub async fn subscribed(&self) {
        self.0.subscribed().await;
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        let [passed_on, not_passed_on] = self.0.passing.counts();
        ClusterStats {
            passed_on,
            not_passed_on,
            waiting: self.0.logs.events(),
            ..self.0.member.link.stats()
        }
    }
}

/// Options of a [`Cluster`].
#[must_use = "a builder does nothing until start is called"]
pub struct ClusterBuilder {
    broker: Arc<dyn Broker>,
    prefix: String,
    address: Option<Address>,
}

impl ClusterBuilder {
    /// The names of all topics begin with this, and a colon. `antiphon` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Where the other servers find this one, so that clients may come to any server with each
    /// request: no sticky sessions. None by default: what comes to others for this one's sessions
    /// is refused there.
    ///
    /// ```
    /// use antiphon_cluster::{Address, Cluster, broker::memory::Hub};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hub = Hub::new();
    /// let address = Address::new("http://10.0.0.5:3000");
    /// let cluster = Cluster::builder(hub.broker()).advertise(address).start();
    /// # }
    /// ```
    pub fn advertise(mut self, address: impl Into<Option<Address>>) -> Self {
        self.address = address.into();
        self
    }

    /// The cluster. It begins to connect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(self) -> Cluster {
        let config = u64::from(native::VERSION);
        let (prefix, address) = (&self.prefix, self.address.as_ref());
        Cluster(Router::start(
            random_id(),
            prefix,
            address,
            config,
            self.broker,
        ))
    }
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("prefix", &self.prefix)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl AdapterFactory for Cluster {
    fn make(&self, _: &str, local: Local) -> Arc<dyn Adapter> {
        Arc::new(Namespaced::new(local, Arc::clone(&self.0)))
    }

    fn log(&self, namespace: &str, bounds: Bounds) -> Option<Arc<dyn Log>> {
        match self.0.log(namespace, bounds) {
            Some(log) => Some(log),
            None => {
                self.0.member.link.no_log();
                None
            }
        }
    }

    fn relay(&self) -> Option<Arc<dyn Relay>> {
        Some(Arc::clone(&self.0) as _)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.0).finish()
    }
}
