//! The options of a server: collected by [`ServerBuilder`], given to the engine and to `Shared` by
//! `build`, and unchanged from then on.
//!
//! Each method says its default and unit. Options that can't work (a path without a slash, no
//! transports, no handler at a time) panic here, at the start of the program; long durations are
//! cut.

mod requests;

use std::{fmt, sync::Arc, sync::atomic::AtomicUsize, time::Duration};

use antiphon_protocol::socket::{Limits, MAX_ATTACHMENTS, Parser};
#[cfg(feature = "deflate")]
use antiphon_protocol::websocket::deflate::Level;
use http::request::Parts;
use serde::Serialize;

use crate::engine::{Cookie, Cors, Engine, EngineConfig, LONGEST, QueueLimits, TransportKind};
use crate::server::{
    ClientFiles, ErrorAcks, FlashPolicy, HttpCalls, Recovery, Server, Shared,
    adapter::{Adapter, AdapterFactory, InMemory, Local},
    calls::Calls,
    client::handshake::Kept,
    client_files,
    namespace::namespaces::Namespaces,
    parser,
    shared::{SharedData, StateMap},
    socket::values::Values,
};

/// Builds a [`Server`]; every option has Socket.IO's default.
#[must_use = "a builder does nothing until `build` is called"]
pub struct ServerBuilder {
    engine: EngineConfig,
    path: String,
    connect_timeout: Duration,
    leave_timeout: Duration,
    max_namespaces: usize,
    max_dynamic_namespaces: usize,
    remove_empty_namespaces: bool,
    max_auth: usize,
    max_running_handlers: usize,
    ack_timeout: Duration,
    limits: Limits,
    parser: Parser,
    max_emitted_attachments: usize,
    error_acks: ErrorAcks,
    kept: Kept,
    flash: Option<FlashPolicy>,
    state: StateMap,
    adapter: Box<dyn AdapterFactory>,
    shared_data: Vec<SharedData>,
    recovery: Option<Arc<Recovery>>,
    http_calls: Option<HttpCalls>,
    client_files: Option<ClientFiles>,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        let mut engine = EngineConfig::default();
        engine.max_payload_before_join = 200_000;
        Self {
            engine,
            path: "/socket.io".to_owned(),
            connect_timeout: Duration::from_secs(45),
            leave_timeout: Duration::from_secs(5),
            max_namespaces: 256,
            max_dynamic_namespaces: 10_000,
            remove_empty_namespaces: false,
            max_auth: 200_000,
            max_running_handlers: 1_000,
            ack_timeout: Duration::from_secs(20),
            limits: Limits::default(),
            parser: Parser::default(),
            max_emitted_attachments: MAX_ATTACHMENTS,
            error_acks: ErrorAcks::default(),
            kept: Kept::default(),
            flash: None,
            state: StateMap::default(),
            shared_data: Vec::new(),
            adapter: Box::new(|_: &str, local: Local| -> Arc<dyn Adapter> {
                Arc::new(InMemory::new(local))
            }),
            recovery: None,
            http_calls: None,
            client_files: None,
        }
    }

    /// The path that clients connect to (their option `path`). `/socket.io`.
    ///
    /// Behind a proxy it is the path that arrives here: if the proxy takes a prefix off, it
    /// isn't part of this.
    ///
    /// # Panics
    /// If it doesn't begin with `/` or is `/` alone.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        let trimmed = path.trim_end_matches('/');
        assert!(
            trimmed.len() > 1 && trimmed.starts_with('/'),
            "the path {path:?} must begin with / and name something, as /socket.io does"
        );
        self.path = trimmed.to_owned();
        self
    }

    /// Time between two heartbeats. 25 s. Keep the sum with [`ping_timeout`](Self::ping_timeout)
    /// below the idle timeout of proxies in front.
    #[doc(alias = "pingInterval")]
    pub const fn ping_interval(mut self, interval: Duration) -> Self {
        self.engine.ping_interval = interval;
        self
    }

    /// How long the answer to a heartbeat may take. 20 s.
    #[doc(alias = "pingTimeout")]
    pub const fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.engine.ping_timeout = timeout;
        self
    }

    /// How long an upgrade to another transport may take; after that the session stays on the one
    /// that it has. 10 s.
    #[doc(alias = "upgradeTimeout")]
    pub const fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.engine.upgrade_timeout = timeout;
        self
    }

    /// How long a connection may be without a namespace before it is closed: from its start, and
    /// from when it has left the last. Middlewares that are asked are part of that time. 45 s.
    ///
    /// The [disconnect handlers](crate::Namespace::on_disconnect) of a socket wait as long for its
    /// connect handlers, and for events that came before it left; what isn't handled by then is
    /// dropped.
    #[doc(alias = "connectTimeout")]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a client that joins a namespace again, right after it has left it, waits for the
    /// disconnect handlers of its old socket. After that they go on side by side with the new
    /// socket. 5 s.
    ///
    /// Clients that come by another connection don't wait. A handler that gives a user some time to
    /// come back does so in a task of its own:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let io = antiphon::Server::new();
    /// # fn mark_offline(_: antiphon::Socket) {}
    /// io.of("/").on_disconnect(async |socket: antiphon::Socket| {
    ///     tokio::spawn(async move {
    ///         tokio::time::sleep(Duration::from_secs(30)).await;
    ///         mark_offline(socket);
    ///     });
    /// });
    /// ```
    pub const fn leave_timeout(mut self, timeout: Duration) -> Self {
        self.leave_timeout = timeout;
        self
    }

    /// Namespaces that one connection may be in. 256. One more is refused: the client's
    /// `connect_error` says `too many namespaces`.
    pub const fn max_namespaces(mut self, count: usize) -> Self {
        self.max_namespaces = count;
        self
    }

    /// Namespaces that clients may cause on this server, by names that fit
    /// [patterns](Server::of_pattern) and [functions](Server::of_matching). 10,000. One more is refused:
    /// the client's `connect_error` says `too many namespaces on this server`, and the log does, once a
    /// minute. Those that the application has asked for by their names don't count.
    pub const fn max_dynamic_namespaces(mut self, count: usize) -> Self {
        self.max_dynamic_namespaces = count;
        self
    }

    /// Whether a namespace that clients have caused goes away when nobody is in it any more. False, as
    /// in Node; one that nobody was ever let into goes in any case. Handlers belong to its parent and stay; events that are
    /// [retained](crate::Broadcast::retain) in it keep it. One with [recovery](Self::recovery) in memory
    /// goes when nobody can come back to it any more; one whose log is in a file, or shared by several
    /// servers, stays, and so does one that the application has asked for by its name.
    /// What is emitted by a handle of one that has gone reaches nobody on this server.
    #[doc(alias = "cleanupEmptyChildNamespaces")]
    pub const fn remove_empty_namespaces(mut self, remove: bool) -> Self {
        self.remove_empty_namespaces = remove;
        self
    }

    /// Bytes of [`Auth`](crate::Auth) that are kept for one connection, in all its namespaces
    /// together. 200,000. A namespace with more is refused: the client's `connect_error` says `auth
    /// too large`.
    ///
    /// A CONNECT is a message of a connection that may have joined nothing yet: if more than
    /// 200,000 bytes are to be taken, [`max_payload_before_join`](Self::max_payload_before_join)
    /// has to be raised, too.
    pub const fn max_auth(mut self, bytes: usize) -> Self {
        self.max_auth = bytes;
        self
    }

    /// How long a connection that is being closed waits for its last packets to be fetched. 30 s.
    pub const fn close_timeout(mut self, timeout: Duration) -> Self {
        self.engine.close_timeout = timeout;
        self
    }

    /// How long an emit waits for its acknowledgement if it doesn't say. 20 s.
    #[doc(alias = "ackTimeout")]
    pub const fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// Bytes that a message may have, on every transport. 1,000,000.
    #[doc(alias = "maxHttpBufferSize")]
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.engine.max_payload = bytes;
        self
    }

    /// Bytes that a message may have while its connection has joined no namespace: room for its
    /// `auth`, and for one that is refused with a word. 200,000. More than
    /// [`max_payload`](Self::max_payload) counts as that.
    ///
    /// Stock clients send nothing else before they have joined. So this is what a connection that
    /// nobody knows can hold.
    pub const fn max_payload_before_join(mut self, bytes: usize) -> Self {
        self.engine.max_payload_before_join = bytes;
        self
    }

    /// Packets that one POST may bring. 10,000.
    pub const fn max_packets_per_payload(mut self, count: usize) -> Self {
        self.engine.max_packets_per_payload = count;
        self
    }

    /// Packets that the response of one poll may have; others go with the next. Any number, but 16
    /// for clients in Python, which close the connection for more (`max_decode_packets` of
    /// `engineio.payload.Payload`): they are known by the `User-Agent` of `requests` and `aiohttp`.
    /// Set 16 if such clients have another one.
    ///
    /// # Panics
    /// If it is zero: nothing would ever leave.
    pub const fn max_packets_per_poll(mut self, count: usize) -> Self {
        assert!(
            count > 0,
            "with no packet a poll nothing would ever leave: leave the option out, or say 16 for \
             clients in Python"
        );
        self.engine.max_packets_per_poll = count;
        self
    }

    /// Bounds of what one packet of a client may hold: attachments, nesting, values, names, ids.
    /// They hold for the payload of a CONNECT (`auth`), too, and whatever the parser. What the
    /// server emits isn't held to them; see
    /// [`max_emitted_attachments`](Self::max_emitted_attachments).
    ///
    /// A client that is beyond one is closed (`forced close`, at the client `transport close`), is
    /// counted in [`Stats::undecodable`](crate::Stats), and the log says at level debug by which
    /// limit. A call by HTTP is answered with 400, and the limit.
    ///
    /// ```
    /// use antiphon::{Limits, Server};
    ///
    /// let io = Server::builder().limits(Limits::new().depth(20).values(1_000)).build();
    /// ```
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Clients that have lost their connection come back as the sockets that they were, and get what
    /// they have missed: connection state recovery, as stock clients from 4.6 on have it. Off by
    /// default. See [`Recovery`].
    #[doc(alias = "connectionStateRecovery")]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = Some(Arc::new(recovery));
        self
    }

    /// Binary values that one event or acknowledgement of the server may hold; an emit of more is
    /// an error. 10, since stock clients in JavaScript from 4.6 on close the connection for more
    /// (`maxAttachments` of `socket.io-parser` 4.2.6).
    ///
    /// Raise it if all clients take more:
    ///
    /// ```
    /// use antiphon::{Limits, Server};
    ///
    /// let server = Server::builder()
    ///     .max_emitted_attachments(32)
    ///     // Those that clients may send.
    ///     .limits(Limits::new().attachments(32))
    ///     .build();
    /// ```
    pub const fn max_emitted_attachments(mut self, count: usize) -> Self {
        self.max_emitted_attachments = count;
        self
    }

    /// Which errors of the server itself are acknowledged to clients. [`ErrorAcks::All`]. A client
    /// with `retries` sends an event again only if it isn't acknowledged: see the
    /// [guide](crate::guide::handlers#error-acknowledgements-and-retries).
    ///
    /// ```
    /// use antiphon::{ErrorAcks, Server};
    ///
    /// let io = Server::builder().error_acks(ErrorAcks::Lasting).build();
    /// ```
    pub const fn error_acks(mut self, acknowledged: ErrorAcks) -> Self {
        self.error_acks = acknowledged;
        self
    }

    /// What may wait for a client that reads slowly. 16,384 packets, 16 MiB. One that takes nothing
    /// of more than that for [`ping_timeout`](Self::ping_timeout) is disconnected; one that goes on
    /// taking may have 8 times as much waiting ([`QueueLimits::burst`]). See the
    /// [guide](crate::guide::rooms#clients-that-read-slowly).
    pub const fn outbound(mut self, limits: QueueLimits) -> Self {
        self.engine.outbound = limits;
        self
    }

    /// Bytes that may wait for all clients together. 1 GiB. Beyond that the clients for which most
    /// waits are disconnected, one by one, until it is less. What waits for many (an event to a room)
    /// counts once, and clients for which less than 16 KiB waits don't count.
    pub const fn outbound_budget(mut self, bytes: usize) -> Self {
        self.engine.outbound_budget = bytes;
        self
    }

    /// Compresses messages of so many bytes and more where a client's WebSocket takes that
    /// (`permessage-deflate`, RFC 7692), as browsers and stock clients do. Off by default, as in
    /// Node, where a threshold of 1,024 is usual. Needs the feature `deflate`.
    ///
    /// Each message is compressed alone, and once however many receive it. So no connection owns
    /// memory for it: each thread has up to 400 KB for each of at most three sizes of window that
    /// clients ask for. What clients send compressed may have [`max_payload`](Self::max_payload)
    /// bytes when it is inflated.
    ///
    /// ```
    /// let io = antiphon::Server::builder().compression(1_024).build();
    /// ```
    #[cfg(feature = "deflate")]
    #[doc(alias = "perMessageDeflate")]
    pub const fn compression(mut self, threshold: u32) -> Self {
        self.engine.compression_threshold = Some(threshold);
        self
    }

    /// How much work is made of [compressing](Self::compression) a message: from 1, the fastest, to
    /// 9, the smallest. 1: on JSON of 0.4 to 12 KB it takes a quarter to a third of the time of 6,
    /// which is Node's, for 14 to 43 % more bytes.
    ///
    /// ```
    /// // Few receivers, far away.
    /// let io = antiphon::Server::builder().compression(1_024).compression_level(6).build();
    /// ```
    ///
    /// # Panics
    /// If there is no such level:
    ///
    /// ```should_panic
    /// antiphon::Server::builder().compression_level(0).build(); // write one from 1 to 9
    /// ```
    #[cfg(feature = "deflate")]
    #[doc(alias("level", "zlibDeflateOptions"))]
    pub const fn compression_level(mut self, level: u8) -> Self {
        match Level::new(level) {
            Some(level) => self.engine.compression_level = level,
            None => panic!("there is no such level of compression: write one from 1 to 9"),
        }
        self
    }

    /// What packets are written as. JSON; the clients must have chosen the same, since nothing on
    /// the wire says it. For one of your own see the [guide](crate::guide::parsers).
    ///
    /// ```
    /// use antiphon::{Parser, Server};
    ///
    /// // Clients: io(url, { parser: require("socket.io-msgpack-parser") })
    /// let io = Server::builder().parser(Parser::Msgpack).build();
    /// ```
    ///
    /// In MessagePack a message is one, whatever binary values it has, and how many another parser
    /// can write is its own to say: [`max_emitted_attachments`](Self::max_emitted_attachments) is
    /// for JSON alone.
    pub fn parser(mut self, parser: impl Into<Parser>) -> Self {
        self.parser = parser.into();
        self.engine.is_transcoded = self.parser.packets().is_some();
        self
    }

    /// Handlers of one connection that may run at a time; more is read when some have ended. 1,000.
    /// An acknowledgement is read too: if so many handlers wait for those of their own client,
    /// they wait until the timeout. What keeps more than 16 KiB counts as several.
    ///
    /// # Panics
    /// If it is zero: nothing would ever be read.
    pub const fn max_running_handlers(mut self, count: usize) -> Self {
        assert!(
            count > 0,
            "with no handler at a time nothing would ever be read"
        );
        self.max_running_handlers = count;
        self
    }

    /// The transports that are offered. Polling and WebSocket; streaming is for clients that know
    /// it, as those with the npm package `@antiphon/transports` do.
    ///
    /// # Panics
    /// If there is none.
    pub fn transports(mut self, transports: impl IntoIterator<Item = TransportKind>) -> Self {
        self.engine.transports = transports.into_iter().collect();
        assert!(
            !self.engine.transports.is_empty(),
            "without a transport nobody can connect"
        );
        self
    }

    /// Bytes after which a streamed response ends, and its client asks for the next. 256 KiB. Less
    /// suits proxies that keep what they pass on.
    pub const fn max_stream_bytes(mut self, bytes: usize) -> Self {
        self.engine.max_stream_bytes = bytes;
        self
    }

    /// Whether clients are offered the upgrade from polling to another transport. True.
    #[doc(alias = "allowUpgrades")]
    pub const fn allow_upgrades(mut self, allow: bool) -> Self {
        self.engine.allow_upgrades = allow;
        self
    }

    /// Whether clients of Socket.IO 1.x and 2.x (Engine.IO 3) are taken. True.
    ///
    /// The ids of their sockets are the credentials of their sessions: if they are taken, don't
    /// show ids of sockets to others. See the
    /// [guide](crate::guide::serving#what-revision-3-means-for-ids).
    #[doc(alias = "allowEIO3")]
    pub const fn allow_eio3(mut self, allow: bool) -> Self {
        self.engine.allow_eio3 = allow;
        self
    }

    /// Whether a handshake must say its revision of Engine.IO (`EIO`) as 3 or 4. `false`, since
    /// Swift clients up to 15.2, Arduino clients and `socket.io-client` 1.0 say none or 2 and speak
    /// 3, as which Node takes them, too.
    pub const fn require_eio(mut self, require: bool) -> Self {
        self.engine.require_eio = require;
        self
    }

    /// Whether long-polling by JSONP is taken: by pages of Socket.IO 1.x and 2.x in old browsers
    /// (`forceJSONP`). Pages need the permission of [`cors`](Self::cors) for it as for all else.
    /// True.
    pub const fn allow_jsonp(mut self, allow: bool) -> Self {
        self.engine.allow_jsonp = allow;
        self
    }

    /// Takes the WebSockets that old clients open by Flash, `transport=flashsocket`, and answers
    /// `<policy-file-request/>` on the same port. Off by default.
    ///
    /// The same port is possible with [`serve`](Server::serve) and [`listen`](Server::listen).
    /// Under axum or hyper, which accept the connections, the policy needs a port of its own:
    /// [`Server::serve_flash_policy`]. The pages need the permission of [`cors`](Self::cors) as
    /// well.
    pub fn flash_sockets(mut self, policy: FlashPolicy) -> Self {
        self.engine.allow_flashsocket = true;
        self.flash = Some(policy);
        self
    }

    /// Which web pages may connect, by polling and by WebSocket. Those of the same origin.
    pub fn cors(mut self, cors: Cors) -> Self {
        self.engine.cors = cors;
        self
    }

    /// Sets a cookie with the id of the session, for load balancers. None.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.engine.cookie = Some(cookie);
        self
    }

    /// A value that handlers get as [`State<T>`](crate::State): one of each type.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// What connects this server with others: makes the adapter of each namespace. The default
    /// knows this server alone. A closure, `|_: &str, local: Local| -> Arc<dyn Adapter> { .. }`, is
    /// one, too: see [`adapter`](crate::adapter).
    pub fn adapter(mut self, factory: impl AdapterFactory) -> Self {
        self.adapter = Box::new(factory);
        self
    }

    /// Tells other servers the [value](crate::Socket::insert) of this type that a socket has, under
    /// this name: see [`RemoteSocket::data`](crate::RemoteSocket::data).
    ///
    /// ```
    /// use antiphon::{Server, Socket};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct User {
    ///     name: String,
    /// }
    ///
    /// let io = Server::builder().share_data::<User>("user").build();
    /// io.of("/").on("who", async |socket: Socket| {
    ///     let found = socket.namespace().to("lobby").sockets().await;
    ///     let found = found.unwrap_or_default().sockets;
    ///     let users = found.iter().filter_map(|socket| socket.data::<User>("user"));
    ///     users.map(|user| user.name).collect::<Vec<_>>()
    /// });
    /// ```
    pub fn share_data<T: Serialize + Clone + Send + Sync + 'static>(mut self, name: &str) -> Self {
        let read = |values: &Values| serde_json::to_value(values.get::<T>()?).ok();
        self.shared_data.push((name.into(), read));
        self
    }

    /// Lets events be called by `POST {path}/call/{namespace}/{event}`, if no connection can be
    /// made. Off. See the [guide](crate::guide::http_calls).
    pub fn http_calls(mut self, calls: HttpCalls) -> Self {
        self.http_calls = Some(calls);
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> Server {
        let relay = self.adapter.relay();
        let namespaces = Namespaces::new(Shared {
            path: self.path.into(),
            connect_timeout: self.connect_timeout.min(LONGEST),
            leave_timeout: self.leave_timeout.min(LONGEST),
            max_namespaces: self.max_namespaces,
            max_dynamic_namespaces: self.max_dynamic_namespaces,
            remove_empty_namespaces: self.remove_empty_namespaces,
            max_auth: self.max_auth,
            max_running_handlers: self.max_running_handlers,
            ack_timeout: self.ack_timeout,
            limits: self.limits,
            max_emitted_attachments: match self.parser {
                Parser::Json => self.max_emitted_attachments,
                _ => usize::MAX,
            },
            parser: parser::guarded(self.parser),
            error_acks: self.error_acks,
            kept: self.kept,
            flash: self.flash,
            state: self.state,
            tag: relay.as_ref().map(|relay| relay.tag()),
            adapter: self.adapter,
            recovery: self.recovery,
            shared_data: self.shared_data,
            outgoing_listeners: AtomicUsize::new(0),
        });
        let engine = Engine::new(self.engine, Arc::clone(&namespaces) as _);
        namespaces.set_engine(&engine);
        if let Some(relay) = relay {
            engine.set_relay(relay);
        }
        let (path, files) = (Box::clone(&namespaces.shared.path), self.client_files);
        let files = move |request: &Parts| client_files::respond(&path, files.as_ref(), request);
        engine.set_files(Box::new(files));
        if let Some(options) = self.http_calls {
            let calls = Calls::new(options, &namespaces);
            engine.set_fallback(Arc::new(calls));
        }
        Server::from_parts(engine, namespaces)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("path", &self.path)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
