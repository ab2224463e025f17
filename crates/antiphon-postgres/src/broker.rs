//! The broker of Postgres: one connection, which publishes and listens.
//!
//! Its one task connects, runs the wire ([`frames`] or [`notify`]) until the connection fails, and
//! connects again. Questions of the journal go by the same connection while it is there; one that isn't
//! answered in time ends it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Backoff, Broker, Inbox, Line, Refused},
    log::Journal,
};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::{
    error::Error,
    frames,
    notify::{self, Attachments},
    place::Place,
    server::Server,
    table::Table,
};

/// The largest frame. Some are in memory at a time, here and there.
pub(crate) const MAX_FRAME: usize = 16 * 1_024 * 1_024;

/// The broker of one server.
pub(crate) struct PostgresBroker(pub(crate) Arc<Shared>);

/// What it has in common with its connections.
pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) line: Line<Error>,
    wire: Wire,
    /// The connection, for questions.
    client: Mutex<Option<Arc<Client>>>,
    /// A question hasn't been answered in time.
    silent: Notify,
}

/// Questions may be asked. Dropped, it lets the connection go.
pub(crate) struct Asks<'s>(&'s Shared);

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        *self.0.held() = None;
    }
}

/// What goes over its connections.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Our own.
    Frames(Table),
    /// The one of Node's adapter.
    Node(Attachments),
}

impl PostgresBroker {
    pub(crate) fn new(server: Server, wire: Wire) -> Self {
        Self(Arc::new(Shared {
            server,
            line: Line::new(),
            wire,
            client: Mutex::default(),
            silent: Notify::new(),
        }))
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks questions by this connection, as long as what is returned is kept.
    pub(crate) fn ask_by(&self, client: &Arc<Client>) -> Asks<'_> {
        *self.held() = Some(Arc::clone(client));
        Asks(self)
    }

    /// The connection doesn't answer: it is given up.
    pub(crate) fn give_up(&self) -> Error {
        self.silent.notify_waiters();
        self.server.context.silent()
    }

    /// Resolves when the connection is to be given up.
    pub(crate) async fn given_up(&self) -> Error {
        self.silent.notified().await;
        self.server.context.silent()
    }

    /// The connection, and the tables of our own wire.
    pub(crate) fn asks(&self) -> Result<(Arc<Client>, &Table), Refused> {
        let client = self.held().clone();
        match (client, &self.wire) {
            (Some(client), Wire::Frames(table)) => Ok((client, table)),
            _ => Err(Refused::Down {
                reason: "Postgres isn't connected".to_owned(),
            }),
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(&self, wanted: &Wanted, inbox: &Inbox, place: &mut Place) -> Error {
        let connection = match self.server.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        let between = (wanted, inbox);
        match &self.wire {
            Wire::Frames(table) => frames::run(self, table, connection, between, place).await,
            Wire::Node(attachments) => notify::run(self, attachments, connection, between).await,
        }
    }
}

/// Whether a frame isn't too large.
pub(crate) fn check_size(frame: &Bytes) -> Result<(), Refused> {
    let (bytes, limit) = (frame.len(), MAX_FRAME);
    match bytes > limit {
        true => Err(Refused::TooLarge { bytes, limit }),
        false => Ok(()),
    }
}

impl Broker for PostgresBroker {
    fn abilities(&self) -> Abilities {
        Abilities {
            max_frame: MAX_FRAME,
            echoes: true,
        }
    }

    fn run(self: Arc<Self>, wanted: Arc<Wanted>, inbox: Arc<Inbox>) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (mut backoff, mut place) = (Backoff::new(), Place::default());
            loop {
                let error = shared.session(&wanted, &inbox, &mut place).await;
                if shared.line.is_up() {
                    backoff.reset();
                }
                shared.line.down(error, &inbox);
                backoff.pause().await;
            }
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        check_size(&frame)?;
        if let Wire::Node(_) = self.0.wire
            && let Some(reason) = notify::refusal(topic)
        {
            return Err(Refused::Down { reason });
        }
        self.0.line.queue().push(topic, frame)
    }

    /// Postgres doesn't count.
    fn subscribers(&self, _: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        match self.0.wire {
            Wire::Frames(_) => Some(self),
            Wire::Node(_) => None,
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.line.queue().close().await })
    }
}

impl fmt::Debug for PostgresBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresBroker")
            .field(&self.0.server.context.address)
            .finish()
    }
}
