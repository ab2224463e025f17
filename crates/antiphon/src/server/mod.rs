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
pub(crate) mod client_files;
mod delivery;
mod error;
mod handlers;
mod namespace;
mod parser;
pub mod recovery;
mod rooms;
mod serve;
mod shared;
mod socket;
#[cfg(feature = "test")]
pub mod test;
#[cfg(feature = "typescript")]
pub mod typescript;

use std::{fmt, future::Future, sync::Arc, time::Duration};

pub use acks::{Ack, Acknowledged, BroadcastAnswers, ErrorAcks, ServerAnswers};
pub use adapter::RemoteSocket;
pub use builder::ServerBuilder;
pub use calls::HttpCalls;
pub use client::{handshake::Handshake, reason::DisconnectReason};
pub use client_files::ClientFiles;
pub use delivery::kept::{Undelivered, UndeliveredReason};
pub use error::{AckError, ConnectError, EmitError, Emitted, HandlerError, Rejection};
pub use handlers::{
    args::{Args, FromArgs, IntoArgs, IntoReply, NewEvent},
    binary::Binary,
    context::Context,
    extract::{Auth, Data, Event, Extension, FromContext, State},
    handler::Handler,
    kinds::{OnConnect, OnDisconnect, OnEvent},
};
pub use namespace::{
    Namespace, emitting::ParentBroadcast, params::Param, parent::ParentNamespace, rule::JoinRequest,
};
pub use recovery::Recovery;
pub use rooms::{
    Room, Target,
    broadcast::{Broadcast, IntoRooms},
    events::RoomEvent,
    fetched::{CountedSockets, FetchedSocket, FetchedSockets},
};
#[cfg(feature = "tls")]
pub use serve::tls::{Tls, TlsError};
pub use serve::{Serving, flash::FlashPolicy, listener::Listener, per_core::PerCore};
pub use socket::{Socket, SocketId, emitter::Emitter};

pub(crate) use shared::Shared;

