//! Engine.IO: sessions over HTTP long-polling, HTTP streaming and WebSocket.
//!
//! The engine owns connections: which sessions there are, what each still has to send, and by when
//! each must have shown life. It knows nothing of namespaces or events. What uses it implements
//! [`Application`] and [`Connection`]: a session gives messages in order and takes messages in
//! order, whatever transport carries them.
//!
//! ```text
//! HTTP request -> http (routes, checks) -> polling, streaming or websocket -> Session -> Connection
//! Connection   -> Session::send -> outbound queue -> the poll that waits, the stream or the WebSocket
//! ```
//!
//! Each session has one driver, a task that watches its deadlines, reads its WebSocket if it has
//! one, and ends it. The rules of the protocol are in [`antiphon_protocol::engine::ServerSession`];
//! here is the I/O around them.

mod config;
mod hooks;
mod http;
mod room;
pub(crate) mod session;
mod stats;
mod transport;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::HeaderMap;
use antiphon_protocol::engine::{EncodedPacket, SessionConfig};
use tokio::runtime::Handle;

use crate::seldom::Warnings;

pub use antiphon_protocol::{
    BinaryMessage,
    engine::{
        CloseReason, ConflateKey, Message, Packet, QueueLimits, QueuePolicy, Revision,
        TransportKind,
    },
};
pub(crate) use config::LONGEST;
pub use config::{EngineConfig, InitialPacket};
pub use hooks::HttpRequest;
pub use http::{
    Denial, EngineBody, EngineLayer, EngineService, OrEngine, PeerAddr, RequestError, Secure,
    cookie::{Cookie, SameSite},
    cors::Cors,
    relay::{NotRelayed, Relay, RelayBody},
};
pub use session::id::{ServerTag, SessionId};
pub use session::{SendError, Session};
pub(crate) use session::{Sending, Sent};
use session::{backlog::Backlog, turn};
pub use stats::Stats;
pub(crate) use transport::stream::Wire;
use transport::{driver::Driven, goodbye};

pub(crate) use http::{
    EngineResponse, Fallback, Files, First, Peer, ReadAhead, ReadBody, first_request, is_below,
    peer_address,
};
#[doc(hidden)]
pub use session::turn::uncut;
pub(crate) use stats::Counters;

/// How long a shutdown waits for clients to fetch what is queued.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// What sits on an engine and gets its sessions.
pub trait Application: Send + Sync + 'static {
    /// A session was opened by this request. What is sent here follows the handshake: by polling it
    /// is fetched by the first poll, as with the reference implementation.
    fn connect(
        &self,
        session: &Arc<Session>,
        request: &::http::request::Parts,
    ) -> Arc<dyn Connection>;
}

/// One session's application side. Messages come one at a time and in order. `deadline`, `timeout`
/// and `closed` are called by the session's driver: with polling that is another task than the one
/// that hands a message on, maybe at the same moment. None of the methods may block.
pub trait Connection: Send + Sync + 'static {
    /// A message has come.
    fn message(&self, session: &Arc<Session>, message: Message<'_>);

    /// The session is closed: the last call.
    fn closed(&self, session: &Arc<Session>, reason: CloseReason);

    /// The session has moved to another [transport](Session::transport). By default nothing happens.
    fn upgraded(&self, session: &Arc<Session>) {
        let _ = session;
    }

    /// Whether nothing more is to be read for now. When that is over the session must be told.
    fn is_saturated(&self) -> bool {
        false
    }

    /// When [`timeout`](Self::timeout) wants to be called.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come.
    fn timeout(&self, session: &Arc<Session>, now: Instant) {
        let _ = (session, now);
    }
}

/// A server of Engine.IO: all sessions of one [`Application`].
pub struct Engine {
    config: EngineConfig,
    /// The part of it that each session looks at.
    session: Arc<SessionConfig>,
    application: Arc<dyn Application>,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    closing: AtomicBool,
    /// Handlers that were suspended, or run for sockets that leave.
    handlers: AtomicUsize,
    /// Wakes tasks that wait for the engine's close, or for its last session to end.
    changed: tokio::sync::Notify,
    /// The runtime that sessions live on: a task that ends one may run on another.
    runtime: OnceLock<Handle>,
    counters: Counters,
    warnings: Warnings,
    backlog: Backlog,
    goodbyes: goodbye::Goodbyes,
    /// Answers requests that belong to no session.
    fallback: OnceLock<Arc<dyn Fallback>>,
    /// Answers requests for files.
    files: OnceLock<Box<Files>>,
    /// Knows the servers that have other sessions.
    relay: OnceLock<Arc<dyn Relay>>,
}

