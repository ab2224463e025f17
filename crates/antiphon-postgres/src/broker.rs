//! The broker of Postgres: one connection, which publishes and listens.
//!
//! Its one task connects, runs the wire ([`frames`] or [`notify`]) until the connection fails, and
//! connects again. Questions of the journal go by the same connection while it is there; one that isn't
//! answered in time ends it.

use std::{fmt, sync::Arc};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Backoff, Broker, Inbox, Refused},
    log::Journal,
};
use bytes::Bytes;

use crate::{
    error::Error,
    frames, notify,
    place::Place,
    server::{MAX_FRAME, Server, check_size},
    shared::{Shared, Wire},
};

/// The broker of one server.
pub(crate) struct PostgresBroker(pub(crate) Arc<Shared>);

impl PostgresBroker {
    pub(crate) fn new(server: Server, wire: Wire) -> Self {
        Self(Arc::new(Shared::new(server, wire)))
    }

    /// One connection, from its beginning to its end.
    async fn session(&self, wanted: &Wanted, inbox: &Inbox, place: &mut Place) -> Error {
        let connection = match self.0.server.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        let between = (wanted, inbox);
        match &self.0.wire {
            Wire::Frames(table) => frames::run(&self.0, table, connection, between, place).await,
            Wire::Node(attachments) => notify::run(&self.0, attachments, connection, between).await,
        }
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
                let error = self.session(&wanted, &inbox, &mut place).await;
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
