//! The other end of a socket: a client's session, or a caller by HTTP. Handlers run at its expense.

use std::sync::{Arc, Weak};

use crate::{
    engine::{Engine, Session},
    server::{
        client::Client,
        handlers::{
            future::BoxFuture,
            permits::{self, Permit, Permits},
        },
    },
};

/// The other end of a socket.
#[derive(Clone)]
pub(crate) enum Peer {
    Client {
        session: Arc<Session>,
        connection: Weak<Client>,
    },
    /// Nothing can be sent to it: its answer goes back with the response.
    Caller {
        engine: Arc<Engine>,
        permits: Arc<Permits>,
    },
}

impl Peer {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        match self {
            Self::Client { session, .. } => session.engine(),
            Self::Caller { engine, .. } => engine,
        }
    }

    pub(crate) const fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Client { session, .. } => Some(session),
            Self::Caller { .. } => None,
        }
    }

    pub(crate) fn connection(&self) -> Option<Arc<Client>> {
        match self {
            Self::Client { connection, .. } => connection.upgrade(),
            Self::Caller { .. } => None,
        }
    }

    /// Counts something that keeps so many bytes as a running handler, until the permit is dropped.
    pub(crate) fn permit(&self, bytes: usize) -> Permit {
        match self {
            Self::Client { connection, .. } => Permit::of(connection.upgrade(), bytes),
            Self::Caller { permits, .. } => Permit::of(Some(Arc::clone(permits)), bytes),
        }
    }

    /// Runs a handler inside the caller until it suspends: see [`permits::run`]. `bytes` is what it
    /// may keep of its event.
    pub(crate) fn run(&self, handler: BoxFuture<()>, bytes: usize) {
        permits::run(self.engine(), handler, || self.permit(bytes));
    }

    /// Runs a handler in a task of its own, which holds a permit.
    pub(crate) fn spawn(&self, handler: BoxFuture<()>, permit: Permit) {
        permits::spawn(self.engine(), handler, permit);
    }
}
