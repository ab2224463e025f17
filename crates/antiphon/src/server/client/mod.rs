//! One client's connection: which namespaces it is in, and what its packets mean (docs/protocol.md
//! 14 and 15).
//!
//! The engine's session owns it, as its [`engine::Connection`]; its sockets hold it weakly.
//! Messages come in order and go through the decoder under its lock; the packet is handled without.
//! CONNECT makes a [`Socket`] and runs `join`: middlewares, the answer, connect handlers, then its
//! events. Events and acks go to `dispatch` and `ack`. A packet that breaks a rule closes the
//! connection (`violation`, `undecodable`), and so do its two deadlines: no namespace in time,
//! attachments that don't come.
//!
//! Sockets that leave a namespace and sockets that come are one queue. A client that joins again
//! right after it has left has two sockets for a while: the old one, until its goodbye is over, and
//! the new one, whose middlewares are asked then. While the new one waits or is asked, another
//! CONNECT takes its place.

pub(crate) mod handshake;
pub(crate) mod reason;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use antiphon_protocol::{
    engine::{CloseReason, Message},
    socket::{self as codec, DecodeError, Decoder, Fanout, Packet},
};
use bytes::Bytes;
use http::request::Parts;
use serde::Serializer as _;
use serde_json::Value;

use crate::engine::{self, Application, Sending, Session, session::turn};
use crate::server::{
    ConnectError, Context, DisconnectReason, Handshake, Shared, Socket,
    handlers::dispatch,
    handlers::{
        handler,
        permits::{self, Owner, Permits},
    },
    namespace::namespaces::Namespaces,
    recovery::Resumption,
};

/// The violation of a packet for a namespace that the client isn't in.
const NOT_JOINED: &str = "a packet for a namespace that it hasn't joined";

/// The Socket.IO side of one session.
pub(crate) struct Client {
    namespaces: Weak<Namespaces>,
    session: Weak<Session>,
    handshake: Arc<Handshake>,
    permits: Permits,
    /// Itself, for the sockets that it makes.
    this: Weak<Self>,
    state: Mutex<ClientState>,
}

struct ClientState {
    decoder: Decoder,
    /// For each namespace one that is connected or connecting, or one that leaves and maybe one
    /// that waits behind it. They are few: a list is smaller than a map, and as quick.
    sockets: Vec<Socket>,
    /// By when a namespace must have been joined. `None` once one has.
    join_by: Option<Instant>,
    /// By when the attachments that are outstanding must have come.
    attachments_by: Option<Instant>,
}

/// What a CONNECT comes to.
enum Admission {
    /// The socket's middlewares are asked now.
    Begins,
    /// Behind another one that leaves.
    Waits,
    /// The client has joined this namespace already.
    Joined,
    /// The connection holds as much as it may.
    Refused(ConnectError),
}

impl ClientState {
    /// The socket of a namespace that the client has joined, as far as it knows.
    fn joined(&self, namespace: &str) -> Option<Socket> {
        let mut sockets = self.sockets.iter();
        let in_namespace = |socket: &&Socket| socket.namespace().name() == namespace;
        let socket = sockets.find(in_namespace)?;
        (socket.is_connected() || socket.is_leaving()).then(|| socket.clone())
    }

    /// The socket of a namespace that waits behind another one.
    fn waiting(&self, namespace: &str) -> Option<Socket> {
        let mut sockets = self.sockets.iter();
        let waits =
            |socket: &&Socket| socket.is_waiting() && socket.namespace().name() == namespace;
        sockets.find(waits).cloned()
    }

    /// Puts a socket behind those that there are, and gives the one that it takes the place of.
    fn admit(&mut self, socket: &Socket, shared: &Shared) -> (Admission, Option<Socket>) {
        let name = socket.namespace().name();
        let in_namespace = |one: &Socket| one.namespace().name() == name;
        let mut replaced = None;
        if let Some(newest) = self.sockets.iter().rposition(in_namespace) {
            let newest_one = &self.sockets[newest];
            if newest_one.replaced() {
                replaced = Some(self.sockets.remove(newest));
            } else if newest_one.is_connected() {
                return (Admission::Joined, None);
            }
        }
        if self.sockets.len() >= shared.max_namespaces {
            return (
                Admission::Refused(ConnectError::new("too many namespaces")),
                replaced,
            );
        }
        let auth = self.sockets.iter().map(Socket::auth_len).sum::<usize>() + socket.auth_len();
        if auth > shared.max_auth {
            return (
                Admission::Refused(ConnectError::new("auth too large")),
                replaced,
            );
        }
        let waits = self.sockets.iter().any(in_namespace);
        // Most clients join one namespace.
        self.sockets.reserve_exact(1);
        self.sockets.push(socket.clone());
        if waits {
            return (Admission::Waits, replaced);
        }
        socket.begin();
        (Admission::Begins, replaced)
    }
}

