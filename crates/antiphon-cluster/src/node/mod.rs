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
mod outbox;
mod place;
mod requests;
mod router;
mod sessions;

use std::{fmt, sync::Arc};

use antiphon::{
    adapter::{Adapter, AdapterFactory, Local},
    recovery::{Bounds, Log},
};
use antiphon_protocol::cluster::node::{is_stream, streams};
use tokio::sync::watch;

pub use crate::broker::Store;
use crate::{ClusterStats, Health, broker::Broker, link::Ears as _};
use adapter::Namespaced;
pub use antiphon_protocol::cluster::node::Mode;
pub(crate) use codec::Codec;
use router::Router;

/// Which of Node's adapters the other servers have, and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeWire {
    /// `createAdapter` of `@socket.io/redis-adapter`.
    Classic {
        /// The option `key`.
        key: String,
        /// The option `publishOnSpecificResponseChannel`.
        answers_apart: bool,
    },
    /// `createShardedAdapter` of `@socket.io/redis-adapter`. The broker has to use the sharded
    /// channels of Redis 7.
    Sharded {
        /// The option `channelPrefix`.
        prefix: String,
        /// The option `subscriptionMode`.
        mode: Mode,
    },
    /// `createAdapter` of `@socket.io/redis-streams-adapter`. The broker has to be a Redis.
    Streams {
        /// The option `streamName`.
        stream: String,
        /// The option `streamCount`. 0 counts as 1.
        count: u32,
        /// The option `maxLen`: about so many entries are kept in each stream.
        max_len: u64,
        /// The option `channelPrefix`: questions and answers go by channels.
        prefix: String,
        /// The option `useShardedPubSub`: these are sharded channels of Redis 7.
        sharded: bool,
        /// The option `sessionKeyPrefix`: what the keys of sessions begin with.
        sessions: String,
    },
    /// `createAdapter` of `@socket.io/postgres-adapter`. Frames are JSON, to be notified, or for a
    /// row of the table of attachments: then they are [packed](crate::broker::entry), what the
    /// notification has before the id of the row, what it has behind it, and the row. A row that
    /// comes is packed, too; what is around its id is of no matter.
    Postgres {
        /// The option `channelPrefix`.
        prefix: String,
    },
}

impl NodeWire {
    /// The classic adapter with its default options.
    #[must_use]
    pub fn classic() -> Self {
        Self::Classic {
            key: "socket.io".to_owned(),
            answers_apart: false,
        }
    }

    /// The sharded adapter with its default options.
    ///
    /// ```
    /// use antiphon_cluster::node::{Mode, NodeWire};
    ///
    /// // createShardedAdapter(pub, sub, { subscriptionMode: "static" })
    /// let mut wire = NodeWire::sharded();
    /// if let NodeWire::Sharded { mode, .. } = &mut wire {
    ///     *mode = Mode::Static;
    /// }
    /// ```
    #[must_use]
    pub fn sharded() -> Self {
        Self::Sharded {
            prefix: "socket.io".to_owned(),
            mode: codec::MODE,
        }
    }

    /// The adapter for Redis streams with its default options.
    ///
    /// ```
    /// use antiphon_cluster::node::NodeWire;
    ///
    /// // createAdapter(client, { streamName: "shop", maxLen: 50_000 })
    /// let mut wire = NodeWire::streams();
    /// if let NodeWire::Streams { stream, max_len, .. } = &mut wire {
    ///     *stream = "shop".to_owned();
    ///     *max_len = 50_000;
    /// }
    /// ```
    #[must_use]
    pub fn streams() -> Self {
        Self::Streams {
            stream: "socket.io".to_owned(),
            count: 1,
            max_len: 10_000,
            prefix: "socket.io".to_owned(),
            sharded: false,
            sessions: "sio:session:".to_owned(),
        }
    }

    /// The adapter for Postgres with its default options.
    #[must_use]
    pub fn postgres() -> Self {
        Self::Postgres {
            prefix: "socket.io".to_owned(),
        }
    }

    /// The streams that a server reads: none but with [`Streams`](Self::Streams).
    #[must_use]
    pub fn streams_to_read(&self) -> Vec<String> {
        match self {
            Self::Streams { stream, count, .. } => streams(stream, *count),
            _ => Vec::new(),
        }
    }

    /// Whether this is the name of a stream that servers read.
    pub(crate) fn is_stream(&self, topic: &str) -> bool {
        match self {
            Self::Streams { stream, count, .. } => is_stream(stream, *count, topic),
            _ => false,
        }
    }

    /// What the names of all its channels begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Classic { key, .. } => key,
            Self::Sharded { prefix, .. }
            | Self::Streams { prefix, .. }
            | Self::Postgres { prefix } => prefix,
        }
    }
}

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
        self.0.link().subscribed().await;
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> ClusterStats {
        ClusterStats {
            waiting: self.0.logs.events(),
            ..self.0.link().stats()
        }
    }
}

impl AdapterFactory for NodeCluster {
    fn make(&self, _: &str, local: Local) -> Arc<dyn Adapter> {
        Arc::new(Namespaced::new(local, Arc::clone(&self.0)))
    }

    fn log(&self, namespace: &str, bounds: Bounds) -> Option<Arc<dyn Log>> {
        match Router::log(&self.0, namespace, bounds) {
            Some(log) => Some(log),
            None => {
                self.0.link().no_log();
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
