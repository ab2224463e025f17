//! The broker of NATS: one connection, which publishes and listens.
//!
//! Its one task connects, runs a [`Session`] until that fails, and connects again. It alone decides
//! whether the connection is there: as long as it isn't, frames are refused. [`Shared`] is what it
//! has in common with its sessions and its journal.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Topic, Wanted,
    broker::{Abilities, Backoff, Broker, Inbox, Refused, SETTLE},
    log::Journal,
};
use bytes::Bytes;

use crate::{
    api::Storage, error::Error, server::Servers, session::Session, shared::Shared,
    subject::Subjects,
};

/// The broker of one server.
pub(crate) struct NatsBroker(pub(crate) Arc<Shared>);

impl NatsBroker {
    pub(crate) fn new(
        servers: Servers,
        subjects: Subjects,
        jetstream: Option<bool>,
        storage: Storage,
    ) -> Self {
        Self(Arc::new(Shared::new(servers, subjects, jetstream, storage)))
    }

    /// Whether a frame may be published, with so many bytes of headers.
    pub(crate) fn check(&self, topic: &Topic, bytes: usize, headers: usize) -> Result<(), Refused> {
        let overhead = self.0.subjects.of(topic).overhead(topic) + headers;
        let limit = self.abilities().max_frame.saturating_sub(overhead);
        match bytes > limit {
            true => Err(Refused::TooLarge { bytes, limit }),
            false => Ok(()),
        }
    }
}

impl NatsBroker {
    /// Connects to one server after the other, once. The last error counts.
    async fn connect(&self) -> Result<Session<'_>, Error> {
        let mut connects = Session::connect(&self.0, self.0.servers.next()).await;
        for _ in 1..self.0.servers.len() {
            if connects.is_ok() {
                break;
            }
            connects = Session::connect(&self.0, self.0.servers.next()).await;
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
            let mut was_silent = false;
            loop {
                let error = match self.connect().await {
                    Ok(session) => {
                        if was_silent {
                            tokio::time::sleep(SETTLE).await;
                        }
                        let error = session.run(&wanted, &inbox).await;
                        shared.asks.close();
                        shared.streams.forget();
                        if shared.line.is_up() {
                            backoff.reset();
                        }
                        was_silent = matches!(error, Error::Silent { .. });
                        error
                    }
                    Err(error) => error,
                };
                shared.line.down(error, &inbox);
                backoff.pause().await;
            }
        })
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        self.check(topic, frame.len(), 0)?;
        self.0.line.queue().push(topic, frame)
    }

    /// NATS doesn't count.
    fn subscribers(&self, _: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// What isn't known yet is taken to be there: servers that share no log don't hear each other's
    /// logged events, and an error says so.
    fn journal(self: Arc<Self>) -> Option<Arc<dyn Journal>> {
        let known = self.0.has_jetstream.get().copied();
        let shares = self.0.jetstream.or(known).unwrap_or(true);
        shares.then_some(self as _)
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.line.queue().close().await })
    }
}

impl fmt::Debug for NatsBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NatsBroker").field(&self.0.servers).finish()
    }
}