impl Client {
    pub(crate) fn new(
        namespaces: Weak<Namespaces>,
        shared: &Shared,
        handshake: Handshake,
        session: &Arc<Session>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            state: Mutex::new(ClientState {
                decoder: Decoder::new(session.revision(), shared.limits)
                    .with_parser(session.engine().config().parser),
                sockets: Vec::new(),
                join_by: Some(Instant::now() + shared.connect_timeout),
                attachments_by: None,
            }),
            session: Arc::downgrade(session),
            handshake: Arc::new(handshake),
            permits: Permits::new(shared.max_running_handlers),
            namespaces,
        })
    }

    pub(crate) const fn handshake(&self) -> &Arc<Handshake> {
        &self.handshake
    }

    fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket that had joined has been disconnected: the client must join another namespace in
    /// time, if it is in none now. At the end of the connection, which has let go of all, nothing
    /// is due.
    pub(crate) fn left(&self, socket: &Socket) {
        let mut state = self.lock();
        if state.join_by.is_none()
            && state.sockets.contains(socket)
            && !state.sockets.iter().any(Socket::is_connected)
        {
            let timeout = self.connect_timeout();
            state.join_by = timeout.map(|timeout| Instant::now() + timeout);
            drop(state);
            if let Some(session) = self.session.upgrade() {
                session.wake_driver();
            }
        }
    }

    fn connect_timeout(&self) -> Option<Duration> {
        let namespaces = self.namespaces.upgrade()?;
        Some(namespaces.shared.connect_timeout)
    }

    /// Forgets a socket: its goodbye is over, or it hasn't joined. The one that waits behind it is
    /// next.
    pub(crate) fn departed(&self, socket: &Socket) {
        let next = {
            let mut state = self.lock();
            state.sockets.retain(|one| one != socket);
            let mut sockets = state.sockets.iter();
            let namespace = socket.namespace().name();
            let next = sockets.find(|one| one.namespace().name() == namespace);
            next.filter(|next| next.begin()).cloned()
        };
        if let (Some(next), Some(this)) = (next, self.this.upgrade()) {
            turn::scope(|| start(this, next));
        }
    }

    /// A packet has come, from the client's socket in its namespace, if it is in that.
    fn receive(&self, session: &Arc<Session>, packet: &Packet<'_>, socket: Option<Socket>) {
        match (packet, socket) {
            (
                Packet::Connect {
                    namespace,
                    query,
                    auth,
                },
                _,
            ) => {
                let auth = match query {
                    Some(query) => Some(query_as_json(query)),
                    None => auth.map(Box::from),
                };
                self.connect(session, namespace, auth);
            }
            (Packet::ConnectError { .. }, _) => {
                self.violation(session, "a connect error, which only servers send");
            }
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Ack { id, args, .. }, Some(socket)) => {
                socket.awaited().resolve(socket.id(), *id, *args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            (_, None) => self.receive_unjoined(session, packet),
        }
    }

    /// A packet has come for a namespace that the client isn't in. It may belong to a socket that
    /// waits behind another one, which its client can't know.
    fn receive_unjoined(&self, session: &Arc<Session>, packet: &Packet<'_>) {
        let waiting = self.lock().waiting(packet.namespace());
        match (packet, waiting) {
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            // It has asked for nothing.
            (Packet::Ack { .. }, Some(_)) => {}
            _ => self.violation(session, NOT_JOINED),
        }
    }

    /// The client asks to join a namespace.
    pub(crate) fn connect(&self, session: &Arc<Session>, name: &str, auth: Option<Box<str>>) {
        if session.is_unread() {
            return self.violation(session, "connects whose answers it doesn't read");
        }
        let namespaces = self.namespaces.upgrade();
        let Some(namespace) = namespaces.and_then(|all| all.get(name)) else {
            session.engine().counters().connects_refused.add(1);
            tracing::debug!(namespace = name, "an unknown namespace was asked for");
            // A session that has ended has no use for it.
            let _ = session.send(
                &mut Fanout::from(codec::invalid_namespace(name)),
                Sending::SURE,
            );
            return;
        };
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let shared = Arc::clone(namespace.shared());
        let socket = Socket::new(namespace, Arc::clone(session), &this, auth);
        let (admission, replaced) = self.lock().admit(&socket, &shared);
        if let Some(replaced) = replaced {
            replaced.forget();
        }
        match admission {
            Admission::Begins => start(this, socket),
            Admission::Waits => {}
            Admission::Joined => self.violation(session, "a second connect to the same namespace"),
            Admission::Refused(error) => refuse(session, &socket, &error),
        }
    }

    /// The client has broken a rule: the connection is closed.
    fn violation(&self, session: &Arc<Session>, what: &str) {
        tracing::debug!(session = ?session.id(), "closing connection: the client sent {what}");
        self.lock().decoder.discard();
        self.close_sockets(DisconnectReason::ForcedServerClose);
        session.close();
    }

    fn undecodable(&self, session: &Arc<Session>, error: &DecodeError) {
        session.engine().counters().undecodable.add(1);
        tracing::debug!(session = ?session.id(), %error, "closing connection: invalid packet");
        self.close_sockets(DisconnectReason::ForcedClose);
        session.close();
    }

    /// The server disconnects the client from everything.
    pub(crate) fn disconnect_all(&self, session: &Arc<Session>) {
        let sockets = self.lock().sockets.clone();
        for socket in sockets {
            socket.close(DisconnectReason::ServerNamespaceDisconnect);
        }
        session.close();
    }

    pub(crate) fn close_sockets(&self, reason: DisconnectReason) {
        let sockets = std::mem::take(&mut self.lock().sockets);
        for socket in sockets {
            socket.close(reason);
        }
    }
}

