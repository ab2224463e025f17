//! The broker: a connection that publishes and another that listens, and a third that reads streams,
//! if there are any.
//!
//! They are apart because Redis closes a connection that listens too slowly, and what is published
//! has no share in that; and a connection that waits for a stream does nothing else. Each has a task
//! that connects again by itself. The router is told that there is a connection when there are all.
//!
//! In a Redis Cluster what has a slot goes by the node that has it: there are two tasks that publish
//! and two that listen then, one for each [`Way`], so that the death of one node doesn't concern what
//! any node can do.

use std::{fmt, sync::Arc};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Broker, Inbox, Refused},
    log::Journal,
    node::Store,
};
use bytes::Bytes;

use crate::{
    publisher, reader,
    server::{Server, Way},
    shared::Shared,
    store::RedisStore,
    subscriber,
};

/// The largest frame. By default Redis closes the connection of a subscriber for whom 32 MB wait
/// (`client-output-buffer-limit pubsub`), so one frame must be well below.
const MAX_FRAME: usize = 16 * 1_024 * 1_024;

/// The broker of one server.
pub(crate) struct RedisBroker(pub(crate) Arc<Shared>);

impl RedisBroker {
    pub(crate) fn new(server: Server) -> Self {
        let readers = reader::groups(&server).len();
        Self(Arc::new(Shared::new(server, readers)))
    }

    /// Whether a frame isn't too large.
    pub(crate) const fn check(&self, bytes: usize) -> Result<(), Refused> {
        if bytes > MAX_FRAME {
            let limit = MAX_FRAME;
            return Err(Refused::TooLarge { bytes, limit });
        }
        Ok(())
    }
}

impl Broker for RedisBroker {
    fn abilities(&self) -> Abilities {
        Abilities {
            max_frame: MAX_FRAME,
            echoes: true,
        }
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        shared.begin(&inbox);
        let listens = shared.listens();
        Box::pin(async move {
            let publishes = |way| publisher::run(Arc::clone(&shared), way);
            let subscribes = |way| {
                let is_used = listens.contains(&way);
                let (shared, wanted) = (Arc::clone(&shared), Arc::clone(&wanted));
                let runs = subscriber::run(shared, way, wanted, Arc::clone(&inbox));
                async move {
                    if is_used {
                        runs.await;
                    }
                }
            };
            tokio::join!(
                publishes(Way::Home),
                publishes(Way::Keyed),
                subscribes(Way::Home),
                subscribes(Way::Keyed),
                reader::run(Arc::clone(&shared), Arc::clone(&inbox)),
            );
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        self.check(frame.len())?;
        let way = self.0.server.way(topic);
        self.0.lane(way).queue.push(topic, frame)
    }

    fn subscribers(&self, topic: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        let (shared, topic) = (Arc::clone(&self.0), topic.clone());
        Box::pin(async move { shared.count(&topic).await.map(Some) })
    }

    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        Some(self)
    }

    fn store(self: Arc<Self>) -> Option<Arc<dyn Store>> {
        let reads = self.0.server.channels.reads();
        reads.then(|| -> Arc<dyn Store> { Arc::new(RedisStore(Arc::clone(&self.0))) })
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.close().await })
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBroker")
            .field(&self.0.server.address())
            .finish()
    }
}
