//! Clusters with servers of Node: the wires of its adapters, over any broker.
//!
//! A [`NodeCluster`] says and understands what Node's adapters do, so that servers of
//! both kinds are one cluster, and one kind can take the place of the other step by step. Such a
//! wire has limits which our own ([`Cluster`](crate::Cluster)) doesn't have: but for the one of
//! Postgres there are no heartbeats, so servers are counted and not named, and what is missing is a
//! number; an acknowledgement doesn't say whose it is, and has one argument; events can't be
//! retained, kept until they are acknowledged, or replaced by newer ones on other servers.

mod adapter;
mod codec;
mod log;
mod members;
mod namespace;
mod outbox;
mod place;
mod requests;
mod router;
mod sessions;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use antiphon::{
    adapter::{Adapter, AdapterFactory, Local},
    recovery::{Bounds, Log},
};
use tokio::sync::watch;

pub use crate::broker::Store;
use crate::{ClusterStats, Health, broker::Broker};
use adapter::Namespaced;
pub use antiphon_protocol::cluster::node::Mode;
pub(crate) use codec::Codec;
use router::Router;
pub use wire::NodeWire;

/// Connects a server with others, servers of Node among them: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle. One belongs to one
/// server.
///
/// ```
/// use antiphon_cluster::{broker::memory::Hub, node::{NodeCluster, NodeWire}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::new();
/// let cluster = NodeCluster::new(hub.broker(), NodeWire::classic());
/// let io = antiphon::Server::builder().adapter(cluster.clone()).build();
/// cluster.started().await;
/// # io.close().await;
/// # }
/// ```
#[derive(Clone)]
pub struct NodeCluster(Arc<Router>);

impl NodeCluster {
    /// A server of the cluster that meets at a broker. It begins to connect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, wire: NodeWire) -> Self {
        Self(Router::start(broker, wire))
    }

    /// How long other servers have to answer `fetch_sockets` and a server-side emit that asks for
    /// answers: 5 s by default, as with Node's adapters, of which the classic one has this as its option
    /// `requestsTimeout`. They never have longer than the server's
    /// [`ack_timeout`](antiphon::ServerBuilder::ack_timeout). Sockets that are asked for acknowledgements
    /// have the time that is said there.
    #[must_use]
    pub fn requests_timeout(self, time: Duration) -> Self {
        self.0.set_requests_timeout(time);
        self
    }

    /// How it stands to the others now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.watch_health().borrow().clone()
    }

    /// How it stands to the others, and each change of that.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.0.health()
    }

    /// Resolves when the broker has been reached.
    pub async fn started(&self) {
        self.0.started().await;
    }

    /// Resolves when what this server's sockets have joined so far has been subscribed to. See
    /// [`Cluster::subscribed`](crate::Cluster::subscribed).
    pub async fn subscribed(&self) {
        self.0.link.subscribed().await;
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        ClusterStats {
            waiting: self.0.logs.events(),
            ..self.0.link.stats()
        }
    }
}

impl AdapterFactory for NodeCluster {
    fn make(&self, _: &str, local: Local) -> Arc<dyn Adapter> {
        Arc::new(Namespaced::new(local, Arc::clone(&self.0)))
    }

    fn log(&self, namespace: &str, bounds: Bounds) -> Option<Arc<dyn Log>> {
        match self.0.log(namespace, bounds) {
            Some(log) => Some(log),
            None => {
                self.0.link.no_log();
                None
            }
        }
    }
}

impl fmt::Debug for NodeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeCluster").field(&self.0).finish()
    }
}