/// Each new session of the engine gets a [`Client`].
impl Application for Namespaces {
    fn connect(&self, session: &Arc<Session>, request: &Parts) -> Arc<dyn engine::Connection> {
        let handshake = Handshake::new(request, &self.shared.kept);
        let connection = Client::new(Weak::clone(&self.this), &self.shared, handshake, session);
        if session.revision().dialect().joins_by_itself {
            // Clients of this revision are in the main namespace without asking.
            connection.connect(session, "/", None);
        }
        connection
    }
}

impl engine::Connection for Client {
    fn message(&self, session: &Arc<Session>, message: Message<'_>) {
        let mut state = self.lock();
        match message {
            Message::Text(text) => match state.decoder.text(text) {
                Ok(Some(packet)) => {
                    let socket = state.joined(packet.namespace());
                    drop(state);
                    self.receive(session, &packet, socket);
                }
                Ok(None) => {
                    let namespace = state.decoder.outstanding_namespace();
                    if namespace.is_none_or(|name| {
                        state.joined(name).is_none() && state.waiting(name).is_none()
                    }) {
                        // Nothing is kept for clients that nobody knows.
                        drop(state);
                        return self.violation(session, NOT_JOINED);
                    }
                    let patience = session.engine().config().longest_silence();
                    state.attachments_by = Some(Instant::now() + patience);
                }
                Err(error) => {
                    drop(state);
                    self.undecodable(session, &error);
                }
            },
            Message::Binary(data) => match state.decoder.binary(Bytes::from(data.into_owned())) {
                Ok(Some(assembled)) => {
                    state.attachments_by = None;
                    let packet = assembled.packet();
                    let socket = state.joined(packet.namespace());
                    drop(state);
                    self.receive(session, &packet, socket);
                }
                Ok(None) => {}
                Err(error) => {
                    drop(state);
                    self.undecodable(session, &error);
                }
            },
        }
    }

    fn closed(&self, _: &Arc<Session>, reason: CloseReason) {
        self.close_sockets(reason.into());
    }

    fn is_saturated(&self) -> bool {
        self.permits.are_exhausted()
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        [state.join_by, state.attachments_by]
            .into_iter()
            .flatten()
            .min()
    }

    fn timeout(&self, session: &Arc<Session>, now: Instant) {
        let (unjoined, incomplete) = {
            let mut state = self.lock();
            let passed =
                |deadline: &mut Option<Instant>| deadline.take_if(|by| *by <= now).is_some();
            (
                passed(&mut state.join_by),
                passed(&mut state.attachments_by),
            )
        };
        if unjoined {
            self.violation(session, "no connect to a namespace in time");
        } else if incomplete {
            self.violation(session, "attachments too late");
        }
    }
}

impl Owner for Client {
    fn permits(&self) -> &Permits {
        &self.permits
    }

    fn freed(&self) {
        if let Some(session) = self.session.upgrade() {
            session.resume();
        }
    }
}

