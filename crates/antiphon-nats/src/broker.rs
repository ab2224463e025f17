//! The broker: one connection, which publishes and listens.
//!
//! It is made again by itself. How it is, is decided here alone: frames are refused as long as it
//! is down.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Backoff, Broker, Inbox, Queue, Refused},
};
use bytes::Bytes;
use tokio::sync::watch;

use crate::{error::Error, server::Servers, session::Session, subject::Subjects};

/// The largest payload, until a server has said what its is: the default of NATS.
const MAX_PAYLOAD: usize = 1_024 * 1_024;

/// The broker of one server.
pub(crate) struct NatsBroker(pub(crate) Arc<Shared>);

/// What it has in common with its connections.
pub(crate) struct Shared {
    pub(crate) servers: Servers,
    pub(crate) subjects: Subjects,
    pub(crate) queue: Queue,
    /// The largest payload that the server takes.
    pub(crate) max_payload: AtomicUsize,
    link: watch::Sender<Link>,
}

/// How the connection is. `None`: it is being made, and nothing is wrong so far.
type Link = Option<Result<(), Error>>;

impl NatsBroker {
    pub(crate) fn new(servers: Servers, subjects: Subjects) -> Self {
        Self(Arc::new(Shared {
            servers,
            subjects,
            queue: Queue::new(),
            max_payload: AtomicUsize::new(MAX_PAYLOAD),
            link: watch::Sender::new(None),
        }))
    }
}

impl Shared {
    /// How the first attempt to connect goes.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut link = self.link.subscribe();
        // The sender is here.
        let link = link.wait_for(Option::is_some).await;
        let outcome = link.ok().and_then(|link| link.clone());
        outcome.unwrap_or(Ok(()))
    }

    /// All that is wanted is subscribed to. The first time on a connection, it is there by that.
    pub(crate) fn up(&self, inbox: &Inbox) {
        if matches!(*self.link.borrow(), Some(Ok(()))) {
            return;
        }
        self.queue.up();
        inbox.up();
        self.link.send_replace(Some(Ok(())));
    }

    /// The connection is lost, or couldn't be made.
    fn down(&self, error: Error, inbox: &Inbox) {
        let lost = self.queue.down(error.to_string());
        if lost > 0 {
            inbox.lost(lost as u64);
            tracing::warn!(lost, "lost frames that were to be published: {error}");
        }
        inbox.down(error.to_string());
        self.link.send_replace(Some(Err(error)));
    }

    /// Connects to one server after the other, once. The last error counts.
    async fn connect(&self) -> Result<Session<'_>, Error> {
        let mut connects = Session::connect(self, self.servers.next()).await;
        for _ in 1..self.servers.len() {
            if connects.is_ok() {
                break;
            }
            connects = Session::connect(self, self.servers.next()).await;
        }
        connects
    }
}

impl Broker for NatsBroker {
    fn abilities(&self) -> Abilities {
        Abilities {
            max_frame: self.0.max_payload.load(Ordering::Relaxed),
            echoes: true,
        }
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut backoff = Backoff::new();
            loop {
                let error = match shared.connect().await {
                    Ok(session) => {
                        let error = session.run(&wanted, &inbox).await;
                        if matches!(*shared.link.borrow(), Some(Ok(()))) {
                            backoff.reset();
                        }
                        error
                    }
                    Err(error) => error,
                };
                shared.down(error, &inbox);
                backoff.pause().await;
            }
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        let overhead = self.0.subjects.of(topic).overhead(topic);
        let limit = self.abilities().max_frame.saturating_sub(overhead);
        let bytes = frame.len();
        if bytes > limit {
            return Err(Refused::TooLarge { bytes, limit });
        }
        self.0.queue.push(topic, frame)
    }

    /// NATS doesn't count.
    fn subscribers(&self, _: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.queue.close().await })
    }
}

impl fmt::Debug for NatsBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NatsBroker").field(&self.0.servers).finish()
    }
}