impl Engine {
    /// An engine that gives its sessions to `application`.
    #[must_use]
    pub fn new(mut config: EngineConfig, application: Arc<dyn Application>) -> Arc<Self> {
        config.bound_durations();
        Arc::new(Self {
            session: Arc::new(config.session()),
            config,
            application,
            sessions: Mutex::default(),
            closing: AtomicBool::new(false),
            handlers: AtomicUsize::new(0),
            changed: tokio::sync::Notify::new(),
            runtime: OnceLock::new(),
            counters: Counters::default(),
            warnings: Warnings::default(),
            backlog: Backlog::default(),
            goodbyes: goodbye::Goodbyes::default(),
            fallback: OnceLock::new(),
            files: OnceLock::new(),
            relay: OnceLock::new(),
        })
    }

    /// The options.
    #[must_use]
    pub const fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions().len()
    }

    /// What has been counted since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot(self.sessions_count() as u64)
    }

    /// Refuses new sessions, closes those that there are, and waits until the last has ended. What
    /// is queued has 5 s (or [`EngineConfig::close_timeout`], if that is less) to leave, and
    /// handlers that run have as long to end.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
        let sessions: Vec<_> = self.sessions().values().map(Arc::clone).collect();
        turn::scope(|| sessions.iter().for_each(Session::close));
        drop(sessions);
        let idle = || self.handlers.load(Ordering::SeqCst) == 0;
        let ended = self.until(|| self.sessions().is_empty() && idle());
        if tokio::time::timeout(self.patience(), ended).await.is_ok() {
            return;
        }
        let handlers = self.handlers.load(Ordering::SeqCst);
        if handlers > 0 {
            tracing::warn!(
                handlers,
                "closed without the end of handlers that go on: one that awaits `close` itself waits for its \
                 own end, and has to spawn it"
            );
        }
        // Clients that are gone fetch no goodbye.
        let sessions: Vec<_> = self.sessions().values().map(Arc::clone).collect();
        sessions.iter().for_each(Session::abort);
        drop(sessions);
        self.until(|| self.sessions().is_empty()).await;
    }

    /// How long a shutdown waits for clients.
    pub(crate) fn patience(&self) -> Duration {
        self.config.close_timeout.min(SHUTDOWN_PATIENCE)
    }

    /// Resolves when the engine is being closed.
    pub(crate) async fn closed(&self) {
        self.until(|| self.is_closing()).await;
    }

    /// Resolves when the engine is being closed and its last session has ended: until then clients
    /// may fetch what is queued, by requests on new connections too.
    pub(crate) async fn drained(&self) {
        self.until(|| self.is_closing() && self.sessions().is_empty())
            .await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enabled first, so that no change between the check and the wait is missed.
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    /// Runs a handler on the runtime of the sessions. [`close`](Self::close) waits for it.
    pub(crate) fn spawn(self: &Arc<Self>, handler: impl Future<Output = ()> + Send + 'static) {
        let counted = HandlerGuard::begin(self);
        let future = async move {
            handler.await;
            drop(counted);
        };
        if let Some(runtime) = self.runtime() {
            runtime.spawn(future);
        }
    }

    /// The runtime of the caller, or else that of the sessions.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        // That of the caller first: with several runtimes the first may have ended.
        Handle::try_current()
            .ok()
            .or_else(|| self.runtime.get().cloned())
    }

    /// Adds the headers of every response to one that an app gives beside the engine.
    pub(crate) fn respond_beside(&self, headers: &mut HeaderMap) {
        if let Some(hooks) = &self.config.hooks {
            hooks.respond_beside(headers);
        }
    }

    /// Gives requests that belong to no session to `fallback`, which is set once.
    pub(crate) fn set_fallback(&self, fallback: Arc<dyn Fallback>) {
        let _ = self.fallback.set(fallback);
    }

    fn fallback(&self) -> Option<&Arc<dyn Fallback>> {
        self.fallback.get()
    }

    /// Asks `files` for the response to a request that names no transport. It is set once.
    pub(crate) fn set_files(&self, files: Box<Files>) {
        let _ = self.files.set(files);
    }

    /// Gives requests of sessions that other servers have to `relay`, which is set once.
    pub(crate) fn set_relay(&self, relay: Arc<dyn Relay>) {
        let _ = self.relay.set(relay);
    }

    fn relay(&self) -> Option<&Arc<dyn Relay>> {
        self.relay.get()
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) const fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions().get(&id).map(Arc::clone)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session: it is registered, and the application knows it. Its handshake is queued; by
    /// polling it is returned, the open packet alone: there are clients that read no more of it.
    /// Callers start the session's driver at once.
    fn open(
        self: &Arc<Self>,
        opening: SessionOptions,
        request: &::http::request::Parts,
    ) -> (Driven, VecDeque<EncodedPacket>) {
        self.runtime.get_or_init(Handle::current);
        let SessionOptions {
            revision,
            transport,
            ..
        } = opening;
        let session = self.register(opening);
        let driven = Driven::new(Arc::clone(&session));
        self.counters.sessions_opened.add(1);
        tracing::debug!(session = ?session.id(), ?revision, transport = transport.as_str(), "session opened");
        let handshake = match transport {
            TransportKind::Polling => session.lock().machine.take_handshake(),
            _ => VecDeque::new(),
        };
        if let Some(initial) = &self.config.initial_packet {
            // An empty queue takes any message.
            let _ = match initial {
                InitialPacket::Text(text) => session.send_text(text),
                InitialPacket::Binary(data) => session.send_binary(data),
            };
        }
        let connection = self.application.connect(&session, request);
        session.attach(connection);
        if self.is_closing() {
            // The shutdown began while this handshake was under way, and may not know of it.
            session.close();
        }
        (driven, handshake)
    }

    /// Makes a session that requests can find.
    fn register(self: &Arc<Self>, mut opening: SessionOptions) -> Arc<Session> {
        let Some(id) = opening.id else {
            let session = Session::open(Arc::clone(self), opening);
            self.sessions().insert(session.id(), Arc::clone(&session));
            return session;
        };
        let mut sessions = self.sessions();
        if sessions.contains_key(&id) {
            // Another handshake has come first; the response to this one has left already.
            tracing::error!(session = ?id, "`generate_id` gave one id twice: the second session gets a random one");
            opening.id = None;
        }
        let session = Session::open(Arc::clone(self), opening);
        sessions.insert(session.id(), Arc::clone(&session));
        session
    }

    /// Forgets a session that has ended.
    fn remove(&self, id: SessionId) {
        let mut sessions = self.sessions();
        sessions.remove(&id);
        // A server that was busy once doesn't keep the room for it for ever.
        if sessions.capacity() > 1_024 && sessions.len() < sessions.capacity() / 4 {
            sessions.shrink_to_fit();
        }
        if sessions.is_empty() {
            drop(sessions);
            self.changed.notify_waiters();
        }
    }
}

/// What a client asks for when it opens a session.
#[derive(Debug)]
pub(crate) struct SessionOptions {
    /// That the application has made.
    id: Option<SessionId>,
    revision: Revision,
    transport: TransportKind,
    /// It can't take binary.
    base64: bool,
    /// It says how many packets it has had: what is sent by polling is kept until then.
    is_tracked: bool,
    /// How seldom it comes: so much longer may it be silent.
    interval: Duration,
    /// Packets that it takes in one poll.
    packets_per_poll: usize,
    /// What leaves before anything else: the answer to the opening handshake of a WebSocket, where
    /// no HTTP server writes it.
    greeting: Option<Vec<u8>>,
}

/// A handler that runs by itself, counted until it has ended.
struct HandlerGuard(Arc<Engine>);

impl HandlerGuard {
    fn begin(engine: &Arc<Engine>) -> Self {
        engine.handlers.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(engine))
    }
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        if self.0.handlers.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_closing() {
            self.0.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("sessions", &self.sessions_count())
            .finish_non_exhaustive()
    }
}