/// Asks whether a socket may join, and lets it in. Its auth is kept meanwhile, whoever replaces it.
fn start(connection: Arc<Client>, socket: Socket) {
    let auth = socket.auth_len();
    let asked = socket.clone();
    permits::run(&asked, Box::pin(join(connection, socket)), auth);
}

/// Lets a socket into its namespace: middlewares, CONNECT, connect handlers, then its events.
async fn join(connection: Arc<Client>, socket: Socket) {
    let resumption = match socket.namespace().recovery() {
        Some(ordered) if socket.revision().dialect().recovers => {
            Some(Resumption::of(ordered, &socket).await)
        }
        _ => None,
    };
    let mut asked = match &resumption {
        Some(resumption) if resumption.skips_middlewares() => Ok(()),
        _ => ask_middlewares(&socket).await,
    };
    let session = connection.session.upgrade();
    let Some(session) = session.filter(|session| session.is_open()) else {
        // It has been disconnected, or will be in a moment.
        socket.close(DisconnectReason::TransportClose);
        return;
    };
    if asked.is_ok() {
        // Disconnected by a middleware: the client would wait for it otherwise.
        asked = admit(&session, &socket, resumption).await;
    }
    if let Err(error) = asked {
        // If it has been replaced, the client waits for another answer.
        if socket.refused() {
            socket.forget();
            refuse(&session, &socket, &error);
            connection.departed(&socket);
        }
        return;
    }
    {
        let mut state = connection.lock();
        if socket.is_connected() {
            state.join_by = None;
        }
    }
    let namespace = socket.namespace().name();
    tracing::debug!(socket = ?socket.id(), namespace, "socket connected");
    // Also if it has been disconnected meanwhile: its goodbye comes when this is over.
    dispatch::connected(&socket).await;
    dispatch::work(socket).await;
}

/// Lets a socket into its namespace: its client is told, and it enters its rooms.
async fn admit(
    session: &Arc<Session>,
    socket: &Socket,
    resumption: Option<Resumption>,
) -> Result<(), ConnectError> {
    if let Some(resumption) = resumption {
        resumption.admit(session, socket).await?;
        socket.join_as_wished();
        return Ok(());
    }
    let entered = {
        let (session, socket) = (Arc::clone(session), socket.clone());
        move || connected(&session, &socket)
    };
    if !socket.namespace().joins().let_in(socket, entered).await {
        return Err(ConnectError::new("disconnected"));
    }
    socket.join_as_wished();
    Ok(())
}

/// The socket is connected, and its client is told. Returns `false` if it has been disconnected.
fn connected(session: &Arc<Session>, socket: &Socket) -> bool {
    let is_connected = socket.connected();
    if is_connected {
        session.admit();
        // The client learns of it before anything that its rooms bring: what is sent in this batch
        // of work leaves at its end, when the socket is in its rooms.
        let knows_id = socket.revision().dialect().derives_ids;
        let sid = (!knows_id).then(|| socket.id().as_str());
        let connect = codec::connect(socket.namespace().name(), sid);
        let _ = socket.send(&mut connect.into(), Sending::SURE);
    }
    is_connected
}

/// Asks whether a socket may join its namespace.
pub(crate) async fn ask_middlewares(socket: &Socket) -> Result<(), ConnectError> {
    let lifecycle = socket.namespace().lifecycle();
    for middleware in &lifecycle.middlewares {
        let called = handler::call(middleware, &Context::connect(socket));
        called?.await?;
        if !socket.is_undecided() {
            // Its client has asked anew, or has gone.
            break;
        }
    }
    Ok(())
}

fn refuse(session: &Arc<Session>, socket: &Socket, error: &ConnectError) {
    let name = socket.namespace().name();
    session.engine().counters().connects_refused.add(1);
    tracing::debug!(namespace = name, message = error.message, "connect refused");
    let (message, data) = (&error.message, error.data.as_ref());
    match codec::connect_error::<Value>(name, session.revision(), message, data) {
        // A session that has ended has no use for it.
        Ok(packet) => drop(session.send(&mut Fanout::from(packet), Sending::SURE)),
        Err(error) => tracing::error!(%error, "a connect error can't be encoded"),
    }
}

/// The query that clients of Socket.IO 2.x put behind a namespace's name, as an auth payload.
fn query_as_json(query: &str) -> Box<str> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    // Texts in a map, written to memory: nothing that could fail.
    let _ = serializer.collect_map(form_urlencoded::parse(query.as_bytes()));
    String::from_utf8(json).unwrap_or_default().into()
}
