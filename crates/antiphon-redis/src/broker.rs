//! The broker: two connections, of which one publishes and the other listens, and a third that reads
//! streams, if there are any.
//!
//! They are apart because Redis closes a connection that listens too slowly, and what is published
//! has no share in that; and a connection that waits for a stream does nothing else. Each has a task
//! that connects again by itself. The router is told that there is a connection when there are all.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Broker, Inbox, Queue, Refused},
    log::Journal,
    node::Store,
};
use bytes::Bytes;
use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::sync::watch;

use crate::{
    error::Error,
    publisher::{self, Sender},
    reader,
    server::Server,
    store::RedisStore,
    subscriber,
};

/// The largest frame. By default Redis closes the connection of a subscriber for whom 32 MB wait
/// (`client-output-buffer-limit pubsub`), so one frame must be well below.
const MAX_FRAME: usize = 16 * 1_024 * 1_024;

/// The broker of one server.
pub(crate) struct RedisBroker(pub(crate) Arc<Shared>);

/// What its tasks have in common.
pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) queue: Queue,
    /// The connection that publishes, for questions.
    requests: Mutex<Option<MultiplexedConnection>>,
    links: watch::Sender<Links>,
    inbox: OnceLock<Arc<Inbox>>,
}

/// Questions may be asked. Dropped, also with the task that publishes, it lets the connection go.
pub(crate) struct Asks<'s>(&'s Shared);

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        *self.0.requests() = None;
    }
}

/// Which of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Publishing,
    Subscribing,
    Reading,
}

/// How the connections are.
#[derive(Debug, Clone, Default)]
struct Links {
    publishing: Link,
    subscribing: Link,
    /// `None` if no stream is read.
    reading: Option<Link>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Link {
    #[default]
    New,
    Up,
    Down(Error),
}

impl Links {
    /// Whether all are there. `None`: not yet, and nothing is wrong so far.
    fn outcome(&self) -> Option<Result<(), Error>> {
        let links = [&self.publishing, &self.subscribing];
        let links = || links.into_iter().chain(&self.reading);
        let error = links().find_map(|link| match link {
            Link::Down(error) => Some(error.clone()),
            _ => None,
        });
        match error {
            Some(error) => Some(Err(error)),
            None => links().all(|link| *link == Link::Up).then_some(Ok(())),
        }
    }
}

impl RedisBroker {
    pub(crate) fn new(server: Server) -> Self {
        let links = Links {
            reading: server.channels.reads().then(Link::default),
            ..Links::default()
        };
        Self(Arc::new(Shared {
            server,
            queue: Queue::new(),
            requests: Mutex::default(),
            links: watch::Sender::new(links),
            inbox: OnceLock::new(),
        }))
    }
}

impl RedisBroker {
    /// Whether a frame isn't too large.
    pub(crate) const fn check(&self, bytes: usize) -> Result<(), Refused> {
        if bytes > MAX_FRAME {
            let limit = MAX_FRAME;
            return Err(Refused::TooLarge { bytes, limit });
        }
        Ok(())
    }
}

impl Shared {
    /// How the first attempt to connect goes.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut links = self.links.subscribe();
        // The sender is here.
        let links = links.wait_for(|links| links.outcome().is_some()).await;
        let outcome = links.ok().and_then(|links| links.outcome());
        outcome.unwrap_or(Ok(()))
    }

    /// Asks questions by this connection, as long as what is returned is kept.
    pub(crate) fn ask_by(&self, requests: MultiplexedConnection) -> Asks<'_> {
        *self.requests() = Some(requests);
        Asks(self)
    }

    fn requests(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection by which questions are asked.
    pub(crate) fn connection(&self) -> Result<MultiplexedConnection, Refused> {
        let requests = self.requests().clone();
        requests.ok_or_else(|| Refused::Down {
            reason: "Redis isn't connected".to_owned(),
        })
    }

    /// How many connections have subscribed to a topic.
    async fn subscribers(&self, topic: &Topic) -> Result<usize, Refused> {
        let mut requests = self.connection()?;
        let asked: RedisResult<(String, usize)> = redis::cmd("PUBSUB")
            .arg(match self.server.channels.are_sharded {
                true => "SHARDNUMSUB",
                false => "NUMSUB",
            })
            .arg(topic.name())
            .query_async(&mut requests)
            .await;
        let (_, count) = asked.map_err(|error| Refused::Down {
            reason: error.to_string(),
        })?;
        Ok(count)
    }

    /// A connection is there.
    pub(crate) fn up(&self, side: Side) {
        self.set(side, Link::Up);
    }

    /// A connection is lost, or couldn't be made.
    pub(crate) fn down(&self, side: Side, error: Error) {
        self.set(side, Link::Down(error));
    }

    fn set(&self, side: Side, link: Link) {
        self.links.send_if_modified(|links| {
            let before = links.outcome();
            match side {
                Side::Publishing => links.publishing = link,
                Side::Subscribing => links.subscribing = link,
                Side::Reading => links.reading = Some(link),
            }
            let after = links.outcome();
            let has_changed = before != after;
            // Told under the lock, so that the last word that the router hears is the last one.
            match (after, self.inbox.get()) {
                (Some(Ok(())), Some(inbox)) if has_changed => inbox.up(),
                (Some(Err(error)), Some(inbox)) if has_changed => inbox.down(error.to_string()),
                _ => {}
            }
            has_changed
        });
    }

    /// An entry was not appended to a log.
    pub(crate) fn not_appended(&self, log: &Topic, sender: &Sender, reason: &Error) {
        if let Some(inbox) = self.inbox.get() {
            let (from, log) = (Arc::clone(&sender.from), Topic::new(log.name()));
            inbox.refused(log, from, sender.number, reason.to_string());
        }
    }

    /// Frames that were to be published are lost.
    pub(crate) fn lost(&self, frames: usize) {
        if let Some(inbox) = self.inbox.get()
            && frames > 0
        {
            inbox.lost(frames as u64);
        }
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
        // It is called once.
        let _ = shared.inbox.set(Arc::clone(&inbox));
        Box::pin(async move {
            let publishes = publisher::run(Arc::clone(&shared));
            let reads = reader::run(Arc::clone(&shared), Arc::clone(&inbox));
            tokio::join!(publishes, reads, subscriber::run(shared, wanted, inbox));
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        self.check(frame.len())?;
        self.0.queue.push(topic, frame)
    }

    fn subscribers(&self, topic: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        let (shared, topic) = (Arc::clone(&self.0), topic.clone());
        Box::pin(async move { shared.subscribers(&topic).await.map(Some) })
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
        Box::pin(async move { shared.queue.close().await })
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBroker")
            .field(&self.0.server.address())
            .finish()
    }
}
