//! What the broker, its connection and its journal have in common.
//!
//! The broker owns a [`Shared`]. What is emitted waits in its line; while a connection is there the
//! wire lends it for the journal's questions ([`Asks`]). One that doesn't answer in time is given up
//! here, by whoever has asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use antiphon_cluster::broker::{Line, Refused};
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::{attachments::Attachments, error::Error, server::Server, table::Table};

/// What the broker has in common with its connections.
pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) line: Line<Error>,
    pub(crate) wire: Wire,
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

impl Shared {
    pub(crate) fn new(server: Server, wire: Wire) -> Self {
        Self {
            server,
            line: Line::new(),
            wire,
            client: Mutex::default(),
            silent: Notify::new(),
        }
    }

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
}