use namespace::{name::with_slash, namespaces::Namespaces, rule::Rule};

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
    /// Clients can only join namespaces that were made, or that fit a [pattern](Self::of_pattern) or a
    /// [function](Self::of_matching). A name that fits a pattern is a child of that; it stays then,
    /// also if nobody is in it.
    #[must_use]
    pub fn of(&self, name: &str) -> Namespace {
        self.namespaces.of(name)
    }

    /// The namespace of this name, if there is one: also one that clients have caused, which nothing
    /// keeps from going away.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<Namespace> {
        self.namespaces.get(&with_slash(name))
    }

    /// Namespaces whose names fit a pattern: the first client that asks for one makes it, and all
    /// share what is registered here, also what is registered later. The first call with a pattern
    /// makes the parent; later ones give it again.
    ///
    /// A parameter, `{name}`, is one or more characters between two slashes; text may stand before and
    /// behind it. `{{` and `}}` are braces. Handlers take the parameters as [`Param`]. Namespaces that
    /// were made by [`of`](Self::of) come first, then patterns and functions in the order of their
    /// registration; the first that fits counts. Names with control characters or `#` fit none.
    ///
    /// ```
    /// use antiphon::{Data, Param, Server, Socket};
    ///
    /// let io = Server::new();
    /// let rooms = io.of_pattern("/room-{id}");
    /// rooms
    ///     .middleware(async |Param(_): Param<u32>| Ok(())) // only numbers
    ///     .on("say", async |socket: Socket, Data(text): Data<String>| {
    ///         socket.broadcast().emit("said", text); // to the others in the same namespace
    ///     });
    /// rooms.emit("news", "to everyone in all of them");
    /// ```
    ///
    /// # Panics
    /// If no name can fit the pattern, or another one takes the same names. The message says what to
    /// write instead.
    #[doc(alias = "of")]
    pub fn of_pattern(&self, pattern: &str) -> ParentNamespace {
        match Rule::pattern(pattern, &self.namespaces.shared) {
            Ok(rule) => self.namespaces.parent(rule),
            Err(error) => panic!("{pattern:?} is no pattern of namespaces: {error}"),
        }
    }

    /// Namespaces of which a function decides: asked whenever a client asks to join one whose name
    /// nothing before it fits, also if the namespace is there already. `Ok(true)` lets the client go on
    /// to the middlewares, with `Ok(false)` the next pattern or function is asked, and an error is the
    /// client's `connect_error`, with message and data.
    ///
    /// The function may take its time: nothing else of the client waits. After
    /// [`connect_timeout`](ServerBuilder::connect_timeout) the client is refused (`timeout`), and if the
    /// function panics (`internal error`). A namespace belongs to the function that has let its first
    /// client in, as long as it is there. Servers of a cluster register their functions in the same
    /// order.
    ///
    /// ```
    /// use antiphon::{ConnectError, JoinRequest, Server};
    ///
    /// #[derive(Clone)]
    /// struct Tenants(Vec<String>);
    ///
    /// let io = Server::builder().state(Tenants(vec!["acme".to_owned()])).build();
    /// let tenants = io.of_matching(async |request: JoinRequest| {
    ///     let Some(tenant) = request.name().strip_prefix("/tenant-") else {
    ///         return Ok(false);
    ///     };
    ///     let known = request.state::<Tenants>().is_some_and(|all| all.0.iter().any(|it| it == tenant));
    ///     match (known, request.auth::<Option<String>>()) {
    ///         (true, Ok(Some(_token))) => Ok(true),
    ///         _ => Err(ConnectError::new("not authorized").with_data("E_TENANT")),
    ///     }
    /// });
    /// tenants.on("ping", async || "pong");
    /// ```
    #[doc(alias = "of")]
    pub fn of_matching<F, Fut>(&self, function: F) -> ParentNamespace
    where
        F: Fn(JoinRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, ConnectError>> + Send + 'static,
    {
        self.namespaces.parent(Rule::function(function))
    }

    /// Calls `hook` with each namespace that is made from now on, by [`of`](Self::of) or since a client
    /// has asked for it: before anybody is in it. It is called by the thread that makes the namespace,
    /// which others that want the same one wait for: it may ask for its own namespace, and for others that
    /// are there. If it panics, clients aren't let into that
    /// namespace (`internal error`).
    ///
    /// ```
    /// let io = antiphon::Server::new();
    /// io.on_new_namespace(|namespace| {
    ///     println!("{} is there", namespace.name());
    /// });
    /// ```
    #[doc(alias = "new_namespace")]
    pub fn on_new_namespace<F>(&self, hook: F) -> Self
    where
        F: Fn(Namespace) + Send + Sync + 'static,
    {
        self.namespaces.on_new(Arc::new(hook));
        self.clone()
    }

    /// Emits an event to every socket of the main namespace.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.of("/").emit(event, args)
    }

    /// Emits the event `message` to every socket of the main namespace.
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Emits an event to every socket of the main namespace and waits for their acknowledgements: see
    /// [`Broadcast::emit_with_ack`].
    ///
    /// # Errors
    /// [`AckError::Emit`] if the event can't be encoded.
    #[doc(alias = "emitWithAck")]
    pub fn emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<BroadcastAnswers<R>> {
        self.of("/").emit_with_ack(event, args)
    }

    /// All sockets of the main namespace.
    pub fn broadcast(&self) -> Broadcast {
        self.of("/").broadcast()
    }

    /// All sockets of the main namespace, of which those that can't take an event at once don't get it.
    pub fn volatile(&self) -> Broadcast {
        self.broadcast().volatile()
    }

    /// All sockets of the main namespace, with a time for acknowledgements.
    pub fn timeout(&self, timeout: Duration) -> Broadcast {
        self.broadcast().timeout(timeout)
    }

    /// Emits an event to the main namespace of the other servers: see
    /// [`Namespace::server_side_emit`].
    #[doc(alias = "serverSideEmit")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.of("/").server_side_emit(event, args)
    }

    /// Emits an event to the main namespace of the other servers and waits for what their handlers
    /// return: see [`Namespace::server_side_emit_with_ack`].
    ///
    /// # Errors
    /// [`AckError`] if the event can't be encoded, or the adapter fails.
    #[doc(alias = "serverSideEmitWithAck")]
    pub fn server_side_emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<ServerAnswers<R>> {
        self.of("/").server_side_emit_with_ack(event, args)
    }

    /// The sockets of these rooms of the main namespace.
    #[doc(alias = "in")]
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
    /// Clients take this for a lost connection and connect again. The server stays closed: a program
    /// that wants to listen again builds another one. A handler that closes the server spawns that,
    /// `tokio::spawn(async move { io.close().await })`: if it waited, that would be for its own end.
    pub async fn close(&self) {
        self.namespaces.catch_up().await;
        self.namespaces.disconnect_everyone();
        self.engine.close().await;
        self.namespaces.flush_logs().await;
        self.namespaces.close_adapters().await;
    }
}

/// The server that the socket is connected to.
impl<K> FromContext<K> for Server {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let socket = context.socket();
        let namespaces = socket.namespace().namespaces();
        let namespaces =
            namespaces.ok_or_else(|| Rejection::new("internal_error", "the server is gone"))?;
        let engine = Arc::clone(socket.peer().engine());
        Ok(Self::from_parts(engine, namespaces))
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
