//! The other end of a socket: a client's session, or a caller by HTTP.

use std::sync::{Arc, Weak};

use crate::{
    engine::{Engine, Session},
    server::{
        client::Client,
        handlers::permits::{Permit, Permits},
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
}
