//! Socket.IO: namespaces, sockets, handlers, rooms, broadcasts and acknowledgements.
//!
//! ```text
//! engine message -> Connection -> Socket -> dispatch -> handlers
//! emit -> packet, encoded once -> Adapter -> rooms -> each socket's session
//! ```
//!
//! A [`Server`] is a handle of an engine and of its namespaces. What a client sends goes inward by
//! the traits of [`engine`](crate::engine); what is sent goes outward by [`adapter`]. A mistake of
//! a client closes its connection or is acknowledged with an error; a handler's panic ends that
//! call alone.

mod acks;
pub mod adapter;
mod builder;
mod calls;
mod client;
mod delivery;
mod error;
mod handlers;
mod namespace;
pub mod recovery;
mod rooms;
mod serve;
mod shared;
mod socket;
#[cfg(feature = "typescript")]
pub mod typescript;

use std::{fmt, sync::Arc};

pub use acks::{Ack, Acknowledged, BroadcastAnswers, ErrorAcks, ServerAnswers};
pub use adapter::{FetchedSockets, RemoteSocket};
pub use builder::ServerBuilder;
pub use calls::HttpCalls;
pub use client::{handshake::Handshake, reason::DisconnectReason};
pub use delivery::kept::{Undelivered, UndeliveredReason};
pub use error::{AckError, ConnectError, EmitError, Emitted, Rejection};
pub use handlers::{
    args::{Args, FromArgs, IntoArgs, IntoReply},
    context::Context,
    extract::{Auth, Data, Event, FromContext, State},
    handler::{Handler, OnConnect, OnDisconnect, OnEvent},
};
pub use namespace::Namespace;
pub use recovery::Recovery;
pub use rooms::{
    Room, Target,
    broadcast::{Broadcast, IntoRooms},
};
pub use serve::{Serving, flash::FlashPolicy, listener::Listener, per_core::PerCore};
pub use socket::{Socket, SocketId, emitter::Emitter};

pub(crate) use shared::Shared;

use namespace::namespaces::Namespaces;

use crate::engine::{Engine, EngineLayer, EngineService, Stats};

/// A Socket.IO server. A cheap handle.
#[derive(Clone)]
pub struct Server {
    engine: Arc<Engine>,
    namespaces: Arc<Namespaces>,
}

impl Server {
    /// A server with Socket.IO's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A server with options.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    pub(crate) const fn from_parts(engine: Arc<Engine>, namespaces: Arc<Namespaces>) -> Self {
        Self { engine, namespaces }
    }

    /// The namespace of this name; the first call makes it. `chat` and `/chat` are one.
    ///
    /// Clients can only join namespaces that were made.
    #[must_use]
    pub fn of(&self, name: &str) -> Namespace {
        self.namespaces.of(name)
    }

    /// Emits an event to every socket of the main namespace.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.of("/").emit(event, args)
    }

    /// The sockets of these rooms of the main namespace.
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.of("/").to(rooms)
    }

    /// All sockets of the main namespace but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.of("/").except(rooms)
    }

    /// The engine below, with its sessions.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The path that clients connect to.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.namespaces.shared.path
    }

    /// What has been counted since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.engine.stats();
        stats.log_failures += self.namespaces.log_failures();
        stats
    }

    /// A tower service that answers every request that it is given.
    #[must_use]
    pub fn service(&self) -> EngineService {
        self.engine.service()
    }

    /// A tower layer that answers requests below [`path`](Self::path) and passes all others on.
    #[must_use]
    pub fn layer(&self) -> EngineLayer {
        self.service().layer(self.path())
    }

    /// Shuts down: what waits for a log that [stores first](recovery::Log) is delivered, for 5 s at the
    /// most. Then every socket is disconnected with the reason `server shutting down`, new
    /// connections are refused, and what is queued may still leave. Resolves when the last
    /// connection and the last handler have ended, disconnect handlers too: after 5 s at the most.
    /// Then logs of [recovery] have 5 s to store what is left, and [adapters](adapter::Adapter::close) have 5 s to say what they still have to say to
    /// other servers.
    ///
    /// Clients take this for a lost connection and connect again.
    pub async fn close(&self) {
        self.namespaces.catch_up().await;
        self.namespaces.disconnect_everyone();
        self.engine.close().await;
        self.namespaces.flush_logs().await;
        self.namespaces.close_adapters().await;
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path())
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
